"""What a plant is, and the list of all."""
from collections.abc import Callable
from dataclasses import dataclass

Apply = Callable[[], None]


@dataclass(frozen=True)
class Plant:
    """name: of words and hyphens. what: one sentence. apply: replaces the parts."""

    name: str
    what: str
    apply: Apply


CORRECT: dict[str, Plant] = {}


def correct(name: str, what: str) -> Callable[[Apply], Apply]:
    """Registers a correct port: other roundings, no other formula."""
    def register(apply: Apply) -> Apply:
        CORRECT[name] = Plant(name, what, apply)
        return apply
    return register
