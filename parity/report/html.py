"""report.html: one page that works offline, for a person who has not seen the project before.

This module turns a Report into plain values; ``report.html.j2`` places them and explains them.
"""
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from captures.spec import Spec
from parity.judge.results import Check, Report, Stage
from parity.report import facts, plots
from parity.report.facts import Policies
from parity.report.files import write
from parity.report.pictures import Floats, ImageRows, Pictures, compare_images


def titles(spec: Spec) -> dict[str, str]:
    """Of the branches."""
    return {spec.real: f"{spec.critic.name}, real images",
            spec.fake: f"{spec.critic.name}, generated images"}


@dataclass(frozen=True)
class Picture:
    """svg, and what is written under it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class LayerPlots:
    """The panels of one stage."""

    stage: Stage
    panels: list[Picture]


# -------------------------------------------------------------------------------- pictures


def _layer_plots(report: Report) -> list[LayerPlots]:
    found, called = [], titles(facts.spec_of(report))
    for i, stage in enumerate(report.stages):
        if not facts.has_layer_errors(stage):
            continue
        networks = {name: rows for name, rows in facts.layers(stage).items() if any(
            "port_error" in one.metrics for row in rows for one in (row.chain, row.own) if one)}
        rows = [row for network in networks.values() for row in network]
        errors = plots.decades(plots.layer_errors(rows))
        ratios = plots.decades([0.5, 2.0, *plots.layer_ratios(rows)])
        panels = []
        for j, (network, layers) in enumerate(networks.items()):
            title = called.get(network, network)
            failed = [row.label for row in layers if not row.passed]
            alt = (f"{stage.name}, {title}: error of {len(layers)} layers, CNTK's and the port's. "
                   + (f"Failed: {', '.join(failed)}." if failed else "All within tolerance."))
            panels.append(Picture(plots.layer_panel(layers, errors, ratios, f"layers{i}-{j}", alt),
                                  title))
        found.append(LayerPlots(stage, panels))
    return found


def _deviation(values: Floats) -> str:
    finite = values[np.isfinite(values)]
    return f"{np.std(finite, dtype=np.float64):.5f}" if finite.size else "none"


def _histograms(pictures: Pictures, deviation: float) -> list[Picture]:
    """deviation: of the normal distribution that the weights are drawn from."""
    drawn = []
    for i, (name, (cntk, port)) in enumerate(pictures.initial.items()):
        same = cntk.shape == port.shape
        differing = int(np.sum(~(cntk == port))) if same else 0
        caption = (f"{facts.plain(name.removesuffix('/weight'))}: " + (
            f"{differing} of {cntk.size} values differ" if same else
            f"{cntk.size} values and {port.size}"))
        both = dict.fromkeys(_deviation(values) for values in (cntk, port))
        caption += ", standard deviation " + " and ".join(both)
        svg = plots.weight_histogram(cntk, port, deviation, f"weights{i}",
                                     f"Histogram of {caption}")
        drawn.append(Picture(svg, caption))
    return drawn


def _losses(report: Report) -> list[Picture]:
    drawn, spec = [], facts.spec_of(report)
    for name in ("D_loss", "G_loss"):
        cntk, port = (report.curves.get(f"twin/{who}/{name}", []) for who in ("cntk", "port"))
        if cntk or port:
            whose = spec.critic if name == "D_loss" else spec.maker
            caption = f"Loss of the {whose.name}"
            if cntk and port:
                caption += (f": last {facts.number(cntk[-1], 5)} in CNTK, "
                            f"{facts.number(port[-1], 5)} in the port")
            drawn.append(Picture(plots.loss_curve(cntk, port, f"loss-{name}", caption), caption))
    return drawn


def _horizon(report: Report) -> Picture | None:
    port = report.curves.get("horizon/port", [])
    reruns = [values for name, values in report.curves.items()
              if name.startswith("horizon/") and name != "horizon/port"]
    if not reruns:  # there is nothing to hold the port's distance against
        return None
    caption = f"{len(port)} iterations, {facts.several(len(reruns), 'rerun')} of CNTK"
    if port and not any(port):
        caption += ". The port never left CNTK: every distance is 0"
    elif port and reruns:
        inside = sum(any(value <= other for other in others)  # NaN is within nothing
                     for value, *others in zip(port, *reruns, strict=False))
        caption += f". The port is within CNTK's reruns in {inside} of them"
    return Picture(plots.horizon(port, reruns, "horizon", caption), caption)


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _images(pictures: Pictures) -> ImageRows | str | None:
    """The rows of images, or why they cannot be shown."""
    if pictures.images is None:
        return None
    try:
        return compare_images(*pictures.images)
    except ValueError as error:
        return str(error)


# ---------------------------------------------------------------------------------- tables


def _metric_names(stage: Stage) -> list[str]:
    """The metrics of a stage: the known ones in their order, then the others in theirs."""
    there = dict.fromkeys(name for check in stage.checks for name in check.metrics)
    return [name for name in facts.METRICS if name in there] + [
        name for name in there if name not in facts.METRICS]


def _heading(metric: str) -> str:
    return facts.METRICS[metric][0] if metric in facts.METRICS else metric.replace("_", " ")


def _legend(report: Report) -> list[tuple[str, str]]:
    """The metrics' columns that this page has, explained."""
    there = dict.fromkeys(name for stage in report.stages for name in _metric_names(stage))
    known = [facts.METRICS[name] for name in facts.METRICS if name in there]
    others = [_heading(name) for name in there if name not in facts.METRICS]
    if others:
        known.append((", ".join(others), "Further figures of single stages: shown, not judged."))
    return known


def _bar(check: Check) -> int:
    """The margin as a part of its cell, in percent."""
    margin = check.margin
    return 100 if not check.passed else round(100 * min(margin, 1.0))


def _policy_rows(policies: Policies) -> list[tuple[str, str, str, str]]:
    """Name, value, where it came from, and whatever else the policy holds."""
    rows = []
    for name, policy in policies.items():
        if isinstance(policy, Mapping):
            reason = "source" if policy.get("source") else "reason"
            rest = {key: value for key, value in policy.items() if key not in ("value", reason)}
            rows.append((name, _shown(policy.get("value", "")), str(policy.get(reason, "")),
                         _shown(rest) if rest else ""))
        else:
            rows.append((name, "", policy, "") if isinstance(policy, str) else
                        (name, _shown(policy), "", ""))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_shown(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return facts.number(value)


def _score_rows(score: Mapping[str, float]) -> list[tuple[str, str]]:
    """``port``, ``port_low`` and ``port_high`` become one row."""
    rows = []
    for name, value in score.items():
        if name.rpartition("_")[0] in score and name.endswith(("_low", "_high")):
            continue
        text = facts.number(value, 4)
        if f"{name}_low" in score and f"{name}_high" in score:
            low, high = (facts.number(score[f"{name}_{end}"], 4) for end in ("low", "high"))
            text += f" ({low} to {high})"
        rows.append((name.replace("_", " "), text))
    return rows


# ------------------------------------------------------------------------------------ page


def _template() -> Environment:
    made = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                       undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(
        number=facts.number, plain=facts.plain, seconds=facts.seconds, data_url=_data_url,
        versions=facts.versions, machine=facts.machine, threads=facts.threads,
        failed_first=facts.failed_first,
        judged_on=facts.judged_on, metric_names=_metric_names, heading=_heading, bar=_bar,
        several=facts.several, diagnosis=facts.diagnosis_facts,
        pair=lambda check: facts.pair(check.measured, check.allowed))
    return made


def as_html(report: Report, pictures: Pictures, policies: Policies) -> str:
    failing = facts.failing(report)
    first = next(((stage, check) for stage, check in failing if check is not None), None)
    images = _images(pictures)
    return _template().get_template("report.html.j2").render(
        report=report, verdict=facts.verdict(report), subject=facts.subject(report),
        two=facts.of_two_captures(report), summary=facts.summary(report),
        first_facts=facts.failure_facts(*first, policies) if first else [],
        first_brief=facts.brief(first[1]) if first else "",
        blame=facts.blame(report),
        others=[(stage, facts.brief(check)) for stage, check in failing
                if first is None or stage is not first[0]],
        policy_names=list(policies), policy_rows=_policy_rows(policies),
        layer_plots=_layer_plots(report), histograms=_histograms(
            pictures, facts.spec_of(report).deviation),
        losses=_losses(report), horizon=_horizon(report),
        images=images if isinstance(images, ImageRows) else None,
        images_missing=images if isinstance(images, str) else "",
        score_rows=_score_rows(report.score), sheets=pictures.sheets, legend=_legend(report))


def write_html(report: Report, pictures: Pictures, policies: Policies, path: Path) -> None:
    """Raises ReportError: it cannot be written."""
    write(path, as_html(report, pictures, policies).encode("utf-8"))
