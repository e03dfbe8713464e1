"""The embedded default data set: drawn portraits of faces, made without a network.

    face(seed, index)  one portrait: height x width x 3, uint8, channels B, G, R
    make(output, ...)  output/faces/0000.bmp ..., output/train_dcgan_map.txt, output/dataset.json

A head is a curved surface (an ellipsoid with bumps for nose, brows, cheeks, lips and chin). Its
features are polygons laid on that surface and turned with it; the light comes from one side and
shades it by the angle between light and surface. Every number of a face comes from a generator
seeded with (seed, index), so a face does not depend on how many are drawn or in which order.

The faces are asymmetric from left to right on purpose. In most of them the light comes from the
viewer's left, the parting is on the viewer's right with the fringe swept to the left, the one
earring hangs on the right and the mole is on the right. A flip therefore shows, and so does a crop
that is off.

    python -m datasets.drawn_faces --output data --count 612 --seed 0
"""
import argparse
import contextlib
import errno
import fcntl
import hashlib
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

GENERATOR_VERSION = 1  # raise it whenever a change here changes a pixel
COUNT = 612  # the article's number of samples
SMALLEST, LARGEST = 256, 420  # pixels, of each side
FACES, MAP_FILE, RECORD = "faces", "train_dcgan_map.txt", "dataset.json"
SHEET_FACES, SHEET_TILE = 60, 160

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


class DatasetError(Exception):
    """What was wrong, where, and how to mend it, in one line."""


# ------------------------------------------------------------------------------- one portrait


def random_of(seed: int, index: int) -> np.random.RandomState:
    """The generator of face ``index``: RandomState, whose streams numpy has frozen."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, index))))


def bgr(rgb: int) -> Floats:
    """A colour 0xRRGGBB as B, G, R in 0..1."""
    return np.array([rgb & 255, rgb >> 8 & 255, rgb >> 16], np.float32) / np.float32(255)


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
    skin = SKINS[low] + (SKINS[low + 1] - SKINS[low]) * np.float32(mixed - low)
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
        skin=(skin * (r.uniform(0.94, 1.03) + r.normal(0, 0.012, 3))).clip(0, 1).astype(np.float32),
        hair=(hair * r.uniform(0.85, 1.15)).clip(0, 1).astype(np.float32), iris=iris,
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


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Painter:
    """A picture, and the head's frame of reference laid into it.

    ``place(u, v, lift)`` puts a point of the face (u to the viewer's right, v down, from between
    the eyes to beside the nose, ``lift`` above the skin) at its pixel, after the head is turned.
    """

    def __init__(self, t: Traits):
        self.t = t
        self.scale = min(t.height, t.width) / t.frame
        self.canvas: Floats = np.zeros((t.height, t.width, 3), np.float32)
        self.middle = (t.width * 0.5 + t.centre[0] * self.scale,
                       t.height * 0.5 - t.centre[1] * self.scale)

    def depth(self, u: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
        """How far towards the viewer the skin is: the ellipsoid of the head."""
        u, v = np.asarray(u, float), np.asarray(v, float)
        inside = 1 - (u / (self.t.half_width * 1.12)) ** 2 - ((v - 0.05) / 1.6) ** 2
        return 0.95 * np.sqrt(np.maximum(inside, 0.0))

    def place(self, points: ArrayLike, lift: float = 0.0, flat: bool = False
              ) -> NDArray[np.float64]:
        """Face points (n, 2) to pixels (n, 2). ``flat``: at depth 0, like the outline."""
        u, v = np.asarray(points, float).reshape(-1, 2).T
        z = lift + (0.0 if flat else self.depth(u, v))
        t = self.t
        x = u * math.cos(t.yaw) + z * math.sin(t.yaw) - 0.42 * math.sin(t.yaw)
        y = v * math.cos(t.pitch) + z * math.sin(t.pitch) - 0.42 * math.sin(t.pitch)
        if flat:
            x = u * (0.5 + 0.5 * math.cos(t.yaw))
            y = v * (0.5 + 0.5 * math.cos(t.pitch))
        c, s = math.cos(t.roll), math.sin(t.roll)
        return np.stack([self.middle[0] + self.scale * (c * x - s * y),
                         self.middle[1] + self.scale * (s * x + c * y)], 1)

    def grid(self, step: int = 1) -> tuple[Floats, Floats]:
        """(x, y) of every step-th pixel's centre in head units, the lean undone."""
        t = self.t
        x = ((np.arange(0, t.width, step, dtype=np.float32) + 0.5 * (step - 1) - self.middle[0])
             / self.scale)[None]
        y = ((np.arange(0, t.height, step, dtype=np.float32) + 0.5 * (step - 1) - self.middle[1])
             / self.scale)[:, None]
        c, s = np.float32(math.cos(t.roll)), np.float32(math.sin(t.roll))
        return c * x + s * y, c * y - s * x

    def mask(self, pixels: NDArray[np.float64], blur: float = 0.0) -> Floats:
        """A filled polygon of pixels as coverage 0..1; blurred by ``blur`` head units."""
        mask = np.zeros(self.canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
        if blur:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), blur * self.scale))
        return mask.astype(np.float32) / np.float32(255)

    def blend(self, mask: Floats, colour: Floats) -> None:
        """Lays a colour, or a whole picture, over the canvas where mask is 1."""
        self.canvas += mask[..., None] * (colour - self.canvas)

    def paint(self, pixels: NDArray[np.float64], colour: Floats, opacity: float = 1.0,
              blur: float = 0.0, within: Floats | None = None) -> None:
        """Lays a polygon of one colour over the canvas; works only on the box it covers."""
        sigma = blur * self.scale
        margin = int(3 * sigma) + 2
        low = np.maximum(np.floor(pixels.min(0)).astype(int) - margin, 0)
        high = np.minimum(np.ceil(pixels.max(0)).astype(int) + margin + 1,
                          (self.t.width, self.t.height))
        if (high <= low).any():
            return
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(mask, [np.round((pixels - low) * 16).astype(np.int32)], (255,),
                     cv2.LINE_AA, 4)
        if sigma:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma))
        cover = mask[..., None].astype(np.float32) * np.float32(opacity / 255)
        box = slice(low[1], high[1]), slice(low[0], high[0])
        if within is not None:
            cover *= within[box][..., None]
        self.canvas[box] += cover * (colour - self.canvas[box])

    def stroke(self, points: ArrayLike, widths: ArrayLike, colour: Floats, opacity: float = 1.0,
               blur: float = 0.0, lift: float = 0.0, within: Floats | None = None) -> None:
        """A line on the face whose width (head units) changes along it."""
        self.paint(self.place(ribbon(points, widths), lift), colour, opacity, blur, within)


def curve(points: ArrayLike, n: int = 40, closed: bool = False) -> NDArray[np.float64]:
    """n points on the Catmull-Rom spline through the given ones."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [2 * p[:1] - p[1:2], p,
                                                          2 * p[-1:] - p[-2:-1]])
    spans = len(p) - 3
    at = np.linspace(0, spans, n, endpoint=not closed)
    i = np.minimum(at.astype(int), spans - 1)
    f = (at - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2
                  + (3 * b - a - 3 * c + d) * f**3)


def ribbon(points: ArrayLike, widths: ArrayLike) -> NDArray[np.float64]:
    """The outline of a line of changing width."""
    line = curve(points)
    given = np.atleast_1d(np.asarray(widths, float))
    width = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(given)), given)
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    half = 0.5 * width[:, None] * across
    return np.concatenate([line + half, (line - half)[::-1]])


def ellipse(u: float, v: float, a: float, b: float, angle: float = 0.0) -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = a * np.cos(t), b * np.sin(t)
    c, s = math.cos(angle), math.sin(angle)
    return np.stack([u + c * x - s * y, v + s * x + c * y], 1)


def soft_noise(r: np.random.RandomState, height: int, width: int, cells: int) -> Floats:
    """Smooth noise of about unit size with ``cells`` waves across the picture."""
    small = r.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def outline(t: Traits) -> NDArray[np.float64]:
    """The outline of face and skull, seen from the front."""
    a = t.half_width
    skull = curve([(0.0, -1.42), (0.48 * a, -1.33), (0.86 * a, -1.0), (0.99 * a, -0.5), (a, -0.1),
                   (0.985 * a, 0.1)], 40)
    turn = np.linspace(0, np.pi / 2, 40)[1:]  # cheek to chin: squarer where the jaw is
    across = np.maximum(np.cos(turn), 0) ** (1.0 - 0.22 * t.jaw) * (1 - 0.12 * np.sin(turn))
    cheek = np.stack([0.985 * a * across, 0.1 + (t.chin - 0.1) * np.sin(turn)], 1)
    right = np.concatenate([skull, cheek])
    return np.concatenate([right, right[-2:0:-1] * [-1, 1]])


def draw(t: Traits, r: np.random.RandomState) -> Image:
    """Paints the face of these traits; ``r`` gives the grain, the strands and the freckles."""
    p = Painter(t)
    _background(p, r)
    x, y = p.grid()
    contour = outline(t)
    contour_px = p.place(contour, flat=True)
    strands = _strands(p, r, x, y)
    shadow = t.skin * np.array([0.42, 0.42, 0.52], np.float32)

    _hair_behind(p, strands)
    _neck_and_clothes(p, shadow)
    _ears(p, shadow)

    # The skin, then what lies on it, then the light over all of it.
    face = p.mask(contour_px)
    tone = 1 + 0.018 * soft_noise(r, t.height, t.width, 9) + 0.012 * soft_noise(
        r, t.height, t.width, 40)
    skin = t.skin * tone[..., None]
    p.blend(face, skin)
    _complexion(p, r, shadow, face)
    _eyes(p, shadow, face)
    _nose(p, shadow, face)
    _mouth(p, shadow, face)
    if t.beard != "none":
        _beard(p, r, face)
    _brows(p, face)
    _shade(p, face)
    for sign in (-1, 1):  # the lamp in the eyes, on the light's side of each pupil
        u = sign * t.eye_gap + t.gaze * 0.06 + 0.026 * math.copysign(1, t.light[0])
        p.paint(p.place(ellipse(u, -0.145, 0.015, 0.017), 0.04), bgr(0xFFFFFF), 0.95, 0.004)
    if t.glasses:
        _glasses(p)
    _hair_in_front(p, strands, face)
    if t.earring:
        _earring(p)

    picture = p.canvas
    # A lens: a little darker to the corners, a little soft, a little grain.
    picture *= (1.02 - 0.10 * smoothstep(0.8, 2.2, np.hypot(x, y)))[..., None]
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.0022 * t.height))
    picture += r.normal(0, 0.006, (t.height, t.width, 1)).astype(np.float32)
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), np.uint8)


def _background(p: Painter, r: np.random.RandomState) -> None:
    t = p.t
    first, second = t.back
    across = np.linspace(0, 1, t.width, dtype=np.float32)[None, :, None]
    down = np.linspace(0, 1, t.height, dtype=np.float32)[:, None, None]
    mix = 0.5 * down + 0.5 * (across if t.light[0] < 0 else 1 - across)
    blobs = soft_noise(r, t.height, t.width, 3)[..., None]
    p.canvas = first + (second * 0.75 - first) * np.clip(mix + 0.15 * blobs, 0, 1)
    bright = (1 - across) if t.light[0] < 0 else across
    p.canvas = (p.canvas * (0.72 + 0.42 * bright)).astype(np.float32)


def _strands(p: Painter, r: np.random.RandomState, x: Floats, y: Floats) -> Floats:
    """The hair's own picture: strands that run out from the parting, lit from the light's side."""
    t = p.t
    top = (t.parting * 0.9, -1.25)
    dx, dy = x - top[0], y - top[1]
    radius = np.hypot(dx, dy)
    # Away from the parting strands fall: below the temples their angle no longer changes with y.
    angle = np.arctan2(dx, np.maximum(dy, -0.2) + 0.55)
    waves = 0.05 * np.sin(radius * r.uniform(3, 6) + r.uniform(0, 6)) * (
        2.2 if t.style == "curly" else 1.0)
    position = (angle + waves) * 38
    table = r.standard_normal(400).astype(np.float32)
    fine = np.interp(position.ravel() * 2.2 + 200, np.arange(400), table)
    coarse = np.interp(position.ravel() * 0.45 + 200, np.arange(400), table)
    fine, coarse = (a.astype(np.float32).reshape(x.shape) for a in (fine, coarse))
    lit = 0.78 + 0.30 * np.clip(t.light[0] * x / 0.9 - t.light[1] * (-y) / 1.4, -0.9, 1.2)
    shine = np.exp(-((radius - 0.62 - 0.06 * coarse) / 0.16) ** 2) * np.clip(
        0.5 + 0.8 * math.copysign(1, t.light[0]) * x, 0, 1)
    value = lit * (1 + 0.13 * fine + 0.13 * coarse)
    if t.style == "curly":
        curls = soft_noise(r, t.height, t.width, 30) + 0.6 * soft_noise(r, t.height, t.width, 55)
        value = lit * (1 + 0.26 * np.tanh(curls))
        shine = shine * 0.3
    picture = t.hair * value[..., None]
    gloss = 0.10 + 0.25 * t.hair
    return (picture + gloss * (shine * (0.7 + 0.3 * fine))[..., None]).astype(np.float32)


def _hair_behind(p: Painter, strands: Floats) -> None:
    t = p.t
    a = t.half_width + t.volume
    if t.style not in ("long", "bob", "curly", "tied"):
        return
    if t.style == "tied":
        knot = ellipse(-0.35, -1.5, 0.42, 0.36)
        p.blend(p.mask(p.place(knot, flat=True), 0.01), strands * np.float32(0.8))
        return
    if t.style == "curly":
        ring = curve([(0, -1.62 - t.volume), (0.7, -1.45 - t.volume), (a + 0.18, -0.8),
                      (a + 0.24, -0.1), (a + 0.12, 0.45), (0.5, 0.7), (-0.5, 0.7),
                      (-a - 0.12, 0.45), (-a - 0.24, -0.1), (-a - 0.18, -0.8),
                      (-0.7, -1.45 - t.volume)], 160, closed=True)
        wobble = 1 + 0.018 * np.sin(np.arange(160) * 0.9) + 0.014 * np.sin(np.arange(160) * 1.7)
        ring = ring * wobble[:, None]
    else:
        end = 2.2 if t.style == "long" else 1.0 + 0.2 * t.fringe
        flare = 0.10 if t.style == "long" else 0.16
        ring = curve([(0, -1.5 - t.volume), (0.62, -1.36 - t.volume), (a + 0.02, -0.85),
                      (a + 0.06, -0.1), (a + flare, 0.55), (a + flare - 0.02, end),
                      (0.45, end + 0.05), (-0.45, end + 0.05), (-a - flare + 0.02, end + 0.06),
                      (-a - flare, 0.55), (-a - 0.06, -0.1), (-a - 0.02, -0.85),
                      (-0.62, -1.36 - t.volume)], 160, closed=True)
    p.blend(p.mask(p.place(ring, flat=True), 0.012), strands * np.float32(0.72))


def _neck_and_clothes(p: Painter, shadow: Floats) -> None:
    t = p.t
    wide = 0.50 + 0.10 * t.jaw
    neck = curve([(-wide, 0.5), (-wide + 0.02, 1.2), (-wide - 0.12, 1.75), (-1.4, 2.3),
                  (1.4, 2.3), (wide + 0.12, 1.75), (wide - 0.02, 1.2), (wide, 0.5)], 80,
                 closed=True)
    side = np.float32(0.92 if t.light[0] < 0 else 0.8)
    skin = p.mask(p.place(neck, flat=True), 0.008)
    p.blend(skin, t.skin * side * np.float32(0.86))
    far = -math.copysign(1, t.light[0])  # the far side of the neck, and the shadow under the chin
    p.paint(p.place([(far * wide * 1.3, 0.5), (far * wide * 1.6, 2.2), (far * 0.1, 2.2),
                     (far * 0.1, 0.5)], flat=True), shadow, 0.6, 0.09, skin)
    p.paint(p.place(ellipse(far * 0.12, t.chin - 0.02, 0.62, 0.30), flat=True), shadow, 0.85, 0.07,
            skin)
    shirt = curve([(-3, 1.95), (-1.35, 1.62), (-0.72, 1.46), (-0.38, 1.72), (0, 1.84),
                   (0.38, 1.72), (0.72, 1.46), (1.35, 1.62), (3, 1.95), (3, 3), (-3, 3)], 120,
                  closed=True)
    p.blend(p.mask(p.place(shirt, flat=True), 0.006), t.cloth * np.float32(0.85))


def _ears(p: Painter, shadow: Floats) -> None:
    t = p.t
    for sign in (-1, 1):
        seen = 1.0 - 1.6 * sign * math.sin(t.yaw)  # the ear turned away goes behind the cheek
        size = float(np.clip(seen, 0.35, 1.15))
        u = sign * (t.half_width - 0.01 + 0.05 * size)
        lit = np.float32(0.95 if sign * t.light[0] > 0 else 0.66)
        ear = curve([(u - sign * 0.10, -0.22), (u + sign * 0.02 * size, -0.30),
                     (u + sign * 0.10 * size, -0.2), (u + sign * 0.09 * size, 0.02),
                     (u + sign * 0.03 * size, 0.20), (u - sign * 0.04, 0.30),
                     (u - sign * 0.10, 0.2)], 50, closed=True)
        red = np.array([0.86, 0.88, 1.0], np.float32)
        p.paint(p.place(ear, flat=True), t.skin * red * lit, 1.0, 0.006)
        p.paint(p.place(ellipse(u + sign * 0.015, -0.04, 0.035 * size, 0.13), flat=True), shadow,
                0.5, 0.02)


def _complexion(p: Painter, r: np.random.RandomState, shadow: Floats, face: Floats) -> None:
    t = p.t
    flush = t.skin * np.array([0.80, 0.80, 1.04], np.float32)
    for sign in (-1, 1):
        p.paint(p.place(ellipse(sign * 0.46, 0.33, 0.2, 0.16)), flush, 0.55, 0.1, face)
        # folds: nose to mouth, and under the eyes
        fold = [(sign * (t.nose_width + 0.03), 0.36), (sign * (t.nose_width + 0.10), 0.5),
                (sign * (t.mouth_width + 0.07), 0.68)]
        p.stroke(fold, [0.02, 0.035, 0.0], shadow, 0.12 + 0.5 * t.age * (1 + 3 * t.smile), 0.014,
                 within=face)
        bag = [(sign * (t.eye_gap - 0.14), 0.0), (sign * t.eye_gap, 0.055),
               (sign * (t.eye_gap + 0.15), 0.01)]
        p.stroke(bag, [0.0, 0.025, 0.0], shadow, 0.12 + 0.35 * t.age, 0.014, within=face)
    p.paint(p.place(ellipse(0, 0.38, 0.14, 0.10), 0.2), flush, 0.5, 0.06, face)
    if t.age > 0.5:
        for v in (-0.62, -0.72):
            p.stroke([(-0.38, v + 0.02), (0, v), (0.4, v + 0.025)], [0, 0.022, 0], shadow,
                     0.5 * (t.age - 0.4), 0.01, within=face)
    if t.freckles:
        for _ in range(70):
            u, v = r.normal(0, 0.33), r.normal(0.24, 0.11)
            p.paint(p.place(ellipse(u, v, 0.011, 0.011)), t.skin * np.float32(0.7), 0.55, 0.004,
                    face)
    if t.mole:
        p.paint(p.place(ellipse(0.34, 0.52, 0.024, 0.022)), shadow * np.float32(0.5), 0.95, 0.006,
                face)


def _eyes(p: Painter, shadow: Floats, face: Floats) -> None:
    t = p.t
    white, dark = bgr(0xEFEAE4), t.skin * np.float32(0.16) + np.float32(0.02)
    for sign in (-1, 1):
        u, v, a, b = sign * t.eye_gap, -0.12, t.eye_size, t.eye_size * t.eye_open
        p.paint(p.place(ellipse(u, v - 0.02, a * 1.25, b * 1.9)), shadow, 0.34, 0.05, face)
        inner, outer = (u - sign * a, v + 0.018), (u + sign * a, v - 0.008)
        upper = [inner, (u - sign * 0.55 * a, v - 0.78 * b), (u, v - 1.05 * b),
                 (u + sign * 0.6 * a, v - 0.78 * b), outer]
        lower = [outer, (u + sign * 0.5 * a, v + 0.62 * b), (u - sign * 0.1 * a, v + 0.74 * b),
                 (u - sign * 0.6 * a, v + 0.5 * b), inner]
        lid = np.concatenate([curve(upper), curve(lower)[1:]])
        eye_px = p.place(lid, 0.03)
        opening = p.mask(eye_px, 0.003)
        p.paint(eye_px, white, 1.0, 0.004, face)
        centre = u + t.gaze * 0.06
        radius = 0.085
        p.paint(p.place(ellipse(centre, v - 0.012, radius, radius), 0.03), t.iris * 0.45, 1.0,
                0.005, opening)
        p.paint(p.place(ellipse(centre, v - 0.01, radius * 0.86, radius * 0.86), 0.03), t.iris, 1.0,
                0.008, opening)
        p.paint(p.place(ellipse(centre, v + 0.018, radius * 0.6, radius * 0.45), 0.03),
                np.clip(t.iris * 1.7, 0, 1).astype(np.float32), 0.55, 0.014, opening)
        p.paint(p.place(ellipse(centre, v - 0.012, 0.037, 0.037), 0.03), bgr(0x080606), 1.0, 0.004,
                opening)
        p.stroke([(q[0], q[1] + 0.03) for q in upper], [0.02, 0.05, 0.03], shadow * 0.6, 0.6, 0.012,
                 0.03, opening)
        # lids: the lash line, the crease above it, the wet rim below
        lash = [*upper[:-1], (outer[0] + sign * 0.02, outer[1] - 0.012)]
        p.stroke(lash, [0.008, 0.026, 0.03, 0.014], dark, 0.9, 0.004, 0.03, face)
        p.stroke([(q[0], q[1] - 0.045) for q in upper], [0.0, 0.016, 0.018, 0.0], shadow * 0.7, 0.7,
                 0.006, 0.03, face)
        p.stroke(lower, [0.012, 0.012, 0.006], shadow * 0.7, 0.6, 0.005, 0.03, face)
        p.paint(p.place(ellipse(inner[0], inner[1], 0.016, 0.012), 0.03), bgr(0xC77C72), 0.8, 0.005,
                face)


def _brows(p: Painter, face: Floats) -> None:
    t = p.t
    colour = (t.hair * 0.55 + t.skin * 0.10).astype(np.float32)
    for sign in (-1, 1):
        u, v = sign * t.eye_gap, -0.35 - t.brow_lift - (0.012 if sign > 0 else 0)
        line = [(u - sign * 0.20, v + 0.035), (u - sign * 0.05, v - 0.012),
                (u + sign * 0.10, v - 0.03), (u + sign * 0.235, v + 0.035)]
        p.stroke(line, np.array([1.5, 1.9, 1.5, 0.3]) * t.brow_thick, colour, 0.88, 0.012, 0.05,
                 face)


def _nose(p: Painter, shadow: Floats, face: Floats) -> None:
    t = p.t
    w, v = t.nose_width, t.nose_length
    far = -math.copysign(1, t.light[0])
    # the bridge's shaded side, the wings, the nostrils, the shadow under the tip
    p.stroke([(far * 0.10, -0.22), (far * 0.085, 0.05), (far * 0.13, v - 0.08)],
             [0.05, 0.06, 0.10], shadow, 0.40, 0.03, 0.10, face)
    p.paint(p.place(ellipse(far * 0.03, v + 0.045, w * 0.95, 0.04), 0.12), shadow, 0.55, 0.025,
            face)
    for sign in (-1, 1):
        p.stroke([(sign * (w - 0.005), v - 0.10), (sign * (w + 0.012), v - 0.02),
                  (sign * (w - 0.04), v + 0.035)], [0.008, 0.022, 0.012], shadow * 0.8, 0.55, 0.008,
                 0.12, face)
        p.paint(p.place(ellipse(sign * w * 0.50, v + 0.012, 0.042, 0.02, sign * -0.25), 0.16),
                shadow * 0.35, 0.85, 0.010, face)


def _mouth(p: Painter, shadow: Floats, face: Floats) -> None:
    t = p.t
    m, v, s, h, gap = t.mouth_width, 0.73, t.smile, t.lips, t.mouth_open
    rose = np.array([0.70, 0.64, 0.90], np.float32)
    lip = (t.skin * rose * (1 - 0.4 * t.lipstick) + 0.4 * t.lipstick * bgr(0xB23A48)
           ).astype(np.float32)
    left, right = (-m, v - s), (m, v - s - 0.012)  # the corners: one a little higher
    line = [left, (-0.45 * m, v + 0.1 * s), (0, v + 0.012 + 0.3 * s), (0.45 * m, v + 0.1 * s),
            right]
    top = [left, (-0.5 * m, v - 0.75 * h), (-0.16 * m, v - h), (0, v - 0.82 * h),
           (0.16 * m, v - h), (0.5 * m, v - 0.75 * h), right]
    bottom_line = [(q[0], q[1] + gap * (1 - (q[0] / m) ** 2)) for q in line]
    bottom = [left, (-0.55 * m, v + gap + 0.75 * h + 0.5 * s), (0, v + gap + 1.2 * h + 0.6 * s),
              (0.55 * m, v + gap + 0.75 * h + 0.5 * s), right]
    p.stroke([(-0.16, v + 1.6 * h + 0.07 + gap), (0, v + 1.75 * h + 0.08 + gap),
              (0.16, v + 1.6 * h + 0.07 + gap)], [0.03, 0.06, 0.03], shadow, 0.4, 0.03, 0.05, face)
    if gap > 0.01:
        inside = np.concatenate([curve(line), curve(bottom_line)[::-1]])
        p.paint(p.place(inside, 0.06), bgr(0x3A1416), 1.0, 0.005, face)
        cavity = p.mask(p.place(inside, 0.06), 0.003)
        teeth = [(-0.8 * m, v - 0.05), (0.8 * m, v - 0.05), (0.62 * m, v + 0.62 * gap + 0.25 * s),
                 (0, v + 0.74 * gap + 0.3 * s), (-0.62 * m, v + 0.62 * gap + 0.25 * s)]
        p.paint(p.place(teeth, 0.06), bgr(0xEDE6DA), 0.95, 0.006, cavity * face)
    upper = np.concatenate([curve(top), curve(line)[::-1]])
    under = np.concatenate([curve(bottom_line), curve(bottom)[::-1]])
    p.paint(p.place(upper, 0.07), lip * np.float32(0.82), 0.92, 0.008, face)
    p.paint(p.place(under, 0.07), lip, 0.92, 0.009, face)
    gloss = np.clip(lip * 1.25 + 0.08, 0, 1).astype(np.float32)
    lit = math.copysign(0.25 * m, t.light[0])
    p.paint(p.place(ellipse(lit, v + gap + 0.55 * h + 0.4 * s, 0.32 * m, 0.018), 0.08), gloss, 0.6,
            0.014, face)
    dark = shadow * np.float32(0.35)
    p.stroke(line, [0.008, 0.02, 0.026, 0.02, 0.008], dark, 0.8, 0.006, 0.07, face)
    for sign, corner in ((-1, left), (1, right)):
        p.paint(p.place(ellipse(corner[0] + sign * 0.008, corner[1], 0.022, 0.018), 0.04), dark,
                0.5, 0.012, face)


def _beard(p: Painter, r: np.random.RandomState, face: Floats) -> None:
    t = p.t
    colour = (t.hair * 0.6 + t.skin * 0.12).astype(np.float32)
    a = t.half_width
    hairs = 1 + 0.22 * r.standard_normal((t.height, t.width)).astype(np.float32)
    hairs = np.asarray(cv2.GaussianBlur(hairs, (0, 0), 0.006 * p.scale)) * np.float32(1)
    under = p.mask(p.place(ellipse(0, 0.76, t.mouth_width + 0.02, t.lips * 1.25 + t.mouth_open),
                           0.06), 0.02)
    tache = p.mask(p.place(ribbon([(-t.mouth_width - 0.04, 0.70), (-0.12, 0.59), (0, 0.605),
                                   (0.12, 0.59), (t.mouth_width + 0.04, 0.70)],
                                  [0.03, 0.09, 0.06, 0.09, 0.03]), 0.06), 0.012)
    if t.beard == "moustache":
        cover = 0.85 * tache * hairs
    else:
        full = curve([(-a * 1.02, 0.05), (-a * 0.86, 0.45), (-0.44, 0.60), (-0.2, 0.56), (0, 0.58),
                      (0.2, 0.56), (0.44, 0.60), (a * 0.86, 0.45), (a * 1.02, 0.05), (a * 1.1, 0.9),
                      (0.5, 1.5), (-0.5, 1.5), (-a * 1.1, 0.9)], 120, closed=True)
        strength = 0.36 if t.beard == "stubble" else 0.82
        area = p.mask(p.place(full), 0.05 if t.beard == "stubble" else 0.028)
        cover = strength * np.maximum(area, tache) * hairs * (1 - under)
    p.blend((np.clip(cover, 0, 1) * face).astype(np.float32), colour)


def _shade(p: Painter, face: Floats) -> None:
    """Lambert's law on the head's surface, at half size: brightness = ambient + n . l"""
    t = p.t
    x, y = p.grid(2)

    def bump(u: float, v: float, size: float, a: float, b: float, lift: float = 0.0) -> Floats:
        px = p.place([(u, v)], lift)[0] - p.middle
        c, s = math.cos(t.roll), math.sin(t.roll)
        cx, cy = (c * px[0] + s * px[1]) / p.scale, (c * px[1] - s * px[0]) / p.scale
        return np.float32(size) * np.exp(-(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2) * 0.5)

    shift = 0.25 * math.sin(t.yaw)
    inside = 1 - ((x - shift) / (t.half_width * 1.14)) ** 2 - (y / 1.62) ** 2
    z = 0.85 * np.sqrt(np.maximum(inside, 0.03))
    w, tip = t.nose_width, t.nose_length
    for v, size, a in ((-0.16, 0.05, 0.07), (0.0, 0.09, 0.075), (0.14, 0.13, 0.085),
                       (tip - 0.14, 0.12, 0.10)):
        z = z + bump(0, v, size, a, 0.10, 0.1)
    z = z + bump(0, tip - 0.05, 0.15, 0.105, 0.085, 0.2)
    for sign in (-1, 1):
        z = z + bump(sign * w * 0.85, tip - 0.02, 0.06, 0.055, 0.06, 0.1)
        z = z + bump(sign * t.eye_gap, -0.14, -0.12, 0.19, 0.11)
        z = z + bump(sign * t.eye_gap, -0.12, 0.07, 0.11, 0.075, 0.03)
        z = z + bump(sign * 0.36, -0.38, 0.05, 0.24, 0.07, 0.03)
        z = z + bump(sign * 0.52, 0.26, 0.09, 0.20, 0.18)
    z = z + bump(0, 0.73, 0.07, 0.2, 0.12, 0.03) + bump(0, 0.95, -0.03, 0.16, 0.05)
    z = z + bump(0, t.chin - 0.12, 0.07, 0.17, 0.12)
    z = z + bump(0, 0.57, -0.015, 0.03, 0.06, 0.05)

    z = z.astype(np.float32)
    step = np.float32(2 / p.scale)
    gx = np.asarray(cv2.Sobel(z, cv2.CV_32F, 1, 0, scale=1 / 8)) / step
    gy = np.asarray(cv2.Sobel(z, cv2.CV_32F, 0, 1, scale=1 / 8)) / step
    length = np.sqrt(1 + gx * gx + gy * gy)
    lx, ly, lz = t.light
    toward = (-gx * lx - gy * ly + lz) / length
    diffuse = np.maximum(toward, 0) * 0.9 + 0.1 * toward
    hx, hy, hz = lx, ly, lz + 1
    norm = math.sqrt(hx * hx + hy * hy + hz * hz)
    half = np.maximum((-gx * hx - gy * hy + hz) / length / norm, 0)
    shine = 0.17 * half ** 22
    bright = t.ambient + (1.16 - t.ambient) * diffuse

    def full(small: Floats) -> Floats:
        return np.asarray(cv2.resize(small.astype(np.float32), (t.width, t.height),
                                     interpolation=cv2.INTER_LINEAR))

    # Light scattered in skin is red: shadows fall off later in red than in blue.
    value = np.clip(bright, 0.12, 1.3)[..., None]
    lit = p.canvas * full(value ** np.array([1.18, 1.08, 0.86], np.float32))
    lit += full(shine)[..., None] * np.array([0.85, 0.93, 1.0], np.float32)
    p.canvas += face[..., None] * (lit - p.canvas)


def _glasses(p: Painter) -> None:
    t = p.t
    frame = bgr(0x231A18)
    for sign in (-1, 1):
        u = sign * (t.eye_gap + 0.015)
        rim = ellipse(u, -0.10, 0.255, 0.20)
        outer, inner = p.mask(p.place(rim, 0.12), 0.003), p.mask(
            p.place(ellipse(u, -0.10, 0.228, 0.172), 0.12), 0.003)
        p.blend(np.clip(outer - inner, 0, 1), frame)
        p.blend(inner * np.float32(0.07), bgr(0xDDEBFF))
        p.stroke([(sign * (t.eye_gap + 0.26), -0.14), (sign * t.half_width * 0.98, -0.16)],
                 [0.032, 0.03], frame, 1.0, 0.003, 0.05)
    p.stroke([(-0.125, -0.14), (0, -0.175), (0.125, -0.14)], [0.03, 0.026, 0.03], frame, 1.0, 0.003,
             0.14)


def _hair_in_front(p: Painter, strands: Floats, face: Floats) -> None:
    t = p.t
    a, top = t.half_width, 1.46 + t.volume
    side = 1.0 if t.parting > 0 else -1.0  # the parting's side; the fringe goes to the other
    part = abs(t.parting)
    if t.style == "cropped":
        low, thick = 0.0, 0.02
    elif t.style == "short":
        low, thick = -0.02, 0.07 + 0.2 * t.volume
    elif t.style == "tied":
        low, thick = 0.05, 0.05
    elif t.style == "curly":
        low, thick = 0.25, 0.16
    else:
        low, thick = (1.6 if t.style == "long" else 0.95), 0.07 + 0.4 * t.volume
    top = min(top, 1.45 + thick + 0.4 * t.volume)
    w = a + thick
    sweep = -0.80 + 0.36 * t.fringe if t.style not in ("cropped", "tied") else -0.86
    long = t.style in ("long", "bob")
    # All in the parting's own frame: +u is the parting's side.
    over = [(w - 0.02, low), (w + 0.01, -0.4), (0.93 * w, -0.95), (0.52 * w, -1.1 * top / 1.2),
            (0.1, -top), (-0.45 * w, -1.15 * top / 1.2), (-0.92 * w, -0.98), (-w - 0.015, -0.4),
            (-w, low + 0.05)]
    inner = 0.86 if long else 0.955
    line = [(-a * inner, low + 0.05), (-a * (inner - 0.02), -0.1 if long else -0.22),
            (-0.90 * a, sweep + 0.30), (-0.62 * a, sweep + 0.10), (-0.25 * a, sweep - 0.04),
            (0.5 * part, -0.90), (part, -1.0), (part + 0.12, -0.93), (0.80 * a, -0.66),
            (0.90 * a, -0.38), (a * (inner + 0.01), -0.1 if long else -0.2), (a * inner, low)]
    if t.style == "cropped":
        line = [(-a * 0.97, low), (-a * 0.93, -0.3), (-0.80 * a, -0.62), (-0.62 * a, -0.78),
                (0, -0.86), (0.5 * a, -0.84), (0.74 * a, -0.72), (0.82 * a, -0.5), (0.95 * a, -0.3),
                (a * 0.98, low)]
    shape = np.concatenate([curve(over, 90), curve(line, 90)])
    shape[:, 0] *= side
    # Half of the turn: hair lies above the skin near the forehead and beside it at the temples.
    flat, turned = p.place(shape, flat=True), p.place(shape, 0.06)
    near = np.clip(1 - (np.abs(shape[:, :1]) / a) ** 3, 0, 1) * np.clip(
        (shape[:, 1:] + 1.25) / 0.4, 0, 1)
    pixels = flat + near * (turned - flat)
    cast = p.mask(pixels + np.array([-t.light[0], 0.8]) * 0.05 * p.scale, 0.035)
    p.canvas *= (1 - 0.42 * cast * face)[..., None]
    if t.style == "curly":
        pixels = pixels + 0.018 * p.scale * np.stack(
            [np.sin(np.arange(len(pixels)) * 1.3), np.cos(np.arange(len(pixels)) * 1.1)], 1)
    cover = p.mask(pixels, 0.02 if t.style == "cropped" else 0.008)
    if t.style == "cropped":
        cover = cover * np.float32(0.85)
    p.blend(cover, strands)
    if t.style not in ("cropped", "curly"):
        # the parting: a thin line of scalp, and the dark edge of the fringe beside it
        scalp = p.place(np.array([(part, -1.0), (part - 0.02, -1.2), (part - 0.08, -1.4)])
                        * [side, 1], flat=True)
        turned = p.place([(side * part, -1.0)], 0.06)
        scalp[0] = 0.5 * (scalp[0] + turned[0])
        p.paint(ribbon(scalp, np.array([0.035, 0.02, 0.0]) * p.scale), t.skin * np.float32(0.7),
                0.8, 0.008)
        edge = curve([(part, -1.0), (0.5 * part, -0.90), (-0.25 * a, sweep - 0.04),
                      (-0.62 * a, sweep + 0.10), (-0.90 * a, sweep + 0.30)])
        edge[:, 0] *= side
        p.stroke(edge, [0.0, 0.03, 0.03, 0.0], t.hair * np.float32(0.45), 0.5, 0.012, 0.06)


def _earring(p: Painter) -> None:
    t = p.t
    gold = bgr(0xE8C35A)
    seen = float(np.clip(1.0 - 1.6 * math.sin(t.yaw), 0.35, 1.15))
    u = t.half_width + 0.02 + 0.03 * seen
    p.paint(p.place(ellipse(u, 0.36, 0.055, 0.075), flat=True), gold * np.float32(0.55), 1.0, 0.004)
    p.paint(p.place(ellipse(u, 0.355, 0.046, 0.064), flat=True), gold, 1.0, 0.006)
    p.paint(p.place(ellipse(u - 0.012, 0.335, 0.014, 0.02), flat=True), bgr(0xFFFBEA), 0.9, 0.006)


def face(seed: int, index: int) -> Image:
    """Portrait ``index`` of the data set of ``seed``: h x w x 3, uint8, B, G, R."""
    r = random_of(seed, index)
    return draw(traits_of(r), r)


# ------------------------------------------------------------------------------- the data set


def map_entry(path: Path, map_file: Path) -> str:
    """How the map file names an image: by its absolute path.

    CNTK's reader looks a relative path up from the working directory, not from the map file.
    """
    del map_file
    return str(path.resolve())


def file_names(count: int) -> list[str]:
    return [f"{i:04d}.bmp" for i in range(count)]


def combined_hash(hashes: Sequence[str]) -> str:
    """What ``sha256sum *.bmp | sha256sum`` prints in the folder of the images."""
    lines = (f"{h}  {name}\n" for h, name in zip(hashes, file_names(len(hashes)), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Writes a whole file under a temporary name, then renames it."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_face(folder: Path, seed: int, index: int) -> str:
    """Draws portrait ``index`` into ``folder`` as BMP; returns the file's sha256."""
    done, encoded = cv2.imencode(".bmp", face(seed, index))
    if not done:
        raise DatasetError(f"OpenCV could not encode face {index} as BMP: reinstall "
                           "opencv-python-headless")
    content = encoded.tobytes()
    (folder / f"{index:04d}.bmp").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the pool


def _draw_all(folder: Path, count: int, seed: int, workers: int, quiet: bool) -> list[str]:
    job = partial(write_face, folder, seed)
    bar = partial(tqdm, total=count, desc="drawing faces", unit="face", file=sys.stderr,
                  disable=quiet)
    if workers == 1 or count < 32:
        return list(bar(map(job, range(count))))
    # Spawned, not forked: a fork of a process with threads (torch's, OpenCV's) can hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"),
                               initializer=_start_worker)
    try:
        return list(bar(pool.map(job, range(count), chunksize=8)))
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Lets one run at a time into the folder; the lock ends with the process, however it ends."""
    descriptor = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run is writing {output}; waiting for it", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _record(count: int, seed: int, hashes: Sequence[str]) -> dict[str, object]:
    return {"generator": "datasets.drawn_faces", "generator_version": GENERATOR_VERSION,
            "count": count, "seed": seed, "sha256": combined_hash(hashes),
            "made_with": {"numpy": np.__version__, "opencv": cv2.__version__}}


def is_complete(output: Path, count: int, seed: int) -> bool:
    """Whether ``output`` holds exactly this data set, every image with the bytes it was made with.

    The map file is not looked at: it is small, and written again on every run.
    """
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
        names = sorted(os.listdir(output / FACES))
        if not isinstance(record, dict) or names != sorted(file_names(count)):
            return False
        wanted = {"generator_version": GENERATOR_VERSION, "count": count, "seed": seed}
        if any(record.get(key) != value for key, value in wanted.items()):
            return False
        hashes = [hashlib.sha256((output / FACES / name).read_bytes()).hexdigest()
                  for name in file_names(count)]
    except (OSError, ValueError):
        return False
    return record.get("sha256") == combined_hash(hashes)


def _refuse_foreign(faces: Path) -> None:
    """Raises if the folder to be replaced holds anything that this program did not write."""
    if not faces.exists():
        return
    if not faces.is_dir():
        raise DatasetError(f"{faces} is a file where the folder of the faces belongs: move it "
                           "away, or choose another folder with --output")
    foreign = sorted(n for n in os.listdir(faces) if not re.fullmatch(r"\d{4,}\.bmp", n))
    if foreign:
        raise DatasetError(f"{faces} holds {foreign[0]}, which this program did not write, so it "
                           "is not replaced: move it away, or choose another folder with --output")


def make(output: Path, count: int = COUNT, seed: int = 0, workers: int | None = None,
         quiet: bool = False) -> bool:
    """Makes the data set in ``output``, unless it is there already, whole and from the same seed.

    The faces are drawn into a temporary folder that is then renamed, and dataset.json, which says
    that all is there, is written last: a run that was interrupted leaves nothing that could be
    taken for a data set, and the next run clears up after it.

    Arguments: ``count`` >= 1 faces; ``seed`` >= 0; ``workers`` processes, one per core if None.
    Returns: whether anything was drawn.
    Raises: DatasetError for a bad count or seed, or a folder that cannot be used; OSError.
    """
    if count < 1:
        raise DatasetError(f"--count is {count}: give the number of faces, 1 or more")
    if seed < 0:
        raise DatasetError(f"--seed is {seed}: give 0 or a positive number")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise DatasetError(f"{output} is a file, and the data set is a folder: choose another "
                           "place with --output, or move the file away")
    output.mkdir(parents=True, exist_ok=True)
    faces, map_file, record = output / FACES, output / MAP_FILE, output / RECORD
    lines = "".join(f"{map_entry(faces / name, map_file)}\t0\n" for name in file_names(count))
    with _alone(output):
        for left in output.glob("faces-*.part"):  # of a run that was killed
            shutil.rmtree(left)
        complete = is_complete(output, count, seed)
        if not complete:
            _refuse_foreign(faces)
            part = Path(tempfile.mkdtemp(prefix="faces-", suffix=".part", dir=output))
            try:
                part.chmod(0o755)
                hashes = _draw_all(part, count, seed, workers or os.cpu_count() or 1, quiet)
                record.unlink(missing_ok=True)
                if faces.exists():
                    shutil.rmtree(faces)
                part.rename(faces)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        if not map_file.exists() or map_file.read_bytes() != lines.encode():
            _write(map_file, lines.encode())
        if not complete:
            content = json.dumps(_record(count, seed, hashes), indent=2) + "\n"
            _write(record, content.encode())
    return not complete


def contact_sheet(output: Path, picture: Path, count: int) -> int:
    """Writes the first faces of the data set, each scaled to a tile, as one PNG: how many."""
    shown = min(count, SHEET_FACES)
    columns = min(shown, 10)
    rows = -(-shown // columns)
    sheet = np.full((rows * SHEET_TILE, columns * SHEET_TILE, 3), 255, np.uint8)
    for i, name in enumerate(file_names(shown)):
        image = cv2.imread(str(output / FACES / name), cv2.IMREAD_COLOR)
        if image is None:
            raise DatasetError(f"{output / FACES / name} does not decode: delete it and run again")
        y, x = i // columns * SHEET_TILE, i % columns * SHEET_TILE
        sheet[y:y + SHEET_TILE, x:x + SHEET_TILE] = cv2.resize(
            image, (SHEET_TILE, SHEET_TILE), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".png", sheet)
    picture.parent.mkdir(parents=True, exist_ok=True)
    _write(picture, encoded.tobytes())
    return shown


def explain(error: OSError, output: Path) -> str:
    """One line for what the file system refused: what, where, how to mend it."""
    where = error.filename or output
    mend = {
        errno.ENOSPC: "the disk is full: free about 250 MB there, or choose another place "
                      "with --output",
        errno.EDQUOT: "your disk quota is used up: free some space, or choose another place with "
                      "--output",
        errno.EACCES: "no permission to write there: choose another place with --output",
        errno.EPERM: "no permission to write there: choose another place with --output",
        errno.EROFS: "the file system is read-only: choose another place with --output",
        errno.ENOTDIR: "a file stands where a folder is needed: choose another place with --output",
    }.get(error.errno or 0, f"{error.strerror or error}: choose another place with --output")
    return f"could not write {where}: {mend}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.drawn_faces",
        description="Makes the default data set without a network: drawn portraits of faces as BMP "
                    "files, and the map file that CNTK's image reader takes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("data"), metavar="FOLDER",
                        help="where faces/ and train_dcgan_map.txt go")
    parser.add_argument("--count", type=int, default=COUNT, help="how many faces")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other faces")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", default=None,
                        help=f"also write a picture of the first {SHEET_FACES} faces")
    options = parser.parse_args(arguments)
    try:
        if make(options.output, options.count, options.seed):
            print(f"{options.count} faces in {options.output / FACES}, listed in "
                  f"{options.output / MAP_FILE}", file=sys.stderr)
        else:
            print(f"{options.output / FACES} is complete already ({options.count} faces of seed "
                  f"{options.seed}): left alone", file=sys.stderr)
        if options.contact_sheet:
            shown = contact_sheet(options.output, options.contact_sheet, options.count)
            print(f"the first {shown} faces are in {options.contact_sheet}", file=sys.stderr)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {explain(error, options.output)}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print("error: a drawing process died, perhaps killed for want of memory: free about "
              "500 MB of memory and run again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: run again to make the data set", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
