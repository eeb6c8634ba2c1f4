"""One result and many results: a reference picture performs driving videos.

animator: one result, from a picture and a video to an mp4; batch: many of them, resumed, with a table at the end.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "animator": ["Animator", "Clip", "Outcome", "decode_frames"],
        "batch": ["animate_folder", "run_all", "summary_table", "write_summary"],
    },
)
