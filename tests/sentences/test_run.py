"""Sentences from settings to files, on a micro model and saved poses."""

import gc
import json
import shutil
import tracemalloc

import numpy as np
import pytest

from mimicmotion.animation.sampler import Sampler
from mimicmotion.config import JOINS, load_config
from mimicmotion.dwpose import load_poses
from mimicmotion.errors import UsageError
from mimicmotion.pipelines import MimicMotionPipeline
from mimicmotion.sentences import make_sentences
from mimicmotion.sentences.perform import read_timeline
from mimicmotion.sentences.table import read_table
from mimicmotion.video import open_video
from tests.conftest import last_items, read_nothing, write_clip, write_pose_file
from tests.sentences.signing import signer

TABLE = "sentence,words\ns1,a b a\ns2,c NO_REF_tree a\ns3,still\ns4,NO_REF_x\ns5,b\n"


@pytest.fixture
def words(project):
    """The project's three clips as words, a clip that is all rest, and the poses of each."""
    shutil.copyfile(project / "videos" / "a.mp4", project / "videos" / "still.mp4")
    for name, places in {"a": (0.4, 0.2), "b": (0.2, 0.08), "c": (0.3, 0.1)}.items():
        heights = np.linspace(*places, 4)
        poses = [signer(), *(signer(left=(0.15, height)) for height in heights), signer()]
        write_pose_file(project / "poses" / f"{name}.npz", poses, stride=2)
    write_pose_file(project / "poses" / "still.npz", [signer()] * 6, stride=2)
    (project / "sentences.csv").write_text(TABLE)
    return project


@pytest.fixture
def sampled(monkeypatch):
    """The poses of every sentence that is sampled, the reference's first."""
    seen, sample = [], Sampler.sample

    def noted(self, clip, *arguments, **more):
        seen.append(clip.drawn.poses)
        return sample(self, clip, *arguments, **more)

    monkeypatch.setattr(Sampler, "sample", noted)
    return seen


def run(project, folder="out", **given):
    values = {
        "sentences.table": str(project / "sentences.csv"),
        "sentences.words": str(project / "videos"),
        "sentences.output_dir": str(project / folder),
        "sentences.trim": True,
        "sentences.missing": "skip",
        "pose.align": "none",
        "feature_cache.folder": str(project / "cache"),
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    return make_sentences(load_config(str(project / "settings.yaml"), values))


def record(project, name, folder="out"):
    return json.loads((project / folder / f"{name}.json").read_text())


def test_sentences_are_made_told_and_kept(words, sampled, capsys):
    assert run(words) == 1
    told = capsys.readouterr().out
    statuses = {item["video"]: item["status"] for item in last_items(words / "out")}
    assert statuses == {"s1": "done", "s2": "done", "s3": "failed", "s4": "failed", "s5": "done"}
    assert "sentences.csv, row 4: word still" in told and "all rest pose" in told
    assert "2 of 3" in told and "without NO_REF_tree" in told
    assert "sentences.csv, row 5: no clip of NO_REF_x" in told

    first = record(words, "s1")
    spoken, joins = first["words"], first["joins"]
    assert [word["word"] for word in spoken] == ["a", "b", "a"]
    assert all(word["frames"] == 4 and word["cut"]["rest_before"] == 1 for word in spoken)
    assert first["frames"] == 12 + sum(join["frames"] for join in joins) == len(sampled[0]) - 1
    assert open_video(words / "out" / "s1.mp4").num_frames == first["frames"]
    # b begins where a ends, and ends far from where a begins.
    assert joins[0]["frames"] < joins[1]["frames"]
    assert all(join["fastest_hand"] <= 1.5 for join in joins)
    for word in spoken:
        saved = load_poses(words / "poses" / f"{word['word']}.npz").poses[1:5]
        own = sampled[0][1 + word["first_frame"] :][:4]
        for mine, theirs in zip(own, saved, strict=True):
            assert np.array_equal(mine["hands"], theirs["hands"])
            assert np.array_equal(mine["bodies"]["candidate"], theirs["bodies"]["candidate"])
    assert (words / "out" / "s1.srt").read_text().count("-->") == 3
    assert set(first["files"]) == {".mp4", ".jpg", ".srt", ".vtt"}
    assert record(words, "s2")["left_out"] == ["NO_REF_tree"]

    before, count = (words / "out" / "s1.mp4").read_bytes(), len(sampled)
    (words / "out" / "s5.vtt").unlink()
    assert run(words) == 1 and len(sampled) == count, "finished sentences are skipped, one is made whole"
    statuses = {item["video"]: item["status"] for item in last_items(words / "out")}
    assert statuses == {"s1": "skipped", "s2": "skipped", "s3": "failed", "s4": "failed", "s5": "done"}

    with pytest.raises(UsageError, match=r"sentences\.speed_limit: 1\.5, now 0\.5"):
        run(words, sentences__speed_limit=0.5)
    (words / "sentences.csv").write_text("sentence,words\ns1,a b a\n")
    assert run(words, "again") == 0
    assert (words / "again" / "s1.mp4").read_bytes() == before, "the same seed gives the same bytes"


@pytest.mark.parametrize("join", ["poses", "slerp"])
def test_what_was_sampled_is_decoded_by_the_next_run(words, sampled, monkeypatch, join):
    (words / "sentences.csv").write_text("sentence,words\ns1,a b\n")
    with monkeypatch.context() as patch:
        patch.setattr(MimicMotionPipeline, "decode_in_chunks", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
        assert run(words, sentences__join=join) == 1
    count = len(sampled)
    assert (words / "out" / "s1.safetensors").is_file() and count
    assert run(words, sentences__join=join) == 0 and len(sampled) == count
    assert not (words / "out" / "s1.safetensors").exists()
    kept = (words / "out" / "s1.mp4").read_bytes()
    assert run(words, "again", sentences__join=join) == 0 and len(sampled) == 2 * count
    assert (words / "again" / "s1.mp4").read_bytes() == kept


def test_latents_of_another_frame_rate_are_not_taken(words, sampled, monkeypatch):
    (words / "sentences.csv").write_text("sentence,words\ns1,a b\n")
    with monkeypatch.context() as patch:
        patch.setattr(MimicMotionPipeline, "decode_in_chunks", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
        assert run(words) == 1
    count = len(sampled)
    fps = load_config(str(words / "settings.yaml")).test_case[0].fps
    assert run(words, **{"test_case[0].fps": 2 * fps}) == 0
    assert len(sampled) == count + 1


def test_cut_joins_without_a_transition(words, sampled):
    (words / "sentences.csv").write_text("sentence,words\ns1,a b\n")
    assert run(words, sentences__join="cut") == 0
    assert len(sampled[0]) == 9 and record(words, "s1")["joins"][0]["frames"] == 0


def test_a_sentences_own_clips_have_poses_in_its_own_folder(words, sampled):
    for folder, ending in (("videos", "mp4"), ("poses", "npz")):
        (words / folder / "s1").mkdir()
        shutil.copyfile(words / folder / f"b.{ending}", words / folder / "s1" / f"a_17.{ending}")
    (words / "sentences.csv").write_text("sentence,words\ns1,a\n")
    assert run(words, sentences__transition_frames=5) == 0
    saved = load_poses(words / "poses" / "b.npz").poses[1:5]
    assert all(np.array_equal(one["hands"], two["hands"]) for one, two in zip(sampled[0][1:], saved, strict=True))


def test_a_dry_run_writes_nothing(words, capsys):
    assert run(words, output__dry_run=True, sentences__missing="fail") == 1
    told = capsys.readouterr().out
    assert "a.mp4 b.mp4 a.mp4" in told and "row 3: no clip of NO_REF_tree" in told
    assert not (words / "out").exists()


def test_all_ways_are_made_compared_and_kept(words, sampled, capsys):
    (words / "sentences.csv").write_text("sentence,words\ns1,a b a\n")
    assert run(words, sentences__compare=True, sentences__transition_frames="3") == 0
    told = capsys.readouterr().out
    assert "7 done" in told and all(f"s1, {way}" in told for way in JOINS)
    frames = {way: record(words, f"s1.{way}")["frames"] for way in JOINS}
    assert frames == {way: 12 if way in ("latents", "cut") else 18 for way in JOINS}
    for way, count in frames.items():
        assert open_video(words / "out" / f"s1.{way}.mp4").num_frames == count
    # Two words sampled for each way of the latents, and two bridges.
    assert len(sampled) == 1 + (2 + 2) + 2 + 2 + 2 + 1
    whole, bridged = sampled[0][1:], sampled[3][1:]
    assert all(np.array_equal(one["hands"], other["hands"]) for one, other in zip(bridged, whole[3:8], strict=True))

    figures = record(words, "s1", "out/joins")["joins"]
    assert [at["between"] for at in figures] == ["a > b", "b > a"]
    assert all(set(at["ways"]) == set(JOINS) for at in figures)
    for figure in figures[0]["ways"].values():
        assert figure["total"] == pytest.approx(figure["place"] + figure["change"], abs=2e-3)
    assert len((words / "out" / "joins" / "joins.csv").read_text().splitlines()) == 1 + 2 * len(JOINS)
    assert open_video(words / "out" / "joins" / "s1.mp4").num_frames == 18

    count = len(sampled)
    assert run(words, sentences__compare=True, sentences__transition_frames="3") == 0
    assert "7 skipped" in capsys.readouterr().out and len(sampled) == count
    assert run(words, sentences__join="slerp", output__variant="slerp", sentences__transition_frames="3") == 0
    assert "1 skipped" in capsys.readouterr().out, "a way of a comparison is the sentence joined that way"


def test_what_lies_beside_a_sentence_is_completed(words, sampled, capsys):
    (words / "sentences.csv").write_text("sentence,words\ns1,a b\n")
    assert run(words) == 0
    beside = {ending: (words / "out" / f"s1{ending}").read_bytes() for ending in (".srt", ".vtt")}
    (words / "out" / "s1.srt").unlink()
    (words / "out" / "s1.vtt").write_text("WEBVTT\n")
    (words / "out" / "s1.jpg").unlink()
    assert run(words) == 0
    assert "made for it: s1.jpg, s1.srt, s1.vtt" in capsys.readouterr().out and len(sampled) == 1
    assert {ending: (words / "out" / f"s1{ending}").read_bytes() for ending in beside} == beside
    assert (words / "out" / "s1.jpg").stat().st_size > 1000
    with pytest.MonkeyPatch.context() as patch:
        read_nothing(patch)
        assert run(words) == 0 and "1 skipped" in capsys.readouterr().out
    assert "manifest.jsonl" in {path.name for path in (words / "out").iterdir()}


def test_shards_make_every_sentence_once(words, monkeypatch, capsys):
    monkeypatch.setattr("mimicmotion.sentences.perform.perform", read_alone)
    rows = [f"s{number},a" for number in range(9)]
    (words / "sentences.csv").write_text("\n".join(["sentence,words", *rows]))
    made = []
    for number in (1, 2, 3):
        assert run(words, batch__shard=f"{number}/3") == 0
        items = last_items(words / "out") if "falls to it" not in capsys.readouterr().out else []
        made += [item["video"] for item in items]
    assert sorted(made) == [row.split(",")[0] for row in rows]


def test_random_sentences_are_listed_and_made_again(words, monkeypatch):
    monkeypatch.setattr("mimicmotion.sentences.perform.perform", read_alone)
    given = {"sentences__table": None, "sentences__random": ["2", "3"], "sentences__trim": False}
    assert run(words, output__dry_run=True, **given) == 0 and not (words / "out").exists()
    assert run(words, **given) == 0
    (table,) = (words / "out").glob("*.csv")
    listed = read_table(table)
    assert [len(set(sentence.words)) for sentence in listed] == [2, 2, 2]
    shutil.copyfile(words / "videos" / "a.mp4", words / "videos" / "aa.mp4")
    assert run(words, **given) == 0 and read_table(table) == listed, "what was drawn is made again"
    with pytest.raises(UsageError, match="takes 9 different words"):
        run(words, **given | {"sentences__random": ["9", "3"]})


def test_planning_takes_no_memory_for_each_sentence(words, monkeypatch):
    kept = []

    def measured(results):
        next(results)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in results:
            pass
        gc.collect()
        kept.append(tracemalloc.get_traced_memory()[0] - before)

    monkeypatch.setattr("mimicmotion.sentences.run.require_kept", measured)
    for count in (5, 5, 25):
        rows = [f"s{number},{' '.join('abc'[(number + k) % 3] for k in range(8))}" for number in range(count)]
        (words / "sentences.csv").write_text("\n".join(["sentence,words", *rows]))
        (words / "out").mkdir(exist_ok=True)
        for number in range(count):  # of what is not there no recipe is made
            (words / "out" / f"s{number}.mp4").touch()
        tracemalloc.start()
        assert run(words, output__dry_run=True) == 0
        tracemalloc.stop()
    # The recipe of one sentence has 5 kB.
    assert kept[2] < 20_000


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sentences__table": None}, "--sentences"),
        ({"sentences__random": ["2", "3"]}, "choose one"),
        ({"sentences__table": None, "sentences__random": ["2"]}, "two numbers"),
        ({"sentences__table": None, "sentences__random": ["0", "3"]}, "two numbers"),
        ({"sentences__truth": "videos"}, "--compare"),
        ({"sentences__truth": "nowhere", "sentences__compare": True}, "no such folder of true sentences"),
        ({"sentences__join": "bridge", "latent_concat__bridge_strength": 0.0}, "bridge_strength"),
        ({"sentences__join": "smooth"}, "sentences.join"),
        ({"sentences__words": None}, "--words"),
        ({"sentences__words": "nowhere"}, "no such folder of word clips"),
        ({"sentences__transition_frames": "few"}, "transition_frames"),
        ({"sentences__transition_frames": "-1"}, "transition_frames"),
        ({"sentences__transition_frames": "10001"}, "transition_frames"),
        ({"latent_steps__folder": "steps"}, "record no steps"),
    ],
)
def test_wrong_settings_end_before_anything_is_made(words, given, told):
    with pytest.raises(UsageError, match=told):
        run(words, **given)
    assert not (words / "out").exists()


def test_a_clips_poses_are_found_once(words, monkeypatch):
    """The detector is asked once per clip, whatever the number of sentences, and not at all by a second run."""
    from mimicmotion.animation.inputs import InputFeatures
    from mimicmotion.features import DetectedPoses

    write_clip(words / "videos" / "b.mp4", 11)  # the others are one clip, which is known by its content
    asked = []

    def detect(self, video, sample_stride):
        asked.append(video.path.name)
        saved = load_poses(words / "poses" / f"{video.path.stem}.npz")
        return DetectedPoses(saved.poses, saved.frame_indices, 2, saved.fps, (saved.height, saved.width))

    monkeypatch.setattr(InputFeatures, "driving_poses", detect)
    monkeypatch.setattr("mimicmotion.sentences.perform.perform", read_alone)
    (words / "sentences.csv").write_text("sentence,words\ns1,a b a\ns2,b a\n")
    assert run(words, pose__backend="mediapipe") == run(words, pose__backend="mediapipe") == 0
    assert asked == ["a.mp4", "b.mp4"]


def read_alone(maker, outcome, plan, made_from):
    read_timeline(maker, plan)
    outcome.status = "done"
