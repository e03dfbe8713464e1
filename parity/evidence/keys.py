"""What a kept result depends on, as one hash: what was changed since is made again."""
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from captures.plan import Plan
from parity.judge import policies
from parity.producers.jobs import ROOT
from parity.stages import registry

PRODUCERS = ("cntk_impl", "captures", "torch_port", "parity/onnx")
JUDGES = ("stages", "judge", "onnx", "blame")  # the diagnosis judges nothing


def digest(*parts: str | bytes) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode() if isinstance(part, str) else part)
        made.update(b"\0")
    return made.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*"))
            if path.suffix in (".py", ".c", ".h") and "__pycache__" not in path.parts)


def reference_key(plan: Plan) -> str:
    """Of all that the captures depend on."""
    return digest(plan.hash, *(path.read_bytes() for name in PRODUCERS
                               for path in _files(ROOT / name)))


def suite_key(plan: Plan) -> str:
    """Of these and of the suite: what every result depends on."""
    schedule = [(part, [stage.name for stage in stages]) for part, stages in registry.schedule()]
    return digest(reference_key(plan), json.dumps(policies.policies()), json.dumps(schedule),
                  *(path.read_bytes() for name in JUDGES
                    for path in _files(ROOT / "parity" / name)))
