"""Where a benchmark's figures go."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captures.files import written_whole


def written(figures: Mapping[str, Any], path: Path | None) -> None:
    """Into a file, if one was asked for."""
    if path is not None:
        with written_whole(path) as part:
            part.write_text(json.dumps(figures, indent=2) + "\n")
