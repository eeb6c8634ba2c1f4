"""How good the embedded model is: clips of people it never saw, made in several ways, and measured.

    sample     every clip in every way, through the same code as the scripts; frames are kept as npz
    measure    every result against the true frames; numbers are kept as JSON
    report     evaluation.json, the sheet, the curve and doc/embedded_model.md

Whatever is finished is kept, so a run that was cut goes on where it stopped; results of another model, renderer or
setting are made anew.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mimicmotion.animation import Animator, Models, decode_frames
from mimicmotion.config import Config, load_config
from mimicmotion.device import describe_device, resolve_device
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.evaluation import PixelMeter, StLpips, find_st_lpips, gradient_histogram_distance
from mimicmotion.features import Reference
from mimicmotion.files import require_writable, sha256_file, sha256_json, write_json
from mimicmotion.latent_concat import PosedFrames
from mimicmotion.progress import track
from mimicmotion.puppets import RENDERER_VERSION, VALIDATION_SEEDS, load_reader, make_clip, pose_error
from mimicmotion.results import Job, crop, person_box, versions
from mimicmotion.training.evaluation_options import EvaluateOptions
from mimicmotion.training.evaluation_page import write_page
from mimicmotion.training.evaluation_pictures import draw_sheet, draw_steps, sheet_rows
from mimicmotion.training.kept_results import KeptResults
from mimicmotion.training.model_facts import model_facts
from mimicmotion.weights import pose_canvas

log = logging.getLogger(__name__)

VERSION = 1  # of the way results are made and measured; another number makes old ones void
LORA_FOLDER = "lcm_lora"
SHEET_CLIPS = 6
DOC_PICTURE_BYTES = 600_000


@dataclass(frozen=True)
class Way:
    """One way to come to a clip's frames.

    kind "truth", "copy" (the reference repeated), "vae" (the truth there and back) or "sampled"; the rest is for
    the last. `guidance` None takes the configuration's.
    """

    label: str
    kind: str = "sampled"
    scheduler: str = ""
    steps: int | None = None
    guidance: float | None = None
    lora: bool = False


WAYS = {
    "truth": Way("true frames", "truth"),
    "copy": Way("copy of the reference", "copy"),
    "vae": Way("VAE there and back", "vae"),
    "euler25": Way("25 Euler steps, guidance 2", scheduler="EulerDiscreteScheduler", steps=25, guidance=2.0),
    "ays10": Way("10 AYS steps, guidance 2", scheduler="AYS", steps=10, guidance=2.0),
    # What the LoRA was distilled from: its teacher's guidance, and steps enough.
    "teacher": Way("10 AYS steps, guidance 1.7", scheduler="AYS", steps=10, guidance=1.7),
    "turbo4": Way("4 turbo steps with LoRA", scheduler="AnimateLCM_SVD", steps=4, guidance=1.0, lora=True),
    "turbo2": Way("2 turbo steps with LoRA", scheduler="AnimateLCM_SVD", steps=2, guidance=1.0, lora=True),
    "turbo1": Way("1 turbo step with LoRA", scheduler="AnimateLCM_SVD", steps=1, guidance=1.0, lora=True),
    "turbo4_plain": Way("4 turbo steps, no LoRA", scheduler="AnimateLCM_SVD", steps=4, guidance=1.0),
}


@dataclass(frozen=True)
class Target:
    """A clip that is to be reproduced.

    Attributes:
        seed: of the renderer.
        frames: uint8 (frames, height, width, 3), the reference first.
        poses: one for each frame.
        box: around the person in all frames but the reference.
        body_height: pixels.
    """

    seed: int
    frames: np.ndarray
    poses: list[dict]
    box: tuple[int, int, int, int]
    body_height: float

    @property
    def truth(self) -> np.ndarray:
        """The frames that a result is held against: all but the reference."""
        return self.frames[1:]


def evaluate(options: EvaluateOptions) -> None:
    """Makes, measures and reports; what is finished is kept.

    Raises: UsageError, SetupError and InputError, for what is wrong with the settings, the model or the reader.
    """
    ways = chosen_ways(options.ways)
    measurer = Measurer(options.reader)
    targets = make_targets(options.clips, options.frames)
    recipes = {way: recipe(WAYS[way], options) for way in ways}
    kept = KeptResults(require_writable(options.out_dir), recipes, measurer.fingerprint)
    for way in ways:
        sample_way(way, targets, kept, options)
    measure_all(ways, targets, kept, measurer)
    results = collect(ways, targets, kept, options)
    write_json(options.out_dir / "evaluation.json", results)
    rows = sheet_rows(ways, targets[:SHEET_CLIPS], kept, pose_canvas(make_config(WAYS[ways[0]], options)))
    draw_sheet(options.out_dir / "sheet.png", rows)
    draw_sheet(options.doc.with_suffix(".png"), rows, limit=DOC_PICTURE_BYTES)
    draw_steps(options.doc.with_name(f"{options.doc.stem}_steps.png"), results)
    write_page(options.doc, results)
    print(f"{options.out_dir / 'evaluation.json'}, {options.out_dir / 'sheet.png'}, {options.doc}")


def chosen_ways(names: str | None) -> list[str]:
    """The ways that a comma-separated list names, in the order of WAYS; all for None. Raises: UsageError."""
    wanted = list(WAYS) if names is None else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in WAYS]
    if unknown:
        raise UsageError(f"--ways: {', '.join(unknown)} is unknown; choose among {', '.join(WAYS)}")
    return [name for name in WAYS if name in wanted]


def make_targets(clips: int, frames: int) -> list[Target]:
    """The first `clips` validation clips of `frames` frames, the reference among them."""
    if not 1 <= clips <= len(VALIDATION_SEEDS) or frames < 3:
        raise UsageError(f"--clips takes 1 to {len(VALIDATION_SEEDS)}, --frames 3 or more")
    return [make_target(seed, frames) for seed in track(VALIDATION_SEEDS[:clips], "rendering", clips, "clip")]


def make_target(seed: int, frames: int) -> Target:
    """The clip of one seed."""
    clip = make_clip(seed, frames)
    body_height = clip.person.scale * clip.frames.shape[1]
    return Target(seed, clip.frames, clip.poses, person_box(clip.parts[1:]), body_height)


# ----------------------------------------------------------------------------------------------------
# Sampling


def sample_way(way: str, targets: list[Target], kept: KeptResults, options: EvaluateOptions) -> None:
    """Makes every clip in one way, but those that are kept from an earlier run."""
    missing = [target for target in targets if kept.frames(way, target.seed, target.truth.shape) is None]
    if not missing:
        return
    sampler = Sampler(WAYS[way], options)
    for target in track(missing, WAYS[way].label, len(missing), "clip"):
        started = time.perf_counter()
        frames = sampler.frames(target)
        kept.save_frames(way, target.seed, frames, time.perf_counter() - started)


class Sampler:
    """Makes clips in one way; the networks are loaded with the first clip that needs them."""

    def __init__(self, way: Way, options: EvaluateOptions):
        self.way = way
        self.animator = Animator(make_config(way, options))
        if way.kind in ("vae", "sampled"):
            _ = self.animator.models.pipeline  # loaded here, so that no clip's seconds include it

    def frames(self, target: Target) -> np.ndarray:
        """uint8 (frames - 1, height, width, 3): what this way makes of the clip, without the reference's frame."""
        if self.way.kind == "truth":
            return target.truth
        if self.way.kind == "copy":
            return target.frames[:1].repeat(len(target.truth), axis=0)
        if self.way.kind == "vae":
            return self._there_and_back(target.truth)
        return self._decoded(self.animator.sampler.sample(posed_frames(target, self.animator)), drop_first=1)

    def _there_and_back(self, frames: np.ndarray) -> np.ndarray:
        pipeline = self.animator.models.pipeline
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = pipeline.encode_image(pixels.to(self.animator.models.device))[None]
        return self._decoded(latents * pipeline.vae.config.scaling_factor, drop_first=0)

    def _decoded(self, latents, drop_first: int) -> np.ndarray:
        pipeline, sampling = self.animator.models.pipeline, self.animator.config.sampling
        return np.concatenate(list(decode_frames(pipeline, latents, sampling, drop_first)))


def make_config(way: Way, options: EvaluateOptions) -> Config:
    """The settings of a turbo run on the evaluated model in this way, with one tile for the whole clip."""
    given = {"base_model_path": str(options.model), "ckpt_path": None, "runtime.device": options.device}
    # One tile: its overlap does not matter, but must be below its length.
    given |= {"test_case[*].num_frames": options.frames, "test_case[*].frames_overlap": 1}
    given |= {"test_case[*].seed": options.seed}
    given |= {
        "turbo.scheduler": way.scheduler or "AnimateLCM_SVD",
        "turbo.num_inference_steps": way.steps,
        "turbo.guidance_scale": way.guidance,
        "turbo.lcm_lora_path": str(options.model / LORA_FOLDER) if way.lora else None,
        "turbo.skip_lcm_scheduler": False,
    }
    return load_config(options.inference_config, given)


def posed_frames(target: Target, animator: Animator) -> PosedFrames:
    """The clip as `Sampler.sample` takes it, with the renderer's own poses: nothing is detected or aligned."""
    case = animator.config.test_case[0]
    name, reference_pose = Path(f"validation-{target.seed}"), target.poses[0]
    reference = Reference(name, target.frames[0], reference_pose)
    # Another noise for every clip, so that the means do not hang on one.
    job = Job(name, replace(case, seed=case.seed + target.seed), 0, name.with_suffix(".mp4"))
    return PosedFrames(job, reference, animator.clips.draw(target.poses, reference))


def recipe(way: Way, options: EvaluateOptions) -> str:
    """A hash of all that the frames of a way depend on but the clip."""
    made_from = {"version": VERSION, "renderer": RENDERER_VERSION, "frames": options.frames, "way": asdict(way)}
    if way.kind in ("vae", "sampled"):
        config = make_config(way, options)
        made_from |= {"weights": Models(config).weights, "device": config.runtime.device}
        made_from |= {"case": asdict(config.test_case[0]), "sampling": asdict(config.sampling)}
        for unused in ("ref_image_path", "ref_video_path"):
            del made_from["case"][unused]
    return sha256_json(made_from)


# ----------------------------------------------------------------------------------------------------
# Measuring


def measure_all(ways: list[str], targets: list[Target], kept: KeptResults, measurer: "Measurer") -> None:
    """Measures every result that has not been measured with these instruments."""
    for target in track(targets, "measuring", len(targets), "clip"):
        features = None
        for way in ways:
            if kept.numbers(way, target.seed) is None:
                frames, seconds = kept.frames(way, target.seed, target.truth.shape)
                features = measurer.features(target) if features is None else features
                numbers = measurer.numbers(frames, target, features) | {"seconds": round(seconds, 3)}
                kept.save_numbers(way, target.seed, numbers)


class Measurer:
    """The instruments: pose reader, and ST-LPIPS where its weights are installed."""

    def __init__(self, reader: Path):
        self.reader = load_reader(reader)
        try:
            weights = find_st_lpips()
            self.st_lpips, learned = StLpips(weights), sha256_file(weights)
        except SetupError as error:
            log.warning("%s; the evaluation goes without ST-LPIPS", error)
            self.st_lpips, learned = None, None
        self.fingerprint = sha256_json([VERSION, sha256_file(reader), learned])

    def features(self, target: Target) -> list:
        """The true frames' features, which all ways are compared to."""
        return self.st_lpips.features(target.truth) if self.st_lpips else []

    def numbers(self, frames: np.ndarray, target: Target, features: list) -> dict[str, float]:
        """All measures of one result; their units are in `evaluation_page.COLUMNS`."""
        truth, box = target.truth, target.box
        whole, within = PixelMeter(), PixelMeter()
        whole.add(frames, truth)
        within.add(crop(frames, box), crop(truth, box))
        frame, person = whole.numbers(), within.numbers()
        numbers = {
            "psnr": frame["psnr"],
            "psnr_box": person["psnr"],
            "ssim": frame["ssim"],
            "ssim_box": person["ssim"],
            "gradient_histogram": gradient_histogram_distance(frames, truth),
            "temporal": frame["temporal_difference_error"],
            "sharpness": person["sharpness"],
            "pose_error": pose_error(self.reader, frames, target.poses[1:], target.body_height)[0],
        }
        if self.st_lpips:
            numbers["st_lpips"] = self.st_lpips.distance(frames, features)
        return {name: round(value, 5) for name, value in numbers.items()}


# ----------------------------------------------------------------------------------------------------
# Collecting


def collect(ways: list[str], targets: list[Target], kept: KeptResults, options: EvaluateOptions) -> dict:
    """All numbers, their means over clips with standard errors, and what was measured with what."""
    clips = [
        {"seed": target.seed, "numbers": {way: kept.numbers(way, target.seed) for way in ways}} for target in targets
    ]
    means = {way: mean_numbers([clip["numbers"][way] for clip in clips]) for way in ways}
    return {
        "frames": options.frames,
        "size": list(targets[0].frames.shape[1:3]),
        "seed": options.seed,
        "device": describe_device(resolve_device(options.device)),
        "ways": {way: asdict(WAYS[way]) for way in ways},
        "means": {way: mean for way, (mean, _) in means.items()},
        "standard_errors": {way: error for way, (_, error) in means.items()},
        "clips": clips,
        "model": model_facts(options.model, options.run_dir),
        "reader": json.loads(options.reader.with_suffix(".json").read_text())["training"],
        "versions": versions(),
    }


def mean_numbers(numbers: list[dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean of each measure over clips, and its standard error (0 for a single clip)."""
    means, errors = {}, {}
    for name in numbers[0]:
        values = np.array([clip[name] for clip in numbers])
        means[name] = round(float(values.mean()), 5)
        errors[name] = round(float(values.std(ddof=1) / len(values) ** 0.5), 5) if len(values) > 1 else 0.0
    return means, errors
