"""The page about the embedded world: what it is, what was measured and how its training goes on."""

import json
import textwrap
from pathlib import Path

from mimicmotion.files import write_bytes
from mimicmotion.world_training.evaluation_curves import draw_curves

WIDTH = 120
INTRODUCTIONS = {
    "tiles": """# The embedded world

`configs/streaming/world.yaml` is a world model of the published classes at a small size, trained on a courtyard that
`mimicmotion/worlds` draws: four walls, five pillars, a checker floor, one fixed world. It is walked as old dungeon
games are: a block of 12 frames is one step. W, A, S, D lead 2 m to the next of 16 tiles, the mouse turns by 90 degrees;
what is held at a block's first frame counts, and turning goes before walking. So the whole world is 64 views and 384
ways between them, and the training has seen each of them; what no stage has seen are the sessions below, their
order of keys, and the model's own pictures that it goes on from. The true camera is known at every frame, so what the
model shows can be judged. [Free walking](world_free.md) is much more to learn and is work in progress. How both were
trained, and how to go on, says [world_training.md](world_training.md). This page is written by

<!-- needs: minutes -->

    python scripts/train_world.py evaluate
""",
    "free": """# Free walking in the courtyard: work in progress

`configs/streaming/world_free.yaml` is a world model as [the embedded one](world.md), in the same courtyard, but it may
be walked to any place: W, A, S, D lead 1.44 m in a block of 12 frames, the mouse turns by 18 degrees. How it was
trained, why it is not finished and how to go on says [world_training.md](world_training.md). A model that does not obey
yet reaches some of the figures for nothing: a picture that never turns is the first one again, and twenty steps are no
better than three where neither shows anything. This page is written by

<!-- needs: minutes -->

    python scripts/train_world.py evaluate --walk free
""",
}  # fmt: skip
TABLE = """
{state}

| figure | measured | wanted |
|---|---|---|
"""
STATE = "After {steps} steps of the transformer {misses} of {count} figures miss."
# Figure, how it reads, its bound and whether it must be at least that.
WANTED = (
    ("vae_psnr", "VAE alone, dB", 27.0, True),
    ("gap", "right above another session's actions, teacher-forced, one step, dB", 4.0, True),
    ("obeyed_1-5", "blocks 1-5 whose nearest true video is that of the pressed key", 0.9, True),
    ("obeyed_6-20", "blocks 6-20 of that kind", 0.8, True),
    ("moved_right_1-5", "blocks 1-5 where the tracker locks: camera within half of its true move", 0.9, True),
    ("above_repeating_block_1", "block 1 above repeating the last frame, dB", 3.0, True),
    ("above_repeating_block_5", "block 5 above repeating the last frame, dB", 1.0, True),
    ("idle_drift", "20 blocks without a key: drift of the mean colour at worst, of 255", 3.0, False),
    ("turned_back", "turned 90 degrees and back: nearer to the first picture", 1.0, True),
    ("mse_few_over_many_steps", "error of 3 steps over that of 20", 1.1, False),
    ("gradient_energy_block_5", "gradient energy of block 5 over the truth's", 0.6, True),
    ("block_cpu_ms", "denoise and decode of a block, ms of CPU time on one thread", 1000.0, False),
)


def write_page(page: Path, figures: dict, run_dir: Path, walk: str) -> None:
    """Writes `page` about a walk and its curves, those of `run_dir`. Raises: SetupError when it cannot be written."""
    figures = figures | {
        "gap": figures["forced_right"] - figures["forced_other"],
        "block_cpu_ms": figures["denoise_cpu_ms"] + figures["decode_cpu_ms"],
    }
    lines = [table_row(figures, *wanted) for wanted in WANTED]
    misses = sum("missed" in line for line in lines)
    curve = read_lines(run_dir / "world" / "figures.jsonl")
    state = STATE.format(steps=figures["step"] or "an unknown number of", misses=misses, count=len(lines))
    if not misses:
        state = "All figures are reached."
    parts = [
        INTRODUCTIONS[walk],
        TABLE.format(state=state) + "\n".join(lines),
        beside(figures),
        keys_table(figures["taken_for"]),
    ]
    parts += [f"![A walk by keys, made and true]({page.stem}_walk.jpg)"]
    parts += [f"![Each key held for five blocks from one place, made and true]({page.stem}.jpg)"]
    if curve:
        picture = page.with_name(f"{page.stem}_curves.png")
        draw_curves(picture, curve, read_lines(run_dir / "world" / "loss.jsonl"))
        parts += [course(curve), f"![The same, and the losses]({picture.name})"]
    write_bytes(page, ("\n\n".join(part.strip("\n") for part in parts) + "\n").encode())


def table_row(figures: dict, name: str, text: str, bound: float, at_least: bool) -> str:
    """A line of the table; a figure that could not be taken, or is beyond its bound, is missed."""
    value = figures[name]
    reached = value is not None and (value >= bound if at_least else value <= bound)
    shown = "none" if value is None else f"{value:.2f}"
    return f"| {text} | {shown}{'' if reached else ', missed'} | {'at least' if at_least else 'at most'} {bound:g} |"


def beside(figures: dict) -> str:
    """Sentences with what belongs to the table's figures."""
    text = (
        f"Taken from {figures['sessions']} sessions of 6 blocks and {figures['long_sessions']} of 21 that no stage "
        f"trained on. A still picture is taken for the pressed key in {figures['obeyed_still_1-5']:.2f} of blocks 1-5 "
        f"and {figures['obeyed_still_6-20']:.2f} of blocks 6-20. The tracker locks in {figures['locked_1-5']:.2f} of "
        f"blocks 1-5. Teacher-forced, in one step: right actions {figures['forced_right']:.2f} dB, another session's "
        f"{figures['forced_other']:.2f}, mirrored ones {figures['forced_mirrored']:.2f}, none "
        f"{figures['forced_none']:.2f}. Block 1 has {figures['psnr_block_1']:.2f} dB, block 5 "
        f"{figures['psnr_block_5']:.2f}. Frames that are only encoded and decoded keep "
        f"{figures['vae_gradient_energy']:.2f} of the truth's gradient energy. After 20 idle blocks "
        f"{figures['idle_psnr']:.2f} dB are left of the first picture, and its mean colour has drifted by "
        f"{figures['idle_drift_mean']:.2f} in the mean of {figures['long_sessions']} places; after the turn and back "
        f"{figures['turned_back_psnr']:.2f} dB are left. A block takes "
        f"{figures['denoise_cpu_ms']:.0f} ms to denoise and {figures['decode_cpu_ms']:.0f} ms to decode."
    )
    return textwrap.fill(text, WIDTH)


def keys_table(taken_for: dict[str, dict[str, int]]) -> str:
    """Blocks 1-5: rows are keys held, columns what they were taken for. Q is no key, J and L turn left and right."""
    names = list(taken_for)
    lines = ["Blocks 1-5, keys held (rows) and what they were taken for (columns); Q is no key, J and L turn:", ""]
    lines += ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {key} | " + " | ".join(str(row[name]) for name in names) + " |" for key, row in taken_for.items()]
    return "\n".join(lines)


def course(curve: list[dict]) -> str:
    """The training's course on 24 unseen sessions, at most ten lines of it."""
    chosen = curve[:: max(1, -(-len(curve) // 10))]
    chosen += [curve[-1]] if chosen[-1] is not curve[-1] else []
    lines = ["The course of the training, on 24 other unseen sessions, teacher-forced, one step from noise:", ""]
    lines += ["| step | right, dB | above another session's | above mirrored | above none |", "|---|---|---|---|---|"]
    for entry in chosen:
        gaps = " | ".join(f"{entry['right'] - entry[name]:.2f}" for name in ("other", "mirrored", "none"))
        lines.append(f"| {entry['step']} | {entry['right']:.2f} | {gaps} |")
    return "\n".join(lines)


def read_lines(path: Path) -> list[dict]:
    """The JSON lines of a file; none where it is missing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
