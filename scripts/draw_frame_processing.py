"""Draws the figure of doc/frame_processing.md: latents, blocks, video frames, windows and action frames.

Needs matplotlib; writes doc/frame_processing.png.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BLOCKS, SIZE, WINDOW = 4, 3, 6
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")


def spans(blocks: int, size: int) -> list[tuple[int, int]]:
    """First and last video frame of each block, counted as the VAE wrapper counts."""
    from mimicmotion.streaming import frame_count

    ends = [frame_count(size * (block + 1)) - 1 for block in range(blocks)]
    return [(0 if block == 0 else ends[block - 1] + 1, end) for block, end in enumerate(ends)]


def draw(path: Path) -> None:
    """Writes the figure to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    figure, axes = plt.subplots(figsize=(10, 4.6), dpi=110)

    def bar(left, width, y, colour, text, alpha=1.0):
        axes.add_patch(Rectangle((left, y), width, 0.62, facecolor=colour, edgecolor="white", alpha=alpha))
        axes.text(left + width / 2, y + 0.31, text, ha="center", va="center", fontsize=8)

    for block, (first, last) in enumerate(spans(BLOCKS, SIZE)):
        bar(first, last - first + 1, 4, COLOURS[block], f"block {block}: frames {first}..{last}")
        for latent in range(SIZE * block, SIZE * (block + 1)):
            frames = (0, 1) if latent == 0 else (4 * latent - 3, 4)
            bar(*frames, 3, COLOURS[block], f"L{latent}", 0.75)
    last_block = SIZE * (BLOCKS - 1)
    seen = range(last_block + SIZE - WINDOW, last_block + SIZE)
    left = 4 * seen[0] - 3
    label = f"keys that block {BLOCKS - 1} sees: latents {seen[0]}..{seen[-1]}"
    bar(left, 4 * seen[-1] + 1 - left, 2, "#dddddd", label)
    for row, latent in enumerate(range(last_block, last_block + SIZE)):
        y = 1.25 - 0.75 * row
        bar(4 * latent - 12, 12, y, "#ffe08a", f"actions of L{latent}: {4 * latent - 12}..{4 * latent - 1}")
    axes.axvline(spans(BLOCKS, SIZE)[-1][0], color="black", lw=0.8, ls=":")
    axes.set_xlim(-0.5, 46)
    axes.set_ylim(-0.5, 4.9)
    axes.set_yticks([4.31, 3.31, 2.31, 0.81], ["video frames", "latents", "window (6 latents)", "action frames"])
    axes.set_xlabel("video frame; an action frame f drives the step from f to f + 1")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Reads the command line and draws."""
    default = Path(__file__).resolve().parent.parent / "doc" / "frame_processing.png"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=default, help="picture to write (default: %(default)s)")
    path = parser.parse_args().output
    draw(path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
