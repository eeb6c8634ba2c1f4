"""Times a session block by block and reads its memory. The numbers are those of `StreamingGenerator.step` itself."""

import time
from collections.abc import Iterable

import numpy as np
from PIL import Image

from mimicmotion.device import describe_device, peak_memory, synchronize
from mimicmotion.streaming.actions import Actions
from mimicmotion.streaming.generator import StreamingGenerator, StreamState
from mimicmotion.streaming.overlap import play_blocks
from mimicmotion.timing import StageClock

WARM_UP_BLOCKS = 10
STAGES = ("denoise", "decode", "transport")
MEGABYTE = 2**20


def measure(
    generator: StreamingGenerator, image: Image.Image, actions: Iterable[Actions], digest=None
) -> dict:
    """Runs one session with a block for each of `actions` and returns its figures; more than 10 are needed.

    `digest`, a hash of hashlib, takes in all frames.

    Seconds to the first frame include encoding the image. Milliseconds per block are the 50th and 95th percentile
    of the blocks after the tenth, by stage and in all. Memory is the peak so far, after block 10 and at the end, in
    MiB: of tensors on a GPU, of the process on a CPU; session_mib is what the session holds by itself.
    """
    device = generator.model.device
    begin = time.perf_counter()
    state = generator.start(image, 0)
    rows, memory = [], {}
    for number, action in enumerate(actions, 1):
        clock = StageClock(device)
        frames = generator.step(state, action, clock)
        if digest:
            digest.update(frames)
        if number == 1:
            first = time.perf_counter() - begin
        if number > WARM_UP_BLOCKS:
            rows.append([clock.seconds[stage] for stage in STAGES])
        if number == WARM_UP_BLOCKS:
            memory["block_10"] = memory_of(state, device)
    synchronize(device)
    memory["last_block"] = memory_of(state, device)
    milliseconds = np.array(rows) * 1000
    return {
        "device": describe_device(device),
        "size": f"{generator.height} x {generator.width}",
        "blocks": number,
        "frames_per_block": len(frames),
        "seconds_to_first_frame": round(first, 3),
        "ms_per_block": percentiles(milliseconds),
        "frames_per_second": rates(milliseconds, len(frames)),
        "memory": memory,
    }


def measure_overlapped(
    generator: StreamingGenerator, image: Image.Image, actions: Iterable[Actions], digest
) -> dict:
    """As `measure`, each block decoded while the next is denoised: milliseconds from block to block, and frames per
    second. `digest` takes in all frames.
    """
    state, times = generator.start(image, 0), []
    for _, frames, _ in play_blocks(generator, state, actions):
        digest.update(frames)
        times.append(time.perf_counter())
    milliseconds = 1000 * np.diff(times)[WARM_UP_BLOCKS - 1 :]
    return {
        "ms_per_block": {f"p{q}": round(float(np.percentile(milliseconds, q)), 2) for q in (50, 95)},
        "frames_per_second": round(float(1000 * len(frames) * len(milliseconds) / milliseconds.sum()), 2),
    }


def memory_of(state: StreamState, device) -> dict[str, float]:
    """Peak memory so far and what the session's tensors take, in MiB."""
    return {"peak_mib": round(peak_memory(device) / MEGABYTE, 1), "session_mib": round(state.nbytes / MEGABYTE, 3)}


def percentiles(milliseconds: np.ndarray) -> dict[str, dict[str, float]]:
    """The 50th and 95th percentile over blocks (rows) of each stage (columns) and of their sum."""
    columns = dict(zip(STAGES, milliseconds.T, strict=True)) | {"total": milliseconds.sum(1)}
    return {
        name: {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)} for name, values in columns.items()
    }


def rates(milliseconds: np.ndarray, frames: int) -> dict[str, float]:
    """Frames per second over all measured blocks, of everything and of denoising alone."""
    total, denoise = milliseconds.sum(), milliseconds[:, 0].sum()
    made = 1000 * frames * len(milliseconds)
    return {"with_decode": round(float(made / total), 2), "denoise_only": round(float(made / denoise), 2)}


def as_table(figures: dict) -> str:
    """The figures as a few lines of text."""
    lines = [
        f"{figures['config']} ({figures['size']}) on {figures['device']}, {figures['dtype']}, "
        f"{figures['blocks']} blocks of {figures['frames_per_block']} frames",
        f"first frame after {figures['seconds_to_first_frame']} s",
        "ms per block      p50        p95",
    ]
    lines += [f"{name:12} {row['p50']:10.2f} {row['p95']:10.2f}" for name, row in figures["ms_per_block"].items()]
    rate = figures["frames_per_second"]
    lines.append(f"frames per second {rate['with_decode']}, without decoding {rate['denoise_only']}")
    for when, row in figures["memory"].items():
        lines.append(f"memory at {when}: peak {row['peak_mib']} MiB, the session {row['session_mib']} MiB")
    if beside := figures.get("overlapped"):
        times, equal = beside["ms_per_block"], "equal" if beside["frames_equal"] else "OTHER"
        lines.append(f"overlapped   {times['p50']:10.2f} {times['p95']:10.2f}")
        lines.append(f"frames per second {beside['frames_per_second']} with decoding beside denoising, {equal} frames")
    return "\n".join(lines)
