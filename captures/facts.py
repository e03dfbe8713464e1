"""What of a capture is no array: each fact's name, form, and who writes it, once.

A form is built of Python's types: ``[str]`` a list of texts; ``{str: float}`` a dictionary;
``(str, int)`` a list of two; ``Keys({"a": int})`` a dictionary of just these keys;
``Either((int, str))`` one of them. ``NOTHING`` is null. An int is a float too, a bool is neither.
Plain Python 3.6.
"""
from typing import Any, Dict, NamedTuple, Tuple

Form = Any
NOTHING = type(None)


class Keys(NamedTuple):
    of: Dict[str, Form]


class Either(NamedTuple):
    of: Tuple[Form, ...]


class Fact(NamedTuple):
    """form: see above. by: "producer/job" of who writes it; of the job alone, every producer."""

    form: Form
    by: Tuple[str, ...]
    what: str


_PARAMETERS = Keys({
    "counts": {str: int}, "shared_parameters": int, "critics_parameters": int,
    "fake_branch_parameters_of_its_own": int, "shared_statistics": int, "critics_statistics": int,
    "layers": [(str, str, [int])]})
_EVENT = (str, str, Either((int, str)))
_LAYERS = ("layers",)
_REFERENCE = ("cntk/layers", "stand-in/layers")
_PORTS = ("port/layers", "oracle/layers")
_ALL = ("layers", "twin", "export", "pictures")

FACTS: Dict[str, Fact] = {
    "job": Fact(str, _ALL, "which job of the producer it was"),
    "parts": Fact([str], _PORTS, "which parts of its program were asked "
                  "for, in their order"),
    "seconds": Fact(float, _ALL, "how long it took"),
    "parameters": Fact(_PARAMETERS, _LAYERS, "what is learnt in each network, what the two "
                       "branches share, and every layer's shape of output"),
    "warmup_minibatches": Fact([str], _LAYERS, "SHA-256 of each minibatch of the warm-up"),
    "initial_ledger": Fact([(str, int, [int], int, str)], ("port/layers", "stand-in/layers"),
                           "of each weight: seed, shape, how many numbers were drawn, SHA-256"),
    "evaluation_changes": Fact([str], _LAYERS, "what an evaluation changed: nothing should"),
    "evaluation_nudged": Fact({str: Keys({"error": float, "largest": float})}, _REFERENCE,
                              "how far each layer moves when its inputs move by one ULP"),
    "unsteadiness": Fact({str: {str: float}}, _REFERENCE, "how far each layer in training "
                         "mode is from itself, with the samples reversed, and nudged"),
    "carried_rounding": Fact({str: float}, ("oracle/layers",), "how far each array in the chain "
                             "moves, as a part of its size, where every layer rounds"),
    "ledger": Fact([_EVENT], _LAYERS, "what a D step and a G step change: step, name, by what"),
    "initial_sha256": Fact({str: str}, ("twin",), "of each array that the twin run begins with"),
    "minibatch_sha256": Fact([str], ("twin",), "SHA-256 of each minibatch of the twin run"),
    "stopped": Fact(str, (*_PORTS, "port/twin"), "what of a port could not be run, and why"),
    "stopped_stages": Fact({str: str}, ("port/layers",), "of an adapter: stage to what raised of "
                           "what it is judged by"),
    "unfinished": Fact(bool, ("layers",), "the process was killed before it had done everything"),
    "latents_hashes": Fact([str], ("twin",), "BLAKE2b of each minibatch of latents"),
    "state_hashes": Fact([{str: str}], ("twin",), "behind each iteration, of each array that it "
                         "may move: BLAKE2b"),
    "mode": Fact(str, ("twin",), "whether the twin run had the reference's bits behind the first "
                 "iteration (bits), was given its state before each (step), or was alone (free)"),
    "step_names": Fact([str], ("port/twin",), "the arrays of twin/step/state/apart, in order"),
    "export_moved": Fact([str], ("port/layers",), "what is another behind the port's export of its "
                         "networks: arrays, and modules in another mode"),
    "export_failed": Fact(str, ("port/layers",), "why the port could not export its networks"),
    "program_state": Fact({str: str}, ("port/layers",), "of each array behind the last iteration "
                          "of the training program's own run: BLAKE2b"),
    "program_models": Fact({str: str}, ("port/layers",), "the same of the model files it left"),
    "program_steps": Fact({str: str}, ("port/layers",), "the same of as many iterations of the "
                          "port's steps alone, without the program around them"),
    "program_resumed": Fact({str: str}, ("port/layers",), "the same of a run that was stopped "
                            "before its last iteration and went on"),
    "no_files": Fact(str, ("stand-in/layers",), "why CNTK's files could not be put together"),
    "bits": Fact(bool, ("stand-in/layers", "stand-in/twin"), "whether it computes with CNTK's bits "
                 "here"),
    "from_certificate": Fact(int, ("stand-in/twin",), "of how many iterations it is what was "
                             "recorded of CNTK, not computed again"),
    "unseen": Fact([str], ("port/layers",), "layers of a user's port that cannot be watched"),
    "extra": Fact([str], ("port/layers",), "modules of a user's port that are no layer's"),
    "noticed": Fact([str], ("port/layers",), "what a user's adapter sets for the whole process"),
    "input_rounding": Fact(float, ("port/layers",), "what an image is rounded to where a user's "
                           "port takes it in another range, in CNTK's range"),
    "output_rounding": Fact(float, ("port/layers",), "the same of the images that it gives, where "
                            "they are seen in its range alone: a sigmoid of 2 x, not a tanh"),
    "device": Fact(str, ("port/layers",), "where a user's port ran, and with which precision"),
    "not_given": Fact({str: str}, ("port/layers",), "stage to the line that an adapter lacks"),
    "absent": Fact({str: str}, ("port/layers",), "pattern of arrays that a user's port cannot "
                   "have, to why"),
    "seconds_of_parts": Fact({str: float}, ("port/layers",), "how long each part took"),
    "graphs": Fact({str: Keys({"error": str, "notes": [str]})}, ("export",),
                   "of each network's exported graph: why it did not run, or \"\"; remarks"),
    "classifier": Fact(Keys({"name": str, "title": str, "kernel": str, "weights": str}),
                       ("pictures",), "which classifier looked at the pictures"),
    "refused": Fact({str: str}, ("pictures",), "sources whose pictures cannot be classified, and "
                    "why"),
    "made_from": Fact({str: {str: str}}, ("export", "pictures"), "of other captures, cntk say, "
                      "the arrays and files that it was made from: name to checksum"),
}


def matches(value: Any, form: Form) -> bool:
    """Whether a value, as JSON holds it, is of a form."""
    if isinstance(form, Keys):
        return isinstance(value, dict) and sorted(value) == sorted(form.of) and all(
            matches(value[name], one) for name, one in form.of.items())
    if isinstance(form, Either):
        return any(matches(value, one) for one in form.of)
    if isinstance(form, list):
        return isinstance(value, (list, tuple)) and all(matches(one, form[0]) for one in value)
    if isinstance(form, tuple):
        return isinstance(value, (list, tuple)) and len(value) == len(form) and all(
            matches(one, other) for one, other in zip(value, form))
    if isinstance(form, dict):
        (held,) = form.values()
        return isinstance(value, dict) and all(
            isinstance(name, str) and matches(one, held) for name, one in value.items())
    if form in (bool, NOTHING):
        return isinstance(value, form)
    kinds = (float, int) if form is float else form
    return isinstance(value, kinds) and not isinstance(value, bool)


def written_by(name: str, producer: str, job: str) -> bool:
    """Whether this producer writes that fact in this job."""
    return name in FACTS and any(
        who in (job, "%s/%s" % (producer, job)) for who in FACTS[name].by)
