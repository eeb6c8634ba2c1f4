import hashlib
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from mimicmotion.errors import SetupError
from mimicmotion.places import HOME
from mimicmotion.weights import embedded, loading, model_files


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "assets" / "models" / "tiny"
    embedded.build_tiny_model(folder)
    return folder


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
    embedded.build_tiny_model(tmp_path / "again")
    assert files(built) == files(tmp_path / "again")
    embedded.build_tiny_model(tmp_path / "other", seed=1)
    changed = {name for name, digest in files(built).items() if files(tmp_path / "other")[name] != digest}
    assert changed == {name for name in files(built) if name.endswith(".safetensors")} | {embedded.TINY_MARKER}


def test_every_machine_draws_the_same_weights(built):
    """Fixed values: a change here means that other machines, or later versions, have another tiny model."""
    weight = load_file(built / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert hashlib.sha256(weight.numpy().tobytes()).hexdigest()[:16] == "30a18a8bc6ac99bd"


def test_the_draw_does_not_touch_the_global_generator(tmp_path):
    module = torch.nn.Linear(4, 4)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    embedded.draw_weights(module, "seed", {})
    assert torch.equal(torch.rand(1), expected)


def test_signals_keep_their_size():
    layer = torch.nn.Linear(400, 300)
    embedded.draw_weights(layer, "seed", {"weight": 2.0})
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


def test_the_marker_says_that_it_is_untrained(built):
    marker = {"trained": False, "seed": embedded.TINY_SEED, "version": embedded.TINY_VERSION}
    assert embedded.read_marker(built) == marker


def test_an_embedded_model_that_is_not_there_is_refused_with_the_way_to_get_it(built, tmp_path):
    assert embedded.require_embedded_model(built) == built
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SetupError, match="git checkout -- assets/models/tiny"):
            embedded.require_embedded_model(path)


def test_only_the_default_path_means_the_embedded_model(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(model_files, "require_embedded_model", asked.append)
    monkeypatch.chdir(tmp_path)
    # From any folder the default path is the one beside the package.
    assert model_files.resolve_base("assets/models/tiny") == HOME / "assets/models/tiny"
    for path in (tmp_path / "assets" / "models" / "tiny", "assets/models/other"):
        with pytest.raises(SetupError):
            model_files.resolve_base(path)
    assert asked == ["assets/models/tiny", tmp_path / "assets" / "models" / "tiny"]
