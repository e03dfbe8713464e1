"""How every program of this project ends: its exit code, and one line on stderr for an error.

    0    agree, or done
    1    differ
    2    could not run: bad input, a full disk, a process that died, a mistake of this program
    130  interrupted by Ctrl-C; 129 and 143: ended by SIGHUP and SIGTERM

Python itself exits 1 where an exception is not caught, which would say "differ": here that is 2.
Plain Python 3.6, for both sides of a process boundary: ``parity`` reads the line that a program
which makes a capture ends with.
"""
import contextlib
import functools
import os
import signal
import sys
import threading
import traceback
from typing import Any, Callable, Dict, Iterator, Mapping, Optional

from captures.errors import ParityError
from captures.training.signals import ENDING

AGREE, DIFFER, ERROR, INTERRUPTED = 0, 1, 2, 130
PREFIX = "error: "


class Ended(BaseException):
    """A signal asked the process to end. left: what is said of what it leaves; "" for nothing."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.name, self.status, self.left = signal.Signals(number).name, 128 + number, ""


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP are raised as ``Ended``, once: what comes while it ends is not
    heard. What has a handler keeps it, as Ctrl-C has Python's, and what the caller ignores, as
    nohup does SIGHUP, stays ignored. In a process that is forked inside, a signal does what it does
    to any process. In the main thread alone.
    """
    process, heard = os.getpid(), []  # type: ignore[var-annotated]

    def came(number: int, frame: Any) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not heard:
            heard.append(number)
            raise Ended(number)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, came) for number in ENDING
              if signal.getsignal(number) == signal.SIG_DFL} if main else {}  # not Ctrl-C, nohup
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def printable(text: object) -> str:
    """Only characters that a terminal, JSON, XML and a page can show; others as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
                   for c in str(text))


def say(error: object) -> None:
    """The one line on stderr, whatever a name or a value in it holds."""
    sys.stderr.write("%s%s\n" % (PREFIX, " ".join(str(error).splitlines())))


def progress(text: str, done: int = 0, total: int = 0) -> None:
    """How far a process is that makes a capture, in the line that ``parity`` reads. total: 0 where
    it is not known."""
    sys.stdout.write("progress\t%d\t%d\t%s\n" % (done, total, text))
    sys.stdout.flush()


def ended(run: Callable[[], Optional[int]], output: object = "the output folder",
          option: str = "--output") -> int:
    """Runs ``run()`` and returns its exit code, ``AGREE`` where it returns None; raises nothing.

    output: the place that an OSError without a file name is most likely about. option: of the
    command line, that names it.
    """
    try:
        code = run()
        return AGREE if code is None else code
    except ParityError as error:
        say(error)
    except OSError as error:
        say("%s cannot be used (%s): free space there or choose another folder with %s"
            % (error.filename or output, error.strerror or error, option))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except Ended as end:
        sys.stderr.write("ended by %s%s\n" % (end.name, ": " + end.left if end.left else ""))
        return end.status
    except Exception:  # a mistake of this program's
        traceback.print_exc()
    return ERROR


def ending(option: str = "--output", parameter: str = "output"
           ) -> Callable[[Callable[..., Optional[int]]], Callable[..., int]]:
    """A decorator: the function returns its exit code and raises nothing, as with ``ended``.

    parameter: of the function, the output's place.
    """
    def decorate(function: Callable[..., Optional[int]]) -> Callable[..., int]:
        @functools.wraps(function)
        def whole(*arguments: Any, **named: Any) -> int:
            return ended(lambda: function(*arguments, **named),
                         named.get(parameter, "the output folder"), option)
        return whole
    return decorate


# Of a caller's shell, what changes the bits of what is computed, or what Python imports. MKL_CBWR:
# with it CNTK's last convolution adds in another order, and the port's products have another branch
# than it asks for. MKL_DEBUG_CPU_TYPE: another code path of CNTK's batch normalisation.
CHANGING = ("MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "PYTHONPATH", "PYTHONHOME")


def pinned(environ: Mapping[str, str], **more: str) -> Dict[str, str]:
    """The environment of a process of this project: the caller's without ``CHANGING``, and more."""
    kept = {name: value for name, value in environ.items() if name not in CHANGING}
    kept.update(more)
    return kept
