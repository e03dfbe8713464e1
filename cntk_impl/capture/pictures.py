"""Pictures for the score, by the program's own hands: generator, reader, normalisation, writer.

    score/generator/tanh7/images       of the plan's state              [-1, 1], B, G, R
    score/trained/tanh7/images         of a trained generator, where one is given
    score/faces/normalised/images      the data set through reader and normalisation
    score/generator/written/pictures   (and trained, faces) the same, written to files as the
                                       program does and read back: N x H x W x 3, R, G, B

All but the first only where they are asked for, and with a classifier's ONNX file; then CNTK itself
looks at the first few:

    score/generator/classifier/prepared, logits, value     and trained, faces

scaled in Python 3.6, evaluated by CNTK 2.7, scored with numpy 1.17. Python 3.6.
"""
import json
import os
import tempfile
from typing import List, Optional, Tuple

import cntk as C
import cv2
import numpy as np

from captures.format import CaptureWriter
from captures.plan import Plan
from captures.training.pictures import pixels as picture_of
from cntk_impl import console
from cntk_impl.capture import model
from cntk_impl.capture.observed import Observed, as_array
from cntk_impl.dcgan_training import Networks
from scores.inception_score import score, softmax
from scores.resize import resize

AT_ONCE = 8
LOOKED_AT = 4  # pictures


def score_pictures(writer: CaptureWriter, plan: Plan, networks: Networks, z: np.ndarray,
                   trained: Optional[str], classifier: Optional[str], pictures: bool) -> None:
    """networks: in the plan's state. trained: an .npz of a generator's arrays, or None. classifier:
    a JSON file with the arguments of ``Classifier``, or None: then nobody looks. pictures: whether
    more than the first images is made then."""
    if not classifier and not pictures:
        writer.add(plan.spec.images, generated(networks, z))
        return
    made = {plan.spec.images: generated(networks, z)}
    if trained:
        made["score/trained/%s/images" % plan.spec.maker.last] = generated(
            trained_networks(plan, trained), z)
    made["score/faces/normalised/images"] = faces(plan, len(z))
    network = None
    if classifier:
        with open(classifier, encoding="utf-8") as file:
            network = Classifier(**json.load(file))
    for name, images in made.items():
        writer.add(name, images)
        source = name.split("/")[1]
        files = written(images)
        writer.add("score/%s/written/pictures" % source, files)
        if network is None:
            continue
        prepared, logits = network(files[:LOOKED_AT])
        writer.add("score/%s/classifier/prepared" % source, prepared)
        writer.add("score/%s/classifier/logits" % source, logits)
        writer.add("score/%s/classifier/value" % source,
                   np.float64(score(softmax(logits.astype(np.float64)))))


def trained_networks(plan: Plan, path: str) -> Networks:
    """New networks with the generator's arrays of the file in them."""
    observed = Observed(plan.spec, plan.seed)
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            held = observed.state[name]
            held.value = np.asarray(arrays[name], np.float32).reshape(held.shape)
    return observed.networks


def generated(networks: Networks, z: np.ndarray) -> np.ndarray:
    return np.concatenate([as_array(networks.G_fake.eval({networks.z: part}))
                           for part in np.array_split(z, -(-len(z) // AT_ONCE))])


def faces(plan: Plan, count: int) -> np.ndarray:
    """The first ``count`` images of the program's reader, through the graph's normalisation."""
    spec = plan.spec
    reader = model.reader(spec, plan.map_file, plan.seed)
    x = C.input_variable(tuple(spec.critic.input))
    normalised = (x - spec.middle) / spec.middle
    made: List[np.ndarray] = []
    while sum(len(part) for part in made) < count:
        batch = model.pixels(
            spec, reader.next_minibatch(plan.minibatch_size)[reader.streams.images])
        made.append(as_array(normalised.eval({x: batch})))
    return np.concatenate(made)[:count]


def written(images: np.ndarray) -> np.ndarray:
    """As the program writes a picture, one file each, and read back."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fake.png")
        for image in images:
            with open(path, "wb") as file:
                file.write(console.encode(picture_of(image)))
            read = cv2.imread(path)
            assert read is not None  # it was written in the line above
            made.append(read[:, :, ::-1])
    return np.ascontiguousarray(made)


class Classifier:
    """A classifier's ONNX graph, imported by CNTK: pictures to logits."""

    def __init__(self, path: str, side: int, kernel: str, middle: float, scale: float,
                 classes: int) -> None:
        self.side, self.kernel, self.middle, self.scale = side, kernel, middle, scale
        graph = C.Function.load(path, format=C.ModelFormat.ONNX)
        self.x = graph.arguments[0]
        # The importer names the outputs otherwise, and gives the minibatch a free dimension.
        (logits,) = [output for output in graph.outputs if output.shape[-1:] == (classes,)]
        self.logits = C.combine([logits])

    def __call__(self, pictures: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """N x H x W x 3 to what goes in, N x 3 x side x side, and logits N x classes. One at a
        time: CNTK sets itself up anew for each size of minibatch, which takes seconds."""
        x = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
        prepared = ((resize(x, self.side, self.side, self.kernel) - np.float32(self.middle))
                    / np.float32(self.scale))
        logits = [as_array(self.logits.eval({self.x: one[None]})).reshape(1, -1)
                  for one in prepared]
        return prepared, np.concatenate(logits)
