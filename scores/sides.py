"""What two captures hold for the score: the sources of pictures, and each side's part.

Three sources, each by the side's own hands: the generator of the plan's state, a generator that has
been trained (where one was given), and the data set through reader and normalisation.
"""
from __future__ import annotations

from captures.format import Capture
from captures.spec import Spec
from scores.paired import Side

WRITTEN = "score/{}/written/pictures"
TRAINED, FACES = "trained", "faces"


def sources(spec: Spec) -> dict[str, tuple[str, str]]:
    """Second part of the arrays' names to the name of the images, and a title."""
    return {spec.maker.name: (spec.images, "the plan's state"),
            TRAINED: (f"score/{TRAINED}/{spec.maker.last}/images", "a trained model"),
            FACES: (f"score/{FACES}/normalised/images", "the data set")}


def compared(source: str, cntk: Capture, port: Capture) -> bool:
    """Whether both have to have pictures of it. Those of the plan's state each port has."""
    name = sources(cntk.spec)[source][0]
    return name == cntk.spec.images or (name in cntk and makes_pictures(port))


def makes_pictures(capture: Capture) -> bool:
    """Whether its program has a reader and a picture writer: then it has to have all of them."""
    return any(WRITTEN.format(source) in capture for source in sources(capture.spec))


def names_of(capture: Capture, source: str) -> dict[str, str]:
    """What it has to have, as ``side_of`` takes it: field of ``Side`` to the array's name."""
    made = {"images": sources(capture.spec)[source][0]}
    if makes_pictures(capture):
        made["pictures"] = WRITTEN.format(source)
    own = f"score/{source}/classifier"
    if f"{own}/logits" in capture:
        made.update(prepared=f"{own}/prepared", logits=f"{own}/logits", score=f"{own}/value")
    return made


def side_of(capture: Capture, source: str) -> Side:
    """Raises CaptureError: the capture lacks something of it, or holds NaN."""
    held = {field: capture[name] for field, name in names_of(capture, source).items()}
    return Side(held["images"], held.get("pictures"), held.get("prepared"), held.get("logits"),
                float(held["score"]) if "score" in held else None)
