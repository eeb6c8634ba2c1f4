"""What is to be made and what lies beside it.

jobs        which results a run makes, and their names
shards      the part of a run's results that one of several machines makes
belongings  the files of a result by size and hash: are they what was written
sidecar     the JSON record beside a result: recipe, facts, versions, is it finished
manifest    manifest.jsonl: seals of finished results, which need not be read again while nothing was touched
sealing     finished results by their seals, whatever kind they are: looked up, noted when made
replacing   finished results that a run would replace, and in what they differ
metrics     how near a clip is to another: pixels, gradients, motion
sheets      how labelled rows of frames become a picture, whatever the rows are
lettering   a line of text on a picture, in any script
circumstances  the command, code and machine that a result comes from
run_log     runs.jsonl: a line per run and per result, appended by any number of processes
history     the run logs below a folder, read and compared
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "belongings": ["describe_file", "difference", "require_places"],
        "circumstances": ["machine", "now", "provenance"],
        "history": ["Run", "Summary", "compare", "one_run", "read_history", "sum_up"],
        "metrics": [
            "crop",
            "decibels",
            "gradient_energy",
            "mean_squared_error",
            "person_box",
            "psnr",
            "sharpness",
            "ssim",
            "temporal_difference_error",
        ],
        "jobs": [
            "Job",
            "Plan",
            "distinct_names",
            "left_out",
            "plan_jobs",
            "require_pose_folder",
            "require_reference",
            "tell_other_names",
        ],
        "manifest": ["Manifest", "Seal", "seal_result"],
        "replacing": ["differences", "made_differently", "require_kept"],
        "run_log": ["LOG_NAME", "RunLog", "recorded"],
        "sealing": ["Sealing"],
        "shards": ["Shard", "choose_shard"],
        "sheets": ["Row", "caption", "comparison_frames", "contact_sheet", "evenly_spaced"],
        "sidecar": [
            "add_to_sidecar",
            "package_versions",
            "recipe",
            "recipe_tag",
            "recorded_files",
            "sidecar_path",
            "unfinished",
            "versions",
            "write_sidecar",
        ],
    },
)
