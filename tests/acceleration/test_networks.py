"""Laws of every other way to compute a network: equal to rounding, and really another way."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import SpatioTemporalResBlock

from mimicmotion.acceleration import Acceleration, arrange_weights, compile_blocks, require_acceleration, set_attention
from mimicmotion.acceleration.weights import channels_last, fuse_qkv, store_in_fp8
from mimicmotion.errors import SetupError
from mimicmotion.pipelines.in_pieces import work_in_pieces
from tests.acceleration.conftest import drawn_unet
from tests.conftest import make_pipeline, make_temporal_vae, make_tiny_vae


def assert_close(actual, expected):
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_channels_last_changes_layout_and_no_number(unet, predict):
    expected, layouts = predict(unet), []
    channels_last(unet)
    block = unet.up_blocks[-1].resnets[0].spatial_res_block
    innermost = {"memory_format": torch.channels_last}
    block.register_forward_hook(lambda _module, _inputs, output: layouts.append(output.is_contiguous(**innermost)))
    assert_close(predict(unet), expected)
    assert layouts == [True]
    assert block.conv1.weight.is_contiguous(**innermost)


def test_fused_projections_are_one_product_for_self_attention(unet, predict):
    set_attention(unet, "native")
    expected, before = predict(unet), sum(weight.numel() for weight in unet.parameters())
    fuse_qkv(unet)
    assert_close(predict(unet), expected)
    layers = [module for module in unet.modules() if isinstance(module, Attention)]
    assert {layer.to_q is None for layer in layers if not layer.is_cross_attention} == {True}
    assert {layer.to_q is None for layer in layers if layer.is_cross_attention} == {False}
    assert sum(weight.numel() for weight in unet.parameters()) == before


def test_weights_in_8_bits_compute_what_rounded_weights_compute(unet, predict):
    stored = make_like(unet)
    store_in_fp8(stored)
    rounded, eight = make_like(unet), torch.float8_e4m3fn
    names = {name for name, weight in stored.named_parameters() if weight.dtype == eight}
    for name, weight in rounded.named_parameters():
        if name in names:
            weight.data = weight.data.to(eight).double()
    assert len(names) > 50 and not any("norm" in name for name in names)
    assert torch.equal(predict(stored), predict(rounded))
    assert stored.dtype == torch.float64 and next(iter(stored.conv_in.parameters())).dtype == eight


def test_8_bits_are_refused_where_there_are_none():
    chosen = Acceleration("native", compile=False, channels_last=False, fuse_qkv=False, fp8=True)
    with pytest.raises(SetupError, match="--fp8"):
        require_acceleration(chosen, torch.device("mps"), torch.float16)


def make_like(unet):
    from tests.conftest import make_unet

    other = make_unet().double().eval().requires_grad_(False)
    other.load_state_dict(unet.state_dict())
    return other


def counted(monkeypatch):
    """Lets compiled modules run their graphs as they are; the graphs."""
    graphs, compile_module = [], torch.nn.Module.compile

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend, fullgraph=True))
    torch._dynamo.reset()
    return graphs


def test_more_shapes_than_torch_compiles_by_itself_are_all_compiled(monkeypatch):
    graphs = counted(monkeypatch)
    blocks = torch.nn.ModuleList(SpatioTemporalResBlock(32 * n, 32, 8).eval() for n in range(1, 4))
    with torch._dynamo.config.patch(recompile_limit=1), torch.no_grad():
        compile_blocks(blocks)
        for n, block in enumerate(blocks, 1):
            block(torch.zeros(2, 32 * n, 4, 4), torch.zeros(2, 8), torch.zeros(1, 2))
    assert len(graphs) == 3


def test_both_kinds_of_decoder_are_compiled(monkeypatch):
    graphs, latents = counted(monkeypatch), torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for make, arguments in ((make_temporal_vae, {"num_frames": 2}), (make_tiny_vae, {})):
        torch.manual_seed(0)
        vae = make().eval()
        with torch.no_grad():
            expected = vae.decode(latents, **arguments).sample
            compile_blocks(vae.decoder)
            graphs.clear()
            assert_close(vae.decode(latents, **arguments).sample, expected)
        assert graphs


def test_compiled_blocks_work_in_pieces_of_whatever_size_is_asked_for_later(unet, predict, monkeypatch):
    expected, graphs, nodes = predict(unet), counted(monkeypatch), []
    compile_blocks(unet.mid_block)
    for entries in (None, 3000, None):
        work_in_pieces(unet, entries)
        before = len(graphs)
        assert_close(predict(unet), expected)
        nodes.append(sum(len(graph.graph.nodes) for graph in graphs[before:]))
    # What is compiled follows: pieces are more operations than the whole.
    assert nodes[1] > max(nodes[0], nodes[2]) > 0


def test_everything_at_once_on_a_pipeline(predict, monkeypatch):
    unet = drawn_unet(levels=1)
    pipeline, expected = make_pipeline(make_tiny_vae), predict(unet)
    pipeline.unet = unet
    arrange_weights(pipeline, Acceleration("native", compile=True, channels_last=True, fuse_qkv=True, fp8=False))
    graphs = counted(monkeypatch)
    blocks = compile_blocks(unet)
    assert_close(predict(unet), expected)
    # Blocks that are alike share what is compiled, and a second call compiles nothing.
    first = len(graphs)
    assert 0 < first < len(blocks)
    predict(unet)
    assert len(graphs) == first
    convolution = next(module for module in pipeline.vae.modules() if isinstance(module, torch.nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
