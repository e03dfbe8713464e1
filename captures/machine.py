"""What of a machine and its packages can change a result: kept in every capture's manifest, so that
two captures that differ can say why. Plain Python 3.6, standard library.

Where a system does not say something (no /proc, say), the value is "".
"""
import collections
import functools
import hashlib
import importlib.util
import os
import platform
import sys
from typing import Any, Dict, Iterable, List, Tuple

from captures.facts import NOTHING, Either, matches
from captures.system import cpuinfo

# What changes the arithmetic of a process, whoever set it.
VARIABLES = ("MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS",
             "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS",
             "ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE", "ATEN_CPU_CAPABILITY",
             "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")
# The flags that make a library take other code.
FLAGS = ("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw",
         "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")
PACKAGES = ("cntk", "cntk-gpu", "torch", "numpy", "scipy", "onnx", "onnxruntime",
            "onnxruntime-gpu", "opencv-python-headless", "opencv-contrib-python", "pandas")
# Of each producer's captures, the packages of this project that make them.
CODE = {"cntk": ("captures", "cntk_impl"), "onnxruntime": ("captures", "parity"),
        "classifier": ("captures", "scores")}
# What a manifest, or a certificate, says of who made it: form of each, where it is there.
_TEXTS = {str: str}
FORMS = {"producer": str, "versions": _TEXTS, "threads": int, "environment": _TEXTS, "wheel": str,
         "date": str}
MACHINE = {"flags": [str], "variables": _TEXTS, "packages": _TEXTS}
_VALUE = Either((str, int, NOTHING))


def unlike(made_by: Any) -> str:
    """The first of these that is of another form; "" for none."""
    if not isinstance(made_by, dict):
        return "made_by"
    machine = made_by.get("machine", {})
    if not isinstance(machine, dict):
        return "machine"
    forms = [(made_by, name, form) for name, form in sorted(FORMS.items())]
    forms += [(machine, name, MACHINE.get(name, _VALUE)) for name in machine]
    for held, name, form in forms:
        if name in held and not matches(held[name], form):
            return name
    return ""


def described(producer: str = "") -> Dict[str, Any]:
    """Processor, system, Python, variables, packages and code, ready for JSON.

    producer: whose capture it is for; of its code the hash is taken."""
    model, flags = _processor()
    return collections.OrderedDict([
        ("processor", platform.machine()), ("model", model), ("flags", flags),
        ("processors", os.cpu_count()), ("system", platform.system()),
        ("release", platform.release()), ("libc", _libc()),
        ("python", platform.python_version()),
        ("variables", collections.OrderedDict(
            (name, os.environ[name]) for name in VARIABLES if name in os.environ)),
        ("packages", packages(PACKAGES)), ("code", code_of(producer))])


@functools.lru_cache(maxsize=None)
def code_of(producer: str) -> str:
    """SHA-256 of the sources that make this producer's captures: those that this process imports,
    or would."""
    folders = []  # type: List[str]
    for name in CODE.get(producer, ("captures", "torch_port")):
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a module that was made by hand
            found = None
        folders += list(found.submodule_search_locations or ()) if found else []
    return code_sha256(*folders)


def _libc() -> str:
    """Its exponentials and logarithms are what CNTK's are made of."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


def _processor() -> Tuple[str, List[str]]:
    """(model, flags of ``FLAGS``)."""
    lines = [line.partition(":") for line in cpuinfo().splitlines()]
    found = {}  # type: Dict[str, str]
    for name, _, value in lines:
        found.setdefault(name.strip(), value.strip())
    known = set(found.get("flags", found.get("Features", "")).split())
    return found.get("model name", platform.processor()), [flag for flag in FLAGS if flag in known]


def packages(names: Iterable[str]) -> Dict[str, str]:
    """Name to version, with the build where the version carries one (2.13.0+cpu); of those that
    are installed."""
    made = collections.OrderedDict()  # type: Dict[str, str]
    there = _installed()
    for name in names:
        version = there.get(_folder(name), "")
        if version:
            made[name] = version
    return made


def _folder(name: str) -> str:
    return name.replace("-", "_").lower()


@functools.lru_cache(maxsize=None)
def _installed() -> Dict[str, str]:
    """Name to version, of the folders NAME-VERSION.dist-info on Python's path; the first of a
    name counts, as for an import."""
    made = {}  # type: Dict[str, str]
    for place in sys.path:
        try:
            inside = os.listdir(place or ".")
        except (IOError, OSError):
            continue
        for one in sorted(inside):
            if one.endswith(".dist-info"):
                name, _, version = one[:-len(".dist-info")].rpartition("-")
                made.setdefault(_folder(name), version)
    return made


def code_sha256(*folders: str) -> str:
    """Of every source file under the folders, by name and content: two captures of one code have
    the same."""
    digest = hashlib.sha256()
    for folder in folders:
        paths = {}  # type: Dict[str, str]  # sorted by their names with /, as on any system
        for place, inside, files in os.walk(folder):
            inside[:] = [one for one in inside if one != "__pycache__"]
            for one in files:
                if one.endswith((".py", ".c", ".h")):
                    path = os.path.join(place, one)
                    paths[os.path.relpath(path, folder).replace(os.sep, "/")] = path
        for name in sorted(paths):
            digest.update(name.encode("utf-8"))
            with open(paths[name], "rb") as file:
                digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()
