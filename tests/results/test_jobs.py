"""Laws of names: no two results of a run share a file, whatever their videos are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimicmotion.config import load_config
from mimicmotion.results import distinct_names, plan_jobs


def planned(folder, names, **given):
    videos = folder / "clips"
    for name in names:
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    Image.new("RGB", (8, 8)).save(folder / "person.png")
    settings = {"batch.video_folder": str(videos), "output.output_dir": str(folder / "out"), "pose.folder": str(folder)}
    return plan_jobs(load_config(given=settings | {"test_case[*].ref_image_path": str(folder / "person.png")} | given))


@pytest.mark.parametrize(
    ("names", "results"),
    [
        (["a.mp4", "b.mkv"], ["a", "b"]),
        (["x.gif", "x.mp4", "y.mp4"], ["x_gif", "x_mp4", "y"]),
        (["X.mkv", "x.mp4"], ["X_mkv", "x_mp4"]),
        (["x.mp4", "x_comparison.mp4"], ["x", "x_comparison_mp4"]),
        (["X_Comparison.webm"], ["X_Comparison_webm"]),
    ],
)
def test_every_video_has_a_result_of_its_own(tmp_path, names, results):
    jobs = planned(tmp_path, names)
    assert [job.output for job in jobs] == [tmp_path / "out" / "clips" / f"{result}.mp4" for result in results]
    files = [path for job in jobs for path in (job.output, job.beside("_comparison.mp4"), job.beside(".jpg"))]
    assert len({str(path).casefold() for path in files}) == len(files)
    poses = [job.poses_in(tmp_path) for job in jobs]
    assert len({str(path).casefold() for path in poses}) == len(poses)


def test_poses_are_named_after_their_video_alone_where_they_can_be(tmp_path):
    assert [job.poses_in(tmp_path).name for job in planned(tmp_path, ["x.mp4", "x_comparison.mp4"])] == [
        "x.npz",
        "x_comparison.npz",
    ]


def test_equal_videos_of_two_folders_keep_their_names_but_not_their_poses(tmp_path):
    paths = [str(tmp_path / "clips" / name) for name in ("one/x.mp4", "two/x.mp4")]
    jobs = planned(tmp_path, ["one/x.mp4", "two/x.mp4", "y.mp4"], **{"batch.videos": paths})
    assert [job.output for job in jobs] == [tmp_path / "out" / "one" / "x.mp4", tmp_path / "out" / "two" / "x.mp4"]
    assert len({job.poses_in(tmp_path) for job in jobs}) == 2


@given(st.lists(st.sampled_from(["x", "X", "x_mp4", "x_gif", "y"]), max_size=6), st.data())
def test_distinct_names_are_distinct_and_leave_single_ones_alone(names, data):
    kinds = [data.draw(st.sampled_from(["mp4", "gif"])) for _ in names]
    videos = [Path(str(place), f"{name}.{kind}") for place, (name, kind) in enumerate(zip(names, kinds, strict=True))]
    found = distinct_names(videos, names)
    assert len({name.casefold() for name in found}) == len(names)
    for name, before in zip(found, names, strict=True):
        if [other.casefold() for other in names].count(before.casefold()) == 1:
            assert name == before
