"""The parallel pass against the cached runtime."""

import dataclasses

import pytest
import torch

from mimicmotion.streaming import CausalWanModel
from mimicmotion.world_training.parallel import Blocks, parallel_flow
from mimicmotion.world_training.transformer import scale_mouse
from mimicmotion.world_training.world_stage import Layout

from .standins import WORLD

BATCH, BLOCKS, H, W = 2, 3, 2, 4
LATENTS = 3 * BLOCKS


def make_model(**changes):
    torch.manual_seed(0)
    model = CausalWanModel.from_config(WORLD.model | changes).eval().requires_grad_(False)
    for parameter in model.parameters():
        scale = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter += scale * torch.randn(parameter.shape)
    return model


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return {
        "clean": draw(BATCH, 16, LATENTS, H, W),
        "noisy": draw(2, BATCH, 16, LATENTS, H, W),
        "cond": draw(BATCH, 20, LATENTS, H, W),
        "context": draw(BATCH, 5, 16),
        "mouse": draw(BATCH, 4 * LATENTS + 8, 2),
        "keyboard": draw(BATCH, 4 * LATENTS + 8, 4),
        "t": torch.rand((2, BLOCKS, BATCH), generator=generator) * 1000,
    }


def together(inputs):
    layout = Layout(BATCH, BLOCKS, 2)
    spans = [slice(12 * n, 12 * n + 20) for n in range(BLOCKS)]
    return Blocks(
        x=torch.cat([layout.clean(inputs["clean"]), *(Layout(BATCH, BLOCKS, 1).noisy(x) for x in inputs["noisy"])]),
        t=torch.cat((torch.zeros(layout.clean_items), inputs["t"].flatten())),
        cond=layout.items(list(inputs["cond"].chunk(BLOCKS, 2))),
        mouse=layout.items([inputs["mouse"][:, span] for span in spans]),
        keyboard=layout.items([inputs["keyboard"][:, span] for span in spans]),
        start=[3 * number for number in layout.numbers()],
        before=layout.before(),
        clip=layout.clips(),
        clean=layout.clean_items,
    )


def block_by_block(model, inputs, copy):
    """Flow (B, 16, L, h, w) of one noisy copy, by the cached runtime that is given the clean blocks as its past."""
    cache = model.new_cache(BATCH, H, W)
    model.store_context(inputs["context"], cache)
    flows = []
    for number in range(BLOCKS):
        part = slice(3 * number, 3 * number + 3)
        span = slice(12 * number, 12 * number + 20)
        named = {
            "cond": inputs["cond"][:, :, part], "context": None, "mouse": inputs["mouse"][:, span],
            "keyboard": inputs["keyboard"][:, span], "cache": cache, "start": 3 * number,
        }  # fmt: skip
        t = inputs["t"][copy, number, :, None].repeat(1, 3)
        flows.append(model(inputs["noisy"][copy][:, :, part], t, **named))
        model(inputs["clean"][:, :, part], torch.zeros(BATCH, 3), **named)
    return torch.cat(flows, 2)


def joined(items):
    """Sessions of items that lie block by block, the inverse of `Layout.noisy` for one copy."""
    return torch.cat(items.chunk(BLOCKS), dim=2)


@pytest.mark.parametrize("blocks", [[0, 1], [0, 1, 2]])
def test_the_parallel_pass_equals_the_cached_runtime(inputs, blocks):
    model = make_model(action_config=WORLD.model["action_config"] | {"blocks": blocks})
    flow, _ = parallel_flow(model, together(inputs), inputs["context"])
    for copy, part in enumerate(flow.chunk(2)):
        runtime = block_by_block(model, inputs, copy)
        assert torch.allclose(joined(part), runtime, atol=1e-5)
        assert runtime.abs().max() > 0.5


def test_a_tap_changes_nothing(inputs):
    model = make_model()
    plain, nothing = parallel_flow(model, together(inputs), inputs["context"])
    assert nothing is None
    for tap in range(3):
        flow, hidden = parallel_flow(model, together(inputs), inputs["context"], tap)
        assert torch.allclose(flow, plain, atol=1e-6)
        assert hidden.shape[0] == len(together(inputs).t)


def test_every_block_feels_the_one_before_and_no_other(inputs):
    model = make_model()
    plain, _ = parallel_flow(model, together(inputs), inputs["context"])
    changed = dataclasses.replace(together(inputs), x=together(inputs).x.clone())
    changed.x[:BATCH] += 1  # the clean first block
    flow, _ = parallel_flow(model, changed, inputs["context"])
    differs = (flow - plain).abs().amax((1, 2, 3, 4)).view(2, BLOCKS, BATCH) > 1e-6
    assert not differs[:, 0].any()
    assert differs[:, 1].all()


def test_a_scaled_mouse_and_folded_weights_are_the_same_model(inputs):
    model, folded = make_model(), make_model()
    folded.load_state_dict(scale_mouse(model.state_dict(), model.params.dim, 15.0))
    blocks = together(inputs)
    scaled = dataclasses.replace(blocks, mouse=blocks.mouse * 15)
    flow, _ = parallel_flow(model, scaled, inputs["context"])
    runtime, _ = parallel_flow(folded, blocks, inputs["context"])
    assert torch.allclose(flow, runtime, atol=1e-4)
    back = scale_mouse(folded.state_dict(), model.params.dim, 1 / 15)
    assert all(torch.allclose(back[name], value) for name, value in model.state_dict().items())


def test_items_of_a_step_come_apart_as_they_were_put_together():
    layout = Layout(BATCH, BLOCKS, 2)
    latents = torch.arange(BATCH * LATENTS).view(BATCH, 1, LATENTS, 1, 1)
    assert torch.equal(joined(Layout(BATCH, BLOCKS, 1).noisy(latents)), latents)
    everything = torch.cat((layout.clean(latents), layout.noisy(latents)))
    for item, before in zip(everything[:, 0, 0, 0, 0].tolist(), layout.before().tolist(), strict=True):
        if before >= 0:
            assert everything[before, 0, 0, 0, 0] == item - 3
        else:
            assert item % LATENTS == 0
