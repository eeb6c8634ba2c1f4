"""Builds the embedded tiny model, the untrained stand-in that everything runs on without a download.

python scripts/build_tiny_model.py [--output assets/models/tiny]
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.errors import MimicMotionError

ROOT = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="folder of the model (default: assets/models/tiny of this repository)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("mimicmotion").setLevel(logging.INFO)
    try:
        from mimicmotion import tiny

        path = tiny.ensure_tiny_model(arguments.output or ROOT / tiny.TINY_PATH)
        tiny.warn_if_untrained(path)
        print(path)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
