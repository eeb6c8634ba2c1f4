"""Whether settings are possible: choices, ranges, and what excludes each other."""

import math
import os
import re
from fractions import Fraction
from typing import Any

from mimicmotion.config.messages import nearest, shortened
from mimicmotion.config.paths import fields_of
from mimicmotion.config.settings import (
    ASPECTS,
    MOST_TRANSITION,
    MOST_WORDS,
    POSE_PARTS,
    SIZE_MULTIPLE,
    WIDEST,
    Config,
    ReferenceSettings,
    TestCase,
    TurboSettings,
)
from mimicmotion.errors import UsageError
from mimicmotion.files import require_local


def check_config(config: Config) -> None:
    """Raises: UsageError for the first value that is no choice, out of range or in conflict with another."""
    for owner, path, part in fields_of(config):
        value = getattr(owner, part.name)
        _check_value(path, value, part.metadata)
        for item in value if isinstance(value, list) else [value]:
            # No file lies at the address of a cluster, which is looked at below.
            if isinstance(item, str) and path != "cluster.address":
                require_local(item, path)
    if config.batch.videos is not None and not config.batch.videos:
        raise UsageError("batch.videos is empty; name videos, or null to take all of the folder")
    if config.batch.shard is not None:
        shard_numbers(config.batch.shard)
    if config.sampling.decode_overlap >= config.sampling.decode_chunk_size:
        raise UsageError(
            f"sampling.decode_overlap {config.sampling.decode_overlap} must be below "
            f"sampling.decode_chunk_size {config.sampling.decode_chunk_size}"
        )
    if config.sampling.pose_start > config.sampling.pose_end:
        raise UsageError(
            f"sampling.pose_start {config.sampling.pose_start} must not be above sampling.pose_end "
            f"{config.sampling.pose_end}: the pose acts from the one to the other"
        )
    if not config.pose.draw:
        raise UsageError(f"pose.draw is empty; name some of {', '.join(POSE_PARTS)}, or pass --pose_strength 0")
    if config.turbo.scheduler_sigma_min >= config.turbo.scheduler_sigma_max:
        raise UsageError("turbo.scheduler_sigma_min must be below turbo.scheduler_sigma_max")
    _check_more_loras(config.turbo)
    if config.runtime.device == "cpu" and config.runtime.offload != "none":
        raise UsageError(
            f"runtime.offload {config.runtime.offload} moves weights between CPU and GPU; on a CPU pass --offload none"
        )
    if not config.test_case:
        raise UsageError("test_case is empty; at least one entry with a ref_image_path is needed")
    for i, case in enumerate(config.test_case):
        _check_case(f"test_case[{i}]", case)
    variant = config.output.variant
    if variant is not None and (not variant or os.path.basename(variant) != variant or variant in (".", "..")):
        raise UsageError(f"output.variant is {shortened(repr(variant))}; it must be a part of a file name")
    aspect_ratio(config.reference.aspect)
    parse_color(config.reference.background)
    transition_length(config.sentences.transition_frames)
    _check_cluster(config)
    vram_limit(config.runtime.vram)
    if config.sentences.random is not None:
        random_sentences(config.sentences.random)


def vram_limit(text: str) -> int | None:
    """Bytes that a run may take of a card; None for "auto". Raises: UsageError for anything else."""
    if text == "auto":
        return None
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", text, re.ASCII) and float(text) > 0:
        return int(float(text) * 2**30)
    raise UsageError(f"runtime.vram is {shortened(repr(text))}; it must be auto or a number of GiB, for example 12")


def random_sentences(values: list[str]) -> tuple[int, int]:
    """Words of each sentence and number of sentences that `sentences.random` asks for. Raises: UsageError."""
    numbers = [int(value) for value in map(str, values) if re.fullmatch(r"[0-9]{1,6}", value) and int(value)]
    if len(values) != 2 or len(numbers) != 2 or numbers[0] > MOST_WORDS:
        raise UsageError(
            f"sentences.random is {shortened(' '.join(map(str, values)))}; it must be two numbers: words of each "
            f"sentence, 1 to {MOST_WORDS}, and how many sentences, 1 to 999999"
        )
    return numbers[0], numbers[1]


def transition_length(text: str) -> int | None:
    """The number of frames between two words; None for "auto". Raises: UsageError for anything else."""
    if text == "auto":
        return None
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= MOST_TRANSITION:
        return int(text)
    raise UsageError(
        f"sentences.transition_frames is {shortened(repr(text))}; it must be auto or a number of frames, 0 to "
        f"{MOST_TRANSITION}"
    )


def aspect_ratio(aspect: str) -> Fraction | None:
    """Width over height that `reference.aspect` asks for; None for those of its names that depend on the picture.

    Raises: UsageError for anything else, and for a frame more than 4 times as long as wide.
    """
    if aspect in ASPECTS:
        return None
    sides = re.fullmatch(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)", aspect, re.ASCII)
    if not sides or not all(map(float, sides.groups())):
        raise UsageError(f"reference.aspect is {aspect!r}; it must be {', '.join(ASPECTS)} or width:height, as 3:4")
    ratio = Fraction(sides[1]) / Fraction(sides[2])
    if not Fraction(1, WIDEST) <= ratio <= WIDEST:
        raise UsageError(f"reference.aspect is {aspect}; no side may be more than {WIDEST} times as long as the other")
    return ratio


def shard_numbers(text: str) -> tuple[int, int] | None:
    """Number, from 1 on, and count of the shard that `batch.shard` asks for; None for "auto". Raises: UsageError."""
    if text == "auto":
        return None
    numbers = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text, re.ASCII)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise UsageError(
            f"batch.shard is {shortened(repr(text))}; it must be i/N with i from 1 to N, such as 1/4 to 4/4, or auto"
        )
    return int(numbers[1]), int(numbers[2])


def parse_color(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of a name or #rrggbb. Raises: UsageError for what is no colour."""
    if text == ReferenceSettings.background:
        return (255, 255, 255)  # the default, for which nothing is imported
    from PIL import ImageColor

    try:
        color = ImageColor.getrgb(text)[:3]
    except ValueError:
        color = (256,)
    if max(color) > 255:
        raise UsageError(f"reference.background is {text!r}; give a colour such as white, grey or '#7f7f7f'")
    return color


def _check_cluster(config: Config) -> None:
    cluster, device = config.cluster, config.runtime.device
    if cluster.workers is None:
        return
    workers, address = cluster.workers, cluster.address
    if workers != "auto" and not re.fullmatch(r"[1-9][0-9]{0,5}", workers):
        raise UsageError(f"cluster.workers is {shortened(repr(workers))}; it must be auto or a number from 1 on")
    place = re.fullmatch(r"([^\s/:]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", address or "")
    if address not in (None, "auto") and not (place and 0 < int(place[2]) < 65536):
        raise UsageError(
            f"cluster.address is {shortened(repr(address))}; it must be auto or host:port of Ray's head, such as "
            "node1:6379"
        )
    gpus = cluster.gpus_per_worker
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise UsageError(f"cluster.gpus_per_worker is {gpus}; above 1 it must be a whole number")
    if gpus and device == "cpu":
        raise UsageError(f"cluster.gpus_per_worker is {gpus:g}, but --device cpu (runtime.device) uses none; drop one")
    if gpus == 0 and device.startswith("cuda"):
        raise UsageError(f"cluster.gpus_per_worker is 0, but --device {device} (runtime.device) needs one; drop one")
    if re.fullmatch(r"cuda:\d+", device):
        raise UsageError(f"--device {device} names one GPU, but Ray chooses those of workers; pass --device cuda")
    if config.latent_steps.folder is not None:
        raise UsageError("workers record no steps: drop latent_steps.folder (--save_step_latents) or --workers")


def _check_more_loras(turbo: TurboSettings) -> None:
    paths, scales = turbo.more_lora_paths or [], turbo.more_lora_scales
    if paths and not turbo.lcm_lora_path:
        raise UsageError("turbo.more_lora_paths come after turbo.lcm_lora_path, which is null")
    if scales is not None and len(scales) != len(paths):
        raise UsageError(
            f"{1 + len(scales)} LoRA scales for {1 + len(paths)} LoRA files; give --lcm_lora_scale one for each of "
            "--lcm_lora_path (turbo.lcm_lora_scale, turbo.more_lora_scales)"
        )
    if scales is not None and not all(map(math.isfinite, scales)):
        raise UsageError(f"turbo.more_lora_scales are {scales}; they must be numbers")
    if paths and not turbo.fuse_lcm_lora:
        raise UsageError("several LoRAs are fused; drop --no_fuse_lcm_lora, or give one (turbo.more_lora_paths)")


def _check_value(path: str, value: Any, limits) -> None:
    choices, low, high, most = (limits.get(name) for name in ("choices", "low", "high", "most"))
    if value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        if choices and item not in choices:
            raise UsageError(f"{path} is {shortened(repr(item))}{nearest(str(item), list(choices))}")
    if isinstance(value, float) and not math.isfinite(value) and high is None:
        raise UsageError(f"{path} is {value}; it must be a number{'' if low is None else f', {low} or more'}")
    if not (low is None or value >= low) or not (high is None or value <= high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"{path} is {value}; it must be {span}")
    if most is not None and abs(value) > most:
        raise UsageError(f"{path} is {value}; at most {most} can be meant")


def _check_case(name: str, case: TestCase) -> None:
    if case.frames_overlap >= case.num_frames:
        raise UsageError(
            f"{name}.frames_overlap {case.frames_overlap} must be below num_frames {case.num_frames} (frames per tile)"
        )
    if case.resolution % SIZE_MULTIPLE or case.resolution < SIZE_MULTIPLE:
        lower = max(case.resolution // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE
        raise UsageError(
            f"{name}.resolution {case.resolution} is not a multiple of {SIZE_MULTIPLE}; "
            f"the nearest are {lower} and {lower + SIZE_MULTIPLE}"
        )
