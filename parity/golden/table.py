"""The plans whose captures of real CNTK are certified: what each is there for."""
from typing import NamedTuple


class Golden(NamedTuple):
    """name: of the file. values: of the plan, where not the default. kept: values of a larger
    array that are kept."""

    name: str
    values: dict[str, int]
    kept: int = 64


# The first is the default plan of `parity run`: its users get the most values.
TABLE = (
    Golden("default", {}, 200),
    Golden("minibatch-1", {"minibatch_size": 1, "seed": 11, "score_images": 8}),
    Golden("minibatch-2-unit-gain", {"minibatch_size": 2, "seed": 5, "unit_gain": 1,
                                     "score_images": 8}),
    Golden("minibatch-3-trained-20", {"minibatch_size": 3, "seed": 7, "warmup_iterations": 20,
                                      "score_images": 8}),
    Golden("minibatch-8", {"minibatch_size": 8, "seed": 123456789, "warmup_iterations": 2,
                           "score_images": 8}),
    Golden("minibatch-16-unit-gain", {"minibatch_size": 16, "seed": 2, "warmup_iterations": 1,
                                      "unit_gain": 1, "score_images": 8}),
    Golden("scaled", {"minibatch_size": 2, "seed": 3, "weight_scale_exponent": 1,
                      "score_images": 8}),
)
