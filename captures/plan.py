"""A plan: everything that a capture depends on. Plain Python 3.6 and numpy; both sides import it.

A plan determines every input of a run. The seed gives the initial weights (seed, seed + 1, ... in
order of creation), the latents (``numpy.random.RandomState(seed)``, whose stream is the same in
numpy 1.17 and 2.x) and the order of the images (the reader's randomisation seed); the map file
gives the images. So nothing but the plan has to be exchanged between two implementations.
"""
import collections
import hashlib
import json
import os
from typing import Any, Dict, Mapping, NamedTuple, Tuple

import numpy as np

from captures.article import DCGAN, LATENT_SIZE
from captures.check import check_data
from captures.errors import PlanError
from captures.files import AnyPath, read_json, write_json
from captures.spec import Spec

LARGEST_SEED = 2 ** 32 - 1  # what numpy's RandomState takes


class Latents:
    """The latents of a run, minibatch after minibatch: N x size float32, standard normal.

    Drawn in float64 and rounded, as the article's program draws them. size: the article's is 100.
    """

    def __init__(self, seed: int, size: int = LATENT_SIZE) -> None:
        self.random = np.random.RandomState(seed)
        self.size = size

    def next(self, samples: int) -> np.ndarray:
        return np.ascontiguousarray(self.random.normal(size=(samples, self.size)),
                                    dtype=np.float32)


FIELDS: Tuple[Tuple[str, int, int, int, str], ...] = (
    # name, default, lowest, highest, what it is
    ("seed", 0, 0, LARGEST_SEED, "of the weights, the latents and the order of the images"),
    ("minibatch_size", 4, 1, 64, "images in a minibatch"),
    ("warmup_iterations", 3, 1, 10000, "CNTK's own iterations before the layers are compared: an "
                                       "untrained batch normalisation divides by the root of 0"),
    ("twin_iterations", 20, 0, 100000, "of the twin run, from the seed alone in both frameworks"),
    ("twin_minibatch_size", 2, 1, 64, "images in a minibatch of the twin run"),
    ("reruns", 5, 0, 64, "of CNTK against itself, from weights moved by one ULP, which `horizon` "
     "alone makes"),
    ("score_images", 64, 2, 4096, "generated images that the classifier score is taken of"),
    ("unit_gain", 0, 0, 1, "the paper's Adam instead of the article's"),
    ("threads", 1, 1, 64, "of each process; several run side by side"),
    ("cntk_threads", 2, 1, 64, "of CNTK, whatever the machine has: they order the sums of a "
                               "weight's gradient"),
    ("onednn", 0, 0, 1, "the port's convolutions by oneDNN, as PyTorch does by itself"),
    ("weight_scale_exponent", 0, -4, 4, "the weights after warm-up are multiplied by 2 to this"),
)


def hash_of(inputs: Mapping[str, Any]) -> str:
    """Of a plan's ``inputs``."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("ascii")).hexdigest()


def check_inputs(inputs: Any) -> None:
    """Raises ValueError: they are no plan's: a value is no number, or no short text."""
    numbers = {field[0] for field in FIELDS}
    if not isinstance(inputs, dict) or "seed" not in inputs:
        raise ValueError("its plan has no seed")
    for name, value in inputs.items():
        if not (type(value) is int if name in numbers else
                isinstance(value, str) and len(value) <= 100 and value.isprintable()):
            raise ValueError("the plan's %.40s is of another form" % name)


class _Plan(NamedTuple):
    seed: int
    minibatch_size: int
    warmup_iterations: int
    twin_iterations: int
    twin_minibatch_size: int
    reruns: int
    score_images: int
    unit_gain: int
    threads: int
    cntk_threads: int
    onednn: int
    weight_scale_exponent: int
    map_file: str
    images_sha256: str
    spec: Spec


class Plan(_Plan):
    """One plan, of the article's networks. ``Plan.make(map_file, seed=3)`` fills in the defaults
    and checks; ``.of(spec)`` is the same plan of other networks."""

    __slots__ = ()

    @classmethod
    def make(cls, map_file: AnyPath, **values: int) -> "Plan":
        """Raises PlanError: a value out of range, a name unknown. DataError: see ``check_data``."""
        known = {field[0]: field for field in FIELDS}
        for name in values:
            if name not in known:
                raise PlanError("a plan has no %r: it has %s" % (name, ", ".join(sorted(known))))
        filled = {}
        for name, default, lowest, highest, _ in FIELDS:
            value = values.get(name, default)
            if isinstance(value, bool) or not isinstance(value, int) \
                    or not lowest <= value <= highest:
                raise PlanError("%s is %r: give a whole number in %d .. %d"
                                % (name, value, lowest, highest))
            filled[name] = value
        path = os.path.abspath(str(map_file))
        return cls(map_file=path, images_sha256=check_data(path).sha256, spec=DCGAN, **filled)

    def with_values(self, **values: int) -> "Plan":
        """The plan with some values changed, checked again."""
        kept = {field[0]: getattr(self, field[0]) for field in FIELDS}
        kept.update(values)
        return Plan.make(self.map_file, **kept).of(self.spec)

    def of(self, spec: Spec) -> "Plan":
        return self._replace(spec=spec)

    @property
    def inputs(self) -> Dict[str, Any]:
        """What the plan is, as JSON holds it. The map file by its images: a folder may move. The
        networks by their name and hash: a capture has them whole in another place."""
        return self._inputs(self._asdict(), self.spec)

    @classmethod
    def _inputs(cls, values: Mapping[str, Any], spec: Spec) -> Dict[str, Any]:
        made: Dict[str, Any] = collections.OrderedDict(
            (name, values[name]) for name in cls._fields if name not in ("map_file", "spec"))
        made.update(network=spec.name, network_sha256=spec.sha256)
        return made

    @classmethod
    def inputs_in(cls, path: AnyPath) -> Dict[str, Any]:
        """The ``inputs`` of a plan's file, whose images need not be here. Raises PlanError."""
        try:
            values = read_json(path)
            return cls._inputs(values, Spec.of_data(values["spec"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlanError("%s is not a plan (%s): restore it, or remove it" % (path, error))

    @property
    def hash(self) -> str:
        """SHA-256 of ``inputs``: two captures are of one plan when their hashes are equal."""
        return hash_of(self.inputs)

    def save(self, path: AnyPath) -> None:
        values: Dict[str, Any] = collections.OrderedDict(zip(self._fields, self))
        values["spec"] = self.spec.data
        write_json(path, values)

    @classmethod
    def load(cls, path: AnyPath) -> "Plan":
        """Raises PlanError: not a plan's file, or the map file is not the one it was made with."""
        try:
            values = read_json(path)
            values = {name: values[name] for name in cls._fields}
            spec = Spec.of_data(values.pop("spec"))
            map_file, digest = str(values.pop("map_file")), values.pop("images_sha256")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlanError("%s is not a plan (%s): make one with `python -m parity`"
                            % (path, error))
        plan = cls.make(map_file, **values).of(spec)
        if plan.images_sha256 != digest:
            raise PlanError("the images of %s are not what they were when the plan %s was made: "
                            "restore them, or make the plan again" % (map_file, path))
        return plan
