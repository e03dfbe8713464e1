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
