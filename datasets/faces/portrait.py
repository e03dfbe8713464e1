"""One portrait, drawn layer over layer: height x width x 3, uint8, channels B, G, R.

All of it is computed in float64, whose last bits a processor's own vector functions may change, and
is rounded to 8 bits once, at the end: in float32 a few pixels of some portraits differed between
processors with AVX-512 and others.

The light comes from one side and shades the head by the angle between light and surface.
"""
import contextlib
import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.faces.features import beard, brows, earring, eyes, glasses, mouth, nose
from datasets.faces.hair import hair_behind, hair_in_front, strands_of
from datasets.faces.painter import Painter, curve, ellipse, smoothstep, soft_noise
from datasets.faces.traits import Floats, Image, Traits, bgr, random_of, traits_of


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
    strands = strands_of(p, r, x, y)
    shadow = t.skin * np.array([0.42, 0.42, 0.52])

    hair_behind(p, strands)
    _neck_and_clothes(p, shadow)
    _ears(p, shadow)

    # The skin, then what lies on it, then the light over all of it.
    face = p.mask(contour_px)
    tone = 1 + 0.018 * soft_noise(r, t.height, t.width, 9) + 0.012 * soft_noise(
        r, t.height, t.width, 40)
    skin = t.skin * tone[..., None]
    p.blend(face, skin)
    _complexion(p, r, shadow, face)
    eyes(p, shadow, face)
    nose(p, shadow, face)
    mouth(p, shadow, face)
    if t.beard != "none":
        beard(p, r, face)
    brows(p, face)
    _shade(p, face)
    for sign in (-1, 1):  # the lamp in the eyes, on the light's side of each pupil
        u = sign * t.eye_gap + t.gaze * 0.06 + 0.026 * math.copysign(1, t.light[0])
        p.paint(p.place(ellipse(u, -0.145, 0.015, 0.017), 0.04), bgr(0xFFFFFF), 0.95, 0.004)
    if t.glasses:
        glasses(p)
    hair_in_front(p, strands, face)
    if t.earring:
        earring(p)

    picture = p.canvas
    # A lens: a little darker to the corners, a little soft, a little grain.
    picture *= (1.02 - 0.10 * smoothstep(0.8, 2.2, np.hypot(x, y)))[..., None]
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.0022 * t.height))
    picture += r.normal(0, 0.006, (t.height, t.width, 1))
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), np.uint8)


def _background(p: Painter, r: np.random.RandomState) -> None:
    t = p.t
    first, second = t.back
    across = np.linspace(0, 1, t.width)[None, :, None]
    down = np.linspace(0, 1, t.height)[:, None, None]
    mix = 0.5 * down + 0.5 * (across if t.light[0] < 0 else 1 - across)
    blobs = soft_noise(r, t.height, t.width, 3)[..., None]
    p.canvas = first + (second * 0.75 - first) * np.clip(mix + 0.15 * blobs, 0, 1)
    bright = (1 - across) if t.light[0] < 0 else across
    p.canvas = p.canvas * (0.72 + 0.42 * bright)


def _neck_and_clothes(p: Painter, shadow: Floats) -> None:
    t = p.t
    wide = 0.50 + 0.10 * t.jaw
    neck = curve([(-wide, 0.5), (-wide + 0.02, 1.2), (-wide - 0.12, 1.75), (-1.4, 2.3),
                  (1.4, 2.3), (wide + 0.12, 1.75), (wide - 0.02, 1.2), (wide, 0.5)], 80,
                 closed=True)
    side = 0.92 if t.light[0] < 0 else 0.8
    skin = p.mask(p.place(neck, flat=True), 0.008)
    p.blend(skin, t.skin * side * 0.86)
    far = -math.copysign(1, t.light[0])  # the far side of the neck, and the shadow under the chin
    p.paint(p.place([(far * wide * 1.3, 0.5), (far * wide * 1.6, 2.2), (far * 0.1, 2.2),
                     (far * 0.1, 0.5)], flat=True), shadow, 0.6, 0.09, skin)
    p.paint(p.place(ellipse(far * 0.12, t.chin - 0.02, 0.62, 0.30), flat=True), shadow, 0.85, 0.07,
            skin)
    shirt = curve([(-3, 1.95), (-1.35, 1.62), (-0.72, 1.46), (-0.38, 1.72), (0, 1.84),
                   (0.38, 1.72), (0.72, 1.46), (1.35, 1.62), (3, 1.95), (3, 3), (-3, 3)], 120,
                  closed=True)
    p.blend(p.mask(p.place(shirt, flat=True), 0.006), t.cloth * 0.85)


def _ears(p: Painter, shadow: Floats) -> None:
    t = p.t
    for sign in (-1, 1):
        seen = 1.0 - 1.6 * sign * math.sin(t.yaw)  # the ear turned away goes behind the cheek
        size = float(np.clip(seen, 0.35, 1.15))
        u = sign * (t.half_width - 0.01 + 0.05 * size)
        lit = 0.95 if sign * t.light[0] > 0 else 0.66
        ear = curve([(u - sign * 0.10, -0.22), (u + sign * 0.02 * size, -0.30),
                     (u + sign * 0.10 * size, -0.2), (u + sign * 0.09 * size, 0.02),
                     (u + sign * 0.03 * size, 0.20), (u - sign * 0.04, 0.30),
                     (u - sign * 0.10, 0.2)], 50, closed=True)
        red = np.array([0.86, 0.88, 1.0])
        p.paint(p.place(ear, flat=True), t.skin * red * lit, 1.0, 0.006)
        p.paint(p.place(ellipse(u + sign * 0.015, -0.04, 0.035 * size, 0.13), flat=True), shadow,
                0.5, 0.02)


def _complexion(p: Painter, r: np.random.RandomState, shadow: Floats, face: Floats) -> None:
    t = p.t
    flush = t.skin * np.array([0.80, 0.80, 1.04])
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
            p.paint(p.place(ellipse(u, v, 0.011, 0.011)), t.skin * 0.7, 0.55, 0.004,
                    face)
    if t.mole:
        p.paint(p.place(ellipse(0.34, 0.52, 0.024, 0.022)), shadow * 0.5, 0.95, 0.006,
                face)


def _shade(p: Painter, face: Floats) -> None:
    """Lambert's law on the head's surface, at half size: brightness = ambient + n . l"""
    t = p.t
    x, y = p.grid(2)

    def bump(u: float, v: float, size: float, a: float, b: float, lift: float = 0.0) -> Floats:
        px = p.place([(u, v)], lift)[0] - p.middle
        c, s = math.cos(t.roll), math.sin(t.roll)
        cx, cy = (c * px[0] + s * px[1]) / p.scale, (c * px[1] - s * px[0]) / p.scale
        raised: Floats = size * np.exp(-(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2) * 0.5)
        return raised

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

    step = 2 / p.scale
    gx = np.asarray(cv2.Sobel(z, cv2.CV_64F, 1, 0, scale=1 / 8)) / step
    gy = np.asarray(cv2.Sobel(z, cv2.CV_64F, 0, 1, scale=1 / 8)) / step
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
        return np.asarray(cv2.resize(small, (t.width, t.height),
                                     interpolation=cv2.INTER_LINEAR))

    # Light scattered in skin is red: shadows fall off later in red than in blue.
    value = np.clip(bright, 0.12, 1.3)[..., None]
    lit = p.canvas * full(value ** np.array([1.18, 1.08, 0.86]))
    lit += full(shine)[..., None] * np.array([0.85, 0.93, 1.0])
    p.canvas += face[..., None] * (lit - p.canvas)


def face(seed: int, index: int) -> Image:
    """Portrait ``index`` of the data set of ``seed``: h x w x 3, uint8, B, G, R."""
    r = random_of(seed, index)
    with _opencvs_own():
        return draw(traits_of(r), r)


@contextlib.contextmanager
def _opencvs_own() -> Iterator[None]:
    """Without Intel's library, which only some builds of OpenCV have: it resizes with weights of
    float64, OpenCV itself with float32's, and one pixel in a million is another."""
    before = cv2.useOptimized()
    cv2.setUseOptimized(False)
    try:
        yield
    finally:
        cv2.setUseOptimized(before)
