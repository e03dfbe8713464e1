"""The data of a run, by content: read once, before anything is trained. Plain Python 3.6."""
from typing import Any, Dict

from captures.map_file import read_map_file
from captures.plan import images_hash


def data_identity(map_file: str) -> Dict[str, Any]:
    """{"images": how many, "sha256": of their content in the map file's order}.

    Raises DataError or PlanError: what CNTK does not read.
    """
    return {"images": len(read_map_file(map_file)), "sha256": images_hash(map_file)}
