"""How the published model fits on cards of several sizes, and what it takes there: arithmetic, without a GPU or torch.

    python scripts/plan_memory.py                                    # 72 frames of 576x1024 on five cards
    python scripts/plan_memory.py --num_frames 16 --cards 4 6 8      # smaller tiles on smaller cards

A run with --vram N, or on a GPU, makes the same plan for its own clips before it begins.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter
from mimicmotion.errors import UsageError
from mimicmotion.pipelines import GIB, Shape, allowed_rungs, in_gib, peak, plan

HEADER = ("card", "guidance", "how", "sampling", "decoding")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--cards", type=float, nargs="+", default=[8, 12, 16, 24, 80], metavar="GIB", help="sizes")
    parser.add_argument("--num_frames", type=int, default=72, help="frames per tile, the reference included")
    parser.add_argument("--frames", type=int, help="of the whole clip; null: one tile")
    parser.add_argument("--height", type=int, default=576, help="pixels")
    parser.add_argument("--width", type=int, default=1024, help="pixels")
    parser.add_argument("--decode_chunk_size", type=int, default=8, help="frames per call of the VAE decoder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    frames = arguments.frames or arguments.num_frames
    turbo = Shape(
        min(arguments.num_frames, frames), frames, arguments.height, arguments.width, False, arguments.decode_chunk_size
    )
    rows = [row(gib, shape) for shape in (turbo, replace(turbo, guided=True)) for gib in arguments.cards]
    for cells in (HEADER, ("---",) * len(HEADER), *rows):
        print(f"| {' | '.join(cells)} |")
    return 0


def row(gib: float, shape: Shape) -> tuple[str, ...]:
    """One line of the table: what the plan chooses for a card, and bytes while sampling and while decoding."""
    card, guidance = f"{gib:g} GiB", "2" if shape.guided else "1 (turbo)"
    try:
        rung = plan([shape], int(gib * GIB), allowed_rungs("auto", "none", False, False, shape.guided))
    except UsageError as error:
        return card, guidance, str(error), "-", "-"
    taken = peak(shape, rung)
    return card, guidance, str(rung), in_gib(taken.sampling), in_gib(taken.decoding)


if __name__ == "__main__":
    sys.exit(main())
