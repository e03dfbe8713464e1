"""TODO."""
import contextlib
from pathlib import Path
from typing import Iterator


def plan_file(folder: Path) -> Path:
    return folder / "plan.json"

@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when all went well and removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.stem + ".part" + path.suffix)
    try:
        yield part
        part.replace(path)
    finally:
        if part.exists():
            part.unlink()
