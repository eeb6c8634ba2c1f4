"""Poses, from finding them to drawing them.

backends        which detector by name; a new one is chosen here and has a file of its own
detector        DWPose: the two networks below, in OpenPose's order of joints
onnxdet         its first network: people in a frame (YOLOX)
onnxpose        its second network: 133 points of each (RTMPose)
onnx_session    ONNX files checked and opened, for both
mediapipe_pose  the embedded detector
openpose        the detector of controlnet_aux
sides           undoes MediaPipe's mirrored frames: left and right through time
keypoints       the pose dictionary and its .npz file
track           one person among several, gaps bridged
stature         how tall a person is, from trunk or shoulders
lost_parts      hands and faces that come and go, carried over
align           the clip's skeleton fitted to the reference's; how much of it is outside
draw            what PoseNet sees: colours, limbs, confidence as brightness
canvas          how wide the canvas is that draw draws on
example_poses   a stick person of known size, for measuring align; draws nothing
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "align": ["ANKLES", "Alignment", "METHODS", "align_pose", "fit_alignment", "share_outside"],
        "backends": ["choose_backend", "detector_device", "detector_fingerprint", "make_detector"],
        "canvas": ["CANVAS_SIDE", "SMALL_CANVAS_SIDE"],
        "draw": ["draw_pose", "draw_pose_plain"],
        "example_poses": ["ANKLE_Y", "disturb", "project", "stick_figure"],
        "keypoints": [
            "CONFIDENT",
            "Pose",
            "PoseFile",
            "arrays_from_pose",
            "empty_pose",
            "load_poses",
            "make_bodies",
            "num_people",
            "pose_from_arrays",
            "save_poses",
            "select_person",
            "stack_poses",
            "unstack_poses",
        ],
        "lost_parts": ["restore_parts"],
        "sides": ["mirror"],
        "stature": ["body_height"],
        "track": ["TrackReport", "blend_poses", "follow_person"],
    },
)
