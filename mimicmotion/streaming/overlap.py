"""Block after block of actions that are known in advance: one is decoded while the next one is denoised.

Both need only the clean latents of the first, so the frames are those of one after the other, bit for bit. Decoding
runs in a thread, on a GPU in a stream of its own.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from mimicmotion.cli import interrupts_deferred
from mimicmotion.streaming.actions import Actions
from mimicmotion.streaming.generator import DenoisedBlock, StreamingGenerator, StreamState


def overlap_pays(device: torch.device) -> bool:
    """Whether two things at once are faster than one after the other: on a GPU, and on a CPU where torch's threads
    leave as many cores free. On one that is full they wait for each other.
    """
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 2 * torch.get_num_threads() <= cores
    return device.type == "cuda"


def play_blocks(
    generator: StreamingGenerator, state: StreamState, actions: Iterable[Actions], overlap: bool = True
) -> Iterator[tuple[Actions, np.ndarray, StreamState]]:
    """Yields each of `actions` with the frames it gives and the session after them, for `state.advance`.

    With `overlap` an action is taken, and its block denoised, before the frames of the block before it are given, so
    `actions` must answer at once. What ends the work early, an interrupt too, is raised after the block that was
    denoised already: the session never falls further behind its cache than a block that can be made again.

    Raises: as `StreamingGenerator.step`.
    """
    if not overlap:
        for action in actions:
            frames, state = generator.next_block(state, action)
            yield action, frames, state
        return
    on_gpu = generator.model.device.type == "cuda"
    stream = torch.cuda.Stream(generator.model.device) if on_gpu else None
    actions, ahead, decoding, ended = iter(actions), state, None, None
    with ThreadPoolExecutor(1, "decoder") as thread:
        while True:
            block = given = None
            try:
                action = next(actions, None)
                if action is not None:
                    block = generator.denoise_next(ahead, action)
            except BaseException as error:
                ended = error
            if decoding is not None:
                (frames, state), interrupt = _wait(decoding[1])
                ended = ended or interrupt
                given, decoding = (decoding[0], frames, state), None
            if block is not None and ended is None:
                ready = torch.cuda.current_stream(generator.model.device).record_event() if on_gpu else None
                decoding = action, thread.submit(_decode, generator, state, block, stream, ready)
                ahead = replace(state, start=block.end, keyboard=block.keyboard, mouse=block.mouse)
            if given is not None:
                yield given
            if ended is not None:
                raise ended
            if decoding is None:
                return


def _decode(
    generator: StreamingGenerator, state: StreamState, block: DenoisedBlock, stream, ready
) -> tuple[np.ndarray, StreamState]:
    """`decode_next`, on a GPU in `stream` once its event `ready` has come."""
    with torch.cuda.stream(stream):  # None: nothing
        if stream is not None:
            stream.wait_event(ready)
            block.latents.record_stream(stream)
        return generator.decode_next(state, block)


def _wait(decoding: Future) -> tuple[tuple[np.ndarray, StreamState], KeyboardInterrupt | None]:
    """The result, and the interrupt that came while it was waited for; a second one is raised."""
    try:
        return decoding.result(), None
    except KeyboardInterrupt as interrupt:
        with interrupts_deferred():
            return decoding.result(), interrupt
