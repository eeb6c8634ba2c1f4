import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimicmotion.config import POSE_PARTS
from mimicmotion.dwpose.draw import draw_pose, draw_pose_plain
from mimicmotion.dwpose.keypoints import empty_pose, make_bodies, pose_from_arrays

EXACT_SIZES = [(576, 1024), (1024, 576), (128, 192), (192, 128), (64, 64)]
# Sizes whose canvas is no simple multiple: a shifted resize may round one level differently.
ODD_SIZES = [(333, 500), (448, 768), (97, 101), (100, 60)]


def random_pose(seed, people=1, spread=0.3, dtype=np.float64, middle=0.5):
    rng = np.random.default_rng(seed)

    def points(*shape):
        return rng.normal(middle, spread, (people, *shape, 2)).astype(dtype)

    def scores(*shape):
        return rng.uniform(-0.05, 1.2, (people, *shape)).astype(dtype)

    return pose_from_arrays(points(18), scores(18), points(2, 21), scores(2, 21), points(68), scores(68))


def level_differences(pose, size, **options):
    fast, plain = draw_pose(pose, *size, **options), draw_pose_plain(pose, *size, **options)
    assert fast.shape == plain.shape == (3, *size)
    assert fast.dtype == plain.dtype == np.uint8
    return np.abs(fast.astype(int) - plain)


@pytest.mark.parametrize("size", EXACT_SIZES)
@pytest.mark.parametrize(
    ("people", "spread", "dtype"), [(1, 0.05, np.float64), (1, 0.3, np.float32), (3, 0.4, np.float64)]
)
def test_equals_the_plain_way(size, people, spread, dtype):
    pose = random_pose(people, people, spread, dtype)
    assert draw_pose_plain(pose, *size).any()
    assert level_differences(pose, size).max() == 0


@pytest.mark.parametrize("size", ODD_SIZES)
def test_other_sizes_differ_by_one_level_at_most(size):
    for seed in range(3):
        difference = level_differences(random_pose(seed, spread=0.1), size)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    people=st.integers(0, 3),
    spread=st.sampled_from([0.01, 0.1, 1.0]),
    middle=st.floats(-0.2, 1.2),
    height=st.integers(16, 100),
    width=st.integers(16, 100),
    canvas=st.sampled_from([40, 64, 200, 333]),
)
def test_any_pose_size_and_canvas(seed, people, spread, middle, height, width, canvas):
    """Shapes across and beyond every border, canvases smaller and larger than the picture."""
    pose = random_pose(seed, people, spread, middle=middle)
    difference = level_differences(pose, (height, width), ref_w=canvas)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def single_joint(joint, x, y, score):
    pose = random_pose(0, people=1)
    scores = np.zeros((1, 18))
    scores[0, joint] = score
    points = np.zeros((18, 2))
    points[joint] = x, y
    quiet = {"hands": np.zeros((2, 21, 2)), "faces": np.zeros((1, 68, 2))}
    return pose | {"bodies": make_bodies(points, scores)} | quiet


def test_red_and_blue_are_exchanged_and_confidence_is_brightness():
    """Joint 0 is red in the table, so blue in the picture; a canvas of the picture's size is not resized."""
    picture = draw_pose(single_joint(0, 0.5, 0.25, score=0.8), 40, 40, ref_w=40)
    assert picture[:, 10, 20].tolist() == [0, 0, int(255 * 0.8)]
    assert np.count_nonzero(picture) == np.count_nonzero(picture[2])
    rows, columns = np.nonzero(picture[2])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 14, 16, 24)


def test_limbs_are_darkened_by_confidence_and_six_tenths():
    pose = single_joint(0, 0.5, 0.5, score=0.0)
    points, scores = pose["bodies"]["candidate"], pose["bodies"]["score"]
    points[1], points[2] = (0.8, 0.5), (0.2, 0.5)
    scores[0, 1:3] = 0.9
    picture = draw_pose(pose | {"bodies": make_bodies(points, scores)}, 100, 100, ref_w=100)
    assert picture[:, 50, 50].tolist() == [0, 0, int(int(255 * 0.81) * 0.6)]


def test_unseen_body_joints_are_not_drawn():
    assert not draw_pose(single_joint(0, 0.5, 0.5, score=0.3), 40, 40, ref_w=40).any()
    assert draw_pose(single_joint(0, 0.5, 0.5, score=0.31), 40, 40, ref_w=40).any()


def test_nobody_is_black():
    picture = draw_pose(empty_pose(), 64, 128)
    assert picture.shape == (3, 64, 128)
    assert not picture.any()
    assert not draw_pose_plain(empty_pose(), 64, 128).any()


def test_points_far_outside_are_survived():
    assert not draw_pose(single_joint(0, 1e12, -1e12, score=0.9), 64, 64).any()


WITHOUT = {
    "body": lambda pose: pose | {"bodies": make_bodies(pose["bodies"]["candidate"], np.zeros((1, 18)))},
    "hands": lambda pose: pose | {"hands": np.zeros((2, 21, 2))},
    "face": lambda pose: pose | {"faces": np.zeros((1, 68, 2))},
}


@pytest.mark.parametrize("parts", [["body"], ["hands"], ["face"], ["face", "body"], ["hands", "face"], []])
def test_parts_that_are_not_drawn_are_as_if_nobody_had_found_them(parts):
    pose = random_pose(1, spread=0.2)
    lacking = pose
    for part in set(POSE_PARTS) - set(parts):
        lacking = WITHOUT[part](lacking)
    picture = draw_pose(pose, 64, 96, parts=parts)
    assert np.array_equal(picture, draw_pose(lacking, 64, 96))
    assert picture.any() == bool(parts)
    assert level_differences(pose, (64, 96), parts=parts).max() == 0


def test_all_parts_in_any_order_are_the_whole_picture():
    pose = random_pose(2, spread=0.2)
    assert np.array_equal(draw_pose(pose, 64, 96, parts=POSE_PARTS[::-1]), draw_pose(pose, 64, 96))


def test_without_its_face_a_pose_has_no_white_point():
    """Only points of the face are grey; everything else has a colour."""
    pose = random_pose(3, spread=0.1)

    def grey(parts):
        low, high = (end(draw_pose(pose, 480, 480, 480, parts).astype(int), axis=0) for end in (np.min, np.max))
        return ((low == high) & (high > 0)).sum()

    assert grey(["body", "hands"]) == 0
    assert grey(POSE_PARTS) > 100
