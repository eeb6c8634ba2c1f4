"""Joining the latents of clips into one sequence, without sampling anything again.

A clip is (1, frames, 4, h, w) with the reference's frame first. Between two clips there is nothing (a cut),
interpolated latents, or an overlap in which one fades into the other. All arithmetic is float32.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mimicmotion.errors import InputError


@dataclass(frozen=True)
class Part:
    """A stretch of the joined sequence: a clip, or what lies between two.

    `hidden` of its first frames are decoded, since the VAE looks at neighbours, but not shown.
    """

    name: str
    latents: torch.Tensor
    hidden: int = 0
    is_transition: bool = False

    @property
    def shown(self) -> int:
        """Frames of the part in the video."""
        return self.latents.shape[1] - self.hidden


class LatentSequence:
    """Parts one after the other, for `decode_in_chunks`: the frames of a slice are brought together when asked for."""

    def __init__(self, parts: Sequence[Part]):
        self._tensors = [part.latents for part in parts]
        first = self._tensors[0]
        frames = sum(tensor.shape[1] for tensor in self._tensors)
        self.shape = (first.shape[0], frames, *first.shape[2:])

    def __getitem__(self, key: tuple[slice, slice]) -> torch.Tensor:
        start, stop, _ = key[1].indices(self.shape[1])
        pieces = []
        for tensor in self._tensors:
            piece = tensor[:, max(start, 0) : max(stop, 0)]
            if piece.shape[1]:
                pieces.append(piece.float())
            start, stop = start - tensor.shape[1], stop - tensor.shape[1]
        return torch.cat(pieces, dim=1)


def join_clips(
    clips: Sequence[torch.Tensor],
    names: Sequence[str],
    *,
    drop_first: str = "each",
    interp_frames: int = 0,
    interp_mode: str = "linear",
    isolate: bool = False,
    between: Callable[[int], torch.Tensor] | None = None,
) -> list[Part]:
    """The parts of the joined sequence, in order.

    Args:
        clips: latents of the clips.
        names: what they are called.
        drop_first: whose reference frame is not shown: "each" clip's, only the "first" one's, or "none".
        interp_frames: frames put between two clips ("linear", "slerp"), or by which they overlap ("smooth").
        interp_mode: see `transition` and `overlap`.
        isolate: clips will be decoded by themselves; then each keeps its reference, hidden, as when it was written
            alone. Otherwise only the first does: to the VAE a reference between two clips would be a flash.
        between: gives the latents to put between clip i and i + 1, instead of interpolated ones.

    Raises: InputError naming a clip that has too few frames.
    """
    shown = [clip[:, _dropped(drop_first, i) :] for i, clip in enumerate(clips)]
    for i, name in enumerate(names):
        neighbours = (i > 0) + (i < len(names) - 1)
        _require_frames(name, shown[i], neighbours * interp_frames if interp_mode == "smooth" else 0)
    parts: list[Part] = []
    for i, name in enumerate(names):
        if i:
            link = f"{names[i - 1]} > {name}"
            parts += _link(link, shown, i, parts, interp_frames, interp_mode, between)
        keeps_reference = _dropped(drop_first, i) and (i == 0 or isolate)
        parts.append(Part(name, clips[i], hidden=1) if keeps_reference else Part(name, shown[i]))
        if i and interp_mode == "smooth":
            parts[-1] = replace(parts[-1], latents=parts[-1].latents[:, interp_frames:])
    return parts


def _dropped(drop_first: str, index: int) -> int:
    return int(drop_first == "each" or (drop_first == "first" and index == 0))


def _require_frames(name: str, clip: torch.Tensor, overlapping: int) -> None:
    if clip.shape[1] <= overlapping:
        what = f", {overlapping} of which would be faded into its neighbours" if overlapping else ""
        raise InputError(f"clip {name} has too few frames: {clip.shape[1]}{what}")


def _link(name, shown, i, parts: list[Part], count: int, mode: str, between) -> list[Part]:
    """What lies between clip i - 1 and i; an overlap shortens the part before it, in place."""
    if between is not None:
        return [Part(name, between(i - 1), is_transition=True)]
    if count == 0:
        return []
    if mode == "smooth":
        parts[-1] = replace(parts[-1], latents=parts[-1].latents[:, :-count])
        return [Part(name, overlap(shown[i - 1][:, -count:], shown[i][:, :count]), is_transition=True)]
    return [Part(name, transition(shown[i - 1][:, -1:], shown[i][:, :1], count, mode), is_transition=True)]


def transition(last: torch.Tensor, first: torch.Tensor, count: int, mode: str = "linear") -> torch.Tensor:
    """`count` frames between two frames (1, 1, 4, h, w), evenly spaced; neither end is repeated.

    "linear" mixes them, which loses contrast on the way; "slerp" goes along the arc and keeps it.
    """
    shares = torch.arange(1, count + 1) / (count + 1)
    mix = torch.lerp if mode == "linear" else slerp
    last, first = last.float(), first.float()
    return torch.cat([mix(last, first, share) for share in shares], dim=1)


def overlap(tail: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """The last frames of a clip faded into the first ones of the next, both (1, n, 4, h, w), along the arc.

    The share eases in and out, so that neither clip starts to fade with a jolt.
    """
    count = tail.shape[1]
    frames = []
    for i in range(count):
        share = torch.tensor(fade_share(i, count))
        frames.append(slerp(tail[:, i : i + 1].float(), head[:, i : i + 1].float(), share))
    return torch.cat(frames, dim=1)


def fade_share(frame: int, count: int) -> float:
    """Share of the next clip in a frame of an overlap of `count` frames."""
    return (1 - math.cos(math.pi * (frame + 1) / (count + 1))) / 2


def slerp(start: torch.Tensor, end: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation of two tensors seen as vectors; length and direction change evenly."""
    lengths = start.norm(), end.norm()
    if min(lengths) == 0:
        return torch.lerp(start, end, share)
    cosine = torch.dot((start / lengths[0]).flatten(), (end / lengths[1]).flatten())
    # In double precision: near 1 the arc cosine loses half of the digits.
    angle = torch.arccos(cosine.double().clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return torch.lerp(start, end, share)
    weights = torch.sin((1 - share) * angle) / torch.sin(angle), torch.sin(share * angle) / torch.sin(angle)
    direction = start / lengths[0] * weights[0].float() + end / lengths[1] * weights[1].float()
    return direction * torch.lerp(*lengths, share)


def decode_groups(parts: Sequence[Part], isolate: bool = False) -> Iterator[tuple[LatentSequence, int]]:
    """What is decoded together, with the number of its first frames that are not shown."""
    for group in [[part] for part in parts] if isolate else [parts]:
        yield LatentSequence(group), group[0].hidden


def joins(parts: Sequence[Part]) -> list[tuple[str, int, int]]:
    """(name, first frame, number of frames of the transition) of every join, in frames of the video.

    At a cut the first frame is the next clip's and the number 0.
    """
    found, position, names = [], 0, [part.name for part in parts if not part.is_transition]
    clips = 0
    for i, part in enumerate(parts):
        if part.is_transition:
            found.append((part.name, position, part.shown))
        elif i and not parts[i - 1].is_transition:
            found.append((f"{names[clips - 1]} > {part.name}", position, 0))
        clips += not part.is_transition
        position += part.shown
    return found
