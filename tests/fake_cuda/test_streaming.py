"""The world model on a card that computes nothing: blocks move the same bytes, wait twice and grow nothing."""

from itertools import islice

import numpy as np
import torch

from mimicmotion.streaming import generator as generator_module
from mimicmotion.streaming.actions import bench_actions, by_block, get_mode
from mimicmotion.streaming.clip import ImageEncoder
from mimicmotion.streaming.generator import StreamingGenerator
from mimicmotion.streaming.vae import StreamingVAE
from tests.fake_cuda.card import CUDA, placed
from tests.streaming.micro import make_clip, make_vae, model_config

MODE = "universal"


class Sent:
    """Frames that have come to the host and have no values."""

    def __init__(self, frames):
        self.device, self.shape = frames.device, frames.shape

    def numpy(self):
        return self


def test_blocks_wait_twice_and_the_card_is_as_full_after_each(card, monkeypatch):
    from mimicmotion.streaming.model import CausalWanModel

    with torch.device("meta"):
        model, vae, clip = CausalWanModel.from_config(model_config(MODE)), make_vae(), make_clip()
    to_uint8 = generator_module.to_uint8
    monkeypatch.setattr(generator_module, "to_uint8", lambda frames: Sent(to_uint8(frames)))
    generator = StreamingGenerator(
        placed(model, CUDA, torch.bfloat16),
        StreamingVAE(placed(vae, CUDA, torch.float32), torch.float32, torch.float16),
        ImageEncoder(placed(clip, CUDA, torch.bfloat16)),
        get_mode(MODE),
        height=16,
        width=32,
        steps=(1000, 500),
        shift=5.0,
        context_noise=0.0,
        frames_per_block=3,
    )
    mode, full = get_mode(MODE), []
    state = generator.start(np.zeros((16, 32, 3), np.uint8), 0)
    for number, action in enumerate(islice(by_block(bench_actions(mode, 0), mode, 3), 5)):
        with card.during(f"block {number}"):
            frames = generator.step(state, action)
        assert (frames.device.type, len(frames.shape)) == ("cpu", 4)
        assert card.reads[f"block {number}"] == 2, "latents and frames are finite"
        full.append(card.now)
    assert full[2:] == [full[2]] * 3, "the window and the decoder's memory are full"
    sent = [card.copied["cuda to cpu", f"block {number}"] for number in range(5)]
    assert sent[1:] == [12 * 16 * 32 * 3] * 4
