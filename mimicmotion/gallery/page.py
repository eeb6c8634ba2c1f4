"""The page of all results below a folder: one HTML file, to be opened from where it lies, without a network."""

import json
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import write_bytes
from mimicmotion.gallery.records import Found, Result, find_records

logger = logging.getLogger(__name__)

PAGE_NAME = "index.html"
MARK = b'<meta name="generator" content="mimicmotion gallery">'
PLACE_OF_DATA = "__DATA__"
# What a result was really made with stands for the settings that ask for it.
EFFECTIVE = {
    "settings.turbo.num_inference_steps": "steps",
    "settings.test_case.num_inference_steps": "steps",
    "settings.turbo.guidance_scale": "guidance_scale",
    "settings.test_case.guidance_scale": "guidance_scale",
    "settings.test_case.seed": "seed",
    "settings.seed": "seed",
    "inputs.reference": "reference",
}
FIRST = ("settings.turbo.scheduler", "steps", "guidance_scale", "seed")
SETTINGS = (
    "mode", "detector", "device", "dtype", "decode_chunk_size", "decode_overlap", "inputs.reference", "reference",
)  # fmt: skip
SECTIONS = ("settings.", "latent_concat.", "weights.", "versions.")


def write_page(folder: str | Path) -> Path:
    """Writes `folder`/index.html with all results in the folder and below it; returns its path.

    Raises: UsageError when there is no such folder; InputError when an index.html of something else lies there;
        SetupError when it cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}; name the one that results were written to (--output_dir)")
    path = folder / PAGE_NAME
    if path.exists() and not _is_ours(path):
        raise InputError(f"{path} is no page of results; move it away, or name another folder")
    head, tail = Path(__file__).with_name("page.html").read_text(encoding="utf-8").split(PLACE_OF_DATA)
    write_bytes(path, f"{head}{_script_text(page_data(find_records(folder)))}{tail}".encode())
    return path


def refresh_page(folder: str | Path) -> None:
    """As `write_page` at the end of a run, whose results count more than the page: what goes wrong is a warning."""
    try:
        logger.info("All results: %s", write_page(folder))
    except Exception as error:
        logger.warning("the page of all results in %s is not written: %s", folder, error)


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return MARK in file.read(1000)
    except OSError:
        return False


def _script_text(data: dict) -> str:
    """JSON for a script element: nothing in it ends the element, and all of it is ASCII."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def page_data(found: Found) -> dict:
    """What page.html shows, as plain values.

    Facts of a result are numbers of entries in `pairs`, (path, value) each, since most are those of its neighbours.
    """
    pairs: dict[tuple[str, type, object], int] = {}

    def numbered(result: Result) -> list[int]:
        # Without the type, true would be the same value as 1.
        return [pairs.setdefault((path, type(value), value), len(pairs)) for path, value in result.facts.items()]

    results = [_result_data(result) | {"facts": numbered(result)} for result in found.results]
    not_made = [
        {
            "status": item.status,
            "video": item.video,
            "output": item.output,
            "message": item.message,
            "time": item.time,
            "source": shown(item.source),
            "command": item.command,
        }
        for item in sorted(found.not_made, key=lambda item: -item.time)
    ]
    return {
        "folder": shown(found.folder.resolve()),
        "written": time.time(),
        "results": results,
        "pairs": [[path, value] for path, _, value in pairs],
        "offered": offered(found.results),
        "not_made": not_made,
        "problems": [[shown(path), reason] for path, reason in sorted(found.problems.items())],
    }


def _result_data(result: Result) -> dict:
    folder = shown(result.video.parent)
    return {
        "name": shown(result.video.stem),
        "folder": "" if folder == "." else folder,
        "kind": result.kind,
        "video": url(result.video),
        "record": url(result.record),
        "sheet": result.sheet and url(result.sheet),
        "others": [[label, url(path)] for label, path in result.others.items()],
        "time": result.time,
        "seconds": result.seconds,
    }


def offered(results: Iterable[Result]) -> list[str]:
    """Paths of the settings in which results differ, for filters: the most telling first, the others by name."""
    values: dict[str, set] = {}
    for result in results:
        for path, value in result.facts.items():
            is_setting = path.startswith(SECTIONS) or path in SETTINGS or path in FIRST
            if is_setting and EFFECTIVE.get(path) not in result.facts:
                values.setdefault(path, set()).add((type(value), value))
    different = sorted(path for path, seen in values.items() if len(seen) > 1)
    return [path for path in FIRST if path in different] + [path for path in different if path not in FIRST]


def shown(path: str | Path) -> str:
    """A path, or a part of one, as text; bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def url(path: Path) -> str:
    """A relative path as an address; "./" keeps a colon in a name from becoming a protocol."""
    return "./" + quote(os.fsencode(path.as_posix()))
