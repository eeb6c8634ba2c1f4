"""Poses: detectors, the keypoint dictionary and its file, following one person, fitting to the reference, drawing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "align": ["ANKLES", "Alignment", "METHODS", "align_pose", "fit_alignment"],
        "backends": ["choose_backend", "detector_fingerprint", "make_detector"],
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
        "track": ["TrackReport", "blend_poses", "follow_person"],
    },
)
