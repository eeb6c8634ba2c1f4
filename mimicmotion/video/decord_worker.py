"""A process of its own for decord: writes the raw RGB frames of one video to standard output.

python decord_worker.py PATH START STOP STRIDE NUM_FRAMES HEIGHT WIDTH

decord 0.6.0 can crash, or hang inside native code with the interpreter locked; as a process it can be killed
and its reader goes on without it. It ends with an error, and no frame, where decord sees another number or
size of frames than ffmpeg decoded: for clips cut with `ffmpeg -c copy` decord pads the count with duplicates.
It also ends, anywhere, when it takes too much memory: decord decodes ahead without a limit.
It is run as a file, so it imports nothing of the package.
"""

import fcntl
import os
import select
import sys
import threading
import time

CHUNK_FRAMES = 16
CHUNK_BYTES = 64 << 20
MAX_MEMORY = 512 << 20


def main(path: str, *numbers: str) -> None:
    """Writes frames START, START + STRIDE, ... below STOP, a chunk at a time."""
    start, stop, stride, num_frames, height, width = map(int, numbers)
    # Native libraries that print must not print between the frames.
    frames_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=end_when_large, daemon=True).start()
    end_with_parent()
    from decord import VideoReader

    # More threads make the VP9 decoder inside decord 0.6.0 fail (send_packet returns -11); one works.
    # fault_tol=1 raises at the second padded frame; 0 would mean no limit.
    reader = VideoReader(path, num_threads=1, fault_tol=1)
    if len(reader) != num_frames:
        sys.exit(f"decord counts {len(reader)} frames, not {num_frames}")
    chunk = max(1, min(CHUNK_FRAMES, CHUNK_BYTES // (height * width * 3)))
    indices = range(start, stop, stride)
    for first in range(0, len(indices), chunk):
        frames = reader.get_batch(list(indices[first : first + chunk])).asnumpy()
        if frames.shape[1:] != (height, width, 3):
            sys.exit(f"decord gives frames of {frames.shape[1:]}, not {(height, width, 3)}")
        frames_out.write(frames.data)
        frames_out.flush()


def end_with_parent() -> None:
    """From here on the system ends this process, also while native code holds the interpreter, when the other end of
    standard input is closed: its reader was killed.
    """
    # The default action of SIGIO ends a process.
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:
        sys.exit("its reader has ended")


def end_when_large() -> None:
    """Ends the process as soon as it holds more than MAX_MEMORY; Linux only."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        # Not getrusage: its peak starts with the memory of the process that started this one.
        with open("/proc/self/statm") as statm:
            memory = int(statm.read().split()[1]) * page
        if memory > MAX_MEMORY:
            print(f"decord holds {memory >> 20} MiB", file=sys.stderr, flush=True)
            os._exit(1)
        time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
