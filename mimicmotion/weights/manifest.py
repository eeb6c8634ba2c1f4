"""What weight files should hold: the hashes that were noted when they were published, and those of their last use.

    weights.json    beside the files or in a folder above: path -> {"size", "sha256"}; scripts/download_weights.py
                    writes that of the published files, the training that of the embedded models

Nothing here imports torch.
"""

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.files import cached_sha256, read_record, remembered_sha256, sha256_file, sha256_json, write_json
from mimicmotion.weights.lookup import broken, is_index, weight_files

log = logging.getLogger(__name__)

MANIFEST = "weights.json"
LEVELS = 4  # models/SVD/<name>/unet/<file>
_hashing: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)  # who comes second finds it remembered
SMALL = 64 * 2**20  # bytes; hashing as much takes less than a tenth of a second


def weights_sha256(path: Path, anew: bool = False) -> str:
    """The SHA-256 of a weight file, remembered between runs; `anew` reads the file whatever is remembered. Of an index
    it is that of the names and hashes of all that it names.

    Raises: SetupError when it is not what was noted of it, or changed though its size and dates stayed.
    """
    if is_index(path):
        return sha256_json({file.name: _file_sha256(file, anew) for file in weight_files(path)})
    return _file_sha256(path, anew)


def _file_sha256(path: Path, anew: bool) -> str:
    with _hashing[path.absolute()]:
        digest = cached_sha256(path)
    if anew:
        _compare(path, sha256_file(path), digest)
    _compare(path, digest, noted_sha256(path))
    return digest


def is_known(path: Path) -> bool:
    """Whether `weights_sha256` answers at once: what it would have to read is small, or remembered."""
    files = weight_files(path)
    return all(file.stat().st_size <= SMALL or remembered_sha256(file) is not None for file in files)


def hash_ahead(paths: Iterable[Path]) -> threading.Thread:
    """Starts to hash files in the background, in order; after its end `weights_sha256` answers at once.

    The system keeps what was read: where memory has room for it, a file that is loaded next is not read again.
    """

    def work() -> None:
        for path in paths:
            # Whoever asks for the hash is told what is wrong.
            with contextlib.suppress(MimicMotionError, OSError):
                weights_sha256(path)

    # It must not keep an interrupted run alive.
    thread = threading.Thread(target=work, name="weight hashes", daemon=True)
    thread.start()
    return thread


def verify_small(path: Path) -> None:
    """Reads a file that is about to be loaded, where that takes no time, and compares it with what is known of it.

    Raises: SetupError as `weights_sha256`.
    """
    if path.stat().st_size > SMALL:
        return
    known = [digest for digest in (remembered_sha256(path), noted_sha256(path)) if digest]
    if known:
        digest = sha256_file(path)
        for expected in known:
            _compare(path, digest, expected)


def noted_sha256(path: Path) -> str | None:
    """The hash that the nearest weights.json notes for a file; None where none does."""
    path = path.absolute()
    for folder in path.parents[:LEVELS]:
        entry = _read(folder / MANIFEST).get(path.relative_to(folder).as_posix())
        if isinstance(entry, dict):
            digest = entry.get("sha256")
            return digest if isinstance(digest, str) else None
    return None


def note_weights(place: Path) -> None:
    """Notes the weight files in a folder, or one of them, in the weights.json above that knows of such files.

    Where there is none nothing is noted. Raises: SetupError when it cannot be written.
    """
    place = place.absolute()
    manifest = next((f / MANIFEST for f in place.parents[:LEVELS] if (f / MANIFEST).is_file()), None)
    files = [file for file in (place, *sorted(place.rglob("*.safetensors"))) if file.is_file()]
    if manifest is None or not files:
        return
    noted = {
        file.relative_to(manifest.parent).as_posix(): {"size": file.stat().st_size, "sha256": sha256_file(file)}
        for file in files
    }
    write_json(manifest, dict(sorted((_read(manifest) | noted).items())))


def _read(manifest: Path) -> dict:
    try:
        return read_record(manifest) or {}
    except InputError as error:
        log.warning("weights are not compared with what was noted of them: %s", error)
        return {}


def _compare(path: Path, digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        what = f"is damaged or another file: its SHA-256 is {digest[:12]}..., known is {expected[:12]}..."
        raise broken(path, f"{what} (where it was changed on purpose, correct its entry in {MANIFEST})")
