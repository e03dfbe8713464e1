"""Takes the executable-stack mark off shared libraries.

Three libopencv_* of CNTK's wheel are marked as wanting an executable stack (an assembler file of
theirs said nothing about it, and the linker assumed the worst). glibc 2.41 and later refuse to
``dlopen`` such a library, and the image reader with it; the code itself needs no such stack. The
mark is one bit: PF_X in the flags of the ELF program header PT_GNU_STACK.

Runs under any Python from 3.6 on, with the standard library only.
"""
import os
import shutil
import struct
from typing import List, Optional, Tuple

PT_GNU_STACK = 0x6474e551
PF_X = 1
ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"


def _flags_of_stack(content: bytes) -> Optional[Tuple[int, int]]:
    """Where in an ELF file PT_GNU_STACK's flags lie, and what they are; None if it has none."""
    if content[:6] != ELF_64_LITTLE_ENDIAN:
        return None
    table, = struct.unpack_from("<Q", content, 0x20)
    size, count = struct.unpack_from("<HH", content, 0x36)
    for start in range(table, table + size * count, size):
        kind, flags = struct.unpack_from("<II", content, start)
        if kind == PT_GNU_STACK:
            return start + 4, flags
    return None


def is_marked(path: str) -> bool:
    """Whether the file is an ELF library (or program) that wants an executable stack."""
    with open(path, "rb") as file:
        found = _flags_of_stack(file.read())
    return found is not None and bool(found[1] & PF_X)


def clear(path: str) -> bool:
    """Takes the mark off ``path``; returns whether it was there.

    The file is replaced by a copy, never written in place: a package installer may share it with
    its cache through a hard link.
    """
    with open(path, "rb") as file:
        content = bytearray(file.read())
    found = _flags_of_stack(bytes(content))
    if found is None or not found[1] & PF_X:
        return False
    where, flags = found
    struct.pack_into("<I", content, where, flags & ~PF_X)
    with open(path + ".part", "wb") as file:
        file.write(content)
    shutil.copymode(path, path + ".part")
    os.replace(path + ".part", path)
    return True


def clear_folder(folder: str) -> List[str]:
    """``clear`` for every shared library in ``folder``; the names of those that had the mark."""
    names = sorted(name for name in os.listdir(folder) if ".so" in name)
    return [name for name in names
            if not os.path.islink(os.path.join(folder, name))
            and clear(os.path.join(folder, name))]
