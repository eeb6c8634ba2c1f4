"""Which results a run makes: every test case on every driving video, each under a name of its own."""

from dataclasses import dataclass
from pathlib import Path

from mimicmotion.config import Config, TestCase
from mimicmotion.errors import UsageError
from mimicmotion.places import looked_for
from mimicmotion.video import find_videos, not_videos, video_stem


@dataclass(frozen=True)
class Job:
    """One driving video with one test case. `output` is the mp4; what lies beside it has the same stem."""

    video: Path
    case: TestCase
    case_index: int
    output: Path

    def beside(self, suffix: str) -> Path:
        """The path of another file of this result, `suffix` such as ".jpg" or "_comparison.mp4"."""
        return self.output.with_name(self.output.stem + suffix)


def plan_jobs(config: Config) -> list[Job]:
    """All jobs of a run, in order: `<output_dir>/<folder name>/<video stem>.mp4`.

    With several test cases each has a folder `case_00`, `case_01`, ... of its own below the folder name.

    Raises: UsageError when a reference or the videos are not there, or two results would have one name.
    """
    jobs = []
    for index, case in enumerate(config.test_case):
        require_reference(case, index)
        for video in _videos(config, case, index):
            folder = Path(config.output.output_dir) / Path(video).resolve().parent.name
            if len(config.test_case) > 1:
                folder = folder / f"case_{index:02d}"
            jobs.append(Job(video, case, index, folder / f"{video_stem(video)}.mp4"))
    return jobs


def left_out(config: Config) -> list[Path]:
    """What lies in the folder of driving videos and is none; nothing where videos were chosen by name."""
    folder = config.batch.video_folder
    return not_videos(folder) if folder and config.batch.videos is None else []


def require_reference(case: TestCase, index: int) -> None:
    """Raises: UsageError unless the reference picture of test case number `index` is there."""
    if not case.ref_image_path:
        raise UsageError(f"test_case[{index}] has no ref_image_path; set it or pass --ref_image_path")
    if not Path(case.ref_image_path).is_file():
        raise UsageError(
            f"reference image not found: {looked_for(case.ref_image_path)} (test_case[{index}].ref_image_path); pass "
            "--ref_image_path, or make the demo's files with: python -m mimicmotion demo"
        )


def _videos(config: Config, case: TestCase, index: int) -> list[Path]:
    folder = config.batch.video_folder
    if folder:
        if not Path(folder).exists():
            raise UsageError(
                f"no such folder of driving videos: {looked_for(folder)} (batch.video_folder); pass --batch_folder, or "
                "make the demo's clip with: python -m mimicmotion demo"
            )
        return find_videos(folder, config.batch.videos)
    if case.ref_video_path:
        return [Path(case.ref_video_path)]
    raise UsageError(f"test_case[{index}] has no driving video: pass --batch_folder or set its ref_video_path")
