"""Video in and out.

listing        which videos a folder has, and what in it is none
probe          what a file really holds: size, rate, times, frames that decode, damage, sound
timing         times of frames -> rate; even or uneven; the frame that is nearest to an instant
orientation    a display matrix as filters that turn the picture upright
source         a video's frames one after the other, by PyAV or decord
frame_folder   a folder of numbered pictures as a video
picture_file   a picture file opened with care; what it shows, upright, in a size one can work with
stills         a picture of any depth, with or without alpha, as 8-bit RGB
process        the reading processes: started, watched, ended; what they send
worker         what the reading processes share: questions, answers, limits
pyav_worker    the process that PyAV reads in: facts, sound, upright frames
webp_worker    the process that Pillow reads animated WebP in
decord_worker  the process that decord reads in
writer         frames -> H.264 mp4, whole or not at all, with the sound of another file
ffmpeg         where the ffmpeg program is, naming a file to it, its complaints
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ffmpeg": ["as_fps"],
        "listing": ["VIDEO_SUFFIXES", "find_videos", "not_videos", "video_paths", "video_stem"],
        "picture_file": ["read_picture"],
        "process": ["end_reading_of"],
        "probe": ["VideoInfo", "probe_video", "require_file"],
        "source": ["VideoSource", "effective_stride", "open_video", "playback_speed"],
        "stills": ["as_rgb"],
        "writer": ["VideoWriter"],
    },
)
