"""A recording of what a visitor plays: both videos, a record beside them, the session's log.

Its methods take the time of an encoder and a disk, so they are called in the coder's thread alone.
"""

import dataclasses
import secrets
import time
from pathlib import Path

from mimicmotion.config import Config
from mimicmotion.device import describe_device
from mimicmotion.files import require_writable, sealed, sha256_file, write_bytes, write_json
from mimicmotion.gallery import refresh_page
from mimicmotion.results import provenance, require_places, versions
from mimicmotion.serving.session import Block
from mimicmotion.streaming import Recording, StreamingGenerator


class Tape:
    """Begins at once. Raises: SetupError where nothing can be written."""

    def __init__(self, config: Config, generator: StreamingGenerator) -> None:
        self._config, self._generator = config, generator
        folder = require_writable(config.output.output_dir)
        stem = "-".join((Path(config.streaming.config_path).stem, time.strftime("%Y%m%d-%H%M%S"), secrets.token_hex(2)))
        if config.output.variant:
            stem = f"{stem}.{config.output.variant}"
        self._recording = Recording(folder, stem, generator.mode, config.streaming.fps, config.output.crf)
        self._log_path = folder / f"{stem}.session.jsonl"
        self._record_path = folder / f"{stem}.json"
        videos = self._recording.clean_path, self._recording.icon_path
        require_places(*videos, self._record_path, self._log_path)
        self._recording.__enter__()
        self._first_block: int | None = None

    def add(self, block: Block) -> None:
        """Appends a block. Raises: SetupError for a full disk."""
        if self._first_block is None:
            self._first_block = block.number
        self._recording.add(block.frames, block.actions)

    def finish(self, seed: int, log_text: str) -> tuple[Path, Path] | None:
        """Completes all files; the paths of the videos, clean and with keys. None where no block was recorded.

        Raises: SetupError for a full disk; no video is left then.
        """
        self._recording.__exit__(None, None, None)
        if self._first_block is None:
            return None
        videos = (self._recording.clean_path, self._recording.icon_path)
        write_bytes(self._log_path, log_text.encode())
        record = {
            "videos": {path.name: sha256_file(path) for path in videos},
            "frames": self._recording.frames,
            "begun_from": {
                "path": str(self._log_path),
                "sha256": sha256_file(self._log_path),
                "first_latent": self._first_block * self._generator.frames_per_block,
            },
            "seed": seed,
            "mode": self._generator.mode.name,
            "actions": self._recording.actions_taken,
            "generator": self._generator.fingerprint(),
            "settings": dataclasses.asdict(self._config.streaming),
            "reference": dataclasses.asdict(self._config.reference),
            "device": describe_device(self._generator.model.device),
            "versions": versions(),
            "made": provenance(self._config),
        }
        write_json(self._record_path, sealed(record))
        if self._config.output.page:
            refresh_page(self._config.output.output_dir)
        return videos

    def give_up(self, error: BaseException) -> None:
        """Leaves no video, after a fault."""
        self._recording.__exit__(type(error), error, error.__traceback__)
