"""Hair: its strands, what of it lies behind the head, and what lies in front."""
import math

import numpy as np

from datasets.faces.painter import Painter, curve, ellipse, ribbon, soft_noise
from datasets.faces.traits import Floats


def strands_of(p: Painter, r: np.random.RandomState, x: Floats, y: Floats) -> Floats:
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
    table = r.standard_normal(400)
    fine = np.interp(position.ravel() * 2.2 + 200, np.arange(400), table)
    coarse = np.interp(position.ravel() * 0.45 + 200, np.arange(400), table)
    fine, coarse = (a.reshape(x.shape) for a in (fine, coarse))
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
    return picture + gloss * (shine * (0.7 + 0.3 * fine))[..., None]


def hair_behind(p: Painter, strands: Floats) -> None:
    t = p.t
    a = t.half_width + t.volume
    if t.style not in ("long", "bob", "curly", "tied"):
        return
    if t.style == "tied":
        knot = ellipse(-0.35, -1.5, 0.42, 0.36)
        p.blend(p.mask(p.place(knot, flat=True), 0.01), strands * 0.8)
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
    p.blend(p.mask(p.place(ring, flat=True), 0.012), strands * 0.72)


def hair_in_front(p: Painter, strands: Floats, face: Floats) -> None:
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
        cover = cover * 0.85
    p.blend(cover, strands)
    if t.style not in ("cropped", "curly"):
        # the parting: a thin line of scalp, and the dark edge of the fringe beside it
        scalp = p.place(np.array([(part, -1.0), (part - 0.02, -1.2), (part - 0.08, -1.4)])
                        * [side, 1], flat=True)
        turned = p.place([(side * part, -1.0)], 0.06)
        scalp[0] = 0.5 * (scalp[0] + turned[0])
        p.paint(ribbon(scalp, np.array([0.035, 0.02, 0.0]) * p.scale), t.skin * 0.7,
                0.8, 0.008)
        edge = curve([(part, -1.0), (0.5 * part, -0.90), (-0.25 * a, sweep - 0.04),
                      (-0.62 * a, sweep + 0.10), (-0.90 * a, sweep + 0.30)])
        edge[:, 0] *= side
        p.stroke(edge, [0.0, 0.03, 0.03, 0.0], t.hair * 0.45, 0.5, 0.012, 0.06)
