"""What may be wrong with a convolution: the images that go in, bias, weights, padding, stride,
precision."""
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from captures.spec import TRANSPOSED
from parity.diagnosis.arithmetic import AXES, Floats, column, conv, cropped, padded, spread
from parity.diagnosis.evidence import PRECISIONS, SHARE, Case, Hypothesis, listed, nice
from parity.diagnosis.given import Given, convolved

PAGE = "docs/behaviours.md#convolutions"


def convolution(given: Given, case: Case) -> Iterator[Hypothesis]:
    yield from _of_the_image(given)
    yield from _of_the_bias(given, case)
    yield from _of_the_weights(given)
    yield from _of_the_padding(given)
    yield from _of_the_stride(given)
    yield from _of_the_precision(given)


def _of_the_image(given: Given) -> Iterator[Hypothesis]:
    layer, pixels, w = given.layer, given.pixels, given.arrays["weight"]
    bias = given.arrays.get("bias")
    if pixels is None:
        return
    middle = given.middle
    mend = f"x = (pixels - {middle:g}) / {middle:g}; say in the adapter's `images` what is so"
    imagenet = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    changes: list[tuple[str, str, Floats]] = [
        ("range-of-the-images", "images go in as 0 .. 255", pixels),
        ("range-of-the-images", "images go in as 0 .. 1", pixels / 255),
        ("range-of-the-images", "images go in as (x - 128) / 128", (pixels - 128) / 128),
        ("range-of-the-images", "images go in as x / 127.5, 0 .. 2", pixels / middle),
        ("range-of-the-images", "images go in as x / 255 - 0.5", pixels / 255 - 0.5),
        ("range-of-the-images", "images go in negative", -given.x),
        ("range-of-the-images", "images are standardised by ImageNet's mean and deviation",
         (pixels[:, ::-1] / 255 - column(imagenet[0])) / column(imagenet[1]))]
    for name, what, x in changes:
        yield Hypothesis(name, what, mend, convolved(given, x, w, layer.pads, bias), PAGE)
    for name, what, x, mend in (
            ("red-and-blue-exchanged", "channels go in as R, G, B", given.x[:, ::-1],
             'x = x.flip(1), or images = {"channels": "RGB"} in the adapter'),
            ("images-upside-down", "images go in upside down", given.x[:, :, ::-1],
             "take the flip off"),
            ("images-mirrored", "images go in mirrored", given.x[..., ::-1], "take the flip off"),
            ("height-and-width-exchanged", "images go in with height and width exchanged",
             given.x.swapaxes(2, 3), "x = x.transpose(2, 3)")):
        yield Hypothesis(name, what, mend, convolved(given, x, w, layer.pads, bias), PAGE)


def _of_the_bias(given: Given, case: Case) -> Iterator[Hypothesis]:
    """A difference that is one number in each channel."""
    bias = given.arrays.get("bias")
    difference = case.port - case.right if case.port.shape == case.right.shape else None
    if difference is None or not np.isfinite(difference).all():
        return
    if bias is not None and np.any(bias):
        yield Hypothesis("bias-missing", "the bias is not added", "bias=True, and add it",
                         case.right - column(bias), PAGE)
        yield Hypothesis("bias-twice", "the bias is added twice", "add it once",
                         case.right + column(bias), PAGE)
    offset = difference.mean(AXES)
    noise = np.sqrt(np.square(difference - column(offset)).mean(AXES))
    if np.all((noise <= SHARE * np.abs(offset)) | (np.abs(offset) <= case.rounding)):
        moved = np.nonzero(np.abs(offset) > case.rounding)[0]
        yield Hypothesis(
            "constant-added", f"{listed('channel', moved)} have a constant added, "
            f"{nice(float(offset[np.argmax(np.abs(offset))]), 3)} for example",
            "bias=False: CNTK's layer has none" if bias is None else "take it off",
            case.right + column(np.where(np.abs(offset) > case.rounding, offset, 0)), PAGE)


def _of_the_weights(given: Given) -> Iterator[Hypothesis]:
    layer, w = given.layer, given.arrays["weight"]
    changes: list[tuple[str, str, str, Callable[[], Floats]]] = [
        ("kernels-flipped", "kernels are turned by 180 degrees",
         "weight.flip(2, 3) when the weights are loaded; the layer itself is right",
         lambda: w[:, :, ::-1, ::-1]),
        ("kernels-transposed", "kernels have rows and columns exchanged",
         "weight.transpose(2, 3) when the weights are loaded", lambda: w.swapaxes(2, 3)),
        ("kernels-upside-down", "kernels have their rows turned", "weight.flip(2)",
         lambda: w[:, :, ::-1]),
        ("kernels-mirrored", "kernels have their columns turned", "weight.flip(3)",
         lambda: w[:, :, :, ::-1])]
    if w.shape[0] == w.shape[1]:
        changes.append(("in-and-out-exchanged", "weights have input and output exchanged",
                        "weight.transpose(0, 1) when the weights are loaded",
                        lambda: w.swapaxes(0, 1)))
    if 3 in w.shape[:2]:
        axis = w.shape[:2].index(3)
        changes.append(("red-and-blue-exchanged", "channels are in the order R, G, B",
                        f"weight.flip({axis}), or images = {{\"channels\": \"RGB\"}} in the "
                        "adapter", lambda: np.flip(w, axis)))
    for name, what, mend, change in changes:
        if layer.kernel > 1 or "kernels" not in name:
            yield Hypothesis(name, what, mend, convolved(
                given, given.x, change(), layer.pads, given.arrays.get("bias")), PAGE)


def _of_the_padding(given: Given) -> Iterator[Hypothesis]:
    layer, x, w = given.layer, given.x, given.arrays["weight"]
    bias = given.arrays.get("bias")
    if not layer.padded:
        return
    top, left, bottom, right_ = layer.pads
    if layer.kind == TRANSPOSED:
        whole = spread(x, w, layer.stride)
        rows = whole.shape[2] - layer.output[1]
        said = (f"padding={top}, output_padding={top - bottom}: CNTK cuts off "
                f"{top} rows at the top and {bottom} at the bottom")
        for start in range(-1, rows + 2):
            pads = (start, start, rows - start, rows - start)
            if pads == layer.pads:
                continue
            yield _added(Hypothesis(
                "cropped-elsewhere", f"the transposed convolution is cut off {start} rows at the "
                f"top and {rows - start} at the bottom", said, cropped(whole, pads), PAGE),
                bias)
        most = max(layer.pads)
        alike = cropped(whole, (most,) * 4)
        missing = 0, 0, layer.output[1] - alike.shape[2], layer.output[2] - alike.shape[3]
        for before in (False, True):  # the bias is added before the zeros, or behind
            moved = alike if bias is None or not before else alike + column(bias)
            one = Hypothesis("no-output-padding", f"all four sides are cut off by {most}, and what "
                             "is missing is filled with zeros", said, padded(moved, missing),
                             PAGE)
            yield one if before else _added(one, bias)
        return
    code = f"F.pad(x, ({left}, {right_}, {top}, {bottom})) and padding=0, or padding={top}"
    others = {pads for pads in ((bottom, right_, top, left), (top, right_, bottom, left),
                                (bottom, left, top, right_)) if pads != layer.pads}
    for pads in sorted(others):
        yield Hypothesis("padding-at-the-other-side", "the odd row or column of padding is at the "
                         "bottom or the right, as TensorFlow's SAME has it", code,
                         convolved(given, x, w, pads, bias), PAGE)
    for mode, what in (("reflect", "reflected"), ("edge", "repeated"), ("wrap", "wrapped round"),
                       ("symmetric", "mirrored")):
        yield Hypothesis("padding-not-zero", f"the border is the image {what}, not 0",
                         'padding_mode="zeros"', convolved(given, x, w, layer.pads, bias, mode),
                         PAGE)
    for axis, name in ((3, "column"), (2, "row")):
        for around, pads in ((padded(x, layer.pads), (0, 0, 0, 0)), (x, layer.pads)):
            changed = around.copy()
            first, second = [slice(None)] * 4, [slice(None)] * 4
            first[axis], second[axis] = 0, 1  # type: ignore[call-overload]
            changed[tuple(first)] = around[tuple(second)]
            yield Hypothesis("border-changed", f"the first {name} is the second one once more, not "
                             "0", 'padding_mode="zeros"', convolved(given, changed, w, pads, bias),
                             PAGE)


def _added(one: Hypothesis, bias: Floats | None) -> Hypothesis:
    return one if bias is None else replace(one, predicted=one.predicted + column(bias))


def _of_the_stride(given: Given) -> Iterator[Hypothesis]:
    layer, w, bias = given.layer, given.arrays["weight"], given.arrays.get("bias")
    if layer.stride != 2 or layer.kind == TRANSPOSED:
        return
    for pads in (layer.pads, (1, 1, 1, 1)):
        dense = conv(given.x, w, 1, pads) + (0 if bias is None else column(bias))
        size = layer.output[1]
        dense = padded(dense, (0, 0, max(0, 2 * size - dense.shape[2]),
                               max(0, 2 * size - dense.shape[3])), "edge")
        four = [dense[:, :, i:i + 2 * size:2, j:j + 2 * size:2] for i in (0, 1) for j in (0, 1)]
        mend = "stride=2, and no pooling behind it"
        yield Hypothesis("pooled", "stride 1 and the largest of each four, not stride 2", mend,
                         np.maximum.reduce(four), PAGE)
        yield Hypothesis("pooled", "stride 1 and the mean of each four, not stride 2", mend,
                         sum(four) / 4, PAGE)  # type: ignore[arg-type]


def _of_the_precision(given: Given) -> Iterator[Hypothesis]:
    layer, w, bias = given.layer, given.arrays["weight"], given.arrays.get("bias")
    for name, to in PRECISIONS.items():
        mend = {"TF32": "torch.backends.cudnn.allow_tf32 = False",
                }.get(name, "take autocast, .half() or .bfloat16() off this layer")
        exact = convolved(given, given.x, to(w), layer.pads, bias)
        yield Hypothesis("coarse-weights", f"the weights are used in {name}", mend, exact,
                         PAGE)
        both = convolved(given, to(given.x), to(w), layer.pads, bias)
        yield Hypothesis("coarse-product", f"the convolution takes its factors in {name}", mend,
                         both, PAGE)
        if name != "TF32":
            yield Hypothesis("coarse-product", f"the convolution takes its factors in {name} and "
                             "gives it", mend, to(both), PAGE)
