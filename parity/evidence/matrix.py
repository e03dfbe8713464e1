"""TODO."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captures.plan import Plan
from parity.evidence.defect import KINDS, Defect
from parity.evidence.examine import Result

# -------------------------------------------------------------------------------------- the matrix


def matrix(correct: Result, lines: Sequence[tuple[Defect, Result]], plan: Plan) -> dict[str, Any]:
    import onnx
    import onnxruntime
    import torch
    return {
        "plan": dict(plan.inputs),
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__,
                     "onnxruntime": onnxruntime.__version__, "cntk": "2.7"},
        "correct_port_passes": not correct.caught and not correct.error,
        "defects": len(lines), "caught": sum(result.caught for _, result in lines),
        "right_place": sum(result.right(defect) for defect, result in lines),
        "processor_seconds": round(correct.processor_seconds + sum(
            result.processor_seconds for _, result in lines)),
        "matrix": [{
            "name": defect.name, "kind": defect.kind, "what": defect.what,
            "caught": result.caught, "stage": result.stage, "place": result.place,
            "born": {True: "local", False: "inherited", None: ""}[result.local],
            "margin": result.margin, "policy": result.policy, "blame": result.blame,
            "right": result.right(defect),
            "asked_for": {"stage": defect.stage, "place": defect.place, "blame": defect.blame},
            "detail": result.detail, "error": result.error, "seconds": round(result.seconds, 1),
        } for defect, result in lines],
    }


def shown_margin(margin: float) -> str:
    if not math.isfinite(margin):
        return "exact"
    return f"{margin:.3g}" if margin < 1e5 else f"{margin:.1e}"


def table(lines: Sequence[tuple[Defect, Result]]) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("defect", "caught by", "margin", "blame", "right"):
        made.add_column(name, overflow="fold", justify="right" if name == "margin" else "left")
    kind = ""
    for defect, result in lines:
        if defect.kind != kind:
            kind = defect.kind
            made.add_row(f"[bold]{kind}[/]")
        born = {True: " (local)", False: " (in the chain)", None: ""}[result.local]
        made.add_row(
            f"  {defect.name}", escape(f"{result.stage}: {result.place}{born}") if result.caught
            else f"[red]{escape(result.error) or 'nothing'}[/]",
            shown_margin(result.margin) if result.caught else "", result.blame,
            "[green]yes[/]" if result.right(defect)
            else f"[red]no: {escape(defect.stage)}: {escape(defect.place)}, {defect.blame}[/]")
    return made


def print_summary(correct: Result, lines: Sequence[tuple[Defect, Result]],
                  console: Console) -> None:
    total = len(lines)
    caught = sum(result.caught for _, result in lines)
    right = sum(result.right(defect) for defect, result in lines)
    if correct.error:
        console.print(f"the correct port did not run: {correct.error}", markup=False)
    elif correct.caught:
        console.print(f"the correct port fails: {correct.stage}, {correct.place}: "
                      f"{correct.detail}", markup=False)
    else:
        console.print("the correct port passes")
    console.print(f"{caught} of {total} caught, {right} of {total} at the right place")
    missed = [defect.name for defect, result in lines if not result.caught]
    if missed:
        console.print(f"missed: {', '.join(missed)}", markup=False)


def documentation(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    text = [
        "# Planted defects", "",
        "Made by `make defects`, which runs all of this; not written by hand. "
        f"Versions: {versions}.", "",
        f"**{made['caught']} of {made['defects']} caught "
        f"({100 * made['caught'] / made['defects']:.0f} %), {made['right_place']} of "
        f"{made['defects']} at the right place "
        f"({100 * made['right_place'] / made['defects']:.0f} %). The correct port "
        f"{'passes' if made['correct_port_passes'] else 'FAILS'}.**", "",
        "Each mistake is made in a copy of `torch_port`, or in a copy of an exported graph, and "
        "the suite is run on it, stage by stage, against CNTK's capture of minibatch "
        f"{made['plan']['minibatch_size']} after {made['plan']['warmup_iterations']} iterations, "
        "until a stage fails. The float64 oracle is the project's own, without a mistake.", "",
        "- **caught by**: the first stage that failed",
        "- **place**: what the suite named: `network/layer/quantity`",
        "- **local** or **chain**: whether the error was found on CNTK's own inputs, where it is "
        "born, or behind other layers",
        "- **margin**: how many times the allowance; *exact*: nothing was allowed",
        "- **blame**: whose mistake it is, as the report says it",
        "- **right**: whether stage, place and blame are what the catalogue asks for", ""]
    for kind, what in KINDS.items():
        lines = [line for line in made["matrix"] if line["kind"] == kind]
        if not lines:
            continue
        text += [f"## {kind[0].upper()}{kind[1:]}", "", f"{what[0].upper()}{what[1:]}.", "",
                 "| defect | what was done wrong | caught by | place | | margin | blame | right |",
                 "| --- | --- | --- | --- | --- | ---: | --- | --- |"]
        for line in lines:
            margin = float(line["margin"])
            born = {"local": "local", "inherited": "chain", "": ""}[line["born"]]
            text.append(
                f"| {line['name']} | {line['what']} | {line['stage'] or '**nothing**'} | "
                f"{'`' + line['place'] + '`' if line['place'] else ''} | {born} | "
                f"{shown_margin(margin) if line['caught'] else ''} | {line['blame']} | "
                f"{'yes' if line['right'] else '**no**'} |")
        text.append("")
    return "\n".join([*text, *_HOW_TO_ADD.splitlines(), ""])


_HOW_TO_ADD = '''\
## Adding a defect

One entry in `DEFECTS` of `parity/evidence/catalogue/port.py`:

```python
Defect("momentum-0.9", "optimizer",
       "Adam's usual momentum.",
       "optimizer", "matrix/step01",          # stage and place that must be named, in full
       (Edit("training.py", "LEARNING_RATE, MOMENTUM = 1e-4, 0.5",
             "LEARNING_RATE, MOMENTUM = 1e-4, 0.9"),)),
```

`Edit` exchanges a text in a copy of a file of `torch_port`; the text has to stand there exactly
once, or as often as its fourth argument says. Instead of edits an entry may have `graph`, a
function that changes an `onnx.ModelProto`, with `export` ("cntk" or "port") and `network`; or
`perturb`, what a runtime at fault does to a layer's output; then `blame` says who has to be blamed.
Afterwards

    .venv-torch/bin/python -m parity defects --only momentum-0.9

runs that one, and `make defects` all that are not done yet, and writes this page.
'''
