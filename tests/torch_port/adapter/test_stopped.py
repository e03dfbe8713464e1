"""What is written down where a user's code raises."""
from types import SimpleNamespace

from captures.article import DCGAN
from torch_port.adapter import capture
from torch_port.adapter.not_given import NEEDS


class Raising:
    """Stands in for the parts: three raise, two of them alike."""

    spec, networks = DCGAN, {network.name: SimpleNamespace(matched=SimpleNamespace(
        logits=False, unseen=())) for network in DCGAN.networks}

    def __init__(self, *given) -> None:
        self.network = None

    def __getattr__(self, name):
        def part() -> None:
            if name in ("initial", "reader"):
                raise ValueError("no\nmore")
            if name == "picture":
                raise KeyError
        return part


def test_every_part_that_raised_is_named_with_the_stages_that_are_judged_by_it(monkeypatch):
    monkeypatch.setattr(capture, "UserCapture", Raising)
    facts = {}
    adapter = SimpleNamespace(path=SimpleNamespace(name="adapter.py"), has=lambda name: True,
                              exported=(), noticed=[])
    noted = []
    capture.capture(adapter, DCGAN, None, None, SimpleNamespace(fact=facts.__setitem__),
                    lambda *what: noted.append(what))
    assert len(noted) == len(NEEDS)
    assert facts["stopped"] == "initial, reader: ValueError: no; picture: KeyError"
    assert facts["stopped_stages"] == {
        "initial": "initial: ValueError: no", "structure": "initial: ValueError: no",
        "reader": "reader: ValueError: no", "program": "picture: KeyError"}
