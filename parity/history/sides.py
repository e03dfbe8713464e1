"""What can be compared with last month's: a capture, whole, or a certificate, the same in small.

    side(path)       of a capture's folder, a certificate's file, or the name of a recorded run
    Joined(sides)    of several runs, one after the other
"""
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from captures.certificate import Certificate, moments, places, sha256_of
from captures.errors import CaptureError
from captures.format import MANIFEST, Capture

NONE = "(none is recorded: `bin/parity record NAME`)"


class Side(Protocol):
    """name: how it is spoken of. manifest: producer, plan, versions, machine, facts."""

    name: str
    manifest: Mapping[str, Any]
    values: int  # kept of a larger array; 0 where all are

    def __iter__(self) -> Iterator[str]: ...

    def __contains__(self, name: object) -> bool: ...

    def shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Type and shape."""

    def array(self, name: str) -> np.ndarray | None:
        """The array, where it is there whole."""

    def sha256(self, name: str) -> str: ...

    def kept(self, name: str, seed: int, values: int) -> tuple[np.ndarray, list[float]]:
        """Values at the places that a certificate keeps, and the moments."""

    def maker(self, name: str) -> Mapping[str, Any]:
        """The manifest of what made the array."""


class OfCapture:
    """A capture's folder."""

    def __init__(self, capture: Capture) -> None:
        self.capture, self.name, self.values = capture, capture.folder, 0
        self.manifest: Mapping[str, Any] = {**capture.manifest, "facts": capture.facts}

    def __iter__(self) -> Iterator[str]:
        return iter(self.capture)

    def __contains__(self, name: object) -> bool:
        return name in self.capture

    def shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        entry = self.capture.entries[name]
        return entry.dtype, entry.shape

    def array(self, name: str) -> np.ndarray | None:
        found: np.ndarray = self.capture[name]
        return found

    def sha256(self, name: str) -> str:
        return sha256_of(self.capture[name])

    def kept(self, name: str, seed: int, values: int) -> tuple[np.ndarray, list[float]]:
        array = self.capture[name]
        return np.ravel(array)[places(name, array.size, seed, values)], moments(array)

    def maker(self, name: str) -> Mapping[str, Any]:
        return self.manifest


def of_folder(folder: Path) -> OfCapture:
    """Raises CaptureError: it is damaged."""
    capture = Capture(folder)
    capture.require_whole()
    return OfCapture(capture)


class OfCertificate:
    """A certificate's file. values: how many it keeps of a larger array."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate, self.name, self.values = (certificate, certificate.path,
                                                    certificate.values)
        self.manifest: Mapping[str, Any] = {
            **certificate.made_by, "plan": certificate.plan,
            "plan_hash": certificate.plan_hash, "facts": certificate.facts}

    def __iter__(self) -> Iterator[str]:
        return iter(self.certificate)

    def __contains__(self, name: object) -> bool:
        return name in self.certificate

    def shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        entry = self.certificate.entries[name]
        return entry["dtype"], tuple(entry["shape"])

    def array(self, name: str) -> np.ndarray | None:
        if not self.certificate.is_whole(name):
            return None
        return self.certificate.kept(name).reshape(self.shape(name)[1])

    def sha256(self, name: str) -> str:
        return str(self.certificate.entries[name]["sha256"])

    def kept(self, name: str, seed: int, values: int) -> tuple[np.ndarray, list[float]]:
        return self.certificate.kept(name), self.certificate.entries[name]["moments"]

    def maker(self, name: str) -> Mapping[str, Any]:
        return self.manifest


class Joined:
    """What several runs have, each array and fact of the first that has it. manifest: otherwise
    that of the first."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.name = sides[0].name
        self.values = min((one.values for one in sides if one.values), default=0)
        self.origins = {name: one for one in reversed(sides) for name in one}
        facts = {name: fact for one in reversed(sides)
                 for name, fact in one.manifest["facts"].items()}
        self.manifest: Mapping[str, Any] = {**sides[0].manifest, "facts": facts}

    def __iter__(self) -> Iterator[str]:
        return iter(self.origins)

    def __contains__(self, name: object) -> bool:
        return name in self.origins

    def shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        return self.origins[name].shape(name)

    def array(self, name: str) -> np.ndarray | None:
        return self.origins[name].array(name)

    def sha256(self, name: str) -> str:
        return self.origins[name].sha256(name)

    def kept(self, name: str, seed: int, values: int) -> tuple[np.ndarray, list[float]]:
        return self.origins[name].kept(name, seed, values)

    def maker(self, name: str) -> Mapping[str, Any]:
        return self.origins[name].manifest if name in self.origins else self.manifest


def of_run(folder: Path, role: str) -> Side | None:
    """The capture of a role of a recorded run, certificate or whole; None where there is none.
    Raises CaptureError: it is damaged."""
    if (folder / f"{role}.certificate").is_file():
        return OfCertificate(Certificate(str(folder / f"{role}.certificate")))
    if (folder / role / MANIFEST).is_file():
        return of_folder(folder / role)
    return None


def side(path: Path, recorded: Path, role: str = "port") -> Side:
    """recorded: the folder of recorded runs. role: which capture of such a run.

    Raises CaptureError: none of the three."""
    if path.is_file():
        return OfCertificate(Certificate(str(path)))
    if (path / MANIFEST).is_file():
        return of_folder(path)
    if len(path.parts) == 1 and (found := of_run(recorded / path, role)) is not None:
        return found
    inside = sorted(one.parent.name for one in path.glob(f"*/{MANIFEST}")) if path.is_dir() else ()
    if inside:
        raise CaptureError(f"{path} is a run's folder, not a capture: give one of those in it, "
                           + ", ".join(str(path / one) for one in sorted(
                               inside, key=lambda one: one != role)))
    there = sorted(one.name for one in recorded.glob("*")) if recorded.is_dir() else []
    raise CaptureError(f"{path} is no capture, no certificate and no recorded run with a capture "
                       f"{role}: give a folder that holds a manifest.json, a .certificate file, or "
                       f"one of {', '.join(there) or NONE}")
