"""A run that names no input gets the demo's; one that names some is left alone."""

import logging
import shutil
from pathlib import Path

import pytest

from mimicmotion import places
from mimicmotion.config import trace_config
from mimicmotion.demo import inputs, provide_inputs

ROOT = Path(__file__).resolve().parents[2]
PERSON = Path("assets/demo/puppets/references/person-04.png")


@pytest.fixture
def empty(tmp_path, monkeypatch, without_network):
    """The working directory: an empty folder, and a package without the demo's files. The clip cannot be had."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "configs", home / "configs")
    monkeypatch.setattr(places, "HOME", home)
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(inputs, "SECONDS", 0.2)
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_clip(folder):
    """A stand-in for the real clip."""
    clip = Path(folder) / "driving" / "jumping_jacks.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    return True, clip, Path(folder) / "reference.png"


def test_the_real_clip_and_a_drawn_person(empty, monkeypatch, caplog):
    monkeypatch.setattr("mimicmotion.demo.clip.get_demo_clip", write_clip)
    origin = trace_config()
    before = origin.differences()
    with caplog.at_level(logging.INFO):
        provide_inputs(origin)
    assert [record.getMessage() for record in caplog.records] == [
        "No input is named: the demo's are made in assets/demo"
    ]
    assert origin.differences() == before
    assert PERSON.is_file() and Path(origin.config.batch.video_folder, "jumping_jacks.mp4").is_file()
    made = files(empty)
    provide_inputs(trace_config())
    assert files(empty) == made, "a second run finds them"


def test_without_the_clip_a_drawn_person_drives_with_exact_poses(empty, caplog):
    origin = trace_config()
    provide_inputs(origin)
    assert "A drawn person drives" in caplog.text and "sports2d" in caplog.text
    config = origin.config
    video = Path(config.batch.video_folder) / config.batch.videos[0]
    assert files(empty) == [
        "assets/demo/puppets/driving/jump.mp4",
        "assets/demo/puppets/driving/jump.npz",
        PERSON.as_posix(),
        PERSON.with_suffix(".pose.npz").as_posix(),
    ]
    assert video.is_file() and Path(config.pose.folder, "jump.npz").is_file()
    assert (config.pose.backend, config.test_case[0].sample_stride) == ("file", 1)
    assert "pose.backend: file (the demo)" in origin.differences()


def test_what_somebody_chose_stays(empty):
    origin = trace_config(overrides=["test_case[0].sample_stride=3"])
    provide_inputs(origin)
    assert origin.config.test_case[0].sample_stride == 3


@pytest.mark.parametrize(
    "override",
    [
        "batch.video_folder=videos",
        "batch.video_folder=assets/demo/driving",
        "batch.videos=[a.mp4]",
        "test_case[0].ref_image_path=person.png",
        "pose.folder=poses",
        "output.dry_run=true",
    ],
)
def test_who_names_an_input_gets_none(override, empty):
    """A named input that is missing stays an error of the run."""
    origin = trace_config(overrides=[override])
    before = origin.differences()
    provide_inputs(origin)
    assert files(empty) == [] and origin.differences() == before


def test_another_file_names_its_own_inputs(empty):
    Path("mine.yaml").write_text((ROOT / "configs" / "test.yaml").read_text())
    provide_inputs(trace_config("mine.yaml"))
    assert files(empty) == ["mine.yaml"]


def test_the_person_is_the_one_of_the_default_configuration(empty):
    assert trace_config().config.test_case[0].ref_image_path == PERSON.as_posix()
    assert PERSON.name == f"person-{inputs.PERSON:02d}.png"


def test_inputs_may_be_made_anew(empty, monkeypatch):
    monkeypatch.setattr("mimicmotion.demo.clip.get_demo_clip", write_clip)
    PERSON.parent.mkdir(parents=True)
    PERSON.write_bytes(b"damaged")
    provide_inputs(trace_config(), renew=True)
    assert len(PERSON.read_bytes()) > 1000
