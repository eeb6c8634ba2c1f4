"""What processes that read video have in common: native code that crashes, hangs or grows takes no run along.

A worker gets a request on standard input, a line of JSON with "task", "path" and limits. It answers a question with
JSON lines on standard output: {"frames": n} as signs of life, then {"facts": ...}, or {"refused": the reason}. For the
task "frames" it writes raw frames instead. What goes wrong is told on standard error.
"""

import fcntl
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping

MAX_MEMORY = 2 << 30


class Refused(Exception):
    """The file cannot be used; the text says why, as the end of a sentence that begins with its name."""


def serve(questions: Mapping[str, Callable], write_frames: Callable) -> None:
    """Does what the request asks for: a question is a function of (request, standard output) that gives facts."""
    request = json.loads(sys.stdin.buffer.readline())
    end_with_parent()
    # Native libraries that print must not print between the frames.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=end_when_large, daemon=True).start()
    if request["task"] == "frames":
        write_frames(request, out)
        return
    try:
        answer = {"facts": questions[request["task"]](request, out)}
    except Refused as error:
        answer = {"refused": str(error)}
    write_line(out, answer)


def end_with_parent() -> None:
    """From here on the system ends this process, also while native code holds the interpreter, when the other end of
    standard input is closed: its reader was killed. Linux only.
    """
    if not sys.platform.startswith("linux"):
        return
    # The default action of SIGIO ends a process.
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:
        sys.exit("its reader has ended")


def write_line(out, answer: dict) -> None:
    """Writes one line of JSON at once."""
    out.write(json.dumps(answer).encode() + b"\n")
    out.flush()


def end_when_large() -> None:
    """Ends the process as soon as it holds more than MAX_MEMORY; Linux only."""
    if not sys.platform.startswith("linux"):
        return
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        # Not getrusage: its peak starts with the memory of the process that started this one.
        with open("/proc/self/statm") as statm:
            memory = int(statm.read().split()[1]) * page
        if memory > MAX_MEMORY:
            print(f"decoding it takes more than {MAX_MEMORY >> 20} MiB", file=sys.stderr, flush=True)
            os._exit(1)
        time.sleep(0.05)


def check_size(request: dict, width: int, height: int) -> None:
    side, pixels = request["max_side"], request["max_pixels"]
    if max(width, height) > side or width * height > pixels:
        raise Refused(
            f"is {width}x{height}; scale it: the limits are {side} pixels a side (video.max_side) and {pixels} in all "
            "(video.max_pixels)"
        )


def check_count(request: dict, frames: int, width: int, height: int) -> None:
    if frames > request["max_frames"]:
        raise Refused(f"has {frames} frames or more; cut it: the limit is {request['max_frames']} (video.max_frames)")
    if frames * width * height * 3 > request["max_bytes"]:
        raise Refused(
            f"has {frames} frames of {width}x{height} or more; cut or scale it: the limit for all, decoded, is "
            f"{request['max_bytes']} bytes (video.max_bytes)"
        )


def on_white(pixels):
    """uint8 (H, W, 4), RGBA, laid on white: uint8 (H, W, 3)."""
    alpha = pixels[..., 3:].astype("uint16")
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype("uint8")
