"""Writing a report's files: whole or not at all."""
import contextlib
import os
from pathlib import Path

from captures.errors import ParityError


class ReportError(ParityError):
    """What could not be written, where, and how to mend it, in one line."""


def write(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside ``path`` and renames: no reader sees half a file.

    Raises ReportError: the folder cannot be made or written, the disk is full.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise ReportError(
            f"{path.name} cannot be written in {path.parent} ({error.strerror or error}): give a "
            f"folder that can be written, with {len(content) // 2**20 + 1} MB free") from error
