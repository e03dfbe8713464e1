"""Every planted mistake: what a porter may do wrong on this network. One entry a defect.

An entry is a ``Defect`` in ``DEFECTS``: its name, its kind, one sentence, the stage and the place
that have to be named (regular expressions that have to match in full), and the change itself, one
of

    edits      texts exchanged in a COPY of torch_port: ``Edit("losses.py", old, new)``; old stands
               there exactly once, or ``times`` times
    graph      a function that changes an ``onnx.ModelProto``, with ``export`` and ``network``: a
               copy of whose export of which network
    perturb    a runtime at fault: what is done to a layer's output, ``(layer, array) -> array``

and, for the last two, who has to be blamed. ``parity/defects.py`` runs them and says how each was
found. How to add one: docs/defects.md.

A mistake in a layer must be named at that layer. One in what all layers share (the normalisation's
arithmetic, the seeds, the optimizer) must be named at the first layer or parameter that it spoils,
in the order of the network; backwards, where gradients are concerned. A pattern is not wider than
that: naming another layer counts as wrong.
"""
from parity.blame.finding import CNTK_EXPORTER, PORT, PORT_EXPORTER, RUNTIME
from parity.evidence.catalogue.graphs import (
    attribute,
    bfloat16,
    channels_last,
    folded_without_epsilon,
    in_half,
    in_training_mode,
    initializer,
    one_channel_off,
    opset_11,
    padding_node_at_the_other_side,
    pads_at_the_other_side,
)
from parity.evidence.defect import Defect, Edit


def named(name: str) -> Defect:
    return next(defect for defect in DEFECTS if defect.name == name)


# ------------------------------------------------------------------------------------ the catalogue

# Texts that several entries change.
PAD = "x = F.pad(x, (1, 0, 1, 0))"
CONVOLVE = "conv2d(x, self.weight, bias, self.stride)"
TRANSPOSED = ("conv_transpose2d(\n"
              "            x, self.weight, bias, self.stride, self.padding,  "
              "# type: ignore[arg-type]\n"
              "            self.output_padding)")
D_LAYER = '            h = each(f"conv{i}", self.get_submodule(f"conv{i}")(h))\n' \
          '            h = each(f"bn{i}", self.get_submodule(f"bn{i}")(h))\n' \
          '            h = each(f"leaky_relu{i}", leaky_relu(h, 0.2))\n'
G_LAYER = '            h = each(f"conv{i}", self.get_submodule(f"conv{i}")(h))\n' \
          '            h = each(f"bn{i}", self.get_submodule(f"bn{i}")(h))\n' \
          '            h = each(f"relu{i}", relu(h))\n'
COPIED = '                tensor.copy_(torch.from_numpy(np.require(arrays[name], ' \
         'requirements="W")))\n'
DRAWN = "drawn = draw_initial_weights(CREATION_ORDER, seeds_for(seed, len(CREATION_ORDER)))"
D_FAKE = "    d_fake = networks.discriminator(fake, each_fake)\n"
D_BOTH = "    d_real = networks.discriminator(normalized(x), each_real)\n" + D_FAKE
G_FAKE = "    return generator_loss(networks.discriminator(fake, each_fake)), fake\n"
KEEP = "    kept = [b.clone() for b in networks.discriminator.buffers()]\n"
RESTORE = ("    for b, was in zip(networks.discriminator.buffers(), kept, strict=True):\n"
           "        b.copy_(was)\n")
COLORED = ("        if any(self.color_radii):\n"
           "            image = apply_color(image, *draws)\n"
           "        write_planes(scale(image, self.width, self.height), out)\n")
RESIZED = "cv2.resize(image, (width, height), out, interpolation=cv2.INTER_LINEAR)"
G_LOSS = "    return -cntk_log(d_fake).flatten()\n"
D_LOSS = "    return -cntk_log(d_real).flatten() - cntk_log(1 - d_fake).flatten()\n"
SIGMOID = "    return _Sigmoid.apply(x)\n"


def loaded(name: str, statement: str) -> tuple[Edit, ...]:
    """After an array came in, ``statement`` changes ``t``, what the network now holds."""
    return (Edit("networks.py", COPIED, COPIED + f'                if name == "{name}":\n'
                 f"                    t = tensor\n                    {statement}\n"),)


FIRST_WEIGHT = "generator/conv1/weight"

DEFECTS: tuple[Defect, ...] = (
    # ---- geometry
    # nn.Conv2d(padding=1) is none: at stride 2 on an even size no window reaches the bottom and the
    # right of it, and the output has the same bits.
    Defect("padding-on-all-sides", "geometry",
           "A transposed convolution cropped on all four sides alike, [2, 2, 2, 2], and the row "
           "and the column that are then missing filled with zeros.",
           "forward/evaluation", "generator/conv2/output",
           (Edit("networks.py", TRANSPOSED,
                 "F.pad(conv_transpose2d(\n"
                 "            x, self.weight, bias, self.stride, self.padding, (0, 0)),\n"
                 "              (0, self.output_padding[0], 0, self.output_padding[1]))"),)),
    Defect("padding-mirrored", "geometry",
           "padding_mode='reflect': the border repeats the image where CNTK's is 0.",
           "forward/evaluation", "discriminator_(real|fake)/conv1/output",
           (Edit("networks.py", PAD, 'x = F.pad(x, (1, 0, 1, 0), mode="reflect")'),)),
    Defect("padding-shifted-by-one", "geometry",
           "The odd pixel at the bottom and the right, TensorFlow's SAME.",
           "forward/evaluation", "discriminator_(real|fake)/conv1/output",
           (Edit("networks.py", PAD, "x = F.pad(x, (0, 1, 0, 1))"),)),
    Defect("one-layers-padding-shifted", "geometry",
           "The same in the discriminator's fourth layer alone.",
           "forward/evaluation", "discriminator_(real|fake)/conv4/output",
           (Edit("networks.py", PAD,
                 "x = F.pad(x, (0, 1, 0, 1) if self.in_channels == 128 else (1, 0, 1, 0))"),)),
    Defect("no-output-padding", "geometry",
           "ConvTranspose2d without output_padding: 4, 7, 13, ... where CNTK is told 8, 16, 32.",
           "structure", "generator/conv2/shape",
           (Edit("networks.py", "5, stride=2, padding=2, output_padding=1",
                 "5, stride=2, padding=2", 2),)),
    Defect("cropped-on-the-wrong-side", "geometry",
           "A transposed convolution cropped [1, 1, 2, 2], not [2, 2, 1, 1].",
           "forward/evaluation", "generator/conv2/output",
           (Edit("networks.py", TRANSPOSED,
                 "conv_transpose2d(x, self.weight, bias, self.stride, (0, 0), (0, 0))[\n"
                 "            :, :, 1:-2, 1:-2]\n"
                 "            if self.output_padding[0] else " + TRANSPOSED),)),
    Defect("kernels-flipped", "geometry",
           "Kernels turned round, as if the weights were a true convolution's.",
           "forward/evaluation", "discriminator_(real|fake)/conv1/output",
           (Edit("networks.py", CONVOLVE,
                 "conv2d(x, self.weight if torch.onnx.is_in_onnx_export() else\n"
                 "            self.weight.flip(2, 3), bias, self.stride)"),)),
    Defect("height-and-width-swapped", "geometry",
           "Kernels with rows and columns exchanged.",
           "forward/evaluation", "generator/conv1/output",
           (Edit("networks.py", "x, self.weight, bias, self.stride, self.padding",
                 "x, self.weight.transpose(2, 3), bias, self.stride, self.padding"),)),
    Defect("two-filters-swapped", "geometry",
           "Two of 256 filters of the discriminator's fourth layer in each other's place.",
           "forward/evaluation", "discriminator_(real|fake)/conv4/output",
           (Edit("networks.py", D_LAYER, D_LAYER.replace(
               'self.get_submodule(f"conv{i}")(h))',
               'self.get_submodule(f"conv{i}")(h)\n'
               '                     [:, [1, 0, *range(2, 256)] if i == 4 else slice(None)])')),)),
    Defect("first-layer-stride-2", "geometry",
           "The generator's first layer with stride 2, as the article's table prints it: from "
           "1 x 1 no number changes, only the exported graph does.",
           "onnx", "generator/conv1/node_port_export",
           (Edit("networks.py", "ConvolutionTranspose(LATENT_SIZE, 1024, 4, bias=False)",
                 "ConvolutionTranspose(LATENT_SIZE, 1024, 4, stride=2, bias=False)"),),
           blame=PORT),
    Defect("stride-1-in-the-discriminator", "geometry",
           "The discriminator's first layer with stride 1 and a pooling behind it.",
           "forward/evaluation", "discriminator_(real|fake)/conv1/output",
           (Edit("networks.py", "self.conv1 = PaddedConvolution(3, 32, 3, stride=2)",
                 "self.conv1 = PaddedConvolution(3, 32, 3)"),
            Edit("networks.py", 'h = each("conv1", self.conv1(x))',
                 'h = each("conv1", F.max_pool2d(self.conv1(x), 2, ceil_mode=True))'))),
    Defect("bias-missing", "geometry",
           "The generator's last layer without its bias.",
           "structure", "generator/conv7/bias",
           (Edit("networks.py", "self.conv7 = ConvolutionTranspose(32, 3, 5, stride=2, padding=2, "
                                "output_padding=1)",
                 "self.conv7 = ConvolutionTranspose(32, 3, 5, stride=2, padding=2, "
                 "output_padding=1, bias=False)"),
            Edit("networks.py", 'BIASES = ("generator/conv7/bias", ', "BIASES = ("))),
    Defect("bias-not-added", "geometry",
           "A bias that is there and learnt, and that the last layer of the generator does not "
           "add.",
           "forward/evaluation", "generator/conv7/output",
           (Edit("networks.py", "            self.output_padding), self.bias)",
                 "            self.output_padding), None)"),)),
    Defect("bias-added", "geometry",
           "The discriminator's convolutions with the bias that nn.Conv2d has by itself.",
           "structure", "discriminator/conv2/bias",
           (Edit("networks.py", "PaddedConvolution(before, after, 3, stride=2, bias=False)",
                 "PaddedConvolution(before, after, 3, stride=2)"),)),
    Defect("equal-layers-exchanged", "geometry",
           "The generator's third and the discriminator's fourth normalisation, both of 256 "
           "channels, in each other's place.",
           "state", "generator/bn3/.*",
           (Edit("networks.py", "        with torch.no_grad():\n"
                                "            for name, tensor in ours.items():\n",
                 "        swap = {\"generator/bn3\": \"discriminator/bn4\",\n"
                 "                \"discriminator/bn4\": \"generator/bn3\"}\n"
                 "        arrays = {f\"{swap.get(n.rpartition('/')[0], n.rpartition('/')[0])}/\"\n"
                 "                  f\"{n.rpartition('/')[2]}\": a for n, a in arrays.items()}\n"
                 "        with torch.no_grad():\n"
                 "            for name, tensor in ours.items():\n"),)),

    # ---- batch normalisation
    Defect("running-variance-biased", "batch normalisation",
           "The running variance from the biased batch variance, 1/n.",
           "normalisation", "minibatch00/running_variance",
           (Edit("batch_norm.py", "        return unbiased_variance\n",
                 "        return unbiased_variance * ((values - 1) / values)\n"),)),
    Defect("momentum-from-the-onnx-file", "batch normalisation",
           "The momentum 0.9904 that CNTK's exporter writes for 48 samples, whatever N is.",
           "normalisation", "minibatch01/running_mean",
           (Edit("batch_norm.py", "return -math.expm1(-samples / T)", "return 1 - 0.99044591"),)),
    Defect("momentum-0.1", "batch normalisation",
           "nn.BatchNorm2d's momentum.",
           "normalisation", "minibatch01/running_mean",
           (Edit("batch_norm.py", "return -math.expm1(-samples / T)", "return 0.1"),)),
    Defect("no-first-update-rule", "batch normalisation",
           "The first minibatch is blended into 0 as every other, not copied.",
           "normalisation", "minibatch00/running_mean",
           (Edit("batch_norm.py", "if count == 0 or T == 0:", "if T == 0:"),)),
    Defect("starts-at-one", "batch normalisation",
           "nn.BatchNorm2d's start: a running variance of 1.",
           "initial", "generator/bn1/running_variance",
           (Edit("batch_norm.py", '("running_variance", torch.zeros(channels))',
                 '("running_variance", torch.ones(channels))'),)),
    Defect("count-in-pixels", "batch normalisation",
           "sample_count counts pixels.",
           "normalisation", "minibatch00/sample_count",
           (Edit("batch_norm.py", "self.sample_count += samples", "self.sample_count += values"),)),
    Defect("factor-from-pixels", "batch normalisation",
           "The update's factor from the values of the minibatch, N*H*W, not from its samples.",
           "normalisation", "minibatch01/running_mean",
           (Edit("batch_norm.py", "a = self.update_factor(samples)",
                 "a = self.update_factor(values)"),)),
    Defect("epsilon-1e-3", "batch normalisation",
           "Keras' epsilon.",
           "forward/evaluation", "generator/bn1/output",
           (Edit("batch_norm.py", "epsilon: float = 1e-5", "epsilon: float = 1e-3"),)),
    Defect("epsilon-1e-5-in-one-layer-1e-4", "batch normalisation",
           "One layer of eleven with another epsilon.",
           "forward/evaluation", "generator/bn4/output",
           (Edit("networks.py", '            self.add_module(f"bn{i}", BatchNormalization(after))\n'
                                "        self.conv7 = ConvolutionTranspose",
                 '            self.add_module(f"bn{i}", BatchNormalization(\n'
                 "                after, epsilon=1e-4 if i == 4 else 1e-5))\n"
                 "        self.conv7 = ConvolutionTranspose"),)),
    Defect("clones-statistics-separate", "batch normalisation",
           "The fake branch with running statistics of its own: the discriminator's see real "
           "images only.",
           "step", "after_d/discriminator/bn2/(sample_count|running_mean)",
           (Edit("training.py", D_FAKE,
                 "    with torch.no_grad():\n" + "".join(f"    {line}\n" for line in
                                                         KEEP.splitlines())
                 + D_FAKE + "    with torch.no_grad():\n"
                 + "".join(f"    {line}\n" for line in RESTORE.splitlines())),)),
    Defect("one-pass-over-real-and-fake", "batch normalisation",
           "Real and generated images as one minibatch: normalised together, statistics updated "
           "once.",
           "forward/training", "discriminator_(real|fake)/bn2/output",
           (Edit("training.py", D_BOTH,
                 "    n = len(fake)\n"
                 "    both = networks.discriminator(\n"
                 "        torch.cat([normalized(x), fake]),\n"
                 "        lambda name, h: torch.cat([each_real(name, h[:n]), "
                 "each_fake(name, h[n:])]))\n"
                 "    d_real, d_fake = both[:n], both[n:]\n"),)),
    Defect("statistics-updated-once", "batch normalisation",
           "Real images update nothing: the two branches' updates are one.",
           "step", "after_d/discriminator/bn2/(sample_count|running_mean)",
           (Edit("training.py", "    d_real = networks.discriminator(normalized(x), each_real)\n",
                 "    with torch.no_grad():\n        kept = [b.clone() for b in "
                 "networks.discriminator.buffers()]\n"
                 "    d_real = networks.discriminator(normalized(x), each_real)\n"
                 "    with torch.no_grad():\n"
                 "        for b, was in zip(networks.discriminator.buffers(), kept, strict=True):\n"
                 "            b.copy_(was)\n"),)),
    Defect("statistics-frozen-in-the-g-step", "batch normalisation",
           "The discriminator's running statistics stand still while the generator learns.",
           "step", "after_g/discriminator/bn2/(sample_count|running_mean)",
           (Edit("training.py", G_FAKE,
                 "    kept = [b.clone() for b in networks.discriminator.buffers()]\n"
                 "    losses = generator_loss(networks.discriminator(fake, each_fake))\n"
                 "    with torch.no_grad():\n"
                 "        for b, was in zip(networks.discriminator.buffers(), kept, strict=True):\n"
                 "            b.copy_(was)\n"
                 "    return losses, fake\n"),)),
    Defect("generators-statistics-frozen-in-the-d-step", "batch normalisation",
           "The generator's running statistics stand still while the discriminator learns.",
           "step", "after_d/generator/bn1/(sample_count|running_mean)",
           (Edit("training.py", "    with torch.no_grad():\n        fake = networks.generator(z)\n",
                 "    kept = [b.clone() for b in networks.generator.buffers()]\n"
                 "    with torch.no_grad():\n        fake = networks.generator(z)\n"
                 "        for b, was in zip(networks.generator.buffers(), kept, strict=True):\n"
                 "            b.copy_(was)\n"),)),
    Defect("evaluation-statistics-in-training", "batch normalisation",
           "The running statistics are updated in training, and normalise already there.",
           "forward/training", "generator/bn1/output",
           (Edit("batch_norm.py", "    def forward(self, x: Tensor) -> Tensor:\n",
                 "    def forward(self, x: Tensor) -> Tensor:\n"
                 "        if not self.training:\n"
                 "            return self.as_it_was(x)\n"
                 "        kept = self.running_mean.clone(), self.running_variance.clone()\n"
                 "        with torch.no_grad():\n"
                 "            self.as_it_was(x)\n"
                 "        return F.batch_norm(x, *kept, self.scale, self.bias, False, 0.0,\n"
                 "                            self.epsilon)\n\n"
                 "    def as_it_was(self, x: Tensor) -> Tensor:\n"),)),
    Defect("discriminator-in-evaluation-in-the-g-step", "batch normalisation",
           "The discriminator put into evaluation mode for the G step.",
           "forward/g_step", "discriminator_fake/bn2/output",
           (Edit("training.py", G_FAKE,
                 "    networks.discriminator.eval()\n"
                 "    losses = generator_loss(networks.discriminator(fake, each_fake))\n"
                 "    networks.discriminator.train()\n"
                 "    return losses, fake\n"),)),

    # ---- optimizer
    Defect("learning-rate-not-divided", "optimizer",
           "The learning rate as it is, not over N.",
           "optimizer", "matrix/step01",
           (Edit("adam.py", 'return group["lr"] / (samples if R is None else R)',
                 'return group["lr"]'),)),
    Defect("mean-gradient", "optimizer",
           "backward() of the mean over the minibatch, as PyTorch's losses have it.",
           "gradient/d", "discriminator_(real|fake)/sigmoid7/output",
           (Edit("training.py", "losses.sum().backward(", "losses.mean().backward("),)),
    Defect("textbook-epsilon", "optimizer",
           "epsilon on the corrected root of v, as in the paper and in torch.optim.Adam.",
           "optimizer", "matrix/step01",
           (Edit("adam.py", "epsilon=self.epsilon(group, b2),",
                 'epsilon=self.epsilon(group, b2) / math.sqrt(1 - b2 ** group["minibatches"]),'),)),
    Defect("beta2-0.999", "optimizer",
           "torch.optim.Adam's beta2.",
           "optimizer", "matrix/step01",
           (Edit("adam.py", 'return group["variance_momentum"] ** samples', "return 0.999"),)),
    Defect("beta2-not-raised-to-n", "optimizer",
           "CNTK's beta2 a minibatch, not a sample.",
           "optimizer", "matrix/step01",
           (Edit("adam.py", 'return group["variance_momentum"] ** samples',
                 'return group["variance_momentum"]'),)),
    Defect("unit-gain-flipped", "optimizer",
           "unit_gain=True, today's default, where the article's is False: half the step.",
           "optimizer", "matrix/step01",
           (Edit("training.py", "momentum=MOMENTUM, unit_gain=unit_gain,",
                 "momentum=MOMENTUM, unit_gain=not unit_gain,"),)),
    Defect("momentum-0.9", "optimizer",
           "Adam's usual momentum.",
           "optimizer", "matrix/step01",
           (Edit("training.py", "LEARNING_RATE, MOMENTUM = 1e-4, 0.5",
                 "LEARNING_RATE, MOMENTUM = 1e-4, 0.9"),)),
    Defect("clip-threshold-not-times-n", "optimizer",
           "The clipping threshold as it is given, not times the samples.",
           "optimizer", "matrix/step01",
           (Edit("adam.py", 'return clip if group["minibatch_size"] == 0 else clip * samples',
                 "return clip"),)),
    Defect("no-clipping", "optimizer",
           "Gradients are not clipped at all.",
           "optimizer", "matrix/step01",
           (Edit("training.py", "clip_per_sample=float(minibatch_size))", ")"),)),
    Defect("clipping-by-norm", "optimizer",
           "torch's clip_grad_norm_: the whole gradient is shortened, not its elements cut.",
           "optimizer", "matrix/step01",
           (Edit("training.py", "clip_per_sample=float(minibatch_size))",
                 "clip_per_sample=float(minibatch_size), clip_with_truncation=False)"),)),
    Defect("one-count-a-parameter", "optimizer",
           "The counter goes up with every parameter, not with every minibatch: the first is "
           "right.",
           "optimizer", "kernel/step01",
           (Edit("adam.py", '            group["minibatches"] += 1\n', ""),
            Edit("adam.py", "                if p.dtype not in by_dtype:\n"
                            "                    by_dtype[p.dtype] = ",
                 '                group["minibatches"] += 1\n'
                 "                if p.dtype:\n"
                 "                    by_dtype[p.dtype] = "))),
    Defect("one-learner-for-both", "optimizer",
           "The G step moves the discriminator too, by the gradients that its own step left.",
           "step|ledger", "g_step/discriminator/bn2/bias",
           (Edit("training.py",
                 "    backward(losses, networks.generator)\n"
                 "    optimizer.step(samples=len(z))\n",
                 "    backward(losses, networks.generator)\n"
                 "    optimizer.step(samples=len(z))\n"
                 "    with torch.no_grad():\n"
                 "        for p in networks.discriminator.parameters():\n"
                 "            if p.grad is not None:\n"
                 "                p.sub_(p.grad, alpha=1e-7)\n"),)),

    # ---- losses and activations
    Defect("mean-for-sum-in-the-loss", "losses and activations",
           "The discriminator's loss with its mean taken before the gradient.",
           "pointwise", "loss_of_fake/(output|gradient)",
           (Edit("losses.py", D_LOSS,
                 "    return (-cntk_log(d_real).flatten() - cntk_log(1 - d_fake).flatten()\n"
                 "            ) / len(d_fake)\n"),)),
    Defect("log-clamped-at-100", "losses and activations",
           "binary_cross_entropy's clamp: -100, CNTK's is -85.1.",
           "pointwise", "loss_of_real/(output|gradient)",
           (Edit("losses.py", G_LOSS,
                 "    return F.binary_cross_entropy(d_fake, torch.ones_like(d_fake),\n"
                 '                                  reduction="none").flatten()\n'),)),
    Defect("log-of-tiny-minus-100", "losses and activations",
           "CNTK's log with the other clamp.",
           "pointwise", "log/output",
           (Edit("losses.py", "LOG_OF_TINY = -85.1", "LOG_OF_TINY = -100.0"),)),
    Defect("softplus-loss", "losses and activations",
           "The stable form on logits, softplus: it keeps a gradient where CNTK's is 0.",
           "pointwise", "loss_of_real/(output|gradient)",
           (Edit("losses.py", SIGMOID,
                 "    y = _Sigmoid.apply(x)\n    y.logit = x\n    return y\n"),
            Edit("losses.py", G_LOSS,
                 '    return F.softplus(-d_fake.logit).flatten() if hasattr(d_fake, "logit") \\\n'
                 "        else -cntk_log(d_fake).flatten()\n"))),
    Defect("torch-sigmoid", "losses and activations",
           "torch.sigmoid, which is 0 where CNTK's is subnormal and rounds otherwise elsewhere.",
           "pointwise", "sigmoid/(output|gradient)|loss_of_real/(output|gradient)",
           (Edit("losses.py", SIGMOID,
                 "    return torch.sigmoid(x)\n"),)),
    Defect("leaky-slope-0.01", "losses and activations",
           "leaky_relu's default slope, 0.01.",
           "forward/evaluation", "discriminator_(real|fake)/leaky_relu1/output",
           (Edit("networks.py", "leaky_relu(h, 0.2)", "leaky_relu(h, 0.01)", 2),)),
    Defect("slope-at-zero", "losses and activations",
           "The gradient at exactly 0 is the slope, as PyTorch has it; CNTK's is 1.",
           "pointwise", "leaky_relu/gradient",
           (Edit("losses.py", "torch.where(x < 0, upstream * ctx.slope, upstream)",
                 "torch.where(x <= 0, upstream * ctx.slope, upstream)"),)),
    Defect("relu-for-leaky-relu", "losses and activations",
           "ReLU in the discriminator.",
           "forward/evaluation", "discriminator_(real|fake)/leaky_relu1/output",
           (Edit("networks.py", "leaky_relu(h, 0.2)", "relu(h)", 2),)),
    Defect("one-relu-forgotten", "losses and activations",
           "The generator's sixth layer without its ReLU.",
           "forward/evaluation", "generator/relu6/output",
           (Edit("networks.py", G_LAYER, G_LAYER.replace("relu(h)", "relu(h) if i < 6 else h")),)),
    Defect("tanh-for-sigmoid", "losses and activations",
           "tanh at the end of the discriminator, brought into 0..1 as (tanh + 1) / 2.",
           "forward/evaluation", "discriminator_(real|fake)/sigmoid7/output",
           (Edit("networks.py", 'return each("sigmoid7", sigmoid(h))',
                 'return each("sigmoid7", (torch.tanh(h) + 1) / 2)'),)),
    Defect("sigmoid-for-tanh", "losses and activations",
           "A sigmoid at the end of the generator: images in 0..1.",
           "forward/evaluation", "generator/tanh7/output",
           (Edit("networks.py", 'return each("tanh7", tanh(h))',
                 'return each("tanh7", sigmoid(h))'),)),
    Defect("minimax-loss", "losses and activations",
           "The generator minimises log(1 - D(G(z))).",
           "pointwise", "loss_of_real/(output|gradient)",
           (Edit("losses.py", G_LOSS, "    return cntk_log(1 - d_fake).flatten()\n"),)),
    Defect("label-smoothing", "losses and activations",
           "The label of real images is 0.9, as GAN recipes have it.",
           "gradient/d", "loss/samples/value",
           (Edit("training.py", "    return discriminator_loss(d_real, d_fake)\n",
                 "    return discriminator_loss(d_real, d_fake) * 0.9 \\\n"
                 "        + 0.1 * discriminator_loss(1 - d_real, d_fake)\n"),)),

    # ---- initialisation
    Defect("variance-for-deviation", "initialisation",
           "0.02 read as a variance, as the article's prose calls it.",
           "initial", FIRST_WEIGHT,
           (Edit("networks.py", DRAWN, DRAWN[:-1] + ", 0.02 ** 0.5)"),)),
    Defect("xavier", "initialisation",
           "Glorot's uniform distribution.",
           "initial", FIRST_WEIGHT,
           (Edit("networks.py", DRAWN,
                 "torch.manual_seed(seed)\n"
                 "    drawn = {name: nn.init.xavier_uniform_(torch.empty(shape)).numpy()\n"
                 "             for name, shape in CREATION_ORDER.items()}"),)),
    Defect("torch-normal", "initialisation",
           "The right distribution from PyTorch's own generator.",
           "initial", FIRST_WEIGHT,
           (Edit("networks.py", DRAWN,
                 "torch.manual_seed(seed)\n"
                 "    drawn = {name: nn.init.normal_(torch.empty(shape), 0, 0.02).numpy()\n"
                 "             for name, shape in CREATION_ORDER.items()}"),)),
    Defect("all-layers-from-one-seed", "initialisation",
           "Every layer from the seed of the run: the first is right.",
           "initial", "generator/conv2/weight",
           (Edit("networks.py", DRAWN, DRAWN.replace("seeds_for(seed, len(CREATION_ORDER))",
                                                     "[seed] * len(CREATION_ORDER)")),)),
    Defect("discriminator-made-first", "initialisation",
           "The discriminator is created before the generator, so seeds go to other layers.",
           "initial", FIRST_WEIGHT,
           (Edit("normal_initializer.py", "{**GENERATOR_SHAPES, **DISCRIMINATOR_SHAPES}",
                 "{**DISCRIMINATOR_SHAPES, **GENERATOR_SHAPES}"),)),
    Defect("two-layers-in-another-order", "initialisation",
           "The discriminator's fifth and sixth layers are created in the other order.",
           "initial", "discriminator/conv5/weight",
           (Edit("networks.py", DRAWN,
                 "seeds = seeds_for(seed, len(CREATION_ORDER))\n"
                 "    seeds[11], seeds[12] = seeds[12], seeds[11]\n"
                 "    drawn = draw_initial_weights(CREATION_ORDER, seeds)"),)),
    Defect("truncated-normal", "initialisation",
           "Values beyond two standard deviations are cut to them.",
           "initial", FIRST_WEIGHT,
           (Edit("networks.py", DRAWN, DRAWN + "\n    drawn = {name: np.clip(weights, -0.04, 0.04) "
                                               "for name, weights in drawn.items()}"),)),
    Defect("scale-normal-1-0.02", "initialisation",
           "PyTorch's DCGAN example: the normalisation's scale from normal(1, 0.02).",
           "initial", "generator/bn1/scale",
           (Edit("networks.py", "        for name in BIASES:\n",
                 "        torch.manual_seed(seed)\n"
                 "        for name, tensor in arrays.items():\n"
                 '            if name.endswith("/scale"):\n'
                 "                nn.init.normal_(tensor, 1, 0.02)\n"
                 "        for name in BIASES:\n"),)),
    Defect("bias-not-zeroed", "initialisation",
           "nn.Conv2d's own initial bias is left in the discriminator's first layer.",
           "initial", "discriminator/conv1/bias",
           (Edit("networks.py", '"discriminator/conv1/bias", ', ""),)),

    # ---- data
    Defect("rgb-for-bgr", "data",
           "Channels in the order R, G, B.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py", "image = decode(entry, "
                                    'f"{self.map_file}, line {entry.line}")\n',
                 "image = np.ascontiguousarray(decode(\n            entry, "
                 'f"{self.map_file}, line {entry.line}")[..., ::-1])\n'),)),
    Defect("no-normalisation", "data",
           "Pixels go into the discriminator as 0..255.",
           "forward/evaluation", "discriminator_real/conv1/output",
           (Edit("networks.py", "return (x - MIDDLE) * RECIPROCAL", "return x * 1.0"),)),
    Defect("zero-to-one", "data",
           "Pixels in [0, 1], as torchvision's ToTensor gives them.",
           "forward/evaluation", "discriminator_real/conv1/output",
           (Edit("networks.py", "return (x - MIDDLE) * RECIPROCAL", "return x / 255"),)),
    Defect("middle-128", "data",
           "(x - 128) / 128.",
           "forward/evaluation", "discriminator_real/conv1/output",
           (Edit("networks.py", "return (x - MIDDLE) * RECIPROCAL", "return (x - 128) / 128"),)),
    Defect("scale-before-color", "data",
           "The image is scaled first, its bytes, and coloured then.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py", COLORED,
                 "        image = scale(image, self.width, self.height).copy()\n"
                 "        write_planes(apply_color(image, *draws), out)\n"),)),
    Defect("area-interpolation", "data",
           "OpenCV's INTER_AREA.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py", RESIZED, RESIZED.replace("LINEAR", "AREA")),)),
    Defect("cubic-interpolation", "data",
           "OpenCV's INTER_CUBIC.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py", RESIZED, RESIZED.replace("LINEAR", "CUBIC")),)),
    Defect("antialiasing", "data",
           "torchvision's and Pillow's linear scaling, which filters before it samples.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py", f"    return {RESIZED}\n",
                 "    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]\n"
                 "    small = torch.nn.functional.interpolate(\n"
                 '        planes.float(), (height, width), mode="bilinear", antialias=True)\n'
                 "    out[...] = small[0].permute(1, 2, 0).numpy()\n"
                 "    return out\n"),)),
    Defect("fisher-yates", "data",
           "A proper Fisher-Yates shuffle, where CNTK swaps over the whole range.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py",
                 "    for i, other in enumerate((Mersenne64(seed).outputs(count) "
                 "% np.uint64(count)).tolist()):\n",
                 "    for i, other in enumerate((Mersenne64(seed).outputs(count) % np.arange(\n"
                 "            1, count + 1, dtype=np.uint64)).tolist()):\n"),)),
    Defect("one-generator-for-all-positions", "data",
           "One generator colours every image of a minibatch, position after position.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py",
                 "draws = [augmentation_draws(position, step, self.color_radii) "
                 "for position in range(size)]",
                 "draws = [augmentation_draws(0, step * size + position, self.color_radii)\n"
                 "                 for position in range(size)]"),)),
    Defect("same-order-every-sweep", "data",
           "Every sweep has the first one's order.",
           "reader", "minibatch0[67]/images",
           (Edit("image_reader.py", "order(count, s // count, seed)", "order(count, 0, seed)"),)),
    Defect("last-partial-minibatch-dropped", "data",
           "DataLoader(drop_last=True): what is left of a sweep is left out.",
           "reader", "minibatch06/images",
           (Edit("image_reader.py",
                 "    samples = range(step * minibatch_size, (step + 1) * minibatch_size)\n",
                 "    whole = count // minibatch_size\n"
                 "    sweep, at = divmod(step, whole)\n"
                 "    first = sweep * count + at * minibatch_size\n"
                 "    samples = range(first, first + minibatch_size)\n"),)),
    Defect("contrast-about-the-mean", "data",
           "torchvision's contrast: about the mean, not about 0.",
           "reader", "minibatch00/images",
           (Edit("image_reader.py", "    table += beta\n",
                 "    table += beta - np.float32(contrast * sum(cv2.sumElems(image)) / image.size)"
                 "\n"),)),

    # ---- weights
    Defect("one-wrong-weight", "weights",
           "One of 13 million weights of the generator's second layer is off by one unit in the "
           "last place.",
           "state", "generator/conv2/weight",
           loaded("generator/conv2/weight",
                  "t.view(-1)[7654321] = torch.nextafter(t.view(-1)[7654321], torch.tensor(9.0))")),
    Defect("one-layer-in-float16", "weights",
           "One layer's weights went through float16.",
           "state", "generator/conv4/weight",
           loaded("generator/conv4/weight", "t.copy_(t.half().float())")),
    Defect("two-channels-exchanged", "weights",
           "Two channels of a normalisation's running variance exchanged.",
           "state", "discriminator/bn5/running_variance",
           loaded("discriminator/bn5/running_variance",
                  "t[[10, 11]] = t[[11, 10]].clone()")),
    Defect("kernel-transposed", "weights",
           "The kernels of one layer transposed: its shape is the same.",
           "state", "discriminator/conv3/weight",
           loaded("discriminator/conv3/weight", "t.copy_(t.transpose(2, 3).clone())")),
    Defect("bias-lost-in-loading", "weights",
           "The discriminator's last bias stays 0.",
           "state", "discriminator/conv7/bias",
           loaded("discriminator/conv7/bias", "t.zero_()")),

    # ---- ONNX
    Defect("onnx-opset-11", "ONNX", "CNTK's file says opset 11.",
           "onnx", "generator/graph/opset_cntk_export",
           export="cntk", network="generator", graph=opset_11, blame=CNTK_EXPORTER),
    Defect("onnx-port-opset-10", "ONNX", "The port exports opset 10.",
           "onnx", "generator/graph/opset_port_export",
           (Edit("onnx_export.py", "OPSET = 9", "OPSET = 10"),), blame=PORT_EXPORTER),
    Defect("onnx-pads-at-the-other-side", "ONNX",
           "In CNTK's file the odd pixel is at the bottom and the right.",
           "onnx", "discriminator/conv3/node_cntk_export",
           export="cntk", network="discriminator", graph=pads_at_the_other_side,
           blame=CNTK_EXPORTER),
    Defect("onnx-port-pads-at-the-other-side", "ONNX",
           "The same in the port's file.",
           "onnx", "discriminator/conv3/node_port_export",
           export="port", network="discriminator", graph=padding_node_at_the_other_side,
           blame=PORT_EXPORTER),
    Defect("onnx-generators-crop", "ONNX",
           "In the port's file the generator's fifth layer crops the other side.",
           "onnx", "generator/conv5/node_port_export",
           export="port", network="generator", graph=attribute("conv5", "pads", [1, 1, 3, 3]),
           blame=PORT_EXPORTER),
    Defect("onnx-folded-without-epsilon", "ONNX",
           "The port's file has the generator's fourth normalisation folded into the convolution, "
           "without epsilon.",
           "onnx", "generator/(conv4/weight|bn4/node)_port_export",
           export="port", network="generator", graph=folded_without_epsilon, blame=PORT_EXPORTER),
    Defect("onnx-bfloat16", "ONNX",
           "CNTK's file holds one layer's weights rounded to bfloat16.",
           "onnx", "discriminator/conv4/weight_cntk_export",
           export="cntk", network="discriminator", graph=initializer("conv4", 1, bfloat16),
           blame=CNTK_EXPORTER),
    Defect("onnx-port-bfloat16", "ONNX", "The same in the port's file, in the generator.",
           "onnx", "generator/conv6/weight_port_export",
           export="port", network="generator", graph=initializer("conv6", 1, bfloat16),
           blame=PORT_EXPORTER),
    Defect("onnx-output-order", "ONNX",
           "The port's file gives the image's channels as R, G, B.",
           "onnx", "generator/tanh7/(node_port_export|port_export)",
           export="port", network="generator", graph=channels_last, blame=PORT_EXPORTER),
    Defect("onnx-filters-in-another-order", "ONNX",
           "CNTK's file has one layer's filters in the opposite order.",
           "onnx", "discriminator/conv5/weight_cntk_export",
           export="cntk", network="discriminator",
           graph=initializer("conv5", 1, lambda weights: weights[::-1]), blame=CNTK_EXPORTER),
    Defect("onnx-epsilon", "ONNX",
           "CNTK's file has another epsilon in one normalisation.",
           "onnx", "discriminator/bn3/node_cntk_export",
           export="cntk", network="discriminator", graph=attribute("bn3", "epsilon", 1e-3),
           blame=CNTK_EXPORTER),
    Defect("onnx-slope", "ONNX", "The port's file has another slope in one leaky ReLU.",
           "onnx", "discriminator/leaky_relu2/node_port_export",
           export="port", network="discriminator", graph=attribute("leaky_relu2", "alpha", 0.1),
           blame=PORT_EXPORTER),
    Defect("onnx-in-training-mode", "ONNX",
           "CNTK's file asks one normalisation for the minibatch's own statistics.",
           "onnx", "discriminator/bn3/node_cntk_export",
           export="cntk", network="discriminator", graph=in_training_mode, blame=CNTK_EXPORTER),

    # ---- runtime
    Defect("runtime-one-channel", "runtime",
           "onnxruntime returns one channel of a convolution of CNTK's file too large.",
           "onnx", "discriminator/conv4/cntk_export",
           export="cntk", network="discriminator", perturb=one_channel_off("conv4", 1e-2),
           blame=RUNTIME),
    Defect("runtime-in-half-precision", "runtime",
           "onnxruntime computes a convolution of the port's file in float16.",
           "onnx", "generator/conv2/port_export",
           export="port", network="generator", perturb=in_half("conv2"), blame=RUNTIME),
    Defect("runtime-image", "runtime",
           "onnxruntime returns another image than the last layer is.",
           "onnx", "generator/tanh7/cntk_export",
           export="cntk", network="generator", perturb=one_channel_off("tanh7", 1e-3),
           blame=RUNTIME),
)
