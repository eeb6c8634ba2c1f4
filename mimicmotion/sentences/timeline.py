"""A sentence's words one after the other, with the ways between them: the poses, and where each word is."""

from dataclasses import dataclass
from itertools import pairwise

from mimicmotion.config import SentenceSettings, transition_length
from mimicmotion.dwpose import Pose, body_height
from mimicmotion.sentences.join import Pace, fastest, transition
from mimicmotion.sentences.subtitles import Spoken
from mimicmotion.sentences.words import Word

AT_ONCE = ("latents", "cut")  # ways to join that put no frames between words


@dataclass(frozen=True)
class Join:
    """Frames `first` to `stop` (excluded) lie between two words; `fastest`: body heights per second of the hands."""

    between: str
    first: int
    stop: int
    fastest: float


@dataclass(frozen=True)
class Timeline:
    """A sentence frame by frame: poses in 0..1 of the reference's frame, where each word is, what lies between two.

    body_height: of the person, in frame heights; 1 for a single word, which needs none.
    """

    words: list[Word]
    poses: list[Pose]
    spoken: list[Spoken]
    joins: list[Join]
    body_height: float


def make_timeline(words: list[Word], settings: SentenceSettings, join: str, fps: float, aspect: float) -> Timeline:
    """The words joined.

    Args:
        words: in order, at least one.
        join: the way, as `sentences.join`.
        fps: frames per second of the sentence.
        aspect: width / height of its frames.

    Raises: InputError where the size of the body cannot be told.
    """
    count = transition_length(settings.transition_frames)
    size = body_height([pose for word in words for pose in word.poses], aspect) if len(words) > 1 else 1.0
    pace = Pace(size, settings.speed_limit * size / fps, aspect, fps)
    poses, joins = list(words[0].poses), []
    spoken = [Spoken(words[0].name, 0, len(poses))]
    for before, after in pairwise(words):
        between = [] if join in AT_ONCE else transition(before.poses, after.poses, count, pace)
        first, stop = len(poses), len(poses) + len(between)
        speed = fastest([before.poses[-1], *between, after.poses[0]], aspect) * fps / size
        joins.append(Join(f"{before.name} > {after.name}", first, stop, speed))
        poses += [*between, *after.poses]
        spoken.append(Spoken(after.name, stop, len(poses)))
    return Timeline(words, poses, spoken, joins, size)
