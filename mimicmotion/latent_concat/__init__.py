"""Latents of clips kept, joined and decoded as one video.

run           the two modes, encode and decode; what fits together
entries       the file of one clip's latents, checked
join          arithmetic at a join: cut, linear or slerp frames between clips, overlap
bridge        frames between clips that the model samples
joined_video  joined latents -> frames -> mp4
visible_join  how much a join shows, by what a pose detector reads in its frames
report        all ways to join in one picture
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "run": ["run_latent_concat"],
        "bridge": ["PosedFrames", "bridge_reach", "sample_bridge"],
        "join": ["Part", "join_clips", "transition"],
        "joined_video": ["joined_frames"],
        "visible_join": [
            "BESIDE",
            "Detector",
            "compare_poses",
            "join_detector",
            "join_detector_fingerprint",
            "judge_join",
            "shown_at",
        ],
    },
)
