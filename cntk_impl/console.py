"""The command line of the article's program: options by click, exit codes, figures. Python 3.6.

Exit codes: 0 done, 2 could not run, 129, 130, 143 ended by SIGHUP, SIGINT, SIGTERM.
"""
import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

import click
import cntk as C
import cv2
import numpy as np

from captures.article import DCGAN
from captures.process import ERROR, INTERRUPTED, pinned, say
from captures.training import ending
from captures.training.events import Events
from captures.training.options import OPTIONS, ROOT, Option, Settings, of_the_run
from captures.training.session import Program, Session
from environment.quiet import select_device

OUTPUT = str(ROOT / "runs" / "article")
FIGURES = "torch_port.train.figures"  # drawn in the port's environment, for both programs


def encode(picture: np.ndarray) -> bytes:
    """Bytes H x W x 3, channels B, G, R, as a PNG."""
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise OSError("OpenCV could not encode a picture")
    return encoded.tobytes()


def events(folder: str, step: int) -> Events:
    import tensorboardX
    return Events(tensorboardX, folder, step)


def program() -> Program:
    branch = os.environ.get("MKL_DEBUG_CPU_TYPE", "of this processor")
    return Program(
        name="cntk", spec=DCGAN,
        identity={"threads": os.cpu_count(), "arithmetic": "MKL's branch " + branch},
        versions={"cntk": C.__version__, "python": platform.python_version(),
                  "numpy": np.__version__, "opencv": cv2.__version__},
        encode=encode, events=events)


def note(text: str) -> None:
    click.echo(text, err=True)


def train(settings: Settings) -> None:
    from cntk_impl import dcgan_training

    select_device()
    with Session(settings, program(), note) as session:
        dcgan_training.train(session)


def draw_figures(folder: Path) -> None:
    """The loss figure, the grid and the animation. They are drawn from what is in the folder, so
    where the port's environment is missing nothing is lost."""
    python = ROOT / ".venv-torch" / "bin" / "python"
    if not python.exists():
        click.echo("figures were not drawn, because .venv-torch is not there: run make setup-torch "
                   "and `.venv-torch/bin/python -m %s %s`" % (FIGURES, folder), err=True)
        return
    subprocess.call([str(python), "-m", FIGURES, os.path.abspath(str(folder))], cwd=str(ROOT),
                    env=pinned(os.environ))


def _click_option(option: Option) -> Any:
    settings = {"help": option.help, "show_default": option.default not in (None, ())}
    default = OUTPUT if option.name == "output_dir" else option.default
    if option.kind is bool:
        return click.option(option.flag, is_flag=True, default=default, **settings)
    if option.choices:
        return click.option(option.flag, type=click.Choice(option.choices), multiple=True,
                            **settings)
    kinds = {int: click.IntRange(option.lowest, option.highest), str: click.STRING,
             float: click.FloatRange(option.lowest, option.highest)}
    return click.option(option.flag, type=kinds[option.kind], default=default,
                        **dict(settings, show_default=True))


@click.pass_context  # type: ignore[untyped-decorator]
def _command(context: Any, **values: Any) -> None:
    """Trains the article's DCGAN on real CNTK 2.7. Bare, it is the article's run."""
    given = {name for name in values
             if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    folder = Path(values["output_dir"])

    def run() -> None:
        settings = Settings.make(**of_the_run(folder, values, given))
        with contextlib.ExitStack() as stack:
            if settings.quiet:  # CNTK's own lines
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            train(settings)

    status = ending.run(run, folder, (lambda text: None) if values["quiet"] else note)
    if status != 2:
        draw_figures(folder)
    sys.exit(status)


command = click.command(context_settings={"help_option_names": ["--help"], "max_content_width": 100}
                        )(_command)
for _option in OPTIONS:
    command = _click_option(_option)(command)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """``sys.exit`` with the exit code. click refuses to run where Python's encoding is ASCII, and
    a path may need more: such a locale is replaced by its UTF-8 form first."""
    if sys.getfilesystemencoding() == "ascii" and "LC_ALL_WAS_C" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv],
                  dict(os.environ, LC_ALL="C.UTF-8", LANG="C.UTF-8", LC_ALL_WAS_C="1"))
    try:
        command.main(args=arguments, prog_name="bin/parity train-cntk", standalone_mode=False)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:  # what is wrong with the words of the command
        say("%s: --help lists the options" % error.format_message().rstrip("."))
        sys.exit(ERROR)
