"""Every classifier by name. A new one is a module with SPEC, SOURCE, UNUSED and network(), and its
line here."""
from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from scores.classifiers.base import Classifier
from scores.errors import ScoreError

if TYPE_CHECKING:
    from torch import nn

REGISTRY = {
    "efficientnet-lite0": "scores.classifiers.efficientnet_lite0",
    "inception-v3": "scores.classifiers.inception_v3",
    "inception-2015": "scores.classifiers.inception_2015",
}
DEFAULT = "efficientnet-lite0"
RUNTIMES = ("onnxruntime", "torch")
CACHE = Path("build/classifiers")


def module_of(name: str) -> ModuleType:
    """Raises ScoreError: an unknown name."""
    if name not in REGISTRY:
        raise ScoreError(f"there is no classifier {name!r}: give one of {', '.join(REGISTRY)}, or "
                         "the path of an ONNX file")
    return importlib.import_module(REGISTRY[name])


def network(name: str, weights: Path | None = None, sha256: str = "", cache: Path = CACHE,
            offline: bool = False) -> tuple[nn.Module, str, str]:
    """The network in PyTorch with its weights, a line that names them, and their SHA-256.

    sha256: what that has to begin with, wherever the weights come from.

    Raises ScoreError: whatever is wrong with the name, the weights or their download.
    """
    from scores.classifiers import weights as files

    module = module_of(name)
    source = module.SOURCE
    if weights is not None:
        path, found = weights, files.of_user(weights, sha256)
    else:
        path = files.fetched(source, cache, offline, sha256) if source else module.packaged()
        found = files.check_sha256(path, sha256, "you asked for", files.ANOTHER)
    ours = weights is None or published(module, found)
    says = path.name + ("" if ours else ", not the published file")
    made = module.network()
    inner = getattr(module, "parameters", lambda whole: whole)(made)
    files.load_into(inner, path, name, module.UNUSED)
    return made.eval(), f"{says}, SHA-256 {found}", found


def published(module: ModuleType, sha256: str) -> bool:
    """Whether these are the weights that the classifier is published, or packaged, with."""
    from scores.classifiers.weights import sha256_of

    return sha256.startswith(module.SOURCE.sha256 if module.SOURCE
                             else sha256_of(module.packaged()))


def load(name: str = DEFAULT, weights: Path | None = None, sha256: str = "",
         runtime: str = "onnxruntime", cache: Path = CACHE, offline: bool = False,
         threads: int = 2, double: bool = False, normalisation: str = "[-1,1]") -> Classifier:
    """A classifier that can be called.

    name: of ``REGISTRY``, or the path of an ONNX file. cache: where downloads and ONNX files are
    kept. double: float64, in PyTorch. normalisation: of an ONNX file's pictures.

    Raises ScoreError: as ``network`` and ``onnx_file.load``; an unknown runtime.
    """
    if runtime not in RUNTIMES:
        raise ScoreError(f"there is no runtime {runtime!r}: give one of {', '.join(RUNTIMES)}")
    if name.lower().endswith(".onnx"):
        from scores.classifiers import onnx_file
        for given, what in ((weights, "--weights"), (runtime == "torch", "--runtime torch")):
            if given:
                raise ScoreError(f"{what} is not for an ONNX file, which has its own weights and "
                                 "runs in onnxruntime: leave it out")
        return onnx_file.load(Path(name), threads, normalisation, sha256=sha256)
    from scores.classifiers import onnx_file, runtimes

    if normalisation != onnx_file.DEFAULT:
        raise ScoreError(f"--normalisation is for an ONNX file, not for {name}, which says itself "
                         "how it takes its pictures: leave it out")
    made, says, found = network(name, weights, sha256, cache, offline)
    module = module_of(name)
    spec = (module.SPEC if weights is None or published(module, found)
            else replace(module.SPEC, title=module.SPEC.otherwise))
    if runtime == "torch" or double:
        return Classifier(spec, runtimes.by_torch(made, double), "torch", says)
    path = cache / f"{name}-{found[:12]}-opset{runtimes.OPSET}.onnx"
    if not runtimes.as_converted(path):
        runtimes.convert(made, spec, path)
    return Classifier(spec, runtimes.by_onnxruntime(path, spec, threads), runtime, says, str(path))
