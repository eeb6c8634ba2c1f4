"""The transformer's stage: the flow of noisy blocks given clean ones before them, for whole sessions at once.

Half of the blocks start from noise alone, where only the context and the actions can tell what comes. Clean blocks
carry some noise, later they are often what the runtime makes with the model as it is (as in self-forcing,
arXiv:2506.08009, here with the true frames as the target), so that a rollout finds its way back.
"""

import dataclasses
import json
from pathlib import Path

import torch
from torch import nn

from mimicmotion.errors import UsageError
from mimicmotion.results import contact_sheet
from mimicmotion.streaming import CausalWanModel, WorldConfig, denoise, load_model, make_scheduler
from mimicmotion.training import seeded
from mimicmotion.weights import open_tensors
from mimicmotion.world_training.export import write_part
from mimicmotion.world_training.latents import LatentPool
from mimicmotion.world_training.options import WorldOptions
from mimicmotion.world_training.parallel import NO_BLOCK, Blocks, parallel_flow
from mimicmotion.world_training.transformer import CameraHead, camera_numbers, prepare_start, scale_mouse, start_from

NOISY_SHARE = 0.7  # of sessions whose clean blocks carry noise
FIGURES = "figures.jsonl"
PURE_NOISE = 1000.0
LOST = 1.0  # error of a context whose followers count half


class WorldStage:
    """See `mimicmotion.training.loop.Stage`. unseen: sessions to measure on; play: what `write_sheet` draws with."""

    def __init__(
        self,
        options: WorldOptions,
        world: WorldConfig,
        pool: LatentPool,
        unseen: LatentPool,
        device: torch.device,
        play=None,
    ):
        self.options, self.world, self.pool, self.unseen = options, world, pool, unseen
        self.device, self.play = device, play
        with seeded(options.step_seed(-1)):
            model = CausalWanModel.from_config(world.model)
            if options.init_from:
                state = load_start(options.init_from / world.model_file, world)
                start_from(model, scale_mouse(state, model.params.dim, 1 / options.mouse_scale))
            else:
                prepare_start(model)
            height, width = pool.latents.shape[-2:]
            camera = CameraHead(model.params.dim, height * width // 4)
        self.networks = nn.ModuleDict({"model": model, "camera": camera})
        self.scheduler = make_scheduler(world.denoising_steps, world.timestep_shift)
        self.levels = self.scheduler.timesteps  # that sessions are made with
        self.tap = max(model.params.action_config.blocks)
        weights = pool.weights**options.weight_power
        self.weights = (weights / weights.mean()).view(1, -1, 1, 1, 1)

    @property
    def model(self) -> CausalWanModel:
        """The network that is exported, for a mouse that is `mouse_scale` times as large."""
        return self.networks["model"]

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Error of the flow, by the weights of the channels, and of the camera."""
        options = self.options
        rows = torch.randint(len(self.pool), (options.batch,), generator=generator)
        truth = self.pool.latents[rows].float()
        layout = Layout(options.batch, truth.shape[2] // self.world.frames_per_block, options.copies)
        clean = truth + self._context_noise(rows, generator) * _noise_like(truth, generator)
        if step >= options.own_from and torch.rand((), generator=generator) < options.own_share:
            first = int(torch.randint(layout.blocks - 1, (), generator=generator))
            clean = self.own_rollout(rows, clean, first, generator)
        target = layout.noisy(truth)
        t = self._timesteps(len(target), generator)
        noise = _noise_like(target, generator)
        sigma = (t / 1000).view(-1, 1, 1, 1, 1)
        noised = (1 - sigma) * target + sigma * noise
        inputs = self._blocks(self.pool, rows, layout, clean, noised, t)
        flow, hidden = parallel_flow(self.model, inputs, self.pool.context[rows], self.tap)
        errors = self._felt(flow, noise - target)
        error = (errors * self._trust(clean, truth, layout)).mean()
        camera = (self.networks["camera"](hidden) - self._cameras(self.pool, rows, layout)).square().mean()
        return error + options.camera_weight * camera, {"loss_flow": error.item(), "loss_camera": camera.item()}

    def _felt(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(M,): mean squared difference of items (M, 16, F, h, w), by the weights of the channels."""
        return ((one - other).square() * self.weights).mean((1, 2, 3, 4))

    def _trust(self, clean: torch.Tensor, truth: torch.Tensor, layout: "Layout") -> torch.Tensor:
        """(M,): weight of each noisy item. After a block that shows another place, the truth cannot be told, and to
        ask for it teaches blur.
        """
        trust = 1 / (1 + self._felt(layout.clean(clean), layout.clean(truth)) / LOST)
        before = layout.before()[layout.clean_items :]
        return torch.where(before == NO_BLOCK, 1.0, trust[before.clamp_min(0)])

    def _context_noise(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        level = torch.rand((len(rows), 1, 1, 1, 1), generator=generator) * self.options.context_noise
        return level * (torch.rand(level.shape, generator=generator) < NOISY_SHARE)

    def _timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count,): noise alone, else one of the levels that sessions are made with, else any."""
        shift = self.world.timestep_shift
        any_level = torch.rand(count, generator=generator)
        any_level = 1000 * shift * any_level / (1 + (shift - 1) * any_level)
        used = self.levels[torch.randint(1, len(self.levels), (count,), generator=generator)]
        t = torch.where(torch.rand(count, generator=generator) < 0.5, used, any_level)
        return torch.where(torch.rand(count, generator=generator) < self.options.noise_share, PURE_NOISE, t)

    @torch.no_grad()
    def own_rollout(
        self, rows: torch.Tensor, clean: torch.Tensor, first: int, generator: torch.Generator
    ) -> torch.Tensor:
        """The sessions `clean` (B, 16, L, h, w) as the runtime goes on with them from block `first` on.

        Every block is made in all steps after those it made before, so what a rollout adds up is in the context. The
        last block stays as it is: nothing comes after it.
        """
        size = self.world.frames_per_block
        blocks = list(clean.split(size, dim=2))
        cache = self.model.new_cache(len(rows), *clean.shape[-2:])
        self.model.store_context(self.pool.context[rows], cache)
        for number in range(len(blocks) - 1):
            inputs = self._block_inputs(self.pool, rows, number)

            def flow(x: torch.Tensor, timestep: float, inputs=inputs, start=size * number) -> torch.Tensor:
                t = torch.full((len(x), x.shape[2]), timestep)
                return self.model(x, t, context=None, cache=cache, start=start, **inputs)

            if number >= first:
                noise = _noise_like(blocks[number], generator)
                blocks[number] = denoise(flow, self.scheduler, noise, generator)
            flow(blocks[number], self.world.context_noise)
        return torch.cat(blocks, dim=2)

    def _block_inputs(self, pool: LatentPool, rows: torch.Tensor, number: int) -> dict[str, torch.Tensor]:
        """What the model is told of block `number` beside its latents, as `CausalWanModel.forward` takes it."""
        size = self.world.frames_per_block
        span = self.model.params.action_config.frames_for(size)
        start = 4 * size * number
        return {
            "cond": pool.condition(rows, size * number, size),
            "keyboard": pool.keyboard[rows, start : start + span],
            "mouse": pool.mouse[rows, start : start + span] * self.options.mouse_scale,
        }

    def _blocks(self, pool, rows, layout, clean, noised, t) -> Blocks:
        """The items of a step: clean blocks of `clean` (B, 16, L, h, w), then `noised` items."""
        size = self.world.frames_per_block
        each = [self._block_inputs(pool, rows, number) for number in range(layout.blocks)]
        return Blocks(
            x=torch.cat((layout.clean(clean), noised)),
            t=torch.cat((torch.full((layout.clean_items,), self.world.context_noise), t)),
            **{name: layout.items([inputs[name] for inputs in each]) for name in each[0]},
            start=[size * number for number in layout.numbers()],
            before=layout.before(),
            clip=layout.clips(),
            clean=layout.clean_items,
        )

    def _cameras(self, pool, rows, layout) -> torch.Tensor:
        size = self.world.frames_per_block
        numbers = camera_numbers(pool.cameras[rows, ::4])  # (B, L, 5): the camera of each latent's last frame
        return layout.items([numbers[:, size * n : size * (n + 1)] for n in range(layout.blocks)])

    @torch.no_grad()
    def gaps(self, pool: LatentPool) -> dict[str, float]:
        """PSNR in dB of unseen blocks 1 and later in one step from noise, with right and with wrong actions.

        Estimated in the latents: their errors as the pixels feel them, and the VAE's own loss.
        """
        rows = torch.arange(len(pool))
        truth = pool.latents.float()
        layout = Layout(len(rows), truth.shape[2] // self.world.frames_per_block, 1)
        noise = _noise_like(layout.noisy(truth), torch.Generator().manual_seed(0))
        t = torch.full((len(noise),), PURE_NOISE)
        found = {}
        for name, changed in wrong_actions(pool).items():
            inputs = self._blocks(changed, rows, layout, truth, noise, t)
            flow, _ = parallel_flow(self.model, inputs, pool.context)
            error = (noise - flow - layout.noisy(truth)).square()[layout.batch :]
            mse = (error.mean((0, 2, 3, 4)) * pool.weights).sum() + pool.loss
            found[name] = -10 * (mse / 4).log10().item()
        return found

    def write_sheet(self, path: Path) -> None:
        """Figures on unseen sessions to figures.jsonl, and a sheet of sessions that hold one key each."""
        figures = {"step": int(path.stem.rpartition("-")[2])} | self.gaps(self.unseen)
        if self.play is not None:
            rows, judged = self.play(self.exported())
            figures |= judged
            contact_sheet(path, rows, title=f"{path.stem}: {json.dumps(figures)}")
        with open(path.parent / FIGURES, "a") as file:
            file.write(json.dumps(figures) + "\n")

    def exported(self) -> dict[str, torch.Tensor]:
        """The weights as the runtime takes them."""
        state = self.model.state_dict()
        return scale_mouse(state, self.model.params.dim, self.options.mouse_scale)

    def export(self) -> None:
        """Writes the transformer in the published layout, but for a trial at another size."""
        if self.options.height is not None:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.exported().items()}
        write_part(tensors, self.options.out / self.world.model_file)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which items a step has: clean blocks 0 .. blocks - 2 of every session, then all blocks, `copies` times.

    Within each group items go block by block and, within a block, session by session.
    """

    batch: int
    blocks: int
    copies: int

    @property
    def clean_items(self) -> int:
        return self.batch * (self.blocks - 1)

    def clean(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, L, h, w) -> (clean_items, C, F, h, w)."""
        return torch.cat(latents.chunk(self.blocks, dim=2)[:-1])

    def noisy(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, L, h, w) -> (copies * blocks * B, C, F, h, w)."""
        return torch.cat(latents.chunk(self.blocks, dim=2) * self.copies)

    def items(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """One tensor (B, ...) for each block -> (M, ...) for all items."""
        return torch.cat(parts[:-1] + parts * self.copies)

    def numbers(self) -> list[int]:
        """The block of each item."""
        return [
            n for n in [*range(self.blocks - 1), *list(range(self.blocks)) * self.copies] for _ in range(self.batch)
        ]

    def clips(self) -> torch.Tensor:
        """The session of each item."""
        return torch.arange(self.batch).repeat(self.blocks - 1 + self.blocks * self.copies)

    def before(self) -> torch.Tensor:
        """The clean item before each item."""
        numbers = torch.tensor(self.numbers())
        return torch.where(numbers > 0, (numbers - 1) * self.batch + self.clips(), NO_BLOCK)


def load_start(path: Path, world: WorldConfig) -> dict[str, torch.Tensor]:
    """The weights of a model of `world`, whose feed-forward layers may be narrower.

    Raises: UsageError when they are wider; SetupError as `load_model`.
    """
    shapes, wanted = open_tensors(path).shapes, world.model["ffn_dim"]
    width = next((shape[0] for name, shape in shapes.items() if name.endswith("blocks.0.ffn.0.bias")), wanted)
    if width > wanted:
        raise UsageError(f"{path} has feed-forward layers of {width}, --world of {wanted}: take {width} or more")
    return load_model(path, {**world.model, "ffn_dim": width}).state_dict()


def wrong_actions(pool: LatentPool) -> dict[str, LatentPool]:
    """The pool with its own actions, with those of another session, mirrored, and without any."""
    mirrored = pool.keyboard[..., [1, 0, 3, 2]]
    return {
        "right": pool,
        "other": dataclasses.replace(pool, keyboard=pool.keyboard.roll(1, 0), mouse=pool.mouse.roll(1, 0)),
        "mirrored": dataclasses.replace(pool, keyboard=mirrored, mouse=-pool.mouse),
        "none": dataclasses.replace(pool, keyboard=0 * pool.keyboard, mouse=0 * pool.mouse),
    }


def _noise_like(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(tensor.shape, generator=generator)
