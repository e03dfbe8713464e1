"""Reports made up for the tests of the formats: one that agrees, and ways to fail."""
import math
from dataclasses import replace

import numpy as np

from parity.judge.results import Check, Report, Stage
from parity.report.pictures import Pictures

POLICIES = {
    "layer_rounding": {"value": 4.0, "source": "a float64 oracle: sums in another order differ by "
                       "up to 2.6 times in 100 plans, rounded up"},
    "exact": {"value": 0.0, "source": "the same bits are promised"},
    "loss_horizon": {"value": 2.0, "source": "CNTK's own reruns from weights moved by one ULP",
                     "measured_floor": {"p99": 1.31, "runs": 20}},
    "score_interval": "the port's score lies in CNTK's bootstrap interval",
}

GENERATOR = [f"{kind}{i}" for i in range(1, 7) for kind in ("conv", "bn", "relu")] + [
    "conv7", "tanh7"]
DISCRIMINATOR = ["conv1", "leaky_relu1"] + [
    f"{kind}{i}" for i in range(2, 7) for kind in ("conv", "bn", "leaky_relu")] + [
    "conv7", "sigmoid7"]
NETWORKS = {"generator": GENERATOR, "discriminator_real": DISCRIMINATOR,
            "discriminator_fake": DISCRIMINATOR}


def layer_check(place: str, depth: int, local: bool, random: np.random.RandomState) -> Check:
    grown = 1.0 if local else 1 + depth / 4
    theirs = 8e-8 * grown * random.uniform(0.7, 1.4)
    ours = theirs * random.uniform(0.6, 1.5)
    if not local and "relu1" in place:
        ours = theirs = 0.0
    return Check(
        place, ours / theirs if theirs else 0.0, 4.0, "times CNTK's error", "layer_rounding",
        {"largest_absolute": ours * 11, "largest_relative": ours * 300, "ulp": float(
            random.randint(0, 40)), "cosine": 3e-15, "cntk_error": theirs, "port_error": ours,
         **({"ratio": ours / theirs} if theirs else {})}, local=local)


def layered(name: str, title: str, networks: dict[str, list[str]], quantity: str,
            random: np.random.RandomState) -> Stage:
    checks = []
    for network, layers in networks.items():
        for depth, layer in enumerate(layers):
            place = f"{network}/{layer}/{quantity}"
            checks += [layer_check(place, depth, local, random) for local in (True, False)]
    return Stage(name, title, checks, seconds=2.31)


def exact(name: str, title: str, places: list[str], notes: tuple[str, ...] = ()) -> Stage:
    return Stage(name, title, [Check(place, 0.0, 0.0, "values that differ", "exact",
                                     {"values": 1000.0 * (i + 1)}) for i, place in
                               enumerate(places)], list(notes), 0.52)


def agreeing() -> Report:
    """About as many checks as a real report has."""
    random = np.random.RandomState(0)
    weights = [f"{network}/conv{i}/weight" for network in ("generator", "discriminator")
               for i in range(1, 8)]
    convs = {"discriminator": [f"conv{i}" for i in range(7, 0, -1)]}
    stages = [
        exact("structure", "The same layers, shapes and parameters", [
            place.replace("weight", "shape") for place in weights]),
        exact("initial", "Initial weights from the seed", weights),
        exact("reader", "Images and their order", [f"minibatch{i:04d}/images" for i in range(20)]),
        exact("optimizer", "Adam on recorded gradients", weights),
        exact("pointwise", "Losses and activations, point by point",
              [f"{f}/points/output" for f in ("log", "sigmoid", "relu", "leaky_relu")]),
        exact("state", "Running statistics", [f"generator/bn{i}/running_variance"
                                              for i in range(1, 7)]),
        layered("forward/training", "Each layer, statistics of the minibatch", NETWORKS, "output",
                random),
        layered("forward/evaluation", "Each layer, running statistics", NETWORKS, "output", random),
        layered("gradient/d", "Gradients of the discriminator's loss", convs, "weight", random),
        layered("gradient/g", "Gradients of the generator's loss",
                {"generator": [f"conv{i}" for i in range(7, 0, -1)], **convs}, "weight", random),
        Stage("step", "One iteration", [Check(
            place, 0.31, 1.0, "times the step", "layer_rounding", {"largest_absolute": 3e-9})
            for place in weights], seconds=4.4),
        exact("ledger", "Who updates which statistic, and when", ["discriminator/bn2/count"]),
        Stage("onnx", "The exported graphs under onnxruntime", [
            Check(f"{graph}/generator/tanh7/output", 0.9, 4.0, "times CNTK's error",
                  "layer_rounding", {"ulp": 3.0}) for graph in ("cntk_graph", "port_graph")],
            ["CNTK's exporter drops aggregate_count of every batch normalisation",
             "PyTorch's exporter folds conv7 and its bias"], 6.2),
        Stage("twin", "Both train from the seed alone", [
            Check(f"iteration{i:04d}/losses/D_loss", 0.04 * i, 2.0, "times CNTK's reruns",
                  "loss_horizon") for i in range(20)], seconds=61.0),
        Stage("score", "Classifier score of generated images", [
            Check("images/port/score", 0.2, 1.0, "half widths of the interval",
                  "score_interval")], seconds=9.9),
    ]
    i = np.arange(20)
    bases = {"D": 1.4 * np.exp(-i / 6) + 0.2, "G": 0.7 + i * 0.11 + 0.3 * np.sin(i)}
    curves = {}
    for name, base in bases.items():
        curves[f"twin/cntk/{name}_loss"] = base.tolist()
        curves[f"twin/port/{name}_loss"] = (base * (1 + 1e-6 * 1.7 ** i)).tolist()
    curves["horizon/port"] = (2e-8 * 1.9 ** i * (i > 0)).tolist()
    for n in range(1, 6):
        curves[f"horizon/rerun{n}"] = (
            1.5e-8 * 1.9 ** i * random.uniform(0.4, 2.5, 20)).tolist()
    machine = {"processor": "x86_64", "system": "Linux", "python": "3.11.7", "numpy": "2.4.6"}
    old = {**machine, "python": "3.6.15", "numpy": "1.17.3"}
    producers = {
        "cntk": {"producer": "cntk", "versions": {"cntk": "2.7.post2", "opencv": "4.1.1"},
                 "threads": 2, "machine": old},
        "port": {"producer": "port", "versions": {"torch": "2.13.0", "opencv": "5.0.0"},
                 "threads": 2, "machine": machine},
        "oracle": {"producer": "oracle", "versions": {"torch": "2.13.0"}, "threads": 2,
                   "machine": machine},
        "onnx-cntk": {"producer": "onnx", "versions": {"onnxruntime": "1.32.0"}, "threads": 1,
                      "machine": machine},
    }
    plan = {"seed": 0, "minibatch_size": 4, "warmup_iterations": 3, "twin_iterations": 20,
            "reruns": 5, "unit_gain": 0, "threads": 2, "map_sha256": "5f" * 32}
    score = {"cntk": 1.93, "cntk_low": 1.81, "cntk_high": 2.06, "port": 1.94, "port_low": 1.82,
             "port_high": 2.07, "images": 64}
    return Report(plan, producers, stages, curves, score, seconds=97.3)


def stage_of(report: Report, name: str) -> Stage:
    return next(stage for stage in report.stages if stage.name == name)


def breaking(report: Report, stage: str, place: str, local: bool | None, factor: float) -> None:
    """Makes one layer of a stage ``factor`` times as wrong."""
    checks = stage_of(report, stage).checks
    for i, check in enumerate(checks):
        if check.place == place and check.local is local:
            error = max(check.metrics.get("cntk_error", 1e-7), 1e-8) * factor
            checks[i] = replace(
                check, measured=factor, detail=f"largest at [0, 17, 3, 3]: {error:.3g} apart",
                metrics={**check.metrics, "port_error": error, "ratio": factor, "ulp": factor * 9,
                         "cosine": 0.03})


def differing() -> Report:
    """generator/conv3 is wrong by itself; what comes after it in the chain inherits that."""
    report = agreeing()
    breaking(report, "forward/training", "generator/conv3/output", True, 52341.7)
    later = [f"generator/{layer}/output" for layer in GENERATOR[6:]]
    later += [f"discriminator_fake/{layer}/output" for layer in DISCRIMINATOR]
    for place in later:
        breaking(report, "forward/training", place, False, 40000.0)
    twin = stage_of(report, "twin").checks
    twin[5] = replace(twin[5], measured=math.inf, detail="the port's losses stop at iteration 4")
    report.curves["horizon/port"] = [1e-3 * 1.2 ** i for i in range(20)]
    report.blame = "port"
    report.reproduction = "/tmp/runs/2026-01-02/failing/forward-training-generator-conv3-output"
    return report


def inheriting() -> Report:
    """No layer fails on its own inputs."""
    report = agreeing()
    breaking(report, "forward/evaluation", "generator/tanh7/output", False, 5.25)
    return report


def odd() -> Report:
    """Names that every format has to escape, NaN, an infinite value, a stage without checks."""
    name = "generator/<conv&\"3\">[red]'\x01\x1b]\ud800é/output"
    nan = Check(name, math.nan, 0.1, "<times>\x07", "no & policy", {"<ulp>": math.nan},
                "at <b>[0]</b> & further")
    lost = Check("only/on/one_side", math.inf, 0.1, "times CNTK's error", "exact")
    return Report({"seed": 0, "<plan>": "a & b"}, {"<cntk>": {"versions": {"<v>": "&2.7"}}},
                  [Stage("<odd> & [bold]stage", "title <script>alert(1)</script>", [nan, lost],
                         ["a note with <&>\x02"]),
                   Stage("empty", "nothing in it")])


def pictures(apart: float = 3e-7, count: int = 8) -> Pictures:
    """Smooth images in B, G, R, those of the port ``apart`` from CNTK's; weights as drawn."""
    random = np.random.RandomState(1)
    y, x = np.mgrid[0:256, 0:256] / 256
    images = np.stack([np.stack([np.sin(6 * x + phase + n), np.cos(5 * y - n), 2 * x * y - 1])
                       for n, phase in enumerate(random.uniform(0, 6, count))])
    cntk = (0.9 * images).astype(np.float32)
    port = (cntk + apart * random.uniform(-1, 1, cntk.shape)).astype(np.float32)
    initial = {}
    for network in ("generator", "discriminator"):
        for i in range(1, 8):
            weights = random.normal(0, 0.02, 20000).astype(np.float32)
            initial[f"{network}/conv{i}/weight"] = (weights, weights.copy())
    return Pictures(initial=initial, images=(cntk, port))
