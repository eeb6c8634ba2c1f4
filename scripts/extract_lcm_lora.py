"""Makes a LoRA of what LCM training changed in a UNet.

python scripts/extract_lcm_lora.py --lcm models/AnimateLCM/AnimateLCM-SVD-xt-1.1.safetensors \\
    --base models/SVD/unet/diffusion_pytorch_model.safetensors --rank 64   # needs weights
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, guarded_console
from mimicmotion.errors import MimicMotionError, UsageError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--lcm", required=True, help="the complete UNet after LCM training")
    parser.add_argument("--base", required=True, help="the UNet it started from: a file, or an SVD folder")
    parser.add_argument("--rank", type=int, default=64, help="rank per layer")
    parser.add_argument("--output", help="folder of the LoRA (default: <name of the LCM file>-lora-rank<N> beside it)")
    parser.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), default="fp16", help="stored as")
    parser.add_argument("--seed", type=int, default=0, help="of the randomised SVD")
    return parser.parse_args(argv)


def extract(arguments: argparse.Namespace) -> Path:
    """Writes the LoRA, prints what it keeps and returns its path."""
    if arguments.rank < 1:
        raise UsageError(f"--rank must be at least 1, not {arguments.rank}")
    from mimicmotion.device import DTYPES
    from mimicmotion.files import require_writable, write_tensors
    from mimicmotion.progress import track
    from mimicmotion.weights import LORA_FILE, extract_lora, find_svd_unet, open_tensors

    lcm = Path(arguments.lcm)
    trained, base = open_tensors(lcm), open_tensors(find_svd_unet(arguments.base, lcm))
    folder = Path(arguments.output or lcm.with_name(f"{lcm.stem}-lora-rank{arguments.rank}"))
    require_writable(folder)
    lora, report = extract_lora(
        trained, base, arguments.rank, arguments.seed, lambda names: track(names, "extracting", len(names), "layer")
    )
    dtype = DTYPES[arguments.dtype]
    metadata = {"format": "pt", "rank": str(arguments.rank), "lcm": lcm.name, "base": base.path.name}
    write_tensors(folder / LORA_FILE, {name: tensor.to(dtype) for name, tensor in lora.items()}, metadata)
    print(*report.lines(), sep="\n")
    print(f"written: {folder / LORA_FILE}")
    return folder / LORA_FILE


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    try:
        extract(parse(argv))
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
