#!/usr/bin/env bash
# Sets up the project and runs the main job on the embedded model: a real person's motion, performed by a drawn person,
# in a few LCM steps, as an mp4. Arguments go to the command, for example: scripts/demo.sh --comparison
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$PYTHON" -m mimicmotion demo "$@"
