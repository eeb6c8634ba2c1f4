"""What is to be made and what lies beside it.

jobs     which results a run makes, and their names
sidecar  the JSON record beside a result: recipe, facts, versions, is it finished
sheets   how labelled rows of frames become a picture, whatever the rows are
lettering  a line of text on a picture, in any script
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "jobs": ["Job", "left_out", "plan_jobs", "require_reference"],
        "sheets": ["Row", "comparison_frames", "contact_sheet", "evenly_spaced"],
        "sidecar": ["is_finished", "package_versions", "recipe", "versions", "write_sidecar"],
    },
)
