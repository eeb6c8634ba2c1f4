"""A low-rank LoRA made of the difference between two complete networks.

AnimateLCM-SVD is published as a whole UNet of 6 GB. What it changed against its base, cut down to a given rank per
layer, is a real LoRA: smaller, needing no base model to apply, and open to a live scale.
"""

from collections.abc import Callable, Iterable

import torch

from mimicmotion.errors import SetupError
from mimicmotion.weights.layouts import plainly_named
from mimicmotion.weights.lookup import listing
from mimicmotion.weights.tensors import Tensors, check_shapes

# Columns beyond the rank and power iterations that make the randomised SVD as good as an exact one in practice.
OVERSAMPLING = 16
ITERATIONS = 4


def extract_lora(
    trained: Tensors, base: Tensors, rank: int, seed: int = 0, progress: Callable[[Iterable[str]], Iterable[str]] = iter
) -> tuple[dict[str, torch.Tensor], "ExtractReport"]:
    """The best low-rank LoRA of trained - base: a truncated SVD of each layer's difference, read layer by layer.

    Args:
        rank: the rank per layer, less where a layer's weight has fewer rows or columns.
        seed: of the randomised SVD.
        progress: wraps the list of names and yields them, to show how far it is.

    Returns: tensors in fp32 under diffusers' names (`unet.NAME.lora_A.weight`, `.lora_B.weight`), for which alpha
        equals the rank; and what they keep of the difference.

    Raises: SetupError when the two files are not the same network or hold values that are not finite.
    """
    trained, base = plainly_named(trained), plainly_named(base)
    if set(trained) != set(base):
        other = listing(sorted(set(trained) ^ set(base)))
        raise SetupError(f"{trained.path} and {base.path} are not the same network; only one of them has {other}")
    check_shapes(trained, base.shapes, f"network in {base.path}")
    report, lora = ExtractReport(), {}
    for name in progress(sorted(base)):
        delta = trained[name].float() - base[name].float()
        energy = delta.double().square().sum().item()
        if not energy < float("inf"):
            raise SetupError(f"{trained.path} minus {base.path} is not finite at {name}; replace the damaged file")
        kept = 0.0
        if delta.ndim > 1 and name.endswith(".weight") and energy:
            down, up, kept = _low_rank(delta, rank, seed)
            module = f"unet.{name.removesuffix('.weight')}"
            lora |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
        report.add(name, delta.ndim > 1, energy, kept)
    return lora, report


def _low_rank(delta: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(down, up, energy kept) of a weight's change, by a randomised SVD with a generous margin."""
    matrix = delta.flatten(1)
    rank = min(rank, *matrix.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u, s, v = torch.svd_lowrank(matrix, q=min(rank + OVERSAMPLING, *matrix.shape), niter=ITERATIONS)
    root = s[:rank].sqrt()
    down = (v[:, :rank] * root).T.reshape(rank, *delta.shape[1:]).contiguous()
    up = (u[:, :rank] * root).reshape(len(delta), rank, *([1] * (delta.ndim - 2))).contiguous()
    return down, up, s[:rank].double().square().sum().item()


class ExtractReport:
    """How much of a difference a LoRA keeps; energies are sums of squares.

    Attributes:
        blocks: block of the network -> [energy of its matrices, energy kept].
        layers: matrices that differ; unchanged: tensors that do not.
        left_out: vectors and scalars that differ (norms, biases, mix factors), which no LoRA holds.
        left_out_energy: their energy.
    """

    def __init__(self):
        self.blocks: dict[str, list[float]] = {}
        self.layers = self.unchanged = self.left_out = 0
        self.left_out_energy = 0.0

    def add(self, name: str, is_matrix: bool, energy: float, kept: float) -> None:
        """Counts one tensor."""
        if not energy:
            self.unchanged += 1
        elif is_matrix:
            self.layers += 1
            block = self.blocks.setdefault(_block(name), [0.0, 0.0])
            block[0], block[1] = block[0] + energy, block[1] + kept
        else:
            self.left_out += 1
            self.left_out_energy += energy

    @property
    def total_energy(self) -> float:
        """The energy of the whole difference, vectors and scalars included."""
        return sum(energy for energy, _ in self.blocks.values()) + self.left_out_energy

    @property
    def kept(self) -> float:
        """The share of the whole difference's energy that the LoRA keeps, 0..1."""
        return sum(kept for _, kept in self.blocks.values()) / self.total_energy if self.total_energy else 1.0

    def lines(self) -> Iterable[str]:
        """The report as lines of text."""
        for block, (energy, kept) in self.blocks.items():
            yield f"{block:20s} energy {energy:10.4g}  kept {kept / energy:7.2%}"
        share = self.left_out_energy / self.total_energy if self.total_energy else 0.0
        yield f"left out: {self.left_out} norms, biases and factors, {share:.3%} of the energy"
        yield f"unchanged: {self.unchanged} tensors"
        yield f"kept in all: {self.kept:.2%} of the energy in {self.layers} layers"


def _block(name: str) -> str:
    """down_blocks.0.attentions... -> down_blocks.0; conv_in.weight -> conv_in."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[1].isdigit() else parts[0]
