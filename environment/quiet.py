"""Silence: what CNTK writes to the terminal by itself, and how it is kept quiet.

Three sources, each stopped where it starts and nowhere else:

* Importing the wheel raises two UserWarnings (an unsupported distribution, no GPU). ``make setup``
  writes FILTER into the environment's ``sitecustomize.py``; it names that one module.
* "Selected CPU as the process wide default device." comes from C++ on file descriptor 2 at the
  first use of a device: ``select_device`` makes that first use with the descriptor set aside.
* The "Build info" banner comes from C++ when a ``ProgressPrinter`` is made: the article's program
  makes its two with the descriptor set aside.
"""
import contextlib
import os
import sys
from typing import Any, Iterator

FILTER = '''\
"""Written by make setup: CNTK's import warns of the distribution and of a missing GPU."""
import warnings

warnings.filterwarnings("ignore", category=UserWarning, module=r"cntk\\.cntk_py_init")
'''


def select_device() -> Any:
    """Has CNTK choose its default device without a word, and returns it."""
    import cntk

    with quiet_stderr():
        return cntk.device.use_default_device()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """File descriptor 2 set aside: what C++ writes there cannot be filtered otherwise."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
