"""The data of a run, by content. Plain Python 3.6."""
from typing import Any, Dict

from captures.check import check_data


def data_identity(map_file: str) -> Dict[str, Any]:
    """{"images": how many, "sha256": of their content, in the map file's order}.

    Raises DataError: what CNTK and the port do not read alike.
    """
    data = check_data(map_file)
    return {"images": len(data.entries), "sha256": data.sha256}
