"""An experiment's step latents -> one mp4 per step, in the same tree; resumable, and no bad step stops the others."""

import dataclasses
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.errors import InputError, MimicMotionError, SetupError, UsageError, is_lasting, machine_message
from mimicmotion.files import (
    SEAL,
    content_sha256,
    is_sealed,
    read_record,
    require_writable,
    sealed,
    sha256_file,
    sha256_json,
    write_json,
)
from mimicmotion.latent_steps.options import (
    DEFAULT_DEVICE,
    DEFAULT_FPS,
    DEFAULT_QUALITY,
    DEFAULT_SCALE,
    DEFAULT_WORKERS,
)
from mimicmotion.latent_steps.step_files import (
    CONFIG_NAME,
    LATENTS_FOLDER,
    X0,
    Step,
    find_steps,
    read_experiment,
    read_metadata,
    read_step,
)
from mimicmotion.latent_steps.vae_decoder import LatentDecoder, find_vae
from mimicmotion.progress import Progress
from mimicmotion.results import difference, require_places
from mimicmotion.video import VideoWriter, as_fps, open_video
from mimicmotion.weights import is_small_decoder, vae_files, weights_sha256

logger = logging.getLogger(__name__)

OUTPUT_FOLDER = "latents_videos"
SUMMARY_NAME = "decode_summary.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Task:
    """One file to decode: a step's latents, or with `is_x0` the clean latents predicted in it."""

    step: Step
    is_x0: bool
    output: Path
    recipe: str
    finished: bool
    replaces: bool = False  # a finished video that was decoded with other settings

    @property
    def latents(self) -> Path:
        """The file with the latents."""
        return self.step.x0_path if self.is_x0 else self.step.path

    @property
    def name(self) -> str:
        """The name in the summary, such as "prompt_000/vid_001/step_000_x0"."""
        return f"{self.step}{X0 if self.is_x0 else ''}"

    def __str__(self) -> str:
        return f"{'finished' if self.finished else 'decode  '}  {self.latents} -> {self.output}"


@dataclass
class StepResult:
    """How a task ended: status "done", "skipped" (finished before), "failed" or "not run"; message has the reason.

    `bytes` and `sha256` are those of the mp4, `sigma` is the noise level of the latents where it was recorded,
    `settings` the hash of what all videos of a run depend on.
    """

    status: str = "not run"
    output: str = ""
    seconds: float = 0.0
    frames: int = 0
    bytes: int = 0
    sigma: float | None = None
    timestep: float | None = None
    message: str = ""
    recipe: str = ""
    sha256: str = ""
    settings: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the mp4 is there."""
        return self.status in ("done", "skipped")


class ExperimentLatentDecoder:
    """Decodes the step latents of an experiment; used as a context manager, or with `cleanup` at the end.

    Args:
        experiment_dir: folder with configs/generation_config.yaml and latents/.
        device: "auto", "cuda", "cuda:N", "mps" or "cpu".
        output_dir: where the videos go; by default latents_videos within the experiment.
        fps: frames per second of the videos.
        quality: 0 (small) to 10 (lossless), as imageio counts: x264's crf is 51 (1 - quality / 10).
        scale: size of the pictures over that of the decoded ones.
        overwrite: decode finished steps again.
        workers: steps in work at a time. The VAE decodes one at a time; reading and encoding go on beside it.
        preview_x0: also decode the predicted clean latents, where they were recorded.
        model: folder or hub id to take the VAE from instead of the experiment's model.

    Raises: UsageError for a folder that is no experiment, or impossible settings; SetupError for a device that is not
    there.
    """

    def __init__(
        self,
        experiment_dir: str | Path,
        device: str = DEFAULT_DEVICE,
        *,
        output_dir: str | Path | None = None,
        fps: float = DEFAULT_FPS,
        quality: float = DEFAULT_QUALITY,
        scale: float = DEFAULT_SCALE,
        overwrite: bool = False,
        workers: int = DEFAULT_WORKERS,
        preview_x0: bool = False,
        model: str | None = None,
    ):
        self.experiment = Path(experiment_dir)
        self.config = read_experiment(self.experiment)
        self.output_dir = Path(output_dir) if output_dir else self.experiment / OUTPUT_FOLDER
        _check_settings(fps, quality, scale, workers)
        self.fps, self.quality, self.scale, self.workers = fps, quality, scale, workers
        self.overwrite, self.preview_x0 = overwrite, preview_x0
        self.decoder = LatentDecoder(model or self._model_id(), device, self._chunk_size())
        self._lock = threading.Lock()
        self._entries: dict[str, StepResult] = {}
        self._made_with = ""  # the hash of `_fingerprint`

    def __enter__(self) -> "ExperimentLatentDecoder":
        return self

    def __exit__(self, *_) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Gives the VAE's memory back."""
        self.decoder.cleanup()

    def decode_video_directory(self, video_dir: str | Path, step_filter: str | None = None) -> dict[str, StepResult]:
        """Decodes the steps of one clip, `<experiment>/latents/<prompt>/<video>`; results by name of the step.

        Raises: UsageError for a folder elsewhere or an unmatched filter; SetupError as `run`.
        """
        root, folder = (self.experiment / LATENTS_FOLDER).resolve(), Path(video_dir).resolve()
        if folder.parent.parent != root:
            raise UsageError(f"{video_dir} is no folder of a clip: expected {root}/<prompt>/<video>")
        tasks = self.plan(folder.parent.name, folder.name, step_filter)
        return {Path(name).name: result for name, result in self.run(tasks).items()}

    def decode_experiment(
        self, prompt_filter: str | None = None, video_filter: str | None = None, step_filter: str | None = None
    ) -> dict[str, dict[str, StepResult]]:
        """Decodes all that the filters choose; results by "<prompt>/<video>", then by name of the step.

        Filters are comma lists of names, ranges (step_000-step_009) and globs; None takes all.

        Raises: UsageError for an unmatched filter; SetupError as `run`.
        """
        return by_clip(self.run(self.plan(prompt_filter, video_filter, step_filter)))

    def plan(
        self, prompt_filter: str | None = None, video_filter: str | None = None, step_filter: str | None = None
    ) -> list[Task]:
        """What `run` would decode, in order, finished steps included; loads no model.

        Raises: UsageError for an unmatched filter, x0 previews without any recorded, or finished videos that other
            settings would replace.
        """
        self._entries = self._read_entries()
        fingerprint = self._fingerprint()
        self._made_with = sha256_json(fingerprint)
        tasks = []
        for step in find_steps(self.experiment, prompt_filter, video_filter, step_filter):
            tasks.append(self._task(step, False, fingerprint))
            if self.preview_x0 and step.x0_path.is_file():
                tasks.append(self._task(step, True, fingerprint))
        if self.preview_x0 and not any(task.is_x0 for task in tasks):
            raise UsageError(f"{self.experiment} has no predicted clean latents (step_NNN{X0}.npy.gz) to preview")
        replaced = [task for task in tasks if task.replaces]
        if replaced:
            raise UsageError(
                f"{len(replaced)} finished videos would be replaced by others, the first is {replaced[0].output}: fps, "
                "quality, scale or the model were different; pass another --output-dir to keep them, or --overwrite"
            )
        return tasks

    def run(self, tasks: list[Task]) -> dict[str, StepResult]:
        """Decodes the tasks that are not finished; results by name. The summary is kept up to date with each step.

        Raises: SetupError for a missing model or a full disk; KeyboardInterrupt. The summary is written all the same.
        """
        require_writable(self.output_dir)
        require_places(self.output_dir / SUMMARY_NAME)
        for folder in {task.output.parent for task in tasks}:
            require_writable(folder)
        results = {task.name: self._begun(task) for task in tasks}
        start = time.perf_counter()
        for task in tasks:
            if task.finished:
                earlier, digest = self._entries[task.name], content_sha256(task.output)
                results[task.name] = dataclasses.replace(earlier, status="skipped", sha256=digest)
        waiting = [task for task in tasks if not task.finished]
        try:
            if waiting:
                # A missing model concerns every step: it is found out before the first one.
                _ = self.decoder.vae
            self._run_all(waiting, results, start)
        finally:
            self._write_summary(results, start)
        return results

    def _run_all(self, waiting: list[Task], results: dict[str, StepResult], start: float) -> None:
        def work(task: Task) -> None:
            result = self._decode(task)
            with self._lock:
                results[task.name] = result
                self._write_summary(results, start)
                progress.update()

        with Progress("decoding", len(waiting), "step") as progress:
            if self.workers == 1:
                # In the main thread an interrupt ends the step at once.
                for task in waiting:
                    work(task)
                return
            with ThreadPoolExecutor(self.workers) as pool:
                futures = [pool.submit(work, task) for task in waiting]
                try:
                    for future in as_completed(futures):
                        future.result()
                finally:
                    pool.shutdown(cancel_futures=True)

    def _decode(self, task: Task) -> StepResult:
        """Decodes one task; what is wrong with it is in the result. Raises: SetupError, which concerns all tasks."""
        result = self._begun(task)
        start = time.perf_counter()
        try:
            metadata = read_metadata(task.step)
            result.sigma, result.timestep = (number(metadata.get(key)) for key in ("sigma", "timestep"))
            latents = read_step(task.latents)
            require_places(task.output)
            with VideoWriter(task.output, self.fps, crf=crf_of(self.quality)) as writer:
                for frames in self.decoder.decode(latents, metadata.get("layout")):
                    writer.write(scaled(frames, self.scale))
            result.status, result.frames = "done", writer.frames_written
            result.bytes, result.sha256 = task.output.stat().st_size, content_sha256(task.output)
        # Whatever is wrong with one step, the others still get their turn.
        except Exception as error:
            if is_lasting(error):
                raise
            known = str(error) if isinstance(error, MimicMotionError) else machine_message(error)
            result.status, result.message = "failed", known or f"{type(error).__name__}: {error}"
            logger.error("%s: %s", task.name, result.message, exc_info=not known)
        result.seconds = round(time.perf_counter() - start, 3)
        logger.debug("%s: %s in %.1f s, %d frames", task.name, result.status, result.seconds, result.frames)
        return result

    def _begun(self, task: Task) -> StepResult:
        return StepResult(output=str(task.output), recipe=task.recipe, settings=self._made_with)

    def _task(self, step: Step, is_x0: bool, fingerprint: dict) -> Task:
        output = self.output_dir / step.prompt / step.video / f"{step.name}{X0 if is_x0 else ''}.mp4"
        if not output.resolve().is_relative_to(self.output_dir.resolve()):
            raise UsageError(f"{output} leads out of {self.output_dir}; remove the link")
        task = Task(step, is_x0, output, "", False)
        recipe = sha256_json(fingerprint | {"latents": sha256_file(task.latents), "metadata": _metadata_hash(step)})
        earlier = self._entries.get(task.name)
        if not earlier or self.overwrite:
            return dataclasses.replace(task, recipe=recipe)
        same, otherwise = earlier.recipe == recipe, earlier.settings not in ("", self._made_with)
        there = (same or otherwise) and _is_there(output, earlier)
        return dataclasses.replace(task, recipe=recipe, finished=same and there, replaces=otherwise and there)

    def _fingerprint(self) -> dict:
        """What all videos of a run depend on beside their latents."""
        try:
            place = find_vae(self.decoder.model, download=False)
            if is_small_decoder(place):
                vae = {"weights": weights_sha256(place)}
            else:
                weights, config = vae_files(place)
                vae = {"weights": weights_sha256(weights), "config": sha256_file(config)}
                self._compare_vae(vae["weights"])
        except SetupError:
            # Not here yet: `run` fetches it, or says what is missing.
            vae = None
        settings = {"fps": str(as_fps(self.fps)), "crf": crf_of(self.quality), "scale": float(self.scale)}
        return settings | {"model": self.decoder.model, "vae": vae, "chunk_size": self.decoder.chunk_size}

    def _compare_vae(self, found: str) -> None:
        recorded = self._settings("model_settings").get("weights")
        recorded = recorded.get("vae") if isinstance(recorded, dict) else None
        if recorded is not None and recorded != found:
            logger.warning("The VAE of %s has changed since the recording", self.decoder.model)

    def _settings(self, section: str) -> dict:
        settings = self.config.get(section)
        return settings if isinstance(settings, dict) else {}

    def _model_id(self) -> str:
        model = self._settings("model_settings").get("model_id")
        if not isinstance(model, str) or not model:
            raise UsageError(f"{self.experiment / CONFIG_NAME} has no model_settings.model_id; pass --model")
        return model

    def _chunk_size(self) -> int:
        size = self._settings("video_settings").get("decode_chunk_size", 8)
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"{self.experiment}: video_settings.decode_chunk_size is {size!r}, not a number above 0")
        return size

    def _read_entries(self) -> dict[str, StepResult]:
        """The steps of an earlier summary, those whose entry is as it was written."""
        path = self.output_dir / SUMMARY_NAME
        try:
            summary = read_record(path)
        except InputError as error:
            logger.warning("All steps are decoded again: %s", error)
            return {}
        if summary is None:
            return {}
        steps = summary.get("steps")
        steps = steps if isinstance(steps, dict) else {}
        entries = {name: result for name, entry in steps.items() if (result := as_result(entry))}
        if len(entries) < len(steps) or not steps:
            logger.warning("%s: %d entries are damaged; their steps are decoded again", path, len(steps) - len(entries))
        return entries

    def _write_summary(self, results: dict[str, StepResult], start: float) -> None:
        known = self._entries | {name: result for name, result in results.items() if result.status != "not run"}
        totals = summarize(results) | {"total_seconds": round(time.perf_counter() - start, 3)}
        summary = {
            "format_version": FORMAT_VERSION,
            "experiment": self.experiment.resolve().name,
            "model": self.decoder.model,
            "device": str(self.decoder.device),
            "settings": {"fps": self.fps, "quality": self.quality, "crf": crf_of(self.quality), "scale": self.scale},
            **totals,
            "steps": {name: sealed(dataclasses.asdict(result)) for name, result in known.items()},
        }
        write_json(self.output_dir / SUMMARY_NAME, summary)


def summarize(results: dict[str, StepResult]) -> dict:
    """Totals of a run: how many steps ended how, why the failed ones did, time and size."""
    counts = dict.fromkeys(("done", "skipped", "failed", "not run"), 0)
    for result in results.values():
        counts[result.status] += 1
    seconds = [result.seconds for result in results.values() if result.status == "done"]
    successful = counts["done"] + counts["skipped"]
    return {
        "total_steps": len(results),
        "successful": successful,
        "decoded": counts["done"],
        "skipped": counts["skipped"],
        "failed": counts["failed"],
        "not_run": counts["not run"],
        "success_rate": round(successful / len(results), 4) if results else 0.0,
        "seconds_per_step": round(sum(seconds) / len(seconds), 3) if seconds else None,
        "total_bytes": sum(result.bytes for result in results.values() if result.is_whole),
        "failures": [
            {"step": name, "reason": result.message} for name, result in results.items() if result.status == "failed"
        ],
    }


def by_clip(results: dict[str, StepResult]) -> dict[str, dict[str, StepResult]]:
    """Results by "<prompt>/<video>", then by name of the step."""
    clips: dict[str, dict[str, StepResult]] = {}
    for name, result in results.items():
        clip, _, step = name.rpartition("/")
        clips.setdefault(clip, {})[step] = result
    return clips


def crf_of(quality: float) -> int:
    """x264's crf for a quality of 0 to 10, as imageio counts it."""
    return int((1 - quality / 10) * 51)


def scaled(frames: np.ndarray, scale: float) -> np.ndarray:
    """Frames uint8 (n, height, width, 3) with both sides times `scale`."""
    if scale == 1:
        return frames
    size = tuple(max(2, round(side * scale)) for side in (frames.shape[2], frames.shape[1]))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames])


def number(value) -> float | None:
    """`value` as a number, None where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_result(entry: object) -> StepResult | None:
    """An entry of a summary; None for one that was changed after it was written, or is none."""
    if not isinstance(entry, dict):
        return None
    # Entries of earlier versions have neither a checksum nor the hash of their mp4.
    if (SEAL in entry or "sha256" in entry) and not is_sealed(entry):
        return None
    kinds = {field.name: field.type for field in dataclasses.fields(StepResult)}
    values = {name: value for name, value in entry.items() if name in kinds}
    if not all(isinstance(value, kinds[name]) and not isinstance(value, bool) for name, value in values.items()):
        return None
    return StepResult(**values)


def _is_there(output: Path, earlier: StepResult) -> bool:
    """Whether the mp4 of an earlier run is, to the last byte, what that run wrote.

    Of an mp4 whose hash was not noted size and number of frames have to do.
    """
    if not earlier.is_whole or not earlier.bytes:
        return False
    if not earlier.sha256:
        return output.is_file() and output.stat().st_size == earlier.bytes and _num_frames(output) == earlier.frames
    reason = difference(output, {"bytes": earlier.bytes, "sha256": earlier.sha256})
    if reason:
        logger.info("%s is decoded again: %s", output, reason)
    return not reason


def _num_frames(path: Path) -> int | None:
    try:
        return open_video(path).num_frames
    except MimicMotionError:
        return None


def _metadata_hash(step: Step) -> str | None:
    return sha256_file(step.metadata_path) if step.metadata_path.is_file() else None


def _check_settings(fps: float, quality: float, scale: float, workers: int) -> None:
    as_fps(fps, "--fps")
    if not 0 <= quality <= 10:
        raise UsageError(f"--quality is {quality}; it goes from 0 to 10")
    if not 0 < scale <= 4:
        raise UsageError(f"--scale is {scale}; it must be above 0 and at most 4")
    if workers < 1:
        raise UsageError(f"--workers is {workers}; at least 1 is needed")
