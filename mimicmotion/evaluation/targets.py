"""What a clip is held against: the poses that drove it, fitted to the reference as they were drawn, the reference
picture, and true frames.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mimicmotion.animation import Animator, Models, Opened
from mimicmotion.config import POSE_PARTS, Config, load_config, parse_color
from mimicmotion.dwpose import Pose
from mimicmotion.errors import InputError, UsageError
from mimicmotion.evaluation.items import Item, locate
from mimicmotion.evaluation.pixels import true_frames
from mimicmotion.features import fit_picture, frame_geometry
from mimicmotion.files import content_sha256, printable
from mimicmotion.results import Job
from mimicmotion.video import VideoSource, open_video

# What of a record's settings decides how its inputs become poses and pixels; the rest is the evaluation's own.
OF_RECORD = {
    "test_case": ("resolution", "sample_stride", "fps"),
    "reference": ("aspect", "background"),
    "pose": ("align", "max_gap", "restore_parts", "draw"),
    "video": ("accept_damaged",),
}
SAME_FIT = 1e-6


@dataclass(frozen=True)
class Sources:
    """The files that a clip is measured with, found and hashed; nothing of them is decoded.

    Attributes:
        config: the evaluation's settings with those of the record over them, of a single test case.
        absent: by what is missing, why; the measures that need it have no number.
        hashes: SHA-256 of each file that is there, by what it is.
    """

    item: Item
    config: Config
    video: Path | None
    reference: Path | None
    truth: Path | None
    absent: dict[str, str]
    hashes: dict[str, str]


@dataclass(frozen=True)
class Target:
    """What a clip of `size` (height, width) and `frames` frames is held against.

    Attributes:
        clip: the result itself.
        poses: wanted, one for each frame; None where none is known, or for a plain clip, whose truth shows them.
        true: gives the true frames, as large as the clip's; None without a truth.
        notes: what a reader of the figures should know.
    """

    clip: VideoSource
    size: tuple[int, int]
    reference: np.ndarray | None
    reference_pose: Pose | None
    poses: list[Pose] | None
    true: Iterator[np.ndarray] | None
    notes: tuple[str, ...] = ()


class Targets:
    """Finds targets; detector and cache are shared by all clips."""

    def __init__(self, config: Config):
        self.config, self._opened = config, Opened()

    @cached_property
    def _cache(self):
        """The feature cache; None where the settings want none."""
        from mimicmotion.feature_cache import FeatureCache  # not above: it imports torch, which a dry run does without

        features = self.config.feature_cache
        return FeatureCache(Path(features.folder), features.max_gb) if features.enabled else None

    def sources(self, item: Item) -> Sources:
        """Raises: InputError where a file that the clip was made of is not there or is another, or a true video is
        wanted and missing.
        """
        settings = self.config.evaluation
        absent, hashes = {}, {"result": content_sha256(item.video)}
        config = _with_record(self.config, item)
        video = reference = None
        if item.kind == "animation":
            video, reference = locate(item, "video", settings.inputs), locate(item, "reference", settings.inputs)
        elif item.kind == "sentence":
            reference = locate(item, "reference", settings.inputs)
            absent["poses"] = "a sentence is made of several clips' poses, which its record does not hold"
        elif item.kind == "joined":
            absent["poses"] = absent["reference"] = "it was decoded from kept latents, whose inputs its record lacks"
        else:
            absent["reference"] = "a video without a record has no reference picture"
        if settings.csim_weights and item.kind != "animation":
            absent["csim"] = "the face of its reference is not known"
        for part in POSE_PARTS:
            if item.kind == "animation" and part not in config.pose.draw:
                absent[part] = "its poses were drawn without it, so none is wanted"
        truth = self._truth(item)
        if truth is None:
            absent["truth"] = "no truth is named: --truth DIR, or --protocol self"
        elif truth == "driving":
            truth = video
        if video is not None and config.pose.backend == "file":
            poses = _job(item, config, video, reference).poses_in(config.pose.folder)
            if not poses.is_file():
                raise InputError(f"its poses {printable(poses)} are not there; pass another --pose_backend")
            hashes["poses"] = content_sha256(poses)
        for name, path in (("video", video), ("reference", reference), ("truth", truth)):
            if path is not None:
                hashes[name] = content_sha256(path)
        return Sources(item, config, video, reference, truth, absent, hashes)

    def _truth(self, item: Item) -> Path | str | None:
        """The true video; "driving" for the driving one; None without a truth."""
        settings = self.config.evaluation
        if settings.protocol == "self":
            if item.kind != "animation":
                raise InputError("--protocol self holds a result against its driving video, and it has none of its own")
            return "driving"
        if settings.truth is None:
            return None
        folder, stem = Path(settings.truth), item.video.stem
        names = [Path(*item.name.split("/")).with_suffix(".mp4"), Path(f"{stem}.mp4")]
        paths = item.record.get("paths")
        if item.kind == "animation" and isinstance(paths, dict) and isinstance(paths.get("video"), dict):
            names.append(Path(Path(str(paths["video"].get("given", ""))).stem + ".mp4"))
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            tried = ", ".join(dict.fromkeys(printable(name) for name in names))
            raise InputError(f"no true video of it in {folder}: looked for {tried}")
        return found

    def find(self, sources: Sources) -> Target:
        """Opens what `sources` names and fits the poses. Raises: InputError where something does not fit."""
        item = sources.item
        clip = open_video(item.video, settings=self.config.video)
        size = (clip.height, clip.width)
        if item.kind == "animation":
            return self._of_animation(sources, clip, size)
        pixels = None
        if sources.reference is not None:
            case = sources.config.test_case[0]
            pixels = self._animator(sources.config).features.read_frame(sources.reference, case.resolution).pixels
            _require_size(pixels.shape[:2], size, "its reference becomes a frame")
        true = true_frames(clip.num_frames, size, 1, open_video(sources.truth)) if sources.truth else None
        return Target(clip, size, pixels, None, None, true)

    def _of_animation(self, sources: Sources, clip: VideoSource, size: tuple[int, int]) -> Target:
        made = self._animator(sources.config).prepare(
            _job(sources.item, sources.config, sources.video, sources.reference)
        )
        reference, record = made.reference.pixels, sources.item.record
        _require_size(reference.shape[:2], size, "its reference becomes a frame")
        if made.num_frames != clip.num_frames:
            what = f"it has {clip.num_frames} frames, its driving video gives {made.num_frames}"
            raise InputError(f"{what}; the record's settings are not those that it was made with")
        notes = []
        fit = asdict(made.alignment) if made.alignment else None
        if not _same_fit(fit, record.get("alignment")):
            notes.append("poses found anew: the fit to the reference is not the one that was drawn")
        true, stride = None, made.driving.stride
        if self.config.evaluation.protocol == "self":
            true = _as_frames(made.video, stride, sources.config, size)
        elif sources.truth:
            true = true_frames(clip.num_frames, size, stride, open_video(sources.truth))
        return Target(clip, size, reference, made.reference.pose, list(made.drawn.poses[1:]), true, tuple(notes))

    def _animator(self, config: Config) -> Animator:
        from mimicmotion.feature_cache import cached_animator

        models = Models(config, self._opened)
        return cached_animator(models, self._cache) if self._cache else Animator(config, models)


def _job(item: Item, config: Config, video: Path, reference: Path) -> Job:
    return Job(video, replace(config.test_case[0], ref_image_path=str(reference)), 0, item.video)


def _with_record(config: Config, item: Item) -> Config:
    """The settings with those of a clip's record over them. Raises: InputError for what cannot be a setting."""
    settings, given = item.record.get("settings", {}), {}
    for section, names in OF_RECORD.items():
        values = settings.get(section)
        path = "test_case[0]" if section == "test_case" else section
        given |= {f"{path}.{name}": values[name] for name in names if isinstance(values, dict) and name in values}
    try:
        return load_config(replace(config, test_case=config.test_case[:1]), given)
    except UsageError as error:
        raise InputError(f"its record holds settings that cannot be: {error}") from error


def _as_frames(video: VideoSource, stride: int, config: Config, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The sampled frames of a driving video, made frames as the reference picture was.

    Raises: InputError where they become another size.
    """
    case, settings = config.test_case[0], config.reference
    geometry = frame_geometry(video.height, video.width, case.resolution, settings.aspect)
    _require_size((geometry.height, geometry.width), size, "its driving video becomes a frame")
    background = parse_color(settings.background)
    return (fit_picture(frame, geometry, background) for _, frame in video.frames(stride))


def _require_size(found: tuple[int, int], size: tuple[int, int], what: str) -> None:
    if tuple(found) != size:
        raise InputError(f"{what} of {found[1]}x{found[0]}, but it is {size[1]}x{size[0]}")


def _same_fit(one: dict | None, other: object) -> bool:
    if one is None or not isinstance(other, dict):
        return one is None and other is None
    names = ("ax", "bx", "ay", "by")
    return all(isinstance(other.get(name), int | float) and abs(one[name] - other[name]) < SAME_FIT for name in names)
