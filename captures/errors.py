"""The errors that the command line prints in one line and answers with exit status 2.

Plain Python 3.6, for both sides of a process boundary.
"""


class ParityError(ValueError):
    """Bad input. One line: what is wrong, where, and how to mend it.

    The base of every error that a user can mend. The command line prints ``error: `` and the text,
    without a traceback, and exits 2; any other exception is a mistake of this program.
    """


class DataError(ParityError):
    """An image, a folder or a list of images that cannot be used."""


class MapFileError(DataError):
    """A map file that CNTK does not read, or reads as something else than was meant."""


class PlanError(ParityError):
    """A plan's value out of range, a name unknown, a plan's file that is none."""


class SpecError(ParityError):
    """Networks described in a way that makes none: a layer's kind, a name, a shape."""


class CaptureError(ParityError):
    """A capture that is not there, not whole, of another plan or format, or was changed."""


class DamageError(CaptureError):
    """A file of a capture that is not as it was written: missing, cut off, changed, a link. Never
    the mistake of what the capture is of."""


class ReaderError(DataError):
    """What the reader cannot go on with."""

    def __init__(self, message: str) -> None:
        # A DataLoader hands a worker's error over as one string with its traceback: the last line
        # of that is this class's name and the message.
        if message.startswith("Caught ReaderError in DataLoader worker"):
            message = message.rstrip().rsplit("ReaderError: ", 1)[-1]
        super().__init__(message)


class TrainingError(ParityError):
    """A training that cannot begin, or a checkpoint that it cannot go on from."""


def short(what: object) -> str:
    """An error, or a value out of a file, in one line of bearable length."""
    if isinstance(what, OSError):
        return what.strerror or str(what)
    if isinstance(what, KeyError):
        return "no %s" % what
    text = " ".join(str(what).split()) or type(what).__name__
    return text if len(text) <= 200 else text[:197] + "..."
