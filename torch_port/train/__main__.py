"""The article's training in PyTorch: from the same seed, the steps that CNTK takes.

    python -m torch_port.train --seed 7 --iterations 5

One iteration, beside CNTK's program:

    x = next minibatch; z = fresh              D step: D(x), D(G(z)), both with gradients for D only
    z = fresh                                  G step: D(G(z)), gradients for G only

What each step moves, N samples in the minibatch (measured on CNTK):

    D step   D's weights, m, v, counter; D's running statistics twice (x first, then G(z): count
             + 2N); G's running statistics once (+ N)
    G step   G's weights, m, v, counter; G's running statistics (+ N), and D's too (+ N): a
             discriminator whose weights stand still goes on updating its statistics

Gradients are summed over the minibatch; the losses that are printed are means. An ordinary port
averages the gradient, detaches or freezes D's statistics in the G step, or runs one batch
normalisation over real and fake images together.

By default the whole of it is CNTK's arithmetic (``--arithmetic cntk``): from the same seed the
losses and weights of 20 iterations at minibatch 2 are CNTK's bit for bit (20 losses each of D and
G, 7,524 places of the weights after each iteration: 0 differing). The other arithmetics are for
those who want the article's run and not the bits: ``torch_port/fast/arithmetic.py`` says what each
is. A run keeps its arithmetic and device: going on in another is refused by name.

Written to the output folder: ``dcgan.csv`` (step, G_loss, D_loss), ``dcgan_image/step<N>/fake.png``
(the first image of a generator of N updates), grids of samples from latents that stay the same,
models, figures, TensorBoard's events, ``run.json`` and checkpoints, from which ``--resume`` goes on
as if the run had never stopped. Exit codes: 0 done; 2 could not run; 129, 130 and 143 ended by
SIGHUP, SIGINT and SIGTERM.
"""
import inspect
import os
import platform
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from typer.exceptions import TyperException

from captures.article import DCGAN
from captures.errors import TrainingError
from captures.process import ERROR, say
from captures.system import keep_memory
from captures.training import ending
from captures.training import folder as run_folder
from captures.training.options import OPTIONS, ROOT, Option, Settings, of_the_run
from captures.training.session import Program, Session
from torch_port import ranks, rounding
from torch_port.fast import arithmetic as arithmetics
from torch_port.fast.arithmetic import ON_THE_CPU, Arithmetic
from torch_port.train import distributed, figures
from torch_port.train.loop import train
from torch_port.train.outputs import encode, events

OUTPUT = str(ROOT / "runs" / "port")
OF_THE_PORT = (
    Option("threads", int, 0, "of PyTorch and the reader, which change no bit; 0: as many as there "
           "are processors", 0),
    Option("cntk_threads", int, rounding.DEFAULT_CNTK_THREADS, "of the CNTK that is followed: they "
           "order the sums of a weight's gradient, whatever this machine has", 1, 64),
    Option("arithmetic", str, arithmetics.CNTK, "cntk: CNTK's bits; the others are PyTorch's own, "
           "faster and with other roundings (tf32: on a GPU alone)", choices=arithmetics.NAMES),
    Option("device", str, "cpu", "cuda: an NVIDIA GPU", choices=arithmetics.DEVICES),
)


def note(text: str) -> None:
    if not int(os.environ.get("RANK", "0")):  # of torchrun's processes the first one speaks
        print(text, file=sys.stderr, flush=True)


def program(arithmetic: Arithmetic = ON_THE_CPU) -> Program:
    return Program(
        name="port", spec=DCGAN,
        identity={"threads": rounding.cntk_threads(), "arithmetic": arithmetic.identity},
        versions={"torch": torch.__version__, "python": platform.python_version(),
                  "numpy": np.__version__, "opencv": cv2.__version__},
        encode=encode, events=events)


def of_the_record(folder: Path, given: set[str], cntk_threads: int, asked: tuple[str, str]
                  ) -> tuple[int, tuple[str, str]]:
    """The number of CNTK's threads, and arithmetic and device, where they were not given: those of
    the port's run in the folder."""
    record = run_folder.read_run(folder) or {}
    identity = record.get("identity", {}) if record.get("program") == "port" else {}
    if "cntk_threads" not in given and identity.get("threads") in range(1, 65):
        cntk_threads = identity["threads"]
    if not {"arithmetic", "device"} & given:
        asked = next(((name, device) for name in arithmetics.NAMES
                      for device in arithmetics.DEVICES
                      if Arithmetic(name, device).identity == identity.get("arithmetic")), asked)
    return cntk_threads, asked


def command(**values: Any) -> int:
    """Trains the article's DCGAN in PyTorch as CNTK 2.7 trains it, without CNTK."""
    context = values.pop("context")
    threads, cntk_threads = values.pop("threads"), values.pop("cntk_threads")
    values["accept"] = tuple(one.value for one in values["accept"])
    given = {name for name in context.params
             if context.get_parameter_source(name).name != "DEFAULT"}
    folder = Path(values["output_dir"])
    asked = values.pop("arithmetic").value, values.pop("device").value
    if threads:
        torch.set_num_threads(threads)
    keep_memory()

    def run() -> None:
        nonlocal cntk_threads, asked
        if values["resume"]:
            cntk_threads, asked = of_the_record(folder, given, cntk_threads, asked)
        arithmetic = arithmetics.chosen(*asked)
        rounding.as_cntk_rounds(cntk_threads, gpu=asked == (arithmetics.CNTK, "cuda"))
        settings = Settings.make(**of_the_run(folder, values, given))
        distributed.begin(settings)
        if ranks.several() and arithmetic != ON_THE_CPU:
            raise TrainingError("several processes train in CNTK's order on the CPU alone: leave "
                                "--arithmetic and --device out, or start one process")
        if ranks.rank():
            distributed.follow(settings, threads or None)
            return
        with Session(settings, program(arithmetic), note) as session:
            train(session, threads or None, arithmetic)

    told: Callable[[str], None] = (lambda text: None) if values["quiet"] else note
    status = ending.run(run, folder, told)
    if status != ERROR and not ranks.rank():
        figures.draw(folder, told)
    return status


def parameter(option: Option) -> inspect.Parameter:
    """The option as typer reads it from a function's signature."""
    kind: Any = option.kind
    default = {"output_dir": OUTPUT, "accept": []}.get(option.name, option.default)
    if option.choices:
        choices = Enum(option.name, [(one, one) for one in option.choices])  # type: ignore[misc]
        kind = list[choices] if option.default == () else choices
        default = choices(default) if option.default else default
    about: dict[str, Any] = {"help": option.help}
    if option.kind in (int, float):
        about.update(min=option.lowest, max=option.highest)
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default,
        annotation=Annotated[kind, typer.Option(option.flag, **about)])


def application() -> typer.Typer:
    def whole(**values: Any) -> int:
        return command(**values)

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY,
                                    annotation=typer.Context),
                  *map(parameter, (*OPTIONS, *OF_THE_PORT))]
    whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    whole.__annotations__ = {one.name: one.annotation for one in parameters}
    whole.__doc__ = command.__doc__
    made = typer.Typer(add_completion=False, rich_markup_mode=None)
    made.command()(whole)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(application()(given, prog_name="bin/parity train",
                                 standalone_mode=False) or 0)
    except typer.Exit as end:
        return end.exit_code
    except TyperException as error:
        say(f"{error.format_message().rstrip('.')}: --help lists the options")
        return ERROR


if __name__ == "__main__":
    sys.exit(main())
