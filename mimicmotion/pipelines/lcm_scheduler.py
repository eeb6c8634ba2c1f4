"""The AnimateLCM-SVD scheduler: a few stochastic consistency steps on a fixed Karras grid.

Each step predicts the clean latents and adds fresh noise of the next, lower level:

    x0   = c_skip(sigma) x + c_out(sigma) v
    next = x0 + s_noise sigma_next z,   z ~ N(0, 1)

(multistep consistency sampling, arXiv 2303.01469, algorithm 1, with AnimateLCM's choice of noise: size
sigma_next itself instead of sqrt(sigma_next^2 - sigma_min^2).) With sigma_data = 1 the x0 is exactly the
v-prediction of Stable Video Diffusion.
"""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from mimicmotion.pipelines.noise import draw_noise

GRID_POINTS = 40
LEVELS = ("sigma_min", "sigma_max")  # Euler's configuration may leave these None, for levels that follow from its betas


@dataclass
class AnimateLCMSVDStochasticIterativeSchedulerOutput(BaseOutput):
    """`prev_sample`: the sample for the next step; `pred_original_sample`: the predicted clean sample."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


class AnimateLCMSVDStochasticIterativeScheduler(SchedulerMixin, ConfigMixin):
    """Few-step sampling for an SVD UNet distilled by consistency (AnimateLCM, arXiv 2402.00769).

    Args:
        num_grid_points: points of the Karras grid that the model was distilled on.
        sigma_min: lowest noise level of the grid.
        sigma_max: highest noise level of the grid, where sampling starts.
        sigma_data: standard deviation of the data in the preconditioning; 1 gives SVD's v-prediction.
        s_noise: factor on the noise that is added back in each step.
        rho: curvature of the Karras grid (arXiv 2206.00364, equation 5).
        clip_denoised: clamps predicted clean samples to -1..1; wrong for latents, which exceed that range.
        kwargs: `num_train_timesteps`, the published name of `num_grid_points`. It is no entry of the configuration:
            there SVD's own scheduler means the 1000 steps of its diffusion by it.
    """

    order = 1
    _compatibles = ["EulerDiscreteScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        num_grid_points: int = GRID_POINTS,
        sigma_min: float = 0.002,
        sigma_max: float = 700.0,
        sigma_data: float = 1.0,
        s_noise: float = 1.0,
        rho: float = 7.0,
        clip_denoised: bool = False,
        **kwargs,
    ):
        self._take_published_name(**kwargs)
        self.num_inference_steps: int | None = None
        self.timesteps = torch.from_numpy(self.sigma_to_t(self.grid()))
        self.sigmas = torch.from_numpy(np.append(self.grid(), 0.0).astype(np.float32))
        self._step_index: int | None = None
        self._begin_index: int | None = None

    def _take_published_name(self, num_train_timesteps: int | None = None) -> None:
        if num_train_timesteps is not None:
            # diffusers drops a setting that it believes to be a default when it makes another scheduler of this one.
            defaults = [name for name in self.config["_use_default_values"] if name != "num_grid_points"]
            self.register_to_config(num_grid_points=num_train_timesteps, _use_default_values=defaults)

    @classmethod
    def from_config(cls, config: dict, **arguments):
        """A scheduler with the settings of `config`, of this class or another one.

        Another scheduler's noise levels and curvature are taken over, its count of training steps is not: the grid
        keeps its 40 points. What does not apply here is kept for the way back, as elsewhere in diffusers.
        """
        config = {name: value for name, value in config.items() if not (name in LEVELS and value is None)}
        if config.get("_class_name") == cls.__name__ and "num_grid_points" not in config:
            # Saved before the grid had a name of its own, or by AnimateLCM's code.
            config["num_grid_points"] = config.pop("num_train_timesteps", GRID_POINTS)
        return super().from_config(config, **arguments)

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of the noise that sampling starts from."""
        return (self.config.sigma_max**2 + 1) ** 0.5

    @property
    def step_index(self) -> int | None:
        """Index of the current step; None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Index of the first step, where the pipeline set one."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Starts sampling at step `begin_index` instead of at the step found by its timestep."""
        self._begin_index = begin_index

    def grid(self) -> np.ndarray:
        """All noise levels the model was distilled on, (num_grid_points,), from sigma_max to sigma_min."""
        config = self.config
        ramp = np.arange(config.num_grid_points) / max(config.num_grid_points - 1, 1)
        low, high = config.sigma_min ** (1 / config.rho), config.sigma_max ** (1 / config.rho)
        return (high + ramp * (low - high)) ** config.rho

    @staticmethod
    def sigma_to_t(sigma: np.ndarray) -> np.ndarray:
        """SVD's continuous timestep of a noise level, 0.25 ln(sigma), in float64."""
        return 0.25 * np.log(np.asarray(sigma, dtype=np.float64) + 1e-44)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Chooses the noise levels of a run.

        Args:
            num_inference_steps: number of steps, 1..num_grid_points. AnimateLCM takes every
                (num_grid_points // num_inference_steps)-th point. Where that leaves more than two strides
                of the grid unused (25 of 40 steps would stop at sigma 4.35), the points are spread evenly.
            device: where `timesteps` is put; the sigmas stay on the CPU.
            timesteps: grid indices to use instead, strictly increasing from 0.

        Raises:
            ValueError: for a count that the grid cannot serve, or indices that skip the first level.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("give either num_inference_steps or timesteps")
        indices = self._spread(num_inference_steps) if timesteps is None else self._checked(timesteps)
        sigmas = self.grid()[indices]
        self.num_inference_steps = len(sigmas)
        self.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
        steps = torch.from_numpy(self.sigma_to_t(sigmas))
        # MPS has no float64.
        on_mps = device is not None and torch.device(device).type == "mps"
        self.timesteps = steps.to(device=device, dtype=torch.float32 if on_mps else torch.float64)
        self._step_index = None
        self._begin_index = None

    def _spread(self, steps: int) -> np.ndarray:
        points = self.config.num_grid_points
        if not 1 <= steps <= points:
            raise ValueError(
                f"the AnimateLCM grid has {points} points and serves 1 to {points} steps, not {steps}; "
                "use 1, 2, 4 or 8, or another scheduler"
            )
        stride = points // steps
        unused = points - (steps - 1) * stride
        if unused <= 2 * stride:
            return np.arange(steps) * stride
        return np.round(np.arange(steps) * points / steps).astype(np.int64)

    def _checked(self, timesteps: list[int]) -> np.ndarray:
        indices = np.asarray(timesteps, dtype=np.int64)
        last = self.config.num_grid_points - 1
        if len(indices) == 0 or indices[0] != 0 or indices[-1] > last or (np.diff(indices) <= 0).any():
            raise ValueError(
                f"timesteps are grid indices that start at 0 and increase up to {last} at most, not {timesteps}: "
                "the initial latents hold noise of the first level"
            )
        return indices

    def scale_model_input(self, sample: torch.Tensor, timestep: float | torch.Tensor) -> torch.Tensor:
        """`sample` divided by sqrt(sigma^2 + sigma_data^2): what the UNet expects to see."""
        if self._step_index is None:
            self._start_at(timestep)
        sigma = self.sigmas[self._step_index]
        return sample / (sigma**2 + self.config.sigma_data**2) ** 0.5

    def _start_at(self, timestep: float | torch.Tensor) -> None:
        if self._begin_index is not None:
            self._step_index = self._begin_index
        else:
            self._step_index = self.index_for_timestep(timestep)

    def index_for_timestep(self, timestep: float | torch.Tensor) -> int:
        """Place of `timestep` in `timesteps`: of the nearest one, within the precision that it came in.

        Args:
            timestep: an entry of `timesteps`, as a tensor of any floating point type or as a number.

        Raises:
            ValueError: for an integer, which would be an index, and for a timestep that is not one of `timesteps`.
        """
        if not torch.is_floating_point(torch.as_tensor(timestep)):
            raise ValueError("pass one of scheduler.timesteps as timestep, not an index")
        dtype = timestep.dtype if isinstance(timestep, torch.Tensor) else torch.float32
        distances = (self.timesteps.cpu().double() - float(timestep)).abs()
        nearest = int(distances.argmin())
        # Numbers are held to single precision too: they may come from a tensor's item().
        precision = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
        if not distances[nearest] <= 2 * precision * max(1.0, abs(float(timestep))):
            raise ValueError(f"timestep {float(timestep)} is not one of {self.timesteps.tolist()}")
        return nearest

    def scalings(self, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(c_skip, c_out) of the preconditioning (arXiv 2206.00364, table 1) with v-prediction's sign."""
        data = self.config.sigma_data
        return data**2 / (sigma**2 + data**2), -sigma * data / (sigma**2 + data**2) ** 0.5

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> AnimateLCMSVDStochasticIterativeSchedulerOutput | tuple:
        """One consistency step.

        Args:
            model_output: v-prediction, any shape.
            timestep: the current entry of `timesteps`.
            sample: noisy sample of the same shape.
            generator: source of the added noise. Runs of one step draw none; every step of longer runs draws,
                the last one too (its noise has size 0), so that the draws match AnimateLCM's.
            return_dict: False gives a tuple (prev_sample,).

        Raises:
            ValueError: for a first timestep that is not one of `timesteps`, or a list of generators of another length
                than the batch.
        """
        if self._step_index is None:
            self._start_at(timestep)
        sigma, sigma_next = self.sigmas[self._step_index], self.sigmas[self._step_index + 1]
        c_skip, c_out = self.scalings(sigma)
        denoised = c_out * model_output + c_skip * sample
        if self.config.clip_denoised:
            denoised = denoised.clamp(-1, 1)
        previous = denoised
        if len(self.timesteps) > 1:
            noise = draw_noise(model_output.shape, generator, model_output.device, model_output.dtype)
            previous = denoised + noise * self.config.s_noise * sigma_next
        self._step_index += 1
        if not return_dict:
            return (previous,)
        return AnimateLCMSVDStochasticIterativeSchedulerOutput(previous, denoised)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """`original_samples` (batch, ...) with noise of the level of each entry of `timesteps` (batch,).

        Raises:
            ValueError: for a timestep that is not one of the scheduler's.
        """
        indices = [self.index_for_timestep(timestep) for timestep in timesteps]
        sigma = self.sigmas[indices].to(original_samples)
        return original_samples + noise * sigma.reshape(-1, *[1] * (original_samples.ndim - 1))

    def __len__(self) -> int:
        return self.config.num_grid_points
