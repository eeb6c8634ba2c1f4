"""Laws of reading: the frames that are there, each once and in order, or an error that says what is wrong."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mimicmotion.config import VideoSettings
from mimicmotion.errors import InputError, UsageError
from mimicmotion.video import process
from mimicmotion.video import source as video
from mimicmotion.video.source import effective_stride, open_video, playback_speed
from tests.conftest import HANG_SECONDS
from tests.video.clips import HEIGHT, WIDTH, cut_file, make_clip, numbered_frame, read_index, run_ffmpeg


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


DECORD = VideoSettings(reader="decord")


@pytest.fixture(params=["pyav", "decord"])
def reader(request) -> VideoSettings:
    """Runs a test once with each reader."""
    return VideoSettings(reader=request.param)


def indices_of(source, **selection) -> list[int]:
    pairs = [(index, read_index(frame)) for index, frame in source.frames(**selection)]
    assert all(index == drawn for index, drawn in pairs)
    return [drawn for _, drawn in pairs]


@pytest.mark.parametrize("name", ["a.mp4", "b.MOV", "c.Mkv", "d.WebM", "e.AVI"])
def test_every_container_gives_every_frame(tmp_path, name):
    path = make_clip(tmp_path / name.lower(), sound=0.5)
    path.rename(tmp_path / name)
    source = open_video(tmp_path / name)
    assert (source.num_frames, source.height, source.width) == (40, HEIGHT, WIDTH)
    assert source.fps == 30 and source.has_audio
    assert source.duration == pytest.approx(40 / 30, abs=0.1)
    assert indices_of(source) == list(range(40))


SELECTIONS = [(1, 0, None), (3, 2, None), (2, 5, 4), (7, 39, 5), (1, 40, None), (4, 0, 0)]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_stride_start_and_limit(clip, reader, selection):
    stride, start, limit = selection
    drawn = indices_of(open_video(clip, settings=reader), stride=stride, start=start, max_frames=limit)
    assert drawn == list(range(40))[start::stride][:limit]


def test_impossible_selection(clip):
    with pytest.raises(ValueError):
        list(open_video(clip).frames(stride=0))


def test_frames_are_writable_rgb(clip):
    _, frame = next(open_video(clip).frames())
    assert frame.dtype == np.uint8 and frame.flags.writeable
    lower = frame[HEIGHT * 3 // 4].astype(int)
    assert lower[WIDTH // 4][0] > 200 > 60 > lower[WIDTH // 4][2]
    assert lower[WIDTH * 3 // 4][2] > 200 > 60 > lower[WIDTH * 3 // 4][0]


@pytest.mark.parametrize("size", [(64, 128), (95, 131)])
def test_both_readers_give_the_same_pixels(tmp_path, monkeypatch, size):
    pytest.importorskip("decord")
    coding = ("-c:v", "libx264", "-pix_fmt", "yuv444p") if size[0] % 2 else ()
    path = make_clip(tmp_path / "clip.mp4", coding=coding, size=size)
    by_pyav = [frame for _, frame in open_video(path).frames()]
    source = open_video(path, settings=DECORD)
    monkeypatch.setattr(video, "_request", None)  # what decord does not give is not read at all
    assert np.array_equal([frame for _, frame in source.frames()], by_pyav)


def fake_worker(folder: Path, frames: int, trouble: str) -> Path:
    """A stand-in for decord's process: it sends the first `frames` of what it is asked for, then has its trouble.

    It leaves a file "came to it" before the trouble, and "came out of it" after: nobody ended it.
    """
    worker = folder / "worker.py"
    worker.write_text(
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.video.clips import numbered_frame\n"
        "out = sys.stdout.buffer\n"
        "start, stop, stride = map(int, sys.argv[2:5])\n"
        f"for i in range(start, stop, stride)[:{frames}]: out.write(numbered_frame(i).tobytes())\n"
        "out.flush()\n"
        "Path(__file__).with_name('came to it').touch()\n"
        f"{trouble}\n"
        "Path(__file__).with_name('came out of it').touch()\n"
    )
    return worker


def end_stalls_of(worker: Path, monkeypatch, trouble: str):
    """Counts a stall of `worker` from when it came to its trouble: a slow start on a busy machine is none, nor is a
    slow end.
    """
    monkeypatch.setattr(process, "STALL_SECONDS", HANG_SECONDS)
    if not trouble.startswith("hangs"):
        return

    class Watchdog(threading.Timer):
        def run(self):
            if str(worker) in map(str, self.args[0].args):  # those of the process
                self.interval = 0.2
                while not worker.with_name("came to it").exists() and not self.finished.wait(0.02):
                    pass
            super().run()

    monkeypatch.setattr(threading, "Timer", Watchdog)


HANG = f"time.sleep({HANG_SECONDS})"
BROKEN_READERS = {
    "does not start": (0, "raise ImportError('no such module')"),
    "dies at once": (0, "os.kill(os.getpid(), signal.SIGSEGV)"),
    "dies between frames": (7, "os.kill(os.getpid(), signal.SIGSEGV)"),
    "dies within a frame": (7, "out.write(b'x' * 100); out.flush(); sys.exit(1)"),
    "ends early without an error": (7, "os._exit(0)"),
    "hangs at once": (0, HANG),
    "hangs after some frames": (7, HANG),
}


@pytest.mark.parametrize("trouble", BROKEN_READERS)
def test_pyav_goes_on_where_decord_breaks(clip, tmp_path, monkeypatch, trouble):
    worker = fake_worker(tmp_path, *BROKEN_READERS[trouble])
    monkeypatch.setattr(video, "DECORD_WORKER", worker)
    source = open_video(clip, settings=DECORD)
    end_stalls_of(worker, monkeypatch, trouble)
    assert indices_of(source, stride=2, start=3) == list(range(3, 40, 2))
    assert (tmp_path / "came to it").exists() and not (tmp_path / "came out of it").exists()


@pytest.mark.parametrize("trouble", BROKEN_READERS)
def test_a_reader_that_breaks_is_an_error(clip, tmp_path, monkeypatch, trouble):
    worker = fake_worker(tmp_path, *BROKEN_READERS[trouble])
    source = open_video(clip)
    end_stalls_of(worker, monkeypatch, trouble)
    monkeypatch.setattr(video, "worker_command", lambda path: [sys.executable, str(worker), "", "0", "40", "1"])
    with pytest.raises(InputError, match=r"frame \d+ cannot be read any more"):
        list(source.frames())
    assert (tmp_path / "came to it").exists() and not (tmp_path / "came out of it").exists()


HALF_AN_ANSWER = "print('{\"frames\": 3}', flush=True)"
BROKEN_PROBES = {
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "reading it fails"),
    "hangs": (HANG, "reading it hangs"),
    "hangs half way": (f"{HALF_AN_ANSWER}; {HANG}", "reading it hangs"),
    "says why": ("sys.exit('out of luck')", "out of luck"),
    "ends without an answer": (f"{HALF_AN_ANSWER}; os._exit(0)", "reading it fails"),
}


@pytest.mark.parametrize("trouble", BROKEN_PROBES)
def test_a_probe_that_breaks_is_an_error(clip, tmp_path, monkeypatch, trouble):
    does, words = BROKEN_PROBES[trouble]
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, signal, sys, time\nfrom pathlib import Path\n"
        f"Path(__file__).with_name('came to it').touch()\n{does}\n"
        "Path(__file__).with_name('came out of it').touch()\n"
    )
    end_stalls_of(worker, monkeypatch, trouble)
    monkeypatch.setattr(process, "worker_command", lambda path: [sys.executable, str(worker)])
    with pytest.raises(InputError, match=words):
        open_video(clip)
    assert (tmp_path / "came to it").exists() and not (tmp_path / "came out of it").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux only")
def test_decord_ends_when_it_grows(clip, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    source = video.DECORD_WORKER.read_text()
    assert "MAX_MEMORY = 512 << 20" in source
    worker.write_text(source.replace("MAX_MEMORY = 512 << 20", "MAX_MEMORY = 1 << 20"))
    command = [sys.executable, str(worker), str(clip), "0", "40", "1", "40", str(HEIGHT), str(WIDTH)]
    # Its standard input stays open: at the end of it a worker would take its reader for dead.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        told = process.stderr.read()
        assert process.wait() == 1 and b"decord holds" in told
    monkeypatch.setattr(video, "DECORD_WORKER", worker)
    assert indices_of(open_video(clip, settings=DECORD)) == list(range(40))


def test_frames_that_change_size_half_way_come_in_one_size(tmp_path):
    """mpeg2 streams may do so; the pipe of raw frames would fall out of step."""
    for name, size in (("a.ts", (HEIGHT, WIDTH)), ("b.ts", (2 * HEIGHT, 2 * WIDTH))):
        make_clip(tmp_path / name, count=10, coding=("-c:v", "mpeg2video"), size=size)
    joined = tmp_path / "joined.mp4"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    source = open_video(joined)
    frames = [frame for _, frame in source.frames()]
    assert len(frames) == source.num_frames >= 19
    assert {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert [read_index(frame) for frame in frames[:9]] == list(range(9))


def test_file_that_stops_decoding_while_it_is_read(clip):
    path = clip.with_name("changed.mp4")
    shutil.copy(clip, path)
    source = open_video(path)
    make_clip(path, count=12)
    with pytest.raises(InputError, match="frame 12 cannot be read any more"):
        list(source.frames())


def test_no_process_stays_when_the_reader_stops_early(clip, tmp_path, monkeypatch):
    """Not even one that hangs."""
    hanging = fake_worker(tmp_path, 1, HANG)
    monkeypatch.setattr(video, "DECORD_WORKER", hanging)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    frames = open_video(clip, settings=DECORD).frames()
    next(frames)
    frames.close()
    assert all(process.poll() is not None for process in started)
    (worker,) = [process for process in started if str(hanging) in map(str, process.args)]
    assert worker.returncode == -signal.SIGKILL


def test_memory_is_flat_in_the_length(tmp_path):
    path = tmp_path / "long.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc=s=128x128:r=30"]
    run_ffmpeg(*picture, "-frames:v", "1000", "-preset", "ultrafast", path)
    source = open_video(path)
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.frames())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 1000
    assert peak < 1000 * 128 * 128 * 3 / 10


# Clips whose headers do not tell the truth


def test_clip_cut_without_coding_has_its_real_frames_only(tmp_path, reader):
    """Cut between keyframes 25 and 50: the file stores frames 25.. but shows them from 38 on.

    At its end some frames are missing, since the cut goes by the order of decoding.
    """
    whole = make_clip(tmp_path / "whole.mp4", count=100)
    cut = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", "1.25", "-i", whole, "-t", "1.05", "-c", "copy", cut)
    source = open_video(cut, settings=reader)
    drawn = [read_index(frame) for _, frame in source.frames()]
    assert len(drawn) == source.num_frames
    assert drawn == sorted(set(drawn))
    assert 30 <= len(drawn) <= 33 and drawn[0] == 38


def test_decord_would_have_padded_that_clip(tmp_path):
    """Why the count is not decord's: it claims frames that are not shown."""
    decord = pytest.importorskip("decord")
    whole = make_clip(tmp_path / "whole.mp4", count=100)
    run_ffmpeg("-ss", "1.25", "-i", whole, "-t", "1.05", "-c", "copy", tmp_path / "cut.mp4")
    assert len(decord.VideoReader(str(tmp_path / "cut.mp4"))) > open_video(tmp_path / "cut.mp4").num_frames


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(clip, tmp_path, reader, degrees):
    run_ffmpeg("-display_rotation", str(degrees), "-i", clip, "-c", "copy", tmp_path / "turned.mp4")
    source = open_video(tmp_path / "turned.mp4", settings=reader)
    turned = [np.rot90(frame, -degrees // 90) for _, frame in source.frames()]
    assert (source.height, source.width) == ((WIDTH, HEIGHT) if degrees != 180 else (HEIGHT, WIDTH))
    assert [read_index(frame) for frame in turned] == list(range(40))


@pytest.mark.parametrize(("rate", "fps"), [("24000/1001", Fraction(24000, 1001)), ("25", 25), ("12.5", 12.5)])
def test_frame_rate_is_exact(tmp_path, rate, fps):
    assert open_video(make_clip(tmp_path / "clip.mp4", count=5, fps=rate)).fps == fps


def test_single_frame_and_single_pixel(tmp_path):
    one = make_clip(tmp_path / "one.mp4", count=1)
    assert indices_of(open_video(one)) == [0]
    picture = ["-f", "lavfi", "-i", "color=red:s=1x1:r=10"]
    run_ffmpeg(*picture, "-frames:v", "3", "-c:v", "ffv1", tmp_path / "dot.mkv")
    frames = [frame for _, frame in open_video(tmp_path / "dot.mkv").frames()]
    assert len(frames) == 3 and frames[0].shape == (1, 1, 3)


# Bad input


@pytest.mark.parametrize("keep", [0.5, -200])
@pytest.mark.parametrize("name", ["end.mp4", "first.mp4", "clip.mov", "clip.mkv", "clip.webm"])
def test_truncated_file_is_refused(tmp_path, name, keep):
    whole = tmp_path / name
    make_clip(whole, count=60)
    if name == "first.mp4":
        whole = tmp_path / "faststart.mp4"
        run_ffmpeg("-i", tmp_path / name, "-c", "copy", "-movflags", "+faststart", whole)
    with pytest.raises(InputError) as caught:
        open_video(cut_file(whole, tmp_path / f"cut{whole.suffix}", keep))
    message = str(caught.value)
    assert f"cut{whole.suffix}" in message
    if name not in ("end.mp4", "clip.mov"):
        # With the index at the end, a cut file holds nothing that can be read.
        readable, promised = (int(word) for word in message.replace(";", "").split() if word.isdigit())
        assert readable <= promised == 60 and (keep == -200 or readable < 50)


def test_cut_sound_is_noticed_too(tmp_path):
    make_clip(tmp_path / "clip.mp4", sound=6)
    run_ffmpeg("-i", tmp_path / "clip.mp4", "-c", "copy", "-movflags", "+faststart", tmp_path / "first.mp4")
    with pytest.raises(InputError, match="40 frames can be read"):
        open_video(cut_file(tmp_path / "first.mp4", tmp_path / "cut.mp4", -500))


def test_truncated_avi_is_refused(tmp_path):
    """Half an avi; its index at the very end can be missing without any frame being lost."""
    whole = make_clip(tmp_path / "clip.avi", count=200)
    with pytest.raises(InputError, match="end early"):
        open_video(cut_file(whole, tmp_path / "half.avi", 0.5))
    assert indices_of(open_video(cut_file(whole, tmp_path / "tail.avi", -200))) == list(range(200))


def bad_files(folder: Path) -> dict[str, str]:
    """Names of unusable inputs, with a word that the message must hold."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    (folder / "folder.mp4").mkdir()
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    listed = make_clip(folder / "listed.mp4")
    (folder / "script.mp4").write_text(f"ffconcat version 1.0\nfile {listed.name}\n")
    os.mkfifo(folder / "pipe.mp4")
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", folder / "audio.mp4")
    run_ffmpeg("-i", listed, "-frames:v", "0", "-c", "copy", folder / "none.mkv")
    large = ["-f", "lavfi", "-i", "color=red:s=16384x16:r=10", "-frames:v", "1", "-c:v", "ffv1"]
    run_ffmpeg(*large, folder / "large.mkv")
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=16x16:r=10000", "-frames:v", "4", folder / "fast.mp4")
    return {
        "missing.mp4": "No such file",
        "empty.mp4": "empty",
        "text.mp4": "cannot be read as a video",
        "folder.mp4": "no numbered frames",
        "loop.mp4": "symbolic links",
        "script.mp4": "cannot be read as a video",
        "pipe.mp4": "not a regular file",
        "audio.mp4": "sound but no picture",
        "none.mkv": "",
        "large.mkv": "16384x16",
        "fast.mp4": "10000 frames a second",
        "nul\0.mp4": "null",
    }


def test_unusable_files_are_refused_with_a_reason(tmp_path):
    for name, word in bad_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            open_video(tmp_path / name)
        assert word in str(caught.value) and name in str(caught.value), name


NAMES = ["-rf.mp4", "a b.mp4", "two\nlines.mp4", "gr\u00fc\u00dfe \U0001f57a.mp4", "a:b.mp4", "%03d.mp4"]


@pytest.mark.parametrize("name", [*NAMES, "[x]'y\".mp4", os.fsdecode(b"latin\xe9.mp4"), "x" * 251 + ".mp4"])
def test_odd_names(clip, tmp_path, monkeypatch, name):
    shutil.copy(clip, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert indices_of(open_video(name), stride=13) == [0, 13, 26, 39]


# Sampling


PUBLISHED = [(15, 2), (Fraction(24000, 1001), 1.25), (24, 1.25), (25, 1.2), (Fraction(30000, 1001), 1.001)]
PUBLISHED += [(30, 1), (47.9, 0.626), (48, 1.25), (50, 1.2), (60, 1), (120, 1.25)]


@pytest.mark.parametrize(("fps", "speed"), PUBLISHED)
def test_published_sampling(fps, speed):
    """Stride 2 shown at 15 frames a second, as published."""
    assert playback_speed(fps, effective_stride(fps, 2), 15) == pytest.approx(speed, abs=2e-3)


def test_stride_values():
    rates = (1, 23.976, 24, 47.99, 48, 60, 72, 120)
    assert [effective_stride(fps, 2) for fps in rates] == [2, 2, 2, 2, 4, 4, 6, 10]
    with pytest.raises(UsageError, match="sample_stride"):
        effective_stride(30, 0)


@pytest.mark.parametrize("kind", ["file", "uneven", "folder"])
def test_single_frames_are_those_of_the_whole_video(tmp_path, kind):
    if kind == "folder":
        for number in range(20):
            PIL.Image.fromarray(numbered_frame(number)).save(tmp_path / f"{number:03d}.png")
        video = open_video(tmp_path)
    else:
        video = open_video(make_clip(tmp_path / "a.mp4", 20))
        if kind == "uneven":
            info = replace(video.info, times=tuple(place / 25 + (place % 3) / 200 for place in range(video.num_frames)))
            video = open_video(tmp_path / "a.mp4", info=info)
    whole = dict(video.frames())
    wanted = [0, 3, 4, video.num_frames - 1]
    assert all(np.array_equal(frame, whole[i]) for i, frame in zip(wanted, video.read(wanted), strict=True))


def test_frames_that_are_kept_are_not_read_again(tmp_path, monkeypatch):
    plain = open_video(make_clip(tmp_path / "a.mp4", 20))
    video = plain.remembering([0, 6, 18], 2**30)
    pairs = zip(video.frames(2), plain.frames(2), strict=True)
    assert [np.array_equal(one, other) for (_, one), (_, other) in pairs] == [True] * 10
    monkeypatch.setattr(process, "started", lambda *_: pytest.fail("it was read again"))
    for _ in range(2):
        kept = list(video.read([0, 6]))
        assert [read_index(frame) for frame in kept] == [0, 6]
        kept[0][:] = 0  # the receiver's own
    with pytest.raises(pytest.fail.Exception):
        list(video.read([0, 2]))
    assert plain.remembering([0, 6], 1000) is plain
