"""Which results a run makes: every test case on every driving video, each under a name of its own."""

import functools
import hashlib
import logging
import os
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from mimicmotion.config import Config, TestCase
from mimicmotion.errors import UsageError
from mimicmotion.files import name_key, printable, why_no_file, writable_name, writable_stem
from mimicmotion.places import looked_for
from mimicmotion.video import not_videos, video_paths, video_stem

logger = logging.getLogger(__name__)

COMPARISON = "_comparison"  # the mp4 beside a result; no result's own stem ends like that


@dataclass(frozen=True)
class Job:
    """One driving video with one test case. `output` is the mp4; what lies beside it has the same stem.

    stem: what other files about the video are called, where not after it alone.
    """

    video: Path
    case: TestCase
    case_index: int
    output: Path
    stem: str | None = None

    @property
    def name(self) -> str:
        """The video's file name as it can be shown."""
        return printable(self.video.name)

    @property
    def renamed(self) -> bool:
        """Whether the video's own name cannot be that of its results."""
        return video_stem(self.video) not in self.video.name

    def beside(self, suffix: str) -> Path:
        """The path of another file of this result, `suffix` such as ".jpg" or "_comparison.mp4"."""
        return self.output.with_name(self.output.stem + suffix)

    def poses_in(self, folder: str | Path) -> Path:
        """The file of the video's poses in a folder of saved ones."""
        return Path(folder) / f"{self.stem or video_stem(self.video)}.npz"


@dataclass(frozen=True)
class _Case:
    """The jobs of one test case. `names` are the results' paths without their suffix, `stems` as `Job.stem`, None where
    that is how the result is called.
    """

    case: TestCase
    index: int
    videos: list[str]
    names: list[str]
    stems: list[str | None]

    def job(self, place: int) -> Job:
        name, stem = self.names[place], self.stems[place]
        return Job(Path(self.videos[place]), self.case, self.index, Path(f"{name}.mp4"), stem or os.path.basename(name))


class Plan(Sequence):
    """The jobs of a run, each made when it is asked for: of a million only texts are kept."""

    def __init__(self, cases: list[_Case], places: Sequence[int] | None = None):
        self._cases = cases
        self._ends = list(accumulate(len(case.videos) for case in cases))
        self._places = range(self._ends[-1]) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int | slice):
        if isinstance(place, slice):
            return Plan(self._cases, self._places[place])
        place = self._places[place]
        number = bisect_right(self._ends, place)
        return self._cases[number].job(place - (self._ends[number - 1] if number else 0))

    def where(self, wanted: Callable[[Job], bool]) -> "Plan":
        """Those of the jobs that are `wanted`, in order."""
        mine = (place for place, job in zip(self._places, self, strict=True) if wanted(job))
        return Plan(self._cases, array("q", mine))


def plan_jobs(config: Config) -> Plan:
    """All jobs of a run, in order: `<output_dir>/<folder name>/<video stem>.mp4`.

    With several test cases each has a folder `case_00`, `case_01`, ... of its own below the folder name. Of videos
    that would have one result, each has its kind in the name: `x_gif.mp4`.

    Raises: UsageError when a reference, the videos or the folder of saved poses are not there.
    """
    require_pose_folder(config)
    cases, renamed = [], False
    for index, case in enumerate(config.test_case):
        require_reference(case, index)
        videos = _videos(config, case, index)
        stems = [video_stem(Path(video)) for video in videos]
        renamed = renamed or any(s not in os.path.basename(v) for v, s in zip(videos, stems, strict=True))
        stems = distinct_names(videos, stems)
        folder_of = functools.cache(functools.partial(_result_folder, config, index))
        wanted = [os.path.join(folder_of(_place(video)), _result_stem(config, Path(video))) for video in videos]
        names = distinct_names(videos, wanted, lambda name: name.casefold().endswith(COMPARISON))
        for video, name, plain in zip(videos, names, wanted, strict=True):
            if name != plain:
                logger.info("%s: its results are called %s, since %s is another file's name", video, name, plain)
        called = zip(stems, names, strict=True)
        stems = [None if stem == os.path.basename(name) else stem for stem, name in called]
        cases.append(_Case(case, index, videos, names, stems))
    jobs = Plan(cases)
    if renamed:
        tell_other_names(jobs)
    return jobs


def tell_other_names(jobs: Iterable[Job]) -> None:
    """Logs what results are called whose video has a name that cannot be written, or is too long."""
    for job in {job.video: job for job in jobs if job.renamed}.values():
        logger.warning("%s cannot name its results: they are called %s", job.name, job.output.stem)


def _place(video: str) -> str:
    """The folder of a video as the user sees it, links unfollowed."""
    return os.path.dirname(os.path.abspath(video))


def _result_folder(config: Config, case_index: int, place: str) -> str:
    folder = Path(config.output.output_dir) / writable_name(os.path.basename(place))
    return str(folder / f"case_{case_index:02d}" if len(config.test_case) > 1 else folder)


def _result_stem(config: Config, video: Path) -> str:
    stem, variant = video_stem(video), config.output.variant
    return writable_stem(f"{stem}.{variant}") if variant else stem


def distinct_names(
    videos: Sequence[Path | str], names: Sequence[str], unfit: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """The names of videos, so changed that no two are alike, where no file system takes two of them for one.

    A name that several have, or that is `unfit`, gets the kind of its file, x of x.gif becoming x_gif; where that is
    not enough, digits of its path.
    """
    keys = [name_key(name) for name in names]
    counts = Counter(keys)
    kept = [counts[key] == 1 and not unfit(name) for key, name in zip(keys, names, strict=True)]
    taken = {key for key, keep in zip(keys, kept, strict=True) if keep}
    distinct = []
    for video, name, keep in zip(videos, names, kept, strict=True):
        if not keep:
            video = Path(video)
            name = f"{name}_{re.sub('[^A-Za-z0-9]', '', video.suffix) or 'frames'}"
            if name_key(name) in taken:
                name += "-" + hashlib.sha256(os.fsencode(video.absolute())).hexdigest()[:8]
            name = os.path.join(os.path.dirname(name), writable_stem(os.path.basename(name)))
            taken.add(name_key(name))
        distinct.append(name)
    return distinct


def left_out(config: Config) -> list[Path]:
    """What lies in the folder of driving videos and is none; nothing where videos were chosen by name."""
    folder = config.batch.video_folder
    return not_videos(folder) if folder and config.batch.videos is None else []


def require_reference(case: TestCase, index: int) -> None:
    """Raises: UsageError unless the reference picture of test case number `index` is there."""
    if not case.ref_image_path:
        raise UsageError(f"test_case[{index}] has no ref_image_path; set it or pass --ref_image_path")
    reason = why_no_file(case.ref_image_path)
    if reason == "does not exist":
        raise UsageError(
            f"reference image not found: {looked_for(case.ref_image_path)} (test_case[{index}].ref_image_path); pass "
            "--ref_image_path, or make the demo's files with: python -m mimicmotion demo"
        )
    if reason:
        raise UsageError(f"test_case[{index}].ref_image_path: {case.ref_image_path} {reason}; pass --ref_image_path")


def require_pose_folder(config: Config) -> None:
    """Raises: UsageError where poses are to be read from a folder that is not named or not there."""
    pose = config.pose
    if pose.backend != "file":
        return
    if not pose.folder:
        raise UsageError("--pose_backend file reads saved poses, but no folder is named; pass --pose_folder")
    if not Path(pose.folder).is_dir():
        raise UsageError(
            f"no such folder of saved poses: {looked_for(pose.folder)} (pose.folder); pass --pose_folder, or save some "
            "with --save_pose"
        )


def _videos(config: Config, case: TestCase, index: int) -> list[str]:
    folder = config.batch.video_folder
    if folder:
        if not os.path.exists(folder):
            raise UsageError(
                f"no such folder of driving videos: {looked_for(folder)} (batch.video_folder); pass --batch_folder, or "
                "make the demo's clip with: python -m mimicmotion demo"
            )
        return video_paths(folder, config.batch.videos)
    if case.ref_video_path:
        return [str(Path(case.ref_video_path))]
    raise UsageError(f"test_case[{index}] has no driving video: pass --batch_folder or set its ref_video_path")
