"""How much memory of a card a run takes, from its shapes alone, and how it takes less. Nothing here imports torch.

A unit is the input of a block at the UNet's full size, frames x height / 8 x width / 8 x its first channels. How many
units live at the moment of the most was counted operation by operation on fake tensors of the published networks
(`tests/fake_cuda/`, which holds the sum to 5 %). Other widths are taken in proportion. What a card needs besides is
left free: the context, the workspaces of convolutions, what an allocator cannot use between its blocks.

What a plan may choose changes no frame but for rounding: guidance in one batch or in two, large blocks in pieces,
offloading. The decoder's chunk and the tiles are part of the result; where they are too large for the card, a plan says
which would do and chooses none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mimicmotion.errors import UsageError

GIB = 2**30
LEFT_FREE = GIB // 2
KEPT = 64 * 2**20  # PoseNet's features and small things of a run

PIECE = 2**24  # entries of an input that a large block takes at once where it works in pieces
SMALLEST_PIECE = 2**20

# The published networks: MimicMotion 1.1 on Stable Video Diffusion XT 1.1.
PUBLISHED_CHANNELS = 320
PARAMETERS = {"UNet": 1_524_623_082, "image encoder": 632_076_800, "PoseNet": 182_243}
VAE_PARAMETERS = 97_742_847
LARGEST_LAYER = 29_491_200  # parameters; all of the UNet that lies on the card when layers come one by one

# Units of the UNet: as diffusers has it; in pieces, in its resnets or, beside and of one piece, in its transformers.
UNET_WHOLE, UNET_RESNETS, UNET_BESIDE_PIECE, UNET_OF_PIECE = 27.1, 11.1, 9.05, 19
# Of a decoder, whose unit is frames x height x width x its last channels.
VAE_CHANNELS, VAE_WHOLE, VAE_PIECES = 128, 8.01, 6.01
TINY_CHANNELS, TINY_WHOLE = 64, 3.05


@dataclass(frozen=True)
class Shape:
    """What a run asks of the card at once.

    tile: frames of the UNet's input; frames: of the whole clip; guided: whether there are two passes; chunk: frames
    that the VAE decodes at once; size, vae_size: bytes of a value of UNet, PoseNet and image encoder, and of the VAE;
    channels: of the UNet's first block; decode_tile, overlap: as the settings of the decoder; tiny_decoder: whether
    that is a small one; fp8: whether the UNet's weights lie in 8-bit floats; stores: of a step cache, tiles times
    passes.
    """

    tile: int
    frames: int
    height: int
    width: int
    guided: bool
    chunk: int
    size: int = 2
    vae_size: int = 2
    channels: int = PUBLISHED_CHANNELS
    decode_tile: int | None = None
    overlap: int = 0
    tiny_decoder: bool = False
    fp8: bool = False
    stores: int = 0


@dataclass(frozen=True)
class Rung:
    """One way to run: guidance in one batch, large blocks in pieces, offloading as `runtime.offload`."""

    batched: bool
    pieces: bool
    offload: str

    def __str__(self) -> str:
        said = ["both passes of guidance in one batch"] if self.batched else []
        said += ["large blocks in pieces"] if self.pieces else []
        said += [f"--offload {self.offload}"] if self.offload != "none" else ["networks stay on the card"]
        return ", ".join(said)


@dataclass(frozen=True)
class Peak:
    """Bytes of tensors on the card at the moment of the most, while sampling and while decoding."""

    sampling: int
    decoding: int

    @property
    def most(self) -> int:
        return max(self.sampling, self.decoding)


LOWER = "a lower --resolution or --vram of a larger card"

# The first that fits is taken: each costs more time than those before it.
LADDER = (
    Rung(True, False, "none"),
    Rung(False, False, "none"),
    Rung(False, True, "none"),
    Rung(False, True, "model"),
    Rung(False, True, "sequential"),
)


def peak(shape: Shape, rung: Rung) -> Peak:
    """What a run of that shape takes on that rung."""
    weights = _weights(shape)
    if rung.offload == "none":
        beside_unet = beside_vae = sum(weights.values())
    elif rung.offload == "model":
        # PoseNet stays: it works while the UNet does.
        beside_unet, beside_vae = weights["UNet"] + weights["PoseNet"], weights["VAE"] + weights["PoseNet"]
    else:
        layer = int(LARGEST_LAYER * (shape.channels / PUBLISHED_CHANNELS) ** 2) * shape.size
        beside_unet, beside_vae = layer + weights["PoseNet"], min(layer, weights["VAE"]) + weights["PoseNet"]
    latents = 4 * 4 * shape.frames * (shape.height // 8) * (shape.width // 8)
    # Latents of this and the last step, noise, predictions and their sum while sampling.
    sampling = beside_unet + KEPT + 6 * latents + _stored(shape) + _unet(shape, rung)
    return Peak(sampling, beside_vae + latents + _decoder(shape, rung))


def _weights(shape: Shape) -> dict[str, int]:
    wide = (shape.channels / PUBLISHED_CHANNELS) ** 2
    weights = {name: int(count * wide) * shape.size for name, count in PARAMETERS.items()}
    if shape.fp8:
        weights["UNet"] //= shape.size
    return weights | {"VAE": int(VAE_PARAMETERS * wide) * shape.vae_size}


def _stored(shape: Shape) -> int:
    """What a step cache keeps: of each tile and pass the input of the UNet's last upsampler, twice as wide and half as
    large on each side as a unit.
    """
    entries = shape.tile * (shape.height // 16) * (shape.width // 16) * 2 * shape.channels
    return shape.stores * entries * shape.size


def _unet(shape: Shape, rung: Rung) -> int:
    copies = 2 if rung.batched and shape.guided else 1
    unit = copies * shape.tile * (shape.height // 8) * (shape.width // 8) * shape.channels
    pieces = -(-unit // PIECE) if rung.pieces else 1
    units = UNET_WHOLE
    if pieces > 1:
        units = max(UNET_RESNETS, UNET_BESIDE_PIECE + UNET_OF_PIECE / pieces)
    return int(units * unit * shape.size)


def _decoder(shape: Shape, rung: Rung) -> int:
    height, width = (min(side, shape.decode_tile or side) for side in (shape.height, shape.width))
    wide = min(1, shape.channels / PUBLISHED_CHANNELS)
    pixels = shape.chunk * height * width
    if shape.tiny_decoder:
        return int(TINY_WHOLE * TINY_CHANNELS * wide * pixels * shape.vae_size)
    unit = VAE_CHANNELS * wide * pixels
    return int((VAE_PIECES if rung.pieces and unit > PIECE else VAE_WHOLE) * unit * shape.vae_size)


def allowed_rungs(cfg_batch: str, offload: str, on_cpu: bool, compiled: bool, guided: bool) -> list[Rung]:
    """The rungs of LADDER that leave alone what was asked for: `sampling.cfg_batch` and `runtime.offload`.

    "none" asks for no offloading and forbids none. On a CPU there is nothing to offload, and no batch but for "on".
    """
    rungs = list(LADDER)
    if cfg_batch == "off" or not guided or (on_cpu and cfg_batch == "auto"):
        rungs = [replace(rung, batched=False) for rung in rungs]
    elif cfg_batch == "on":
        rungs = [replace(rung, batched=True) for rung in rungs]
    if offload != "none":
        rungs = [replace(rung, offload=offload) for rung in rungs]
    elif on_cpu:
        rungs = [rung for rung in rungs if rung.offload == "none"]
    elif compiled:
        rungs = [rung for rung in rungs if rung.offload != "sequential"]
    return list(dict.fromkeys(rungs))


def plan(shapes: Iterable[Shape], budget: int, rungs: Iterable[Rung] = LADDER) -> Rung:
    """The first of `rungs` on which a card with `budget` bytes, LEFT_FREE of them kept free, takes every shape.

    Raises: UsageError that names what would make it fit, where there is none.
    """
    shapes, rungs = list(shapes), list(rungs)
    for rung in rungs:
        if most(shapes, rung) <= budget - LEFT_FREE:
            return rung
    least = min(rungs, key=lambda rung: most(shapes, rung))
    raise UsageError(_too_large(max(shapes, key=lambda shape: peak(shape, least).most), budget, least))


def most(shapes: Iterable[Shape], rung: Rung) -> int:
    """Bytes of the largest of several shapes at its peak."""
    return max(peak(shape, rung).most for shape in shapes)


def most_overlapped(shapes: Iterable[Shape], rung: Rung) -> int:
    """As `most`, where a result is decoded while the next is sampled; networks lie on the card once."""
    shapes = list(shapes)
    takes = [peak(shape, rung) for shape in shapes]
    weights = sum(_weights(shapes[0]).values())
    return max(one.sampling for one in takes) + max(one.decoding for one in takes) - weights


def _too_large(shape: Shape, budget: int, least: Rung) -> str:
    takes, room = peak(shape, least), budget - LEFT_FREE
    what = f"{shape.tile} frames of {shape.width}x{shape.height} take {in_gib(takes.most)} at the least ({least})"
    remedies = []
    if takes.decoding > room:
        remedies.append(_smaller_decoding(shape, room, least))
    if takes.sampling > room:
        fitting = (n for n in range(shape.tile - 1, 1, -1) if peak(replace(shape, tile=n), least).sampling <= room)
        tile = next(fitting, None)
        remedies.append(f"--num_frames {tile}" if tile else LOWER)
    remedy = " and ".join(dict.fromkeys(remedies))
    return f"{what}, {in_gib(max(room, 0))} can be used; pass {remedy}, which changes the result"


def _smaller_decoding(shape: Shape, room: int, rung: Rung) -> str:
    for chunk in range(shape.chunk - 1, 0, -1):
        if peak(replace(shape, chunk=chunk), rung).decoding <= room:
            return _chunk_flags(chunk, shape.overlap)
    for tile in range(min(shape.height, shape.width) // 64 * 64, 64, -64):
        if peak(replace(shape, chunk=1, decode_tile=tile), rung).decoding <= room:
            return f"{_chunk_flags(1, shape.overlap)} --decode_tile {tile}"
    return LOWER


def _chunk_flags(chunk: int, overlap: int) -> str:
    fewer = f" --decode_overlap {chunk - 1}" if overlap >= chunk else ""
    return f"--decode_chunk_size {chunk}{fewer}"


def in_gib(size: int) -> str:
    """Bytes as text."""
    return f"{size / GIB:.2f} GiB" if size < 20 * GIB else f"{size / GIB:.1f} GiB"
