"""What makes one face that face: its numbers and colours, drawn from a generator of its own.

    traits_of(random_of(seed, index))

Every number of a face comes from a generator seeded with (seed, index), so a face does not depend
on how many are drawn or in which order. They are asymmetric from left to right on purpose: in most
of them the light comes from the viewer's left, the parting is on the viewer's right with the fringe
swept to the left, the one earring hangs on the right and the mole is on the right. A flip therefore
shows, and so does a crop that is off.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST, LARGEST = 256, 420  # pixels, of each side

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


def random_of(seed: int, index: int) -> np.random.RandomState:
    """The generator of face ``index``: RandomState, whose streams numpy has frozen."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, index))))


def bgr(rgb: int) -> Floats:
    """A colour 0xRRGGBB as B, G, R in 0..1."""
    return np.array([rgb & 255, rgb >> 8 & 255, rgb >> 16]) / 255


SKINS = [bgr(c) for c in (0xF6D7C3, 0xEFC7AC, 0xE6B594, 0xD9A27C, 0xC68A62, 0xA96F4A, 0x875436,
                          0x6B4029)]
HAIRS = [bgr(c) for c in (0x17130F, 0x2A1C14, 0x3F2A1B, 0x5E3D24, 0x86592F, 0xB5854A, 0xD9B877,
                          0x8C3A1C, 0x9A9692, 0xD5D2CC)]
EYES = [bgr(c) for c in (0x3B2412, 0x5A3A1C, 0x6E5A2A, 0x4F7042, 0x4B7FA6, 0x7F9AAB)]
CLOTHES = [bgr(c) for c in (0x24324F, 0x7A1F2B, 0xE4E1DA, 0x2B2B2E, 0x2F6B58, 0xC9A03A, 0x6C4C86,
                            0x4F86B8)]
BACKGROUNDS = [bgr(c) for c in (0x8FA9B8, 0xB9AFA0, 0x4E5B66, 0x9DB08C, 0xC7A58C, 0x6A5566,
                                0xD8D6D0, 0x3D4A45, 0x5C86A8, 0xA86F5B)]


@dataclass(frozen=True)
class Traits:
    """What makes one face this face. Lengths in head units: a frame is about 2.6 of them wide."""

    height: int
    width: int
    frame: float  # the shorter side of the picture
    centre: tuple[float, float]
    roll: float  # radians; the head leans to a shoulder
    yaw: float  # radians; the head turns, positive to the viewer's right
    pitch: float
    light: tuple[float, float, float]  # towards the light; x to the right, y down, z to the viewer
    ambient: float
    skin: Floats
    hair: Floats
    iris: Floats
    cloth: Floats
    back: tuple[Floats, Floats]
    half_width: float
    jaw: float  # how square, 0..1
    chin: float
    eye_size: float
    eye_gap: float
    eye_open: float
    gaze: float
    brow_thick: float
    brow_lift: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lips: float
    smile: float
    mouth_open: float
    lipstick: float
    style: str  # of the hair
    parting: float
    volume: float
    fringe: float
    beard: str
    mole: bool
    earring: bool
    glasses: bool
    freckles: bool
    age: float  # 0..1, how deep the folds are


def _pick(r: np.random.RandomState, choices: Sequence[str], weights: Sequence[float]) -> str:
    return choices[int(np.searchsorted(np.cumsum(weights) / sum(weights), r.uniform()))]


def traits_of(r: np.random.RandomState) -> Traits:
    """Draws the traits of one face."""
    height, width = (int(r.randint(SMALLEST, LARGEST + 1)) for _ in range(2))
    if r.uniform() < 0.4:
        width = height
    else:  # never far from square: a face detector's boxes are not
        width = int(np.clip(width, max(SMALLEST, 0.85 * height), min(LARGEST, 1.15 * height)))
    mixed = r.uniform(0, len(SKINS) - 1.001)
    low = int(mixed)
    skin = SKINS[low] + (SKINS[low + 1] - SKINS[low]) * (mixed - low)
    dark_skin = mixed > 4.2
    hair = HAIRS[r.randint(0, 3 if dark_skin else len(HAIRS))]
    iris = EYES[r.randint(0, 2 if dark_skin else len(EYES))]
    feminine = r.uniform() < 0.5
    style = _pick(r, ["short", "bob", "long", "curly", "cropped", "tied"],
                  [1, 3, 4, 1.5, 0.2, 2] if feminine else [5, 0.4, 0.4, 1.5, 2, 0.2])
    side = -1.0 if r.uniform() < 0.9 else 1.0  # the light: from the viewer's left in most
    hard = r.uniform(0.55, 1.0)
    light = np.array([side * hard, -r.uniform(0.25, 0.7), r.uniform(0.55, 0.85)])
    light /= np.linalg.norm(light)
    back = r.permutation(len(BACKGROUNDS))[:2]
    return Traits(
        height=height, width=width, frame=r.uniform(2.45, 2.75),
        centre=(r.normal(0, 0.03), r.normal(0.06, 0.03)),
        roll=float(np.clip(r.normal(0, 0.09), -0.22, 0.22)),
        yaw=float(np.clip(r.normal(0.06, 0.22), -0.48, 0.48)),
        pitch=float(np.clip(r.normal(0, 0.08), -0.16, 0.16)),
        light=(float(light[0]), float(light[1]), float(light[2])), ambient=r.uniform(0.42, 0.6),
        skin=(skin * (r.uniform(0.94, 1.03) + r.normal(0, 0.012, 3))).clip(0, 1),
        hair=(hair * r.uniform(0.85, 1.15)).clip(0, 1), iris=iris,
        cloth=CLOTHES[r.randint(len(CLOTHES))],
        back=(BACKGROUNDS[back[0]], BACKGROUNDS[back[1]]),
        half_width=r.uniform(0.80, 0.90) - 0.02 * feminine,
        jaw=r.uniform(0.1, 0.45) if feminine else r.uniform(0.4, 0.95),
        chin=r.uniform(1.14, 1.26) + 0.04 * (not feminine),
        eye_size=r.uniform(0.155, 0.185) + 0.012 * feminine, eye_gap=r.uniform(0.345, 0.385),
        eye_open=r.uniform(0.42, 0.60), gaze=r.uniform(-0.25, 0.25),
        brow_thick=r.uniform(0.028, 0.04) if feminine else r.uniform(0.042, 0.062),
        brow_lift=r.uniform(0.0, 0.06), nose_width=r.uniform(0.135, 0.19),
        nose_length=r.uniform(0.39, 0.47), mouth_width=r.uniform(0.25, 0.33),
        lips=r.uniform(0.075, 0.105) if feminine else r.uniform(0.055, 0.085),
        smile=r.uniform(-0.02, 0.085), mouth_open=max(0.0, r.uniform(-0.09, 0.075)),
        lipstick=r.uniform(0.25, 0.8) if feminine else 0.0,
        style=style, parting=(0.36 + r.normal(0, 0.05)) * (1 if r.uniform() < 0.92 else -1),
        volume=r.uniform(0.12, 0.24), fringe=r.uniform(0.0, 1.0),
        beard="none" if feminine else _pick(r, ["none", "stubble", "beard", "moustache"],
                                            [4, 3, 2, 1]),
        mole=r.uniform() < 0.6, earring=r.uniform() < (0.8 if feminine else 0.3),
        glasses=r.uniform() < 0.12, freckles=not dark_skin and r.uniform() < 0.2,
        age=r.beta(1.3, 2.2),
    )
