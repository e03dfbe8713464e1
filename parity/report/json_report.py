"""report.json: the whole report for programs. Strict JSON: NaN and infinities are text."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.judge.results import Report
from parity.report.facts import Policies
from parity.report.files import write

FORMAT = 1


def strict(value: Any) -> Any:
    """numpy's numbers as Python's, tuples as lists, what JSON has no number for as text."""
    if isinstance(value, Mapping):
        return {str(name): strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value


def as_json(report: Report, policies: Policies) -> str:
    """Keys: ``format``, those of ``Report.as_dict``, ``policies``."""
    whole = {"format": FORMAT, **report.as_dict(), "policies": policies}
    return json.dumps(strict(whole), indent=1, allow_nan=False) + "\n"


def write_json(report: Report, policies: Policies, path: Path) -> None:
    """Raises ReportError: it cannot be written."""
    write(path, as_json(report, policies).encode("ascii"))
