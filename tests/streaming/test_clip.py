"""The image context against open-CLIP's own arithmetic, from a checkpoint in open-CLIP's layout."""

import torch
import torch.nn.functional as F

from mimicmotion.streaming.clip import CLIP_MEAN, CLIP_STD, ImageEncoder, from_open_clip
from tests.streaming.micro import make_clip, open_clip_state


def open_clip_tokens(state, pixels, heads=2):
    """All blocks but the last, no norm after them."""
    get = lambda name: state[f"visual.{name}"]  # noqa: E731
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], get(f"{name}.weight"), get(f"{name}.bias"))  # noqa: E731
    linear = lambda x, name: F.linear(x, get(f"{name}.weight"), get(f"{name}.bias"))  # noqa: E731
    x = F.conv2d(pixels, get("patch_embedding.weight"), stride=14).flatten(2).transpose(1, 2)
    x = torch.cat((get("cls_embedding").expand(len(x), -1, -1), x), 1) + get("pos_embedding")
    x = norm(x, "pre_norm")
    name = "transformer.0."
    q, k, v = linear(norm(x, f"{name}norm1"), f"{name}attn.to_qkv").unflatten(-1, (3, heads, -1)).unbind(2)
    attended = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    x = x + linear(attended.transpose(1, 2).flatten(2), f"{name}attn.proj")
    return x + linear(F.gelu(linear(norm(x, f"{name}norm2"), f"{name}mlp.0")), f"{name}mlp.2")


def test_context_is_that_of_the_open_clip_tower():
    state, model = open_clip_state(), make_clip()
    model.load_state_dict(from_open_clip(state))
    image = torch.rand(2, 3, 40, 60) * 2 - 1
    pixels = F.interpolate(image, size=(28, 28), mode="bicubic") * 0.5 + 0.5
    pixels = (pixels - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    found = ImageEncoder(model)(image)
    assert found.shape == (2, 5, 24)
    torch.testing.assert_close(found, open_clip_tokens(state, pixels), rtol=1e-4, atol=1e-4)
