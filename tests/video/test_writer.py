"""Laws of writing: what was written is read again, equal frames give equal files, failures leave nothing."""

import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mimicmotion.errors import InputError, MimicMotionError, SetupError, UsageError
from mimicmotion.video import process
from mimicmotion.video import writer as video_writer
from mimicmotion.video.ffmpeg import ffmpeg_exe
from mimicmotion.video.probe import probe_video
from mimicmotion.video.source import open_video
from mimicmotion.video.writer import VideoWriter
from tests.conftest import HANG_SECONDS
from tests.video.clips import HEIGHT, WIDTH, cut_file, make_clip, numbered_frame, read_index, run_ffmpeg

FRAMES = np.stack([numbered_frame(index) for index in range(30)])


def write(path: Path, frames: np.ndarray = FRAMES, fps: Fraction | float = 15, **options) -> Path:
    with VideoWriter(path, fps, preset="veryfast", **options) as writer:
        writer.write(frames)
    return path


def log_of(path: Path) -> str:
    return subprocess.run([ffmpeg_exe(), "-i", path], capture_output=True, check=False).stderr.decode()


def test_written_frames_come_back(tmp_path):
    path = tmp_path / "new folder" / "out.mp4"
    with VideoWriter(path, 15) as writer:
        writer.write(FRAMES[:10])
        writer.write(FRAMES[10])
        writer.write(FRAMES[11:11])
        writer.write(FRAMES[11:])
    assert writer.frames_written == 30
    source = open_video(path)
    assert [read_index(frame) for _, frame in source.frames()] == list(range(30))
    assert (source.fps, source.has_audio, source.duration) == (15, False, 2.0)
    info = probe_video(path)
    assert (info.codec, info.pix_fmt, info.num_frames) == ("h264", "yuv420p", 30)
    assert (info.height, info.width) == (HEIGHT, WIDTH)
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    assert [file.name for file in path.parent.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30), 12.5, 23.976])
def test_frame_rate_is_kept(tmp_path, fps):
    assert float(probe_video(write(tmp_path / "out.mp4", fps=fps)).fps) == pytest.approx(float(fps), abs=2e-3)


@pytest.mark.parametrize("sound", [False, True])
def test_fraction_is_kept_exactly(tmp_path, clip_with_sound, sound):
    audio_from = clip_with_sound if sound else None
    path = write(tmp_path / "out.mp4", fps=Fraction(24000, 1001), audio_from=audio_from)
    assert probe_video(path).fps == Fraction(24000, 1001)


def test_colours_come_back_and_are_tagged(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40), (9, 9, 9)]
    solid = np.array(colours, np.uint8)[:, None, None].repeat(64, 1).repeat(64, 2)
    path = write(tmp_path / "out.mp4", solid, crf=1)
    for (_, frame), colour in zip(open_video(path).frames(), colours, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 3, colour
    assert "yuv420p(tv, bt709" in log_of(path)


def test_odd_sizes_repeat_the_last_row_and_column(tmp_path):
    odd = np.full((3, 63, 95, 3), 40, np.uint8)
    odd[:, -1], odd[:, :, -1] = 220, 220
    source = open_video(write(tmp_path / "out.mp4", odd, crf=1))
    assert (source.height, source.width) == (64, 96)
    _, frame = next(source.frames())
    assert frame[-1].min() > 180 and frame[:, -1].min() > 180 and frame[30, 40].max() < 60


def test_one_pixel(tmp_path):
    source = open_video(write(tmp_path / "out.mp4", np.full((2, 1, 1, 3), 200, np.uint8)))
    assert (source.num_frames, source.height, source.width) == (2, 2, 2)


def test_equal_frames_give_equal_bytes(tmp_path, clip_with_sound):
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 64, 3), dtype=np.uint8)
    first = write(tmp_path / "a.mp4", noise, audio_from=clip_with_sound).read_bytes()
    time.sleep(1.1)
    with VideoWriter(tmp_path / "b.mp4", 15, preset="veryfast", audio_from=clip_with_sound) as writer:
        for frame in noise:
            writer.write(frame)
    assert first == (tmp_path / "b.mp4").read_bytes()
    assert not re.search(rb"Lav[cf]\d", first)
    noise[20] = 0
    assert first != write(tmp_path / "c.mp4", noise, audio_from=clip_with_sound).read_bytes()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the number of cores cannot be limited here")
def test_number_of_cores_changes_no_byte(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    cores = os.sched_getaffinity(0)
    all_cores = write(tmp_path / "all.mp4", noise).read_bytes()
    os.sched_setaffinity(0, {min(cores)})
    try:
        one_core = write(tmp_path / "one.mp4", noise).read_bytes()
    finally:
        os.sched_setaffinity(0, cores)
    assert all_cores == one_core


def test_lower_crf_is_closer(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), dtype=np.uint8).repeat(3, 3)

    def error(crf: int) -> float:
        _, frame = next(open_video(write(tmp_path / f"{crf}.mp4", noise, crf=crf)).frames())
        return np.abs(frame.astype(int) - noise[0]).mean()

    assert error(1) < 3 < error(45)


def test_metadata_is_stored(tmp_path):
    path = write(tmp_path / "out.mp4", metadata={"comment": "run 3f;=x"})
    assert "comment         : run 3f;=x" in log_of(path)


# Sound


@pytest.fixture(scope="module")
def clip_with_sound(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("sound") / "clip.mp4", sound=1.4)


@pytest.mark.parametrize("seconds", [0.3, 2, 20])
def test_sound_never_changes_the_frames(tmp_path, seconds):
    """Sound shorter, equal and longer than 2 s of frames."""
    with_sound = make_clip(tmp_path / "clip.mp4", sound=seconds)
    source = open_video(write(tmp_path / "new" / "out.mp4", audio_from=with_sound))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["out.mp4"]
    assert source.has_audio
    assert source.duration == pytest.approx(2, abs=0.03)
    assert [read_index(frame) for _, frame in source.frames()] == list(range(30))


def beep_heard_at(path: Path) -> float:
    """When the sound of a file first is loud, in seconds after its first sample."""
    raw = ["-map", "0:a:0", "-f", "s16le", "-ac", "1", "-ar", "8000", "-"]
    command = [ffmpeg_exe(), "-loglevel", "error", "-i", path, *raw]
    samples = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16)
    return np.flatnonzero(np.abs(samples.astype(int)) > 2000)[0] / 8000


@pytest.mark.parametrize(("picture", "sound"), [(0, 0), (0.4, 0), (0, 0.3), (1.2, 1)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_starts_where_it_started_against_the_picture(tmp_path, picture, sound, suffix):
    """A beep begins 1 s into the sound."""
    clip = make_clip(tmp_path / "clip.mp4")
    beep = "aevalsrc='gt(t,1)*sin(2800*t)':s=44100:d=2"
    shifted = ["-itsoffset", str(picture), "-i", clip, "-itsoffset", str(sound), "-f", "lavfi", "-i", beep]
    run_ffmpeg(*shifted, "-c:v", "copy", "-c:a", "aac", tmp_path / f"shifted{suffix}")
    result = write(tmp_path / "out.mp4", audio_from=tmp_path / f"shifted{suffix}")
    assert beep_heard_at(result) == pytest.approx(1 + sound - picture, abs=0.025)
    assert probe_video(result).audio_offset == pytest.approx(0, abs=2e-3)


def test_video_without_sound_gives_none(tmp_path):
    silent = make_clip(tmp_path / "silent.mp4")
    assert not probe_video(write(tmp_path / "out.mp4", audio_from=silent)).has_audio
    assert not probe_video(write(tmp_path / "folder.mp4", audio_from=tmp_path)).has_audio


def test_missing_or_bad_source_of_sound(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        VideoWriter(tmp_path / "out.mp4", 15, audio_from=tmp_path / "nowhere.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4 cannot be read"):
        VideoWriter(tmp_path / "out.mp4", 15, audio_from=tmp_path / "text.mp4")


# Failures


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
@pytest.mark.parametrize("existing", [None, b"an older result"])
@pytest.mark.parametrize("sound", [False, True])
def test_error_in_the_block_leaves_what_was_there(tmp_path, clip_with_sound, error, existing, sound):
    path = tmp_path / "out.mp4"
    if existing:
        path.write_bytes(existing)
    with pytest.raises(error), VideoWriter(path, 15, audio_from=clip_with_sound if sound else None) as writer:
        writer.write(FRAMES)
        raise error
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([existing] if existing else [])
    assert writer._ffmpeg.poll() is not None


def test_no_frames_is_an_error(tmp_path):
    with pytest.raises(MimicMotionError, match=r"no frame was written to .*out\.mp4"):
        write(tmp_path / "out.mp4", FRAMES[:0])
    assert list(tmp_path.iterdir()) == []


BAD_FRAMES = [
    FRAMES.astype(np.float32),
    FRAMES[..., :2],
    FRAMES[0, ..., 0],
    np.zeros((1, 0, 8, 3), np.uint8),
    np.zeros((1, HEIGHT, WIDTH + 2, 3), np.uint8),
]


@pytest.mark.parametrize("frames", BAD_FRAMES)
def test_wrong_frames_are_refused(tmp_path, frames):
    with pytest.raises(ValueError), VideoWriter(tmp_path / "out.mp4", 15) as writer:
        writer.write(FRAMES[:2])
        writer.write(frames)
    assert list(tmp_path.iterdir()) == []


BAD_OPTIONS = [{"fps": fps} for fps in (0, -1, float("nan"), float("inf"), 10_000, None)]
BAD_OPTIONS += [{"crf": -1}, {"crf": 52}, {"preset": "fastest"}]


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_wrong_options_are_refused_at_once(tmp_path, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        VideoWriter(tmp_path / "out.mp4", **({"fps": 15} | options))


def test_other_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"written as \.mp4"):
        VideoWriter(tmp_path / "out.gif", 15)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a disk needs root")
def test_full_disk(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (60, 128, 128, 3), dtype=np.uint8)
        with pytest.raises(SetupError, match=r"out\.mp4.*No space left"):
            write(tmp_path / "out.mp4", noise, crf=1)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


FAILING_ENCODERS = {
    "exit 0": (MimicMotionError, "stopped taking frames"),
    "echo '[mp4] Unknown encoder x' >&2; exit 8": (MimicMotionError, "Unknown encoder x"),
    "cat > /dev/null; echo broken >&2; exit 1": (MimicMotionError, "broken"),
    "echo 'write_frame(): No space left on device' >&2; exit 228": (SetupError, "No space left"),
    "cat > /dev/null; echo 'out.mp4: Permission denied' >&2; exit 243": (SetupError, "Permission denied"),
    "kill -SEGV $$": (MimicMotionError, "status -11"),
}


@pytest.mark.parametrize("script", FAILING_ENCODERS)
def test_failing_encoder_is_reported_in_its_words(tmp_path, monkeypatch, script):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text(f"#!/bin/sh\n{script}\n")
    encoder.chmod(0o755)
    monkeypatch.setattr(video_writer, "ffmpeg_exe", lambda: str(encoder))
    error, words = FAILING_ENCODERS[script]
    with pytest.raises(error, match=words) as caught:
        write(tmp_path / "out.mp4", np.zeros((20, 256, 256, 3), np.uint8))
    assert "out.mp4" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]


SILENT_ENCODERS = {"takes nothing": "sleep 1000", "never ends": "cat > /dev/null; sleep 1000"}


@pytest.mark.parametrize("script", SILENT_ENCODERS)
def test_an_encoder_that_falls_silent_is_ended(tmp_path, monkeypatch, script):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text(f"#!/bin/sh\n{SILENT_ENCODERS[script]}\n")
    encoder.chmod(0o755)
    monkeypatch.setattr(video_writer, "ffmpeg_exe", lambda: str(encoder))
    monkeypatch.setattr(process, "STALL_SECONDS", 0.5)
    with pytest.raises(MimicMotionError, match=r"out\.mp4.*no sign of life"):
        write(tmp_path / "out.mp4", np.zeros((20, 256, 256, 3), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]


KILLED = """
import sys
import numpy as np
from mimicmotion.video import VideoWriter
with VideoWriter(sys.argv[1], 15) as writer:
    for _ in range(100000):
        writer.write(np.zeros((8, 64, 64, 3), np.uint8))
        print("written", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_writer_leaves_nothing_under_the_name(tmp_path, number):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out.mp4")]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline() == b"written\n"
    process.send_signal(number)
    process.wait(timeout=HANG_SECONDS)
    process.stdout.close()
    assert not (tmp_path / "out.mp4").exists()
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


STOPPED = """
import signal, sys
import numpy as np
from mimicmotion.video import VideoWriter
stopped = []
signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
with VideoWriter(sys.argv[1], 15) as writer:
    while not stopped:
        writer.write(np.zeros((1, 64, 64, 3), np.uint8))
        print("written", flush=True)
print(writer.frames_written, flush=True)
"""


def test_interrupt_that_the_program_handles_lets_it_finish_the_file(tmp_path):
    """Ctrl-C reaches every process of the terminal's group; the encoder must not be one of them."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path / "out.mp4")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"written\n"
    os.killpg(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=HANG_SECONDS)[0]
    assert process.returncode == 0
    assert probe_video(tmp_path / "out.mp4").num_frames == int(printed.split()[-1])


def test_memory_is_flat_in_the_number_of_frames(tmp_path):
    frames = np.zeros((8, 128, 128, 3), np.uint8)
    tracemalloc.start()
    try:
        with VideoWriter(tmp_path / "out.mp4", 15, preset="ultrafast") as writer:
            for _ in range(125):
                writer.write(frames)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert writer.frames_written == probe_video(tmp_path / "out.mp4").num_frames == 1000
    assert peak < 1000 * frames[0].nbytes / 10


def test_cut_result_does_not_probe_well(tmp_path):
    whole = write(tmp_path / "out.mp4")
    with pytest.raises(InputError):
        probe_video(cut_file(whole, tmp_path / "cut.mp4", 0.7))
