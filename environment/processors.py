"""Runs CNTK as on a machine with so many processors.

    python -m environment.processors THREADS ARGUMENTS...      this Python with these arguments

Making a trainer sets CNTK's threads to the processors it sees, and they order the sums of a
weight's gradient. So a small library, loaded before CNTK, answers how many there are; and MKL,
which takes no more threads than the machine has cores, is told not to choose (MKL_DYNAMIC).
With 4, 8 and 16 threads on two cores the gradients are those of 4, 8 and 16 shares of a minibatch
(measured, tests/torch_port/test_cntk_threads.py).

Needs ``cc``. Runs under any Python from 3.6 on; Linux, as CNTK's wheel.
"""
import hashlib
import os
import subprocess
import sys
import tempfile
from typing import Dict, List

BUILD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build")
VARIABLE = "CNTK_PROCESSORS"
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long processors(void)
{
    const char *text = getenv("CNTK_PROCESSORS");
    return text ? atol(text) : 1;
}
long sysconf(int name)
{
    static long (*original)(int);
    if (name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF) return processors();
    if (!original) original = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    return original(name);
}
int get_nprocs(void) { return (int)processors(); }
int get_nprocs_conf(void) { return (int)processors(); }
int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set)
{
    (void)process;
    memset(set, 0, size);
    for (long i = 0; i < processors() && (size_t)i < 8 * size; i++) CPU_SET_S(i, size, set);
    return 0;
}
int pthread_getaffinity_np(unsigned long thread, size_t size, cpu_set_t *set)
{
    (void)thread;
    return sched_getaffinity(0, size, set);
}
"""


class ProcessorsError(RuntimeError):
    """The library that answers how many processors there are could not be made."""


def library(folder: str = BUILD, compiler: str = "cc") -> str:
    """Its path; compiled where ``folder`` does not hold it yet."""
    name = "processors-%s.so" % hashlib.sha256(SOURCE.encode("ascii")).hexdigest()[:16]
    made = os.path.join(folder, name)
    if os.path.exists(made):
        return made
    if not os.path.isdir(folder):
        os.makedirs(folder)
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=folder) as place:
        source, new = os.path.join(place, "processors.c"), os.path.join(place, name)
        with open(source, "w") as file:
            file.write(SOURCE)
        try:
            done = subprocess.run([compiler, "-O1", "-fPIC", "-shared", "-o", new, source, "-ldl"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            raise ProcessorsError("no C compiler: %s (%s): install one (Debian, Ubuntu: apt-get "
                                  "install gcc libc6-dev)" % (compiler, error.strerror))
        if done.returncode:
            raise ProcessorsError("%s could not compile the library that sets CNTK's threads:\n%s"
                                  % (compiler, done.stdout.decode(errors="replace").strip()))
        os.replace(new, made)
    return made


def variables(threads: int) -> Dict[str, str]:
    """What CNTK's environment has to hold. Raises ProcessorsError."""
    return {"LD_PRELOAD": library(), VARIABLE: str(threads), "MKL_DYNAMIC": "FALSE",
            "OMP_NUM_THREADS": str(threads)}


def main(arguments: List[str]) -> int:
    if len(arguments) < 2 or not arguments[0].isdigit() or not 1 <= int(arguments[0]) <= 64:
        sys.stderr.write("error: give the number of CNTK's threads, 1 .. 64, and what this Python "
                         "is to run\n")
        return 2
    try:
        environment = dict(os.environ, **variables(int(arguments[0])))
    except (ProcessorsError, OSError) as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    return os.execve(sys.executable, [sys.executable] + arguments[1:], environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
