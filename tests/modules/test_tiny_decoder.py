"""Small decoders have the published names and do, in any pieces, what a walk frame by frame does."""

import math

import pytest
import torch
import torch.nn.functional as F

from mimicmotion.modules import TAEHV, TAESDV, TinyDecoder
from tests.tiny_decoders import CHANNELS, make_decoder

LAYOUTS = pytest.mark.parametrize("layout", [TAEHV, TAESDV], ids=lambda layout: layout.name)


def latents(layout, frames, batch=1):
    return torch.randn(batch, frames, CHANNELS[layout], 2, 3, generator=torch.Generator().manual_seed(3))


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        wan = TinyDecoder(TAEHV, 16, (256, 128, 64, 64)).state_dict()
        svd = TinyDecoder(TAESDV, 4, (64, 64, 64, 64)).state_dict()
    shapes = {
        "decoder.1.weight": (256, 16, 3, 3),
        "decoder.3.conv.0.weight": (256, 512, 3, 3),
        "decoder.5.conv.4.bias": (256,),
        "decoder.7.conv.weight": (256, 256, 1, 1),
        "decoder.8.weight": (128, 256, 3, 3),
        "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.17.conv.2.weight": (64, 64, 3, 3),
        "decoder.19.conv.weight": (128, 64, 1, 1),
        "decoder.20.weight": (64, 64, 3, 3),
        "decoder.22.bias": (3,),
    }
    assert {name: tuple(wan[name].shape) for name in shapes} == shapes
    assert not {"decoder.8.bias", "decoder.7.conv.bias"} & set(wan)
    assert tuple(svd["decoder.18.conv.0.weight"].shape) == (64, 128, 3, 3)
    assert tuple(svd["decoder.19.weight"].shape) == (3, 64, 3, 3)
    assert not {"decoder.7.bias", "decoder.7.conv.weight"} & set(svd)
    # TAESDV is TAESD's decoder of 1,222,531 numbers with a wider first convolution in each of its ten blocks.
    assert sum(math.prod(value.shape) for value in svd.values()) == 1_222_531 + 10 * 64 * 64 * 9


def frame_by_frame(state, clip, growth):
    """The frames of (F, C, h, w) latents, each walked through the layers with what its blocks saw before."""
    memory = {}

    def walk(x, stage, index):
        """Stages from `stage` on, whose first layer has the number `index`."""
        blocks = 3 if stage < 3 else (0 if growth else 1)
        for number in range(index, index + blocks):
            name = f"decoder.{number}.conv."
            seen = torch.cat((x, memory.get(number, torch.zeros_like(x))), 1)
            memory[number] = x
            for part in (0, 2, 4):
                seen = F.conv2d(seen, state[f"{name}{part}.weight"], state[f"{name}{part}.bias"], padding=1)
                seen = F.relu(seen) if part < 4 else F.relu(seen + x)
            x = seen
        index += blocks
        if stage == 3:
            index += 1 if growth else 0
            x = F.relu(x) if growth else x
            yield F.conv2d(x, state[f"decoder.{index}.weight"], state[f"decoder.{index}.bias"], padding=1)
            return
        x, index = x.repeat_interleave(2, 2).repeat_interleave(2, 3), index + 1
        parts = [x]
        if growth:
            parts = F.conv2d(x, state[f"decoder.{index}.conv.weight"]).chunk(growth[stage], 1)
            index += 1
        for part in parts:
            yield from walk(F.conv2d(part, state[f"decoder.{index}.weight"], padding=1), stage + 1, index + 1)

    frames = []
    for latent in clip:
        x = torch.tanh(latent[None] / 3) * 3
        x = F.relu(F.conv2d(x, state["decoder.1.weight"], state["decoder.1.bias"], padding=1))
        frames += list(walk(x, 0, 3))
    return torch.cat(frames)[math.prod(growth or ()) - 1 :] * 2 - 1


@LAYOUTS
def test_a_clip_is_what_a_walk_frame_by_frame_gives(layout):
    decoder, clip = make_decoder(layout), latents(layout, 4)
    with torch.no_grad():
        frames, _ = decoder(clip)
        expected = frame_by_frame(decoder.state_dict(), clip[0], layout.growth)
    assert frames.shape == (1, 1 + 3 * layout.frames_per_latent, 3, 16, 24)
    torch.testing.assert_close(frames[0], expected, rtol=1e-5, atol=1e-5)
    assert frames.std() > 0.05


@LAYOUTS
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3), (3, 2)])
def test_pieces_are_the_whole(layout, pieces):
    decoder, clip = make_decoder(layout), latents(layout, 5, batch=2)
    memory, found = None, []
    with torch.no_grad():
        whole, end = decoder(clip)
        for piece in clip.split(pieces, dim=1):
            kept = None if memory is None else [item.clone() for item in memory]
            frames, after = decoder(piece, memory)
            assert memory is None or all(map(torch.equal, memory, kept))
            memory = after
            found.append(frames)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-5, atol=1e-5)
    assert len(memory) == len(end) == decoder.memory_slots
    assert all(item.is_contiguous() and item.shape[1] == 1 for item in memory)
