"""One result and many results: a reference picture performs driving videos.

animator puts the parts of one result together: models, inputs -> clip -> sampler -> writer, record; batch runs many,
resumed, with a table at the end.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "animator": ["Animator", "Outcome"],
        "batch": ["animate_folder", "run_all", "summary_table", "write_summary"],
        "clip": ["Clip"],
        "inputs": ["InputFeatures"],
        "models": ["Models"],
        "record": ["write_record"],
        "recording": ["check_recording"],
        "writer": ["decode_frames"],
    },
)
