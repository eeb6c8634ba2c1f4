"""Where the weights of ST-LPIPS lie; no network is opened here."""

import importlib.util
from pathlib import Path

from mimicmotion.errors import SetupError

PACKAGE, PACKAGE_PIN = "stlpips_pytorch", "stlpips-pytorch==0.0.2"
ALEX_FILE = Path("weights") / "vST0.0" / "alex_shift_tolerant.pth"


def find_st_lpips() -> Path:
    """The weight file of ST-LPIPS in the installed package, whose code is not run. Raises: SetupError."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in spec.submodule_search_locations if spec else ():
        if (Path(folder) / ALEX_FILE).is_file():
            return Path(folder) / ALEX_FILE
    raise SetupError(f"the weights of ST-LPIPS are not installed: pip install --no-deps {PACKAGE_PIN}")
