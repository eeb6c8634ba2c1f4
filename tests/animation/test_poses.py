"""Poses on their way through a run: what is drawn outside is told, folders are checked first, settings arrive."""

import dataclasses
import logging
from types import SimpleNamespace

import numpy as np
import pytest

import mimicmotion
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.models import Models
from mimicmotion.config import load_config
from mimicmotion.dwpose import draw_pose
from mimicmotion.dwpose.keypoints import make_bodies
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.latent_concat import run_latent_concat
from mimicmotion.latent_concat.entries import settings_of
from mimicmotion.results import plan_jobs
from tests.conftest import dancing_poses, write_pose_file


def settings(project, *overrides):
    return load_config(project / "settings.yaml", overrides=["batch.videos=[a.mp4]", *overrides])


def prepared(project, *overrides):
    config = settings(project, *overrides)
    return Animator(config).prepare(plan_jobs(config)[0])


def moved(poses, move):
    return [
        pose | {"bodies": make_bodies(move(i, pose["bodies"]["candidate"]).astype(np.float32), pose["bodies"]["score"])}
        for i, pose in enumerate(poses)
    ]


@pytest.mark.parametrize(
    ("align", "remedy"), [("robust", "stays in one place"), ("linear", "--align robust"), ("none", "--align robust")]
)
def test_much_that_is_outside_is_a_warning_with_the_remedy(project, caplog, align, remedy):
    across = moved(dancing_poses(6), lambda i, points: points + np.array([0.36 * i - 0.9, 0]))
    write_pose_file(project / "poses" / "a.npz", across, stride=2)
    with caplog.at_level(logging.WARNING):
        clip = prepared(project, f"pose.align={align}")
    assert clip.joints_outside > 0.2
    (line,) = [line for line in caplog.messages if "outside the picture" in line]
    assert "a.mp4" in line and f"{clip.joints_outside:.0%}" in line and remedy in line


def test_who_does_a_handstand_is_inside_and_nobody_is_warned(project, caplog):
    handstand = moved(dancing_poses(6), lambda _, points: 1 - points)
    write_pose_file(project / "poses" / "a.npz", handstand, stride=2)
    with caplog.at_level(logging.WARNING):
        clip = prepared(project)
    assert clip.joints_outside < 0.2  # the reference's feet are cropped
    assert not any("outside the picture" in line for line in caplog.messages)
    assert prepared(project, "pose.align=none").joints_outside == 0
    assert clip.drawn[[0, 1]][1].any()


@pytest.mark.parametrize(
    ("folder", "words"), [("null", "no folder is named; pass --pose_folder"), ("nowhere", "nowhere.*--pose_folder")]
)
def test_poses_from_files_need_their_folder_before_anything_is_done(project, folder, words):
    places = [f"latent_concat.cache_dir={project / 'latents'}", f"latent_concat.output_dir={project / 'joined'}"]
    config = settings(project, f"pose.folder={folder}", "latent_concat.mode=encode", *places)
    before = set(project.rglob("*"))
    dry = dataclasses.replace(config, output=dataclasses.replace(config.output, dry_run=True))
    for work, chosen in ((animate_folder, config), (animate_folder, dry), (run_latent_concat, config)):
        with pytest.raises(UsageError, match=words):
            work(chosen)
    with pytest.raises(UsageError, match=words):
        mimicmotion.animate(project / "person.png", project / "videos" / "a.mp4", config)
    assert set(project.rglob("*")) == before


def test_a_place_where_poses_cannot_be_saved_is_found_before_a_video_is_read(project, monkeypatch):
    (project / "taken").write_text("a file")
    monkeypatch.setattr("mimicmotion.animation.inputs.open_video", lambda *_, **__: pytest.fail("a video was read"))
    with pytest.raises(SetupError, match="taken"):
        animate_folder(settings(project, "pose.backend=mediapipe", f"pose.save_folder={project / 'taken'}"))


CHANGES = [
    "sampling.pose_strength=0.5",
    "sampling.pose_start=0.25",
    "sampling.pose_end=0.75",
    "sampling.image_embed_strength=0.5",
    "pose.draw=[body, hands]",
]


@pytest.mark.parametrize("change", CHANGES)
def test_results_and_kept_latents_depend_on_how_poses_act(project, change):
    recipes = []
    for overrides in ((), (change,)):
        config = settings(project, *overrides)
        recipes.append(Animator(config).recipe(plan_jobs(config)[0]))
    assert recipes[0] != recipes[1]
    assert settings_of(recipes[0]) != settings_of(recipes[1])


def test_the_settings_arrive_at_the_pipeline(project, monkeypatch):
    config, given = settings(project, *CHANGES), {}
    animator = Animator(config)

    def pipeline(_image, drawn, **arguments):
        given.update(arguments, drawn=drawn)
        return SimpleNamespace(frames=None)

    monkeypatch.setattr(Models, "pipeline", property(lambda models: pipeline))
    clip = animator.prepare(plan_jobs(config)[0])
    animator.sample(clip)
    names = ("pose_strength", "pose_start", "pose_end", "image_embed_strength")
    assert [given[name] for name in names] == [0.5, 0.25, 0.75, 0.5]
    expected = draw_pose(clip.drawn.poses[1], 64, 64, parts=["body", "hands"])
    assert np.array_equal(given["drawn"][[1]][0].numpy(), expected)
