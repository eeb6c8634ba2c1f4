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
from diffusers.utils.torch_utils import randn_tensor


@dataclass
class AnimateLCMSVDStochasticIterativeSchedulerOutput(BaseOutput):
    """`prev_sample`: the sample for the next step; `pred_original_sample`: the predicted clean sample."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


class AnimateLCMSVDStochasticIterativeScheduler(SchedulerMixin, ConfigMixin):
    """Few-step sampling for an SVD UNet distilled by consistency (AnimateLCM, arXiv 2402.00769).

    Args:
        num_train_timesteps: points of the Karras grid that the model was distilled on.
        sigma_min: lowest noise level of the grid.
        sigma_max: highest noise level of the grid, where sampling starts.
        sigma_data: standard deviation of the data in the preconditioning; 1 gives SVD's v-prediction.
        s_noise: factor on the noise that is added back in each step.
        rho: curvature of the Karras grid (arXiv 2206.00364, equation 5).
        clip_denoised: clamps predicted clean samples to -1..1; wrong for latents, which exceed that range.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 40,
        sigma_min: float = 0.002,
        sigma_max: float = 700.0,
        sigma_data: float = 1.0,
        s_noise: float = 1.0,
        rho: float = 7.0,
        clip_denoised: bool = False,
    ):
        self.num_inference_steps: int | None = None
        self.timesteps = torch.from_numpy(self.sigma_to_t(self.grid()))
        self.sigmas = torch.from_numpy(np.append(self.grid(), 0.0).astype(np.float32))
        self._step_index: int | None = None
        self._begin_index: int | None = None

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
        """All noise levels the model was distilled on, (num_train_timesteps,), from sigma_max to sigma_min."""
        config = self.config
        ramp = np.arange(config.num_train_timesteps) / max(config.num_train_timesteps - 1, 1)
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
            num_inference_steps: number of steps, 1..num_train_timesteps. AnimateLCM takes every
                (num_train_timesteps // num_inference_steps)-th point. Where that leaves more than two strides
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
        points = self.config.num_train_timesteps
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
        last = self.config.num_train_timesteps - 1
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
            return
        if not isinstance(timestep, float) and not torch.is_floating_point(torch.as_tensor(timestep)):
            raise ValueError("pass one of scheduler.timesteps as timestep, not an index")
        matches = (self.timesteps == torch.as_tensor(timestep).to(self.timesteps.device)).nonzero()
        if len(matches) == 0:
            raise ValueError(f"timestep {float(timestep)} is not one of {self.timesteps.tolist()}")
        self._step_index = int(matches[0])

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
            noise = randn_tensor(
                model_output.shape, generator=generator, device=model_output.device, dtype=model_output.dtype
            )
            previous = denoised + noise * self.config.s_noise * sigma_next
        self._step_index += 1
        if not return_dict:
            return (previous,)
        return AnimateLCMSVDStochasticIterativeSchedulerOutput(previous, denoised)

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """`original_samples` (batch, ...) with noise of the level of each entry of `timesteps` (batch,)."""
        known = self.timesteps.to(timesteps.device)
        indices = [int((known == t).nonzero()[0]) for t in timesteps]
        sigma = self.sigmas[indices].to(original_samples)
        return original_samples + noise * sigma.reshape(-1, *[1] * (original_samples.ndim - 1))

    def __len__(self) -> int:
        return self.config.num_train_timesteps
