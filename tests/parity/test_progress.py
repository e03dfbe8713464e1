"""Progress in a log: a line now and then, of what has moved."""
import io

from rich.console import Console
from rich.progress import Progress

from parity.producers import progress


def lines_of(every, monkeypatch, times):
    clock = iter(times)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    return out, progress.Lines(Console(file=out, width=80), every)


def test_one_line_now_and_then(monkeypatch):
    #                                       begin  1  2  11    it  12  end
    out, lines = lines_of(10, monkeypatch, [0, 1, 2, 11, 11, 12, 13])
    with lines as shown:
        cntk = shown.add_task("cntk")
        port = shown.add_task("port")
        shown.update(cntk, completed=1, total=20)
        shown.update(cntk, completed=2)
        shown.update(cntk, completed=3)
        assert out.getvalue() == "11 s  cntk 3/20; port\n"
        shown.update(port, description="port: done", total=1, completed=1)
        shown.stop_task(port)
    assert out.getvalue() == "11 s  cntk 3/20; port\n13 s  port: done\n"


def test_a_count_is_said_once(monkeypatch):
    out, lines = lines_of(0, monkeypatch, range(20))
    task = lines.add_task("cntk")
    lines.update(task, description="iteration 3 of 20", completed=2, total=20)
    assert out.getvalue().endswith("  iteration 3 of 20\n")


def test_steps_are_added_up(monkeypatch):
    out, lines = lines_of(0, monkeypatch, range(20))
    task = lines.add_task("plans", total=50)
    for _ in range(3):
        lines.update(task, advance=1)
    assert out.getvalue().splitlines()[-1].endswith("plans 3/50")


def test_a_bar_is_for_a_terminal_alone():
    assert isinstance(progress.shown(Console(file=io.StringIO())), progress.Lines)
    assert isinstance(progress.shown(Console(file=io.StringIO(), force_terminal=True)), Progress)


def test_quiet_is_quiet():
    out = io.StringIO()
    with progress.Lines(Console(file=out, quiet=True)) as shown:
        shown.add_task("cntk")
    assert out.getvalue() == ""
