"""Ports that do not come to an end, or not to the right one."""
import os
import signal
from typing import Any

import torch
from torch import nn

from planted.parts import built, convolution_of, method, replace
from planted.plant import BEHAVIOUR, mistake
from torch_port import dcgan
from torch_port.train import steps

WHOLE = "port/capture/whole"


@mistake("killed-in-training", BEHAVIOUR, "The process is killed in the first backward pass.",
         "whole", WHOLE)
def killed_in_training() -> None:
    replace(steps.backward, lambda losses, learnt: os.kill(os.getpid(), signal.SIGKILL))


@mistake("raises-in-training", BEHAVIOUR, "The first backward pass raises.",
         "forward/training|whole", "generator/conv1/output|" + WHOLE)
def raises_in_training() -> None:
    def backward(losses: Any, learnt: Any) -> None:
        raise KeyError("no such layer")
    replace(steps.backward, backward)


def _extra(name: str, size: int) -> None:
    """A parameter more in the generator's first normalisation."""
    def change(networks: dcgan.Networks) -> None:
        networks.get_submodule("generator.bn1").register_parameter(
            name, nn.Parameter(torch.zeros(size)))
    built(change)


@mistake("a-parameter-too-many", BEHAVIOUR, "The generator has a parameter more.",
         "structure|initial", "generator/(bn1/temperature|parameters/count)")
def a_parameter_too_many() -> None:
    _extra("temperature", 1)


@mistake("a-parameter-of-another-name", BEHAVIOUR, "A scale is called gamma.",
         "structure|initial", "generator/bn1/(scale|gamma)")
def a_parameter_of_another_name() -> None:
    def arrays(self: dcgan.Networks) -> dict[str, torch.Tensor]:
        return {name.replace("generator/bn1/scale", "generator/bn1/gamma"): tensor
                for name, tensor in before(self).items()}
    before = method(dcgan.Networks, "arrays", arrays)


@mistake("a-parameter-of-another-shape", BEHAVIOUR, "A bias has the shape C x 1 x 1.",
         "structure|initial|whole", "discriminator/conv1/bias|" + WHOLE)
def a_parameter_of_another_shape() -> None:
    def change(networks: dcgan.Networks) -> None:
        conv1 = convolution_of(networks, "discriminator/conv1")
        assert conv1.bias is not None
        conv1.bias = nn.Parameter(conv1.bias.detach().reshape(-1, 1, 1))
    built(change)


@mistake("raises-in-the-g-step", BEHAVIOUR, "The G step raises; the D step is right.",
         "forward/g_step|whole", "generator/conv1/output|" + WHOLE)
def raises_in_the_g_step() -> None:
    def losses(*arguments: Any) -> Any:
        raise RuntimeError("view size is not compatible with input tensor's size and stride")
    replace(steps.generator_losses, losses)


@mistake("exits-quietly", BEHAVIOUR, "The process ends with success in the middle of its work.",
         "whole", WHOLE)
def exits_quietly() -> None:
    replace(steps.backward, lambda losses, learnt: os._exit(0))
