import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mimicmotion.dwpose as dwpose
from mimicmotion.dwpose.keypoints import (
    CONFIDENT,
    arrays_from_pose,
    empty_pose,
    load_poses,
    make_bodies,
    num_people,
    pose_from_arrays,
    save_poses,
    select_person,
)
from mimicmotion.errors import InputError


def random_pose(rng, people):
    def points(*shape):
        return rng.normal(0.5, 1, (people, *shape, 2)).astype(np.float32)

    def scores(*shape):
        return rng.uniform(0, 1.2, (people, *shape)).astype(np.float32)

    return pose_from_arrays(points(18), scores(18), points(2, 21), scores(2, 21), points(68), scores(68))


def assert_same_pose(a, b):
    for name in ("hands", "hands_score", "faces", "faces_score"):
        np.testing.assert_array_equal(a[name], b[name])
    for name in ("candidate", "subset", "score"):
        np.testing.assert_array_equal(a["bodies"][name], b["bodies"][name])


def save(path, poses, **changes):
    settings = {
        "frame_indices": [3 * i for i in range(len(poses))],
        "fps": 29.97,
        "height": 480,
        "width": 520,
        "source": "clip é.mp4",
        "detector": "dwpose",
        "fingerprint": "abc",
    }
    save_poses(path, poses, **settings | changes)


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "clip.npz"
    save(path, [random_pose(rng, people) for people in (1, 0, 3)])
    return path


def change(path, **fields):
    """Rewrites some arrays of the file; None removes one."""
    with np.load(path) as archive:
        content = dict(archive) | fields
    np.savez(path, **{name: value for name, value in content.items() if value is not None})


def test_layout_of_people():
    """Left hands of all people come first, and the subset counts through."""
    rng = np.random.default_rng(0)
    pose = random_pose(rng, 2)
    arrays = arrays_from_pose(pose)
    assert pose["bodies"]["candidate"].shape == (36, 2)
    np.testing.assert_array_equal(pose["hands"][1], arrays["hands"][1, 0])
    np.testing.assert_array_equal(pose["hands"][2], arrays["hands"][0, 1])
    seen = arrays["body_score"][1] > CONFIDENT
    np.testing.assert_array_equal(pose["bodies"]["subset"][1], np.where(seen, np.arange(18, 36), -1))


@settings(deadline=None)
@given(people=st.integers(0, 4), seed=st.integers(0, 1000))
def test_arrays_and_pose_are_inverse(people, seed):
    pose = random_pose(np.random.default_rng(seed), people)
    assert num_people(pose) == people
    assert_same_pose(pose, pose_from_arrays(**arrays_from_pose(pose)))


def test_select_person_renumbers():
    pose = random_pose(np.random.default_rng(1), 3)
    second = select_person(pose, 1)
    assert num_people(second) == 1
    np.testing.assert_array_equal(second["bodies"]["candidate"], pose["bodies"]["candidate"][18:36])
    np.testing.assert_array_equal(second["hands"], pose["hands"][[1, 4]])
    assert set(second["bodies"]["subset"].flatten()) <= {-1, *range(18)}


def test_a_score_of_exactly_the_threshold_is_unseen():
    assert (make_bodies(np.zeros((18, 2)), np.full((1, 18), CONFIDENT))["subset"] == -1).all()


def test_file_returns_what_was_saved(tmp_path):
    rng = np.random.default_rng(0)
    poses = [random_pose(rng, people) for people in (1, 0, 3, 1)]
    save(tmp_path / "clip.npz", poses)
    read = load_poses(tmp_path / "clip.npz")
    for a, b in zip(poses, read.poses, strict=True):
        assert_same_pose(a, b)
    assert read.frame_indices == [0, 3, 6, 9]
    assert (read.fps, read.height, read.width) == (29.97, 480, 520)
    assert (read.source, read.detector, read.fingerprint) == ("clip é.mp4", "dwpose", "abc")


def test_empty_frames_and_still_images(tmp_path):
    save(tmp_path / "a.pose.npz", [empty_pose()], fps=0)
    assert num_people(load_poses(tmp_path / "a.pose.npz").poses[0]) == 0


def test_equal_poses_give_equal_bytes(tmp_path):
    pose = random_pose(np.random.default_rng(0), 1)
    for name in ("a.npz", "b.npz"):
        save(tmp_path / name, [pose])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_file_is_plain_npz_with_documented_fields(saved):
    with np.load(saved, allow_pickle=False) as archive:
        assert archive["hands"].shape == (3, 3, 2, 21, 2)
        assert archive["body"].dtype == np.float32
        assert archive["num_people"].tolist() == [1, 0, 3]
        assert (archive["body"][1] == 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", np.int64(2)),
        ("version", None),
        ("body", None),
        ("body", np.zeros((3, 3, 17, 2), np.float32)),
        ("body", np.zeros((3, 3, 18, 2), np.float64)),
        ("body", np.zeros((0, 3, 18, 2), np.float32)),
        ("body", np.full((3, 3, 18, 2), np.nan, np.float32)),
        ("hands", np.full((3, 3, 2, 21, 2), 1e9, np.float32)),
        ("faces", np.zeros((2, 3, 68, 2), np.float32)),
        ("faces_score", np.full((3, 3, 68), np.inf, np.float32)),
        ("num_people", np.array([1, 0, 4])),
        ("num_people", np.array([1, 0])),
        ("num_people", np.array([-1, 0, 1])),
        ("frame_indices", np.array([0, 2, 2])),
        ("frame_indices", np.array([-1, 2, 3])),
        ("frame_indices", np.array([0.0, 1.0, 2.0])),
        ("fps", np.float64("nan")),
        ("fps", np.float64(-1)),
        ("height", np.int64(0)),
        ("width", np.array([520])),
        ("source", np.array(["a", "b"])),
        ("detector", np.int64(1)),
        ("body", np.array([{"a": 1}], dtype=object)),
    ],
)
def test_a_bad_field_is_named(saved, field, value):
    change(saved, **{field: value})
    with pytest.raises(InputError, match=rf"clip\.npz.*'{field}'"):
        load_poses(saved)


def test_sizes_are_judged_before_memory_is_asked_for(saved):
    """A header may claim terabytes; nothing of that size may be allocated."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 300, 18, 2), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["body.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match=r"'body'.*too large"):
        load_poses(saved)


def test_damaged_files(tmp_path, saved):
    data = saved.read_bytes()
    with pytest.raises(InputError, match="does not exist"):
        load_poses(tmp_path / "absent.npz")
    for position, content in enumerate([b"", b"hello", data[: len(data) // 2], data[:2000] + data[2100:]]):
        path = tmp_path / f"{position}.npz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=path.name):
            load_poses(path)


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(tmp_path_factory, position, value):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    save(path, [random_pose(np.random.default_rng(0), 1)])
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] = value
    path.write_bytes(data)
    try:
        load_poses(path)
    except InputError as error:
        assert "a.npz" in str(error)


def test_an_encrypted_file_is_refused(saved):
    content = bytearray(saved.read_bytes())
    # Bit 0 of the flags, in the local headers and in the directory.
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(signature, place + 4)
    saved.write_bytes(bytes(content))
    with pytest.raises(InputError, match="encrypted"):
        load_poses(saved)


@pytest.mark.parametrize(
    "changes", [{"frame_indices": [0]}, {"fps": float("nan")}, {"height": 0}, {"frame_indices": [2, 1]}]
)
def test_what_could_not_be_read_is_not_written(tmp_path, changes):
    with pytest.raises(InputError):
        save(tmp_path / "a.npz", [empty_pose(), empty_pose()], **changes)
    assert list(tmp_path.iterdir()) == []


def test_non_finite_keypoints_are_not_written(tmp_path):
    pose = random_pose(np.random.default_rng(0), 1)
    pose["faces"][0, 5, 1] = np.nan
    with pytest.raises(InputError, match=r"'faces' holds nan at \(0, 0, 5, 1\)"):
        save(tmp_path / "a.npz", [pose])


def test_the_package_exports_lazily():
    assert all(hasattr(dwpose, name) for name in dwpose.__all__)
    with pytest.raises(AttributeError):
        dwpose.no_such_name  # noqa: B018
    code = "import sys, mimicmotion.dwpose; assert not {'cv2', 'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
