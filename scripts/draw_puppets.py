"""Draws people who do not exist, with exact poses: reference pictures and driving clips for the other scripts.

examples:
  python scripts/draw_puppets.py                      # 4 people, 8 clips of 4 s; needs minutes
  python scripts/draw_puppets.py --count 12 --kinds   # people only
  python scripts/draw_puppets.py --kinds wave dance --seconds 8 --sheet puppets.jpg   # needs minutes
  python scripts/draw_puppets.py --count 1 --kinds --words 4   # for scripts/animate_sentences.py
  python scripts/draw_puppets.py --count 0 --kinds --sentences 3   # sentences to measure joins against
  python inference_raw_batch_turbo.py --batch_folder assets/demo/puppets/driving --pose_backend file \\
      --pose_folder assets/demo/puppets/driving --sample_stride 1

Nobody here was trained or measured on. Exit codes: 0 done, 2 wrong use, 3 the folder cannot be written.
"""

import argparse
import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import guarded_console
from mimicmotion.errors import MimicMotionError
from mimicmotion.puppets import KINDS, draw_puppets

ROOT = Path(__file__).resolve().parents[1]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The settings; those that are not given have the defaults of `draw_puppets`."""
    defaults = {name: value.default for name, value in inspect.signature(draw_puppets).parameters.items()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name: str, kind: type, about: str, **more) -> None:
        if "nargs" not in more and defaults[name] is not None:
            about += f" (default: {defaults[name]})"
        parser.add_argument(f"--{name}", type=kind, default=defaults[name], help=about, **more)

    about_out = "folder for the files (default: assets/demo/puppets)"
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "demo" / "puppets", help=about_out)
    add("count", int, "how many reference pictures")
    add("kinds", str, f"motions to make a clip of: {', '.join(KINDS)} (default: all); none: no clip", nargs="*")
    add("seconds", float, "length of each clip")
    add("height", int, "pixels")
    add("width", int, "pixels")
    add("seed", int, "number of the first person")
    add("words", int, "how many word clips of one signer, from rest into a sign and back")
    add("sentences", int, "how many sentences of four signs in one movement, and the signs cut out of them")
    add("sheet", Path, "also write a contact sheet (.jpg) of people and drawn poses")
    return parser.parse_args(argv)


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    settings = vars(parse(argv))
    try:
        for path in draw_puppets(settings.pop("out"), **settings):
            print(path)
    except KeyboardInterrupt:
        return 130
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
