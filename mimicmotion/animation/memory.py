"""The plan of a run for its card: what the jobs take and how they take it. Nothing here imports torch by itself."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mimicmotion.acceleration import chosen_acceleration
from mimicmotion.animation.models import Models
from mimicmotion.config import Config, TestCase, vram_limit
from mimicmotion.errors import InputError
from mimicmotion.features import frame_geometry
from mimicmotion.pipelines import (
    LEFT_FREE,
    Rung,
    Shape,
    allowed_rungs,
    in_gib,
    most,
    most_overlapped,
    plan,
    tile_windows,
    turbo_steps_and_guidance,
)
from mimicmotion.video import read_picture
from mimicmotion.weights import FULL, config_file, read_json, resolve_base

if TYPE_CHECKING:
    from mimicmotion.features import Reference

logger = logging.getLogger(__name__)

SIZES = {"fp32": 4, "fp16": 2, "bf16": 2}


def shape_of(config: Config, case: TestCase, height: int, width: int, frames: int, on_cpu: bool) -> Shape:
    """What a result of `frames` frames asks of the card. Raises: SetupError for a model without its settings."""
    base = resolve_base(config.base_model_path, with_unet=config.ckpt_path is None)
    vae_class = read_json(config_file(base, "vae/config.json")).get("_class_name")
    of_auto = "fp32" if on_cpu else "fp16"
    size, vae_size = (
        SIZES[of_auto if precision == "auto" else precision]
        for precision in (config.runtime.dtype, config.runtime.vae_dtype)
    )
    guided = turbo_steps_and_guidance(config.turbo, case)[1] > 1
    tiles = len(tile_windows(1 + frames, case.num_frames, case.frames_overlap, config.sampling.tile_layout))
    return Shape(
        tile=min(case.num_frames, 1 + frames),
        frames=1 + frames,
        height=height,
        width=width,
        guided=guided,
        chunk=min(config.sampling.decode_chunk_size, 1 + frames),
        size=size,
        vae_size=vae_size,
        channels=read_json(config_file(base, "unet/config.json"))["block_out_channels"][0],
        decode_tile=config.sampling.decode_tile,
        overlap=config.sampling.decode_overlap,
        tiny_decoder=config.sampling.decoder != FULL or vae_class == "AutoencoderTiny",
        fp8=chosen_acceleration(config).fp8,
        stores=tiles * (1 + guided) if config.speed.step_cache > 1 else 0,
    )


def plan_for_card(config: Config, shapes: Iterable[Shape], budget: int, on_cpu: bool) -> tuple[Rung, str]:
    """How a run of these shapes fits into `budget` bytes, and what says so. Raises: UsageError where none does."""
    shapes, runtime = list(shapes), config.runtime
    guided = any(shape.guided for shape in shapes)
    compiled = chosen_acceleration(config).compile
    rungs = allowed_rungs(config.sampling.cfg_batch, runtime.offload, on_cpu, compiled, guided)
    rung = plan(shapes, budget, rungs)
    takes = in_gib(most(shapes, rung))
    return rung, f"memory: {takes} at the peak of {in_gib(budget)}: {rung}"


def budget_of(models: Models) -> int | None:
    """Bytes that the run may take: as asked, else what is free on its GPU or will be; None on other devices."""
    limit = vram_limit(models.config.runtime.vram)
    if limit is not None or models.device.type != "cuda":
        return limit
    import torch

    # A plan counts the networks; where some are on the card already, what they hold is theirs or their successors'.
    networks = models.opened.not_beside(lambda: models.networks_key)
    unused = torch.cuda.memory_reserved(models.device) - torch.cuda.memory_allocated(models.device)
    return torch.cuda.mem_get_info(models.device)[0] + unused + sum(_on_card(one.pipeline) for one in networks)


def _on_card(pipeline) -> int:
    networks = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
    weights = (weight for network in networks for weight in (*network.parameters(), *network.buffers()))
    return sum(weight.nbytes for weight in weights if weight.device.type == "cuda")


def prepare_for_card(models: Models, shapes: Callable[[], Iterable[Shape]]) -> None:
    """Chooses for all jobs of a run how they share the card, and says it in one line.

    Does nothing where there is no budget; `shapes`, which may take time, is not called then.

    Raises: UsageError that names what to set, where they do not fit.
    """
    budget = budget_of(models)
    if budget is None:
        return
    asked = list(shapes())
    if asked:
        rung, said = plan_for_card(models.config, asked, budget, models.device.type == "cpu")
        logger.info("%s", said)
        models.share_card(rung, asked, budget)


def plan_frames(models: Models, case: TestCase, reference: "Reference", frames: int) -> None:
    """As `prepare_for_card` for `frames` frames of one reference, where no plan was made that has room for them; to be
    called before they are sampled and, where that can be, before the networks are loaded.
    """

    def shapes() -> list[Shape]:
        if models.rung and not outgrows_plan(models, case, reference, frames):
            return []
        return [*models.planned, _shape_of_frames(models, case, reference, frames)]

    prepare_for_card(models, shapes)


def plan_tile(models: Models, case: TestCase) -> None:
    """As `prepare_for_card` for a whole tile, which is known before a video is opened."""

    def shapes() -> Iterator[Shape]:
        with contextlib.suppress(InputError):  # of the picture; it is told in its turn
            size = read_picture(case.ref_image_path, models.config.reference).size
            geometry = frame_geometry(*size, case.resolution, models.config.reference.aspect)
            on_cpu = models.device.type == "cpu"
            yield shape_of(models.config, case, geometry.height, geometry.width, case.num_frames - 1, on_cpu)

    prepare_for_card(models, shapes)


def outgrows_plan(models: Models, case: TestCase, reference: "Reference", frames: int) -> bool:
    """Whether `frames` frames of one reference take more than the plan that was made has room for."""
    if models.rung is None:
        return False
    shape = _shape_of_frames(models, case, reference, frames)
    return most([shape], models.rung) > most(models.planned, models.rung)


def _shape_of_frames(models: Models, case: TestCase, reference: "Reference", frames: int) -> Shape:
    return shape_of(models.config, case, *reference.pixels.shape[:2], frames, models.device.type == "cpu")


def can_overlap(models: Models) -> bool:
    """Whether a result is decoded and written while the next is sampled, as `batch.overlap` asks. Where the card was
    planned for, it must have room for both at once.
    """
    config, rung = models.config, models.rung
    if config.batch.overlap == "off" or config.output.preview or config.latent_steps.folder:
        return False
    if models.offload != "none" or (rung and most_overlapped(models.planned, rung) > models.room - LEFT_FREE):
        return False
    return config.batch.overlap == "on" or (rung is not None and models.device.type == "cuda")
