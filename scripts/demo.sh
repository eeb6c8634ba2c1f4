#!/usr/bin/env bash
# Sets up the project and runs the main job on the embedded model: a real person's motion, a few LCM steps, an mp4.
# Arguments go to the script, for example: scripts/demo.sh --comparison
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$PYTHON" scripts/get_demo_clip.py
"$PYTHON" inference_raw_batch_turbo.py "$@"
echo
echo "Result:        $ROOT/outputs/driving/jumping_jacks.mp4"
echo "Contact sheet: $ROOT/outputs/driving/jumping_jacks.jpg"
echo "How it was made: $ROOT/outputs/driving/jumping_jacks.json"
