"""Video in and out.

probe          what a file really holds: size, rate, frames that decode, sound
source         which videos a folder has, and their frames one after the other
decord_worker  the process that decord reads in, so that its crashes end nothing else
writer         frames -> H.264 mp4, whole or not at all, with the sound of another file
ffmpeg         where the ffmpeg program is, naming a file to it, its complaints
"""

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
