"""A picture, and the head's frame of reference laid into it; the curves that are painted there.

A head is a curved surface (an ellipsoid with bumps for nose, brows, cheeks, lips and chin). Its
features are polygons laid on that surface and turned with it.
"""
import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from datasets.faces.traits import Floats, Traits


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
        self.canvas: Floats = np.zeros((t.height, t.width, 3))
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
        x = ((np.arange(0, t.width, step, dtype=float) + 0.5 * (step - 1) - self.middle[0])
             / self.scale)[None]
        y = ((np.arange(0, t.height, step, dtype=float) + 0.5 * (step - 1) - self.middle[1])
             / self.scale)[:, None]
        c, s = math.cos(t.roll), math.sin(t.roll)
        return c * x + s * y, c * y - s * x

    def mask(self, pixels: NDArray[np.float64], blur: float = 0.0) -> Floats:
        """A filled polygon of pixels as coverage 0..1; blurred by ``blur`` head units."""
        mask = np.zeros(self.canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
        return blurred(mask / 255, blur * self.scale)

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
        cover = blurred(mask / 255, sigma)[..., None] * opacity
        box = slice(low[1], high[1]), slice(low[0], high[0])
        if within is not None:
            cover *= within[box][..., None]
        self.canvas[box] += cover * (colour - self.canvas[box])

    def stroke(self, points: ArrayLike, widths: ArrayLike, colour: Floats, opacity: float = 1.0,
               blur: float = 0.0, lift: float = 0.0, within: Floats | None = None) -> None:
        """A line on the face whose width (head units) changes along it."""
        self.paint(self.place(ribbon(points, widths), lift), colour, opacity, blur, within)


def blurred(mask: Floats, sigma: float) -> Floats:
    """By a Gaussian of ``sigma`` pixels; as it is where that is 0. In float64: OpenCV blurs 8 bits
    in other ways on other processors."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma)) if sigma else mask


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
    smooth: NDArray[np.float64] = 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2
                                         + (3 * b - a - 3 * c + d) * f**3)
    return smooth


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
    small = r.standard_normal((cells + 2, cells + 2))
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
