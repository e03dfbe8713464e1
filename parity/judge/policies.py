"""TODO."""
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Policy:
    """value: the allowance. unit: of what is measured. source: why this number and no other."""

    value: float
    unit: str
    source: str


POLICIES = {
    "exact": Policy(
        0, "differing values",
        "the port does CNTK's arithmetic in CNTK's order; measured 0 over every case of the tests"),
    "present": Policy(
        0, "arrays or facts that are not on both sides",
        "what only one side has was not compared, and what is not compared does not pass"),
    "error_ratio": Policy(
        1.5, "times CNTK's error against float64",
        "with PyTorch's own convolutions, which add float32 products up in another order, the "
        "largest of a layer on its own inputs was 1.29; with CNTK's order (convolution.py) it is "
        "1. Or under one ULP"),
    "error_ratio_onednn": Policy(
        3.0, "times CNTK's error against float64",
        "oneDNN adds up in blocks: the largest ratio measured at minibatch 4 was 2.5, in the "
        "generator's second layer (at minibatch 2 it is 3.9, which fails). Or under one ULP"),
    "one_ulp": Policy(
        1.0, "units in the last place, root mean square",
        "two correctly rounded results of one value may be neighbours"),
    "formula": Policy(
        2e-5, "of the layer's size, CNTK's distance from the port's formula in float64",
        "float32's rounding: the largest of a layer on its own inputs was 3.6e-6 at minibatch 4 "
        "(CNTK adds the squares of batch normalisation up in float32). A wrong formula is off by "
        "1e-3 and more. Above minibatch 4, in training mode and backwards, times N / 4: the error "
        "of such a sum grows with its length (a variance over 64 x 64 places is off by 6e-6, "
        "2e-5, 9e-5 and 3e-4 of itself for N of 1, 4, 16 and 64, and a gradient of a scale at "
        "minibatch 16 was by 2.2e-5). Asked only where the port has not CNTK's bits"),
    "formula_chain": Policy(
        2e-4, "of the layer's size, CNTK's distance from the port's formula in float64",
        "the same, grown through up to 20 layers: the largest measured was 4.4e-6 at minibatch 4"),
    "nudge": Policy(
        4.0, "times what CNTK's own output moves when every pixel and latent is moved by one ULP",
        "what an output is allowed where it is so ill-conditioned that its ordinary allowance is "
        "less than this (weights times 8: tanh's inputs are 500,000 times larger, and so are their "
        "roundings). Measured with weights times 1, 2, 4 and 8: CNTK's distance from float64 was "
        "at most 1.3 nudges, onnxruntime's from CNTK and from the port at most 2.6"),
    "folded": Policy(
        2.0 ** -20, "of the largest value",
        "a weight that holds its normalisation is w * (scale / root(variance + epsilon)): four "
        "roundings of 2**-24 each, and the bias is a difference of such numbers"),
    "kink": Policy(
        0.1, "of the gradient's size, where a unit lies on the other side of a rectifier's kink",
        "a unit that rounding moves over 0 has another gradient: with minibatch 4 one such unit "
        "changes a layer's gradient by 2e-3, in CNTK against float64 too. Gradients on their own "
        "inputs have no kinks and are judged sharply"),
    "output": Policy(
        2e-6, "largest absolute error at scale 1",
        "the generator's output after training: rounding grown through seven layers measured "
        "6.9e-7 between CNTK and the port"),
    "pointwise": Policy(
        1.2e-7, "relative",
        "one rounding, 2**-23: log, sigmoid and rectifiers are good to about one unit in the last "
        "place on both sides"),
    "pointwise_gradient": Policy(
        4e-6, "relative",
        "the gradient of log is exp of a rounded logarithm: half a unit of |log z| up to 88"),
    "loss": Policy(
        4e-7, "relative", "a sigmoid and a logarithm, each good to one rounding, twice"),
    "loss_gradient": Policy(
        2e-6, "relative", "the exponential of a rounded logarithm where both are normal numbers"),
    "standard_deviation": Policy(
        1.0, "half-widths of the 99.9999 % confidence interval about 0.02",
        "a sample's standard deviation is within sigma * z / sqrt(2 (n - 1)) of sigma"),
    "mean": Policy(
        1.0, "half-widths of the 99.9999 % confidence interval about 0",
        "a sample's mean is within sigma * z / sqrt(n) of 0"),
    "kolmogorov_smirnov": Policy(
        1.0, "critical values at 1e-6 of the Kolmogorov-Smirnov distance from normal(0, 0.02)",
        "Smirnov's distribution of the distance of n values"),
    "structure": Policy(
        0, "entries that are not the article's", "a layer table is right or wrong"),
    "ledger": Policy(
        0, "events that are not the same", "a list of events is right or wrong"),
    "onnx": Policy(
        2e-6, "largest absolute error at scale 1, onnxruntime against the exporter's framework",
        "the same float32 network by another program: 9.2e-7 measured with CNTK's exports"),
    "onnx_layer": Policy(
        2e-5, "largest absolute error over the layer's size (at least 1), onnxruntime against the "
              "exporter's framework",
        "the same inside the network, where activations reach ten times their root mean square: "
        "1.0e-5 measured in the discriminator's last normalisation; an export in bfloat16 is 2e-3 "
        "away"),
    "first_loss": Policy(
        5e-6, "relative",
        "one forward pass of both networks in float32: 1e-6 and less measured"),
    "horizon": Policy(
        3.0, "times the largest distance of CNTK from its own one-ULP reruns, up to that iteration",
        "GAN training is chaotic: the port must part from CNTK no faster than CNTK parts from "
        "itself when its starting weights are moved by one ULP. 3 for one run against the largest "
        "of five"),
    "score": Policy(
        3.0, "times the score's own unsteadiness",
        "the score of CNTK's images moves when each pixel is moved by one ULP, and when CNTK's "
        "images are replaced by the float64 ones: the largest of these, measured in the run"),
    "rerun": Policy(
        0, "differing values",
        "the same program, versions, threads and plan: CNTK's and the port's CPU results repeat "
        "bit for bit (measured)"),
}


def policies() -> dict[str, dict[str, object]]:
    """For report.json: a changed tolerance shows in a diff."""
    return {name: asdict(policy) for name, policy in POLICIES.items()}
