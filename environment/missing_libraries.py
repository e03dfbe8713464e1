"""Builds the shared libraries that CNTK 2.7's wheel expects and a current Linux lacks.

The wheel was linked on Ubuntu 16.04. Two groups of its dependencies are gone since:

* OpenMPI 1.10 (``libmpi.so.12``, ``libmpi_cxx.so.1``). CNTK calls MPI only through its
  ``Communicator``, so a stand-in for ONE process is enough: rank 0 of 1, and collective
  operations that copy. Any other MPI call prints its own name and aborts.
* The image codecs that the bundled OpenCV 3.1 links to (``libjpeg.so.8``, ``libpng12.so.0``,
  ``libtiff.so.5``, ``libjasper.so.1``). BMP and PPM are decoded inside OpenCV itself, so the
  codecs only have to be there: a call into one prints its own name and aborts.

The symbols are not listed here: they are read off the wheel's own files with ``nm``, with their
version nodes, so that what is built is exactly what is missing. The libraries go into the wheel's
``cntk/libs``, which the extension's RUNPATH holds (``$ORIGIN/cntk/libs``): no environment
variable, no root, no preloading. The codecs would not be found that way (OpenCV's RPATH is an
absolute folder of the build machine), therefore the MPI stand-in names them as its own
dependencies: they are in the process before the image reader asks for them by the same name.

A Python 3.6 that was built without a shared library (``pyenv install`` by default) has no
``libpython3.6m.so.1.0``, which the extension names; an empty library of that name is built for
it, and the symbols come from the interpreter itself.

Needs ``cc`` and ``nm``. Runs under any Python from 3.6 on.
"""
import os
import subprocess
import sys
import sysconfig
import tempfile
from typing import Iterable, List, Optional, Sequence, Tuple

CODECS = {
    # soname: (prefixes of its symbols, version node or None)
    "libjpeg.so.8": (("jpeg_",), "LIBJPEG_8.0"),
    "libpng12.so.0": (("png_",), "PNG12_0"),
    "libtiff.so.5": (("TIFF",), "LIBTIFF_4.0"),
    "libjasper.so.1": (("jas_",), None),
}

# Called when OpenCV is loaded or an image is decoded, whatever the format: these succeed.
HARMLESS = ("jas_init", "jas_cleanup", "TIFFSetErrorHandler", "TIFFSetWarningHandler")

MPI_PREFIXES = ("MPI_", "ompi_", "_ZN3MPI")
MPI_DATA_PREFIX = "ompi_mpi_"
MPI_DATA_EXCEPT = ("ompi_mpi_cxx_op_intercept",)

# Everything below is for one process: rank 0 of 1.
MPI_BODIES = r"""
static size_t size_of(const void *type)
{
    if (type == ompi_mpi_char) return sizeof(char);
    if (type == ompi_mpi_int) return sizeof(int);
    if (type == ompi_mpi_float) return sizeof(float);
    if (type == ompi_mpi_double) return sizeof(double);
    if (type == ompi_mpi_long_long_int) return sizeof(long long);
    fprintf(stderr, "CNTK asked the one-process MPI stand-in to copy "
                    "a data type it does not know.\n");
    abort();
}
static int copy(const void *from, void *to, int count, const void *type)
{
    if (from != (void *)1 /* MPI_IN_PLACE */ && from != to)
        memmove(to, from, (size_t)count * size_of(type));
    return 0;
}
int MPI_Initialized(int *flag) { *flag = initialized; return 0; }
int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{ (void)argc; (void)argv; initialized = 1; *provided = required; return 0; }
int MPI_Finalize(void) { return 0; }
int MPI_Comm_rank(void *comm, int *rank) { (void)comm; *rank = 0; return 0; }
int MPI_Comm_size(void *comm, int *size) { (void)comm; *size = 1; return 0; }
int MPI_Barrier(void *comm) { (void)comm; return 0; }
int MPI_Get_processor_name(char *name, int *length)
{ strcpy(name, "localhost"); *length = (int)strlen(name); return 0; }
int MPI_Error_string(int code, char *text, int *length)
{ *length = sprintf(text, "MPI error %d", code); return 0; }
int MPI_Allreduce(const void *from, void *to, int count, void *type, void *op, void *comm)
{ (void)op; (void)comm; return copy(from, to, count, type); }
int MPI_Allgather(const void *from, int n, void *type, void *to, int m, void *totype, void *comm)
{ (void)m; (void)totype; (void)comm; return copy(from, to, n, type); }
"""


class BuildError(Exception):
    """A library could not be built; the message says which and what to do."""


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
    except FileNotFoundError:
        raise BuildError("'{0}' is not on this machine: install a C compiler (Debian: apt install "
                         "gcc binutils; Fedora: dnf install gcc) and run again".format(command[0]))
    if done.returncode:
        raise BuildError("{0} failed:\n{1}".format(" ".join(command), done.stderr.strip()))
    return done.stdout


def undefined_symbols(files: Iterable[str], prefixes: Tuple[str, ...]) -> List[str]:
    """The symbols that ``files`` import and whose names begin with one of ``prefixes``, sorted."""
    listing = _run(["nm", "-D", "--undefined-only"] + list(files))
    names = {line.split()[-1].split("@")[0] for line in listing.splitlines() if " U " in line}
    return sorted(name for name in names if name.startswith(prefixes))


def _refusal(name: str, reason: str) -> str:
    return ('void {0}(void) {{ fprintf(stderr, "{0} was called, but {1}\\n"); abort(); }}\n'
            .format(name, reason))


def codec_source(symbols: Iterable[str], soname: str) -> str:
    """C source of a codec stand-in in which every call but the harmless ones aborts."""
    reason = ("this set-up has no {0}: CNTK's image reader reads BMP and PPM here. Convert the "
              "image to BMP.".format(soname))
    body = "".join("void *{0}(void) {{ return 0; }}\n".format(name) if name in HARMLESS
                   else _refusal(name, reason) for name in symbols)
    return "#include <stdio.h>\n#include <stdlib.h>\n" + body


def mpi_source(symbols: Sequence[str]) -> str:
    """C source of the one-process MPI stand-in that defines every name in ``symbols``."""
    data = [name for name in symbols
            if name.startswith(MPI_DATA_PREFIX) and name not in MPI_DATA_EXCEPT]
    head = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nstatic int initialized;\n"
    objects = "".join("char {0}[2048];\n".format(name) for name in data)
    reason = "this set-up has no MPI: train in one process."
    rest = "".join(_refusal(name, reason) for name in symbols
                   if name not in data and " {0}(".format(name) not in MPI_BODIES)
    return head + objects + MPI_BODIES + rest


def _compile(source: str, soname: str, folder: str, version: Optional[str] = None,
             needed: Sequence[str] = ()) -> None:
    with tempfile.TemporaryDirectory() as build:
        path = os.path.join(build, "source.c")
        with open(path, "w") as file:
            file.write(source)
        made = os.path.join(build, soname)
        command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", made, path,
                   "-Wl,-soname," + soname, "-Wl,-rpath,$ORIGIN"]
        if version:
            script = os.path.join(build, "versions.map")
            with open(script, "w") as file:
                file.write("%s { global: *; };\n" % version)
            command.append("-Wl,--version-script," + script)
        if needed:
            command += ["-Wl,--no-as-needed", "-L" + folder] + ["-l:" + name for name in needed]
        _run(command)
        target = os.path.join(folder, soname)
        with open(made, "rb") as file:
            content = file.read()
        with open(target + ".part", "wb") as file:
            file.write(content)
        os.chmod(target + ".part", 0o755)
        os.replace(target + ".part", target)


def build(site_packages: str, shared_python: Optional[bool] = None) -> None:
    """Builds every missing library into ``site_packages/cntk/libs``.

    site_packages: the folder that CNTK was installed in.
    shared_python: whether that Python has a shared libpython; asked of the running one if None.
    Raises BuildError when a tool is missing or the wheel has another layout.
    """
    libs = os.path.join(site_packages, "cntk", "libs")
    extension = [os.path.join(site_packages, name) for name in os.listdir(site_packages)
                 if name.startswith("_cntk_py")]
    imgcodecs = os.path.join(libs, "libopencv_imgcodecs.so.3.1")
    if not extension or not os.path.exists(imgcodecs):
        raise BuildError("no CNTK 2.7 in {0}: remove that environment and run make setup again"
                         .format(site_packages))
    for soname, (prefixes, version) in CODECS.items():
        _compile(codec_source(undefined_symbols([imgcodecs], prefixes), soname), soname, libs,
                 version)
    core = [os.path.join(libs, name) for name in os.listdir(libs)
            if name.startswith(("libCntk.Core", "libCntk.Math"))]
    _compile(mpi_source(undefined_symbols(extension + core, MPI_PREFIXES)), "libmpi.so.12", libs,
             needed=sorted(CODECS))
    _compile("", "libmpi_cxx.so.1", libs, needed=["libmpi.so.12"])
    if shared_python is None:
        shared_python = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
    if not shared_python:
        _compile("", "libpython3.6m.so.1.0", libs)


if __name__ == "__main__":
    try:
        build(sysconfig.get_paths()["purelib"])
    except BuildError as error:
        sys.exit("{0}".format(error))
