"""What is to be made and what lies beside it.

jobs        which results a run makes, and their names
belongings  the files of a result by size and hash: are they what was written
sidecar     the JSON record beside a result: recipe, facts, versions, is it finished
sheets      how labelled rows of frames become a picture, whatever the rows are
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "belongings": ["describe_file", "difference", "require_places"],
        "jobs": ["Job", "left_out", "plan_jobs", "require_reference"],
        "sheets": ["comparison_frames", "contact_sheet", "evenly_spaced"],
        "sidecar": [
            "add_to_sidecar",
            "package_versions",
            "recipe",
            "sidecar_path",
            "unfinished",
            "versions",
            "write_sidecar",
        ],
    },
)
