"""The latent concat experiment from settings to files, on a micro model."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from mimicmotion import cli
from mimicmotion.animation.animator import Animator
from mimicmotion.commands import concat
from mimicmotion.config import LatentConcatSettings, load_config
from mimicmotion.errors import InputError, SetupError, UsageError
from mimicmotion.feature_cache.safe_pt import load_pt, save_pt
from mimicmotion.latent_concat import run as latent_concat
from mimicmotion.latent_concat.bridge import JoinSampler
from mimicmotion.latent_concat.entries import load_latents
from mimicmotion.latent_concat.join import Part, join_clips
from mimicmotion.latent_concat.joined_video import joined_frames
from mimicmotion.latent_concat.report import measure, peak_at_joins
from mimicmotion.latent_concat.run import chosen_names, chosen_videos, open_decoder, run_latent_concat, stems
from mimicmotion.modules import TAESDV
from mimicmotion.results import plan_jobs
from mimicmotion.video import open_video
from mimicmotion.video.probe import probe_video
from tests.conftest import dancing_poses, last_items, write_clip, write_pose_file
from tests.tiny_decoders import write_decoder


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])


def settings(project, mode, *overrides, videos="a.mp4,b.mp4"):
    places = [f"latent_concat.cache_dir={project / 'latents'}", f"latent_concat.output_dir={project / 'joined'}"]
    chosen = [f"latent_concat.mode={mode}", f"batch.videos=[{videos}]"]
    return load_config(project / "settings.yaml", overrides=[*places, *chosen, *overrides])


def run(project, mode, *overrides, **arguments):
    return run_latent_concat(settings(project, mode, *overrides, **arguments))


@pytest.fixture(scope="module")
def kept_latents(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def project(project):
    """The project with motions that differ."""
    write_pose_file(project / "poses" / "b.npz", dancing_poses(9)[3:], stride=2)
    return project


@pytest.fixture
def encoded(project, kept_latents):
    """The project with latents and mp4 files of clips a and b; sampled once for the module."""
    if not (kept_latents / "latents").exists():
        assert run(project, "encode") == 0
        for name in ("latents", "joined"):
            shutil.copytree(project / name, kept_latents / name)
    for name in ("latents", "joined"):
        shutil.copytree(kept_latents / name, project / name, dirs_exist_ok=True)
    return project


def frames_of(path):
    return np.stack([frame for _, frame in open_video(path).frames()])


def statuses(project):
    items = last_items(project / "joined")
    return {item["video"].rsplit("/", 1)[-1]: item["status"] for item in items}


def change_metadata(path, **metadata):
    content = load_pt(path)
    content["metadata"] |= metadata
    save_pt(path, content)


# ----------------------------------------------------------------------------------------------------
# Encode


def test_latents_are_those_of_the_turbo_run(encoded):
    config = settings(encoded, "encode", videos="a.mp4")
    animator = Animator(config)
    sampled = animator.sample(animator.prepare(plan_jobs(config)[0]))
    clip = load_latents(encoded / "latents" / "a.pt")
    assert torch.equal(clip.latents, sampled.half())
    assert clip.metadata.items() >= {
        "video_name": "a.mp4", "num_frames": 7, "height": 64, "width": 64, "fps": 15.0, "seed": 3, "dtype": "float16",
    }.items()  # fmt: skip


def test_every_clip_gets_a_video_without_its_reference(encoded):
    info = probe_video(encoded / "joined" / "individual" / "a.mp4")
    assert (info.num_frames, info.fps) == (6, 15)
    assert statuses(encoded) == {"a.mp4": "done", "b.mp4": "done"}


def test_individual_videos_can_be_left_out_and_made_later_without_sampling(encoded, monkeypatch):
    before = (encoded / "joined" / "individual" / "a.mp4").read_bytes()
    shutil.rmtree(encoded / "joined")
    monkeypatch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("a UNet was loaded"))
    assert run(encoded, "encode", "latent_concat.individual_videos=false") == 0
    assert list((encoded / "joined" / "individual").iterdir()) == []
    assert run(encoded, "encode") == 0
    assert (encoded / "joined" / "individual" / "a.mp4").read_bytes() == before
    assert statuses(encoded) == {"a.mp4": "skipped", "b.mp4": "skipped"}


@pytest.mark.parametrize("damage", ["cut", "flipped", "record"])
def test_a_damaged_individual_video_is_decoded_again(encoded, monkeypatch, damage):
    video = encoded / "joined" / "individual" / "a.mp4"
    content = video.read_bytes()
    broken = {"cut": content[:50], "flipped": content[:-1] + bytes([content[-1] ^ 1]), "record": content}
    video.write_bytes(broken[damage])
    if damage == "record":
        video.with_suffix(".json").write_text("[" * 100_000)
    monkeypatch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("a UNet was loaded"))
    assert run(encoded, "encode", videos="a.mp4") == 0
    assert video.read_bytes() == content
    assert json.loads(video.with_suffix(".json").read_text())["files"][".mp4"]["bytes"] == len(content)
    date = video.stat().st_mtime_ns
    assert run(encoded, "encode", videos="a.mp4") == 0
    assert video.stat().st_mtime_ns == date


def test_lost_poses_of_kept_latents_are_found_again_or_the_clip_is_named(encoded, monkeypatch):
    monkeypatch.setattr(Animator, "sample", lambda *_: pytest.fail("sampled"))
    poses = encoded / "latents" / "a.poses.npz"
    before = poses.read_bytes()
    poses.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert run(encoded, "encode", videos="a.mp4") == 0
    assert poses.read_bytes() == before
    poses.unlink()
    change_metadata(encoded / "latents" / "a.pt", poses_hash="0" * 64)
    assert run(encoded, "encode", videos="a.mp4") == 1
    items = last_items(encoded / "joined")
    assert "--overwrite_cache" in items[0]["message"]
    assert not poses.exists()


def test_only_what_is_missing_is_sampled(encoded):
    before = (encoded / "latents" / "a.pt").read_bytes()
    (encoded / "latents" / "b.pt").unlink()
    assert run(encoded, "encode") == 0
    assert statuses(encoded) == {"a.mp4": "skipped", "b.mp4": "done"}
    assert (encoded / "latents" / "a.pt").read_bytes() == before


def test_other_settings_stop_the_run_and_are_named(encoded, monkeypatch):
    before = (encoded / "latents" / "a.pt").read_bytes()
    with pytest.raises(UsageError, match=r"a\.pt: test_case\.seed: 3, now 9") as caught:
        run(encoded, "encode", "test_case[0].seed=9")
    assert "--keep_stale" in str(caught.value)
    monkeypatch.setattr(Animator, "sample", lambda *_: pytest.fail("sampled"))
    assert run(encoded, "encode", "test_case[0].seed=9", "latent_concat.keep_stale=true") == 0
    assert (encoded / "latents" / "a.pt").read_bytes() == before


@pytest.mark.parametrize("harmless", ["output.crf=30", "sampling.decode_chunk_size=3", "latent_concat.interp_frames=2"])
def test_settings_of_the_decoder_make_no_entry_stale(encoded, harmless):
    assert run(encoded, "encode", harmless) == 0
    assert statuses(encoded) == {"a.mp4": "skipped", "b.mp4": "skipped"}


def test_a_small_decoder_joins_what_was_kept_and_is_part_of_the_recipe(encoded, tmp_path):
    write_decoder(tmp_path / "tiny.pth", TAESDV)
    small = f"sampling.decoder={tmp_path / 'tiny.pth'}"
    assert run(encoded, "encode", small) == 0
    assert statuses(encoded) == {"a.mp4": "skipped", "b.mp4": "skipped"}
    assert run(encoded, "decode", small) == 0
    with pytest.raises(UsageError, match=r"sampling\.decoder"):
        run(encoded, "decode")


def test_overwrite_samples_again_and_renews_the_video(encoded):
    video = encoded / "joined" / "individual" / "a.mp4"
    before = video.read_bytes()
    assert run(encoded, "encode", "test_case[0].seed=9", "latent_concat.overwrite_cache=true", videos="a.mp4") == 0
    assert load_latents(encoded / "latents" / "a.pt").metadata["seed"] == 9
    assert video.read_bytes() != before


def test_a_changed_reference_is_stale(encoded):
    PIL.Image.new("RGB", (64, 96), (10, 120, 150)).save(encoded / "person.png")
    with pytest.raises(UsageError, match=r"inputs\.reference"):
        run(encoded, "encode")


def test_a_damaged_entry_stops_the_run(encoded):
    (encoded / "latents" / "b.pt").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"b\.pt is damaged"):
        run(encoded, "encode")


def test_a_video_of_the_same_name_never_takes_an_entry(encoded):
    (encoded / "other").mkdir()
    write_clip(encoded / "other" / "a.mp4", fps=25)
    write_pose_file(encoded / "poses" / "a.npz", dancing_poses(6), stride=2, fps=25.0)
    for more in ([], ["latent_concat.overwrite_cache=true"]):
        with pytest.raises(UsageError, match="same name"):
            run(encoded, "encode", f"batch.video_folder={encoded / 'other'}", *more, videos="a.mp4")


def test_videos_of_one_stem_have_entries_of_their_own(project):
    (project / "other").mkdir()
    shutil.copy(project / "videos" / "a.mp4", project / "other" / "A.mp4")
    shutil.copy(project / "videos" / "a.mp4", project / "videos" / "a.mkv")
    videos = f"a.mp4,a.mkv,b.mp4,{project / 'other' / 'A.mp4'},a.mkv"
    first, second, other, third, again = chosen_names(settings(project, "decode", videos=videos))
    assert (first, second, other, again) == ("a_mp4", "a_mkv", "b", "a_mkv")
    assert third.startswith("A_mp4-")
    encoded = chosen_videos(settings(project, "encode", videos=videos))
    assert stems(encoded) == [first, second, other, third]
    assert len(chosen_videos(settings(project, "encode", videos="a"))) == 2


def test_one_bad_video_does_not_stop_the_others(project):
    (project / "videos" / "a.mp4").write_text("this is no video")
    assert run(project, "encode") == 1
    assert statuses(project) == {"a.mp4": "failed", "b.mp4": "done"}
    assert [path.name for path in sorted((project / "latents").iterdir())] == ["b.poses.npz", "b.pt"]


def test_long_clips_are_cut_and_a_longer_wish_is_stale(project):
    short = "latent_concat.max_pose_frames=5"
    assert run(project, "encode", short, videos="a.mp4") == 0
    assert load_latents(project / "latents" / "a.pt").latents.shape[1] == 5
    assert probe_video(project / "joined" / "individual" / "a.mp4").num_frames == 4
    assert run(project, "encode", short, videos="a.mp4") == 0
    with pytest.raises(UsageError, match="5 of 7 frames are kept, 6 are wanted"):
        run(project, "encode", "latent_concat.max_pose_frames=6", videos="a.mp4")


def test_the_table_names_what_was_written(project, capsys):
    assert run(project, "encode", "latent_concat.individual_videos=false", videos="a.mp4") == 0
    table = capsys.readouterr().out
    assert str(project / "latents" / "a.pt") in table
    assert "individual" not in table


def test_an_interrupted_run_goes_on_with_the_same_latents(project, monkeypatch):
    assert run(project, "encode") == 0
    whole = {name: (project / "latents" / f"{name}.pt").read_bytes() for name in "ab"}
    shutil.rmtree(project / "latents")
    sample, calls = Animator.sample, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(*arguments)

    monkeypatch.setattr(Animator, "sample", interrupted)
    assert run(project, "encode") == 130
    assert sorted(path.name for path in (project / "latents").iterdir()) == ["a.poses.npz", "a.pt"]
    assert run(project, "encode") == 0
    assert statuses(project) == {"a.mp4": "skipped", "b.mp4": "done"}
    assert {name: (project / "latents" / f"{name}.pt").read_bytes() for name in "ab"} == whole


def test_a_mode_is_needed_and_one_test_case(project):
    with pytest.raises(UsageError, match="--mode"):
        run(project, "null")
    config = settings(project, "encode")
    config.test_case.append(config.test_case[0])
    with pytest.raises(UsageError, match="2 entries"):
        run_latent_concat(config)


# ----------------------------------------------------------------------------------------------------
# Decode


@pytest.fixture
def without_unet(monkeypatch):
    """Fails the test when anything but a VAE is loaded."""

    def forbidden(*_arguments, **_named):
        pytest.fail("more than the VAE was loaded")

    monkeypatch.setattr("mimicmotion.weights.create_pipeline", forbidden)
    for name in ("load_networks", "load_image_encoder"):
        monkeypatch.setattr(f"mimicmotion.weights.loading.{name}", forbidden)


def test_a_join_of_one_is_the_clip(encoded, without_unet):
    assert run(encoded, "decode", videos="a.mp4") == 0
    assert (encoded / "joined" / "a.mp4").read_bytes() == (encoded / "joined" / "individual" / "a.mp4").read_bytes()
    # The page of all results is there, and knows its record.
    assert '"joined clips"' in (encoded / "joined" / "index.html").read_text(encoding="utf-8")


def test_a_joined_video_is_not_replaced_by_another(encoded, without_unet):
    named = "latent_concat.experiment_name=sentence"
    assert run(encoded, "decode", named) == 0
    before = (encoded / "joined" / "sentence.mp4").read_bytes()
    with pytest.raises(UsageError, match=r"(?s)interp_frames: 0, now 2.*--overwrite"):
        run(encoded, "decode", named, "latent_concat.interp_frames=2")
    with pytest.raises(UsageError, match="inputs"):
        run(encoded, "decode", named, videos="b.mp4,a.mp4")
    assert (encoded / "joined" / "sentence.mp4").read_bytes() == before
    assert run(encoded, "decode", named, "output.overwrite=true", "latent_concat.interp_frames=2") == 0
    assert (encoded / "joined" / "sentence.mp4").read_bytes() != before


def test_isolated_clips_are_decoded_as_alone(encoded, without_unet):
    config = settings(encoded, "decode", "output.crf=0")
    clips = [load_latents(encoded / "latents" / f"{name}.pt") for name in "ab"]
    decoder = open_decoder(config)

    def frames(names, tensors, isolate):
        parts = join_clips(tensors, names, isolate=isolate)
        return np.concatenate(list(joined_frames(decoder, parts, config.sampling, isolate)))

    alone = [frames([clip.name], [clip.latents], False) for clip in clips]
    joined = frames(["a", "b"], [clip.latents for clip in clips], True)
    assert np.array_equal(joined, np.concatenate(alone))


def test_decoding_in_pieces_gives_the_decoder_s_own_frames(encoded, without_unet):
    config = settings(encoded, "decode", "sampling.decode_chunk_size=4")
    clips = [load_latents(encoded / "latents" / f"{name}.pt").latents for name in "ab"]
    decoder = open_decoder(config)
    parts = join_clips(clips, ["a", "b"], interp_frames=3)
    sequence = torch.cat([part.latents.float() for part in parts], dim=1)
    expected = torch.cat(list(decoder.decode_in_chunks(sequence, 4)), dim=1)[0, 1:]
    expected = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(np.concatenate(list(joined_frames(decoder, parts, config.sampling))), expected)


@pytest.mark.parametrize(
    ("overrides", "frames", "name"),
    [
        ([], 12, "a+b"),
        (["latent_concat.drop_first=first"], 13, "a+b_drop-first"),
        (["latent_concat.drop_first=none"], 14, "a+b_drop-none"),
        (["latent_concat.interp_frames=3"], 15, "a+b_linear3"),
        (["latent_concat.interp_frames=2", "latent_concat.interp_mode=smooth"], 10, "a+b_smooth2"),
        (["latent_concat.isolate_clips=true", "latent_concat.experiment_name=mine"], 12, "mine"),
    ],
)
def test_every_way_to_join_has_its_frames_and_its_name(encoded, without_unet, overrides, frames, name):
    assert run(encoded, "decode", *overrides) == 0
    info = probe_video(encoded / "joined" / f"{name}.mp4")
    assert (info.num_frames, info.height, info.width, info.fps) == (frames, 64, 64, 15)
    facts = json.loads((encoded / "joined" / f"{name}.json").read_text())
    assert facts["frames"] == frames
    assert [join["name"] for join in facts["joins"]] == ["a > b"]


def test_clips_are_joined_in_the_order_given_and_may_come_twice(encoded, without_unet):
    assert run(encoded, "decode", "latent_concat.isolate_clips=true", "output.crf=0", videos="b.mp4,a,b.mp4") == 0
    joined = frames_of(encoded / "joined" / "b+a+b_isolated.mp4")
    assert len(joined) == 18
    assert np.abs(joined[:6].astype(int) - joined[12:]).max() <= 3
    assert np.abs(joined[:6].astype(int) - joined[6:12]).mean() > 1


def test_the_videos_need_not_be_there_any_more(encoded, without_unet):
    shutil.rmtree(encoded / "videos")
    assert run(encoded, "decode") == 0


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"fps": 12.0}, r"b\.pt does not fit .*a\.pt: fps 12"),
        ({"model_hash": "x"}, "model_hash"),
        ({"num_frames": 9}, "shape"),
    ],
)
def test_entries_that_do_not_fit_are_refused_by_name(encoded, metadata, words):
    change_metadata(encoded / "latents" / "b.pt", **metadata)
    with pytest.raises(InputError, match=words):
        run(encoded, "decode")
    assert not (encoded / "joined" / "a+b.mp4").exists()


def test_another_vae_is_refused(encoded):
    recipe = load_latents(encoded / "latents" / "a.pt").metadata["recipe"]
    recipe["weights"]["vae"] = "0" * 64
    change_metadata(encoded / "latents" / "a.pt", recipe=recipe)
    with pytest.raises(InputError, match="another VAE"):
        run(encoded, "decode", videos="a.mp4")


def test_another_seed_is_joined_with_a_warning(encoded, caplog):
    change_metadata(encoded / "latents" / "b.pt", seed=8)
    with caplog.at_level(logging.WARNING):
        assert run(encoded, "decode") == 0
    assert "seed 8 and 3" in caplog.text


def test_a_missing_clip_says_to_encode_it(encoded):
    with pytest.raises(InputError, match=r"no latents of c: .*--mode encode"):
        run(encoded, "decode", videos="a.mp4,c.mp4")


@pytest.mark.parametrize(
    "overrides",
    [
        ["latent_concat.interp_frames=2", "latent_concat.bridge_frames=2"],
        ["latent_concat.bridge_frames=2", "latent_concat.bridge_strength=0"],
        ["latent_concat.isolate_clips=true", "latent_concat.bridge_frames=2"],
        ["latent_concat.isolate_clips=true", "latent_concat.interp_frames=2", "latent_concat.interp_mode=smooth"],
        ["latent_concat.experiment_name=../a"],
        ["latent_concat.experiment_name=''"],
    ],
)
def test_options_that_exclude_each_other_are_refused(project, overrides):
    with pytest.raises(UsageError):
        run(project, "decode", *overrides)


def test_the_documents_flags_are_settings():
    groups = concat.GROUPS
    words = (
        "--mode decode --video_folder v --videos a.mp4 b.mp4 --cache_dir c --output_dir o --decode_chunk_size 4 "
        "--max_pose_frames 99 --interp_frames 3 --interp_mode slerp --disable_individual_videos --keep_first_frame "
        "--overwrite_cache --experiment_name e --inference_config configs/test.yaml --bridge_strength 0.5 --seed 7"
    )
    config = cli.parse_config(cli.build_parser("Doc.", groups).parse_args(words.split()), groups).config
    assert (config.batch.video_folder, config.batch.videos) == ("v", ["a.mp4", "b.mp4"])
    assert config.sampling.decode_chunk_size == 4
    assert config.test_case[0].seed == 7
    assert config.output.output_dir == "outputs"
    assert config.latent_concat == LatentConcatSettings(
        mode="decode", cache_dir="c", output_dir="o", experiment_name="e", max_pose_frames=99, individual_videos=False,
        overwrite_cache=True, drop_first="none", interp_frames=3, interp_mode="slerp", bridge_strength=0.5,
    )  # fmt: skip
    default = cli.parse_config(cli.build_parser("Doc.", groups).parse_args([]), groups).config.latent_concat
    assert (default.cache_dir, default.max_pose_frames, default.drop_first) == ("latent_cache", 179, "each")


# ----------------------------------------------------------------------------------------------------
# Bridges and the report


@pytest.fixture
def sampler(encoded):
    config = settings(encoded, "decode")
    return JoinSampler(Animator(config), [load_latents(encoded / "latents" / f"{name}.pt") for name in "ab"])


def test_a_bridge_adds_its_frames_and_leaves_the_clips_alone(encoded, sampler):
    assert run(encoded, "decode", "latent_concat.bridge_frames=2") == 0
    assert probe_video(encoded / "joined" / "a+b_bridge2at0.75.mp4").num_frames == 14
    bridge = sampler.bridge(0, 2, 0.75)
    assert bridge.shape == (1, 2, 4, 8, 8)
    assert torch.equal(bridge, sampler.bridge(0, 2, 0.75))


def test_a_bridge_differs_from_interpolation_and_with_its_strength(sampler):
    weak, strong = sampler.bridge(0, 2, 0.5), sampler.bridge(0, 2, 1.0)
    assert not torch.allclose(weak, strong, atol=0.1)
    assert torch.isfinite(strong).all()


def test_frames_beside_a_bridge_are_held(sampler, monkeypatch):
    seen = []
    pipeline = sampler._animator.models.pipeline
    call = type(pipeline).__call__

    def spy(self, *arguments, **named):
        result = call(self, *arguments, **named)
        seen.append((named["latents"], named["first_step"], result.frames))
        return result

    monkeypatch.setattr(type(pipeline), "__call__", spy)
    bridge = sampler.bridge(0, 1, 0.5)
    (noisy, first_step, sampled), clips = seen[0], sampler._clips
    assert first_step == 1
    assert torch.equal(sampled[:, 0], clips[0].latents[:, 0].float())
    assert torch.equal(sampled[:, 1], clips[0].latents[:, -1].float())
    assert torch.equal(sampled[:, 3], clips[1].latents[:, 1].float())
    assert torch.equal(sampled[:, 2:3], bridge)
    assert (noisy - sampled).std() > 5


@pytest.mark.parametrize(("strength", "first"), [(0.01, 1), (0.5, 1), (0.51, 0), (1.0, 0)])
def test_strength_is_the_share_of_the_steps(sampler, strength, first):
    step, sigma = sampler.noise_level(strength)
    assert step == first
    assert sigma == pytest.approx([700.0, 13.6784441][first])


def test_a_bridge_needs_the_same_reference_and_poses(encoded):
    (encoded / "latents" / "b.poses.npz").write_bytes(b"other")
    with pytest.raises(InputError, match=r"b\.poses\.npz"):
        run(encoded, "decode", "latent_concat.bridge_frames=2")
    PIL.Image.new("RGB", (64, 96), (10, 120, 150)).save(encoded / "person.png")
    with pytest.raises(InputError, match="another reference"):
        run(encoded, "decode", "latent_concat.bridge_frames=2")


def test_the_report_compares_every_mode(encoded):
    assert run(encoded, "decode", "latent_concat.report=true", "latent_concat.interp_frames=2") == 0
    facts = json.loads((encoded / "joined" / "a+b_linear2_joins.json").read_text())
    frames = {mode["mode"].split(",")[0] + ("!" if "apart" in mode["mode"] else ""): mode for mode in facts["modes"]}
    counts = {name: mode["frames"] for name, mode in frames.items() if name != "cut"}
    assert counts == {"cut!": 12, "linear": 14, "slerp": 14, "smooth": 10, "bridge": 14, "sampled continuously": 2}
    assert [mode["frames"] for mode in facts["modes"][:2]] == [13, 12]
    assert [len(mode["joins"][0]) for mode in facts["modes"]] == [1, 1, 1, 3, 3, 3, 3, 1]
    for mode in facts["modes"]:
        assert mode["peak_at_joins"] == max(mode["joins"][0])
    with PIL.Image.open(encoded / "joined" / "a+b_linear2_joins.png") as sheet:
        assert sheet.width > 600


def test_steps_at_a_join_are_measured_at_the_right_frames():
    grey = [np.full((4, 6, 3), level, np.uint8) for level in (10, 10, 12, 50, 60, 60, 63)]
    parts = [Part("a", torch.zeros(1, 4, 4, 1, 1), hidden=1), Part("a > b", torch.zeros(1, 2, 4, 1, 1), 0, True)]
    parts.append(Part("b", torch.zeros(1, 2, 4, 1, 1)))
    result = measure("mode", parts, [np.stack(grey[:2]), np.stack(grey[2:])])
    assert result.differences == [0, 2, 38, 10, 0, 3]
    (strip,) = result.strips
    assert [int(frame[0, 0, 0]) for frame in strip.frames] == [10, 10, 12, 50, 60, 60, 63]
    assert strip.differences == [None, 0, 2, 38, 10, 0, 3]
    assert list(strip.transition) == [3, 4]
    assert list(strip.at_join) == [3, 4, 5]
    assert peak_at_joins(result) == 38


def test_the_report_goes_without_the_model_where_it_must(encoded):
    (encoded / "latents" / "b.poses.npz").unlink()
    assert run(encoded, "decode", "latent_concat.report=true") == 0
    facts = json.loads((encoded / "joined" / "a+b_joins.json").read_text())
    assert len(facts["modes"]) == 6
    assert "b.poses.npz" in facts["absent"]["bridge, continuous sampling"]


def test_a_full_disk_leaves_no_entry(project, monkeypatch):
    def full(*_arguments):
        raise SetupError("the disk is full")

    monkeypatch.setattr(latent_concat, "save_latents", full)
    assert run(project, "encode") == 3
    assert not list((project / "latents").glob("*.pt"))
