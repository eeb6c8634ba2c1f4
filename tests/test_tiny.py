import hashlib
import json
import logging
import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from mimicmotion import loading, tiny
from mimicmotion.errors import SetupError


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "assets" / "models" / "tiny"
    return tiny.ensure_tiny_model(folder)


@pytest.fixture(scope="session")
def pipeline(built):
    return loading.create_pipeline(SimpleNamespace(base_model_path=built, ckpt_path=None), device="cpu")


def files(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sample(pipeline, image_pose, steps=2):
    options = {"tile_size": 4, "tile_overlap": 2, "num_inference_steps": steps, "height": 64, "width": 64}
    options |= {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0, "output_type": "latent"}
    image = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    return pipeline(image, image_pose, generator=torch.Generator().manual_seed(0), **options).frames


def poses(frames=4):
    picture = torch.full((frames, 3, 64, 64), -1.0)
    for frame in range(frames):
        picture[frame, frame % 3, 8 + 4 * frame : 24 + 4 * frame, 20:28] = 1.0
    return picture


def test_two_builds_are_the_same_to_the_byte(built, tmp_path):
    tiny.build_tiny_model(tmp_path / "again")
    assert files(built) == files(tmp_path / "again")
    tiny.build_tiny_model(tmp_path / "other", seed=1)
    changed = {name for name, digest in files(built).items() if files(tmp_path / "other")[name] != digest}
    assert changed == {name for name in files(built) if name.endswith(".safetensors")} | {tiny.MARKER}


def test_every_machine_draws_the_same_weights(built):
    """Fixed values: a change here means that other machines, or later versions, have another tiny model."""
    weight = load_file(built / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert hashlib.sha256(weight.numpy().tobytes()).hexdigest()[:16] == "30a18a8bc6ac99bd"


def test_the_draw_does_not_touch_the_global_generator(tmp_path):
    module = torch.nn.Linear(4, 4)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    tiny.draw_weights(module, "seed", {})
    assert torch.equal(torch.rand(1), expected)


def test_signals_keep_their_size():
    layer = torch.nn.Linear(400, 300)
    tiny.draw_weights(layer, "seed", {"weight": 2.0})
    x = torch.randn(500, 400, generator=torch.Generator().manual_seed(1))
    assert layer(x).std().item() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(("dtype", "frames", "steps"), [(torch.float32, 6, 4), (torch.bfloat16, 2, 1)])
def test_it_samples_bounded_latents_and_a_picture_that_is_not_flat(built, dtype, frames, steps):
    config = SimpleNamespace(base_model_path=built, ckpt_path=None)
    pipeline = loading.create_pipeline(config, device="cpu", dtype=dtype, vae_dtype=dtype)
    latents = sample(pipeline, poses(frames), steps)
    assert latents.isfinite().all() and 0.3 < latents.float().std() < 3 and latents.abs().max() < 20
    decoded = pipeline.vae.decode(latents[0].to(dtype) / pipeline.vae.config.scaling_factor, num_frames=frames).sample
    assert decoded.isfinite().all() and decoded.shape == (frames, 3, 64, 64)
    assert decoded.float().clamp(-1, 1).std(dim=(-2, -1)).min() > 0.1


def test_the_pose_changes_the_result(pipeline):
    latents = sample(pipeline, poses())
    moved = sample(pipeline, poses().flip(-1))
    assert (latents - moved).abs().mean() > 0.05 * latents.std()


def test_the_seed_gives_the_same_latents(pipeline):
    assert torch.equal(sample(pipeline, poses()), sample(pipeline, poses()))


def test_the_log_says_that_the_picture_is_noise(built, caplog):
    with caplog.at_level(logging.WARNING):
        loading.create_pipeline(SimpleNamespace(base_model_path=built, ckpt_path=None), device="cpu")
    assert caplog.text.count("noise") == 1
    assert tiny.read_marker(built) == {"trained": False, "seed": tiny.SEED, "version": tiny.VERSION}


def test_a_built_model_is_not_built_again(built, monkeypatch):
    monkeypatch.setattr(tiny, "build_tiny_model", lambda path: pytest.fail("built again"))
    before = files(built)
    tiny.ensure_tiny_model(built)
    assert files(built) == before


def test_a_trained_model_is_left_alone_and_not_called_noise(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tiny, "build_tiny_model", lambda path: pytest.fail("built"))
    (tmp_path / tiny.MARKER).write_text(json.dumps({"trained": True, "version": "of its own"}))
    tiny.ensure_tiny_model(tmp_path)
    tiny.warn_if_untrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [tiny.MARKER] and not caplog.text


def test_an_older_stand_in_is_replaced_and_foreign_files_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "build_tiny_model", lambda path: write_marker(path))
    old = tmp_path / "old"
    old.mkdir()
    (old / tiny.MARKER).write_text(json.dumps({"trained": False, "seed": 1, "version": 0}))
    (old / "stale").touch()
    tiny.ensure_tiny_model(old)
    assert tiny.read_marker(old)["version"] == tiny.VERSION and not (old / "stale").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    with pytest.raises(SetupError, match="move them away"):
        tiny.ensure_tiny_model(mine)
    assert (mine / "thesis.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "old"]


def write_marker(path):
    path.mkdir()
    (path / tiny.MARKER).write_text(json.dumps({"trained": False, "seed": tiny.SEED, "version": tiny.VERSION}))


def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(path):
        path.mkdir()
        (path / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiny, "build_tiny_model", fail)
    with pytest.raises(SetupError, match="disk is full"):
        tiny.ensure_tiny_model(tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []


def build_when_all_are_ready(path, barrier, results):
    def build(folder):
        write_marker(folder)
        barrier.wait(timeout=20)  # all processes have built before the first moves its folder into place

    tiny.build_tiny_model = build
    results.put(tiny.read_marker(tiny.ensure_tiny_model(path)))


def test_processes_that_build_at_once_all_succeed(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=build_when_all_are_ready, args=(tmp_path / "tiny", barrier, results)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    markers = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(timeout=30)
    assert markers == [tiny.read_marker(tmp_path / "tiny")] * 3 and markers[0]["version"] == tiny.VERSION
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_create_pipeline_builds_the_default_at_first_run(tmp_path, monkeypatch):
    built_in = []
    monkeypatch.setattr(tiny, "ensure_tiny_model", built_in.append)
    for path in ("assets/models/tiny", tmp_path / "assets" / "models" / "tiny", "assets/models/other"):
        with pytest.raises(SetupError):
            monkeypatch.chdir(tmp_path)
            loading.resolve_base(path)
    assert built_in == ["assets/models/tiny", tmp_path / "assets" / "models" / "tiny"]


def test_the_script_builds_it_and_says_where(tmp_path, monkeypatch, capsys):
    from scripts import build_tiny_model

    monkeypatch.setattr(tiny, "build_tiny_model", write_marker)
    assert build_tiny_model.main(["--output", str(tmp_path / "t")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "t")
    (tmp_path / "file").touch()
    assert build_tiny_model.main(["--output", str(tmp_path / "file" / "t")]) == 3
