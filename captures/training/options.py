"""The options of a training, once for both programs. Plain Python 3.6.

CNTK's program makes click options of this table, the port's typer options: names, defaults, bounds
and help are the same. ``Settings`` is what a run was asked for, checked.
"""
import math
import os
from pathlib import Path
from typing import AbstractSet, Any, Dict, Mapping, NamedTuple, Optional, Tuple

from captures.article import IMAGE_INTERVAL, ITERATIONS, MINIBATCH_SIZE
from captures.errors import TrainingError
from captures.plan import LARGEST_SEED

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = ("data", "threads", "arithmetic")


class Option(NamedTuple):
    """kind: int, float, bool, str; a str with ``choices`` may be given more than once."""

    name: str
    kind: type
    default: Any
    help: str
    lowest: Optional[float] = None
    highest: Optional[float] = None
    choices: Tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


OPTIONS = (
    Option("iterations", int, ITERATIONS, "updates of each network, in all", 1),
    Option("minibatch_size", int, MINIBATCH_SIZE,
           "images in a minibatch; also the clipping threshold per sample", 1),
    Option("map_file", str, str(ROOT / "data" / "train_dcgan_map.txt"),
           "one `image<TAB>0` a line; the default is what `make data` makes"),
    Option("output_dir", str, None, "the folder of the run: all that it writes"),
    Option("unit_gain", bool, False, "the paper's Adam, as the program had it from March 2020 on"),
    Option("seed", int, 0, "of the weights, the latents and the order of the images", 0,
           LARGEST_SEED),
    Option("image_interval", int, IMAGE_INTERVAL,
           "iterations from one written image to the next", 1),
    Option("sample_interval", int, 0, "iterations from one grid of samples from fixed latents to "
           "the next; 0: a fiftieth of --iterations", 0),
    Option("checkpoint_iterations", int, 1000,
           "iterations from one checkpoint to the next; 0: by time alone", 0),
    Option("checkpoint_minutes", float, 15.0,
           "minutes from one checkpoint to the next; 0: by iterations alone", 0),
    Option("resume", bool, False, "go on with the run in the output folder; options that are left "
           "out are those of that run"),
    Option("accept", str, (), "with --resume: go on although this changed (may be repeated)",
           choices=ACCEPTED),
    Option("overwrite", bool, False, "delete the run in the output folder and begin anew"),
    Option("quiet", bool, False, "print nothing but errors"),
)
BY_NAME = {option.name: option for option in OPTIONS}


class Settings(NamedTuple):
    iterations: int
    minibatch_size: int
    map_file: str
    output_dir: str
    unit_gain: bool
    seed: int
    image_interval: int
    sample_interval: int
    checkpoint_iterations: int
    checkpoint_minutes: float
    resume: bool = False
    accept: Tuple[str, ...] = ()
    overwrite: bool = False
    quiet: bool = False

    @classmethod
    def make(cls, output_dir: str, **given: Any) -> "Settings":
        """The defaults, and what is given. Raises TrainingError: out of range, or contradictory."""
        values: Dict[str, Any] = {option.name: option.default for option in OPTIONS}
        values.update(given, output_dir=output_dir)
        settings = cls(**values)
        for option in OPTIONS:
            check(option, getattr(settings, option.name))
        if settings.resume and settings.overwrite:
            raise TrainingError("--resume and --overwrite contradict each other: give one of them")
        if settings.accept and not settings.resume:
            raise TrainingError("--accept says with what changes a run goes on: give it with "
                                "--resume")
        if not settings.checkpoint_iterations and not settings.checkpoint_minutes:
            raise TrainingError("--checkpoint-iterations and --checkpoint-minutes are both 0, so "
                                "nothing would be kept until the end: give one of them")
        return settings._replace(map_file=os.path.abspath(settings.map_file),
                                 output_dir=os.path.abspath(settings.output_dir))

    @property
    def samples_every(self) -> int:
        return self.sample_interval or max(1, self.iterations // 50)


    @property
    def summarised_every(self) -> int:
        return max(1, self.iterations // 100)


# What a run is asked for again each time it goes on; the rest belongs to the run.
OF_THE_CALL = ("output_dir", "resume", "accept", "overwrite", "quiet")


def check(option: Option, value: Any) -> None:
    """Raises TrainingError: out of the option's range; a path that is empty."""
    if option.kind is str and value == "":
        raise TrainingError("%s is empty: give a path, \".\" for the folder that you are in"
                            % option.flag)
    if option.kind not in (int, float):
        return
    if isinstance(value, bool) or not isinstance(value, (int, option.kind)) \
            or not math.isfinite(value):
        raise TrainingError("%s is %r: give a number" % (option.flag, value))
    low, high = option.lowest, option.highest
    if (low is not None and value < low) or (high is not None and value > high):
        raise TrainingError("%s is %s: give at least %d%s" % (
            option.flag, value, low or 0, "" if high is None else " and at most %d" % high))


def of_the_run(folder: Path, values: Mapping[str, Any], given: AbstractSet[str]) -> Dict[str, Any]:
    """The values of the options; with ``resume``, those that were not given are the run's own.

    given: names of the options that stood on the command line.
    """
    from captures.training.folder import read_run

    made = dict(values)
    run = read_run(folder) if values["resume"] else None
    if run is not None:
        for name, value in run["settings"].items():
            if name in BY_NAME and name not in given:
                option = BY_NAME[name]
                kinds = (int, float) if option.kind is float else (option.kind,)
                if not isinstance(value, kinds):
                    raise TrainingError("the record of the run in %s says %s is %r: give %s" % (
                        folder, name, value, option.flag))
                made[name] = value
    return made
