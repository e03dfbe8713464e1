"""The one error of this package. Python 3.6."""
from captures.errors import ParityError


class ScoreError(ParityError):
    """Pictures, weights or numbers that have no score."""
