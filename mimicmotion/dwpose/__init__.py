"""Poses: the keypoint dictionary and its file, drawing, following one person, alignment to the reference.

The names below are imported when they are first used, so that importing the package costs nothing.
"""

import importlib

_HOMES = {
    "PoseFile": "keypoints",
    "empty_pose": "keypoints",
    "load_poses": "keypoints",
    "num_people": "keypoints",
    "save_poses": "keypoints",
    "select_person": "keypoints",
    "draw_pose": "draw",
    "Alignment": "align",
    "align_pose": "align",
    "fit_alignment": "align",
    "TrackReport": "track",
    "follow_person": "track",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
