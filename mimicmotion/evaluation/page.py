"""The worst and the best clips of an evaluation on one page: a file for any browser that needs nothing else."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mimicmotion.errors import InputError
from mimicmotion.evaluation.summary import CORPUS, MEASURES, Row
from mimicmotion.files import write_bytes

MARK = b'<meta name="generator" content="mimicmotion evaluation">'
# The measures that clips are ranked by, as far as they have them.
RANKED = ("body_distance", "hand_distance", "hand_missing", "clip_reference", "psnr", "st_lpips", "csim")
LISTED = 500  # clips in the table at the end; all are in the CSV


def write_page(path: Path, rows: Sequence[Row], content: dict, shown: int) -> Path:
    """Writes the page; its path.

    Args:
        content: of evaluation.json.
        shown: worst and best clips of each measure.

    Raises: InputError when something else lies in its place; SetupError when it cannot be written.
    """
    if path.exists() and MARK not in path.read_bytes()[:1000]:
        raise InputError(f"{path} is no page of an evaluation; move it away, or name another --output_dir")
    measured = [row for row in rows if row.status == "measured"]
    ranks = {name: ranked(name, measured) for name in RANKED}
    chosen = {name: ends(found, shown) for name, found in ranks.items() if found and shown}
    pictured = {row.name: row for sides in chosen.values() for side in sides for row in side}
    numbers = {name: number for number, name in enumerate(pictured)}
    parts = {
        "__STRIPS__": "\n".join(_strip_style(numbers[name], row) for name, row in pictured.items()),
        "__MEANS__": _means(content),
        "__FAILED__": _failed(rows),
        "__CLIPS__": "\n".join(_section(name, *sides, numbers) for name, sides in chosen.items()),
        "__ALL__": _all(rows),
        "__PROTOCOL__": _protocol(content["protocol"]),
        "__COUNT__": f"{content['clips_measured']} of {content['clips_in_all']} clips measured",
    }
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    head, *pieces = page.split("<!--")
    text = [head]
    for piece in pieces:
        name, _, rest = piece.partition("-->")
        text += [parts[name], rest]
    write_bytes(path, "".join(text).encode("ascii", "xmlcharrefreplace"))
    return path


def ranked(name: str, rows: Sequence[Row]) -> list[Row]:
    """The clips that have a measure, the worst first; equal ones by name."""
    best = MEASURES[name].best
    sign = {"low": -1, "high": 1}[best]
    found = [row for row in rows if row.numbers.get(name) is not None]
    return sorted(found, key=lambda row: (sign * row.numbers[name], row.name))


def ends(rows: list[Row], shown: int) -> tuple[list[Row], list[Row]]:
    """The worst and the best, the very best first; none is in both."""
    worst = rows[: min(shown, (len(rows) + 1) // 2)]
    return worst, rows[len(worst) :][::-1][:shown]


def _section(name: str, worst: list[Row], best: list[Row], numbers: dict[str, int]) -> str:
    measure = MEASURES[name]
    cards = [
        f'<div class="side"><h3>{title}</h3>{"".join(_card(row, name, numbers[row.name]) for row in side)}</div>'
        for title, side in (("worst", worst), ("best", best))
        if side
    ]
    about = f"{escape(measure.about)}, {escape(measure.unit)}"
    return f"<section><h2>{escape(measure.title)}</h2><p>{about}</p><div class='sides'>{''.join(cards)}</div></section>"


def _card(row: Row, name: str, number: int) -> str:
    label = escape(row.name, quote=True)
    return (
        f'<figure><div class="strip s{number}" role="img" aria-label="frames of {label}"></div>'
        f"<figcaption><b>{label}</b> <span>{row.numbers[name]:.4g}</span></figcaption></figure>"
    )


def _strip_style(number: int, row: Row) -> str:
    """A picture as a style, so that a clip on several lists is in the file once."""
    from PIL import Image

    with Image.open(row.strip) as picture:
        width, height = picture.size
    data = base64.b64encode(row.strip.read_bytes()).decode()
    return f".s{number} {{ aspect-ratio: {width} / {height}; background-image: url(data:image/jpeg;base64,{data}); }}"


def _means(content: dict) -> str:
    lines = []
    for name, found in content["means"].items():
        measure, interval = MEASURES[name], found["interval"]
        spread = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else ""
        cells = (measure.title, measure.unit, f"{found['mean']:.4g}", spread, found["clips"], measure.about)
        lines.append(_line(cells))
    for name, found in content["corpus"].items():
        value = "" if found["distance"] is None else f"{found['distance']:.4g}"
        lines.append(_line((CORPUS[name], "", value, "", f"{found['segments']} segments", "all clips together")))
    return "\n".join(lines)


def _failed(rows: Sequence[Row]) -> str:
    lines = "".join(_line((row.name, row.message)) for row in rows if row.status != "measured")
    return f"<section><h2>Not measured</h2><table>{lines}</table></section>" if lines else ""


def _all(rows: Sequence[Row]) -> str:
    names = [name for name in RANKED if any(row.numbers.get(name) is not None for row in rows)]
    head = "".join(f"<th>{escape(MEASURES[name].title)}</th>" for name in names)
    lines = [
        _line((row.name, row.facts.get("frames", ""), *(_plain(row.numbers.get(name)) for name in names), row.message))
        for row in rows[:LISTED]
    ]
    more = f"<p>{len(rows) - LISTED} more are in evaluation.csv.</p>" if len(rows) > LISTED else ""
    return f"<table><tr><th>clip</th><th>frames</th>{head}<th>note</th></tr>{''.join(lines)}</table>{more}"


def _protocol(stated: dict) -> str:
    lines = []
    for name, value in stated.items():
        if isinstance(value, dict):
            value = "; ".join(f"{key}: {entry}" for key, entry in value.items())
        lines.append(_line((name.replace("_", " "), "none" if value in (None, "") else value)))
    return "\n".join(lines)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _line(cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"
