"""Who is in the picture: build, clothes and surroundings, all drawn from one generator."""

from dataclasses import dataclass, fields, replace

import numpy as np

Colour = tuple[int, int, int]  # RGB 0..255

SKINS = ((255, 224, 196), (240, 196, 150), (205, 150, 105), (150, 98, 62), (98, 62, 44))
HAIRS = ((28, 22, 20), (70, 44, 26), (120, 74, 36), (196, 154, 84), (150, 150, 152), (140, 48, 26))
SLEEVES = ("none", "short", "long")
LEGWEAR = ("trousers", "shorts", "skirt")
WALLS = ("plain", "stripes", "tiles", "window")
FULL_BODY = (0.62, 0.84)  # body height in frame heights
HALF_BODY = (1.15, 1.5)
HALF_BODY_SHARE = 0.3
ROOM_TO_MOVE = (0.62, 0.68)  # body height at which arms, stretched sideways or up, stay in a 2:3 frame


@dataclass(frozen=True)
class Person:
    """One person in one place. Lengths are in body heights unless a name says otherwise."""

    skin: Colour
    hair: Colour
    shirt: Colour
    band: Colour  # of the stripe over the chest; the shirt's own colour where there is none
    legs: Colour
    shoes: Colour
    sleeves: str
    legwear: str
    hair_length: float  # 0 short .. 1 to the shoulders
    girth: float  # 1 is average
    shoulders: float  # half their width
    head: float  # scale of the head, 1.0 .. 1.25
    wall_top: Colour
    wall_bottom: Colour
    floor: Colour
    wall: str
    wall_mark: Colour
    horizon: float  # in frame heights
    scale: float  # body height in frame heights
    centre: float  # of the pelvis, in frame widths
    ground: float  # where the feet stand, in frame heights

    def attributes(self) -> np.ndarray:
        """What an image encoder should tell about the person, float32 in 0..1."""
        values: list[float] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                values += [channel / 255 for channel in value]
            elif isinstance(value, str):
                values += [float(value == name) for name in _CHOICES[field.name]]
            else:
                low, high = _RANGES[field.name]
                values.append((value - low) / (high - low))
        return np.array(values, np.float32)


_CHOICES = {"sleeves": SLEEVES, "legwear": LEGWEAR, "wall": WALLS}
_RANGES = {
    "hair_length": (0.0, 1.0),
    "girth": (0.85, 1.25),
    "shoulders": (0.1, 0.125),
    "head": (1.05, 1.3),
    "horizon": (0.6, 0.88),
    "scale": (FULL_BODY[0], HALF_BODY[1]),
    "centre": (0.44, 0.56),
    "ground": (0.9, 1.7),
}


def draw_person(rng: np.random.Generator, whole_body: bool = False) -> Person:
    """A person who is as likely as any other; `whole_body` keeps the camera far enough to see the feet."""
    shirt = _vivid(rng)
    wall_top = _calm(rng)
    scale, ground = _camera(rng, whole_body)
    return Person(
        skin=_near(rng, SKINS[rng.integers(len(SKINS))], 8),
        hair=_near(rng, HAIRS[rng.integers(len(HAIRS))], 12),
        shirt=shirt,
        band=_vivid(rng) if rng.random() < 0.35 else shirt,
        legs=_vivid(rng),
        shoes=_vivid(rng),
        sleeves=str(rng.choice(SLEEVES, p=(0.15, 0.45, 0.4))),
        legwear=str(rng.choice(LEGWEAR, p=(0.6, 0.25, 0.15))),
        hair_length=float(rng.uniform(*_RANGES["hair_length"])),
        girth=float(rng.uniform(*_RANGES["girth"])),
        shoulders=float(rng.uniform(*_RANGES["shoulders"])),
        head=float(rng.uniform(*_RANGES["head"])),
        wall_top=wall_top,
        wall_bottom=_near(rng, wall_top, 40),
        floor=_calm(rng),
        wall=str(rng.choice(WALLS, p=(0.55, 0.15, 0.15, 0.15))),
        wall_mark=_near(rng, wall_top, 50),
        horizon=float(rng.uniform(*_RANGES["horizon"])),
        scale=scale,
        centre=float(rng.uniform(*_RANGES["centre"])),
        ground=ground,
    )


def step_back(person: Person, rng: np.random.Generator) -> Person:
    """The person in the middle of the picture, with room for every motion."""
    return replace(person, scale=float(rng.uniform(*ROOM_TO_MOVE)), centre=0.5)


def _camera(rng: np.random.Generator, whole_body: bool) -> tuple[float, float]:
    if rng.random() < HALF_BODY_SHARE and not whole_body:
        scale = float(rng.uniform(*HALF_BODY))
        return scale, scale + float(rng.uniform(0.08, 0.16))
    return float(rng.uniform(*FULL_BODY)), float(rng.uniform(0.91, 0.97))


def _vivid(rng: np.random.Generator) -> Colour:
    return _from_hsv(rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.3, 0.98))


def _calm(rng: np.random.Generator) -> Colour:
    return _from_hsv(rng.random(), rng.uniform(0.05, 0.45), rng.uniform(0.4, 0.95))


def _near(rng: np.random.Generator, colour: Colour, distance: int) -> Colour:
    moved = np.asarray(colour) + rng.integers(-distance, distance + 1, 3)
    return tuple(int(channel) for channel in np.clip(moved, 0, 255))


def _from_hsv(hue: float, saturation: float, value: float) -> Colour:
    sextant = hue * 6 + np.array([5.0, 3.0, 1.0])
    ramp = np.clip(np.minimum(sextant % 6, 4 - sextant % 6), 0, 1)
    return tuple(int(channel) for channel in np.round(255 * value * (1 - saturation * ramp)))
