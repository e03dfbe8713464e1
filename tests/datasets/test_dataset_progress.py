"""In a log, a line now and then, and never a carriage return."""
import sys

from datasets import progress


def test_lines_in_a_log(capsys, monkeypatch):
    clock = iter([0, 5, 21, 22, 30, 31])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = progress.shown(3, "drawing faces", "face", quiet=False)
    for _ in range(3):
        lines.update()
    lines.close()
    assert capsys.readouterr().err == "22 s  drawing faces 2/3\n31 s  drawing faces 3/3\n"


def test_what_is_soon_done_and_what_is_quiet_says_nothing(capsys):
    for quiet in (False, True):
        lines = progress.shown(2, "drawing faces", "face", quiet)
        for _ in range(2):
            lines.update()
        lines.close()
    assert capsys.readouterr().err == ""


def test_a_bar_is_for_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = progress.shown(2, "drawing faces", "face", quiet=False)
    assert not isinstance(bar, progress.Lines | progress.Quiet)
    bar.close()
