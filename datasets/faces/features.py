"""Eyes, brows, nose, mouth, beard, glasses and the earring."""
import math

import cv2
import numpy as np

from datasets.faces.painter import Painter, curve, ellipse, ribbon
from datasets.faces.traits import Floats, bgr


def eyes(p: Painter, shadow: Floats, face: Floats) -> None:
    t = p.t
    white, dark = bgr(0xEFEAE4), t.skin * 0.16 + 0.02
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
                np.clip(t.iris * 1.7, 0, 1), 0.55, 0.014, opening)
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


def brows(p: Painter, face: Floats) -> None:
    t = p.t
    colour = t.hair * 0.55 + t.skin * 0.10
    for sign in (-1, 1):
        u, v = sign * t.eye_gap, -0.35 - t.brow_lift - (0.012 if sign > 0 else 0)
        line = [(u - sign * 0.20, v + 0.035), (u - sign * 0.05, v - 0.012),
                (u + sign * 0.10, v - 0.03), (u + sign * 0.235, v + 0.035)]
        p.stroke(line, np.array([1.5, 1.9, 1.5, 0.3]) * t.brow_thick, colour, 0.88, 0.012, 0.05,
                 face)


def nose(p: Painter, shadow: Floats, face: Floats) -> None:
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


def mouth(p: Painter, shadow: Floats, face: Floats) -> None:
    t = p.t
    m, v, s, h, gap = t.mouth_width, 0.73, t.smile, t.lips, t.mouth_open
    rose = np.array([0.70, 0.64, 0.90])
    lip = t.skin * rose * (1 - 0.4 * t.lipstick) + 0.4 * t.lipstick * bgr(0xB23A48)
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
    p.paint(p.place(upper, 0.07), lip * 0.82, 0.92, 0.008, face)
    p.paint(p.place(under, 0.07), lip, 0.92, 0.009, face)
    gloss = np.clip(lip * 1.25 + 0.08, 0, 1)
    lit = math.copysign(0.25 * m, t.light[0])
    p.paint(p.place(ellipse(lit, v + gap + 0.55 * h + 0.4 * s, 0.32 * m, 0.018), 0.08), gloss, 0.6,
            0.014, face)
    dark = shadow * 0.35
    p.stroke(line, [0.008, 0.02, 0.026, 0.02, 0.008], dark, 0.8, 0.006, 0.07, face)
    for sign, corner in ((-1, left), (1, right)):
        p.paint(p.place(ellipse(corner[0] + sign * 0.008, corner[1], 0.022, 0.018), 0.04), dark,
                0.5, 0.012, face)


def beard(p: Painter, r: np.random.RandomState, face: Floats) -> None:
    t = p.t
    colour = t.hair * 0.6 + t.skin * 0.12
    a = t.half_width
    hairs = 1 + 0.22 * r.standard_normal((t.height, t.width))
    hairs = np.asarray(cv2.GaussianBlur(hairs, (0, 0), 0.006 * p.scale))
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
    p.blend(np.clip(cover, 0, 1) * face, colour)


def glasses(p: Painter) -> None:
    t = p.t
    frame = bgr(0x231A18)
    for sign in (-1, 1):
        u = sign * (t.eye_gap + 0.015)
        rim = ellipse(u, -0.10, 0.255, 0.20)
        outer, inner = p.mask(p.place(rim, 0.12), 0.003), p.mask(
            p.place(ellipse(u, -0.10, 0.228, 0.172), 0.12), 0.003)
        p.blend(np.clip(outer - inner, 0, 1), frame)
        p.blend(inner * 0.07, bgr(0xDDEBFF))
        p.stroke([(sign * (t.eye_gap + 0.26), -0.14), (sign * t.half_width * 0.98, -0.16)],
                 [0.032, 0.03], frame, 1.0, 0.003, 0.05)
    p.stroke([(-0.125, -0.14), (0, -0.175), (0.125, -0.14)], [0.03, 0.026, 0.03], frame, 1.0, 0.003,
             0.14)


def earring(p: Painter) -> None:
    t = p.t
    gold = bgr(0xE8C35A)
    seen = float(np.clip(1.0 - 1.6 * math.sin(t.yaw), 0.35, 1.15))
    u = t.half_width + 0.02 + 0.03 * seen
    p.paint(p.place(ellipse(u, 0.36, 0.055, 0.075), flat=True), gold * 0.55, 1.0, 0.004)
    p.paint(p.place(ellipse(u, 0.355, 0.046, 0.064), flat=True), gold, 1.0, 0.006)
    p.paint(p.place(ellipse(u - 0.012, 0.335, 0.014, 0.02), flat=True), bgr(0xFFFBEA), 0.9, 0.006)
