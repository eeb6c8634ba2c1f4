"""Laws of the causal model: cached blocks are one masked pass, keys are the official ones, positions are relative."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from mimicmotion.errors import UsageError
from mimicmotion.streaming.model import CausalWanModel, WanParams, timestep_embedding, unpatchify
from tests.streaming.micro import CONTEXT_DIM, WINDOWS, make_model, model_config
from tests.streaming.plain_model import masked_pass

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = {  # mode: window, keys, mouse, tensors, parameters, parameters of the action modules
    "universal": (6, 4, True, 1114, 1_619_242_304, 205_163_520),
    "gta_drive": (4, 2, True, 1114, 1_619_238_464, None),
    "templerun": (6, 7, False, 964, 1_508_715_584, None),
}
H, W = 4, 6


def inputs(model, latents, batch=1, seed=1):
    """Random inputs of a whole clip: x, t, cond, context, mouse, keyboard, with actions of frames 0 .. 4 (N - 1)."""
    g = torch.Generator().manual_seed(seed)
    action = model.params.action_config
    frames = 4 * (latents - 1) + 1
    x = torch.randn(batch, 16, latents, H, W, generator=g)
    t = torch.rand(batch, latents, generator=g) * 1000
    cond = torch.randn(batch, 20, latents, H, W, generator=g)
    context = torch.randn(batch, 9, CONTEXT_DIM, generator=g)
    mouse = torch.randn(batch, frames, 2, generator=g) if action.enable_mouse else None
    keyboard = torch.randn(batch, frames, action.keyboard_dim_in, generator=g)
    return x, t, cond, context, mouse, keyboard


def run_block(model, clip, cache, start, index=None, **changes):
    """One call on latents start .. start + 2 of `clip`, whose row 0 is latent start - index."""
    x, t, cond, context, mouse, keyboard = clip
    s = start if index is None else index
    frames = torch.arange(4 * s - 12, 4 * s + 8).clamp(min=0)
    arguments = {
        "cond": cond[:, :, s : s + 3],
        "context": context,
        "mouse": None if mouse is None else mouse[:, frames],
        "keyboard": keyboard[:, frames],
        "cache": cache,
        "start": start,
    } | changes
    return model(x[:, :, s : s + 3], t[:, s : s + 3], **arguments)


def run_clip(model, clip, offset=0):
    cache = model.new_cache(clip[0].shape[0], H, W)
    latents = clip[0].shape[2]
    return torch.cat([run_block(model, clip, cache, offset + s, index=s) for s in range(0, latents, 3)], dim=2)


@pytest.mark.parametrize("mode", PUBLISHED)
def test_blocks_with_cache_equal_one_masked_pass(mode):
    model = make_model(mode)
    clip = inputs(model, 15)  # five blocks: every window has dropped latents by then
    plain = masked_pass(model_config(mode), model.state_dict(), *clip)
    torch.testing.assert_close(run_clip(model, clip), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", PUBLISHED)
def test_a_block_depends_on_its_window_and_on_nothing_older(mode):
    model = make_model(mode)
    clip = inputs(model, 12)
    before = run_clip(model, clip)[:, :, 9:]
    # Keys of the second layer still carry older latents through the first one, so the window is seen by what
    # reaches the cache: wiping slots that were given up must change nothing, wiping one in use must.
    kept = WINDOWS[mode] - 3
    for wiped, changes in ((9 - kept - 1, False), (8, True)):
        cache = model.new_cache(1, H, W)
        for start in (0, 3, 6):
            run_block(model, clip, cache, start)
        for layer in cache.layers:
            for ring in filter(None, (layer.attention, layer.mouse, layer.keyboard)):
                ring.k[:, wiped % WINDOWS[mode]] = 7.0
        after = run_block(model, clip, cache, 9)
        assert torch.equal(after, before) is not changes


def test_writing_a_block_again_is_harmless():
    model = make_model()
    clip = inputs(model, 9)
    cache = model.new_cache(1, H, W)
    expected = run_clip(model, clip)
    noise = inputs(model, 9, seed=2)
    for start in (0, 3, 6):
        for _ in range(2):
            run_block(model, noise, cache, start, context=clip[3])
        found = run_block(model, clip, cache, start)
        assert torch.equal(found, expected[:, :, start : start + 3])


@pytest.mark.parametrize("offset", [1000, 1_000_000])
def test_positions_are_relative_and_have_no_end(offset):
    model = make_model()
    clip = inputs(model, 9)
    torch.testing.assert_close(run_clip(model, clip, offset), run_clip(model, clip), rtol=1e-4, atol=1e-4)


def test_positions_matter_at_all():
    model = make_model()
    clip = inputs(model, 6)
    cache = model.new_cache(1, H, W)
    run_block(model, clip, cache, 0)
    far = model.new_cache(1, H, W)
    run_block(model, clip, far, 100, index=0)
    far.end = 200  # as if the first block lay a hundred latents back
    near, gap = run_block(model, clip, cache, 3), run_block(model, clip, far, 200, index=3)
    assert (near - gap).abs().max() > 1e-3


def test_image_context_is_taken_once():
    model = make_model()
    clip = inputs(model, 6)
    cache = model.new_cache(1, H, W)
    expected = run_clip(model, clip)
    run_block(model, clip, cache, 0)
    assert torch.equal(run_block(model, clip, cache, 3, context=None), expected[:, :, 3:])
    other = model.new_cache(1, H, W)
    assert not torch.allclose(run_block(model, clip, other, 0, context=-clip[3]), expected[:, :, :3])


def test_a_batch_is_its_items():
    model = make_model()
    clip = inputs(model, 9, batch=2)
    both = run_clip(model, clip)
    for item in range(2):
        single = [None if part is None else part[item : item + 1] for part in clip]
        torch.testing.assert_close(both[item : item + 1], run_clip(model, single), rtol=1e-4, atol=1e-4)


def test_first_latents_can_be_kept_as_a_sink():
    model = make_model(window=5, sink_size=1)
    clip = inputs(model, 12)
    cache = model.new_cache(1, H, W)
    for start in (0, 3, 6):
        run_block(model, clip, cache, start)
    before = cache.layers[0].attention.k.clone()
    run_block(model, clip, cache, 9)
    after = cache.layers[0].attention.k
    unchanged = [slot for slot in range(5) if torch.equal(before[:, slot], after[:, slot])]
    assert unchanged == [0, 4]  # the sink and latent 8


@pytest.mark.parametrize("frame, reached", [(8, []), (7, [2]), (4, [2]), (3, [1, 2]), (0, [0, 1, 2])])
def test_action_frame_reaches_the_latents_after_it(frame, reached):
    """Latent j sees action frames 4j - 12 .. 4j - 1, so frame 8 drives the next block only."""
    model = make_model(num_layers=1)
    model.blocks[0].action_model.proj_mouse.weight.zero_()
    action = model.params.action_config
    keyboard = torch.zeros(1, 9, action.keyboard_dim_in)
    keyboard[:, frame] = 1
    frames = torch.arange(-12, 9).clamp(min=0)
    windows = action.windows(keyboard[:, frames][:, :-1])
    assert [j for j in range(3) if windows[0, j].any()] == reached


def test_next_block_sees_the_last_frame_of_this_one():
    model = make_model()
    one, other = inputs(model, 6), inputs(model, 6)
    other[5][:, 8] += 1
    first, second = run_clip(model, one), run_clip(model, other)
    assert torch.equal(first[:, :, :3], second[:, :, :3])
    assert not torch.allclose(first[:, :, 3:], second[:, :, 3:])


def test_stored_action_norms_are_ignored():
    model = make_model()
    clip = inputs(model, 3)
    expected = run_clip(model, clip)
    for name, parameter in model.named_parameters():
        if name.endswith(("img_attn_q_norm.weight", "key_attn_k_norm.weight")):
            parameter.fill_(3.0)
    assert torch.equal(run_clip(model, clip), expected)


def test_bfloat16_follows_float32():
    model = make_model()
    clip = inputs(model, 9)
    expected = run_clip(model, clip)
    half = run_clip(model.to(torch.bfloat16), [clip[0].bfloat16(), clip[1], *(part.bfloat16() for part in clip[2:])])
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_session_memory_does_not_grow():
    model = make_model()
    clip = inputs(model, 3)
    cache = model.new_cache(1, H, W)
    sizes = []
    for block in range(20):
        run_block(model, clip, cache, 3 * block, index=0)
        sizes.append(sum(tensor.numel() for tensor in cache.tensors().values()))
        assert len(cache.rope) == 1
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("mode", PUBLISHED)
def test_published_keys_and_shapes(mode):
    window, keys, mouse, tensors, parameters, action_parameters = PUBLISHED[mode]
    config = yaml.safe_load((ROOT / f"configs/streaming/{mode}.yaml").read_text())["model"]
    with torch.device("meta"):
        model = CausalWanModel.from_config(config)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert shapes == published_shapes(keys, mouse)
    assert len(shapes) == tensors
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.params.local_attn_size == window
    if action_parameters:
        counted = (p.numel() for name, p in model.named_parameters() if ".action_model." in name)
        assert sum(counted) == action_parameters


def published_shapes(keys, mouse):
    """The table of the published checkpoints, without their `model.` prefix."""
    both = lambda name, *shape: {f"{name}.weight": list(shape), f"{name}.bias": [shape[0]]}  # noqa: E731
    shapes = both("patch_embedding", 1536, 36, 1, 2, 2)
    shapes |= both("time_embedding.0", 1536, 256) | both("time_embedding.2", 1536, 1536)
    shapes |= both("time_projection.1", 9216, 1536)
    shapes |= both("img_emb.proj.0", 1280) | both("img_emb.proj.1", 1280, 1280)
    shapes |= both("img_emb.proj.3", 1536, 1280) | both("img_emb.proj.4", 1536)
    shapes |= {"head.modulation": [1, 2, 1536]} | both("head.head", 64, 1536)
    for i in range(30):
        block = f"blocks.{i}."
        shapes |= {f"{block}modulation": [1, 6, 1536]} | both(f"{block}norm3", 1536)
        for attention in ("self_attn", "cross_attn"):
            for name in "qkvo":
                shapes |= both(f"{block}{attention}.{name}", 1536, 1536)
            shapes |= {f"{block}{attention}.norm_{name}.weight": [1536] for name in "qk"}
        shapes |= both(f"{block}ffn.0", 8960, 1536) | both(f"{block}ffn.2", 1536, 8960)
    for i in range(15):
        action = f"blocks.{i}.action_model."
        shapes |= both(f"{action}keyboard_embed.0", 128, keys) | both(f"{action}keyboard_embed.2", 128, 128)
        names = {"mouse_attn_q": (1024, 1536), "keyboard_attn_kv": (2048, 1536), "proj_keyboard": (1536, 1024)}
        norms = ["key_attn_q_norm", "key_attn_k_norm"]
        if mouse:
            shapes |= both(f"{action}mouse_mlp.0", 1024, 1560) | both(f"{action}mouse_mlp.2", 1024, 1024)
            shapes |= both(f"{action}mouse_mlp.3", 1024)
            names |= {"t_qkv": (3072, 1024), "proj_mouse": (1536, 1024)}
            norms += ["img_attn_q_norm", "img_attn_k_norm"]
        shapes |= {f"{action}{name}.weight": list(shape) for name, shape in names.items()}
        shapes |= {f"{action}{name}.weight": [64] for name in norms}
    return shapes


def test_config_from_file_folder_or_mapping(tmp_path):
    config = model_config()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert WanParams.from_config(path) == WanParams.from_config(tmp_path) == WanParams.from_config(config)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"local_attn_size": -1}, "foundation"),
        ({"dimm": 3}, "dimm"),
        ({"model_type": "t2v"}, "model_type"),
        ({"dim": 50}, "heads"),
        ({"sink_size": 6}, "sink_size"),
        ({"qk_norm": False}, "qk_norm"),
        ({"action_config": {"blocks": [0], "keys": 4}}, "keys"),
    ],
)
def test_bad_config_is_named(changes, message):
    with pytest.raises(UsageError, match=message):
        WanParams.from_config(model_config() | changes)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00"])
def test_unreadable_config_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"config\.json"):
        WanParams.from_config(path)


@pytest.mark.parametrize("name", ["cond", "context", "mouse", "keyboard"])
def test_wrong_shapes_are_named(name):
    model = make_model()
    clip = inputs(model, 3)
    with pytest.raises(ValueError, match=name):
        run_block(model, clip, model.new_cache(1, H, W), 0, **{name: torch.zeros(1, 2, 3)})


def test_latents_must_divide_into_patches():
    with pytest.raises(ValueError, match="5 x 6"):
        make_model().new_cache(1, 5, 6)


def test_unpatchify_undoes_patches():
    picture = torch.arange(2 * 3 * 2 * 4 * 6.0).view(2, 3, 2, 4, 6)
    tokens = picture.unfold(3, 2, 2).unfold(4, 2, 2)  # (B, C, F, rows, columns, 2, 2)
    tokens = tokens.permute(0, 2, 3, 4, 5, 6, 1).reshape(2, 2, 6, 12)
    assert torch.equal(unpatchify(tokens, (2, 2, 3)), picture)


def test_timestep_embedding_is_cosines_then_sines():
    found = timestep_embedding(torch.tensor([[0.0, 10.0]]), 4)
    expected = torch.tensor([[[1, 1, 0, 0], [10.0, 0.1, 10.0, 0.1]]], dtype=torch.float64)
    expected[0, 1, :2], expected[0, 1, 2:] = expected[0, 1, :2].cos(), expected[0, 1, 2:].sin()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "mode, mebibytes",
    [
        ("universal", {"attention": 928.1, "mouse": 309.4, "keyboard": 0.4, "cross": 45.2}),
        ("gta_drive", {"attention": 618.8, "mouse": 206.2, "keyboard": 0.2, "cross": 45.2}),
        ("templerun", {"attention": 928.1, "keyboard": 0.4, "cross": 45.2}),
    ],
)
def test_a_published_session_takes_the_memory_of_its_window_only(mode, mebibytes):
    config = yaml.safe_load((ROOT / f"configs/streaming/{mode}.yaml").read_text())["model"]
    with torch.device("meta"):
        model = CausalWanModel.from_config(config).to(torch.bfloat16)
        cache = model.new_cache()
        model.store_context(torch.zeros(1, 257, 1280), cache)
    sizes = dict.fromkeys(mebibytes, 0.0)
    for name, tensor in cache.tensors().items():
        sizes[name.split(".")[1]] += tensor.numel() * tensor.element_size() / 2**20
    assert sizes == pytest.approx(mebibytes, abs=0.06)
