"""A result from Python: frames in memory, made as the turbo script makes them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimicmotion.cli import DEVICE, MODEL, POSE, RUN, TURBO, follow_scheduler, settings_by_flag
from mimicmotion.config import DEFAULT_CONFIG, Config, trace_config

if TYPE_CHECKING:
    import numpy as np

GROUPS = {"run": RUN, "model": MODEL, "device": DEVICE, "pose": POSE, "turbo": TURBO}


def animate(
    picture: str | Path,
    video: str | Path,
    config: str | Path | Config | None = None,
    *,
    output: str | Path | None = None,
    **settings: Any,
) -> "np.ndarray":
    """The person of a picture performs the motion of a video.

    Args:
        picture: file with the person; keypoints in `<name>.pose.npz` beside it are used instead of detection.
        video: driving video, or a folder of numbered frames.
        config: settings to start from, or a YAML file with them; None is configs/test.yaml, the embedded model.
        output: an mp4 to write too, with its contact sheet and sidecar; nothing is written otherwise.
        settings: named as the script's flags (seed=7, scheduler="AYS") or, in a dictionary, by path
            (**{"sampling.decode_overlap": 2}).

    Returns: frames, uint8 (frames, height, width, 3), RGB, without the reference's own; they play at `fps`.

    Raises: UsageError for a wrong setting, or a finished result at `output` that was made differently (overwrite=True
        replaces it), InputError for a picture or video that cannot be used, SetupError for
        missing weights.
    """
    import numpy as np

    from mimicmotion.animation import Animator, decode_frames, write_record
    from mimicmotion.results import Job, require_places, require_pose_folder, require_reference, sidecar_path

    config = resolve(config, {**settings, "ref_image_path": str(picture)})
    case, animator = config.test_case[0], Animator(config)
    require_reference(case, 0)
    require_pose_folder(config)
    job = Job(Path(video), case, 0, Path(output or f"{Path(video).stem}.mp4"))
    if output:
        require_places(job.output, sidecar_path(job.output))
    animator.models.check()
    if output:
        animator.require_kept([job])
    animator.models.resolve()
    animator.models.check_lcm()
    inputs = animator.inputs(job)
    clip = animator.prepare(job)
    latents = animator.sampled(clip, lambda: animator.recipe(job, inputs)) if output else animator.sample(clip)
    frames = np.concatenate(list(decode_frames(animator.models.decoder, latents, config.sampling)))
    if output:
        made_from = animator.recipe(job, inputs)
        animator.write(clip, latents, made_from)
        write_record(animator.models, clip, made_from)
    return frames


def resolve(config: str | Path | Config | None, settings: dict[str, Any]) -> Config:
    """The settings of one result: those to start from, and values named as flags or by path over them.

    As on a command line, another scheduler takes its own steps, guidance and weights unless they are given too.
    """
    base = DEFAULT_CONFIG if config is None else config
    origin = trace_config(base, settings_by_flag(settings, GROUPS))
    follow_scheduler(origin, base)
    return origin.config
