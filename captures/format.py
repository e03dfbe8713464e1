"""A capture on disk: a folder with named arrays and a manifest. Plain Python 3.6 and numpy.

    manifest.json          what made it, of which plan; each array's file, shape, dtype
    arrays/000123.npy      one array each, read when it is asked for

Names are ``stage/.../network/layer/quantity``, the same in every framework, for example
``forward/training/generator/conv3/output``. The manifest is written last, under a temporary name
and renamed: a folder without one is a capture that was not finished. Nothing is pickled.
"""
import collections.abc
import json
import os
import platform
import shutil

import numpy as np

from captures.errors import CaptureError

MANIFEST = "manifest.json"
FORMAT = 1


class CaptureWriter:
    """Collects arrays into a new folder. ``with CaptureWriter(...) as w: w.add(name, array)``.

    producer: "cntk", "port", ... versions: of the framework and its packages. An exception inside
    removes the folder again.
    """

    def __init__(self, folder, producer, plan, versions, threads):
        self.folder = folder
        self.manifest = collections.OrderedDict([
            ("format", FORMAT), ("producer", producer), ("plan_hash", plan.hash),
            ("plan", plan.inputs), ("versions", versions), ("threads", threads),
            ("machine", collections.OrderedDict([
                ("processor", platform.machine()), ("system", platform.system()),
                ("processors", os.cpu_count()),
                ("python", platform.python_version()), ("numpy", np.__version__)])),
            ("facts", collections.OrderedDict()), ("arrays", collections.OrderedDict()),
        ])

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(os.path.join(self.folder, "arrays"))
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self._write_manifest()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, name, array):
        """Adds one array; a name may be given once. Scalars become arrays of shape ()."""
        if name in self.manifest["arrays"]:
            raise CaptureError("%s is captured twice" % name)
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise CaptureError("%s is an array of %s, not of numbers" % (name, array.dtype))
        array = np.ascontiguousarray(array).reshape(array.shape)
        file = "arrays/%06d.npy" % len(self.manifest["arrays"])
        np.save(os.path.join(self.folder, file), array, allow_pickle=False)
        self.manifest["arrays"][name] = collections.OrderedDict([
            ("file", file), ("shape", list(array.shape)), ("dtype", str(array.dtype))])

    def fact(self, name, value):
        """Something that is no array, ready for JSON: a list of events, a layer table."""
        self.manifest["facts"][name] = value

    def _write_manifest(self):
        path = os.path.join(self.folder, MANIFEST)
        with open(path + ".part", "w") as file:
            json.dump(self.manifest, file, indent=1)
            file.write("\n")
        os.replace(path + ".part", path)


class Capture(collections.abc.Mapping):
    """Name to array, read when asked for. ``facts``, ``producer``, ``plan_hash``: of the manifest.

    Raises CaptureError: no capture there, not finished, of another format; an array whose file is
    missing, of another shape, or with NaN.
    """

    def __init__(self, folder):
        self.folder = str(folder)
        path = os.path.join(self.folder, MANIFEST)
        try:
            with open(path) as file:
                self.manifest = json.load(file)
            self.entries = self.manifest["arrays"]
            self.facts = self.manifest["facts"]
            self.producer = self.manifest["producer"]
            self.plan_hash = self.manifest["plan_hash"]
            known = self.manifest["format"]
        except (OSError, IOError) as error:
            raise CaptureError("there is no whole capture in %s (%s): run the comparison again, "
                               "which makes it" % (self.folder, error.strerror))
        except (ValueError, KeyError, TypeError) as error:
            raise CaptureError("%s is not a capture's manifest (%s): remove the folder and run "
                               "again" % (path, error))
        if known != FORMAT:
            raise CaptureError("%s is of format %s, this program reads %d: make it again"
                               % (path, known, FORMAT))

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)

    def __contains__(self, name):
        return name in self.entries

    def shape(self, name):
        return tuple(self._entry(name)["shape"])

    def _entry(self, name):
        if name not in self.entries:
            raise CaptureError("the capture %s has no %s: make it again" % (self.folder, name))
        return self.entries[name]

    def __getitem__(self, name):
        entry = self._entry(name)
        path = os.path.join(self.folder, entry["file"])
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, IOError, ValueError, EOFError) as error:
            raise CaptureError("%s of the capture %s cannot be read (%s): make the capture again"
                               % (name, self.folder, error))
        if list(array.shape) != entry["shape"] or str(array.dtype) != entry["dtype"]:
            raise CaptureError("%s of the capture %s is %s %s, its manifest says %s %s: make the "
                               "capture again" % (name, self.folder, array.dtype, array.shape,
                                                  entry["dtype"], tuple(entry["shape"])))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.argmin(np.isfinite(array).ravel()))
            raise CaptureError("%s of the capture %s holds NaN or infinity (first at flat index "
                               "%d): look at what made it" % (name, self.folder, bad))
        return array

    def names(self, prefix):
        """The names that begin with ``prefix/``, in order of capture, without it."""
        prefix = prefix.rstrip("/") + "/"
        return [name[len(prefix):] for name in self.entries if name.startswith(prefix)]


def require_same_plan(*captures):
    """Raises CaptureError where two captures are of different plans."""
    for other in captures[1:]:
        if other.plan_hash != captures[0].plan_hash:
            ours, theirs = captures[0].manifest["plan"], other.manifest["plan"]
            differing = ", ".join("%s %s and %s" % (name, ours[name], theirs.get(name))
                                  for name in ours if ours[name] != theirs.get(name))
            raise CaptureError("the captures %s and %s are of different plans (%s): compare "
                               "captures of one plan" % (captures[0].folder, other.folder,
                                                         differing))
