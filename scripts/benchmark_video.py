"""How fast driving videos are read: time to the first frame, then frames a second, by reader.

    python scripts/benchmark_video.py clip.mp4 --readers pyav decord --against ../older_checkout    # needs minutes

Each measurement is a process of its own, and all kinds take turns, so that a busy machine disturbs them alike. Beside
the wall clock it gives seconds of a processor, which other programs disturb little.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEASURE = """
import json, resource, sys, time

path, stride, reader = sys.argv[1], int(sys.argv[2]), sys.argv[3]
from mimicmotion.video import open_video

options = {}
if reader:
    from mimicmotion.config import VideoSettings
    options["settings"] = VideoSettings(reader=reader)

def processor():
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)

start = time.perf_counter(), processor()
source = open_video(path, **options)
opened = time.perf_counter()
frames = source.frames(stride)
next(frames)
first = time.perf_counter()
count = 1 + sum(1 for _ in frames)
end = time.perf_counter(), processor()
print(json.dumps({
    "first": first - start[0], "rate": count * stride / (end[0] - opened),
    "processor": end[1] - start[1],
}))
"""


def main() -> None:
    """Measures, and prints the median of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    readers = ["pyav", "decord"]
    parser.add_argument("--readers", nargs="+", default=readers, help="of this checkout (default: pyav decord)")
    parser.add_argument("--against", type=Path, help="another checkout, with the reader that it chooses itself")
    parser.add_argument("--stride", type=int, default=2, help="take every n-th frame (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each kind (default: 5)")
    arguments = parser.parse_args()
    kinds = [(ROOT, reader) for reader in arguments.readers]
    if arguments.against:
        kinds.append((arguments.against.resolve(), ""))
    found: dict = {kind: [] for kind in kinds}
    for _ in range(arguments.repeats):
        for kind in kinds:
            found[kind].append(measure(*kind, arguments.video.resolve(), arguments.stride))
    print(f"{'reader':24} {'first frame, s':>15} {'frames/s':>9} {'processor, s':>13}")
    for (root, reader), runs in found.items():
        name = reader or f"{root.name}, its own"
        first, rate, processor = (statistics.median(run[key] for run in runs) for key in ("first", "rate", "processor"))
        print(f"{name:24} {first:15.2f} {rate:9.1f} {processor:13.2f}")


def measure(root: Path, reader: str, video: Path, stride: int) -> dict:
    """One reading of the whole video in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(video), str(stride), reader]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
