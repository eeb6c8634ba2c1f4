"""Makes the demo's driving clip and reference picture: a real person doing jumping jacks and turning, head to feet.

They are cut from the demo video inside the sports2d package (BSD 3-Clause), which pip downloads but does not
install.

    python scripts/get_demo_clip.py   # needs network
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, guarded_console
from mimicmotion.demo import DEMO_FOLDER
from mimicmotion.errors import MimicMotionError
from mimicmotion.places import HOME


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    folder = f"where they go (default: {DEMO_FOLDER.as_posix()} of the repository)"
    parser.add_argument("--output-dir", type=Path, default=HOME / DEMO_FOLDER, metavar="DIR", help=folder)
    arguments = parser.parse_args(argv)
    from mimicmotion.demo import get_demo_clip

    try:
        made, clip, reference = get_demo_clip(arguments.output_dir)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"wrote {clip} and {reference}" if made else f"the demo clip is there: {clip}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
