"""What a session of the causal model remembers: keys and values of the newest latents, in rings that never shift.

Positions are plain integers and live once per session, not once per layer: nothing here makes the host wait for the
device. Rotary angles are already in the keys, and attention does not care about the order of keys, so the newest
latent simply takes the slot of the oldest.
"""

import copy
from dataclasses import dataclass, field, replace

import torch


class RollingCache:
    """Keys and values of one attention layer for the newest `window` latents.

    `k` and `v` are (B, window, tokens, heads, head_dim), allocated once; the caller decides which slots to write.
    """

    def __init__(
        self,
        batch_size: int,
        window: int,
        tokens: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (batch_size, window, tokens, heads, head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)

    def copy(self) -> "RollingCache":
        """One with the same values, written to on its own."""
        other = copy.copy(self)
        other.k, other.v = self.k.clone(), self.v.clone()
        return other

    def update(
        self, slots: torch.Tensor, count: int, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes k, v (B, F, tokens, heads, head_dim) to the F `slots`; returns the `count` latents in use.

        The result shares memory with the cache.
        """
        self.k.index_copy_(1, slots, k.to(self.k.dtype))
        self.v.index_copy_(1, slots, v.to(self.v.dtype))
        return self.k[:, :count], self.v[:, :count]


def ring_slots(offset: int, frames: int, window: int, sink: int) -> list[int]:
    """Slots of latents number offset .. offset + frames - 1 of a session; the first `sink` are never replaced."""
    numbers = range(offset, offset + frames)
    return [n if n < sink else sink + (n - sink) % (window - sink) for n in numbers]


@dataclass
class LayerCache:
    """The caches of one transformer block; `mouse` and `keyboard` are None where it has no such attention.

    `cross` holds keys and values of the image context, (B, 257, heads, head_dim) each, once they are known.
    """

    attention: RollingCache
    mouse: RollingCache | None = None
    keyboard: RollingCache | None = None
    cross: tuple[torch.Tensor, torch.Tensor] | None = None

    def copy(self) -> "LayerCache":
        """One whose rings are written to on their own; what is never written again is shared."""
        rings = {name: getattr(self, name) for name in ("attention", "mouse", "keyboard")}
        return replace(self, **{name: ring and ring.copy() for name, ring in rings.items()})


@dataclass
class ModelCache:
    """All that `CausalWanModel` remembers of one session. Made by `CausalWanModel.new_cache`.

    `first` is the index of the session's first latent and `end` the index after its newest; None before the first
    block. `grid` is (rows, columns) of tokens.
    """

    batch_size: int
    grid: tuple[int, int]
    window: int
    sink: int
    device: torch.device
    layers: list[LayerCache] = field(repr=False)
    first: int | None = None
    end: int | None = None
    slots: torch.Tensor | None = None
    action_slots: torch.Tensor | None = None
    rope: dict = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Number of latents that attention sees now, the current block included."""
        return min(self.end - self.first, self.window)

    @property
    def has_context(self) -> bool:
        """Whether the image context of the session has been stored."""
        return self.layers[0].cross is not None

    def copy(self) -> "ModelCache":
        """The memory of a session that goes on from here on its own. It takes the bytes of the rings."""
        layers = [layer.copy() for layer in self.layers]
        return replace(self, layers=layers, slots=None, action_slots=None, rope={})

    def begin(self, start: int, frames: int) -> None:
        """Moves to the block of latents start .. start + frames - 1: the next one, or the newest again.

        Raises: ValueError when the block would leave a gap or needs latents that were replaced already.
        """
        if frames > self.window - self.sink:
            raise ValueError(f"{frames} latents do not fit into a window of {self.window}, {self.sink} of them kept")
        if self.first is None:
            self.first = start
        elif not start <= self.end <= start + frames:
            raise ValueError(
                f"latents {start}..{start + frames - 1} do not follow latent {self.end - 1}: start at "
                f"{self.end} for the next block, at {self.end - frames} to write the newest again"
            )
        if self.slots is None or (self.end, len(self.slots)) != (start + frames, frames):
            self.end = start + frames
            self._place(start - self.first, frames)

    def _check_context(self, context: dict[str, torch.Tensor]) -> None:
        """Raises: ValueError unless keys and values of the image context are there for every layer, in one shape."""
        if set(context) != {f"{index}.cross.{part}" for index in range(len(self.layers)) for part in ("k", "v")}:
            raise ValueError("the saved image context belongs to a model with other layers")
        shapes = {tuple(tensor.shape) for tensor in context.values()}
        batch, _, *heads = next(iter(shapes)) if len(shapes) == 1 else (0, 0)
        if (batch, *heads) != (self.batch_size, *self.layers[0].attention.k.shape[-2:]):
            raise ValueError(f"the image context has shapes {sorted(shapes)}")

    def _place(self, offset: int, frames: int) -> None:
        slots = ring_slots(offset, frames, self.window, self.sink)
        action_slots = ring_slots(offset, frames, self.window, 0)
        self.slots = torch.tensor(slots, device=self.device)
        self.action_slots = torch.tensor(action_slots, device=self.device)
        self.rope.clear()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the session by name, sharing memory with the cache: what has to be saved."""
        found = {}
        for index, layer in enumerate(self.layers):
            for name in ("attention", "mouse", "keyboard"):
                ring = getattr(layer, name)
                if ring is not None:
                    found |= {f"{index}.{name}.k": ring.k, f"{index}.{name}.v": ring.v}
            if layer.cross is not None:
                found |= {f"{index}.cross.k": layer.cross[0], f"{index}.cross.v": layer.cross[1]}
        return found

    def restore(self, tensors: dict[str, torch.Tensor], first: int, end: int) -> None:
        """Takes the values of `tensors` and the position they were saved at.

        Raises: ValueError when names or shapes are not those of this cache.
        """
        own = self.tensors()
        if {name for name in tensors if ".cross." not in name} != set(own):
            raise ValueError("the saved cache belongs to a model with other layers")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"{name} has shape {list(tensors[name].shape)}, not {list(tensor.shape)}")
        self._check_context({name: tensor for name, tensor in tensors.items() if ".cross." in name})
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        for index, layer in enumerate(self.layers):
            layer.cross = tuple(tensors[f"{index}.cross.{part}"].to(self.device, copy=True) for part in ("k", "v"))
        self.first, self.end, self.slots = first, end, None
