"""What the report shows beside checks: manifests, curves, pictures, out of the captures."""
import numpy as np

from captures.format import Capture
from parity.judge.results import Check
from parity.report import Pictures
from parity.report.pictures import Sheet
from parity.stages import common, in_step
from parity.stages import twin as twin_stage
from scores import sides
from scores.page import contact_sheet

HISTOGRAM_SAMPLE = 20_000
SHOWN = 16  # pictures on a contact sheet


def manifest_of(capture: Capture) -> dict[str, object]:
    """A capture's manifest without its arrays and facts."""
    return {key: value for key, value in capture.manifest.items()
            if key not in ("arrays", "facts", "plan")} | {
                "seconds": capture.facts.get("seconds")}


def curves(captures: common.Captures) -> dict[str, list[float]]:
    """The twin run's losses and the horizon's distances, for the pictures; nothing where the runs
    cannot be compared. (Of a recorded run of CNTK's there are no weights, and no distances.)"""
    if not {"cntk", "port"} <= set(captures.twins):
        return {}
    losses = common.arrays_or_failure("curves", *(
        (captures.twins[who], in_step.LOSSES) for who in ("cntk", "port")))
    if isinstance(losses, Check) or losses[0].shape != losses[1].shape:
        return {}
    made = {f"twin/{who}/{loss}": one[:, i].tolist()
            for who, one in zip(("cntk", "port"), losses, strict=True)
            for i, loss in enumerate(("D_loss", "G_loss"))}
    if twin_stage.incomparable(captures.twins):
        return made
    for name, values in twin_stage.horizon(captures.twins)["weights"].items():
        made[f"horizon/{name}"] = values.tolist()
    return made


def pictures_of(captures: common.Captures) -> Pictures:
    made = Pictures()
    for name in captures.cntk.names("initial"):
        if not name.endswith("/weight"):
            continue
        pair = []
        for capture in (captures.cntk, captures.port):
            values = common.array_or_failure(capture, f"initial/{name}")
            if not isinstance(values, Check):
                pair.append(np.ravel(values)[:HISTOGRAM_SAMPLE])
        if len(pair) == 2:
            made.initial[name] = (pair[0], pair[1])
    images = [common.array_or_failure(capture, captures.spec.images)
              for capture in (captures.cntk, captures.port)]
    if not any(isinstance(one, Check) for one in images):
        made.images = (images[0], images[1])  # type: ignore[assignment]
    made.sheets = [sheet for source in sides.sources(captures.spec)
                   if (sheet := _sheet(captures, source)) is not None]
    return made


def _sheet(captures: common.Captures, source: str) -> Sheet | None:
    """The first pictures of a source, as both sides wrote them; None where one has none."""
    found = [common.array_or_failure(capture, sides.WRITTEN.format(source))
             for capture in (captures.cntk, captures.port)]
    cntk, port = found
    if isinstance(cntk, Check) or isinstance(port, Check):
        return None
    same = np.array_equal(cntk[:SHOWN], port[:SHOWN])
    return Sheet(sides.sources(captures.spec)[source][1], contact_sheet(list(cntk[:SHOWN])),
                 None if same else contact_sheet(list(port[:SHOWN])), len(cntk[:SHOWN]), len(cntk))
