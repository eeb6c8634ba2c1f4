"""Laws of reading: the frames that are there, each once and in order, or an error that says what is wrong."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimicmotion.errors import InputError, UsageError
from mimicmotion.video import source as video
from mimicmotion.video.source import effective_stride, find_videos, open_video, playback_speed
from tests.conftest import HANG_SECONDS
from tests.video.clips import HEIGHT, WIDTH, cut_file, make_clip, numbered_frame, read_index, run_ffmpeg


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def without_decord(monkeypatch):
    monkeypatch.setattr(video, "_decord_suits", lambda path, info: False)


@pytest.fixture(params=["decord", "ffmpeg"])
def reader(request, monkeypatch):
    """Runs a test once as it is, with decord first, and once with ffmpeg alone."""
    if request.param == "ffmpeg":
        monkeypatch.setattr(video, "_decord_suits", lambda path, info: False)


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
    drawn = indices_of(open_video(clip), stride=stride, start=start, max_frames=limit)
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
    source = open_video(make_clip(tmp_path / "clip.mp4", coding=coding, size=size))
    monkeypatch.setattr(video, "_ffmpeg_command", None)
    by_decord = [frame for _, frame in source.frames()]
    monkeypatch.undo()
    monkeypatch.setattr(video, "_decord_suits", lambda path, info: False)
    by_ffmpeg = [frame for _, frame in source.frames()]
    assert np.array_equal(by_decord, by_ffmpeg)


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


def end_stalls_of(worker: Path, monkeypatch):
    """Counts a stall of `worker` from when it came to its trouble: a slow start on a busy machine is none."""

    class Watchdog(threading.Timer):
        def run(self):
            if str(worker) in map(str, self.function.__self__.args):
                self.interval = 0.2
                while not worker.with_name("came to it").exists() and not self.finished.wait(0.02):
                    pass
            super().run()

    monkeypatch.setattr(video, "STALL_SECONDS", HANG_SECONDS)
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
def test_ffmpeg_goes_on_where_decord_breaks(clip, tmp_path, monkeypatch, trouble):
    worker = fake_worker(tmp_path, *BROKEN_READERS[trouble])
    monkeypatch.setattr(video, "DECORD_WORKER", worker)
    monkeypatch.setattr(video, "_decord_suits", lambda path, info: True)
    end_stalls_of(worker, monkeypatch)
    assert indices_of(open_video(clip), stride=2, start=3) == list(range(3, 40, 2))
    assert (tmp_path / "came to it").exists() and not (tmp_path / "came out of it").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux only")
def test_decord_ends_when_it_grows(clip, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    source = video.DECORD_WORKER.read_text()
    assert "MAX_MEMORY = 512 << 20" in source
    worker.write_text(source.replace("MAX_MEMORY = 512 << 20", "MAX_MEMORY = 1 << 20"))
    command = [sys.executable, str(worker), str(clip), "0", "40", "1", "40", str(HEIGHT), str(WIDTH)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1 and b"decord holds" in done.stderr
    monkeypatch.setattr(video, "DECORD_WORKER", worker)
    assert indices_of(open_video(clip)) == list(range(40))


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


def test_file_that_stops_decoding_while_it_is_read(clip, without_decord):
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
    monkeypatch.setattr(video, "_decord_suits", lambda path, info: True)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    frames = open_video(clip).frames()
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
    source = open_video(cut)
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


def test_variable_frame_rate_gives_no_duplicates(tmp_path, reader):
    whole = make_clip(tmp_path / "whole.mp4", count=60)
    chosen = "select=lt(n\\,30)+not(mod(n\\,3))"
    run_ffmpeg("-i", whole, "-vf", chosen, "-fps_mode", "vfr", tmp_path / "vfr.mp4")
    expected = [*range(30), *range(30, 60, 3)]
    source = open_video(tmp_path / "vfr.mp4")
    assert [read_index(frame) for _, frame in source.frames()] == expected
    assert source.num_frames == 40 and 20 < source.fps < 24


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(clip, tmp_path, reader, degrees):
    run_ffmpeg("-display_rotation", str(degrees), "-i", clip, "-c", "copy", tmp_path / "turned.mp4")
    source = open_video(tmp_path / "turned.mp4")
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
    assert find_videos(tmp_path) == [tmp_path / name]


# Folders of frames


def frame_folder(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(numbered_frame(index)).save(folder / name)
    return folder


def test_frame_folder_in_numeric_order(tmp_path):
    folder = frame_folder(tmp_path / "frames", ["f2.png", "f9.JPG", "f010.png", "f11.jpeg"])
    (folder / "notes.txt").write_text("7")
    Image.fromarray(numbered_frame(77)).save(folder / "cover.png")
    source = open_video(folder)
    assert indices_of(source) == [0, 1, 2, 3]
    assert (source.fps, source.num_frames, source.has_audio) == (30, 4, False)
    assert indices_of(source, stride=2, start=1) == [1, 3]
    assert open_video(folder, fps=12.5).duration == pytest.approx(4 / 12.5)


def test_frame_folder_honours_exif_rotation(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    exif = Image.Exif()
    exif[video.EXIF_ORIENTATION] = 6
    sideways = np.rot90(numbered_frame(5)).copy()
    Image.fromarray(sideways).save(folder / "1.jpg", exif=exif, quality=95)
    source = open_video(folder)
    assert (source.height, source.width) == (HEIGHT, WIDTH)
    assert read_index(next(source.frames())[1]) == 5


def test_bad_frame_folders(tmp_path):
    with pytest.raises(InputError, match="no numbered frames"):
        open_video(frame_folder(tmp_path / "unnumbered", ["a.png"]))
    with pytest.raises(InputError, match="both frame 1"):
        open_video(frame_folder(tmp_path / "twice", ["1.png", "01.jpg"]))
    sizes = frame_folder(tmp_path / "sizes", ["1.png", "2.png"])
    Image.new("RGB", (10, 10)).save(sizes / "2.png")
    with pytest.raises(InputError, match=r"2\.png has another size"):
        open_video(sizes)
    (sizes / "2.png").write_text("no image")
    with pytest.raises(InputError, match=r"2\.png cannot be read"):
        open_video(sizes)
    (sizes / "2.png").unlink()
    os.mkfifo(sizes / "2.png")
    with pytest.raises(InputError, match=r"2\.png is not a regular file"):
        open_video(sizes)


def test_damaged_frame_is_named(tmp_path):
    folder = frame_folder(tmp_path / "frames", ["1.png", "2.png"])
    cut_file(folder / "2.png", folder / "2.png", 0.5)
    with pytest.raises(InputError, match=r"2\.png cannot be read"):
        list(open_video(folder).frames())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e6, "fast", None])
def test_bad_frame_rate_for_a_folder(tmp_path, fps):
    with pytest.raises(UsageError, match="frames per second"):
        open_video(frame_folder(tmp_path / "frames", ["1.png"]), fps=fps)


# Folders of videos


def test_find_videos_sorted_in_any_case(tmp_path):
    for name in ["b.MP4", "a.mov", ".hidden.mp4", "notes.txt", "c.WebM"]:
        (tmp_path / name).touch()
    frame_folder(tmp_path / "frames.v1", ["001.png"])
    (tmp_path / "results").mkdir()
    (tmp_path / "named.mp4").mkdir()
    found = find_videos(tmp_path)
    assert [path.name for path in found] == ["a.mov", "b.MP4", "c.WebM", "frames.v1", "named.mp4"]
    assert [video.video_stem(path) for path in found] == ["a", "b", "c", "frames.v1", "named.mp4"]


def test_find_videos_by_name(tmp_path):
    for name in ["a.mp4", "b.mp4", "c.mkv"]:
        (tmp_path / name).touch()
    assert [path.name for path in find_videos(tmp_path, ["c", "a.mp4", "c.mkv"])] == ["a.mp4", "c.mkv"]
    with pytest.raises(UsageError, match=r"no video called d\.mp4.*a\.mp4, b\.mp4, c\.mkv"):
        find_videos(tmp_path, ["a", "d.mp4"])


def test_folders_without_videos(tmp_path):
    with pytest.raises(UsageError, match="no video in"):
        find_videos(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        find_videos(tmp_path / "nowhere")


@pytest.mark.parametrize("twin", ["x.mov", "X.mkv"])
def test_equal_stems_are_refused_unless_one_is_chosen(tmp_path, twin):
    (tmp_path / "x.mp4").touch()
    (tmp_path / twin).touch()
    with pytest.raises(UsageError, match="would write the same result"):
        find_videos(tmp_path)
    assert find_videos(tmp_path, [twin]) == [tmp_path / twin]


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
