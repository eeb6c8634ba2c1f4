"""Rotations depend on differences of positions only, at any distance from the start."""

import pytest
import torch

from mimicmotion.streaming.rope import action_rope, rotate, video_rope
from tests.streaming.plain_model import rotate_complex

CPU = torch.device("cpu")


def scores(start, q, k):
    cos, sin = video_rope(start, 6, 2, 3, q.shape[-1], CPU)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    return torch.einsum("bqhd,bkhd->bhqk", q, k)


@pytest.mark.parametrize("start", [1_000, 1_000_000])
def test_scores_are_equal_at_any_offset(start):
    q, k = torch.randn(2, 1, 36, 2, 24, generator=torch.Generator().manual_seed(0)).unsqueeze(2).flatten(1, 2)
    torch.testing.assert_close(scores(start, q, k), scores(0, q, k), rtol=0, atol=1e-5)


@pytest.mark.parametrize("head_dim", [24, 128, 64])
def test_video_rope_is_the_published_rotation(head_dim):
    x = torch.randn(1, 12, 2, head_dim)
    spatial = 2 * (head_dim // 6)
    frame, row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, (2, 2, 3)), indexing="ij"))
    dims = [head_dim - 2 * spatial, spatial, spatial]
    expected = rotate_complex(x, (frame + 5, row, column), dims, 10000.0)
    torch.testing.assert_close(rotate(x, *video_rope(5, 2, 2, 3, head_dim, CPU)), expected)


def test_action_rope_turns_eight_features_and_leaves_the_rest():
    x = torch.randn(1, 3, 1, 2, 64)  # (B, F, S, H, D)
    turned = rotate(x, *action_rope(7, 3, 8, 256.0, CPU))
    assert torch.equal(turned[..., 8:], x[..., 8:])
    expected = rotate_complex(x[:, :, 0, :, :8], (torch.arange(7, 10),), [8], 256.0)
    torch.testing.assert_close(turned[:, :, 0, :, :8], expected)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_type_is_kept():
    x = torch.randn(1, 3, 1, 2, 16, dtype=torch.bfloat16)
    assert rotate(x, *action_rope(0, 3, 8, 256.0, CPU)).dtype == torch.bfloat16
