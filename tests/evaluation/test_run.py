"""Evaluations from a folder to figures: what is right is perfect, what is wrong is seen, a bad clip stops no other."""

import contextlib
import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mimicmotion.animation import Animator
from mimicmotion.commands import evaluate
from mimicmotion.dwpose import mirror
from mimicmotion.errors import UsageError
from mimicmotion.evaluation import evaluate_results
from mimicmotion.evaluation.items import find_items
from mimicmotion.files import sealed
from mimicmotion.results import Job, describe_file
from mimicmotion.video import VideoWriter, open_video
from tests.cluster.inprocess import InProcess
from tests.conftest import write_clip
from tests.evaluation.conftest import SIZE, signing_poses

ROUNDING = 1e-4  # poses are read in single precision


def fitted(config, name="a"):
    """The poses that drove a result, as they were drawn."""
    job = Job(Path(config.batch.video_folder, f"{name}.mp4"), config.test_case[0], 0, Path(f"{name}.mp4"))
    return Animator(config).prepare(job).drawn.poses[1:]


def set_evaluation(config, **values):
    return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, **values))


def figures(folder):
    return json.loads((folder / "evaluation" / "evaluation.json").read_text())


def clip(found, name):
    return next(entry for entry in found["clips"] if entry["name"].endswith(name))


@pytest.fixture
def right(results, sees):
    """(settings, folder) whose detector sees exactly the poses that drove the results."""
    config, folder = results
    sees(fitted(config))
    return config, folder


def test_a_result_that_does_as_it_was_told_is_perfect(right):
    config, folder = right
    assert evaluate_results(config) == 0
    found = figures(folder)
    for entry in found["clips"]:
        numbers = entry["numbers"]
        assert entry["status"] == "measured" and entry["notes"] == []
        for part in ("body", "hand", "face"):
            assert max(numbers[f"{part}_distance"], numbers[f"{part}_px"]) < ROUNDING
            assert numbers[f"{part}_missing"] == 0
        assert numbers["sides_swapped"] == 0 and 0 < numbers["clip_reference"] <= 1
        assert "psnr" not in numbers
    assert "truth" in found["protocol"]["not_measured"]
    lines = list(csv.DictReader((folder / "evaluation" / "evaluation.csv").open()))
    assert [line["status"] for line in lines] == ["measured"] * 2 and float(lines[0]["body_distance"]) < ROUNDING
    page = (folder / "evaluation" / "evaluation.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and "data:image/jpeg" in page


def test_what_is_wrong_is_seen_by_the_measure_that_should_see_it(right, sees):
    config, folder = right
    poses = fitted(config)

    def numbers(seen):
        sees(seen)
        assert evaluate_results(config) == 0
        return clip(figures(folder), "a")["numbers"]

    shuffled = numbers([poses[i] for i in np.random.default_rng(0).permutation(len(poses))])
    assert shuffled["body_distance"] > 1 and shuffled["hand_distance"] > 1
    mirrored = numbers([mirror(pose) for pose in poses])
    assert mirrored["hand_distance"] > 5 and mirrored["sides_swapped"] == 1
    assert mirrored["body_distance"] > 1 and mirrored["body_either_side"] < ROUNDING
    nobody = numbers([pose | {"hands_score": 0 * pose["hands_score"]} for pose in poses])
    assert nobody["hand_missing"] == 1 and nobody["hand_distance"] is None and nobody["body_distance"] < ROUNDING


def test_an_evaluation_measures_once_and_gives_the_same_bytes(right, monkeypatch):
    config, folder = right
    names = ("evaluation.json", "evaluation.csv", "evaluation.html")

    def written():
        return [(folder / "evaluation" / name).read_bytes() for name in names]

    assert evaluate_results(config) == 0
    first = written()
    kept = sorted((folder / "evaluation" / "clips").glob("*.json"))
    assert len(kept) == 2
    kept[0].write_text("{}")  # damaged: measured anew
    assert evaluate_results(config) == 0 and written() == first
    monkeypatch.setattr("mimicmotion.evaluation.meters.measure", None)
    assert evaluate_results(config) == 0 and written() == first
    shutil.rmtree(folder / "evaluation" / "clips")
    assert evaluate_results(config) == 1, "nothing is left that could be kept"


def test_shards_measure_each_clip_once_and_are_merged(right, monkeypatch):
    config, folder = right
    evaluate_results(config)
    whole = (folder / "evaluation" / "evaluation.json").read_bytes()
    shutil.rmtree(folder / "evaluation")
    for number in (1, 2, 3):
        part = dataclasses.replace(config, batch=dataclasses.replace(config.batch, shard=f"{number}/3"))
        assert evaluate_results(part) == 0
        assert not (folder / "evaluation" / "evaluation.json").exists()
    monkeypatch.setattr("mimicmotion.evaluation.meters.measure", None)
    assert evaluate_results(config) == 0
    assert (folder / "evaluation" / "evaluation.json").read_bytes() == whole


def test_workers_measure_what_one_process_does_and_nothing_twice(right, monkeypatch, logging_as_before):
    config, folder = right
    clips = sorted((folder).rglob("*.mp4"))
    shutil.copyfile(clips[0], clips[0].with_name("spoilt.mp4"))  # with a record that is another clip's
    shutil.copyfile(clips[0].with_suffix(".json"), clips[0].with_name("spoilt.json"))
    clips[0].with_name("spoilt.mp4").write_bytes(b"no video")
    assert evaluate_results(config) == 1
    names = ("evaluation.json", "evaluation.csv", "evaluation.html")
    alone = [(folder / "evaluation" / name).read_bytes() for name in names]
    shutil.rmtree(folder / "evaluation")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("mimicmotion.cluster.run.ray_session", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr("mimicmotion.cluster.run.RayActors", InProcess)
    InProcess.made.clear()
    spread = dataclasses.replace(config, cluster=dataclasses.replace(config.cluster, workers="2"))
    assert evaluate_results(spread) == 1
    assert [(folder / "evaluation" / name).read_bytes() for name in names] == alone
    assert len(InProcess.made) == 1 and [method for method, _ in InProcess.made[0].asked].count("load") >= 1
    monkeypatch.setattr("mimicmotion.evaluation.meters.measure", None)
    clips[0].with_name("spoilt.mp4").unlink()
    clips[0].with_name("spoilt.json").unlink()
    assert evaluate_results(spread) == 0 and len(InProcess.made) == 1, "all is kept: nobody is hired"


def test_a_clip_of_another_model_says_that_its_image_encoder_is_another(right):
    config, folder = right
    edit(folder, "a", weights={"image_encoder": "0" * 64})
    assert evaluate_results(config) == 0
    found = figures(folder)
    assert "--base_model_path" in clip(found, "a")["message"] and clip(found, "b")["message"] == ""


def test_of_parts_that_were_not_drawn_nothing_is_wanted(right):
    config, folder = right
    record = json.loads(next(folder.rglob("a.json")).read_text())
    settings = record["settings"] | {"pose": record["settings"]["pose"] | {"draw": ["body"]}}
    edit(folder, "a", settings=settings)
    assert evaluate_results(config) == 0
    entry = clip(figures(folder), "a")
    assert not [name for name in entry["numbers"] if name.startswith(("hand", "face"))]
    assert {"hands", "face"} <= set(entry["absent"]) and entry["numbers"]["body_missing"] == 0


def edit(folder, name, **values):
    """Changes the record of a result."""
    path = next(folder.rglob(f"{name}.json"))
    record = json.loads(path.read_text()) | values
    record.pop("record_sha256")
    path.write_text(json.dumps(sealed(record)))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder, video: video.write_bytes(b"no video"), "not the result of its record"),
        (lambda folder, video: video.with_suffix(".json").write_text("[1]"), "not a JSON object"),
        (lambda folder, video: video.with_suffix(".json").write_text("{}"), "no record of a result"),
        (lambda folder, video: edit(folder, "a", inputs={"video": "0" * 64}), "not the one that it was made from"),
        (lambda folder, video: edit(folder, "a", paths={}), "driving video called a.mp4 is not there"),
        (
            lambda folder, video: edit(folder, "a", settings={"test_case": {"resolution": float("nan")}}),
            "settings that cannot be",
        ),
        (lambda folder, video: edit(folder, "a", settings={"test_case": {"resolution": 128}}), "frame of 192x128"),
    ],
)
def test_one_bad_clip_stops_no_other(right, spoil, told):
    config, folder = right
    spoil(folder, next(folder.rglob("a.mp4")))
    assert evaluate_results(config) == 1
    found = figures(folder)
    assert clip(found, "a")["status"] == "failed" and told in clip(found, "a")["message"]
    assert clip(found, "b")["status"] == "measured" and found["means"]["body_distance"]["clips"] == 1
    assert told.split()[0] in (folder / "evaluation" / "evaluation.html").read_text()


def test_inputs_that_were_moved_are_found_by_name_and_content(right, tmp_path):
    config, folder = right
    moved = tmp_path / "moved"
    shutil.copytree(config.batch.video_folder, moved / "videos")
    shutil.copyfile(config.test_case[0].ref_image_path, moved / "person.png")
    shutil.copyfile(config.test_case[0].ref_image_path.replace(".png", ".pose.npz"), moved / "person.pose.npz")
    lost = {name: {"given": f"gone/{file}", "absolute": f"/gone/{file}"} for name, file in
            (("video", "a.mp4"), ("reference", "person.png"))}  # fmt: skip
    edit(folder, "a", paths=lost)
    assert evaluate_results(config) == 1
    assert "pass --inputs DIR" in clip(figures(folder), "a")["message"]
    assert evaluate_results(set_evaluation(config, inputs=str(moved))) == 0


def test_the_driving_video_is_the_truth_of_a_self_made_clip(right):
    config, folder = right
    driving = f"{config.batch.video_folder}/a.mp4"
    for name in ("a", "b"):  # the perfect result: the driving video itself
        result = next(folder.rglob(f"{name}.mp4"))
        shutil.copyfile(driving, result)
        edit(folder, name, files={".mp4": describe_file(result)})
    assert evaluate_results(set_evaluation(config, protocol="self")) == 0
    numbers = clip(figures(folder), "a")["numbers"]
    assert (numbers["psnr"], numbers["psnr_frames"], numbers["ssim"]) == (100, 100, 1)
    assert (numbers["temporal_difference_error"], numbers["sharpness"]) == (0, 1)
    assert numbers.get("st_lpips", 0) == 0


@pytest.fixture
def plain(results, tmp_path, sees):
    """(settings, folder of videos without records): one is its truth, one runs backwards, one has no truth, one a truth
    of another length.
    """
    config, _ = results
    folder, truth = tmp_path / "plain", tmp_path / "truth"
    folder.mkdir()
    truth.mkdir()
    write_clip(folder / "same.mp4", size=SIZE)
    shutil.copyfile(folder / "same.mp4", truth / "same.mp4")
    write_clip(truth / "short.mp4", count=5, size=SIZE)
    shutil.copyfile(folder / "same.mp4", folder / "short.mp4")
    shutil.copyfile(folder / "same.mp4", folder / "lost.mp4")
    shutil.copyfile(folder / "same.mp4", truth / "backwards.mp4")
    with VideoWriter(folder / "backwards.mp4", 30) as writer:
        writer.write(np.stack([frame for _, frame in open_video(folder / "same.mp4").frames()])[::-1])
    sees(signing_poses(12))
    return set_evaluation(config, results=str(folder), truth=str(truth)), folder


def test_videos_without_records_are_held_against_a_truth(plain):
    config, folder = plain
    assert evaluate_results(config) == 1
    found = figures(folder)
    numbers = clip(found, "same")["numbers"]
    assert (numbers["psnr"], numbers["ssim"], numbers["body_distance"], numbers["body_missing"]) == (100, 1, 0, 0)
    assert numbers["clip_reference"] is None
    backwards = clip(found, "backwards")["numbers"]
    assert backwards["psnr"] < 30 and backwards["ssim"] < 0.9 and backwards["temporal_difference_error"] > 1
    assert "5 frames; the result has 12" in clip(found, "short")["message"]
    assert "no true video of it" in clip(found, "lost")["message"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"results": None}, "which results"),
        ({"results": "nowhere"}, "no such folder"),
        ({"truth": "nowhere"}, "--truth: no such folder"),
        ({"truth": ".", "protocol": "self"}, "drop --truth"),
        ({"fvd_sha256": "0" * 64}, "belongs to --fvd_weights"),
        ({"fid_vid_weights": "resnet.onnx"}, "distances to true videos"),
        ({"csim_weights": "nowhere.onnx"}, "--csim_weights: nowhere.onnx does not exist"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_the_first_clip(results, values, told):
    config, folder = results
    with pytest.raises(UsageError, match=told):
        evaluate_results(set_evaluation(config, **values))
    assert not (folder / "evaluation").exists()


def test_the_folder_is_found_among_the_words():
    def named(*words):
        return evaluate.named(list(words), evaluate.GROUPS)

    assert named("outputs", "--shown", "2") == ["--results", "outputs", "--shown", "2"]
    assert named("--shown", "2", "outputs") == ["--shown", "2", "--results", "outputs"]
    assert named("--dry_run", "pose.max_gap=1", "a/b") == ["--dry_run", "pose.max_gap=1", "--results", "a/b"]
    assert named("--results", "outputs", "--log_level", "INFO") == ["--results", "outputs", "--log_level", "INFO"]
    assert named("--help") == ["--help"] and named() == []


def test_videos_without_records_or_truth_are_refused(plain):
    config, folder = plain
    with pytest.raises(UsageError, match="has a record"):
        evaluate_results(set_evaluation(config, truth=None))
    empty = folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="no result lies in"):
        evaluate_results(set_evaluation(config, results=str(empty)))


def test_a_dry_run_says_what_would_be_measured_without_torch(plain):
    config, folder = plain
    words = ["evaluate", str(folder), "--truth", config.evaluation.truth, "--dry_run", "--log_level", "WARNING"]
    code = (
        "import sys\n"
        "from mimicmotion.commands import run_console\n"
        f"code = run_console({words!r})\n"
        "print(code, *({'torch', 'diffusers', 'cv2', 'av', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *table, last = done.stdout.splitlines()
    assert last == "1", "a clip has no truth, and nothing heavy was imported"
    told = {line.split()[0]: line for line in table[2:]}
    assert "to measure" in told["same"] and "no true video of it" in told["lost"]
    assert not (folder / "evaluation").exists()


def test_kinds_of_records_are_told_by_what_only_they_hold(tmp_path):
    records = {
        "turbo": {"recipe_sha256": "", "settings": {}, "inputs": {"video": "0"}},
        "sentence": {"recipe_sha256": "", "settings": {}, "inputs": {}, "sentence": "s"},
        "joined": {"recipe_sha256": "", "settings": {}, "inputs": {}, "latent_concat": {}},
        "individual": {"recipe_sha256": "", "latents": "0"},
    }
    for name, record in records.items():
        (tmp_path / f"{name}.mp4").write_bytes(b"")
        (tmp_path / f"{name}.json").write_text(json.dumps(sealed(record | {"files": {}})))
    for name in ("turbo_comparison.mp4", ".hidden.mp4", "grid.mp4"):
        (tmp_path / name).write_bytes(b"")
    found = {item.name: (item.kind, item.problem) for item in find_items(tmp_path, tmp_path / "evaluation", False)}
    assert found == {
        "turbo": ("animation", ""),
        "sentence": ("sentence", ""),
        "joined": ("joined", ""),
        "individual": ("joined", ""),
    }
