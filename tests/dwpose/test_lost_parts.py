"""Lost hands and faces come back where the body says they are, and nothing else changes."""

import copy

import numpy as np
import pytest

from mimicmotion.dwpose.keypoints import arrays_from_pose, empty_pose
from mimicmotion.dwpose.lost_parts import PARTS, restore_parts
from mimicmotion.puppets.clips import make_clip

ASPECT = 128 / 192
FRAMES = 9
LOST = (3, 4, 5)


def driving(seed: int = 1, kind: str = "gesture") -> list[dict]:
    return make_clip(seed, FRAMES + 1, 96, 64, kind, whole_body=True).poses[1:]


def without(poses: list[dict], part, frames) -> list[dict]:
    poses = copy.deepcopy(poses)
    for frame in frames:
        poses[frame][part.field][part.row] = 0
        poses[frame][f"{part.field}_score"][part.row] = 0
    return poses


def distance(one: dict, other: dict, part) -> float:
    """Mean distance of the part's points in frame heights."""
    difference = (one[part.field][part.row] - other[part.field][part.row]) * (ASPECT, 1)
    return float(np.linalg.norm(difference, axis=-1).mean())


def seen_throughout(part, frames=range(FRAMES)) -> list[dict]:
    """A clip that shows the part clearly, with its joints, in all frames."""
    for seed in range(40):
        poses = driving(seed)
        joints = [part.origin, part.towards]
        if all(
            poses[f][f"{part.field}_score"][part.row].mean() > 0.6
            and (poses[f]["bodies"]["score"][0][joints] > 0.5).all()
            for f in frames
        ):
            return poses
    raise AssertionError("no seed shows the part")


@pytest.mark.parametrize("part", PARTS, ids=("face", "left hand", "right hand"))
@pytest.mark.parametrize("lost", [LOST, (0, 1), (7, 8)], ids=("middle", "start", "end"))
def test_a_lost_part_comes_back_near_its_true_place(part, lost):
    truth = seen_throughout(part)
    restored = restore_parts(without(truth, part, lost), ASPECT)
    for frame in lost:
        assert distance(restored[frame], truth[frame], part) < 0.015, "1.5 % of the frame's height"
        assert restored[frame][f"{part.field}_score"][part.row].mean() > 0.3
    for frame in set(range(FRAMES)) - set(lost):
        assert distance(restored[frame], truth[frame], part) == 0


def test_a_hand_follows_its_arm_and_not_its_old_place():
    part, poses = PARTS[2], seen_throughout(PARTS[2])
    moved = copy.deepcopy(poses[0])
    elbow, wrist = moved["bodies"]["candidate"][[3, 4]] * (ASPECT, 1)
    turned = elbow + (wrist - elbow) @ np.array([[0.0, 1.0], [-1.0, 0.0]])  # a quarter turn
    moved["bodies"]["candidate"][4] = turned / (ASPECT, 1)
    restored = restore_parts([poses[0], *without([moved], part, [0])], ASPECT)[1]
    old, new = (p["hands"][part.row] * (ASPECT, 1) - w for p, w in ((poses[0], wrist), (restored, turned)))
    assert np.allclose(new, old @ np.array([[0.0, 1.0], [-1.0, 0.0]]), atol=1e-6)


def test_what_was_found_even_dimly_stays_as_it_is():
    poses = driving(2, "walk")
    restored = restore_parts(poses, ASPECT)
    for one, other in zip(poses, restored, strict=True):
        pairs = zip(arrays_from_pose(one).values(), arrays_from_pose(other).values(), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_given_poses_are_not_changed():
    given = without(seen_throughout(PARTS[0]), PARTS[0], LOST)
    before = copy.deepcopy(given)
    restore_parts(given, ASPECT)
    assert all(np.array_equal(a["faces"], b["faces"]) for a, b in zip(given, before, strict=True))


def test_nothing_is_made_up_without_a_frame_that_has_it_or_a_body_to_lay_it_on():
    part, poses = PARTS[0], seen_throughout(PARTS[0])
    never = restore_parts(without(poses, part, range(FRAMES)), ASPECT)
    assert not any(pose["faces_score"].any() for pose in never)

    headless = without(poses, part, LOST)
    headless[LOST[0]]["bodies"]["score"][0, part.origin] = 0
    restored = restore_parts([*headless, empty_pose()], ASPECT)
    assert not restored[LOST[0]]["faces_score"].any()
    assert restored[LOST[1]]["faces_score"].any()
    assert len(restored[-1]["faces"]) == 0


def test_a_head_that_turned_away_gets_no_face_from_the_front():
    part, poses = PARTS[0], without(seen_throughout(PARTS[0]), PARTS[0], LOST)
    body = poses[LOST[0]]["bodies"]["candidate"]
    body[14] = body[15] + 0.2 * (body[14] - body[15])
    restored = restore_parts(poses, ASPECT)
    assert not restored[LOST[0]][f"{part.field}_score"].any()
    assert restored[LOST[1]][f"{part.field}_score"].any()
