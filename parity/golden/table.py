"""The plans whose captures of real CNTK are certified: what each is there for."""
from typing import NamedTuple


class Golden(NamedTuple):
    """name: of the file. values: of the plan, where not the default. kept: values of a larger
    array that are kept. job: of CNTK's capture program. faces: (how many, seed) of a drawn data
    set of its own; None: the default one. branch: of MKL's code, as MKL_DEBUG_CPU_TYPE names it, 0
    being what the port reproduces. only: prefixes of the arrays that are kept; all if empty.
    second: it is the second plan of a default run (``parity/producers/second_plan.py``)."""

    name: str
    values: dict[str, int]
    kept: int = 64
    job: str = "layers"
    faces: tuple[int, int] | None = None
    branch: int = 0
    only: tuple[str, ...] = ()
    second: bool = False


_SMALL = {"minibatch_size": 2, "score_images": 8}
FORWARD = ("forward/evaluation", "forward/training")

# The first is the default plan of `parity run`: its users get the most values.
TABLE = (
    Golden("default", {}, 200),
    Golden("twin", {"twin_iterations": 50}, 2000, "twin"),
    Golden("second", {}, second=True),
    Golden("second-twin", {}, 2000, "twin", second=True),
    Golden("minibatch-1", {"minibatch_size": 1, "seed": 11, "score_images": 8}),
    Golden("minibatch-2-unit-gain", {**_SMALL, "seed": 5, "unit_gain": 1}),
    Golden("one-thread", {**_SMALL, "seed": 6, "cntk_threads": 1}),
    Golden("other-faces", {**_SMALL, "seed": 9, "warmup_iterations": 2}, faces=(37, 4)),
    Golden("twin-unit-gain", {"twin_iterations": 50, "twin_minibatch_size": 3, "seed": 5,
                              "unit_gain": 1}, 2000, "twin"),
    Golden("scaled", {**_SMALL, "seed": 3, "weight_scale_exponent": 1}),
    Golden("minibatch-8", {"minibatch_size": 8, "seed": 123456789, "warmup_iterations": 2,
                           "score_images": 8}),
    Golden("minibatch-3-trained-20", {"minibatch_size": 3, "seed": 7, "warmup_iterations": 20,
                                      "score_images": 8}),
    Golden("minibatch-16-unit-gain", {"minibatch_size": 16, "seed": 2, "warmup_iterations": 1,
                                      "unit_gain": 1, "score_images": 8}),
    Golden("mkl-avx2", {**_SMALL, "seed": 4}, branch=5, only=FORWARD),
    Golden("mkl-avx512", {**_SMALL, "seed": 4}, branch=7, only=FORWARD),
)
