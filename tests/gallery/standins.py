"""Results as runs leave them, without a run: a video, its contact sheet, its record."""

import json
import os
from pathlib import Path


def animation(name: str, *, seed: int = 42, steps: int = 4, scheduler: str = "AnimateLCM_SVD", **more) -> dict:
    """The record of a turbo run, in short."""
    return {
        "format_version": 1,
        "output": f"{name}.mp4",
        "recipe_sha256": f"{seed:064x}",
        "settings": {
            "turbo": {"scheduler": scheduler, "num_inference_steps": steps},
            "test_case": {"seed": seed, "fps": 15.0},
        },
        "seed": seed,
        "steps": steps,
        "frames": 12,
        "height": 96,
        "width": 64,
        "stage_seconds": {"poses": 0.5, "sampling": 2.0},
    } | more


def put(folder: Path, name: str, video: Path, record: object) -> Path:
    """Lays a result into `folder`: the video as <name>.mp4 and its record, JSON or text; returns the record's path."""
    folder.mkdir(parents=True, exist_ok=True)
    os.link(video, folder / f"{name}.mp4")
    path = folder / f"{name}.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    return path
