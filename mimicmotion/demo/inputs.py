"""What a run takes that names no input of its own: a real person's motion, performed by a drawn person."""

import logging
from pathlib import Path
from typing import Any

from mimicmotion.config import DEFAULT_CONFIG, Origin, lookup
from mimicmotion.errors import SetupError

logger = logging.getLogger(__name__)

DEMO_FOLDER = Path("assets") / "demo"
PUPPETS = DEMO_FOLDER / "puppets"
PERSON = 4  # the person in the default configuration
# Where the real clip cannot be had, a drawn person drives, with exact poses at the result's frame rate.
DRIVING = PUPPETS / "driving"
MOTION, SECONDS = "jump", 3.2

VIDEO_FOLDER, REFERENCE = "batch.video_folder", "test_case[0].ref_image_path"
INPUTS = (VIDEO_FOLDER, "batch.videos", REFERENCE, "test_case[0].ref_video_path", "pose.folder")


def provide_inputs(origin: Origin, renew: bool = False) -> None:
    """Makes the demo's inputs below the working directory, where a run takes the default ones and they are absent.

    A run that names an input itself, and one that only lists what it would do, are left as they are. The settings are
    changed where a drawn person has to drive.

    Args:
        renew: make what is there or damaged as well; a clip that is whole is not fetched again.

    Raises: SetupError when the folder cannot be written, UsageError for a shard that cannot be found out.
    """
    config = origin.config
    if config.batch.shard is not None:
        from mimicmotion.results import choose_shard

        # A run that is refused makes no inputs either.
        choose_shard(config)
    if config.output.dry_run or len(config.test_case) != 1 or any(_is_chosen(origin, path) for path in INPUTS):
        return
    lacks_reference = renew or not Path(lookup(config, REFERENCE)).is_file()
    lacks_videos = renew or not Path(config.batch.video_folder).is_dir()
    if lacks_reference or lacks_videos:
        logger.info("No input is named: the demo's are made in %s", DEMO_FOLDER)
    if lacks_reference:
        from mimicmotion.puppets import draw_puppets

        draw_puppets(PUPPETS, count=1, kinds=(), seed=PERSON)
    if lacks_videos:
        _provide_videos(origin)


def _provide_videos(origin: Origin) -> None:
    from mimicmotion.demo.clip import get_demo_clip

    try:
        get_demo_clip(DEMO_FOLDER)
        return
    except SetupError as error:
        logger.warning("A drawn person drives, with exact poses, since the real clip is missing: %s", error)
    from mimicmotion.puppets import draw_puppets

    draw_puppets(PUPPETS, count=0, kinds=(MOTION,), seconds=SECONDS)
    _set(origin, VIDEO_FOLDER, str(DRIVING))
    _set(origin, "batch.videos", [f"{MOTION}.mp4"])
    _set(origin, "pose.backend", "file")
    _set(origin, "pose.folder", str(DRIVING))
    _set(origin, "test_case[0].sample_stride", 1)


def _is_chosen(origin: Origin, path: str) -> bool:
    """Whether somebody chose the value: it comes neither from the defaults nor from the default configuration."""
    return origin.sources.get(path, DEFAULT_CONFIG) != DEFAULT_CONFIG


def _set(origin: Origin, path: str, value: Any) -> None:
    """Sets a value unless somebody chose one."""
    if _is_chosen(origin, path):
        return
    owner, _, name = path.rpartition(".")
    setattr(lookup(origin.config, owner), name, value)
    origin.sources[path] = "the demo"
