"""Mistakes in exported files, and in the runtime that computes them."""
from typing import Any

import numpy as np
import onnx
import torch

from planted.graphs import (
    attribute,
    auto_pad,
    bfloat16,
    channels_last,
    folded_without_epsilon,
    in_export,
    in_half,
    in_training_mode,
    initializer,
    node_of,
    one_channel_coarse,
    one_channel_off,
    one_sample_for_all,
    opset_11,
    padding_node_at_the_other_side,
    pads_at_the_other_side,
)
from planted.parts import built, number, replace
from planted.plant import (
    CNTK_EXPORTER,
    NORMALISATION,
    ONNX,
    PORT,
    PORT_EXPORTER,
    RUNTIME,
    RUNTIME_AT_FAULT,
    Export,
    exported,
    mistake,
)
from torch_port import dcgan, onnx_export
from torch_port.batch_norm import BatchNormalization


@mistake("onnx-port-opset-10", ONNX, "The port exports opset 10.",
         "onnx", "generator/graph/opset_port_export", blame=PORT_EXPORTER)
def port_opset_10() -> None:
    number("OPSET", 9, 10)


# ---------------------------------------------------------------- in the port's exporter as it runs


@mistake("onnx-port-raises", ONNX, "The port's export raises.",
         "onnx", "generator/port_export/graph", blame=f"({PORT}|{PORT_EXPORTER})")
def port_raises() -> None:
    def export(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("Exporting the operator 'aten::pad' to ONNX opset version 9 is not "
                           "supported")
    replace(onnx_export.export, export)


@mistake("onnx-port-time-constants-differ", NORMALISATION,
         "One normalisation with a time constant of its own: there is no one momentum to export.",
         "step", "after_d/generator/bn3/running_mean")
def port_time_constants_differ() -> None:
    def change(networks: dcgan.Networks) -> None:
        module = networks.generator.get_submodule("bn3")
        assert isinstance(module, BatchNormalization)
        module.time_constant = 500.0
    built(change)


@mistake("onnx-port-batch-axis-fixed", ONNX, "The port's file takes minibatches of 2 alone.",
         "onnx", "generator/.*port_export", blame=PORT_EXPORTER)
def port_batch_axis_fixed() -> None:
    def change(model: onnx.ModelProto) -> None:
        for info in (*model.graph.input, *model.graph.output):
            info.type.tensor_type.shape.dim[0].dim_value = 2
    in_export("generator", change)


@mistake("onnx-port-momentum-0.9", ONNX,
         "The port's file has ONNX's usual momentum in every normalisation.",
         "onnx", "generator/graph/momentum_port_export", blame=PORT_EXPORTER)
def port_momentum() -> None:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for one in node.attribute:
                if node.op_type == "BatchNormalization" and one.name == "momentum":
                    one.f = 0.9
    in_export("generator", change)


@mistake("onnx-port-stale-weights", ONNX, "The port exports the weights that it started with.",
         "onnx", "generator/conv1/weight_port_export", blame=PORT_EXPORTER)
def port_stale_weights() -> None:
    before = onnx_export.export
    replace(onnx_export.export, lambda networks, *others: before(
        dcgan.networks_from_seed(0, networks.spec).eval(), *others))


@mistake("onnx-port-without-normalisation", ONNX,
         "The port's file of the discriminator takes images in [-1, 1], not pixels.",
         "onnx", "discriminator/conv1/node_port_export", blame=PORT_EXPORTER)
def port_without_normalisation() -> None:
    before = dcgan.normalized
    replace(dcgan.normalized, lambda x, middle=127.5: x if torch.onnx.is_in_onnx_export()
            else before(x, middle))


@mistake("onnx-port-middle-128", ONNX, "The port's file normalises by 128.",
         "onnx", "discriminator/conv1/node_port_export", blame=PORT_EXPORTER)
def port_middle_128() -> None:
    before = dcgan.normalized
    replace(dcgan.normalized,
            lambda x, middle=127.5: before(x, 128.0) if torch.onnx.is_in_onnx_export()
            else before(x, middle))


@mistake("onnx-port-nan", ONNX, "One weight in the port's file is NaN.",
         "onnx", "generator/conv5/weight_port_export", blame=PORT_EXPORTER)
def port_nan() -> None:
    def nan(weights: np.ndarray) -> np.ndarray:
        weights.flat[100] = np.nan
        return weights
    in_export("generator", initializer("conv5", 1, nan))


@mistake("onnx-port-one-weight", ONNX,
         "One weight in the port's file is off by one unit in the last place.",
         "onnx", "discriminator/conv6/weight_port_export", blame=PORT_EXPORTER)
def port_one_weight() -> None:
    def change(weights: np.ndarray) -> np.ndarray:
        place = 1234567 % weights.size
        weights.flat[place] = np.nextafter(weights.flat[place], np.float32(9))
        return weights
    in_export("discriminator", initializer("conv6", 1, change))


@mistake("onnx-port-mean-for-variance", ONNX,
         "In the port's file one normalisation's mean and variance are exchanged.",
         "onnx", "discriminator/bn3/.*port_export", blame=PORT_EXPORTER)
def port_mean_for_variance() -> None:
    def change(model: onnx.ModelProto) -> None:
        node = node_of(model, "bn3")
        node.input[3], node.input[4] = node.input[4], node.input[3]
    in_export("discriminator", change)


@mistake("onnx-port-auto-pad-upper", ONNX,
         "The port's file pads one layer by auto_pad SAME_UPPER, which puts the odd pixel last.",
         "onnx", "discriminator/conv4/node_port_export", blame=PORT_EXPORTER)
def port_auto_pad_upper() -> None:
    in_export("discriminator", auto_pad("conv4", "SAME_UPPER"))


@mistake("onnx-port-without-tanh", ONNX, "The port's file of the generator ends before its tanh.",
         "onnx", "generator/(graph/.*|tanh7/.*)port_export", blame=PORT_EXPORTER)
def port_without_tanh() -> None:
    def change(model: onnx.ModelProto) -> None:
        last = model.graph.node[-1]
        before = model.graph.node[-2]
        before.output[0] = last.output[0]
        model.graph.node.remove(last)
    in_export("generator", change)


# ------------------------------------------------------------- in a file, or in what runs the file

EXPORTED = (
    exported("onnx-opset-11", ONNX, "CNTK's file says opset 11.",
             "generator/graph/opset_cntk_export", CNTK_EXPORTER,
             Export("cntk", "generator", opset_11)),
    exported("onnx-pads-at-the-other-side", ONNX,
             "In CNTK's file the odd pixel is at the bottom and the right.",
             "discriminator/conv3/node_cntk_export", CNTK_EXPORTER,
             Export("cntk", "discriminator", pads_at_the_other_side)),
    exported("onnx-port-pads-at-the-other-side", ONNX, "The same in the port's file.",
             "discriminator/conv3/node_port_export", PORT_EXPORTER,
             Export("port", "discriminator", padding_node_at_the_other_side)),
    exported("onnx-generators-crop", ONNX,
             "In the port's file the generator's fifth layer crops the other side.",
             "generator/conv5/node_port_export", PORT_EXPORTER,
             Export("port", "generator", attribute("conv5", "pads", [1, 1, 3, 3]))),
    exported("onnx-folded-without-epsilon", ONNX,
             "The port's file has the generator's fourth normalisation folded into the "
             "convolution, without epsilon.",
             "generator/(conv4/weight|bn4/node)_port_export", PORT_EXPORTER,
             Export("port", "generator", folded_without_epsilon)),
    exported("onnx-bfloat16", ONNX, "CNTK's file holds one layer's weights rounded to bfloat16.",
             "discriminator/conv4/weight_cntk_export", CNTK_EXPORTER,
             Export("cntk", "discriminator", initializer("conv4", 1, bfloat16))),
    exported("onnx-port-bfloat16", ONNX, "The same in the port's file, in the generator.",
             "generator/conv6/weight_port_export", PORT_EXPORTER,
             Export("port", "generator", initializer("conv6", 1, bfloat16))),
    exported("onnx-output-order", ONNX, "The port's file gives the image's channels as R, G, B.",
             "generator/tanh7/(node_port_export|port_export)", PORT_EXPORTER,
             Export("port", "generator", channels_last)),
    exported("onnx-filters-in-another-order", ONNX,
             "CNTK's file has one layer's filters in the opposite order.",
             "discriminator/conv5/weight_cntk_export", CNTK_EXPORTER,
             Export("cntk", "discriminator",
                    initializer("conv5", 1, lambda weights: weights[::-1]))),
    exported("onnx-epsilon", ONNX, "CNTK's file has another epsilon in one normalisation.",
             "discriminator/bn3/node_cntk_export", CNTK_EXPORTER,
             Export("cntk", "discriminator", attribute("bn3", "epsilon", 1e-3))),
    exported("onnx-slope", ONNX, "The port's file has another slope in one leaky ReLU.",
             "discriminator/leaky_relu2/node_port_export", PORT_EXPORTER,
             Export("port", "discriminator", attribute("leaky_relu2", "alpha", 0.1))),
    exported("onnx-in-training-mode", ONNX,
             "CNTK's file asks one normalisation for the minibatch's own statistics.",
             "discriminator/bn3/node_cntk_export", CNTK_EXPORTER,
             Export("cntk", "discriminator", in_training_mode)),
    exported("runtime-one-channel", RUNTIME,
             "onnxruntime returns one channel of a convolution of CNTK's file too large.",
             "discriminator/conv4/cntk_export", RUNTIME_AT_FAULT,
             Export("cntk", "discriminator", perturb=one_channel_off("conv4", 1e-2))),
    exported("runtime-in-half-precision", RUNTIME,
             "onnxruntime computes a convolution of the port's file in float16.",
             "generator/conv2/port_export", RUNTIME_AT_FAULT,
             Export("port", "generator", perturb=in_half("conv2"))),
    exported("runtime-image", RUNTIME,
             "onnxruntime returns another image than the last layer is.",
             "generator/tanh7/cntk_export", RUNTIME_AT_FAULT,
             Export("cntk", "generator", perturb=one_channel_off("tanh7", 1e-3))),
    exported("runtime-one-filter-coarse", RUNTIME,
             "onnxruntime computes one channel of a convolution of the port's file in bfloat16.",
             "discriminator/conv3/port_export", RUNTIME_AT_FAULT,
             Export("port", "discriminator", perturb=one_channel_coarse("conv3", 1))),
    exported("runtime-one-sample", RUNTIME,
             "onnxruntime returns the first sample's result for all of them.",
             "generator/relu4/cntk_export", RUNTIME_AT_FAULT,
             Export("cntk", "generator", perturb=one_sample_for_all("relu4"))),
)
