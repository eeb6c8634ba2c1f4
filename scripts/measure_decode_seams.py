"""Measure the seams between decoder chunks, and what blending neighbouring chunks does to them and costs.

    python scripts/measure_decode_seams.py --untrained    # a small temporal decoder, random weights; needs minutes
    python scripts/measure_decode_seams.py --inference_config configs/mimicmotion.yaml    # needs weights

Decodes smooth random latents in chunks and compares the frame-to-frame change where chunks meet with the change
inside chunks, against decoding all frames at once: 1.00 means that a seam cannot be told from the inside. The VAE of
the trained embedded model decodes every frame by itself, so it has no seams to measure.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, setup_logging
from mimicmotion.config import DEFAULT_CONFIG


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--inference_config", default=DEFAULT_CONFIG, metavar="YAML", help="settings")
    parser.add_argument("--untrained", action="store_true", help="the embedded model's untrained twin")
    parser.add_argument("--frames", type=int, default=40, help="length of a clip")
    parser.add_argument("--chunk", type=int, default=8, help="frames per call of the decoder")
    parser.add_argument("--overlaps", type=int, nargs="+", default=[0, 1, 2, 4], help="frames that chunks share")
    parser.add_argument("--clips", type=int, default=4, help="random clips to average over")
    arguments = parser.parse_args(argv)
    import torch

    from mimicmotion.config import load_config
    from mimicmotion.weights import build_tiny_model, create_pipeline

    setup_logging("WARNING")
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(arguments.inference_config)
        if arguments.untrained:
            config.base_model_path = f"{folder}/untrained"
            build_tiny_model(config.base_model_path)
        pipeline = create_pipeline(config)
    clips = [smooth_latents(arguments.frames, torch.Generator().manual_seed(i)) for i in range(arguments.clips)]
    whole = [decode(pipeline, clip, arguments.frames, 0)[0] for clip in clips]
    print(f"{arguments.frames} frames in chunks of {arguments.chunk}, {arguments.clips} clips")
    print(f"{'overlap':>8}{'seam / whole':>14}{'error at seams':>16}{'decoded frames':>16}{'seconds':>9}")
    for overlap in arguments.overlaps:
        seconds, changes, errors = 0.0, [], []
        for clip, reference in zip(clips, whole, strict=True):
            frames, spent = decode(pipeline, clip, arguments.chunk, overlap)
            seconds += spent
            seams = range(arguments.chunk - overlap, arguments.frames - overlap, arguments.chunk - overlap)
            near = [t for seam in seams for t in range(seam, seam + overlap + 1) if 0 < t < arguments.frames]
            changes.append((jump(frames)[[t - 1 for t in near]] / jump(reference)[[t - 1 for t in near]]).max())
            errors.append((frames - reference).abs().mean(dim=(1, 2, 3))[near].max())
        decoded = arguments.frames + overlap * (len(seams))
        change, error = torch.stack(changes).mean(), torch.stack(errors).mean()
        print(f"{overlap:8d}{change:14.2f}{error:16.4f}{decoded:16d}{seconds:9.1f}")
    return 0


def smooth_latents(count, generator):
    """Latents (1, count, 4, 16, 12) of unit variance that change slowly from frame to frame."""
    import torch

    ends = torch.randn(-(-count // 8) + 1, 4, 16, 12, generator=generator)
    place = torch.linspace(0, len(ends) - 1.001, count)
    low, weight = place.long(), (place % 1).reshape(-1, 1, 1, 1)
    mixed = ends[low] * (1 - weight) + ends[low + 1] * weight
    return (mixed / mixed.std(dim=(1, 2, 3), keepdim=True))[None]


def decode(pipeline, latents, chunk, overlap):
    """(frames (count, 3, height, width) in -1..1, seconds) by the pipeline's own chunked decoder."""
    import torch

    start = time.perf_counter()
    frames = torch.cat(list(pipeline.decode_in_chunks(latents, chunk, overlap)), dim=1)[0]
    return frames, time.perf_counter() - start


def jump(frames):
    """Mean absolute change from each frame to the next, (count - 1,)."""
    return (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))


if __name__ == "__main__":
    sys.exit(main())
