"""Plays a served world as a browser does: how fast frames come, when a key is seen, what a slow line loses.

examples:
  python scripts/benchmark_serving.py   # needs minutes
  python scripts/benchmark_serving.py --blocks 100 --slow 1.0   # needs minutes

scripts/serve_world.py runs in a process of its own. One window plays and takes each frame at once; keys change at drawn
times, and a change is timed from its sending to the first frame of a block that felt it. A second window watches and
takes a frame every --slow seconds.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import HelpFormatter

SERVE = Path(__file__).resolve().parent / "serve_world.py"
KEYS = ("", "W", "WD", "L", "WJ", "S", "A")
HELD = (0.1, 2.0)  # seconds until the next change
MOST_SILENCE = 120  # seconds


def main(argv: list[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n\n")[2], formatter_class=HelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=40, help="that are played")
    parser.add_argument("--slow", type=float, default=0.5, help="seconds for which the slow window looks at a frame")
    parser.add_argument("--seed", type=int, default=0, help="of the keys and when they change")
    parser.add_argument("--config_path", help="world model; not given: the one that serve_world.py takes")
    arguments = parser.parse_args(argv)
    if arguments.blocks < 2:
        parser.error("--blocks must be at least 2")
    world = ["--config_path", arguments.config_path] if arguments.config_path else []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SERVE), "--port", "0", "--output_dir", folder, *world]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            link = find_link(server)
            with open_line(link) as line, open_line(link) as slow_line:
                player, watcher = Window(line), Window(slow_line, arguments.slow)
                watching = threading.Thread(target=watcher.look, daemon=True)
                watching.start()
                player.play(arguments.blocks, random.Random(arguments.seed))
                watcher.over.set()
                watching.join()
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate()
    print_figures(player, watcher)
    return 0


def find_link(server: subprocess.Popen) -> str:
    """The link that the server prints. Raises: SystemExit when it ends before."""
    for line in server.stdout:
        if line.startswith("play at "):
            return line.split()[2]
    raise SystemExit(f"{SERVE.name} ended before it served")


def open_line(link: str):
    """A socket to the server, for a `with` block."""
    from websockets.sync.client import connect

    return connect(link.replace("http", "ws", 1) + "ws", origin=link.rstrip("/"))


class Window:
    """At one socket. `pause`: seconds from a frame's coming to its being drawn."""

    def __init__(self, line, pause: float = 0.0) -> None:
        self.line = line
        self.pause, self.over = pause, threading.Event()
        self.headers, self.sizes, self.statuses, self.waits = [], [], [], []
        self._begun = self._last = None

    @property
    def rate(self) -> float:
        """Frames a second, from the first to the last."""
        return (len(self.headers) - 1) / (self._last - self._begun)

    def look(self) -> None:
        """Watches until it is `over`."""
        while not self.over.is_set():
            self._hear()

    def play(self, blocks: int, draw: random.Random) -> None:
        """Plays until block number `blocks` is seen."""
        seq, sent, due = 0, None, time.monotonic()
        while not self.headers or self.headers[-1]["block"] < blocks:
            now = time.monotonic()
            if now >= due and sent is None:
                seq, sent = seq + 1, now
                due = now + draw.uniform(*HELD)
                self._say(type="held", seq=seq, keys=list(KEYS[seq % len(KEYS)]), mouse=[0, 0])
            header = self._hear()
            if header and sent is not None and header["seq"] >= seq:
                self.waits.append(1000 * (time.monotonic() - sent))
                sent = None

    def _say(self, **message) -> None:
        self.line.send(json.dumps(message))

    def _hear(self) -> dict | None:
        """The header of what comes next where it is a frame."""
        from mimicmotion.serving import read_frame_message

        data = self.line.recv(timeout=MOST_SILENCE)
        if isinstance(data, str):
            message = json.loads(data)
            if "ms" in message:
                self.statuses.append(message)
            return None
        header, jpeg = read_frame_message(data)
        self.over.wait(self.pause)
        self._last = time.monotonic()
        self._begun = self._begun or self._last
        self._say(type="ready")
        self.headers.append(header)
        self.sizes.append(len(jpeg))
        return header


def numbers(*values: float, digits: int = 0) -> str:
    """As they stand in the table."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def print_figures(player: Window, watcher: Window) -> None:
    """The table."""
    made = player.statuses[1:]
    rates = (made[-1]["fps"], statistics.median(status["fps_made"] for status in made), player.rate)
    stages = [statistics.median(status["ms"][name] for status in made) for name in ("denoise", "decode", "transport")]
    ages, half = [header["age_ms"] for header in watcher.headers], len(watcher.headers) // 2
    lost = watcher.headers[-1]["dropped"]
    rows = {
        "frames a second: asked, made, seen": numbers(*rates, digits=1),
        "ms a block: denoise, decode, transport": numbers(*stages),
        f"ms from key to frame, of {len(player.waits)}: median, worst": numbers(
            statistics.median(player.waits), max(player.waits)
        ),
        "bytes a frame": numbers(statistics.mean(player.sizes)),
        f"of {len(player.headers)} frames dropped": numbers(player.headers[-1]["dropped"]),
        "slow window: frames a second": numbers(watcher.rate, digits=1),
        f"slow window: of {lost + len(ages)} frames dropped": numbers(lost),
        "slow window: ms waited, first and second half": numbers(
            statistics.median(ages[:half]), statistics.median(ages[half:])
        ),
    }
    for name, value in rows.items():
        print(f"{name:52}{value}")


if __name__ == "__main__":
    sys.exit(main())
