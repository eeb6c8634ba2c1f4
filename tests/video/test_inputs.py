"""Laws of real inputs: what the file means is shown, or the reason why not."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimicmotion.config import VideoSettings
from mimicmotion.errors import InputError
from mimicmotion.feature_cache.cached_features import pack_info, unpack_info
from mimicmotion.video.probe import FEW_FRAMES, probe_video
from mimicmotion.video.source import decord_suits, effective_stride, open_video, playback_speed
from tests.video.clips import HEIGHT, WIDTH, make_clip, numbered_frame, read_index, run_ffmpeg

LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")


def drawn_indices(source, **selection) -> list[int]:
    return [read_index(frame) for _, frame in source.frames(**selection)]


def write_at(path: Path, milliseconds: list[int], codec: str = "libx264", claimed: int = 30) -> Path:
    """Numbered frames at given times; the container claims `claimed` frames a second, whatever the times are."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=claimed)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(numbered_frame(index), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# Times


def test_a_browsers_recording_is_taken_by_its_times(tmp_path):
    jitter = np.random.default_rng(0).integers(-9, 10, 80)
    times = [1000 * index // 30 + int(jitter[index]) + 20 for index in range(80)]
    source = open_video(write_at(tmp_path / "browser.webm", times, "libvpx", claimed=1000))
    assert 29.5 < source.fps < 30.5 and source.num_frames == 80
    assert drawn_indices(source, stride=effective_stride(source.fps, 2)) == list(range(0, 80, 2))


UNEVEN = [round(1000 * index / 30) for index in range(40)] + [1333 + round(1000 * index / 6) for index in range(1, 9)]


def test_uneven_times_give_the_same_in_every_container(tmp_path):
    mkv = write_at(tmp_path / "uneven.mkv", UNEVEN)
    run_ffmpeg("-i", mkv, "-c", "copy", tmp_path / "uneven.mp4")
    run_ffmpeg("-i", mkv, "-c", "copy", "-video_track_timescale", "90000", tmp_path / "uneven.mov")
    sources = [open_video(tmp_path / name) for name in ("uneven.mkv", "uneven.mp4", "uneven.mov")]
    stride = effective_stride(sources[0].fps, 2)
    drawn = [drawn_indices(source, stride=stride) for source in sources]
    assert drawn[0] == drawn[1] == drawn[2]
    assert {source.num_frames for source in sources} == {sources[0].num_frames}
    assert playback_speed(sources[0].fps, stride, 15) == 1
    for source in sources:
        assert "unevenly" in source.notes[0]
        assert not decord_suits(source.path, source.info)


def test_uneven_frames_are_the_nearest_ones(tmp_path):
    source = open_video(write_at(tmp_path / "uneven.mkv", UNEVEN))
    for index, drawn in enumerate(drawn_indices(source)):
        distance = [abs(time / 1000 - index / 30) for time in UNEVEN]
        assert distance[drawn] <= min(distance) + 0.004
    assert source.num_frames == pytest.approx(UNEVEN[-1] * 30 / 1000 * 48 / 47, abs=1)


def test_frames_that_come_twice_are_the_receivers_own(tmp_path):
    frames = [frame for _, frame in open_video(write_at(tmp_path / "uneven.mkv", UNEVEN)).frames(start=50)]
    assert read_index(frames[0]) == read_index(frames[1])
    assert not np.shares_memory(frames[0], frames[1])


def test_what_was_found_survives_the_feature_cache(tmp_path):
    info = probe_video(write_at(tmp_path / "uneven.mkv", UNEVEN))
    assert info.times is not None and unpack_info(pack_info(info)) == info


# Pixels


@pytest.mark.parametrize(("aspect", "size"), [("2/1", (HEIGHT, 2 * WIDTH)), ("1/2", (2 * HEIGHT, WIDTH))])
def test_pixels_become_square(tmp_path, aspect, size):
    plain = make_clip(tmp_path / "plain.mp4", count=3)
    run_ffmpeg("-i", plain, "-vf", f"setsar={aspect}", *LOSSLESS, tmp_path / "wide.mp4")
    source = open_video(tmp_path / "wide.mp4")
    frames = [frame for _, frame in source.frames()]
    assert (source.height, source.width) == size == frames[0].shape[:2]
    assert "made square" in source.notes[0] and not decord_suits(source.path, source.info)
    narrow = [np.asarray(Image.fromarray(frame).resize((WIDTH, HEIGHT))) for frame in frames]
    assert [read_index(frame) for frame in narrow] == [0, 1, 2]


def test_nearly_square_pixels_stay(tmp_path):
    run_ffmpeg("-i", make_clip(tmp_path / "plain.mp4", count=3), "-vf", "setsar=4045/4056", tmp_path / "near.mp4")
    assert (open_video(tmp_path / "near.mp4").width, open_video(tmp_path / "near.mp4").notes) == (WIDTH, ())


def test_pixels_become_square_before_the_picture_is_turned(tmp_path):
    plain = make_clip(tmp_path / "plain.mp4", count=2)
    run_ffmpeg("-i", plain, "-vf", "setsar=2/1", *LOSSLESS, tmp_path / "wide.mp4")
    run_ffmpeg("-display_rotation", "90", "-i", tmp_path / "wide.mp4", "-c", "copy", tmp_path / "turned.mp4")
    _, upright = next(open_video(tmp_path / "wide.mp4").frames())
    _, turned = next(open_video(tmp_path / "turned.mp4").frames())
    assert turned.shape == (2 * WIDTH, HEIGHT, 3)
    assert np.abs(np.rot90(turned, -1).astype(int) - upright).mean() < 2


def combing(frame: np.ndarray) -> float:
    """How much rows differ from the mean of both neighbours."""
    rows = frame.astype(float)
    return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()


def test_interlaced_frames_are_deinterlaced(tmp_path):
    picture = ["-f", "lavfi", "-i", "testsrc2=s=128x96:r=50:d=0.8", "-vf", "tinterlace=interleave_top"]
    coding = ["-c:v", "libx264", "-qp", "4", "-pix_fmt", "yuv420p"]
    run_ffmpeg(*picture, *coding, "-x264-params", "tff=1:interlaced=1", tmp_path / "interlaced.mp4")
    run_ffmpeg(*picture, *coding, "-bsf:v", "h264_metadata", tmp_path / "unmarked.mp4")
    source, unmarked = open_video(tmp_path / "interlaced.mp4"), open_video(tmp_path / "unmarked.mp4")
    assert "deinterlaced" in source.notes[0] and not decord_suits(source.path, source.info)
    assert source.num_frames == unmarked.num_frames == 20
    pairs = list(zip(source.frames(), unmarked.frames(), strict=True))
    assert all(combing(mended) < combing(combed) for (_, mended), (_, combed) in pairs[1:-1])
    # Every other frame is what it is in between all.
    alone = [frame for _, frame in source.frames(stride=3)]
    assert np.array_equal(alone, [frame for (_, frame), _ in pairs[::3]])


def red_in_bt2020(path: Path, transfer: str) -> Path:
    tags = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc:range=tv"
    filters = f"scale=out_color_matrix=bt2020nc,format=yuv420p10le,{tags}"
    run_ffmpeg("-f", "lavfi", "-i", "color=0xC04020:s=64x64:r=10:d=0.3", "-vf", filters, "-c:v", "ffv1", path)
    return path


def test_hdr_is_tone_mapped(tmp_path):
    """A saturated red, coded in the wide primaries of BT.2020, looks washed out unless it is mapped back."""
    plain = open_video(red_in_bt2020(tmp_path / "plain.mkv", "bt709"))
    source = open_video(red_in_bt2020(tmp_path / "hdr.mkv", "smpte2084"))
    assert source.notes == ("it is HDR (PQ): tone-mapped",) and not decord_suits(source.path, source.info)
    before = next(plain.frames())[1].astype(int).mean((0, 1))
    mapped = next(source.frames())[1].astype(int).mean((0, 1))
    assert mapped[0] - mapped[2] > before[0] - before[2]
    assert mapped[0] > mapped[1] > mapped[2]


def test_hlg_is_hdr_too(tmp_path):
    source = open_video(red_in_bt2020(tmp_path / "hdr.mkv", "arib-std-b67"))
    assert source.notes == ("it is HDR (HLG): tone-mapped",)


@pytest.mark.parametrize("name", ["clear.mov", "clear.apng", "clear.webp", "clear.gif"])
def test_white_shows_through_what_is_transparent(tmp_path, name):
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[..., 1] = 255  # green, hidden on the left
    picture[:, 16:, 3] = 255
    frames = [Image.fromarray(picture), Image.fromarray(np.roll(picture, 4, axis=1))]
    if name == "clear.mov":
        frames[0].save(tmp_path / "1.png")
        run_ffmpeg("-i", tmp_path / "1.png", "-c:v", "qtrle", "-pix_fmt", "argb", tmp_path / name)
    else:
        kind = "PNG" if name.endswith("apng") else None
        frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    _, frame = next(open_video(tmp_path / name).frames())
    assert (frame[:, :15] == 255).all()
    assert frame[16, 24, 1] > 200 > 60 > frame[16, 24, 0]


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_beside_the_pictures_of_webm_is_seen(tmp_path, codec):
    import av

    picture = np.zeros((32, 32, 4), np.uint8)
    picture[..., 1] = 255
    picture[:, 16:, 3] = 255
    with av.open(str(tmp_path / "clear.webm"), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuva420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = open_video(tmp_path / "clear.webm")
    frames = [frame for _, frame in source.frames()]
    assert len(frames) == 4 and source.notes == ()
    for frame in frames:
        assert (frame[:, :15] > 250).all()
        assert frame[16, 24, 1] > 200 > 60 > frame[16, 24, 0]


CONTAINERS = {
    "a.m4v": (),
    "b.ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "c.mts": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "mpegts"),
    "d.flv": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "e.wmv": ("-c:v", "wmv2", "-q:v", "2"),
    "f.3gp": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "g.mpg": ("-c:v", "mpeg2video", "-q:v", "2"),
    "h.gif": (),
    "i.webp": ("-c:v", "libwebp_anim", "-lossless", "1"),
    "j.apng": ("-f", "apng"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_other_containers(tmp_path, name):
    fps = {".gif": "10", ".webp": "10"}.get(Path(name).suffix, "30")
    coding = CONTAINERS[name] or (() if name.endswith("gif") else ("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    source = open_video(make_clip(tmp_path / name, count=20, fps=fps, coding=coding))
    assert (source.num_frames, source.fps, source.height, source.width) == (20, int(fps), HEIGHT, WIDTH)
    assert drawn_indices(source, stride=3) == list(range(0, 20, 3))


# Damage


@pytest.fixture(scope="module")
def index_first(tmp_path_factory) -> bytes:
    """An mp4 whose index comes before its data."""
    folder = tmp_path_factory.mktemp("clips")
    # A number of threads of its own gives another file, and not every damage can be seen by a decoder.
    coding = ["-vf", "noise=alls=20:allf=t:all_seed=1", "-c:v", "libx264", "-threads", "2", "-pix_fmt", "yuv420p"]
    make_clip(folder / "clip.mp4", count=80, coding=(*coding, "-g", "40", "-movflags", "+faststart"))
    return (folder / "clip.mp4").read_bytes()


def test_a_half_downloaded_file_is_refused_or_taken_as_asked(tmp_path, index_first):
    keep = len(index_first) * 6 // 10
    path = tmp_path / "half.mp4"
    path.write_bytes(index_first[:keep] + bytes(len(index_first) - keep))
    with pytest.raises(InputError, match=r"damaged.*\d+ frames can be read of about 80.*--accept_damaged"):
        open_video(path)
    source = open_video(path, settings=VideoSettings(accept_damaged=True))
    assert 5 < source.num_frames < 75 and source.info.promised_frames == 80
    drawn = drawn_indices(source)
    assert len(drawn) == source.num_frames and drawn[:20] == list(range(20))
    assert f"damaged: {source.num_frames} frames can be read of about 80" in source.notes[-1]
    assert not decord_suits(path, source.info)


def test_what_is_kept_of_a_damaged_file_is_refused_again_without_the_flag(tmp_path, index_first):
    path = tmp_path / "half.mp4"
    path.write_bytes(index_first[: len(index_first) // 2] + bytes(len(index_first) // 2))
    info = probe_video(path)
    assert not info.usable
    with pytest.raises(InputError, match="damaged"):
        open_video(path, info=info)


def test_one_error_in_a_frame_that_no_other_builds_on_is_a_warning(tmp_path, caplog):
    path = make_clip(
        tmp_path / "clip.avi", count=40, coding=("-c:v", "ffv1", "-level", "3", "-slicecrc", "1", "-g", "1")
    )
    data = bytearray(path.read_bytes())
    middle = data.index(b"00dc", len(data) // 2) + 40
    data[middle] ^= 0x55
    path.write_bytes(data)
    source = open_video(path)
    assert (source.num_frames, source.info.damaged_frames) == (40, 1) and FEW_FRAMES >= 1
    assert "is damaged: errors cover 1 of 40 frames" in caplog.text


def test_an_error_covers_all_frames_that_build_on_it(tmp_path, index_first):
    data = bytearray(index_first)
    start = data.index(b"mdat") + len(data) // 20
    data[start : start + 400] = bytes(range(256)) + bytes(144)
    (tmp_path / "hit.mp4").write_bytes(data)
    info = probe_video(tmp_path / "hit.mp4")
    assert info.whole and info.damaged_frames > FEW_FRAMES
    with pytest.raises(InputError, match=r"errors cover \d+ of \d+ frames"):
        open_video(tmp_path / "hit.mp4")


def test_the_same_damaged_file_gives_the_same_frames(tmp_path, index_first):
    path = tmp_path / "half.mp4"
    path.write_bytes(index_first[: len(index_first) // 2] + bytes(len(index_first) // 2))
    settings = VideoSettings(accept_damaged=True)
    first, second = ([frame for _, frame in open_video(path, settings=settings).frames()] for _ in range(2))
    assert np.array_equal(first, second)


def test_a_transport_stream_may_begin_and_end_anywhere(tmp_path):
    whole = make_clip(tmp_path / "clip.ts", count=80, coding=("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20"))
    data = whole.read_bytes()
    (tmp_path / "part.ts").write_bytes(data[len(data) // 3 : -len(data) // 6])
    drawn = drawn_indices(open_video(tmp_path / "part.ts"))
    # At the torn end the order of decoding leaves gaps of a few frames.
    assert len(drawn) > 20 and drawn[0] == 40 and set(np.diff(drawn)) <= {1, 2, 3}


# Limits


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_side": WIDTH - 1}, "video.max_side"),
        ({"max_pixels": HEIGHT * WIDTH - 1}, "video.max_pixels"),
        ({"max_frames": 39}, "video.max_frames"),
        ({"max_bytes": 40 * HEIGHT * WIDTH * 3 - 1}, "video.max_bytes"),
    ],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webp"])
def test_limits_are_settings(tmp_path, name, settings, words):
    coding = CONTAINERS["i.webp"] if name == "clip.webp" else ()
    path = make_clip(tmp_path / name, fps="25", coding=coding)
    with pytest.raises(InputError, match=words):
        open_video(path, settings=VideoSettings(**settings))
    exact = VideoSettings(max_side=WIDTH, max_pixels=HEIGHT * WIDTH, max_frames=40, max_bytes=40 * HEIGHT * WIDTH * 3)
    assert open_video(path, settings=exact).num_frames == 40


def test_a_picture_larger_than_its_header_says_is_refused(tmp_path):
    path = make_clip(tmp_path / "clip.mp4", size=(256, 256))
    data = bytearray(path.read_bytes())
    sizes = data.index(b"avc1", data.index(b"stsd")) + 28
    assert data[sizes : sizes + 4] == (256).to_bytes(2, "big") * 2
    data[sizes : sizes + 4] = (64).to_bytes(2, "big") * 2
    path.write_bytes(data)
    with pytest.raises(InputError):
        open_video(path, settings=VideoSettings(max_pixels=128 * 128))


def test_a_long_pause_counts_as_the_frames_that_it_lasts(tmp_path):
    path = write_at(tmp_path / "pause.mkv", [0, 33, 67, 100, 60_100])
    assert open_video(path).num_frames > 1800
    with pytest.raises(InputError, match=r"video\.max_frames"):
        open_video(path, settings=VideoSettings(max_frames=1000))


# Sound


def test_where_the_sound_starts_is_told(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", sound=1)
    later = ["-itsoffset", "0.4", "-i", clip, "-i", clip, "-map", "0:v", "-map", "1:a", "-c", "copy"]
    run_ffmpeg(*later, tmp_path / "later.mp4")
    assert probe_video(clip).audio_offset == pytest.approx(0, abs=2e-3)
    assert probe_video(tmp_path / "later.mp4").audio_offset == pytest.approx(-0.4, abs=2e-3)


@pytest.mark.parametrize("coding", [("libx264", "-bf", "3"), ("mpeg4", "-bf", "2", "-q:v", "2")])
@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4", "ts"])
def test_reordered_frames_are_even_in_every_container(tmp_path, coding, suffix):
    """AVI does not say when frames are shown, and what is made up for it follows the order of decoding."""
    clip = make_clip(tmp_path / f"clip.{suffix}", coding=("-c:v", *coding, "-pix_fmt", "yuv420p"), sound=1.3)
    source = open_video(clip)
    assert (source.fps, source.num_frames, source.info.times) == (30, 40, None)
    assert drawn_indices(source, stride=2) == list(range(0, 40, 2))
    assert abs(source.info.audio_offset) < 0.05
