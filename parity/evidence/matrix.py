"""The matrix of planted mistakes: as JSON, as a table, and as the page docs/defects.md."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captures.plan import Plan
from parity.evidence.defect import Defect
from parity.evidence.examine import Result

# -------------------------------------------------------------------------------------- the matrix


def matrix(correct: Mapping[str, Result], lines: Sequence[tuple[Defect, Result]], plan: Plan,
           kinds: Mapping[str, str]) -> dict[str, Any]:
    import onnx
    import onnxruntime
    import torch
    return {
        "plan": dict(plan.inputs),
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__,
                     "onnxruntime": onnxruntime.__version__, "cntk": "2.7"},
        "correct_port_passes": {base: not port.caught and not port.error
                                for base, port in correct.items()},
        "kinds": dict(kinds),
        "defects": len(lines), "caught": sum(result.caught for _, result in lines),
        "right_place": sum(result.right(defect) for defect, result in lines),
        "bases": {base: _of_base(base, lines) for base in correct},
        "processor_seconds": round(sum(
            result.processor_seconds for result in [*correct.values(), *(
                result for _, result in lines)])),
        "matrix": [{
            "name": defect.title, "base": defect.base, "kind": defect.kind, "what": defect.what,
            "limit": defect.limit,
            "caught": result.caught, "stage": result.stage, "place": result.place,
            "born": {True: "local", False: "inherited", None: ""}[result.local],
            "margin": result.margin, "policy": result.policy, "blame": result.blame,
            "right": result.right(defect),
            "asked_for": {"stage": defect.stage, "place": defect.place, "blame": defect.blame},
            "detail": result.detail, "error": result.error, "seconds": round(result.seconds, 1),
        } for defect, result in lines],
    }


def _of_base(base: str, lines: Sequence[tuple[Defect, Result]]) -> dict[str, int]:
    of = [(defect, result) for defect, result in lines if defect.base == base]
    return {"defects": len(of), "caught": sum(result.caught for _, result in of),
            "right_place": sum(result.right(defect) for defect, result in of)}


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
            f"  {defect.title}", escape(f"{result.stage}: {result.place}{born}") if result.caught
            else f"[red]{escape(result.error) or 'nothing'}[/]",
            shown_margin(result.margin) if result.caught else "", result.blame,
            "[green]yes[/]" if result.right(defect)
            else f"[red]no: {escape(defect.stage)}: {escape(defect.place)}, {defect.blame}[/]")
    return made


def print_summary(correct: Mapping[str, Result], lines: Sequence[tuple[Defect, Result]],
                  console: Console) -> None:
    for base, port in correct.items():
        who = "the correct port" if len(correct) == 1 else f"the correct port {base}"
        if port.error:
            console.print(f"{who} did not run: {port.error}", markup=False)
        elif port.caught:
            console.print(f"{who} fails: {port.stage}, {port.place}: {port.detail}", markup=False)
        else:
            console.print(f"{who} passes")
        found = _of_base(base, lines)
        total = found["defects"]
        console.print(f"{found['caught']} of {total} caught, {found['right_place']} of {total} at "
                      "the right place")
    missed = [defect.title for defect, result in lines if not result.caught]
    if missed:
        console.print(f"missed: {', '.join(missed)}", markup=False)


def documentation(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    text = [
        "# Planted defects", "",
        "Made by `make defects`, which runs all of this; not written by hand. "
        f"Versions: {versions}.", "",
        "| planted into | defects | caught | at the right place | the correct port |",
        "| --- | ---: | ---: | ---: | --- |",
        *(f"| {base} | {of['defects']} | {of['caught']} | {of['right_place']} "
          f"({100 * of['right_place'] / max(1, of['defects']):.0f} %) | "
          f"{'passes' if made['correct_port_passes'][base] else '**fails**'} |"
          for base, of in made["bases"].items()), "",
        "Each mistake is made in a running port, or in a copy of an exported graph, and the suite "
        "is run on it, stage by stage, against CNTK's capture of minibatch "
        f"{made['plan']['minibatch_size']} after {made['plan']['warmup_iterations']} iterations "
        "(or of the plan that the mistake asks for), until a stage fails. *ours* is this project's "
        "port; *ordinary* is what a user writes, on oneDNN with PyTorch's batch normalisation; "
        "*channels-last* is that in PyTorch's other memory layout.", "",
        "- **caught by**: the first stage that failed, with our port",
        "- **place**: what the suite named: `network/layer/quantity`",
        "- **local** or **chain**: whether the error was found on CNTK's own inputs, where it is "
        "born, or behind other layers",
        "- **margin**: how many times the allowance; *exact*: nothing was allowed",
        "- **blame**: whose mistake it is, as the report says it",
        "- **right**: whether stage, place and blame are what the catalogue asks for, with each "
        "base port; where not, what was named", ""]
    for kind, what in made["kinds"].items():
        lines = [line for line in made["matrix"] if line["kind"] == kind]
        if lines:
            text += [f"## {kind[0].upper()}{kind[1:]}", "", f"{what[0].upper()}{what[1:]}.", "",
                     "| defect | what was done wrong | caught by | place | | margin | blame | "
                     "right |", "| --- | --- | --- | --- | --- | ---: | --- | --- |",
                     *_rows(lines), ""]
    limits = [f"- `{line['name']}`: {line['limit']}" for line in made["matrix"] if line["limit"]]
    if limits:
        text += ["## Below what can be seen without CNTK's bits", "",
                 "Planted into our port alone.", "", *limits, ""]
    return "\n".join([*text, *_HOW_TO_ADD.splitlines(), ""])


def _rows(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row a defect: what was found in the first base port, and whether it was right in all."""
    named: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        named.setdefault(line["name"].partition("@")[0], []).append(line)
    rows = []
    for name, of in named.items():
        line = of[0]
        born = {"local": "local", "inherited": "chain", "": ""}[line["born"]]
        margin = shown_margin(float(line["margin"])) if line["caught"] else ""
        place = f"`{line['place']}`" if line["place"] else ""
        rows.append(f"| {name} | {line['what']} | {line['stage'] or '**nothing**'} | {place} | "
                    f"{born} | {margin} | {line['blame']} | {_right(of)} |")
    return rows


def _right(of: Sequence[Mapping[str, Any]]) -> str:
    wrong = [f"{line['base']}: **no**" + (
        f", {line['stage']} `{line['place']}`" if line["caught"] and line is not of[0] else "")
        for line in of if not line["right"]]
    return "yes" if not wrong else "; ".join(wrong)


_HOW_TO_ADD = '''\
## Adding a defect

One function in a module of `planted`, with what is expected of the suite beside it:

```python
@mistake("momentum-0.9", OPTIMIZER, "Adam's usual momentum.",
         "optimizer", "matrix/step01")       # stage and place that must be named, in full
def momentum_of_adam() -> None:
    number("MOMENTUM", 0.5, 0.9)
```

The function replaces named parts of the running port (`planted/parts.py`: `replace`, `method`,
`number`, `built`); a part that was renamed is an error at once, and a test makes every plant.
Values of a plan that the mistake needs are further arguments (`seed=7`). A mistake in an exported
file, or in what runs it, is an `exported(...)` in `planted/onnx_files.py`. Afterwards

    bin/parity defects --only momentum-0.9

runs that one in every base port, and `make defects` all that are not done yet, and writes this
page.
'''
