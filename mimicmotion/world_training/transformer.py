"""The transformer's start, and what is folded into its weights on the way out and in."""

import torch
from torch import nn

from mimicmotion.streaming import PATCH, CausalWanModel

MOUSE_WEIGHT = "mouse_mlp.0.weight"
CAMERA_FEATURES = 96


@torch.no_grad()
def prepare_start(model: CausalWanModel) -> None:
    """Sets the weights of a new model: gates at 1, branches small, and the flow that of noise alone.

    The noisy latents of a token go straight into its first features and out again, so that the first prediction is
    the normed noise, and what is learnt is the difference.
    """
    features = PATCH * PATCH * model.params.out_dim
    for block in model.blocks:
        block.modulation.mul_(0.1)
        block.modulation[:, 2] = 1
        block.modulation[:, 5] = 1
        for layer, scale in ((block.self_attn.o, 0.3), (block.ffn[2], 0.3), (block.cross_attn.o, 0.1)):
            layer.weight.mul_(scale)
            layer.bias.zero_()
    model.time_projection[1].weight.mul_(0.3)
    model.time_projection[1].bias.zero_()
    embedding, head = model.patch_embedding, model.head
    embedding.weight.normal_(0, 0.06)
    embedding.bias.zero_()
    embedding.weight[:features] = 0
    for row in range(PATCH):
        for column in range(PATCH):
            for channel in range(model.params.out_dim):
                feature = (row * PATCH + column) * model.params.out_dim + channel
                embedding.weight[feature, channel, 0, row, column] = 1
    head.modulation.mul_(0.1)
    head.head.weight.normal_(0, 0.01)
    head.head.bias.zero_()
    head.head.weight[:, :features] += torch.eye(features)


@torch.no_grad()
def start_from(model: CausalWanModel, state: dict[str, torch.Tensor]) -> None:
    """Sets the weights of `model` to `state`, whose feed-forward layers may be narrower.

    The neurons beyond keep the weights they were drawn with and add nothing yet, so the flow is that of `state`.
    """
    for name, value in model.state_dict().items():
        given = state[name]
        if given.shape != value.shape and name.endswith("ffn.2.weight"):
            value.zero_()
        value[tuple(slice(size) for size in given.shape)] = given


def scale_mouse(state: dict[str, torch.Tensor], dim: int, factor: float) -> dict[str, torch.Tensor]:
    """The weights for a mouse that comes in 1 / `factor` times as large.

    Mouse values are near 0.1 and would hardly be seen by a layer of usual size beside a hidden state near 1. So they
    are scaled up in training, and the published forward pass gets the factor by its weights.
    """
    state = dict(state)
    for name in state:
        if name.endswith(MOUSE_WEIGHT):
            state[name] = state[name].clone()
            state[name][:, dim:] *= factor
    return state


class CameraHead(nn.Module):
    """Tells where a latent's camera is from all its tokens. It is there for its gradient and left behind at export.

    To say it, the hidden state must know the place in the world and add the actions up, which is what the pixels
    teach only slowly.
    """

    def __init__(self, dim: int, tokens: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Flatten(2),
            nn.Linear(dim * tokens, CAMERA_FEATURES),
            nn.GELU(),
            nn.Linear(CAMERA_FEATURES, CAMERA_FEATURES),
            nn.GELU(),
            nn.Linear(CAMERA_FEATURES, 5),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (M, F, S, C) -> (M, F, 5), see `camera_numbers`."""
        return self.layers(hidden)


def camera_numbers(cameras: torch.Tensor) -> torch.Tensor:
    """Cameras (..., 4) as numbers near -1..1: (..., 5), place, cosine and sine of the yaw, pitch."""
    from mimicmotion.worlds import HIGHEST_PITCH, SIDE, WALL_MARGIN

    place = (cameras[..., :2] - SIDE / 2) / (SIDE / 2 - WALL_MARGIN)
    yaw, pitch = cameras[..., 2:3], cameras[..., 3:] / HIGHEST_PITCH
    return torch.cat((place, yaw.cos(), yaw.sin(), pitch), dim=-1)
