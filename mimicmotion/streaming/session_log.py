"""A session in a file of lines: all that is needed to make its frames again, to the bit on an equal generator.

    {"session": 1, "mode", "seed", "generator": fingerprint, "size": [h, w], "frames_per_block", "fps", "picture"}
    {"block": n, "first_latent": n, "actions": [runs], "frames_sha256"}
    {"back": n}
    {"saved": sha256}
    {"end": blocks}

The first line says what the session is. Its picture is the first one as the generator took it, a PNG in base64; in its
place a session that goes on from a saved one without a log has "begun_from": {"state": sha256, "first_latent": n}.
Then comes a line for each block, with runs as action_runs has them. "back" leaves the blocks from number n on for
another way, and "saved" tells that the session as it is there lies in a state file. Blocks are counted from latent 0.
The last line has the number of blocks that count: a file without it was cut off.

What a file says is believed only once it was checked.
"""

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mimicmotion.config import LARGEST_SEED, MOST_LATENTS, shortened
from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import why_no_file, write_bytes
from mimicmotion.streaming.action_runs import read_runs, require_bounded, runs_of
from mimicmotion.streaming.actions import ActionMode, Actions, block_size, frames_of, get_mode

if TYPE_CHECKING:
    from mimicmotion.streaming.generator import StreamingGenerator

VERSION = 1
ENDING = ".session.jsonl"
LONGEST_HEADER = 64 * 2**20  # characters; the picture is in it
LONGEST_LINE = 2**20
MOST_LINES = 4 * MOST_LATENTS
LARGEST_SIDE = 8192
DIGITS = set("0123456789abcdef")


@dataclass(frozen=True)
class SessionHeader:
    """What a session is, before its first block.

    mode; seed of its noise; generator: fingerprint; height, width: of a frame; frames_per_block: in latents; fps: shown
    with. picture: uint8 (height, width, 3), None where it was not known; state: SHA-256 of the saved session that this
    one goes on from, and first_latent, where that had come to; None and 0 for a session that is here as a whole.
    """

    mode: ActionMode
    seed: int
    generator: str
    height: int
    width: int
    frames_per_block: int
    fps: float
    picture: np.ndarray | None = None
    state: str | None = None
    first_latent: int = 0


@dataclass(frozen=True)
class LoggedBlock:
    """One block: where it begins, its actions frame by frame, SHA-256 of its frames or None where nobody said it."""

    first_latent: int
    actions: Actions
    frames_sha256: str | None = None


class SessionLog:
    """A session's log, added to block by block.

    blocks: those of the way that counts, in order. Ways that were left stay in the text, and in nothing else.
    """

    def __init__(self, header: SessionHeader) -> None:
        self.header = header
        self.blocks: list[LoggedBlock] = []
        self._lines = [_header_line(header)]
        self._saved: dict[str, int] = {}  # state -> its blocks, while these count

    @property
    def next_latent(self) -> int:
        """Index of the first latent of the block to come."""
        return self.header.first_latent + len(self.blocks) * self.header.frames_per_block

    @property
    def next_block(self) -> int:
        """Number of the block to come."""
        return self.next_latent // self.header.frames_per_block

    @property
    def first_block(self) -> int:
        """Number of the first block that is here."""
        return self.header.first_latent // self.header.frames_per_block

    def add_block(self, actions: Actions, frames: np.ndarray | str | None = None) -> None:
        """Notes the next block: its actions, of one frame or of each, and its frames, uint8, or their SHA-256.

        Raises: ValueError for actions of another length or mode, or of numbers that are none.
        """
        size = block_size(self.next_latent, self.header.frames_per_block)
        actions = actions.repeat(size) if len(actions) == 1 else actions
        mode = self.header.mode
        if len(actions) != size or actions.keyboard.shape[1] != mode.keyboard_dim:
            raise ValueError(f"block {self.next_block} has {size} action frames of mode {mode.name}")
        if (actions.mouse is not None) != mode.has_mouse:
            raise ValueError(f"mode {mode.name} has a mouse: {mode.has_mouse}")
        require_bounded(actions)
        digest = frames if frames is None or isinstance(frames, str) else frames_sha256(frames)
        line = {"block": self.next_block, "first_latent": self.next_latent, "actions": runs_of(actions, mode)}
        self._lines.append(json.dumps(line if digest is None else line | {"frames_sha256": digest}))
        self.blocks.append(LoggedBlock(self.next_latent, actions, digest))

    def go_back(self, block: int) -> None:
        """Goes back to before block number `block`. Raises: ValueError where no such block is here."""
        if not self.first_block <= block < self.next_block:
            known = f"{self.first_block} to {self.next_block - 1}" if self.blocks else "none"
            raise ValueError(f"there is no block {block} to go back to, but {known}")
        del self.blocks[block - self.first_block :]
        self._saved = {state: count for state, count in self._saved.items() if count <= len(self.blocks)}
        self._lines.append(json.dumps({"back": block}))

    def note_saved(self, state: str) -> None:
        """Notes that the session as it is now was saved to a file with the SHA-256 `state`."""
        self._saved[state] = len(self.blocks)
        self._lines.append(json.dumps({"saved": state}))

    def up_to(self, state: str) -> "SessionLog | None":
        """The log of the session as it was when it was saved to `state`; None where this log knows nothing of that."""
        if state not in self._saved:
            return None
        log = SessionLog(self.header)
        for block in self.blocks[: self._saved[state]]:
            log.add_block(block.actions, block.frames_sha256)
        log.note_saved(state)
        return log

    def text(self) -> str:
        """The file's content."""
        return "".join(f"{line}\n" for line in (*self._lines, json.dumps({"end": len(self.blocks)})))

    def write(self, path: str | Path) -> None:
        """Writes the file atomically. Raises: SetupError as `files.atomic_path`."""
        write_bytes(path, self.text().encode())


def actions_of(log: SessionLog) -> Iterator[Actions]:
    """The frames of all blocks that count, one by one."""
    for block in log.blocks:
        yield from frames_of(block.actions)


def frames_sha256(frames: np.ndarray) -> str:
    """SHA-256 of a block's frames, uint8 (N, H, W, 3)."""
    return hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()


def is_session_log(text: str) -> bool:
    """Whether a file that begins with `text`, some characters or all, means to be a session's log."""
    return text.lstrip("\ufeff").lstrip()[:40].replace(" ", "").startswith('{"session":')


def read_log(path: str | Path) -> SessionLog:
    """The log in a file, every line of it checked. Raises: InputError that names the file, the line and the fault."""
    path, number = Path(path), 1
    if reason := why_no_file(path):
        raise InputError(f"{path} {reason}; name the {ENDING} file that a session left")
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            log = SessionLog(_read_header(_line(file, LONGEST_HEADER)))
            ended = False
            while not ended:
                number += 1
                if number > MOST_LINES:
                    raise ValueError(f"a session has at most {MOST_LINES} lines")
                ended = _read_line(log, _line(file, LONGEST_LINE))
            number += 1
            if file.read(1):
                raise ValueError("something follows the end of the session")
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        raise InputError(f"the session's log {path} cannot be used, line {number}: {error}") from error
    return log


def header_of(
    generator: "StreamingGenerator",
    seed: int,
    fps: float,
    picture: np.ndarray | None = None,
    state: str | None = None,
    first_latent: int = 0,
) -> SessionHeader:
    """The header of a session: one that begins with `picture`, as `take_picture` gave it, or goes on from `state`."""
    size = generator.height, generator.width
    facts = (generator.mode, seed, generator.fingerprint(), *size, generator.frames_per_block, float(fps))
    return SessionHeader(*facts, picture, state, first_latent)


def require_fitting(
    header: SessionHeader, mode: str, height: int, width: int, frames_per_block: int, path: str | Path
) -> None:
    """Raises: UsageError unless a world model of these facts can have played the session whose log lies at `path`."""
    facts = {
        "mode": (header.mode.name, mode),
        "size": (f"{header.height}x{header.width}", f"{height}x{width}"),
        "frames_per_block": (header.frames_per_block, frames_per_block),
    }
    for name, (theirs, ours) in facts.items():
        if theirs != ours:
            raise UsageError(
                f"{path} is of a session with the {name} {theirs}, this world model has {ours}; name its --config_path"
            )


def require_equal_generator(log: SessionLog, generator: "StreamingGenerator", path: str | Path) -> None:
    """Raises: UsageError unless `generator` can make the frames of `log`, which was read from `path`, again."""
    size = generator.height, generator.width
    require_fitting(log.header, generator.mode.name, *size, generator.frames_per_block, path)
    if log.header.generator != generator.fingerprint():
        raise UsageError(
            f"{path} was played with other weights, steps or precision, so its frames cannot be made again here; name "
            f"its --config_path, --checkpoint_path, --dtype and --decoder, or take its actions alone: --actions {path}"
        )


def _header_line(header: SessionHeader) -> str:
    facts = {
        "session": VERSION,
        "mode": header.mode.name,
        "seed": header.seed,
        "generator": header.generator,
        "size": [header.height, header.width],
        "frames_per_block": header.frames_per_block,
        "fps": header.fps,
    }
    if header.picture is not None:
        facts["picture"] = _as_png(header.picture)
    else:
        facts["begun_from"] = {"state": header.state, "first_latent": header.first_latent}
    return json.dumps(facts)


def _as_png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _line(file, longest: int) -> str:
    """The next line. Raises: ValueError for one that is too long, or was cut off."""
    line = file.readline(longest + 1)
    if len(line) > longest:
        raise ValueError(f"it is longer than {longest} characters")
    if not line.endswith("\n"):
        raise ValueError("the file ends here: it was cut off")
    return line


def _object(line: str) -> dict:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not a JSON object")
    return value


def _read_header(line: str) -> SessionHeader:
    facts = _object(line)
    if facts.get("session") != VERSION or isinstance(facts.get("session"), bool):
        found = shortened(repr(facts.get("session")))
        raise ValueError(f'"session" is {found}; this program reads logs of version {VERSION}')
    try:
        mode = get_mode(facts["mode"] if isinstance(facts.get("mode"), str) else "")
    except UsageError as error:
        raise ValueError(str(error)) from error
    size = facts.get("size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
    latents = _whole(facts, "frames_per_block", 1, 100)
    for value in (height, width):
        _require_whole('"size"', value, 1, LARGEST_SIDE)
    fps = facts.get("fps")
    if type(fps) not in (int, float) or not 0 < fps <= 1000 or not math.isfinite(fps):
        raise ValueError(f'"fps" is {shortened(repr(fps))}; it is a number up to 1000')
    seed, generator = _whole(facts, "seed", -LARGEST_SEED, LARGEST_SEED), _sha256(facts, "generator")
    common = (mode, seed, generator, height, width, latents, float(fps))
    if "picture" in facts:
        return SessionHeader(*common, picture=_read_picture(facts["picture"], height, width))
    begun = facts.get("begun_from")
    if not isinstance(begun, dict):
        raise ValueError('it has neither a "picture" nor what it was "begun_from"')
    first = _whole(begun, "first_latent", 0, MOST_LATENTS)
    if first % latents:
        raise ValueError(f'"first_latent" is {first}, no multiple of {latents}')
    return SessionHeader(*common, state=_sha256(begun, "state"), first_latent=first)


def _read_picture(text: object, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3). Raises: ValueError unless it is a PNG of that size in three colours."""
    try:
        file = io.BytesIO(base64.b64decode(text, validate=True))
        with Image.open(file, formats=("PNG",)) as image:
            if image.size != (width, height) or image.mode != "RGB":
                raise ValueError(f"it is {image.height}x{image.width} in {image.mode}, not {height}x{width} in RGB")
            return np.array(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise whatever they run into
        raise ValueError(f'"picture" is no PNG that a session has: {error}') from error


def _read_line(log: SessionLog, line: str) -> bool:
    """Takes in a line after the first; True when it is the last. Raises: ValueError that says what is wrong with it."""
    facts = _object(line)
    kinds = {"block", "back", "saved", "end"} & set(facts)
    if kinds == {"end"}:
        _require_whole('"end"', facts["end"], len(log.blocks), len(log.blocks))
    elif kinds == {"back"}:
        log.go_back(_whole(facts, "back", 0, MOST_LATENTS))
    elif kinds == {"saved"}:
        log.note_saved(_sha256(facts, "saved"))
    elif kinds == {"block"}:
        for name, expected in (("block", log.next_block), ("first_latent", log.next_latent)):
            if facts.get(name) != expected or isinstance(facts[name], bool):
                raise ValueError(f'"{name}" is {shortened(repr(facts.get(name)))}, but {expected} comes next')
        size = block_size(log.next_latent, log.header.frames_per_block)
        actions = read_runs(log.header.mode, facts.get("actions"), size)
        if len(actions) != size:
            raise ValueError(f"its actions are {len(actions)} frames, and the block has {size}")
        log.add_block(actions, _sha256(facts, "frames_sha256") if "frames_sha256" in facts else None)
    else:
        raise ValueError('it is no "block", no way "back", no state "saved" and no "end"')
    return kinds == {"end"}


def _whole(facts: dict, name: str, low: int, high: int) -> int:
    return _require_whole(f'"{name}"', facts.get(name), low, high)


def _require_whole(what: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        known = f"a whole number from {low} to {high}" if low < high else low
        raise ValueError(f"{what} is {shortened(repr(value))}; it is {known} here")
    return value


def _sha256(facts: dict, name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or len(value) != 64 or set(value) - DIGITS:
        raise ValueError(f'"{name}" is {shortened(repr(value))}; it is the 64 digits of a SHA-256')
    return value
