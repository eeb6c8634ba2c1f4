"""The main job with a cache: the same results bit for bit, and every part of every key is told apart."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from mimicmotion.animation import models
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.models import Models
from mimicmotion.config import load_config
from mimicmotion.dwpose import empty_pose
from mimicmotion.errors import InputError
from mimicmotion.feature_cache import cached_features as cached_animate
from mimicmotion.feature_cache.benchmark import benchmark_cache
from mimicmotion.feature_cache.cached_features import animate_folder_cached, cached_animator
from mimicmotion.feature_cache.store import FeatureCache, entry_path, load_entry, stored_files
from mimicmotion.results.jobs import plan_jobs
from mimicmotion.video import process
from tests.conftest import dancing_poses, last_items, write_clip

FEATURES = {"video", "driving_pose", "reference_pixels", "reference_pose"}
LEVELS = FEATURES | {"clip_embedding", "vae_latents"}


class FakeDetector:
    """Gives dancing poses one after the other, as if it saw them."""

    name, fingerprint, poses = "fake", "fake 1", dancing_poses(6)

    def __init__(self):
        self.calls = 0
        self.seen = self.seen_in_all = 0

    def reset(self):
        self.seen = 0

    def __call__(self, frames):
        self.calls += 1
        self.seen += len(frames)
        self.seen_in_all += len(frames)
        return [self.poses[i % len(self.poses)] for i in range(self.seen - len(frames), self.seen)]




@pytest.fixture
def dancers(project, monkeypatch):
    """The project with one video and a reference without keypoints beside it, whose people are detected."""
    (project / "person.pose.npz").unlink()
    for name in ("b", "c"):
        (project / "videos" / f"{name}.mp4").unlink()
    monkeypatch.setattr(models, "choose_backend", lambda *_: ("fake", "for the test"))
    monkeypatch.setattr(models, "detector_fingerprint", lambda *_: FakeDetector.fingerprint)
    monkeypatch.setattr(models, "make_detector", lambda *_, **__: FakeDetector())
    return project


def settings(project, *overrides):
    folder = f"feature_cache.folder={project / 'cache'}"
    return load_config(project / "settings.yaml", overrides=["pose.backend=auto", folder, *overrides])


def make(animator):
    """Latents and mp4 of the first job."""
    job = plan_jobs(animator.config)[0]
    made_from = animator.recipe(job)
    clip = animator.prepare(job)
    latents = animator.sample(clip)
    animator.write(clip, latents, made_from)
    return latents, job.output.read_bytes()


def cached(config):
    return cached_animator(Models(config), FeatureCache(Path(config.feature_cache.folder)))


def levels(cache, kind):
    return {level for level, numbers in cache.statistics.items() if getattr(numbers, kind)}


@pytest.mark.parametrize(
    ("scheduler", "guidance", "strength"),
    [
        ("AnimateLCM_SVD", 1, 0),
        ("AnimateLCM_SVD", 2, 0.1),
        ("EulerDiscreteScheduler", 1, 0.1),
        ("AYS", 2, 0.02),
        ("DPMSolver++", 2, 0),
    ],
)
def test_warm_is_cold_is_uncached_bit_for_bit(dancers, scheduler, guidance, strength):
    config = settings(
        dancers,
        f"turbo.scheduler={scheduler}",
        f"turbo.guidance_scale={guidance}",
        f"test_case[0].noise_aug_strength={strength}",
        "output.contact_sheet=false",
    )
    latents, video = make(Animator(config))
    cold, warm = cached(config), cached(config)
    for animator, kind in ((cold, "misses"), (warm, "hits")):
        same_latents, same_video = make(animator)
        assert levels(animator.features.cache, kind) == LEVELS
        assert torch.equal(same_latents, latents)
        assert same_video == video
    assert levels(warm.features.cache, "misses") == set()
    assert warm.models.detector.calls == 0


def test_another_seed_scheduler_and_strength_find_what_they_do_not_change(dancers):
    make(cached(settings(dancers)))
    strengths = ("sampling.pose_strength=0.5", "sampling.image_embed_strength=0.5", "pose.draw=[body]")
    changed = settings(dancers, "test_case[0].seed=8", "turbo.scheduler=AYS", "turbo.guidance_scale=2", *strengths)
    animator = cached(changed)
    latents, _ = make(animator)
    assert levels(animator.features.cache, "misses") == set()
    assert torch.equal(latents, make(Animator(changed))[0])


def rewrite_video(project):
    path = project / "videos" / "a.mp4"
    times = (path.stat().st_atime, path.stat().st_mtime)
    write_clip(path, count=14)
    os.utime(path, times)


def rewrite_picture(project):
    path = project / "person.png"
    times = (path.stat().st_atime, path.stat().st_mtime)
    PIL.Image.new("RGB", (64, 96), (91, 120, 150)).save(path)
    os.utime(path, times)


def recompress_picture(project):
    PIL.Image.open(project / "person.png").save(project / "person.png", compress_level=1)


def touch(project):
    for path in (project / "videos" / "a.mp4", project / "person.png"):
        os.utime(path, (1, 1))


def relocate(project):
    moved = project / "elsewhere"
    moved.mkdir()
    shutil.move(project / "videos", moved / "clips")
    (moved / "clips" / "a.mp4").rename(moved / "clips" / "renamed.mp4")
    shutil.move(project / "person.png", moved / "someone.png")
    return [f"batch.video_folder={moved / 'clips'}", f"test_case[0].ref_image_path={moved / 'someone.png'}"]


PICTURE = {"reference_pixels", "reference_pose", "clip_embedding", "vae_latents"}
FILE_CHANGES = {
    "touched": (touch, set()),
    "relocated and renamed": (relocate, set()),
    "edited video of the old date": (rewrite_video, {"video", "driving_pose"}),
    "edited picture of the old date": (rewrite_picture, PICTURE),
    "picture compressed otherwise": (recompress_picture, {"reference_pixels"}),
}
SETTINGS_CHANGES = {
    "test_case[0].sample_stride=1": {"driving_pose"},
    "pose.batch_size=2": {"driving_pose"},
    "test_case[0].resolution=128": PICTURE,
    "reference.aspect=1:2": PICTURE,
    "reference.background=black": {"reference_pixels"},
    "reference.max_pixels=1000000": set(),
    "runtime.dtype=bf16": {"clip_embedding"},
    "runtime.vae_dtype=bf16": {"vae_latents"},
    "test_case[0].noise_aug_strength=0.1": {"vae_latents"},
    "test_case[0].seed=9": set(),
    "pose.max_gap=1": set(),
    "pose.align=linear": set(),
    "pose.restore_parts=true": set(),
    "turbo.num_inference_steps=3": set(),
    "turbo.guidance_scale=3": set(),
    "test_case[0].num_frames=3": set(),
}


def misses(config):
    """The levels that a run of this configuration has to compute."""
    animator = cached(config)
    clip = animator.prepare(plan_jobs(config)[0])
    animator.features.of_reference(clip.reference, clip.job.case)
    assert set(animator.features.cache.statistics) == LEVELS
    return levels(animator.features.cache, "misses")


@pytest.mark.parametrize(("change", "expected"), FILE_CHANGES.values(), ids=FILE_CHANGES)
def test_files_are_told_apart_by_their_content(dancers, change, expected):
    assert misses(settings(dancers)) == LEVELS
    overrides = change(dancers) or []
    assert misses(settings(dancers, *overrides)) == expected
    assert misses(settings(dancers, *overrides)) == set()


def test_a_setting_that_changes_a_value_computes_it_and_nothing_else(dancers):
    assert misses(settings(dancers)) == LEVELS
    found = {change: misses(settings(dancers, change)) for change in SETTINGS_CHANGES}
    assert found == SETTINGS_CHANGES
    assert misses(settings(dancers)) == set()


def test_a_frame_from_the_cache_tells_the_same_of_its_picture(dancers):
    config = settings(dancers, "reference.aspect=1:2")
    first, second = (cached(config).features.read_frame(dancers / "person.png", 64) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels) and first.notes
    assert (first.geometry, first.size, first.notes) == (second.geometry, second.size, second.notes)


def test_with_noise_seed_and_strength_count(dancers):
    noisy = "test_case[0].noise_aug_strength=0.1"
    misses(settings(dancers, noisy))
    assert misses(settings(dancers, noisy)) == set()
    assert misses(settings(dancers, noisy, "test_case[0].seed=9")) == {"vae_latents"}
    assert misses(settings(dancers, "test_case[0].noise_aug_strength=0.2")) == {"vae_latents"}


NETWORKS_AND_POSES = {"driving_pose", "reference_pose", "clip_embedding", "vae_latents"}
PROGRAM_CHANGES = {
    "detector": {"driving_pose", "reference_pose"},
    "image_encoder": {"clip_embedding"},
    "vae": {"vae_latents"},
    "configs": {"clip_embedding", "vae_latents"},
    "unet": set(),
    "device": NETWORKS_AND_POSES,
    "revision": LEVELS,
    "torch": {"reference_pixels", "clip_embedding", "vae_latents"},
    "mediapipe": {"driving_pose", "reference_pose"},
    "decord": FEATURES,
}


def change_program(patch, target):
    cached_animate.made_by.cache_clear()
    if target == "detector":
        patch.setattr(FakeDetector, "fingerprint", "fake 2")
    elif target == "device":
        patch.setattr(cached_animate, "hardware_name", lambda device: "another GPU")
    elif target == "revision":
        patch.setattr(cached_animate, "REVISION", cached_animate.REVISION + 1)
    elif target in ("torch", "mediapipe", "decord"):
        real = cached_animate.package_versions
        patch.setattr(
            cached_animate, "package_versions", lambda names: real(names) | {n: "0" for n in names if n == target}
        )
    else:
        real = models.weights_fingerprint
        patch.setattr(models, "weights_fingerprint", lambda config: real(config) | {target: "other"})


def test_weights_detector_hardware_and_versions_count(dancers, monkeypatch):
    misses(settings(dancers))
    found = {}
    for target in PROGRAM_CHANGES:
        with monkeypatch.context() as patch:
            change_program(patch, target)
            found[target] = misses(settings(dancers))
        cached_animate.made_by.cache_clear()
    assert found == PROGRAM_CHANGES


def test_poses_of_mediapipe_are_found_wherever_the_networks_run(dancers, monkeypatch):
    """It runs on the CPU: what one process found with networks on a CPU counts for those with a GPU."""
    monkeypatch.setattr(models, "choose_backend", lambda *_: ("mediapipe", "for the test"))
    poses = {"driving_pose", "reference_pose"}

    def missed(hardware):
        with monkeypatch.context() as patch:
            patch.setattr(cached_animate, "hardware_name", lambda device: hardware)
            return misses(settings(dancers)) & poses

    assert [missed(name) for name in ("cpu, 1 threads", "cpu, 8 threads", "a GPU")] == [poses, set(), set()]


def test_poses_found_by_an_earlier_version_are_taken_over(dancers, monkeypatch):
    monkeypatch.setattr(models, "choose_backend", lambda *_: ("mediapipe", "for the test"))
    config = settings(dancers)
    first = cached(config).prepare(plan_jobs(config)[0])
    cache = FeatureCache(dancers / "cache")
    for file in stored_files(dancers / "cache", ["driving_pose", "reference_pose"]):
        entry = load_entry(file.path)[0]
        former = entry["key"] | {"device": f"cpu, {torch.get_num_threads()} threads"}
        cache.get_or_compute(file.level, former, lambda value=entry["value"]: value)
        file.path.unlink()
    monkeypatch.setattr(FakeDetector, "__call__", lambda *_: pytest.fail("it was detected again"))
    second = cached(config).prepare(plan_jobs(config)[0])
    assert [str(pose) for pose in first.drawn.poses] == [str(pose) for pose in second.drawn.poses]


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
    for name, item in items or ():
        yield from leaves(item, (*path, name))


def test_every_leaf_of_every_stored_key_is_part_of_its_name(dancers):
    misses(settings(dancers, "test_case[0].noise_aug_strength=0.1"))
    stored = stored_files(dancers / "cache")
    assert {file.level for file in stored} == LEVELS
    for file in stored:
        key = load_entry(file.path)[0]["key"]
        for *parents, last in leaves(key):
            changed = json.loads(json.dumps(key))
            parent = changed
            for name in parents:
                parent = parent[name]
            parent[last] = "changed"
            assert entry_path(dancers / "cache", file.level, key) == file.path
            assert entry_path(dancers / "cache", file.level, changed) != file.path


def test_a_video_is_decoded_for_its_facts_and_for_its_poses_and_no_more(dancers, monkeypatch):
    """The contact sheet takes its frames as they go by; where poses are known, it has its own alone read."""
    asked, started = [], process.started

    def counted(command, request=None):
        asked.append(request and request["task"])
        return started(command, request)

    monkeypatch.setattr(process, "started", counted)
    plain, config = Animator(settings(dancers)), settings(dancers)
    make(plain)
    assert asked == ["facts", "frames"]
    sheet = plan_jobs(config)[0].beside(".jpg").read_bytes()
    for tasks in (["facts", "frames"], ["frames"]):
        asked.clear()
        make(cached(config))
        assert asked == tasks
        assert plan_jobs(config)[0].beside(".jpg").read_bytes() == sheet


def test_damaged_entries_change_no_frame(dancers):
    config = settings(dancers, "output.contact_sheet=false")
    latents, video = make(cached(config))
    for file in stored_files(dancers / "cache"):
        data = bytearray(file.path.read_bytes())
        data[len(data) // 2] ^= 16
        file.path.write_bytes(data[:-10] if file.level == "video" else data)
    animator = cached(config)
    same_latents, same_video = make(animator)
    assert torch.equal(same_latents, latents)
    assert same_video == video
    assert levels(animator.features.cache, "set_aside") >= {"video", "driving_pose", "vae_latents"}


def test_a_value_of_another_shape_under_the_right_key_is_computed_again(dancers):
    config = settings(dancers)
    misses(config)
    for file in stored_files(dancers / "cache"):
        entry, _ = load_entry(file.path)
        entry["value"] = {"strange": 1}
        torch.save(entry, file.path)
    assert misses(config) == LEVELS


def test_the_detected_reference_keeps_its_precision(dancers, monkeypatch):
    pose = dancing_poses(1)[0]
    pose["faces"] = pose["faces"].astype(np.float64) + 1e-9
    monkeypatch.setattr(FakeDetector, "poses", [pose])
    job = plan_jobs(settings(dancers))[0]
    read = [cached(settings(dancers)).clips.reference(job).pose for _ in range(2)]
    for reference in read:
        assert reference["faces"].dtype == np.float64
        np.testing.assert_array_equal(reference["faces"], pose["faces"])


def test_nobody_in_the_video_is_an_error_also_from_the_cache(dancers, monkeypatch):
    monkeypatch.setattr(FakeDetector, "poses", [empty_pose()])
    config = settings(dancers)
    job = plan_jobs(config)[0]
    for kind in ("misses", "hits"):
        animator = cached(config)
        with pytest.raises(InputError, match=r"a\.mp4"):
            animator.clips.driving_poses(job, animator.features.open_video(job.video))
        assert "driving_pose" in levels(animator.features.cache, kind)


def test_flags_choose_what_is_kept(dancers):
    config = settings(dancers, "feature_cache.pipeline_features=false")
    assert animate_folder_cached(config) == 0
    assert {file.level for file in stored_files(dancers / "cache")} == FEATURES
    shutil.rmtree(dancers / "cache")
    assert animate_folder_cached(settings(dancers, "feature_cache.enabled=false", "output.overwrite=true")) == 0
    assert not (dancers / "cache").exists()


def test_the_turbo_run_skips_what_the_cached_run_finished(dancers):
    assert animate_folder_cached(settings(dancers)) == 0
    assert animate_folder(settings(dancers)) == 0
    items = last_items(dancers / "outputs")
    assert [item["status"] for item in items] == ["skipped"]


def test_saved_poses_are_the_same_from_the_cache(dancers):
    written = []
    for _ in range(2):
        folder = dancers / "saved"
        shutil.rmtree(folder, ignore_errors=True)
        animate_folder_cached(settings(dancers, f"pose.save_folder={folder}", "output.overwrite=true"))
        written.append((folder / "a.npz").read_bytes())
    assert written[0] == written[1]


def test_a_folder_of_frames_is_found_again_by_its_content(dancers):
    folder = dancers / "videos" / "frames"
    folder.mkdir()
    for number in range(4):
        PIL.Image.new("RGB", (64, 96), (number, 0, 0)).save(folder / f"{number}.png")
    (dancers / "videos" / "a.mp4").unlink()
    config = settings(dancers)
    job = plan_jobs(config)[0]
    for kind, expected in (("misses", {"driving_pose"}), ("hits", {"driving_pose"})):
        animator = cached(config)
        animator.clips.driving_poses(job, animator.features.open_video(job.video))
        assert levels(animator.features.cache, kind) == expected
    PIL.Image.new("RGB", (64, 96), (9, 0, 0)).save(folder / "3.png")
    animator = cached(config)
    animator.clips.driving_poses(job, animator.features.open_video(job.video))
    assert levels(animator.features.cache, "misses") == {"driving_pose"}


def test_a_run_without_a_usable_cache_folder_gives_the_same_files(dancers, caplog):
    animate_folder(settings(dancers))
    expected = (dancers / "outputs" / "videos" / "a.mp4").read_bytes()
    (dancers / "cache").write_text("a file")
    assert animate_folder_cached(settings(dancers, "output.overwrite=true")) == 0
    assert (dancers / "outputs" / "videos" / "a.mp4").read_bytes() == expected
    assert len([record for record in caplog.records if "goes on without storing" in record.message]) == 1


def test_the_benchmark_measures_and_leaves_the_cache_alone(dancers):
    assert benchmark_cache(settings(dancers, "feature_cache.benchmark_repeats=1", "feature_cache.enabled=false")) == 0
    report = json.loads((dancers / "outputs" / "benchmark_cache.json").read_text())
    assert report["same_mp4_every_time"]
    assert report["frames"] == 6
    assert [entry["kind"] for entry in report["passes"]] == ["cold", "warm"]
    assert set(report["levels"]) == LEVELS
    for entry in report["passes"]:
        for numbers in entry["levels"].values():
            assert (numbers["hits"], numbers["misses"]) == ((0, 1) if entry["kind"] == "cold" else (1, 0))
        assert entry["seconds"]["total"] >= entry["seconds"]["preprocess"] + entry["seconds"]["pipeline"]
    with PIL.Image.open(dancers / "outputs" / "benchmark_cache.png") as chart:
        assert chart.width > 800
    assert list((dancers / "cache").iterdir()) == []
