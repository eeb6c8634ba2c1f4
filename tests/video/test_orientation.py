"""Law of orientation: every pixel is shown where the display matrix puts it."""

import itertools
import struct

import numpy as np
import pytest

from mimicmotion.errors import InputError
from mimicmotion.video.orientation import FILTERS, upright_filters
from mimicmotion.video.source import decord_suits, open_video
from tests.video.clips import make_clip, run_ffmpeg

ONE = 1 << 16


def as_matrix(a: float, b: float, c: float, d: float) -> bytes:
    return struct.pack("=9i", *(int(part * ONE) for part in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)


def shown_by(frame: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """`frame` with each pixel (x, y) moved to (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    y, x = np.indices(frame.shape[:2])
    new_x, new_y = a * x + c * y, b * x + d * y
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    shown = np.zeros((new_y.max() + 1, new_x.max() + 1, 3), np.uint8)
    shown[new_y, new_x] = frame
    return shown


@pytest.fixture(scope="module")
def lossless(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, count=2, coding=("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p"))


def matrix_of(path) -> tuple[int, ...]:
    import av

    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        data = [bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    numbers = struct.unpack("=9i", data[0])
    return tuple(round(numbers[place] / ONE) for place in (0, 1, 3, 4))


@pytest.mark.parametrize(("degrees", "mirrored"), itertools.product((0, 90, 180, 270), (False, True)))
def test_all_eight_orientations(lossless, tmp_path, degrees, mirrored):
    path = tmp_path / "turned.mp4"
    mirror = ["-display_hflip"] if mirrored else []
    run_ffmpeg("-display_rotation", str(degrees), *mirror, "-i", lossless, "-c", "copy", path)
    stored = [frame for _, frame in open_video(lossless).frames()]
    source = open_video(path)
    shown = [frame for _, frame in source.frames()]
    matrix = matrix_of(path) if degrees or mirrored else (1, 0, 0, 1)
    assert (source.height, source.width) == shown[0].shape[:2]
    assert np.array_equal(shown, [shown_by(frame, matrix) for frame in stored])
    assert decord_suits(path, source.info) is False or not (degrees or mirrored)


def test_another_angle_is_refused(lossless, tmp_path):
    path = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", "30", "-i", lossless, "-c", "copy", path)
    with pytest.raises(InputError, match="no quarter turn"):
        open_video(path)


def test_a_degree_is_forgiven_and_no_matrix_is_upright():
    for signs, filters in FILTERS.items():
        assert upright_filters(as_matrix(*(2 * sign + 0.01 for sign in signs))) == filters
    assert upright_filters(bytes(36)) == ()


@pytest.mark.parametrize("matrix", [(1, 0, 0, 2), (1, 1, 0, 1), (1, 0.1, -0.1, 1), (1, 0, 0, 0)])
def test_matrices_that_stretch_skew_or_flatten_are_refused(matrix):
    with pytest.raises(ValueError, match="no quarter turn"):
        upright_filters(as_matrix(*matrix))
