"""Procedural people with exact ground truth: pictures, whole-body keypoints and a map of body parts.

person     who: build, clothes, surroundings, camera, from a seed
motion     angles over time, by kind of motion
skeleton   angles -> points in space
render     points -> pixels and the map of parts
keypoints  what an ideal detector says, with confidences
clips      all of these together: a clip or a still from a seed; ranges of seeds
words      word clips of one signer, from rest to rest, and whole sentences in one movement
export     files for the scripts: pictures, clips, poses, sheet
pose_reader  a network that finds joints in pictures of puppets, to measure poses with
detector   that network as a pose detector
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clips": ["RENDERER_VERSION", "TRAINING_SEEDS", "VALIDATION_SEEDS", "make_clip"],
        "motion": ["KINDS"],
        "export": ["draw_puppets"],
        "pose_reader": [
            "STRIDE",
            "PoseReader",
            "ReaderConfig",
            "load_reader",
            "places",
            "pose_error",
            "read_joints",
            "save_reader",
            "true_joints",
        ],
        "detector": ["PuppetDetector", "READER_PATH"],
        "words": ["make_sentence", "make_word"],
    },
)
