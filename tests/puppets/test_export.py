"""Puppets as files: what is written is what was drawn, and the scripts find it."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimicmotion.dwpose.keypoints import arrays_from_pose, load_poses
from mimicmotion.errors import UsageError
from mimicmotion.features import load_reference, read_poses
from mimicmotion.puppets.clips import DEMO_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS, make_clip, make_still
from mimicmotion.puppets.export import draw_puppets
from mimicmotion.puppets.keypoints import SEEN
from mimicmotion.puppets.motion import KINDS
from mimicmotion.puppets.render import PART
from mimicmotion.video.source import open_video

SCRIPT = Path(__file__).parents[2] / "scripts" / "draw_puppets.py"
EYES_TO_ANKLES = [*range(14), 14, 15]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("puppets")
    paths = draw_puppets(folder, 2, ("wave", "jump"), 0.4, 96, 64, seed=3, sheet=folder / "sheet.jpg")
    assert [str(path.relative_to(folder)) for path in paths] == [
        "references/person-03.png",
        "references/person-04.png",
        "driving/wave.mp4",
        "driving/jump.mp4",
    ]
    return folder


def same(one: dict, other: dict) -> bool:
    pairs = zip(arrays_from_pose(one).values(), arrays_from_pose(other).values(), strict=True)
    return all(np.allclose(a, b, atol=1e-6) for a, b in pairs)


def no_detector(pixels):
    raise AssertionError("the pose beside the picture is not used")


def test_a_reference_brings_its_own_exact_pose(drawn):
    still = make_still(DEMO_SEEDS[4], 96, 64)
    path = drawn / "references" / "person-04.png"
    assert np.array_equal(np.asarray(Image.open(path)), still.frames[0])
    reference = load_reference(path, 64, no_detector)
    assert reference.pixels.shape == (64, 64, 3), "cropped to the frame"
    saved = load_poses(path.with_suffix(".pose.npz"))
    assert same(saved.poses[0], still.poses[0])
    assert (saved.height, saved.width, saved.source) == (96, 64, path.name)


def test_a_driving_clip_fits_its_poses_frame_by_frame(drawn):
    number = DEMO_SEEDS[len(DEMO_SEEDS) // 2 + 3 + list(KINDS).index("wave")]
    clip = make_clip(number, 7, 96, 64, "wave", whole_body=True)
    video = open_video(drawn / "driving" / "wave.mp4")
    assert (video.num_frames, video.fps, video.height, video.width) == (6, 15, 96, 64)
    driving = read_poses(drawn / "driving" / "wave.npz", video, sample_stride=1)
    assert driving.frame_indices == list(range(6))
    for (_, pixels), frame, pose, found in zip(
        video.frames(), clip.frames[1:], clip.poses[1:], driving.detected, strict=True
    ):
        assert np.abs(pixels.astype(int) - frame).mean() < 4, "but for what H.264 loses of the colours"
        assert same(pose, found)


def test_equal_arguments_give_equal_bytes(drawn, tmp_path):
    draw_puppets(tmp_path, 2, ("wave", "jump"), 0.4, 96, 64, seed=3, sheet=tmp_path / "sheet.jpg")
    files = sorted(path.relative_to(drawn) for path in drawn.rglob("*") if path.is_file())
    assert len(files) == 9, "two pictures and two clips with their poses, and the sheet"
    assert all((drawn / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)


@pytest.mark.parametrize("number", range(8))
def test_a_reference_stands_whole_with_arms_off_the_body_and_room_to_move(number):
    still = make_still(DEMO_SEEDS[number])
    body, scores = still.poses[0]["bodies"]["candidate"], still.poses[0]["bodies"]["score"][0]
    assert (scores[EYES_TO_ANKLES] >= SEEN[0]).all()
    for name in ("right_foot", "left_foot"):
        rows, _ = np.nonzero(still.parts[0] == PART[name])
        assert len(rows) > 0
        assert rows.max() < 191, "feet end inside the picture"
    wrists, hips = body[[4, 7], 0], body[[8, 11], 0]
    assert wrists[0] < hips[0] - 0.05
    assert wrists[1] > hips[1] + 0.05
    arm = np.linalg.norm((body[[2, 3]] - body[[3, 4]]) * (128, 192), axis=-1).sum() / 192
    assert body[2, 1] - arm > 0.05, "an arm stretched upwards stays in the picture"


def test_words_of_one_signer_go_from_rest_to_rest(tmp_path):
    paths = draw_puppets(tmp_path, count=0, kinds=(), words=2)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["words/word-00.mp4", "words/word-01.mp4"]
    one, other = (
        np.stack([arrays_from_pose(pose)["hands"][0] for pose in load_poses(path.with_suffix(".npz")).poses])
        for path in paths
    )
    assert len(one) == open_video(paths[0]).num_frames == 39
    for hands in (one, other):
        assert np.allclose(hands[:6], one[0], atol=1e-6) and np.allclose(hands[-6:], one[0], atol=1e-6)
    assert np.abs(one[19] - one[0]).max() > 0.05 < np.abs(one[19] - other[19]).max()


def test_nobody_in_the_demo_was_trained_or_measured_on():
    others = {TRAINING_SEEDS[0], TRAINING_SEEDS[-1], VALIDATION_SEEDS[0], VALIDATION_SEEDS[-1]}
    assert DEMO_SEEDS[0] > max(others)


def test_whole_bodies_change_nobody_else():
    halves = [seed for seed in range(20) if make_clip(seed, 1, 96, 64).person.scale > 1]
    assert halves
    for seed in halves:
        assert make_clip(seed, 1, 96, 64, whole_body=True).person.scale < 0.9
    whole = next(seed for seed in range(20) if seed not in halves)
    assert np.array_equal(make_clip(whole, 2).frames, make_clip(whole, 2, whole_body=True).frames)


def test_signs_are_cut_out_of_true_sentences(tmp_path):
    draw_puppets(tmp_path, count=0, kinds=(), sentences=2, height=96, width=64)
    folder = tmp_path / "sentences"
    rows = [line.split(",") for line in (folder / "sentences.csv").read_text().splitlines()[1:]]
    assert [name for name, _ in rows] == ["s0", "s1"]
    whole = load_poses(folder / "true" / "s1.npz").poses
    for place, word in enumerate(rows[1][1].split()):
        cut = folder / "words" / "s1" / f"{word}_cut.npz"
        poses = load_poses(cut).poses
        assert open_video(cut.with_suffix(".mp4")).num_frames == len(poses) == 16
        assert all(same(one, other) for one, other in zip(poses, whole[21 * place :], strict=False))
    assert len(whole) == 4 * 16 + 3 * 5 == open_video(folder / "true" / "s1.mp4").num_frames
    assert load_reference(folder / "signer.png", 64, no_detector).pose is not None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kinds": ("wave", "swim")}, "swim"),
        ({"count": 0, "kinds": ()}, "count"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"height": 95}, "height"),
        ({"width": 8}, "width"),
        ({"seed": -1}, "seed"),
        ({"seed": len(DEMO_SEEDS)}, "seed"),
        ({"sheet": "sheet.png"}, "jpg"),
        ({"words": -1}, "words"),
        ({"sentences": 101}, "sentences"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(tmp_path, changed, words):
    with pytest.raises(UsageError, match=words):
        draw_puppets(tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


def test_the_script_tells_by_its_exit_code(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    small = ["--count", "1", "--height", "96", "--width", "64"]
    assert main([*small, "--kinds", "--out", str(tmp_path / "good")]) == 0
    assert sorted(path.name for path in (tmp_path / "good").iterdir()) == ["references"]
    assert main([*small, "--kinds", "swim", "--out", str(tmp_path / "bad")]) == 2
    (tmp_path / "file").write_text("in the way")
    assert main([*small, "--kinds", "--out", str(tmp_path / "file")]) == 3
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_help_needs_no_torch():
    code = f"import runpy, sys; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    code += "\nexcept SystemExit: pass\nassert not {'torch', 'diffusers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "--kinds" in done.stdout
