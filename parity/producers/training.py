"""Programs of the port that the command line hands its options on to, as processes."""
import os
import subprocess
import sys

from captures.process import pinned


def in_the_port(module: str, *options: object) -> int:
    """The exit code of ``python -m module options``; what it prints goes to this terminal. It keeps
    the caller's folder, from which relative paths count."""
    return subprocess.call([sys.executable, "-P", "-m", module, *map(str, options)],
                           env=pinned(os.environ))
