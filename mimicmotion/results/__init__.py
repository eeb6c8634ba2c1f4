"""What is to be made and what lies beside it.

jobs     which results a run makes, and their names
sidecar  the JSON record beside a result: recipe, facts, versions, is it finished
metrics  how near a clip is to another: pixels, gradients, motion
sheets   how labelled rows of frames become a picture, whatever the rows are
provenance  the command, code and machine that a result comes from
run_log  runs.jsonl: a line per run and per result, appended by any number of processes
history  the run logs below a folder, read and compared
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "history": ["Run", "compare", "one_run", "read_history"],
        "metrics": [
            "decibels",
            "gradient_energy",
            "mean_squared_error",
            "person_box",
            "psnr",
            "sharpness",
            "ssim",
            "temporal_difference_error",
        ],
        "jobs": ["Job", "left_out", "plan_jobs", "require_reference"],
        "provenance": ["machine", "now", "provenance"],
        "run_log": ["LOG_NAME", "RunLog", "recorded"],
        "sheets": ["caption", "comparison_frames", "contact_sheet", "evenly_spaced"],
        "sidecar": ["is_finished", "package_versions", "recipe", "versions", "write_sidecar"],
    },
)
