"""Times networks on a CPU with torch's and diffusers' own 3D convolutions and norms and with the fast ones, in turns.

examples:
  python scripts/benchmark_cpu_operations.py --repeats 3   # needs minutes

Milliseconds are of CPU time of the whole process, so other work on the machine counts little.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import HelpFormatter

ROOT = Path(__file__).resolve().parent.parent
LATENT_SIZE = (8, 14)  # of 64 x 112 pixels
BLOCK = 3  # latents
TILE = 16  # frames of a UNet call
SVD_DECODER_WIDTHS = (32, 64, 128, 128)  # a quarter of the published ones


def main(argv: list[str] | None = None) -> int:
    """Prints one line per network."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n\n")[2], formatter_class=HelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10, help="calls of each network, of which the first is left out")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args(argv)
    if arguments.repeats < 2:
        parser.error("--repeats must be at least 2")
    import torch

    from mimicmotion.modules import use_fast_operations

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{'network':56}  plain ms   fast ms  ratio  largest difference")
    for name, network, call in networks():
        plain = network.eval().requires_grad_(False)
        fast = use_fast_operations(copy.deepcopy(plain))
        before, after, difference, largest = compare(plain, fast, call, arguments.repeats)
        numbers = f"{before:10.1f} {after:9.1f} {before / after:6.2f}  {difference:.1e} of {largest:.2f}"
        print(f"{name:56}{numbers}", flush=True)
    return 0


def networks():
    """Names, networks with drawn weights, and calls of them."""
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, AutoencoderKLWan, UNetSpatioTemporalConditionModel

    from mimicmotion.streaming import new_memory, read_world

    for name in ("tiny", "world"):
        sizes = read_world(f"configs/streaming/{name}.yaml").vae
        vae = AutoencoderKLWan(**sizes)
        latents = torch.randn(1, vae.config.z_dim, 2 * BLOCK, *LATENT_SIZE)

        def block(decoder, latents=latents):
            """The second block of a session; the first is not timed."""
            memory = new_memory(decoder)
            decoder(latents[:, :, :1], feat_cache=memory, feat_idx=[0], first_chunk=True)
            decoder(latents[:, :, 1:BLOCK], feat_cache=memory, feat_idx=[0])
            return timed(lambda: decoder(latents[:, :, BLOCK:], feat_cache=memory, feat_idx=[0]))

        yield f"Wan decoder of {name}.yaml, a block of 12 frames", vae.decoder, block
        clip = torch.randn(1, 3, 4, *(8 * side for side in LATENT_SIZE))
        yield f"Wan encoder of {name}.yaml, 4 frames", vae.encoder, lambda encoder, x=clip: timed(lambda: encoder(x))
    config = json.loads((ROOT / "assets/models/tiny/unet/config.json").read_text())
    unet = UNetSpatioTemporalConditionModel(**{k: v for k, v in config.items() if not k.startswith("_")})
    sample, context = torch.randn(1, TILE, 8, 24, 16), torch.randn(1, 1, unet.config.cross_attention_dim)
    yield (
        f"UNet of the embedded model, {TILE} frames of 192 x 128",
        unet,
        lambda unet: timed(lambda: unet(sample, 1.0, context, torch.zeros(1, 3)).sample),
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=SVD_DECODER_WIDTHS, layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4
    )
    latents = torch.randn(4, 4, *LATENT_SIZE)
    yield (
        "decoder of Stable Video Diffusion, a quarter wide, 4 frames",
        vae,
        lambda vae: timed(lambda: vae.decode(latents, num_frames=4).sample),
    )


def timed(call):
    """What `call` gives, and the milliseconds of CPU time that it took."""
    start = time.process_time()
    result = call()
    return result, 1000 * (time.process_time() - start)


def compare(plain, fast, call, repeats: int) -> tuple[float, float, float, float]:
    """Median milliseconds of both, the largest difference of their results and the largest value."""
    import torch

    times = {plain: [], fast: []}
    with torch.inference_mode():
        for number in range(repeats):
            results = {}
            for network, measured in times.items():
                results[network], milliseconds = call(network)
                if number:
                    measured.append(milliseconds)
    before, after = (statistics.median(measured) for measured in times.values())
    return before, after, (results[plain] - results[fast]).abs().max().item(), results[plain].abs().max().item()


if __name__ == "__main__":
    sys.exit(main())
