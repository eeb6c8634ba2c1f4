"""Laws of a session: live equals offline, sessions are apart, a saved one goes on with the same frames."""

import gc
import itertools
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from mimicmotion.config import ReferenceSettings
from mimicmotion.errors import InputError, MimicMotionError, UsageError
from mimicmotion.streaming import session_file
from mimicmotion.streaming.actions import Actions, bench_actions, by_block, encode, get_mode
from mimicmotion.streaming.generator import load_image, prepare_image
from tests.streaming.micro import make_generator


def bench(generator, blocks, seed=0):
    return list(itertools.islice(by_block(bench_actions(generator.mode, seed), generator.mode), blocks))


def tensors_of(state):
    parts = [*state.cache.tensors().values(), state.cond, state.keyboard, state.mouse, *state.memory]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def test_stream_equals_generate_bit_for_bit(generator, picture):
    actions = bench(generator, 4)
    streamed = list(generator.stream(picture, iter(actions), seed=3))
    assert [len(frames) for frames in streamed] == [9, 12, 12, 12]
    assert all(frames.dtype == np.uint8 and frames.shape[1:] == (16, 32, 3) for frames in streamed)
    assert np.array_equal(np.concatenate(streamed), generator.generate(picture, actions, seed=3))


@pytest.mark.parametrize("mode, window", [("gta_drive", 4), ("templerun", 6)])
def test_the_other_modes_run(mode, window, picture):
    generator = make_generator(mode)
    frames = generator.generate(picture, bench(generator, 4))
    assert frames.shape == (45, 16, 32, 3)
    assert len(np.unique(frames)) > 20
    assert generator.model.params.local_attn_size == window


def test_a_longer_run_starts_with_the_shorter_one(generator, picture):
    short, long = (generator.generate(picture, bench(generator, blocks)) for blocks in (2, 4))
    assert np.array_equal(long[: len(short)], short)


def test_seed_and_actions_and_picture_change_the_frames(generator, picture):
    still, moving = encode(generator.mode, ""), encode(generator.mode, "WL")
    first = generator.generate(picture, [moving] * 2)
    for other in (
        generator.generate(picture, [moving] * 2, seed=1),
        generator.generate(picture, [still] * 2),
        generator.generate(255 - picture, [moving] * 2),
    ):
        assert not np.array_equal(first, other)


def test_two_interleaved_sessions_do_not_touch_each_other(generator, picture):
    actions = bench(generator, 3), bench(generator, 3, seed=1)
    alone = [list(generator.stream(picture, a, seed)) for seed, a in enumerate(actions)]
    streams = [generator.stream(picture, iter(a), seed) for seed, a in enumerate(actions)]
    together = [[next(stream) for stream in streams] for _ in range(3)]
    for block, pair in enumerate(together):
        assert all(np.array_equal(frames, alone[seed][block]) for seed, frames in enumerate(pair))


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_saved_session_goes_on_with_the_same_frames(generator, picture, tmp_path, blocks):
    actions = bench(generator, 5)
    state = generator.start(picture, 7)
    for action in actions[:blocks]:
        generator.step(state, action)
    generator.save_state(state, tmp_path / "walk.safetensors")
    expected = [generator.step(state, action) for action in actions[blocks:]]
    resumed = make_generator().load_state(tmp_path / "walk.safetensors")
    assert resumed.frames_done == max(0, 12 * blocks - 3)
    found = [generator.step(resumed, action) for action in actions[blocks:]]
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["walk.safetensors"]


@pytest.mark.parametrize("world", ["world", "tiny"])
def test_at_true_widths_a_session_saved_after_every_block_is_the_same_to_the_bit(world, tmp_path):
    """At micro sizes convolutions do not care about the strides of what they read; here they do."""
    from mimicmotion.streaming import load_generator, read_world

    generator = load_generator(read_world(f"configs/streaming/{world}.yaml"))
    image, state = load_image("assets/streaming/first_frame.png"), None
    whole = generator.start(image, 2)
    for key in ("W", "L", "WJ", "A"):
        state = generator.load_state(tmp_path / "state.safetensors") if state else generator.start(image, 2)
        action = encode(generator.mode, key)
        assert np.array_equal(generator.step(state, action), generator.step(whole, action))
        for mine, loaded in zip(whole.memory, state.memory, strict=True):
            assert not isinstance(mine, torch.Tensor) or torch.equal(mine, loaded)
        generator.save_state(state, tmp_path / "state.safetensors")
    kept = sum(item.untyped_storage().nbytes() for item in whole.memory if isinstance(item, torch.Tensor))
    assert kept == sum(item.nbytes for item in whole.memory if isinstance(item, torch.Tensor))


def test_a_session_of_other_weights_or_settings_is_refused(generator, picture, tmp_path):
    path = tmp_path / "walk.safetensors"
    generator.save_state(generator.start(picture, 0), path)
    other = make_generator()
    other.model.blocks[1].ffn[0].weight[0, 0] += 1
    for stranger in (other, make_generator(steps=(1000,)), make_generator(width=48), make_generator("gta_drive")):
        with pytest.raises(InputError, match="other weights or settings"):
            stranger.load_state(path)


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "foreign", "incomplete"])
def test_damaged_sessions_are_refused(generator, picture, tmp_path, damage):
    path = tmp_path / "walk.safetensors"
    generator.save_state(generator.start(picture, 0), path)
    with safe_open(path, framework="pt") as file:
        meta, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("not a session")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        save_file(tensors, path)
    else:
        del tensors["cond"]
        save_file(tensors, path, meta)
    with pytest.raises(InputError, match=r"walk\.safetensors"):
        generator.load_state(path)


@pytest.fixture(scope="module")
def saved(generator, picture, tmp_path_factory):
    """A session after one block, as it was saved."""
    path, state = tmp_path_factory.mktemp("saved") / "walk.safetensors", generator.start(picture, 7)
    generator.step(state, encode(generator.mode, "W"))
    generator.save_state(state, path)
    return path


def content_of(path):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["stream_state"])


def test_a_flipped_bit_anywhere_in_a_session_is_noticed(generator, saved, tmp_path):
    content, expected = saved.read_bytes(), content_of(saved)[0]
    header = 8 + int.from_bytes(content[:8], "little")
    draw = random.Random(1)
    places = [draw.randrange(len(content)) for _ in range(100)] + [draw.randrange(header) for _ in range(100)]
    noticed = 0
    for place in places:
        broken = bytearray(content)
        broken[place] ^= 1 << draw.randrange(8)
        (tmp_path / "flipped.safetensors").write_bytes(broken)
        try:
            state = generator.load_state(tmp_path / "flipped.safetensors")
        except InputError as error:
            assert "flipped.safetensors" in str(error)
            noticed += 1
        else:
            # Nothing that a session depends on may have changed.
            found = {f"cache.{name}": tensor for name, tensor in state.cache.tensors().items()} | {"cond": state.cond}
            assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
            assert (state.seed, state.start) == (7, 3)
    assert noticed >= 199


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "7"}, {"seed": None}, {"seed": True}, {"seed": 10**30}, {"seed": 1.5},
        {"start": -3}, {"start": 4}, {"start": 3 * 10**15, "end": 3 * 10**15}, {"start": []}, {"start": 0},
        {"first": -1}, {"first": 3}, {"first": None}, {"end": 10**18}, {"end": None}, {"end": "6"},
        {"memory": 10**9}, {"memory": -1}, {"memory": 0}, {"memory": 2},
        {"repeat_marks": [10**9]}, {"repeat_marks": [-1]}, {"repeat_marks": ["0"]}, {"repeat_marks": {}},
        {"repeat_marks": [1, 1]}, {"version": 3}, {"version": None}, {"version": [1]}, {"fingerprint": 5},
        {"fingerprint": "0" * 64},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_no_session_is_believed_that_says_what_cannot_be(generator, saved, tmp_path, change, version):
    """Not even one whose checksum is right, or one of earlier versions, which has none."""
    tensors, meta = content_of(saved)
    meta = {name: value for name, value in meta.items() if name != "checksum"} | {"version": version} | change
    if version == 2:
        meta["checksum"] = session_file.checksum(tensors, meta)
    save_file(tensors, tmp_path / "odd.safetensors", {"stream_state": json.dumps(meta)})
    with pytest.raises(InputError, match=r"odd\.safetensors"):
        generator.load_state(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("name", ["cond", "keyboard", "mouse", "memory.0", "cache.0.attention.k", "cache.1.cross.v"])
@pytest.mark.parametrize("change", ["shape", "type", "nan", "missing"])
def test_no_tensor_of_a_session_can_be_another(generator, saved, tmp_path, name, change):
    tensors, meta = content_of(saved)
    tensor = tensors[name]
    changed = {"shape": tensor[..., :-1].clone(), "type": tensor.int(), "nan": tensor * float("nan")}
    tensors |= {name: changed.get(change, tensor)}
    if change == "missing":
        if name == "memory.0":  # a slot may be empty
            tensors["memory.99"] = tensor.clone()
        else:
            del tensors[name]
    if (name, change) == ("memory.0", "shape"):
        tensors[name] = tensor[0].clone()
    meta["checksum"] = session_file.checksum(tensors, meta)
    save_file(tensors, tmp_path / "odd.safetensors", {"stream_state": json.dumps(meta)})
    with pytest.raises(InputError, match=r"odd\.safetensors"):
        generator.load_state(tmp_path / "odd.safetensors")


def test_a_session_of_earlier_versions_goes_on_with_a_warning(generator, saved, tmp_path, caplog):
    tensors, meta = content_of(saved)
    del meta["checksum"]
    save_file(tensors, tmp_path / "old.safetensors", {"stream_state": json.dumps(meta | {"version": 1})})
    action = encode(generator.mode, "L")
    expected = generator.step(generator.load_state(saved), action)
    assert not caplog.records
    assert np.array_equal(generator.step(generator.load_state(tmp_path / "old.safetensors"), action), expected)
    assert "without a checksum" in caplog.text


def test_saved_header_is_plain_json(generator, picture, tmp_path):
    generator.save_state(generator.start(picture, 5), tmp_path / "s.safetensors")
    with safe_open(tmp_path / "s.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["stream_state"])["seed"] == 5


@pytest.mark.parametrize("where", ["denoise", "decode"])
def test_an_interrupted_block_can_be_made_again(generator, picture, tmp_path, monkeypatch, where):
    actions = bench(generator, 3)
    expected = generator.generate(picture, actions)
    state = generator.start(picture, 0)
    found = [generator.step(state, action) for action in actions[:2]]
    calls = []
    target = generator.model if where == "denoise" else generator.vae.vae.decoder
    original = target.forward

    def interrupt(*args, **kwargs):
        calls.append(1)
        if len(calls) == (2 if where == "denoise" else 1):
            original(*args, **kwargs)
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(target, "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generator.step(state, actions[2])
    monkeypatch.setattr(target, "forward", original)
    assert state.frames_done == 21
    generator.save_state(state, tmp_path / "interrupted.safetensors")
    resumed = generator.load_state(tmp_path / "interrupted.safetensors")
    assert np.array_equal(generator.step(resumed, actions[2]), expected[21:])
    found.append(generator.step(state, actions[2]))
    assert np.array_equal(np.concatenate(found), expected)


def test_per_frame_actions_and_when_they_are_felt(generator, picture):
    held = encode(generator.mode, "W").repeat(9)
    last = Actions(held.keyboard.copy(), held.mouse.copy())
    last.keyboard[8] = [0, 1, 0, 0]
    first = Actions(held.keyboard.copy(), held.mouse.copy())
    first.keyboard[0] = [0, 1, 0, 0]
    follow = encode(generator.mode, "")
    a, b, c = (generator.generate(picture, [action, follow]) for action in (held, last, first))
    assert np.array_equal(a[:9], b[:9])  # the last frame's action drives the next block
    assert not np.array_equal(a[9:], b[9:])
    assert not np.array_equal(a[:9], c[:9])


def test_history_is_the_newest_frames_with_the_first_repeated(generator, picture):
    state = generator.start(picture, 0)
    numbered = lambda start, n: Actions(  # noqa: E731
        np.arange(start, start + n, dtype=np.float32)[:, None].repeat(4, 1), np.zeros((n, 2), np.float32)
    )
    keyboard, mouse = generator.action_history(state, numbered(0, 9))
    assert keyboard[0, :, 0].tolist() == [0.0] * 12 + list(range(9))
    assert mouse.shape == (1, 21, 2)
    state.keyboard, state.mouse, state.start = keyboard, mouse, 3
    keyboard, _ = generator.action_history(state, numbered(9, 12))
    assert keyboard[0, :, 0].tolist() == list(range(21))  # 4 s - 12 .. 4 s + 8 for s = 3
    state.keyboard, state.start = keyboard, 6
    keyboard, _ = generator.action_history(state, numbered(21, 12))
    assert keyboard[0, :, 0].tolist() == list(range(12, 33))


def test_wrong_actions_are_refused_before_anything_changes(generator, picture):
    state = generator.start(picture, 0)
    for action in (
        encode(generator.mode, "W").repeat(5),
        encode(get_mode("templerun"), "W"),
        encode(get_mode("gta_drive"), "W"),
    ):
        with pytest.raises(UsageError):
            generator.step(state, action)
    assert state.start == 0
    assert state.cache.first is None


def test_each_block_is_steps_plus_one_passes_and_one_decode(generator, picture, monkeypatch):
    times, decodes = [], []
    forward, decode = generator.model.forward, generator.vae.vae.decoder.forward
    monkeypatch.setattr(
        generator.model, "forward", lambda x, t, **k: times.append(t[0, 0].item()) or forward(x, t, **k)
    )
    monkeypatch.setattr(generator.vae.vae.decoder, "forward", lambda *a, **k: decodes.append(1) or decode(*a, **k))
    state = generator.start(picture, 0)
    generator.step(state, encode(generator.mode, "W"))
    times.clear(), decodes.clear()
    generator.step(state, encode(generator.mode, "W"))
    assert times == pytest.approx([1000.0, 833.3333, 0.0])
    assert len(decodes) == 1


def test_condition_marks_the_first_latent_and_then_repeats_its_tail(generator, picture):
    state = generator.start(picture, 0)
    assert state.cond.shape == (1, 20, 30, 2, 4)
    assert state.cond[:, :4].sum() == 4 * 2 * 4
    assert state.cond[:, :4, 0].all()
    for start, latents in ((0, (0, 1, 2)), (27, (27, 28, 29)), (300, (29, 29, 29))):
        state.start = start
        assert torch.equal(generator._condition(state), state.cond[:, :, list(latents)])


def test_memory_is_flat_over_300_blocks(picture):
    generator = make_generator(height=16, width=16, steps=(1000,))
    state = generator.start(picture, 0)
    action = encode(generator.mode, "W")
    sizes = {}
    for block in range(1, 301):
        frames = generator.step(state, action)
        if block in (10, 300):
            gc.collect()
            live = sum(1 for item in gc.get_objects() if type(item) is torch.Tensor)
            sizes[block] = (sum(t.numel() for t in tensors_of(state)), live)
    assert sizes[10] == sizes[300]
    assert state.frames_done == 9 + 299 * 12
    assert len(frames) == 12


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="multiple of 16"):
        make_generator(height=24)


def test_picture_is_cropped_around_its_centre(tmp_path):
    wide = np.zeros((20, 100, 3), np.uint8)
    wide[:, 40:60] = 255  # the middle fifth
    pixels = prepare_image(wide, 16, 16)
    assert pixels.shape == (1, 3, 16, 16)
    assert torch.equal(pixels, torch.ones(1, 3, 16, 16))
    tall = wide.transpose(1, 0, 2).copy()
    assert torch.equal(prepare_image(tall, 16, 16), torch.ones(1, 3, 16, 16))
    exact = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    found = prepare_image(Image.fromarray(exact), 16, 32)
    np.testing.assert_allclose(found[0].permute(1, 2, 0), exact / 127.5 - 1, atol=1e-6)


def test_first_pictures_of_any_kind_come_out_right(tmp_path, caplog):
    caplog.set_level("INFO")
    grey = np.linspace(0, 65535, 20 * 40).reshape(20, 40).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    assert np.abs(np.asarray(load_image(tmp_path / "grey16.png"))[..., 0] - grey / 257).max() <= 0.51
    clear = np.full((20, 40, 4), (9, 200, 9, 0), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    image = load_image(tmp_path / "clear.png", ReferenceSettings(background="#0a141e"))
    assert image.mode == "RGB" and image.getpixel((3, 3)) == (10, 20, 30)
    # White where no colour is named.
    assert torch.equal(prepare_image(Image.fromarray(clear), 16, 16), torch.ones(1, 3, 16, 16))
    assert "first picture, 40x20 to 16x16: 50.0% of its columns are cut" in caplog.text


def test_the_smallest_picture_is_no_special_case():
    assert prepare_image(Image.new("RGB", (1, 1), "white"), 16, 32).shape == (1, 3, 16, 32)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_picture_are_refused(bad):
    with pytest.raises(InputError, match="uint8"):
        prepare_image(bad, 16, 16)


def test_files_that_are_no_picture_are_refused(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    for path in (tmp_path / "a.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(InputError, match="picture"):
            load_image(path)


@pytest.mark.parametrize("where, named", [("model", "runtime.dtype"), ("decoder", "streaming.decode_dtype")])
def test_numbers_that_are_not_finite_stop_the_session(picture, where, named):
    generator = make_generator()
    state = generator.start(picture, 0)
    module = generator.model.head.head if where == "model" else generator.vae.vae.decoder.conv_out
    module.bias.fill_(float("nan"))
    with pytest.raises(MimicMotionError, match=named):
        generator.step(state, encode(generator.mode, "W"))
    assert state.start == 0


@pytest.mark.parametrize("mode", ["universal", "templerun"])
def test_another_way_from_an_earlier_block_is_as_if_it_had_been_the_first(mode, picture):
    generator = make_generator(mode)
    there, here = (encode(generator.mode, letters) for letters in "WS")
    state, kept = generator.start(picture, 5), []
    for _ in range(4):  # the window is full, its slots are written anew
        kept.append(state.copy())
        generator.step(state, there)
    straight = [there, there, here, here]
    expected = generator.generate(picture, straight, 5)
    for _ in range(2):  # what is kept serves again
        back = kept[2].copy()
        found = [generator.step(back, here) for _ in range(2)]
        assert np.array_equal(np.concatenate(found), expected[21:])
    assert np.array_equal(generator.step(state, there), generator.generate(picture, [there] * 5, 5)[-12:])
    assert 0 < kept[0].nbytes < kept[2].nbytes == state.nbytes
