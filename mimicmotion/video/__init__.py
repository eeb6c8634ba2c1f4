"""Video in and out: what a file holds, its frames one after the other, and an mp4 that is written whole or not."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ffmpeg": ["as_fps"],
        "probe": ["VideoInfo", "probe_video", "require_file"],
        "source": [
            "VIDEO_SUFFIXES",
            "VideoSource",
            "effective_stride",
            "find_videos",
            "open_video",
            "playback_speed",
            "video_stem",
        ],
        "writer": ["VideoWriter"],
    },
)
