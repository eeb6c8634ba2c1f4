"""Records the latents of every sampling step of a run, one folder per run and one recorder per clip."""

import datetime
import logging
import queue
import threading
from pathlib import Path

import torch
import yaml

from mimicmotion.errors import SetupError
from mimicmotion.files import write_bytes
from mimicmotion.latent_steps.step_files import CONFIG_NAME, LATENTS_FOLDER, require_name, write_step

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
QUEUE_LENGTH = 4  # steps that wait for the disk before sampling does


class StepRecorder:
    """Writes the latents of each sampling step as gzipped float16 while the next one is sampled.

        with StepRecorder(folder) as recorder:
            pipeline(..., callback_on_step_end=recorder, callback_on_step_end_tensor_inputs=recorder.tensor_inputs)

    Compression and disk work happen in a thread of their own, behind a short queue. The latents of step i carry noise
    of `sigma` (that of step i + 1); `x0` is what the network took the clean latents to be, at `sigma_before`.

    Args:
        folder: gets step_000.npy.gz, step_000_x0.npy.gz, step_000_metadata.json, step_001...; it is made.
        layout: order of the latents' dimensions: "BFCHW" (Stable Video Diffusion) or "BCTHW" (Wan).
        with_x0: record the predicted clean latents too; needs a pipeline that gives "denoised" to its callback.

    Raises, at the next step or the end of the block: NumericalError for latents that float16 cannot hold, SetupError
    for a full disk.
    """

    def __init__(self, folder: str | Path, layout: str = "BFCHW", with_x0: bool = True):
        self.folder = Path(folder)
        self.layout = layout
        self.tensor_inputs = ["latents", "denoised"] if with_x0 else ["latents"]
        self.sigmas: list[float] = []
        self._queue: queue.Queue = queue.Queue(QUEUE_LENGTH)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, name="step-recorder", daemon=True)

    def __enter__(self) -> "StepRecorder":
        self._thread.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self._queue.put(None)
        self._thread.join()
        # What ended the block already tells more than a disk that filled up at the same time.
        if kind is None:
            self._raise_error()

    def __call__(self, pipeline, step: int, timestep, tensors: dict[str, torch.Tensor]) -> dict:
        """Queues one step; blocks only while the disk is more than a few steps behind."""
        self._raise_error()
        latents, x0 = tensors["latents"], tensors.get("denoised")
        self.sigmas = [float(sigma) for sigma in getattr(pipeline.scheduler, "sigmas", [])]
        facts = {
            "format_version": FORMAT_VERSION,
            "step": step,
            "timestep": float(timestep),
            "sigma_before": self.sigmas[step] if self.sigmas else None,
            "sigma": self.sigmas[step + 1] if self.sigmas else None,
            "layout": self.layout,
            "scheduler": type(pipeline.scheduler).__name__,
        }
        self._queue.put((f"step_{step:03d}", _half(latents), None if x0 is None else _half(x0), facts))
        return {}

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            # After an error the queue is still emptied, or sampling would wait for ever.
            if self._error is None:
                try:
                    write_step(self.folder, *item)
                except Exception as error:
                    self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _half(tensor: torch.Tensor):
    # A copy even where nothing has to be converted: the sampler goes on with its own.
    return tensor.detach().to("cpu", torch.float16, copy=True).numpy()


class StepExperiment:
    """The folder `<parent>/<name>_<YYYYmmdd_HHMMSS>` of a run, with a recorder for every clip.

    Clips are numbered in the order in which they are recorded: vid_001, vid_002, ... within each prompt. Which video
    and which settings each stands for is kept in configs/generation_config.yaml.

    Args:
        parent: where experiments lie.
        name: a plain name.
        description: what goes into the configuration: model_settings with model_id, video_settings, ...

    Raises: UsageError for a name that is a path; SetupError when the folder cannot be written.
    """

    def __init__(self, parent: str | Path, name: str, description: dict):
        self.folder = _new_folder(Path(parent), require_name(name, "experiment name"))
        self._content = {"format_version": FORMAT_VERSION, "experiment": name, **description, "videos": {}}
        self._write_config()
        logger.info("Step latents go to %s", self.folder)

    def recorder(self, prompt: int, facts: dict) -> StepRecorder:
        """A recorder for the next clip of test case number `prompt`; `facts` says what it is."""
        prompt_name = f"prompt_{prompt:03d}"
        number = 1 + sum(key.startswith(f"{prompt_name}/") for key in self._content["videos"])
        key = f"{prompt_name}/vid_{number:03d}"
        self._content["videos"][key] = facts
        self._write_config()
        return StepRecorder(self.folder / LATENTS_FOLDER / key)

    def finish(self, recorder: StepRecorder) -> None:
        """Notes the noise levels that a clip was sampled with."""
        key = recorder.folder.relative_to(self.folder / LATENTS_FOLDER).as_posix()
        self._content["videos"][key] = self._content["videos"][key] | {"sigmas": recorder.sigmas}
        self._write_config()

    def _write_config(self) -> None:
        text = yaml.safe_dump(self._content, sort_keys=False, allow_unicode=True)
        write_bytes(self.folder / CONFIG_NAME, text.encode())


def _new_folder(parent: Path, name: str) -> Path:
    """Makes the folder of an experiment; one that starts in the same second gets the next second's name."""
    moment = datetime.datetime.now()
    while True:
        folder = parent / f"{name}_{moment:%Y%m%d_%H%M%S}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not parent.is_dir():
                raise SetupError(f"cannot write into {parent}: it is no folder") from None
            moment += datetime.timedelta(seconds=1)
        except OSError as error:
            raise SetupError(f"cannot write into {parent}: {error.strerror}; choose another folder") from error
