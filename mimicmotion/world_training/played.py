"""Sessions as the transformer plays them from their first picture on, kept on the disk, 50 to a file.

played-000000.safetensors   latents (50, 16, L, h, w) of the seeds 0 to 49; the last block is the true one
played.json                 digests of the world and of the networks that made them
"""

from pathlib import Path

import torch

from mimicmotion.files import require_writable, write_tensors
from mimicmotion.progress import track
from mimicmotion.world_training.frames import CHUNK, check_folder
from mimicmotion.world_training.latents import read_chunk
from mimicmotion.world_training.world_stage import WorldStage

AT_ONCE = 10  # sessions, which share the reading of the weights


def open_played(folder: Path, stage: WorldStage, facts: dict) -> torch.Tensor:
    """The sessions of the stage's pool as its model plays them, half precision; what is missing is computed.

    facts: which world and weights they are of.

    Raises: InputError when the folder was made by other ones, or holds a damaged file.
    """
    check_folder(require_writable(folder), "played.json", facts)
    chunks = []
    starts = range(0, len(stage.pool), CHUNK)
    for start in track(starts, "playing", len(starts), "file"):
        path = folder / f"played-{start:06d}.safetensors"
        rows = torch.arange(start, min(start + CHUNK, len(stage.pool)))
        if not path.is_file():
            write_tensors(path, {"latents": torch.cat([_play(stage, some) for some in rows.split(AT_ONCE)])})
        chunks.append(read_chunk(path, ("latents",), len(rows))["latents"])
    return torch.cat(chunks)


def _play(stage: WorldStage, rows: torch.Tensor) -> torch.Tensor:
    draws = torch.Generator().manual_seed(int(rows[0]))
    return stage.own_rollout(rows, stage.pool.latents[rows].float(), 0, draws).half()
