"""DWPoseDetector on small stand-in ONNX files, held against a plain twin of the published steps."""

import logging
import threading

import cv2
import numpy as np
import pytest

from mimicmotion.dwpose import detector as detector_module
from mimicmotion.dwpose import onnx_session, onnxdet, onnxpose
from mimicmotion.dwpose.detector import DWPoseDetector, pose_of_people
from mimicmotion.errors import SetupError
from tests.dwpose.onnx_standins import DET_SIDE, POSE_SIZE, save_detector, save_estimator

COCO = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
]
OPENPOSE = [
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name, batch in (("fixed", 1), ("open", "batch")):
        paths[name] = folder / f"det_{name}.onnx", folder / f"pose_{name}.onnx"
        save_detector(paths[name][0], batch)
        save_estimator(paths[name][1], batch)
    return paths


@pytest.fixture(scope="module")
def frames():
    """No person, one, three, one that leaves the frame, noise; three sizes."""
    random = np.random.default_rng(0)
    return [
        picture(120, 90, []),
        picture(120, 90, [(30, 20, 60, 100)]),
        picture(100, 160, [(10, 20, 35, 80), (65, 10, 95, 90), (125, 30, 150, 95)]),
        picture(64, 64, [(40, 10, 64, 60)]),
        random.integers(0, 256, (75, 131, 3), np.uint8),
    ]


def picture(height, width, people):
    """A textured grey frame with red people, the stand-in detector's prey, at boxes x0, y0, x1, y1."""
    random = np.random.default_rng(height + len(people))
    frame = np.repeat(random.integers(90, 140, (height, width, 1), np.uint8), 3, axis=2)
    for x0, y0, x1, y1 in people:
        frame[y0:y1, x0:x1, 0] = random.integers(200, 256, (y1 - y0, x1 - x0))
        frame[y0:y1, x0:x1, 1:] = random.integers(0, 60, (y1 - y0, x1 - x0, 2))
    return frame


def flat(pose):
    return pose["bodies"] | {name: value for name, value in pose.items() if name != "bodies"}


def assert_same_poses(left, right):
    assert len(left) == len(right)
    for a, b in zip(map(flat, left), map(flat, right), strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_equals_the_published_steps(models, frames):
    detector = DWPoseDetector(*models["fixed"])
    poses = detector(frames)
    assert_same_poses(poses, [plain_pose(*detector.open(), frame) for frame in frames])
    people = [len(pose["faces"]) for pose in poses]
    assert people[0] == 1 and people[2] >= 3, people  # the twin is compared on several people too
    scores = np.concatenate([pose["bodies"]["score"].ravel() for pose in poses])
    assert (scores > 0.3).any() and (scores <= 0).any()


def test_one_by_one_in_batches_and_singly_give_the_same(models, frames):
    fixed = DWPoseDetector(*models["fixed"])(frames)
    dynamic = DWPoseDetector(*models["open"])
    assert_same_poses(fixed, dynamic(frames))
    assert_same_poses(fixed, [dynamic(frame) for frame in frames])
    assert_same_poses(fixed[3:], dynamic(np.array(frames[3:4])) + dynamic(frames[4:]))
    assert dynamic([]) == []


def test_batches_fill_what_the_model_allows(models):
    images = [np.full((3, DET_SIDE, DET_SIDE), value, np.float32) for value in range(11)]
    for name, expected in (("fixed", [1] * 11), ("open", [8, 3])):
        session = RecordingSession(onnx_session.open_session(models[name][0]))
        (rows,) = onnx_session.run_in_batches(session, iter(images))
        assert session.sizes == expected and len(rows) == 11


class RecordingSession:
    def __init__(self, session):
        self.session, self.sizes = session, []
        self.get_inputs, self.get_providers = session.get_inputs, session.get_providers

    def run(self, names, feed, options=None):
        self.sizes.append(len(next(iter(feed.values()))))
        return self.session.run(names, feed, options)


def test_pose_layout_and_ranges(models, frames):
    for frame, pose in zip(frames, DWPoseDetector(*models["open"])(frames), strict=True):
        people = len(pose["faces"])
        shapes = {name: value.shape for name, value in flat(pose).items()}
        assert shapes == {
            "candidate": (18 * people, 2),
            "subset": (people, 18),
            "score": (people, 18),
            "hands": (2 * people, 21, 2),
            "hands_score": (2 * people, 21),
            "faces": (people, 68, 2),
            "faces_score": (people, 68),
        }
        # Half pixels of a crop, in 0..1 of the frame: far outside it only if the crop is.
        assert np.abs(pose["bodies"]["candidate"]).max() < 5, frame.shape


def test_joints_are_sorted_by_name_into_openpose_order():
    points = np.zeros((2, 133, 2))
    points[0, :, 0], points[1, :, 0] = np.arange(133), 1000 + np.arange(133)
    scores = np.tile(np.linspace(0.31, 1, 133, dtype=np.float32), (2, 1))
    pose = pose_of_people(points, scores, (1, 1))
    x = pose["bodies"]["candidate"][:, 0]
    for joint, name in enumerate(OPENPOSE):
        expected = 5.5 if name == "neck" else COCO.index(name)
        assert x[joint] == expected and x[18 + joint] == 1000 + expected, name
    # COCO-WholeBody: 17 body, 6 feet, 68 face, 21 left hand, 21 right hand. All left hands come first.
    np.testing.assert_array_equal(pose["faces"][:, 0, 0], [23, 1023])
    np.testing.assert_array_equal(pose["hands"][:, 0, 0], [91, 1091, 112, 1112])
    np.testing.assert_array_equal(pose["hands_score"][:, 20], scores[[0, 0, 0, 0], [111, 111, 132, 132]])


@pytest.mark.parametrize(("left", "right", "neck"), [(0.31, 0.9, 1), (0.29, 0.9, 0), (0.9, 0.3, 0)])
def test_neck_is_there_if_both_shoulders_are(left, right, neck):
    scores = np.full((1, 133), 0.5)
    scores[0, [5, 6]] = left, right
    pose = pose_of_people(np.zeros((1, 133, 2)), scores, (10, 10))
    assert pose["bodies"]["score"][0, 1] == neck
    assert pose["bodies"]["subset"][0, 1] == (1 if neck else -1)


def test_coordinates_are_fractions_of_width_and_height():
    pose = pose_of_people(np.full((1, 133, 2), 60.0), np.ones((1, 133)), (120, 240))
    np.testing.assert_array_equal(pose["hands"][0, 0], [0.25, 0.5])


def test_crop_region_of_the_published_example():
    centre, scale = onnxpose.crop_region(np.array([100.0, 50, 300, 650]), (288, 384))
    np.testing.assert_array_equal(centre, [200, 350])
    np.testing.assert_array_equal(scale, [562.5, 750])


def test_simcc_bins_are_half_pixels_and_the_weaker_axis_is_the_score():
    x, y = np.zeros((1, 2, 576), np.float32), np.zeros((1, 2, 768), np.float32)
    x[0, 0, 101], y[0, 0, 700] = 1.5, 0.75
    x[0, 1], y[0, 1] = -1, 2
    points, scores = onnxpose.decode(x, y)
    np.testing.assert_array_equal(points[0], [[50.5, 350], [-0.5, -0.5]])
    np.testing.assert_array_equal(scores[0], [0.75, -1])


def test_letterbox_truncates_sizes_and_pads_grey():
    padded, ratio = onnxdet.letterbox(np.full((999, 333, 3), 7, np.uint8), (640, 640))
    assert ratio == 640 / 999 and padded.dtype == np.float32
    assert (padded[:, :640, :213] == 7).all() and (padded[:, :, 213:] == 114).all()  # 213.33 wide


def test_grid_has_the_finest_cells_first_row_by_row():
    cells, strides = onnxdet.grid((64, 32))
    assert len(cells) == 8 * 4 + 4 * 2 + 2 * 1
    np.testing.assert_array_equal(cells[:6], [[0, 0], [1, 0], [2, 0], [3, 0], [0, 1], [1, 1]])
    np.testing.assert_array_equal(np.unique(strides, return_counts=True), [[8, 16, 32], [32, 8, 2]])


def test_suppression_counts_the_border_pixels():
    boxes = np.array([[0, 0, 9, 9], [0, 3.9, 9, 12.9], [40, 40, 50, 50]], np.float32)
    # Overlap of the first two: 6.1 of 13.9 rows = 0.439 with border pixels; 5.1 of 12.9 = 0.395 without.
    assert onnxdet.suppress(boxes, np.array([0.9, 0.8, 0.7], np.float32)) == [0, 1, 2]
    boxes[1, [1, 3]] = 3.7, 12.7  # 6.3 of 13.7 = 0.4599 against 5.3 of 12.7 = 0.417
    assert onnxdet.suppress(boxes, np.array([0.8, 0.9, 0.95], np.float32)) == [2, 1]


def test_thresholds_are_compared_in_the_published_precision():
    boxes = np.array([[0, 0, 9, 9], [100, 0, 109, 9], [200, 0, 209, 9]], np.float32)
    scores = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(0)), 0.8], np.float32)
    # The float32 nearest to 0.3 is a little more than 0.3.
    np.testing.assert_array_equal(onnxdet.person_boxes(boxes, scores), boxes[[2, 0]])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "web page"),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_no_model_is_refused_at_once(models, tmp_path, which, content, problem):
    paths = list(models["fixed"])
    paths[which] = tmp_path / "model.onnx"
    if content is not None:
        paths[which].write_bytes(content)
    with pytest.raises(SetupError, match=problem) as error:
        DWPoseDetector(*paths)
    assert str(paths[which]) in str(error.value) and "scripts/download_weights.py" in str(error.value)


def test_a_cut_model_file_is_refused_when_opened(models, tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(models["fixed"][0].read_bytes()[:2000])
    with pytest.raises(SetupError, match="does not load") as error:
        DWPoseDetector(cut, models["fixed"][1]).open()
    assert str(cut) in str(error.value) and "scripts/download_weights.py" in str(error.value)


def test_exchanged_files_are_refused(models):
    det, pose = models["open"]
    with pytest.raises(SetupError, match="exchanged") as error:
        DWPoseDetector(pose, det).open()
    assert str(pose) in str(error.value)
    with pytest.raises(SetupError, match="keypoint model"):
        DWPoseDetector(det, det).open()


def test_a_batch_of_two_is_refused(models, tmp_path):
    save_estimator(tmp_path / "two.onnx", 2)
    with pytest.raises(SetupError, match="keypoint model"):
        DWPoseDetector(models["open"][0], tmp_path / "two.onnx").open()


def test_missing_cuda_means_cpu_and_one_warning(models, frames, monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    detector = DWPoseDetector(*models["open"], device="cuda:0")
    with caplog.at_level(logging.WARNING):
        poses = [detector(frame) for frame in frames[:2]]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert_same_poses(poses, DWPoseDetector(*models["open"])(frames[:2]))


def test_cuda_is_asked_for_with_its_index_and_the_cpu_behind_it(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    (name, options), last = onnx_session._providers("cuda:1")
    assert (name, options["device_id"], last) == ("CUDAExecutionProvider", 1, "CPUExecutionProvider")
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert onnx_session._providers("cpu") == onnx_session._providers("mps") == ["CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert onnx_session._providers("cuda") == ["CPUExecutionProvider"]


def test_a_gpus_memory_is_given_back_after_every_run():
    class Session:
        def __init__(self, **providers):
            self.get_provider_options, self.get_providers = lambda: providers, lambda: list(providers)

    options = onnx_session._run_options(Session(CUDAExecutionProvider={"device_id": "1"}, CPUExecutionProvider={}))
    assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "gpu:1"
    assert onnx_session._run_options(Session(CPUExecutionProvider={})) is None


def test_threads_share_one_pair_of_sessions(models, frames, monkeypatch):
    opened = []

    def count(path, device):
        opened.append(path)
        return onnx_session.open_session(path, device)

    expected = DWPoseDetector(*models["fixed"])(frames[2])
    monkeypatch.setattr(detector_module, "open_session", count)
    detector, results = DWPoseDetector(*models["open"]), [None] * 4

    def work(index):
        results[index] = detector(frames[2])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same_poses(results, [expected] * 4)
    assert opened == list(models["open"])


def test_fingerprint_follows_the_files_content(models, tmp_path):
    copies = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for copy, path in zip(copies, models["fixed"], strict=True):
        copy.write_bytes(path.read_bytes())
    fingerprint = DWPoseDetector(*models["fixed"]).fingerprint
    assert DWPoseDetector(*copies).fingerprint == fingerprint
    assert DWPoseDetector(*models["open"]).fingerprint != fingerprint


def test_frames_of_another_type_are_refused(models):
    with pytest.raises(ValueError, match="uint8"):
        DWPoseDetector(*models["open"])([np.zeros((8, 8, 3), np.float32)])


# The twin: one frame, one anchor, one person, one joint at a time.


def plain_pose(session_det, session_pose, frame):
    people = [plain_person(session_pose, frame, box) for box in plain_boxes(session_det, frame)]
    height, width = frame.shape[:2]
    points = np.array([[(x / width, y / height) for x, y, _ in person] for person in people])
    scores = np.array([[score for _, _, score in person] for person in people])
    subset = np.full((len(people), 18), -1.0)
    for person, joint in np.argwhere(scores[:, :18] > 0.3):
        subset[person, joint] = 18 * person + joint
    return {
        "bodies": {
            "candidate": points[:, :18].reshape(-1, 2),
            "subset": subset,
            "score": scores[:, :18],
        },
        "hands": np.concatenate([points[:, 92:113], points[:, 113:]]),
        "hands_score": np.concatenate([scores[:, 92:113], scores[:, 113:]]),
        "faces": points[:, 24:92],
        "faces_score": scores[:, 24:92],
    }


def plain_boxes(session, frame):
    height, width = frame.shape[:2]
    ratio = min(DET_SIDE / height, DET_SIDE / width)
    canvas = np.full((DET_SIDE, DET_SIDE, 3), 114, np.uint8)
    inner = int(width * ratio), int(height * ratio)
    canvas[: inner[1], : inner[0]] = cv2.resize(frame, inner)
    (rows,) = session.run(None, {"images": canvas.astype(np.float32).transpose(2, 0, 1)[None]})[0]
    sizes, half, ratio = np.exp(rows[:, 2:4]), np.float32(2), np.float32(ratio)
    found, anchor = [], 0
    for stride in (8, 16, 32):
        for row in range(DET_SIDE // stride):
            for column in range(DET_SIDE // stride):
                output, size = rows[anchor], sizes[anchor]
                anchor += 1
                x = np.float32((float(output[0]) + column) * stride)
                y = np.float32((float(output[1]) + row) * stride)
                w, h = np.float32(float(size[0]) * stride), np.float32(float(size[1]) * stride)
                box = [side / ratio for side in (x - w / half, y - h / half, x + w / half, y + h / half)]
                if output[4] * output[5] > np.float32(0.1):
                    found.append((output[4] * output[5], box))
    kept = []
    for score, box in sorted(found, key=lambda item: -item[0]):
        if all(plain_overlap(box, other) <= 0.45 for _, other in kept):
            kept.append((score, box))
    boxes = [box for score, box in kept if float(score) > 0.3]
    return np.array(boxes or [[0, 0, width, height]], np.float64)


def plain_overlap(a, b):
    def area(box):
        return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)

    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    return width * height / (area(a) + area(b) - width * height)


def plain_person(session, frame, box):
    """134 points x, y, score in pixels of the frame, in the published order."""
    height, width = POSE_SIZE
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    w, h = (box[2] - box[0]) * 1.25, (box[3] - box[1]) * 1.25
    scale = np.array([w, w / (width / height)] if w > h * (width / height) else [h * (width / height), h])
    reach, middle = scale[0] / 2, np.array([width, height]) / 2
    source = np.float32([centre, centre - [0, reach], [0, 0]])
    # The corner is made of the two points already rounded to float32, and the crop depends on it.
    source[2] = source[1] - [source[0, 1] - source[1, 1], 0]
    target = np.float32([middle, middle - [0, width / 2], middle - [width / 2, width / 2]])
    crop = cv2.warpAffine(frame, cv2.getAffineTransform(source, target), (width, height))
    image = (crop - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    simcc_x, simcc_y = session.run(None, {"input": image.transpose(2, 0, 1)[None].astype(np.float32)})
    points = []
    for x, y in zip(simcc_x[0], simcc_y[0], strict=True):
        score = float(min(x.max(), y.max()))
        location = np.array([x.argmax(), y.argmax()]) if score > 0 else np.array([-1, -1])
        points.append((*(location / 2 / [width, height] * scale + centre - scale / 2), score))
    neck = (np.array(points[5]) + points[6]) / 2
    neck[2] = points[5][2] > 0.3 and points[6][2] > 0.3
    body = dict(zip(COCO, points[:17], strict=True)) | {"neck": tuple(neck)}
    return [body[name] for name in OPENPOSE] + points[17:]
