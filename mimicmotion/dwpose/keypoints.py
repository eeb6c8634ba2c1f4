"""The pose dictionary: 18 body joints, two hands and a face for each person of one frame, and its file.

A pose with P people (P may be 0) is MimicMotion's dictionary of numpy arrays:

    bodies       candidate (18 * P, 2), subset (P, 18), score (P, 18)
    hands        (2 * P, 21, 2): the left hands of all people, then the right hands; hands_score (2 * P, 21)
    faces        (P, 68, 2); faces_score (P, 68)

Coordinates are x, y in 0..1 of the frame's width and height. `subset` is 18 * person + joint where the score
exceeds 0.3, else -1. Scores are raw detector values: about 0..1, they may exceed 1.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.files import atomic_path

CONFIDENT = 0.3  # MimicMotion's threshold: a joint with a higher score counts as seen
FORMAT_VERSION = 1
COORDINATE_LIMIT = 1000.0  # frame sizes; a point further away comes from a damaged file
SCORE_LIMIT = 1000.0
SIDE_LIMIT = 65536  # pixels
FPS_LIMIT = 10000.0
TEXT_LIMIT = 65536  # characters
BYTES_LIMIT = 1 << 30  # about 700 000 frames of one person

Pose = dict

POINT_FIELDS = {"body": (18, 2), "hands": (2, 21, 2), "faces": (68, 2)}  # shape of one person
SCORE_FIELDS = {"body_score": (18,), "hands_score": (2, 21), "faces_score": (68,)}
COUNT_FIELDS = ("num_people", "frame_indices")
NUMBER_FIELDS = {"version": "i", "fps": "f", "height": "i", "width": "i"}
TEXT_FIELDS = ("source", "detector", "fingerprint")


@dataclass(frozen=True)
class PoseFile:
    """What `load_poses` read. One pose for each entry of `frame_indices` (frame numbers of the source)."""

    poses: list[Pose]
    frame_indices: list[int]
    fps: float
    height: int
    width: int
    source: str
    detector: str
    fingerprint: str


def pose_from_arrays(
    body: np.ndarray,
    body_score: np.ndarray,
    hands: np.ndarray,
    hands_score: np.ndarray,
    faces: np.ndarray,
    faces_score: np.ndarray,
) -> Pose:
    """The pose dictionary from arrays with the person first.

    Shapes: body (P, 18, 2), body_score (P, 18), hands (P, 2, 21, 2) left then right, hands_score (P, 2, 21),
    faces (P, 68, 2), faces_score (P, 68).
    """
    return {
        "bodies": make_bodies(body.reshape(-1, 2), body_score),
        "hands": np.concatenate([hands[:, 0], hands[:, 1]]),
        "hands_score": np.concatenate([hands_score[:, 0], hands_score[:, 1]]),
        "faces": faces,
        "faces_score": faces_score,
    }


def arrays_from_pose(pose: Pose) -> dict[str, np.ndarray]:
    """The inverse of `pose_from_arrays`: its keyword arguments."""
    people = num_people(pose)
    return {
        "body": pose["bodies"]["candidate"].reshape(people, 18, 2),
        "body_score": pose["bodies"]["score"],
        "hands": np.stack([pose["hands"][:people], pose["hands"][people:]], axis=1),
        "hands_score": np.stack([pose["hands_score"][:people], pose["hands_score"][people:]], axis=1),
        "faces": pose["faces"],
        "faces_score": pose["faces_score"],
    }


def empty_pose() -> Pose:
    """The pose of a frame without a person; it is drawn black."""
    shapes = POINT_FIELDS | SCORE_FIELDS
    return pose_from_arrays(**{name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()})


def num_people(pose: Pose) -> int:
    """How many people the pose holds."""
    return len(pose["bodies"]["score"])


def select_person(pose: Pose, person: int) -> Pose:
    """A pose with one of the people only, renumbered as person 0."""
    return pose_from_arrays(**{name: array[[person]] for name, array in arrays_from_pose(pose).items()})


def make_bodies(candidate: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """The entry `bodies` from points (18 * P, 2) and scores (P, 18)."""
    index = np.arange(score.size).reshape(score.shape)
    subset = np.where(score > CONFIDENT, index, -1).astype(np.float64)
    return {"candidate": candidate, "subset": subset, "score": score}


def save_poses(
    path: str | Path,
    poses: Sequence[Pose],
    *,
    frame_indices: Sequence[int],
    fps: float,
    height: int,
    width: int,
    source: str,
    detector: str,
    fingerprint: str = "",
) -> None:
    """Writes the poses of a clip (or of one still image, fps 0) as the `.npz` that doc/pose.md describes.

    Frames with fewer people than the fullest are padded with zeros; `num_people` tells them apart. Equal
    arguments give equal bytes. height and width (pixels) are those of the frames the poses were detected in.

    Raises: InputError when the arguments would make a file that `load_poses` refuses, SetupError when the
    file cannot be written.
    """
    fields = stack_poses(poses)
    fields |= {
        "version": np.int64(FORMAT_VERSION),
        "frame_indices": np.asarray(frame_indices, np.int64),
        "fps": np.float64(fps),
        "height": np.int64(height),
        "width": np.int64(width),
        "source": np.str_(source),
        "detector": np.str_(detector),
        "fingerprint": np.str_(fingerprint),
    }
    fields = {name: np.asarray(value) for name, value in fields.items()}
    _check_values(path, fields)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, value in fields.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # ZipInfo's constant date keeps equal poses equal bytes
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, value, allow_pickle=False)


def load_poses(path: str | Path) -> PoseFile:
    """Reads what `save_poses` wrote. Nothing in the file is executed; sizes are checked before allocation.

    Raises: InputError, with the file and the field, when the file is missing, damaged, of another version,
    or holds a field of a wrong shape, type or range.
    """
    fields = _read_fields(path)
    _check_values(path, fields)
    return PoseFile(
        poses=unstack_poses(fields),
        frame_indices=fields["frame_indices"].tolist(),
        fps=float(fields["fps"]),
        height=int(fields["height"]),
        width=int(fields["width"]),
        **{name: str(fields[name]) for name in TEXT_FIELDS},
    )


def stack_poses(poses: Sequence[Pose]) -> dict[str, np.ndarray]:
    """Points and scores as float32 (F, P, ...), zero-padded to the fullest frame, and `num_people` (F,)."""
    people = np.array([num_people(pose) for pose in poses], np.int64)
    most = int(people.max(initial=0))
    shapes = POINT_FIELDS | SCORE_FIELDS
    fields = {name: np.zeros((len(poses), most, *shape), np.float32) for name, shape in shapes.items()}
    for frame, pose in enumerate(poses):
        for name, array in arrays_from_pose(pose).items():
            fields[name][frame, : people[frame]] = array
    return fields | {"num_people": people}


def unstack_poses(fields: dict[str, np.ndarray]) -> list[Pose]:
    """The inverse of `stack_poses`."""
    names = [*POINT_FIELDS, *SCORE_FIELDS]
    return [
        pose_from_arrays(**{name: fields[name][frame, :count].copy() for name in names})
        for frame, count in enumerate(fields["num_people"].tolist())
    ]


def _read_fields(path: str | Path) -> dict[str, np.ndarray]:
    """All fields of the file; each one's header is judged before its data is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            version = _read_field(archive, path, "version", BYTES_LIMIT)
            if version.tolist() != FORMAT_VERSION:
                raise _bad_field(path, "version", f"is {version}, this program reads {FORMAT_VERSION}")
            fields, budget = {"version": version}, BYTES_LIMIT
            for name in (*POINT_FIELDS, *SCORE_FIELDS, *COUNT_FIELDS, *NUMBER_FIELDS, *TEXT_FIELDS):
                fields[name] = _read_field(archive, path, name, budget)
                budget -= fields[name].nbytes
            return fields
    except FileNotFoundError:
        raise InputError(f"pose file {path} does not exist") from None
    # zipfile raises RuntimeErrors for encryption and for compressions that it does not know.
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError) as error:
        problem = f"is damaged or no .npz ({error}); extract the poses again"
        raise InputError(f"pose file {path} {problem}") from error


def _read_field(archive: zipfile.ZipFile, path: str | Path, name: str, budget: int) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as file:
            shape, dtype = _read_header(file)
            _check_type(path, name, shape, dtype)
            if np.prod(shape, dtype=object) * dtype.itemsize > budget:
                raise _bad_field(path, name, f"of shape {shape} is too large (limit {BYTES_LIMIT >> 20} MiB)")
        with archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except KeyError:
        raise _bad_field(path, name, "is missing") from None
    except (ValueError, EOFError, zipfile.zlib.error) as error:
        raise _bad_field(path, name, f"cannot be read ({error})") from error


def _read_header(file) -> tuple[tuple[int, ...], np.dtype]:
    major = np.lib.format.read_magic(file)[0]
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _check_type(path: str | Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises InputError unless number of dimensions and type are those of the field."""
    if name in TEXT_FIELDS:
        expected, good = "a text", shape == () and dtype.kind == "U" and dtype.itemsize <= 4 * TEXT_LIMIT
    elif name in NUMBER_FIELDS:
        expected, good = "one number", shape == () and dtype.kind == NUMBER_FIELDS[name]
    elif name in COUNT_FIELDS:
        expected, good = "int64 (frames,)", len(shape) == 1 and dtype == np.int64
    else:
        tail = (POINT_FIELDS | SCORE_FIELDS)[name]
        expected = f"float32 (frames, people, {', '.join(map(str, tail))})"
        good = dtype == np.float32 and len(shape) == 2 + len(tail) and shape[2:] == tail
    if not good:
        raise _bad_field(path, name, f"is {dtype} {shape}, expected {expected}")


def _check_values(path: str | Path, fields: dict[str, np.ndarray]) -> None:
    """Raises InputError unless the fields agree in size and every value is finite and in its range."""
    frames, most = fields["body"].shape[:2]
    if frames == 0:
        raise _bad_field(path, "body", "holds no frame")
    for name in (*POINT_FIELDS, *SCORE_FIELDS):
        sizes = fields[name].shape[:2]
        if sizes != (frames, most):
            raise _bad_field(path, name, f"has {sizes} frames and people, body has {(frames, most)}")
        _check_range(path, name, fields[name], SCORE_LIMIT if name in SCORE_FIELDS else COORDINATE_LIMIT)
    for name in COUNT_FIELDS:
        if fields[name].shape != (frames,):
            raise _bad_field(path, name, f"has shape {fields[name].shape}, expected ({frames},)")
    if not np.all((fields["num_people"] >= 0) & (fields["num_people"] <= most)):
        raise _bad_field(path, "num_people", f"must lie in 0..{most}")
    indices = fields["frame_indices"]
    if indices[0] < 0 or np.any(indices[1:] <= indices[:-1]):
        raise _bad_field(path, "frame_indices", "must increase from 0 or more")
    if not 0 <= fields["fps"] <= FPS_LIMIT:
        raise _bad_field(path, "fps", f"is {fields['fps']}, expected 0..{FPS_LIMIT:g}")
    for name in ("height", "width"):
        if not 1 <= fields[name] <= SIDE_LIMIT:
            raise _bad_field(path, name, f"is {fields[name]}, expected 1..{SIDE_LIMIT}")


def _check_range(path: str | Path, name: str, values: np.ndarray, limit: float) -> None:
    good = np.abs(values) <= limit  # False for NaN
    if not good.all():
        where = tuple(int(i) for i in np.argwhere(~good)[0])
        raise _bad_field(path, name, f"holds {values[where]} at {where}, expected -{limit:g}..{limit:g}")


def _bad_field(path: str | Path, name: str, problem: str) -> InputError:
    return InputError(f"pose file {path}: field '{name}' {problem}")
