"""Captures a user's port for a plan, or shows how it is matched.

    python -m torch_port.adapter --adapter FILE.py --plan PLAN.json --reference CAPTURE --output F
    python -m torch_port.adapter --adapter FILE.py --explain
    python -m torch_port.adapter --adapter FILE.py --check --device cuda --mapping FILE.json
"""
import os
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from captures.article import DCGAN
from captures.errors import ParityError
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.process import ended, progress
from captures.system import keep_memory
from torch_port.adapter.capture import capture
from torch_port.adapter.conversion import user_networks
from torch_port.adapter.isolation import SECONDS
from torch_port.adapter.load import PARTS, Adapter, load, of_file
from torch_port.adapter.network import UserNetwork
from torch_port.adapter.sources import described


def explain(adapter: Adapter, mapping: dict[str, str]) -> str:
    """Which of the user's modules is which layer, which tensor which array; a line each."""
    lines = [f"{adapter.path}: names {', '.join(adapter.given)}"]
    for name, network in user_networks(adapter, DCGAN, mapping).items():
        lines += ["", f"{name}: {len(network.matched.groups)} convolutions, matched in the order "
                      "in which they run"]
        lines += _explained(network)
    lines += ["", *(f"noticed: {what}" for what in adapter.noticed)]
    lines += [_absent(adapter, name) for name in PARTS if name not in adapter.given]
    return "\n".join(lines).rstrip()


def _absent(adapter: Adapter, name: str) -> str:
    """What the suite does where the adapter has no such line."""
    instead = {"d_step": "d_loss", "g_step": "g_loss"}.get(name)
    if instead and adapter.has(instead, "optimizers"):
        return (f"steps are judged with your {instead} and optimizer; to have them judged as you "
                f"do them, add `{PARTS[name]}`")
    return f"not judged without `{PARTS[name]}`"


def _explained(network: UserNetwork) -> list[str]:
    matched, tensors = network.matched, network.tensors()
    lines = []
    for layer in network.network.layers:
        held = []
        for quantity in layer.arrays:
            one = matched.held.get(f"{network.network.name}/{layer.name}/{quantity}")
            if one is not None:
                held.append(f"{quantity} = {one.path} {tuple(tensors[one.path].shape)}")
        seen = "" if layer.name not in matched.unseen else "  (its output cannot be seen)"
        lines.append(f"  {layer.name:<12} {layer.kind:<13} {'; '.join(held)}{seen}".rstrip())
    if matched.logits:
        lines.append("  it ends before the sigmoid: its logits are taken through CNTK's")
    lines += [f"  {path} has no counterpart in CNTK's network" for path in matched.extra]
    return lines


def main(adapter: Annotated[Path, typer.Option(help="the file that names the port's parts")],
         plan: Annotated[Path | None, typer.Option(
             help="what to run, as `parity` wrote it")] = None,
         reference: Annotated[Path | None, typer.Option(help="CNTK's capture of the plan")] = None,
         output: Annotated[Path | None, typer.Option(help="folder of the capture")] = None,
         mapping: Annotated[Path | None, typer.Option(
             help="JSON: array of the captures to path of the tensor")] = None,
         device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
         time_limit: Annotated[float, typer.Option(
             help="seconds that each call of the port's code may take")] = SECONDS,
         show: Annotated[bool, typer.Option("--explain", help="only show the matching")] = False,
         check: Annotated[bool, typer.Option("--check", help=(
             "load the port, match it and say nothing"))] = False
         ) -> None:
    """Captures somebody's port of the article's networks."""
    def run() -> None:
        named = of_file(mapping) if mapping else {}
        torch.compiler.set_stance("force_eager")  # compiled code hides its calls
        loaded = load(adapter, time_limit, device)
        if check:
            user_networks(loaded, DCGAN, named)
            return
        if show:
            print(explain(loaded, named))
            return
        if plan is None or reference is None or output is None:
            raise ParityError("a capture needs --plan, --reference and --output")
        _capture(loaded, named, Plan.load(str(plan)), Capture(str(reference)), output,
                 described(loaded, mapping))

    code = ended(run, str(output or "the output folder"))
    if any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
        sys.stdout.flush()  # a thread that their code began would keep the process
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def _capture(adapter: Adapter, mapping: dict[str, str], plan: Plan, reference: Capture,
             output: Path, sources: str) -> None:
    started = time.time()
    keep_memory()
    torch.set_num_threads(plan.threads)

    with CaptureWriter(str(output), "port", plan, {
            "torch": torch.__version__, "adapter": sources}, plan.threads) as writer:
        capture(adapter, plan.spec, plan, reference, writer, progress, mapping)
        writer.fact("seconds", time.time() - started)


if __name__ == "__main__":
    typer.run(main)
