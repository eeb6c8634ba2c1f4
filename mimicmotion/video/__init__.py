"""Video in and out: what a file holds, its frames one after the other, and an mp4 that is written whole or not."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ffmpeg": ["as_fps"],
        "listing": ["VIDEO_SUFFIXES", "find_videos", "not_videos", "video_stem"],
        "probe": ["VideoInfo", "probe_video", "require_file"],
        "source": ["VideoSource", "effective_stride", "open_video", "playback_speed"],
        "stills": ["as_rgb"],
        "writer": ["VideoWriter"],
    },
)
