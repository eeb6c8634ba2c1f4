"""Procedural people: the same seed gives the same clip, and what the keypoints say is what the pixels show."""

import dataclasses

import numpy as np
import pytest

from mimicmotion.dwpose.keypoints import arrays_from_pose
from mimicmotion.puppets.clips import TRAINING_SEEDS, VALIDATION_SEEDS, make_clip
from mimicmotion.puppets.keypoints import HAND_PARTS, HIDDEN, JOINT_PARTS, SEEN, read_keypoints
from mimicmotion.puppets.motion import KINDS, REST, draw_motion
from mimicmotion.puppets.person import draw_person
from mimicmotion.puppets.render import PART, PARTS, SHADE_LIMITS, SUPERSAMPLING, render, to_picture
from mimicmotion.puppets.skeleton import pose_skeleton

RIGHT_WRIST, LEFT_WRIST = 4, 7


def angles(frames: int = 1, **changed) -> dict[str, np.ndarray]:
    return {name: np.full(frames, changed.get(name, value), float) for name, value in REST.items()}


def test_a_seed_gives_the_same_clip_whatever_was_made_before():
    first = make_clip(7, 4)
    make_clip(8, 4)
    second = make_clip(7, 4)
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.parts, second.parts)
    assert first.person == second.person
    for one, other in zip(first.poses, second.poses, strict=True):
        for name, array in arrays_from_pose(one).items():
            assert np.array_equal(array, arrays_from_pose(other)[name])
    assert not np.array_equal(first.frames, make_clip(8, 4).frames)


def test_a_longer_clip_starts_with_the_shorter_one():
    assert np.array_equal(make_clip(11, 3).frames, make_clip(11, 6).frames[:3])


def test_validation_seeds_are_kept_out_of_the_training():
    assert not set(VALIDATION_SEEDS) & set(range(TRAINING_SEEDS.start, min(TRAINING_SEEDS.stop, 2_000_000)))
    with pytest.raises(ValueError, match="frame_count"):
        make_clip(0, 0)


@pytest.mark.parametrize("seed", range(12))
def test_a_seen_joint_lies_on_its_own_part_and_a_hidden_one_does_not(seed):
    clip = make_clip(seed, 5)
    for parts, pose in zip(clip.parts, clip.poses, strict=True):
        body, scores = pose["bodies"]["candidate"], pose["bodies"]["score"][0]
        for joint, (point, score) in enumerate(zip(body, scores, strict=True)):
            near = names_near(parts, point)
            if score > SEEN[0]:
                assert near & set(JOINT_PARTS[joint]), (joint, point, near)
        for side in range(2):
            seen = pose["hands_score"][side] > SEEN[0]
            for point in pose["hands"][side][seen]:
                assert names_near(parts, point) & set(HAND_PARTS[side])


@pytest.mark.parametrize("seed", range(12))
def test_the_pixel_at_a_seen_elbow_knee_or_wrist_has_the_colour_of_what_is_worn_there(seed):
    clip = make_clip(seed, 5)
    person = clip.person
    sleeve = {"none": (person.skin,), "short": (person.shirt, person.skin), "long": (person.shirt,)}[person.sleeves]
    knee = (person.legs,) if person.legwear == "trousers" else (person.skin, person.legs)
    worn = {3: sleeve, 6: sleeve, 9: knee, 12: knee, RIGHT_WRIST: (person.skin,), LEFT_WRIST: (person.skin,)}
    checked = 0
    for frame, parts, pose in zip(clip.frames, clip.parts, clip.poses, strict=True):
        for joint, colours in worn.items():
            x, y = (pose["bodies"]["candidate"][joint] * (128, 192)).astype(int)
            seen = pose["bodies"]["score"][0, joint] > SEEN[0]
            # Only where the whole neighbourhood is one part is the pixel free of its neighbours' colours.
            if seen and 1 <= x < 127 and 1 <= y < 191 and len(set(parts[y - 1 : y + 2, x - 1 : x + 2].flat)) == 1:
                if joint in (RIGHT_WRIST, LEFT_WRIST) and not PARTS[parts[y, x]].endswith("hand"):
                    continue
                assert any(is_shade_of(frame[y, x], colour) for colour in colours), (joint, frame[y, x], colours)
                checked += 1
    assert checked or person.scale > 1


def is_shade_of(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    low, high = (np.minimum(255, np.array(colour) * factor) for factor in SHADE_LIMITS)
    return bool((pixel >= low - 3).all() and (pixel <= high + 3).all())


def names_near(parts: np.ndarray, point: np.ndarray) -> set[str]:
    """Names of the parts within a pixel of a point in 0..1."""
    height, width = parts.shape
    x, y = int(point[0] * width), int(point[1] * height)
    return {PARTS[part] for part in parts[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].flat}


def posed(person, **changed):
    skeleton = pose_skeleton(person, angles(**changed))
    frames, parts = render(person, skeleton, 192, 128)
    return skeleton, frames, parts, read_keypoints(person, skeleton, parts, 192, 128, np.random.default_rng(0))[0]


def test_an_arm_in_front_of_the_body_covers_it_and_one_behind_is_hidden():
    person = dataclasses.replace(draw_person(np.random.default_rng(3)), scale=0.8, ground=0.95, centre=0.5)
    arm = {"right_raise": 0.5, "right_elbow": 1.3, "right_inward": 0.9}
    _, _, parts, front = posed(person, right_forward=1.4, **arm)
    assert front["bodies"]["score"][0, RIGHT_WRIST] > SEEN[0]
    _, _, _, behind = posed(person, right_forward=-1.4, **(arm | {"right_inward": -0.9}))
    wrists = [pose["bodies"]["candidate"][RIGHT_WRIST] for pose in (front, behind)]
    assert np.allclose(*wrists, atol=1e-6), "only the depth may differ"
    assert behind["bodies"]["score"][0, RIGHT_WRIST] <= HIDDEN[1]
    x, y = (wrists[0] * (128 * SUPERSAMPLING, 192 * SUPERSAMPLING)).astype(int)
    assert PARTS[parts[0, y, x]] in ("right_hand", "right_forearm")


def test_a_turned_head_hides_the_far_ear_and_the_far_edge_of_the_face():
    person = dataclasses.replace(draw_person(np.random.default_rng(5)), scale=0.8, ground=0.95, centre=0.5)
    straight, turned = posed(person)[3], posed(person, head_yaw=1.1)[3]
    ears = [pose["bodies"]["score"][0, [16, 17]] for pose in (straight, turned)]
    assert (ears[0] > SEEN[0]).all()
    assert min(ears[1]) <= HIDDEN[1] < SEEN[0] <= max(ears[1])
    seen = [(pose["faces_score"] > SEEN[0]).mean() for pose in (straight, turned)]
    assert 0.4 < seen[1] < 0.95 < seen[0]


def test_the_persons_right_is_at_the_pictures_left():
    person = draw_person(np.random.default_rng(1))
    points = to_picture(person, pose_skeleton(person, angles()).body, 192, 128)[0]
    for right, left in ((2, 5), (4, 7), (8, 11), (14, 15)):
        assert points[right, 0] < points[left, 0]
    assert points[0, 1] < points[1, 1] < points[8, 1] < points[9, 1] < points[10, 1]


def test_keypoints_do_not_depend_on_the_size_of_the_picture():
    small, large = make_clip(21, 3), make_clip(21, 3, 384, 256)
    for one, other in zip(small.poses, large.poses, strict=True):
        assert np.allclose(one["bodies"]["candidate"], other["bodies"]["candidate"], atol=1e-6)
    assert large.frames.shape == (3, 384, 256, 3)
    assert large.parts.shape == (3, 384, 256)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_motion_is_smooth_and_moves(kind):
    clip = make_clip(5, 16, kind=kind)
    body = np.stack([pose["bodies"]["candidate"] for pose in clip.poses[1:]])
    travelled = np.linalg.norm(np.diff(body, axis=0), axis=-1) / clip.person.scale
    assert travelled.max() > 0.004
    assert travelled.max() < 0.2, "no joint jumps a fifth of the body between frames"
    assert set(draw_motion(np.random.default_rng(0), kind).angles(np.zeros(1))) == set(REST)


def test_feet_stand_on_the_ground_unless_they_jump():
    person = draw_person(np.random.default_rng(2))
    for changed, height in (({"right_hip": 0.6, "right_knee": 1.2}, 0.0), ({"hop": 0.1}, 0.1)):
        skeleton = pose_skeleton(person, angles(**changed))
        assert max(skeleton.body[0, 10, 1], skeleton.body[0, 13, 1]) == pytest.approx(-0.035 - height)


def test_attributes_tell_people_apart_and_stay_in_range():
    people = [draw_person(np.random.default_rng(seed)) for seed in range(200)]
    values = np.stack([person.attributes() for person in people])
    assert values.min() >= 0
    assert values.max() <= 1
    assert (values.std(axis=0) > 0.02).all()
    assert len(PART) < 256
