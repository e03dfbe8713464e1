"""Both networks in CNTK with every layer and parameter at hand, by the captures' names. Python 3.6.

A gradient of a layer's OUTPUT: CNTK gives those of parameters and inputs only, so with ``tapped``
every layer's output has an input variable added to it that is fed zeros. x + 0 is x, and the
gradient of that variable is the gradient of the output.
"""
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence, Tuple

import cntk as C
import numpy as np

from captures.spec import Spec
from cntk_impl import dcgan_training as program
from cntk_impl.capture import model
from cntk_impl.capture.learner_state import learner_state
from cntk_impl.training_state import QUANTITY

Values = Dict[str, np.ndarray]


class Trained(NamedTuple):
    """outputs, gradients: of layers, "branch/layer/output". of_parameters: gradients,
    "network/layer/quantity". losses: of each sample."""

    outputs: Values
    gradients: Values
    of_parameters: Values
    losses: np.ndarray


class Observed:
    """The networks of a spec, and every layer of them by name.

    layers: branch to {layer: Function}
    state: name of the captures to the Parameter or Constant that holds it
    taps: (branch, layer) to the input variable that is added to the layer's output
    """

    def __init__(self, spec: Spec, seed: int, tapped: bool = False) -> None:
        self.spec, self.tapped = spec, tapped
        self.layers: Dict[str, Dict[str, Any]] = {branch.name: {} for branch in spec.branches}
        self.taps: Dict[Tuple[str, str], Any] = {}
        self.state: Dict[str, Any] = {}

        def watch(branch: str, network: str) -> Callable[[str, Any], Any]:
            def each(name: str, h: Any) -> Any:
                self.layers[branch][name] = h
                for held in h.root_function.inputs:
                    if held.is_parameter or (held.is_constant and held.name in QUANTITY):
                        self.state["%s/%s/%s" % (network, name, QUANTITY[held.name])] = (
                            held.as_parameter() if held.is_parameter else held.as_constant())
                return h + self._tap(branch, name, h.shape) if tapped else h
            return each

        substitutions: Dict[Any, Any] = {}

        make = model.functions(spec)

        def critic(h: Any) -> Any:
            made = make.critic(h, watch(spec.real, spec.critic.name))
            for (branch, name), tap in list(self.taps.items()):
                if branch == spec.real:
                    substitutions[tap] = self._tap(spec.fake, name, tap.shape)
            return made

        self.networks = program.build_networks(
            seed, lambda z: make.maker(z, watch(spec.maker.name, spec.maker.name)), critic,
            substitutions, spec.critic.input, spec.maker.input[0], spec.middle)
        self._find_fake_branch()

    def _tap(self, branch: str, name: str, shape: Sequence[int]) -> Any:
        tap = C.input_variable(shape, needs_gradient=True, name="%s/%s" % (branch, name))
        self.taps[branch, name] = tap
        return tap

    def _find_fake_branch(self) -> None:
        """The clone's layers have the names of the original's, and so may have the maker's, which
        the clone's graph holds too: what is not the maker's own is the clone's."""
        own = {h.root_function.uid for h in self.layers[self.spec.maker.name].values()}
        for name in self.layers[self.spec.real]:
            found = [f for f in self.networks.D_fake.find_all_with_name(name)
                     if f.root_function.uid not in own]
            assert len(found) == 1, (name, found)
            self.layers[self.spec.fake][name] = found[0]

    def values(self) -> Values:
        """Every parameter and statistic as it stands now: name to array. Counts are whole."""
        made = {}
        for name, held in self.state.items():
            value = np.array(held.value)
            if name.endswith("/sample_count"):
                value = np.array(int(value), np.int64)
            elif name.endswith("/bias"):
                value = value.ravel()
            made[name] = value
        return made

    def set_values(self, values: Values) -> None:
        for name, held in self.state.items():
            held.value = np.asarray(values[name], np.float32).reshape(held.shape)

    def fed(self, root: Any, arguments: Mapping[Any, np.ndarray], *branches: str
            ) -> Dict[Any, np.ndarray]:
        """The arguments, and zeros for every tap that ``root`` has."""
        samples, needed = len(next(iter(arguments.values()))), set(root.arguments)
        made = dict(arguments)
        made.update((tap, np.zeros((samples,) + tap.shape, np.float32))
                    for (branch, _), tap in self.taps.items()
                    if branch in branches and tap in needed)
        return made

    def outputs(self, *branches: str) -> Dict[Tuple[str, str], Any]:
        return {(branch, name): h.output for branch in branches
                for name, h in self.layers[branch].items()}


def as_array(value: Any) -> np.ndarray:
    """As float32."""
    return np.asarray(value, np.float32)


def evaluated(observed: Observed, arguments: Mapping[Any, np.ndarray], *branches: str) -> Values:
    """Every layer's output in evaluation mode: "branch/layer/output" to array."""
    wanted = observed.outputs(*branches)
    root = C.combine(list(wanted.values()))
    got = root.eval(observed.fed(root, arguments, *branches))
    return {"%s/%s/output" % place: as_array(got[variable]) for place, variable in wanted.items()}


def forward(observed: Observed, loss: Any, arguments: Mapping[Any, np.ndarray], *branches: str
            ) -> Tuple[Values, Tuple[Any, Any, np.ndarray]]:
    """Every layer's output in training mode: (outputs "branch/layer/output", what ``trained`` goes
    on with)."""
    wanted = observed.outputs(*branches)
    root = C.combine([loss] + list(wanted.values()))
    state, got = root.forward(observed.fed(root, arguments, *branches), root.outputs,
                              keep_for_backward={loss.output})
    return ({"%s/%s/output" % place: as_array(got[variable])
             for place, variable in wanted.items()}, (root, state, as_array(got[loss.output])))


def trained(observed: Observed, loss: Any, arguments: Mapping[Any, np.ndarray], *branches: str
            ) -> Trained:
    """Every layer's output and gradient in training mode, and the gradient of every parameter."""
    outputs, (root, state, losses) = forward(observed, loss, arguments, *branches)
    parameters = {name: held for name, held in observed.state.items()
                  if held.is_parameter and held in set(loss.parameters)}
    taps = {place: tap for place, tap in observed.taps.items() if place[0] in branches}
    gradients = root.backward(state, {loss.output: np.ones_like(losses)},
                              set(parameters.values()) | set(taps.values()))
    return Trained(
        outputs,
        {"%s/%s/output" % place: as_array(gradients[tap]) for place, tap in taps.items()},
        {name: np.array(gradients[held], np.float32).reshape(observed_shape(name, held))
         for name, held in parameters.items()},
        losses.ravel())


def observed_shape(name: str, held: Any) -> Tuple[int, ...]:
    return (held.shape[0],) if name.endswith("/bias") else tuple(held.shape)


def optimizer_values(observed: Observed, trainers: Sequence[Any]) -> Values:
    """m, v and the counter of both learners: name to array."""
    made: Values = {}
    by_uid = {held.uid: name for name, held in observed.state.items() if held.is_parameter}
    for network, trainer in zip([one.name for one in observed.spec.networks], trainers):
        counter, moments = learner_state(trainer.parameter_learners[0])
        for uid, (m, v) in moments.items():
            name, shape = by_uid[uid], observed.state
            held = shape[name]
            made[name + "_m"] = m.reshape(observed_shape(name, held))
            made[name + "_v"] = v.reshape(observed_shape(name, held))
        made[network + "/learner/minibatches"] = np.array(counter, np.int64)
    return made


def facts_of_parameters(observed: Observed) -> Dict[str, Any]:
    """Counts, and which parameters the fake branch shares with the real one."""
    networks, spec = observed.networks, observed.spec
    real = {p.uid for p in networks.D_real.parameters}
    fake = {p.uid for p in networks.D_fake.parameters}
    made = {p.uid for p in networks.G_fake.parameters}
    constants = ({c.uid for c in networks.D_real.constants if c.name in QUANTITY},
                 {c.uid for c in networks.D_fake.constants if c.name in QUANTITY})
    return {
        "counts": {network.name: int(sum(np.prod(p.shape) for p in function.parameters))
                   for network, function in zip(spec.networks, (networks.G_fake, networks.D_real))},
        "shared_parameters": len(real & fake), "critics_parameters": len(real),
        "fake_branch_parameters_of_its_own": len(fake - real - made),
        "shared_statistics": len(constants[0] & constants[1]),
        "critics_statistics": len(constants[0]),
        "layers": [[branch, name, list(h.shape)] for branch in sorted(observed.layers)
                   for name, h in observed.layers[branch].items()],
    }
