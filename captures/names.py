"""Every array of a capture: its name, who writes it, its shape, what it is.

docs/captures.md shows it. A name is ``stage/network/layer/quantity``, the same in every framework.
Words in capitals stand for what a spec or a plan says; ``WORDS`` has what they may be. Plain Python
3.6.
"""
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

WORDS: Dict[str, Tuple[str, str]] = {
    "NETWORK": ("[a-z][a-z0-9_]*", "one of the two networks"),
    "BRANCH": ("[a-z][a-z0-9_]*", "one pass through one of them: the first network, and the second "
                                  "on the data set's images and on made ones"),
    "LAYER": ("[a-z][a-z0-9_]*", "one layer of it"),
    "PARAMETER": ("(weight|scale|bias)", "what is learnt: weight, scale, bias"),
    "STATISTIC": ("(running_mean|running_variance|sample_count)",
                  "of a normalisation: running_mean, running_variance, sample_count"),
    "ENTERED": ("(mean|variance)", "of what goes into a normalisation: mean, variance (unbiased)"),
    "MOMENT": ("(weight|scale|bias)_[mv]", "of a parameter, Adam's m or v: weight_m"),
    "MODE": ("(evaluation|training|g_step)",
             "evaluation; training, in the D step; g_step, training, in the G step behind it"),
    "STEP": ("[dg]", "the step of the second network (d) or of the first (g)"),
    "TENSOR": ("[a-z]+", "a tensor that the learner moves: matrix, kernel, vector, ..."),
    "FUNCTION": ("[a-z_]+", "an activation or a loss"),
    "PLACE": ("(forward|gradient|step)/.*", "the rest of another name in this table"),
    "SOURCE": ("[a-z0-9_]+", "of pictures: the first network, trained, faces (the data set)"),
    "SIDE": ("(cntk|port)", "cntk or port"),
    "NN": ("[0-9]+", "a number"),
}


class Name(NamedTuple):
    """by: the captures that hold it, by their folders' names. gaps: NaN stands for a value that
    there is not; in any other array it is a mistake."""

    pattern: str
    by: str
    shape: str
    what: str
    gaps: bool = False


_IMAGES, _AS_IT_IS = "N x 3 x H x W", "as the array's in the spec"
NAMES: List[Name] = [
    Name("initial/NETWORK/LAYER/PARAMETER", "cntk port", _AS_IT_IS, "from the seed alone"),
    Name("initial/NETWORK/LAYER/STATISTIC", "cntk port", "C, or a number", "before any minibatch"),
    Name("reader/probe/minibatchNN/images", "cntk port", _IMAGES,
         "pixels, 0..255, B, G, R, of a few minibatches that cross the end of a sweep"),
    Name("optimizer/probe/TENSOR/stepNN", "cntk port", "of several kinds",
         "parameters behind each step of the learner on drawn gradients"),
    Name("normalisation/probe/minibatchNN/STATISTIC", "cntk port", "C, or a number",
         "running statistics behind each of a few drawn minibatches"),
    Name("normalisation/networks/minibatchNN/NETWORK/LAYER/STATISTIC", "port", "C",
         "of an adapter's own networks, new ones with CNTK's weights, behind each of a few "
         "minibatches"),
    Name("normalisation/networks/minibatchNN/NETWORK/LAYER/ENTERED", "port", "C",
         "of what went in there, in float64"),
    Name("pointwise/probe/FUNCTION/output", "cntk port", "n", "of drawn and of extreme inputs"),
    Name("pointwise/probe/FUNCTION/gradient", "cntk port", "n", "by the same inputs"),
    Name("state/NETWORK/LAYER/PARAMETER", "cntk port", _AS_IT_IS,
         "after the warm-up, where every layer and step begins; the port's as it took them in"),
    Name("state/NETWORK/LAYER/STATISTIC", "cntk port", "C, or a number", "the same"),
    Name("optimizer/state/NETWORK/LAYER/MOMENT", "cntk", _AS_IT_IS, "the same"),
    Name("optimizer/state/NETWORK/learner/minibatches", "cntk", "a number",
         "how many the learner has seen"),
    Name("input/reader/images", "cntk port", _IMAGES, "the minibatch behind the warm-up, pixels"),
    Name("input/STEP_step/latents", "cntk", "N x values", "the latents of that step"),
    Name("input/score/latents", "cntk", "n x values", "of the score's pictures"),
    Name("forward/MODE/BRANCH/LAYER/output", "cntk port oracle", "N x C x H x W",
         "in the chain: from what its own layer before gave"),
    Name("gradient/STEP/BRANCH/LAYER/output", "cntk port oracle", "N x C x H x W",
         "of the step's loss, summed over samples, by a layer's output"),
    Name("gradient/STEP/NETWORK/LAYER/PARAMETER", "cntk port oracle", _AS_IT_IS,
         "the same by a parameter"),
    Name("gradient/STEP/loss/samples/value", "cntk port oracle", "N", "the loss of each sample"),
    Name("step/NN/after_STEP/NETWORK/LAYER/PARAMETER", "cntk port oracle", _AS_IT_IS,
         "behind a D step, and behind the G step that follows"),
    Name("step/NN/after_STEP/NETWORK/LAYER/STATISTIC", "cntk port oracle", "C, or a number",
         "the same"),
    Name("step/NN/after_STEP/NETWORK/LAYER/MOMENT", "cntk port oracle", _AS_IT_IS, "the same"),
    Name("step/NN/after_STEP/NETWORK/learner/minibatches", "cntk port oracle", "a number",
         "the same"),
    Name("step/NN/after_STEP/loss/STEP/mean", "cntk port oracle", "a number",
         "the loss that the step began at"),
    Name("local/PLACE", "port oracle", "as PLACE",
         "on its own: from CNTK's input (or gradient) to this layer, so that what differs was born "
         "in it"),
    Name("rounding/PLACE", "oracle", "as PLACE",
         "how large the rounding of a correct float32 program is there, value by value"),
    Name("score/SOURCE/normalised/images", "cntk port", _IMAGES,
         "the data set through reader and normalisation, in [-1, 1]"),
    Name("score/SOURCE/LAYER/images", "cntk port", _IMAGES,
         "what a network made for the score, in [-1, 1]"),
    Name("score/SOURCE/written/pictures", "cntk port", "N x H x W x 3",
         "the files that the side's own writer wrote, read back: R, G, B"),
    Name("score/SOURCE/classifier/prepared", "cntk", "n x 3 x S x S",
         "the first of them as CNTK scales and normalises them"),
    Name("score/SOURCE/classifier/logits", "cntk", "n x K", "of those, by CNTK"),
    Name("score/SOURCE/classifier/value", "cntk", "a number", "their score, by CNTK's process"),
    Name("onnx/NETWORK/LAYER/output", "onnx-cntk onnx-port", "N x C x H x W",
         "by onnxruntime on the side's exported graph; the last layer by the plain run, as users "
         "run it"),
    Name("classifier/SOURCE/SIDE/logits", "classifier", "N x K", "of all of a side's pictures"),
    Name("classifier/SOURCE/SIDE/truth", "classifier", "n x K",
         "of the first ones, by the same network in float64"),
    Name("classifier/SOURCE/SIDE/features", "classifier", "N x D",
         "of all of them, where the classifier shows features"),
    Name("classifier/SOURCE/SIDE/exact", "classifier", "n x D",
         "of the first ones, by the same network in float64"),
    Name("classifier/SOURCE/SIDE/prepared", "classifier", "n x 3 x S x S",
         "what the side prepared itself, in float64"),
    Name("program/run/losses/d_and_g", "port", "iterations x 2",
         "the training program's log: both losses"),
    Name("program/resumed/losses/d_and_g", "port", "iterations x 2",
         "the same of a run that was stopped before its last iteration and went on"),
    Name("program/resumed/state/apart", "port", "arrays",
         "of an adapter's training that was saved, loaded and went on: how far each array of both "
         "networks is, at most, from that of one that was not stopped"),
    Name("program/run/events/d_and_g", "port", "iterations x 2",
         "both losses in TensorBoard's events, in float32; NaN where there is none", True),
    Name("program/steps/losses/d_and_g", "port", "iterations x 2",
         "both losses of the port's steps alone, without the program around them"),
    Name("program/run/samples/images", "port", "16 x 3 x H x W",
         "G of the program's 16 latents behind its last iteration, in evaluation mode"),
    Name("program/run/samples/written", "port", "of the grid, x 3",
         "the picture that the program wrote of them, read back: B, G, R"),
    Name("program/run/picture/image", "port", "3 x H x W",
         "the first image of the last iteration, in [-1, 1], as the program's loop has it"),
    Name("program/run/picture/written", "port", "H x W x 3",
         "the picture that the program wrote of it, read back: B, G, R"),
    Name("twin/run/losses/d_and_g", "twin", "iterations x 2", "from the seed alone: both losses"),
    Name("twin/run/weights/sampled", "twin", "iterations x n",
         "at most 256 values of each parameter behind each iteration"),
    Name("twin/step/state/apart", "twin", "iterations x arrays x 9",
         "of a run that is given CNTK's state before each iteration: root mean squares of the "
         "difference, of CNTK's movement (of m: from b1 m, its gradient), of CNTK's value; the "
         "largest difference; the scale of the movement that the difference holds, and its "
         "standard error; the same of the filter or channel that stands out most, with its number "
         "(1000 and more: along the second axis)"),
    Name("twin/step/state/own", "twin", "iterations x arrays",
         "how many roundings a weight, and its v, are from what CNTK's Adam makes beside the m of "
         "the port's same update; NaN where that is not known", True),
]


def expression(pattern: str) -> str:
    """A pattern as a regular expression. A word's place is between slashes, digits and small
    letters."""
    words = "|".join(sorted(WORDS, key=len, reverse=True))
    return re.sub(words, lambda found: WORDS[found.group()][0], pattern)


def name_of(array: str) -> Optional[Name]:
    """The entry of an array; None where there is none."""
    for one in NAMES:
        if re.fullmatch(expression(one.pattern), array):
            return one
    return None


def may_have_gaps(array: str) -> bool:
    """Whether NaN may stand in it."""
    return any(one.gaps and re.fullmatch(expression(one.pattern), array) for one in NAMES)
