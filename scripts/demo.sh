#!/usr/bin/env bash
# Sets up the project and runs the main job on the embedded model: a real person's motion, performed by a drawn person,
# in a few LCM steps, as an mp4. Arguments go to the script, for example: scripts/demo.sh --comparison
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
PUPPETS=assets/demo/puppets
REFERENCE=$PUPPETS/references/person-04.png
"$PYTHON" scripts/draw_puppets.py --seed 4 --count 1 --kinds
if "$PYTHON" scripts/get_demo_clip.py; then
    RESULT=$ROOT/outputs/driving/jumping_jacks
    "$PYTHON" inference_raw_batch_turbo.py --ref_image_path "$REFERENCE" "$@"
else
    echo "The real person's clip cannot be had: a drawn person drives instead, with exact poses" >&2
    RESULT=$ROOT/outputs/driving/jump
    "$PYTHON" scripts/draw_puppets.py --count 0 --kinds jump --seconds 3.2
    "$PYTHON" inference_raw_batch_turbo.py --ref_image_path "$REFERENCE" --batch_folder "$PUPPETS/driving" \
        --videos jump.mp4 --pose_backend file --pose_folder "$PUPPETS/driving" --sample_stride 1 "$@"
fi
echo
echo "Result:        $RESULT.mp4"
echo "Contact sheet: $RESULT.jpg"
echo "How it was made: $RESULT.json"
