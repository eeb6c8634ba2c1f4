"""The page about the embedded world: what it is, what was measured and how its training goes on."""

import json
import textwrap
from pathlib import Path

from mimicmotion.files import write_bytes
from mimicmotion.world_training.evaluation_curves import draw_curves

WIDTH = 120
START = """# The embedded world

`configs/streaming/world.yaml` is a world model of the published classes at a small size, trained on a courtyard that
`mimicmotion/worlds` draws: four walls, five pillars, a checker floor, one fixed world. W, A, S, D walk 1.44 m in a
block of 12 frames, the mouse turns 18 degrees. The true camera is known at every frame, so what the model shows can
be judged. This page is written by

<!-- needs: minutes -->

    python scripts/train_world.py evaluate

{state}

| figure | measured | wanted |
|---|---|---|
"""
STATE = """The training is work in progress: after {steps} steps of the transformer {misses} of {count} figures miss.
A model that does not obey yet reaches some of the others for nothing: a picture that never turns is the first one
again, and twenty steps are no better than three where neither shows anything."""
# Figure, how it reads, its bound and whether it must be at least that.
WANTED = (
    ("vae_psnr", "VAE alone, dB", 27.0, True),
    ("gap", "right above another session's actions, teacher-forced, one step, dB", 4.0, True),
    ("obeyed_1-5", "blocks 1-5 whose nearest true video is that of the pressed key", 0.9, True),
    ("obeyed_6-20", "blocks 6-20 of that kind", 0.8, True),
    ("moved_right_1-5", "blocks 1-5 where the tracker locks: camera within half of its true move", 0.9, True),
    ("above_repeating_block_1", "block 1 above repeating the last frame, dB", 3.0, True),
    ("above_repeating_block_5", "block 5 above repeating the last frame, dB", 1.0, True),
    ("idle_drift", "20 blocks without a key: drift of the mean colour, of 255", 3.0, False),
    ("turned_back", "turned 90 degrees and back: nearer to the first picture", 1.0, True),
    ("mse_few_over_many_steps", "error of 3 steps over that of 20", 1.1, False),
    ("gradient_energy_block_5", "gradient energy of block 5 over the truth's", 0.6, True),
    ("block_cpu_ms", "denoise and decode of a block, ms of CPU time on one thread", 1000.0, False),
)

END = """
## Going on with the training

<!-- needs: minutes -->

    python scripts/train_world.py world --clips 2400

goes on from `runs/world/world` where that folder exists, bit by bit as if it had never stopped; frames and latents of
the sessions are made first where they are missing (about half an hour on one core for 2400). On another machine the
published half-precision weights are the start:

<!-- needs: minutes -->

    python scripts/train_world.py world --init_from assets/models/world --run_dir runs/more

Both write `assets/models/world/model.safetensors` when they end or are stopped. `vae` trains the VAE anew; the
transformer then has to be trained anew too, since it knows that VAE's latents. The decoder alone can become sharper
and leave the latents, and so the transformer, as they are:

<!-- needs: minutes -->

    python scripts/train_world.py vae --part decoder --init_from assets/models/world --run decoder

It may also become wider: with a `--world` file whose `decoder_base_dim` is a multiple of the present width the decoder
begins as the narrow one, to rounding. So it went from 16 to 32 channels: on 16 unseen walks of 33 frames the narrow one
gives 26.2 dB and 0.23 of the truth's gradient energy, the wide one after 2,500 steps at a learning rate of 2.5e-4 27.3
dB and 0.40 (at 1e-3 it broke: 21.4 dB after 160 steps).

A sheet of played keys and a line of `figures.jsonl` come every 25 minutes.

## The gate

<!-- needs: minutes -->

    python scripts/train_world.py gate --clips 200 --steps 400

trains the same stage on 32 x 48 frames of sessions that only turn. It passed with 22.77 dB for right actions, 1.65
above another session's, 2.29 above mirrored and 1.24 above none, in 228 s of CPU time, rendering and export included.
With all keys at that size, 400 steps of six sessions, on an earlier VAE, gave 0.34 dB in 590 s.

## How it is trained

- **VAE.** Wan's classes at 16 channels on every level and no further residual blocks. It starts as a carrier: seven
  channels pass the mean colours of 8 x 8 x 4 pixels through every layer as pairs +c and -c with a constant that keeps
  the norms linear, nine more pass how each colour differs across, down and in time. The start has 20.5 dB, and 24.8
  after 40 steps; with mean colours alone it was 22.2 and 23.3. At export the latents are made white, and sorted by how
  much pixels feel them, within the two 1 x 1 x 1 convolutions beside them, so the published latents_mean and
  latents_std hold. After step 6457 of the transformer the decoder learnt alone at twice its width: what the course
  above says of earlier steps was measured with the narrow one.
- **Transformer.** All blocks of a session in one pass: clean blocks are context, noisy ones are learnt from
  (`parallel.py`; equal to the cached runtime to 1e-5, a test). Half of the blocks start from noise alone. Errors of
  the channels are weighted by what pixels feel of them, to the power of 0.7 (of 1 before step 8646): three channels of
  mean colours would have four fifths of the loss, and no edge be learnt. The mouse is taken 15 times as large, and the
  factor goes into the weights at export. A head that is left behind at export tells the camera from the hidden state.
- **Drift.** Clean blocks carry noise, and from step 5000 on half of the steps have as context a session that the
  runtime makes with the model as it is. Blocks count less the further the one before them is from the true one: what
  cannot be told any more would only teach blur.
"""


def write_page(page: Path, figures: dict, run_dir: Path) -> None:
    """Writes `page` and its curves, those of `run_dir`. Raises: SetupError when it cannot be written."""
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
        START.format(state=textwrap.fill(state, WIDTH)) + "\n".join(lines),
        beside(figures),
        keys_table(figures["taken_for"]),
    ]
    parts += [f"![A walk by keys, made and true]({page.stem}_walk.jpg)"]
    parts += [f"![Each key held for five blocks from one place, made and true]({page.stem}.jpg)"]
    if curve:
        picture = page.with_name(f"{page.stem}_curves.png")
        draw_curves(picture, curve, read_lines(run_dir / "world" / "loss.jsonl"))
        parts += [course(curve), f"![The same, and the losses]({picture.name})"]
    parts += [END]
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
        f"{figures['idle_psnr']:.2f} dB are left of the first picture, after the turn and back "
        f"{figures['turned_back_psnr']:.2f}. A block takes "
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
