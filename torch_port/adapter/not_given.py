"""Which parts of a user's port can be captured and judged, and which line of the adapter would let
more of it be."""
from collections.abc import Mapping

from captures.spec import Spec
from torch_port.adapter.load import PARTS, Adapter
from torch_port.adapter.network import UserNetwork

NO_LINE = "no line: "  # as parity/stages/definition.py says it
IN_EVALUATION = ("optimizer", "evaluation", "reader", "picture")
# What each part of the capture needs of the adapter.
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {  # each of: one of these
    "initial": (("initialize",), ("generator",), ("discriminator",)),
    "reader": (("reader",),),
    "optimizer": (("optimizers",),),
    "evaluation": (),
    "normalisation": (),
    "training": (),
    "generator": (("generator",), ("discriminator",)),
    "steps": (("generator",), ("discriminator",), ("optimizers",), ("d_loss", "d_step"),
              ("g_loss", "g_step")),
    "resume": (("save",), ("load",), ("generator",), ("discriminator",), ("optimizers",),
               ("d_loss", "d_step"), ("g_loss", "g_step")),
    "picture": (("write_picture",), ("generator",)),
}


def missing(adapter: Adapter, part: str) -> str:
    """The lines of adapter that the part waits for; "" where nothing is missing."""
    if adapter.exported and part not in IN_EVALUATION:
        return (f"{NO_LINE}{' and '.join(adapter.exported)} are files, which have no training: "
                "name the modules that they were exported from")
    return "; ".join(PARTS[names[0]] for names in NEEDS[part]
                     if not any(adapter.has(name) for name in names))


# A part of the capture to the stages that are judged by it.
STAGES = {"initial": ("initial", "structure"), "optimizer": ("optimizer",),
          "evaluation": ("state", "forward/evaluation", "score"),
          "normalisation": ("normalisation",),
          "training": ("forward/training", "gradient/d"),
          "generator": ("forward/g_step", "gradient/g"), "steps": ("step", "ledger"),
          "reader": ("reader",), "resume": ("program",), "picture": ("program",)}
NEVER = {
    "pointwise": "no line: activations and losses are compared in the layers instead",
    "ledger": "no line: what a step moves is compared array by array instead",
    "onnx": "no line: give .onnx files of your own to a runtime",
    "twin": "no line: iterations are compared where --port is a folder with a torch_port; an "
            "adapter is judged step by step",
}


def of_stages(adapter: Adapter, not_given: Mapping[str, str]) -> dict[str, str]:
    """Stage to the line of adapter that would let it be judged."""
    made = dict(NEVER)
    for stage, loss in (("gradient/d", "d_loss"), ("gradient/g", "g_loss")):
        if not adapter.has(loss):
            made[stage] = PARTS[loss]
    for part, line in not_given.items():
        made.update(dict.fromkeys(STAGES[part], line))
    line = not_given.get("initial", NO_LINE)
    if not line.startswith(NO_LINE):
        made["structure"] = (f"{NO_LINE}layers, shapes and counts are compared where the initial "
                             f"weights are: add `{line}`")
    return made


def absent(spec: Spec, networks: Mapping[str, UserNetwork]) -> dict[str, str]:
    """Pattern of arrays that CNTK's capture has and this one cannot have, to why."""
    made = {"*/sample_count": "PyTorch's layer counts minibatches, not samples",
            "*/learner/minibatches": "the optimizer keeps its own counter",
            "step/*_m": "the optimizer keeps its own moments",
            "step/*_v": "the optimizer keeps its own moments",
            "gradient/*/loss/samples/value": "the loss is one number"}
    for network in networks.values():
        if network.matched.logits:
            for name in (spec.real, spec.fake):
                made[f"gradient/*/{name}/{spec.critic.last}/output"] = (
                    "the losses take logits: no gradient of a probability is there")
        for layer in network.matched.unseen:
            for branch in spec.branches:
                if branch.network == network.network.name:
                    made[f"*/{branch.name}/{layer}/output"] = (
                        f"the output of {network.network.name}/{layer} cannot be seen")
    gone = {one.name for one in spec.networks} - set(networks)
    for name in gone:
        for place in (name, *(one.name for one in spec.branches if one.network == name)):
            made[f"*/{place}/*"] = f"there is no {name}"
    return made
