"""What a user's port was made from: its name and a hash, which its capture keeps, so that two
captures made on different days can say that the port changed."""
import hashlib
import sys
from pathlib import Path

from torch_port.adapter.load import Adapter

INSTALLED = {"site-packages", "dist-packages"}  # the manifest has the packages' versions


def described(adapter: Adapter, mapping: Path | None = None) -> str:
    """``FOLDER/FILE.py, sources 0123456789ab``: no more of the path, which is another elsewhere."""
    return (f"{adapter.path.parent.name}/{adapter.path.name}, "
            f"sources {_hash(adapter, mapping)[:12]}")


def files(adapter: Adapter) -> list[Path]:
    """The adapter's file, what it imported from its folder when it was loaded, and the networks
    that it names as files."""
    folder = adapter.path.parent
    found = {adapter.path}
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and folder in (path := Path(name).resolve()).parents \
                and not INSTALLED & set(path.parts):
            found.add(path)
    found |= {(folder / getattr(adapter.module, name)).resolve() for name in adapter.exported}
    return sorted(path for path in found if path.is_file())


def _hash(adapter: Adapter, mapping: Path | None) -> str:
    digest, folder = hashlib.sha256(), adapter.path.parent
    for path in files(adapter):
        name = path.relative_to(folder).as_posix() if folder in path.parents else path.name
        digest.update(name.encode("utf-8") + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if mapping is not None:
        digest.update(b"mapping\0" + hashlib.sha256(mapping.read_bytes()).digest())
    return digest.hexdigest()
