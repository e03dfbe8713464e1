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
from typing import NamedTuple

import numpy as np

from captures.check import check_data
from captures.errors import PlanError

IMAGE_SIZE = 256
LATENT_SIZE = 100
LARGEST_SEED = 2 ** 32 - 1  # what numpy's RandomState takes


class Latents:
    """The latents of a run, minibatch after minibatch: N x 100 float32, standard normal.

    Drawn in float64 and rounded, as the article's program draws them.
    """

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def next(self, samples):
        return np.ascontiguousarray(self.random.normal(size=(samples, LATENT_SIZE)),
                                    dtype=np.float32)


FIELDS = (
    # name, default, lowest, highest, what it is
    ("seed", 0, 0, LARGEST_SEED, "of the weights, the latents and the order of the images"),
    ("minibatch_size", 4, 1, 64, "images in a minibatch"),
    ("warmup_iterations", 3, 1, 10000, "CNTK's own iterations before the layers are compared: an "
                                       "untrained batch normalisation divides by the root of 0"),
    ("twin_iterations", 20, 0, 100000, "of the twin run, from the seed alone in both frameworks"),
    ("twin_minibatch_size", 2, 1, 64, "images in a minibatch of the twin run"),
    ("reruns", 5, 0, 64, "of CNTK against itself, from weights moved by one ULP"),
    ("score_images", 64, 2, 4096, "generated images that the classifier score is taken of"),
    ("unit_gain", 0, 0, 1, "1: the paper's Adam; 0: the article's"),
    ("threads", 1, 1, 64, "of each process; several run side by side"),
    ("onednn", 0, 0, 1, "1: the port's convolutions by oneDNN, as PyTorch does by itself"),
    ("weight_scale_exponent", 0, -4, 4, "the weights after warm-up are multiplied by 2 to this"),
)

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
    onednn: int
    weight_scale_exponent: int
    map_file: str
    images_sha256: str


class Plan(_Plan):
    """One plan. ``Plan.make(seed=3, map_file=...)`` fills in the defaults and checks."""

    __slots__ = ()

    @classmethod
    def make(cls, map_file, **values):
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
        return cls(map_file=path, images_sha256=check_data(path).sha256, **filled)

    def with_values(self, **values):
        """The plan with some values changed, checked again."""
        kept = {field[0]: getattr(self, field[0]) for field in FIELDS}
        kept.update(values)
        return Plan.make(self.map_file, **kept)

    @property
    def inputs(self):
        """What the plan is, as JSON holds it. The map file by its content: a folder may move."""
        return collections.OrderedDict(
            (name, getattr(self, name)) for name in self._fields if name != "map_file")

    @property
    def hash(self):
        """SHA-256 of ``inputs``: two captures are of one plan when their hashes are equal."""
        return hashlib.sha256(json.dumps(self.inputs).encode("ascii")).hexdigest()

    def save(self, path):
        text = json.dumps(collections.OrderedDict(zip(self._fields, self)), indent=1)
        with open(path + ".part", "w") as file:
            file.write(text + "\n")
        os.replace(path + ".part", path)

    @classmethod
    def load(cls, path):
        """Raises PlanError: not a plan's file, or the map file is not the one it was made with."""
        try:
            with open(path) as file:
                values = json.load(file)
            values = {name: values[name] for name in cls._fields}
        except (OSError, IOError, ValueError, KeyError, TypeError) as error:
            raise PlanError("%s is not a plan (%s): make one with `python -m parity`"
                            % (path, error))
        map_file, digest = values.pop("map_file"), values.pop("images_sha256")
        plan = cls.make(map_file, **values)
        if plan.images_sha256 != digest:
            raise PlanError("the images of %s are not what they were when the plan %s was made: "
                            "restore them, or make the plan again" % (map_file, path))
        return plan
