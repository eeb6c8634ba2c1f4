"""Blocks that work in pieces against the blocks as they are."""

import pytest
import torch

from mimicmotion.pipelines.in_pieces import WORKING, work_in_pieces
from tests.conftest import make_temporal_vae, make_unet


def predict(unet, frames, batch=1):
    generator = torch.Generator().manual_seed(0)
    sample, context = (torch.randn(shape, generator=generator) for shape in ((batch, frames, 8, 8, 8), (batch, 1, 16)))
    with torch.no_grad():
        return unet(sample, 0.5, context, torch.ones(batch, 3), return_dict=False)[0]


@pytest.mark.parametrize(("frames", "batch", "entries"), [(5, 1, 3000), (3, 2, 5000)])
def test_the_unet_predicts_the_same_in_pieces_of_any_size(frames, batch, entries):
    unet = make_unet().eval()
    whole, calls = predict(unet, frames, batch), []
    count = unet.up_blocks[1].attentions[0].transformer_blocks[0].ff.register_forward_hook(lambda *_: calls.append(1))
    work_in_pieces(unet, entries)
    work_in_pieces(unet, entries)
    assert torch.allclose(predict(unet, frames, batch), whole, atol=1e-5)
    assert len(calls) > 1
    count.remove()
    work_in_pieces(unet, None)
    assert torch.equal(predict(unet, frames, batch), whole)


def test_the_temporal_decoder_gives_the_same_frames_in_pieces():
    vae = make_temporal_vae().eval()
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = vae.decode(latents, num_frames=3).sample
        work_in_pieces(vae, 4000)
        assert torch.allclose(vae.decode(latents, num_frames=3).sample, whole, atol=1e-4)


def test_hooks_that_offload_stay_in_front():
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Counter(ModelHook):
        calls = 0

        def pre_forward(self, module, *arguments, **named):
            self.calls += 1
            return arguments, named

    unet, counter = make_unet().eval(), Counter()
    whole = predict(unet, 3)
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    add_hook_to_module(block, counter)
    work_in_pieces(unet, 3000)
    assert torch.allclose(predict(unet, 3), whole, atol=1e-5)
    assert counter.calls == 1


def test_every_kind_of_block_is_in_the_published_networks():
    kinds = {type(module) for network in (make_unet(), make_temporal_vae()) for module in network.modules()}
    assert set(WORKING) <= kinds
