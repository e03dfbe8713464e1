"""The page's plots as inline SVG, drawn by matplotlib without a display and without pyplot.

Colours are placeholders in the drawing and CSS variables in the page, so that one picture is right
on a light and on a dark page. CNTK is blue circles and solid lines, the port vermillion triangles
and dashed lines (the colour-blind safe palette of Okabe and Ito): nothing is told by colour alone.
"""
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from parity.report.facts import Layer, number, plain
from parity.report.pictures import Floats

# Placeholder -> CSS variable of the page, see report.html.j2.
INK, GRID, CNTK, PORT, BAND, FAIL = (
    "#0a0b0c", "#d8d9da", "#0072b2", "#d55e00", "#8a8b8c", "#c0102a")
VARIABLES = {INK: "--ink", GRID: "--grid", CNTK: "--cntk", PORT: "--port", BAND: "--band",
             FAIL: "--bad"}

STYLE: Any = {
    "svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"], "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": GRID, "axes.grid": True,
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.facecolor": "none",
    "figure.facecolor": "none", "savefig.facecolor": "none", "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 10, "xtick.major.size": 0, "ytick.major.size": 0,
    "axes.unicode_minus": False, "figure.dpi": 72, "savefig.dpi": 72, "text.parse_math": False,
}
_SIZE = re.compile(r'(?:width|height)="([\d.]+)pt"')
_NEEDLESS = [(re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in (
    (r"\A.*?<svg[^>]*>", ""),  # the page gives it another one
    (r"<metadata>.*?</metadata>|<style.*?</style>", ""),
    (r"font-family: [^;]*; ", ""),  # the page's own
    (r' transform="rotate\(-?0 [^)]*\)"', ""),
    (r"\s*\n\s*", " "),
)]
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _figure(width: int, height: int, left: int, right: int, top: int, bottom: int,
            widths: Sequence[float] = (1,), gap: int = 0) -> tuple[Figure, list[Axes]]:
    """All in pixels; widths: of the axes side by side, as parts."""
    figure = Figure(figsize=(width / 72, height / 72))
    room = width - left - right - gap * (len(widths) - 1)
    axes, x = [], float(left)
    for part in widths:
        wide = room * part / sum(widths)
        axes.append(figure.add_axes((x / width, bottom / height, wide / width,
                                     (height - top - bottom) / height)))
        x += wide + gap
    return figure, axes


def _svg(figure: Figure, name: str, alt: str) -> Markup:
    """name: unique in the page, since ids of all its SVGs share one space."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):  # the same report gives the same bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    width, height = (round(float(size)) for size in _SIZE.findall(text)[:2])
    for pattern, replacement in _NEEDLESS:
        text = pattern.sub(replacement, text)
    used = set(re.findall(r"#([\w-]+)[\")]", text))
    text = re.sub(r' id="([^"]*)"',
                  lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r' (?:d|x|y)="[^"]*"',
                  lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)  # of a pixel
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable}, {colour})")
    return Markup(f'<svg role="img" aria-label="{escape(plain(alt))}" width="{width}" '
                  f'height="{height}" viewBox="0 0 {width} {height}">') + Markup(text)


# --------------------------------------------------------------------------- axes of logs


def _decade(exponent: int) -> str:
    return "1" if exponent == 0 else "10" + str(exponent).translate(RAISED)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value) and value > 0]


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The decades that hold all the positive values; one at the least."""
    found = _finite(values)
    if not found:
        return -8, -7
    low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
    low, high = max(low, -300), min(high, 300)  # a margin for the axis, and still a float
    return low, max(high, low + 1)


def _decade_ticks(low: int, high: int, most: int) -> dict[float, str]:
    return {10.0 ** tick: _decade(tick) for tick in range(low, high + 1, -(-(high - low) // most))}


def _named_ticks(axis: Axis, ticks: dict[float, str]) -> None:
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels(list(ticks.values()))


def _log_axis(axes: Axes, low: int, high: int, vertical: bool = False, most: int = 4) -> None:
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    _named_ticks(axes.yaxis if vertical else axes.xaxis, _decade_ticks(low, high, most))


# ------------------------------------------------------------------------- the layers


def _metric(row: Layer, name: str, own: bool) -> float:
    check = row.own if own else row.chain
    value = float(check.metrics.get(name, math.nan)) if check is not None else math.nan
    return value if math.isfinite(value) else math.nan


def layer_errors(rows: Sequence[Layer]) -> list[float]:
    """All the errors of some layers, to give several panels one axis."""
    return [_metric(row, name, own) for row in rows for name in ("cntk_error", "port_error")
            for own in (False, True)]


def layer_ratios(rows: Sequence[Layer]) -> list[float]:
    return [_metric(row, "ratio", own) for row in rows for own in (False, True)]


def _marks(axes: Axes, rows: Sequence[Layer], name: str, floor: float, colour: str, shape: str,
           up: float) -> None:
    """Filled: in the chain. Hollow: on the layer's own inputs. 0 stands on the left edge."""
    for own, face in ((True, "none"), (False, colour)):
        values = np.array([_metric(row, name, own) for row in rows])
        axes.plot(np.maximum(values, floor), np.arange(len(rows)) + up, shape, color=colour,
                  markerfacecolor=face, markersize=6 if own else 5, markeredgewidth=1,
                  clip_on=False, linestyle="none")


def layer_panel(rows: Sequence[Layer], errors: tuple[int, int], ratios: tuple[int, int], name: str,
                alt: str) -> Markup:
    """One network, a row per layer: both errors on a log axis, their ratio beside them.

    errors, ratios: the decades of the axes. A failed layer has a cross before its name.
    """
    with rc_context(STYLE):
        left = 24 + 6 * max(len(row.label) for row in rows)
        height = 44 + 17 * len(rows)
        figure, (error, ratio) = _figure(left + 282, height, left, 14, 20, 24, (1.9, 1), 30)
        for axes, (low, high) in ((error, errors), (ratio, ratios)):
            _log_axis(axes, low, high, most=4 if axes is error else 2)
            span = high - low
            axes.set_xlim(10.0 ** (low - 0.17 * span), 10.0 ** (high + 0.03 * span))
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.set_yticks(range(len(rows)), [""] * len(rows))
        error.set_yticks(range(len(rows)), [
            plain(row.label) if row.passed else "✗ " + plain(row.label) for row in rows])
        for label, row in zip(error.get_yticklabels(), rows, strict=True):
            if not row.passed:
                label.set_color(FAIL)
                label.set_fontweight("bold")
        error.set_title("error", loc="left")
        ratio.set_title("ratio", loc="left")
        floor = error.get_xlim()[0]  # where 0 is drawn
        if 0 in layer_errors(rows):
            _named_ticks(error.xaxis, {floor: "0", **_decade_ticks(*errors, 4)})
        _marks(error, rows, "cntk_error", floor, CNTK, "o", -0.14)
        _marks(error, rows, "port_error", floor, PORT, "^", 0.14)
        ratio.axvline(1, color=BAND, linewidth=1)
        _marks(ratio, rows, "ratio", ratio.get_xlim()[0], INK, "s", 0)
        for i, row in enumerate(rows):
            for check in (row.chain, row.own):
                if check is not None and "ratio" in check.metrics and math.isclose(
                        check.metrics["ratio"], check.measured) and _finite([check.allowed]):
                    ratio.plot(check.allowed, i, "|", color=FAIL, markersize=9)
        return _svg(figure, name, alt)


# -------------------------------------------------------------------------- histograms


def weight_histogram(cntk: Floats, port: Floats, deviation: float, name: str, alt: str) -> Markup:
    """CNTK's values as an area, the port's as a line over it, the normal curve dotted."""
    with rc_context(STYLE):
        figure, (axes,) = _figure(178, 104, 8, 8, 6, 20)
        edge = 4.5 * deviation
        bins = np.linspace(-edge, edge, 46)
        middle = (bins[1:] + bins[:-1]) / 2
        shapes = []
        for values in (cntk, port):
            counts = np.histogram(np.clip(np.nan_to_num(values), -edge, edge), bins)[0]
            shapes.append(counts / max(values.size, 1) / (bins[1] - bins[0]))
        axes.fill_between(middle, shapes[0], step="mid", color=CNTK, alpha=0.45, linewidth=0)
        axes.plot(middle, shapes[1], drawstyle="steps-mid", color=PORT, linewidth=1.1)
        curve = np.exp(-middle ** 2 / 2 / deviation ** 2) / deviation / math.sqrt(2 * math.pi)
        axes.plot(middle, curve, ":", color=INK, linewidth=1)
        axes.set_xlim(-edge, edge)
        axes.set_ylim(0, max(float(np.max(shapes)), float(curve.max())) * 1.05)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        ticks = [-3 * deviation, 0, 3 * deviation]
        axes.set_xticks(ticks, [number(tick) for tick in ticks])
        return _svg(figure, name, alt)


# -------------------------------------------------------------------------- training


def _seen(values: Sequence[float]) -> Floats:
    array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _iterations(axes: Axes, count: int) -> None:
    axes.set_xlim(1 - 0.02 * count, max(count, 2) + 0.02 * count)
    step = next(step * 10 ** k for k in range(9) for step in (1, 2, 5)
                if count / (step * 10 ** k) <= 8)
    axes.set_xticks([1, *range(step, count + 1, step)] if step > 1 else range(1, count + 1))
    axes.set_xlabel("iteration")


def loss_curve(cntk: Sequence[float], port: Sequence[float], name: str, alt: str) -> Markup:
    with rc_context(STYLE):
        figure, (axes,) = _figure(480, 220, 46, 12, 10, 40)
        for values, colour, line, mark, wide in ((cntk, CNTK, "-", "o", 3.0),
                                                 (port, PORT, "--", "^", 1.4)):
            few = len(values) <= 40
            axes.plot(np.arange(len(values)) + 1, _seen(values), line, color=colour,
                      linewidth=wide, marker=mark if few else None, markersize=4 if few else None,
                      alpha=0.6 if wide > 2 else 1)
        _iterations(axes, max(len(cntk), len(port)))
        return _svg(figure, name, alt)


def horizon(port: Sequence[float], reruns: Sequence[Sequence[float]], name: str,
            alt: str) -> Markup:
    """The port's distance from CNTK per iteration, and the band of CNTK's distances from itself.

    A distance of 0 has no place on a log axis: the line has a gap there.
    """
    with rc_context(STYLE):
        figure, (axes,) = _figure(640, 280, 52, 12, 10, 40)
        everything = [*port, *(value for rerun in reruns for value in rerun)]
        low, high = decades(everything)
        _log_axis(axes, low, high, vertical=True, most=6)
        axes.set_ylim(10.0 ** low * 0.8, 10.0 ** high * 1.2)
        for rerun in reruns:
            axes.plot(np.arange(len(rerun)) + 1, _positive(rerun), color=BAND, linewidth=0.8)
        common = min((len(rerun) for rerun in reruns), default=0)
        if common:
            whole = np.stack([_positive(rerun)[:common] for rerun in reruns])
            held = np.isfinite(whole).any(0)
            lowest, highest = (np.where(held, edge(np.where(np.isfinite(whole), whole, other), 0),
                                        np.nan)
                               for edge, other in ((np.min, np.inf), (np.max, -np.inf)))
            axes.fill_between(np.arange(common) + 1, lowest, highest, color=BAND, alpha=0.3,
                              linewidth=0)
        few = len(port) <= 60
        axes.plot(np.arange(len(port)) + 1, _positive(port), "--", color=PORT, linewidth=1.4,
                  marker="^" if few else None, markersize=5 if few else None)
        _iterations(axes, max(len(port), common))
        return _svg(figure, name, alt)


def over_runs(values: Sequence[float], names: Sequence[str], failed: Sequence[bool], name: str,
              alt: str) -> Markup:
    """How much of its allowance a stage used in each recorded run; the line at 1 is the allowance.

    values: 0 is drawn at the bottom, infinite at the top. failed: drawn as crosses.
    """
    low, high = -8.0, 3.0
    with rc_context(STYLE):
        figure, (axes,) = _figure(640, 200, 52, 12, 10, 60)
        _log_axis(axes, int(low), int(high), vertical=True, most=6)
        axes.set_ylim(10.0 ** (low - 0.5), 10.0 ** (high + 0.5))
        seen = np.clip(np.nan_to_num(_seen(values), nan=np.inf), 10.0 ** low, 10.0 ** high)
        at = np.arange(len(names))
        axes.axhline(1.0, color=BAND, linewidth=1)
        axes.plot(at, seen, "-", color=PORT, linewidth=1.2)
        for bad, mark, colour in ((False, "o", PORT), (True, "X", FAIL)):
            chosen = [i for i in range(len(names)) if failed[i] is bad]
            axes.plot(at[chosen], seen[chosen], mark, color=colour, markersize=7 if bad else 4)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(at, [plain(one)[:16] for one in names], rotation=30, ha="right")
        return _svg(figure, name, alt)


def _positive(values: Sequence[float]) -> Floats:
    array = _seen(values)
    return np.where(array > 0, array, np.nan)
