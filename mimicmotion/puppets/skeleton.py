"""From angles to points: forward kinematics of a body, two hands and a face, for all frames at once.

Points are (T, ..., 3) in body heights: x to the picture's right, y down, z towards the viewer. The origin is on the
ground under the pelvis. A person who faces the viewer has the right side at negative x.
"""

from dataclasses import dataclass

import numpy as np

from mimicmotion.puppets.person import Person

TORSO, UPPER_ARM, FOREARM, THIGH, SHIN = 0.29, 0.155, 0.145, 0.235, 0.225
HIP = 0.055  # half the width of the hips
HEAD_RADII = np.array([0.047, 0.066, 0.055])
FOOT = 0.035  # height of the ankle
SIDES = (("right", -1.0), ("left", 1.0))
FINGER_ROOTS = np.array([-0.35, -0.5, -0.17, 0.17, 0.5])  # across the palm, thumb to little finger
FINGER_LENGTHS = np.array([0.7, 0.85, 0.95, 0.88, 0.7])
HAND = 0.05  # length of the palm, and of a whole finger


@dataclass(frozen=True)
class Skeleton:
    """Points of T frames, (T, points, 3).

    Attributes:
        body: the 18 joints of OpenPose.
        hands: (T, 2, 21, 3), left then right.
        face: 68 landmarks.
        toes: right then left, (T, 2, 3).
        head_centre: (T, 3).
        head_axes: (T, 3, 3), columns are the head's own x, y and z.
    """

    body: np.ndarray
    hands: np.ndarray
    face: np.ndarray
    toes: np.ndarray
    head_centre: np.ndarray
    head_axes: np.ndarray


def pose_skeleton(person: Person, angles: dict[str, np.ndarray]) -> Skeleton:
    """The skeleton of `person` for the angles of a motion, each (T,)."""
    hips_turn = _turn(yaw=angles["yaw"])
    chest_turn = hips_turn @ _turn(angles["twist"], angles["bend"], angles["lean"])
    head_axes = chest_turn @ _turn(angles["head_yaw"], angles["head_pitch"], angles["head_roll"])
    frames = len(angles["yaw"])
    body = np.zeros((frames, 18, 3))
    neck = _move(chest_turn, (0, -TORSO, 0))
    body[:, 1] = neck
    head_centre = neck + _move(chest_turn, (0, -0.03, 0)) + _move(head_axes, (0, -0.07 * person.head, 0.012))
    hands, toes = np.zeros((frames, 2, 21, 3)), np.zeros((frames, 2, 3))
    for index, (side, sign) in enumerate(SIDES):
        shoulder = neck + _move(chest_turn, (sign * person.shoulders, 0.02, 0))
        elbow, wrist, forearm = _arm(shoulder, chest_turn, angles, side, sign)
        body[:, 2 + 3 * index], body[:, 3 + 3 * index], body[:, 4 + 3 * index] = shoulder, elbow, wrist
        hands[:, 1 - index] = _hand(wrist, forearm, chest_turn, angles[f"{side}_curl"], angles[f"{side}_spread"], sign)
        leg = _leg(_move(hips_turn, (sign * HIP, 0, 0)), hips_turn, angles, side, sign)
        body[:, 8 + 3 * index], body[:, 9 + 3 * index], body[:, 10 + 3 * index], toes[:, index] = leg
    radii = HEAD_RADII * person.head
    face = head_centre[:, None] + (face_template(angles["mouth"]) * radii) @ head_axes.transpose(0, 2, 1)
    body[:, 0] = face[:, 30]
    body[:, 14], body[:, 15] = face[:, 36:42].mean(1), face[:, 42:48].mean(1)
    for joint, sign in ((16, -1.0), (17, 1.0)):
        body[:, joint] = head_centre + _move(head_axes, radii * (sign * 0.97, 0.05, -0.1))
    rise = -FOOT - np.maximum(body[:, 10, 1], body[:, 13, 1]) - angles["hop"]
    lift = np.stack([angles["dx"], rise, np.zeros(frames)], -1)
    return Skeleton(
        body=body + lift[:, None],
        hands=hands + lift[:, None, None],
        face=face + lift[:, None],
        toes=toes + lift[:, None],
        head_centre=head_centre + lift,
        head_axes=head_axes,
    )


def _turn(yaw=0.0, pitch=0.0, roll=0.0) -> np.ndarray:
    """Rotation matrices (T, 3, 3): roll in the picture, then pitch (forwards), then yaw (to the person's left)."""
    yaw, pitch, roll = np.broadcast_arrays(yaw, pitch, roll)
    one, nil = np.ones_like(yaw), np.zeros_like(yaw)

    def matrix(*rows):
        return np.stack([np.stack(row, -1) for row in rows], -2)

    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    around_y = matrix((cy, nil, sy), (nil, one, nil), (-sy, nil, cy))
    around_x = matrix((one, nil, nil), (nil, cp, sp), (nil, -sp, cp))
    around_z = matrix((cr, -sr, nil), (sr, cr, nil), (nil, nil, one))
    return around_y @ around_x @ around_z


def _move(turn: np.ndarray, vector) -> np.ndarray:
    """`vector` (3,) or (T, 3) in the frame of `turn`."""
    return np.einsum("tij,tj->ti", turn, np.broadcast_to(np.asarray(vector, float), (len(turn), 3)))


def _arm(shoulder, chest_turn, angles, side: str, sign: float):
    lift, forward = angles[f"{side}_raise"], angles[f"{side}_forward"]
    elbow = shoulder + UPPER_ARM * _move(chest_turn, _direction(lift, forward, sign))
    bent = _direction(lift + angles[f"{side}_elbow"], forward + angles[f"{side}_inward"], sign)
    forearm = _move(chest_turn, bent)
    return elbow, elbow + FOREARM * forearm, forearm


def _direction(lift, forward, sign: float) -> np.ndarray:
    """Down where `lift` is 0, outwards at a right angle, turned to the front by `forward`."""
    return np.stack([sign * np.sin(lift) * np.cos(forward), np.cos(lift), np.sin(lift) * np.sin(forward)], -1)


def _leg(hip, hips_turn, angles, side: str, sign: float):
    flexed, knee_bend, apart = angles[f"{side}_hip"], angles[f"{side}_knee"], angles[f"{side}_apart"]
    knee = hip + THIGH * _move(hips_turn, _leg_direction(flexed, apart, sign))
    ankle = knee + SHIN * _move(hips_turn, _leg_direction(flexed - knee_bend, 0.6 * apart, sign))
    return hip, knee, ankle, ankle + _move(hips_turn, (sign * 0.018, 0.025, 0.075))


def _leg_direction(flexed, apart, sign: float) -> np.ndarray:
    return np.stack([sign * np.sin(apart), np.cos(apart) * np.cos(flexed), np.cos(apart) * np.sin(flexed)], -1)


def _hand(wrist, forearm, chest_turn, curl, spread, sign: float) -> np.ndarray:
    """21 points: the wrist, then four joints of each finger. Curled fingers bend towards the palm."""
    across = np.cross(forearm, _move(chest_turn, (0, 0, 1)))
    across = sign * across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
    palm = np.cross(across, forearm) * sign
    points = np.zeros((len(wrist), 21, 3))
    points[:, 0] = wrist
    for finger, (root, length) in enumerate(zip(FINGER_ROOTS, FINGER_LENGTHS, strict=True)):
        reach = 0.4 if finger == 0 else 1.0
        point = wrist + HAND * (reach * forearm + 0.62 * root * across * (1.4 if finger == 0 else 1.0))
        points[:, 1 + 4 * finger] = point
        fan = (root * 0.9 + (-0.45 if finger == 0 else 0)) * spread
        for joint in range(1, 4):
            bend = curl * joint * (0.35 if finger == 0 else 0.55)
            along = np.cos(bend)[:, None] * forearm + np.sin(bend)[:, None] * palm + fan[:, None] * across
            point = point + HAND * length / 3 * along / np.linalg.norm(along, axis=-1, keepdims=True)
            points[:, 1 + 4 * finger + joint] = point
    return points


def face_template(mouth: np.ndarray) -> np.ndarray:
    """The 68 landmarks (T, 68, 3) on a head of radius 1 that faces the viewer; `mouth` (T,) opens it from 0 to 1."""
    flat = np.repeat(_FLAT_FACE[None], len(mouth), 0)
    flat[:, 48:, 1] += (_FLAT_FACE[48:, 1] - MOUTH_HEIGHT) * 1.5 * mouth[:, None]
    flat[:, 5:12, 1] += 0.06 * mouth[:, None]
    depth = np.sqrt(np.clip(1 - (0.9 * flat**2).sum(-1, keepdims=True), 0.01, None))
    depth[:, 27:36] += _NOSE_DEPTH[:, None]
    return np.concatenate([flat, depth], -1)


MOUTH_HEIGHT = 0.52
_NOSE_DEPTH = np.array([0.0, 0.06, 0.12, 0.18, 0.08, 0.1, 0.12, 0.1, 0.08])


def _ring(centre: tuple[float, float], radii: tuple[float, float], count: int, start: float = np.pi) -> np.ndarray:
    turn = start + np.arange(count) * 2 * np.pi / count
    return np.stack([centre[0] + radii[0] * np.cos(turn), centre[1] + radii[1] * np.sin(turn)], -1)


def _flat_face() -> np.ndarray:
    """x, y of the 68 landmarks: jaw, brows, nose, eyes, outer and inner lips, counted as iBUG 300-W does."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.88 * np.cos(turn), 0.05 + 0.9 * np.sin(turn)], -1)
    bow = np.array([0.0, -0.06, -0.08, -0.06, -0.02])
    brows = [np.stack([np.linspace(*span, 5), -0.3 + bow[:: int(way)]], -1) for span, way in
             (((-0.68, -0.2), 1), ((0.2, 0.68), -1))]  # fmt: skip
    ridge = np.stack([np.zeros(4), np.linspace(-0.14, 0.18, 4)], -1)
    nostrils = np.stack([np.linspace(-0.16, 0.16, 5), 0.26 - 0.03 * np.abs(np.arange(5) - 2)], -1)
    eyes = [_ring((x, -0.1), (0.15, 0.075), 6) for x in (-0.4, 0.4)]
    lips = [_ring((0, MOUTH_HEIGHT), (0.32, 0.1), 12), _ring((0, MOUTH_HEIGHT), (0.22, 0.04), 8)]
    return np.concatenate([jaw, *brows, ridge, nostrils, *eyes, *lips])


_FLAT_FACE = _flat_face()
