"""The inputs made for the edges, through CNTK's reader, learner and functions. Python 3.6."""
import tempfile

import cntk as C
import numpy as np

from captures import probes as probe_inputs
from captures.format import CaptureWriter
from captures.plan import Plan
from cntk_impl import dcgan_training as program
from cntk_impl.capture import model
from cntk_impl.training_state import QUANTITY


def probe_reader(writer: CaptureWriter, plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader = model.reader(plan.spec, probe_inputs.reader_probe(plan, folder), plan.seed)
        for i in range(probe_inputs.READER_MINIBATCHES):
            batch = reader.next_minibatch(plan.minibatch_size)[reader.streams.images]
            writer.add("reader/probe/minibatch%02d/images" % i,
                       model.pixels(plan.spec, batch))


def probe_optimizer(writer: CaptureWriter, plan: Plan) -> None:
    """The program's learner on given gradients: the loss is sum(parameter * input)."""
    initial, gradients = probe_inputs.optimizer_probe(plan)
    parameters = {name: C.parameter(value.shape, init=value) for name, value in initial.items()}
    inputs = {name: C.input_variable(value.shape) for name, value in initial.items()}
    loss = sum((C.reduce_sum(parameters[name] * inputs[name]) for name in sorted(initial)),
               C.constant(0.0))
    learner = program.create_learner(loss.parameters, plan.minibatch_size, bool(plan.unit_gain))
    trainer = C.Trainer(loss, (loss, None), [learner])
    for step in range(probe_inputs.OPTIMIZER_STEPS):
        batch = {}
        for name in initial:  # one sample carries the whole gradient: the sum is exact
            value = np.zeros((plan.minibatch_size,) + initial[name].shape, np.float32)
            value[step % plan.minibatch_size] = gradients[name][step]
            batch[inputs[name]] = value
        trainer.train_minibatch(batch)
        for name, parameter in parameters.items():
            writer.add("optimizer/probe/%s/step%02d" % (name, step + 1), parameter.value)


def probe_normalisation(writer: CaptureWriter, plan: Plan) -> None:
    """A layer as the networks have it, from its start."""
    x = C.input_variable(probe_inputs.NORMALISATION_SHAPE)
    with C.layers.default_options(map_rank=1, use_cntk_engine=True):
        y = model.normalisation(plan.spec)(x)
    held = {QUANTITY[c.name]: c.as_constant() for c in y.root_function.inputs
            if c.is_constant and c.name in QUANTITY}
    for i, values in enumerate(probe_inputs.normalisation_probe(plan)):
        y.forward({x: values}, [y.output], keep_for_backward={y.output})
        for quantity in ("running_mean", "running_variance", "sample_count"):
            value = np.array(held[quantity].value, np.float32)
            writer.add("normalisation/probe/minibatch%02d/%s" % (i, quantity),
                       np.int64(value) if quantity == "sample_count" else value)


def probe_pointwise(writer: CaptureWriter, plan: Plan) -> None:
    logits, logarithms = probe_inputs.logits_probe(), probe_inputs.logarithms_probe()
    functions = [
        ("sigmoid", C.sigmoid, logits), ("relu", C.relu, logits),
        ("leaky_relu", lambda x: C.leaky_relu(x, plan.spec.slope), logits),
        ("log", C.log, logarithms),
        ("loss_of_real", lambda x: -C.log(C.sigmoid(x)), logits),
        ("loss_of_fake", lambda x: -C.log(1.0 - C.sigmoid(x)), logits),
    ]
    for name, function, values in functions:
        x = C.input_variable((1,), needs_gradient=True)
        y = function(x)
        batch = values.reshape(-1, 1)
        writer.add("pointwise/probe/%s/output" % name, np.ravel(y.eval({x: batch})))
        writer.add("pointwise/probe/%s/gradient" % name,
                   np.ravel(y.grad({x: batch}, wrt=[x])))
