"""What the settings ask for, and what of it cannot be had together; read before torch is imported."""

import importlib.metadata
from dataclasses import dataclass

from mimicmotion.config import Config
from mimicmotion.errors import SetupError, UsageError

# The package that brings an attention kernel, and from which version on diffusers calls it; torch brings the others.
PACKAGES = {
    "flash": ("flash-attn", "2.6.3"),
    "_flash_3": ("flash-attn-3", None),
    "sage": ("sageattention", "2.1.1"),
    "xformers": ("xformers", "0.0.29"),
}


@dataclass(frozen=True)
class Acceleration:
    """How networks compute what they compute. All but `attention` other than native and `fp8` change nothing beyond
    rounding.

    attention: a kernel by diffusers' name.
    compile: UNet and VAE decoder compiled block by block.
    channels_last: convolutions keep channels in the innermost dimension.
    fuse_qkv: query, key and value of self-attention in one product.
    fp8: the UNet's weights lie in 8-bit floats and are widened layer by layer as they are used.
    """

    attention: str
    compile: bool
    channels_last: bool
    fuse_qkv: bool
    fp8: bool


def chosen_acceleration(config: Config) -> Acceleration:
    """What the settings ask for; `speed.preset` max turns on all that changes nothing beyond rounding."""
    speed, everything = config.speed, config.speed.preset == "max"
    return Acceleration(
        attention=speed.attention,
        compile=config.runtime.compile or everything,
        channels_last=speed.channels_last or everything,
        fuse_qkv=speed.fuse_qkv or everything,
        fp8=speed.fp8,
    )


def check_acceleration(config: Config) -> None:
    """Raises: UsageError for what cannot be had together, SetupError for an attention kernel whose package lacks."""
    chosen, asked = chosen_acceleration(config), "--speed max" if config.speed.preset == "max" else None
    require_package(chosen.attention)
    if chosen.compile and config.runtime.offload == "sequential":
        raise UsageError(
            f"{asked or '--compile'} compiles what --offload sequential takes apart; pass --offload model or none"
        )
    if chosen.fp8 and chosen.compile:
        raise UsageError(f"--fp8 moves weights in every layer, which leaves {asked or '--compile'} nothing; choose one")
    if chosen.fp8 and config.runtime.offload == "sequential":
        raise UsageError("--fp8 and --offload sequential both move each layer's weights; choose one")
    if config.turbo.lcm_lora_path and not config.turbo.fuse_lcm_lora:
        # A live adapter is a layer beside the weights: what is made of the weights alone would leave it out.
        for flag, on in (((asked or "--fuse_qkv"), chosen.fuse_qkv), ("--fp8", chosen.fp8)):
            if on:
                raise UsageError(f"{flag} changes weights that a live LoRA adapter builds on; drop --no_fuse_lcm_lora")


def require_package(attention: str) -> None:
    """Raises: SetupError when the package that brings an attention kernel is absent or too old."""
    if attention not in PACKAGES:
        return
    package, lowest = PACKAGES[attention]
    wanted = f"{package} {lowest} or later" if lowest else package
    remedy = f"install {wanted} on a machine with an NVIDIA GPU, or leave --attention out for torch's own kernels"
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise SetupError(f"attention {attention!r}: the package {package} is not installed; {remedy}") from None
    from packaging.version import Version

    if lowest and Version(found) < Version(lowest):
        raise SetupError(f"attention {attention!r}: {package} {found} is too old; {remedy}")
