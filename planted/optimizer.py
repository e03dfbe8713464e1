"""Mistakes in Adam, its rates, and clipping."""
import math

import torch
from torch import Tensor, nn

from planted.parts import method, number, replace
from planted.plant import OPTIMIZER, mistake
from torch_port import dcgan
from torch_port.adam import CNTKAdam, Coefficients
from torch_port.train import steps

FIRST = "matrix/step01"
# Adam's first step hardly depends on the gradient's size, m over the root of v: clipping shows in
# the second.
FIRST_CLIPPED = "matrix/step0[12]"


@mistake("learning-rate-not-divided", OPTIMIZER, "The learning rate as it is, not over N.",
         "optimizer", FIRST)
def learning_rate_not_divided() -> None:
    method(CNTKAdam, "rate", lambda self, group, samples: group["lr"])


@mistake("mean-gradient", OPTIMIZER,
         "backward() of the mean over the minibatch, as PyTorch's losses have it.",
         "gradient/d", "discriminator_(real|fake)/sigmoid7/output")
def mean_gradient() -> None:
    before = steps.backward
    replace(steps.backward, lambda losses, learnt: before(losses / len(losses), learnt))


@mistake("textbook-epsilon", OPTIMIZER,
         "epsilon on the corrected root of v, as in the paper and in torch.optim.Adam.",
         "optimizer", FIRST)
def textbook_epsilon() -> None:
    method(CNTKAdam, "epsilon", lambda self, group, b2: group["epsilon"] / math.sqrt(
        1 - b2 ** group["minibatches"]))


@mistake("beta2-0.999", OPTIMIZER, "torch.optim.Adam's beta2.", "optimizer", FIRST)
def beta2_of_pytorch() -> None:
    method(CNTKAdam, "variance_momentum", lambda self, group, samples: 0.999)


@mistake("beta2-not-raised-to-n", OPTIMIZER, "CNTK's beta2 a minibatch, not a sample.",
         "optimizer", FIRST)
def beta2_not_raised_to_n() -> None:
    method(CNTKAdam, "variance_momentum", lambda self, group, samples: group["variance_momentum"])


@mistake("unit-gain-flipped", OPTIMIZER,
         "unit_gain=True, today's default, where the article's is False: half the step.",
         "optimizer", FIRST)
def unit_gain_flipped() -> None:
    before = steps.create_optimizer
    replace(steps.create_optimizer, lambda parameters, minibatch_size, unit_gain=False: before(
        parameters, minibatch_size, not unit_gain))


@mistake("momentum-0.9", OPTIMIZER, "Adam's usual momentum.", "optimizer", FIRST)
def momentum_of_adam() -> None:
    number("MOMENTUM", 0.5, 0.9)


@mistake("clip-threshold-not-times-n", OPTIMIZER,
         "The clipping threshold as it is given, not times the samples.",
         "optimizer", FIRST_CLIPPED)
def clip_threshold_not_times_n() -> None:
    method(CNTKAdam, "threshold", lambda self, group, samples: group["clip_per_sample"])


def _grouped(**values: object) -> None:
    """Options of every optimizer, set after it is made."""
    before = steps.create_optimizer

    def create(parameters: object, minibatch_size: int, unit_gain: bool = False) -> CNTKAdam:
        made = before(parameters, minibatch_size, unit_gain)  # type: ignore[arg-type]
        made.param_groups[0].update(values)
        return made

    replace(steps.create_optimizer, create)


@mistake("no-clipping", OPTIMIZER, "Gradients are not clipped at all.", "optimizer",
         FIRST_CLIPPED)
def no_clipping() -> None:
    _grouped(clip_per_sample=math.inf)


@mistake("clipping-by-norm", OPTIMIZER,
         "torch's clip_grad_norm_: the whole gradient is shortened, not its elements cut.",
         "optimizer", FIRST)
def clipping_by_norm() -> None:
    _grouped(clip_with_truncation=False)


@mistake("one-count-a-parameter", OPTIMIZER,
         "The counter goes up with every parameter, not with every minibatch: the first is right.",
         "optimizer", "kernel/step01")
def one_count_a_parameter() -> None:
    def step(self: CNTKAdam, closure: None = None, *, samples: int) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    group["minibatches"] += 1
                    self._update_parameter(p, group["clip_with_truncation"], self.coefficients(
                        group, samples, p.dtype))

    method(CNTKAdam, "step", step)


@mistake("one-learner-for-both", OPTIMIZER,
         "The G step moves the discriminator too, by the gradients that its own step left.",
         "step|ledger", "g_step/discriminator/bn2/bias")
def one_learner_for_both() -> None:
    before, backward_before = steps.generator_step, steps.backward
    left: dict[Tensor, Tensor] = {}

    def backward(samples: Tensor, learnt: nn.Module) -> None:
        backward_before(samples, learnt)
        if isinstance(learnt, dcgan.Discriminator):
            left.update({p: p.grad.clone() for p in learnt.parameters() if p.grad is not None})

    def step(networks: dcgan.Networks, optimizer: CNTKAdam, z: Tensor) -> tuple[float, Tensor]:
        made = before(networks, optimizer, z)
        with torch.no_grad():
            for p in networks.discriminator.parameters():
                if p in left:
                    p.sub_(left[p], alpha=1e-7)
        return made

    replace(steps.backward, backward)
    replace(steps.generator_step, step)


@mistake("epsilon-1e-7", OPTIMIZER, "Keras' epsilon in Adam.", "optimizer", FIRST)
def epsilon_of_keras() -> None:
    _grouped(epsilon=1e-7)


@mistake("decoupled-weight-decay", OPTIMIZER, "AdamW: every step takes 1e-6 of the weights away.",
         "optimizer|step", FIRST + "|after_d/discriminator/conv1/weight")
def decoupled_weight_decay() -> None:
    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        with torch.no_grad():
            p.mul_(1 - 1e-6)
        before(self, p, truncate, k)
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("momentum-0.5001", OPTIMIZER, "Adam's momentum is 0.02 % too large.", "optimizer", FIRST)
def momentum_slight() -> None:
    number("MOMENTUM", 0.5, 0.5001)


@mistake("nesterov", OPTIMIZER, "NAdam: the step looks one momentum ahead.", "optimizer", FIRST)
def nesterov() -> None:
    def update(self: CNTKAdam, w: Tensor, g: Tensor, m: Tensor, v: Tensor, scratch: Tensor,
               k: Coefficients) -> None:
        old = w.clone()
        before(self, w, g, m, v, scratch, k)
        w.add_(w - old, alpha=0.01)
    before = method(CNTKAdam, "_update_chunk", update)


@mistake("correction-missing", OPTIMIZER, "Adam without its correction for the start.",
         "optimizer", FIRST)
def correction_missing() -> None:
    method(CNTKAdam, "correction", lambda self, b1, b2, minibatches: 1.0)


@mistake("sleeping-parameters-skipped", OPTIMIZER,
         "A parameter whose gradient is 0 is left alone, its moments too.",
         "optimizer", "sleeper/step04")
def sleeping_parameters_skipped() -> None:
    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        if p.grad is not None and p.grad.any():
            before(self, p, truncate, k)
    before = method(CNTKAdam, "_update_parameter", update)
