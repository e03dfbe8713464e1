"""What an adapter does not give: parts of a capture that wait for it, stages that are then not
judged, arrays that its port cannot have."""
from collections.abc import Mapping

from captures.spec import Spec
from torch_port.adapter.load import PARTS, Adapter
from torch_port.adapter.network import UserNetwork

# What each part of the capture needs of the adapter.
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {  # each of: one of these
    "initial": (("initialize",), ("generator",), ("discriminator",)),
    "optimizer": (("optimizers",),),
    "evaluation": (),
    "training": (("discriminator",), ("d_loss", "d_step")),
    "generator": (("generator",), ("discriminator",), ("g_loss", "g_step")),
    "steps": (("generator",), ("discriminator",), ("optimizers",), ("d_loss", "d_step"),
              ("g_loss", "g_step")),
}


def missing(adapter: Adapter, part: str) -> str:
    """The lines of adapter that the part waits for; "" where nothing is missing."""
    return "; ".join(PARTS[names[0]] for names in NEEDS[part]
                     if not any(adapter.has(name) for name in names))


# A part of the capture to the stages that are judged by it.
STAGES = {"initial": ("initial", "structure"), "optimizer": ("optimizer",),
          "evaluation": ("state", "forward/evaluation", "score"),
          "training": ("forward/training", "gradient/d"),
          "generator": ("forward/g_step", "gradient/g"), "steps": ("step", "ledger")}
NEVER = {
    "reader": "reader = your_reader, which no stage runs yet",
    "normalisation": "no line: the running statistics are compared after a step instead",
    "pointwise": "no line: activations and losses are compared in the layers instead",
    "ledger": "no line: what a step moves is compared array by array instead",
    "onnx": "no line: give .onnx files of your own to a runtime",
    "twin": "no line: iterations are not compared yet",
}


def of_stages(adapter: Adapter, not_given: Mapping[str, str]) -> dict[str, str]:
    """Stage to the line of adapter that would let it be judged."""
    made = dict(NEVER)
    for part, line in not_given.items():
        made.update(dict.fromkeys(STAGES[part], line))
    return made


def absent(spec: Spec, networks: Mapping[str, UserNetwork]) -> dict[str, str]:
    """Pattern of arrays that CNTK's capture has and this one cannot have, to why."""
    made = {"*/sample_count": "PyTorch's layer counts minibatches, not samples",
            "*/learner/minibatches": "the optimizer keeps its own counter",
            "step/*_m": "the optimizer keeps its own moments",
            "step/*_v": "the optimizer keeps its own moments",
            "gradient/*/loss/samples/value": "the loss is one number"}
    for network in networks.values():
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
