"""Writing a report's files: whole or not at all."""
from pathlib import Path

from captures.errors import ParityError
from captures.files import write_bytes


class ReportError(ParityError):
    """What could not be written, where, and how to mend it, in one line."""


def write(path: Path, content: bytes) -> None:
    """Raises ReportError: the folder cannot be made or written, the disk is full."""
    try:
        write_bytes(path, content, durable=False)  # it is made again in seconds
    except OSError as error:
        raise ReportError(
            f"{path.name} cannot be written in {path.parent} ({error.strerror or error}): give a "
            f"folder that can be written, with {len(content) // 2**20 + 1} MB free") from error
