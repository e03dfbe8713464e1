"""Processes that make captures: their order, their ends, and the one line for each bad end.

The processes here are Python one-liners; CNTK's own is killed in test_cli.py.
"""
import errno
import io
import os
import signal
import sys
import time

import pytest
from rich.console import Console

from captures.plan import Plan
from parity.onnx import __main__ as onnx_program
from parity.producers import jobs, recipes
from parity.producers.jobs import Job, ProducerError, explanation, run_jobs
from parity.producers.recipes import cntk_job, main_jobs, port_job, twin_jobs
from tests.captures.image_kinds import bmp
from torch_port.capture import __main__ as main_module

SLEEP = "import time; time.sleep(60)"
KILL = "import os, signal; os.kill(os.getpid(), signal.{})"
SAYS = "import sys; sys.stderr.buffer.write({!r}); sys.exit({})"


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    return Plan.make(tmp_path / "map.txt", reruns=2)


@pytest.fixture
def run(plan, tmp_path):
    """run(name=code, ...): each a process; ``after`` by name. Returns what the terminal showed."""
    def run(after=None, slots=1, **code):
        shown = io.StringIO()
        jobs = [Job(name, [sys.executable, "-c", text], tmp_path / name, cwd=tmp_path,
                    after=(after or {}).get(name, ()), slots=slots) for name, text in code.items()]
        run_jobs(jobs, plan, tmp_path / "run", Console(file=shown, force_terminal=True, width=150))
        return shown.getvalue()
    return run


@pytest.fixture
def refused(run):
    def refused(**named):
        with pytest.raises(ProducerError) as caught:
            run(**named)
        message = str(caught.value)
        assert message and "\n" not in message
        return message
    return refused


# ------------------------------------------------------------------------------------- the jobs


def test_the_plan_is_there_before_the_processes(run, tmp_path, plan):
    run(one="import os; assert os.path.exists('run/plan.json')")
    assert Plan.load(str(tmp_path / "run" / "plan.json")) == plan


def log(name, seconds=0.0):
    return f"import time; time.sleep({seconds}); open('log', 'a').write('{name} ')"


def test_a_job_waits_for_those_it_comes_after(run, tmp_path):
    run(after={"first": ("last", "second"), "second": ("last",)},
        first=log("first"), second=log("second"), last=log("last", 0.2))
    assert (tmp_path / "log").read_text().split() == ["last", "second", "first"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor runs one job")
def test_jobs_run_side_by_side_as_long_as_processors_last(run, tmp_path):
    both = "import time; s = time.time(); time.sleep(.5); " \
           "open('{}', 'w').write('%f %f' % (s, time.time()))"

    def overlap(slots):
        run(slots=slots, a=both.format("a"), b=both.format("b"))
        (a, b), (c, d) = ([float(part) for part in (tmp_path / name).read_text().split()]
                          for name in "ab")
        return min(b, d) - max(a, c)

    assert overlap(1) > 0
    assert overlap(64) <= 0  # a job of more threads than there are processors runs alone


def test_progress(run):
    shown = run(one="print('progress', 3, 20, 'CNTK: twin run', sep='\\t'); print('noise');"
                    "print('progress\\t1')")
    assert "one: done" in shown and "noise" not in shown
    told = {}
    jobs._note("progress\t3\t20\tCNTK: twin run\n", told.update)
    assert told == {"description": "CNTK: twin run", "completed": 3, "total": 20}
    jobs._note("progress\t0\t0\tCNTK: reader\n", told.update)
    assert told["total"] is None  # how far it is cannot be said


def test_what_a_process_finds(run, monkeypatch):
    """What of a caller's shell would change imports or bits is kept out."""
    for name in ("PYTHONPATH", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE"):
        monkeypatch.setenv(name, "/somewhere/else")
    monkeypatch.setenv("LANGUAGE", "kept")
    run(one="import os, sys; assert '/somewhere/else' not in [*os.environ.values(), *sys.path]; "
            "assert os.environ['LANGUAGE'] == 'kept'")
    assert recipes.CNTK_ENVIRONMENT["MKL_DEBUG_CPU_TYPE"] == "0"


def test_the_main_job(plan, tmp_path, cntk):
    jobs = {job.name: job for job in main_jobs(plan, tmp_path)}
    assert list(jobs) == ["cntk", "port", "oracle", "twin-cntk"]
    (beside,) = jobs["twin-cntk"].beside
    assert beside.name == "twin-port" and beside.may_fail and not jobs["twin-cntk"].may_fail
    assert {name for name, job in jobs.items() if job.after == ("cntk",)} == {"port", "oracle"}
    long = {job.name: job for job in twin_jobs(plan, tmp_path, reruns=True)}
    assert all(job.after == () for job in long.values())
    assert list(long) == ["twin-cntk", "twin-rerun1", "twin-rerun2"]
    assert {name for name, job in jobs.items() if str(job.command[0]).endswith(
        ".venv-cntk/bin/python")} == {"cntk", "twin-cntk"}
    assert long["twin-rerun2"].command[-2:] == ["--nudge", "2"]
    assert "float64" in jobs["oracle"].command and "float32" in jobs["port"].command
    assert len(main_jobs(plan.with_values(twin_iterations=0), tmp_path)) == 3


def test_the_main_job_without_cntk(plan, tmp_path, monkeypatch):
    kept = {"layers": "a.certificate", "twin": None}
    monkeypatch.setattr(recipes, "certified", lambda plan, job="layers": kept[job])
    jobs = {job.name: job for job in main_jobs(
        plan, tmp_path, recipes.Sources(reference=recipes.CERTIFICATE))}
    assert list(jobs) == ["cntk", "port", "oracle", "twin-cntk"]
    layers, twin = (list(map(str, jobs[name].command)) for name in ("cntk", "twin-cntk"))
    assert layers[2] == twin[2] == "torch_port.stand_in"
    assert layers[layers.index("--certificate") + 1] == "a.certificate"
    assert layers[-2:] == ["--job", "layers"] and twin[-2:] == ["--job", "twin"]
    assert "--certificate" not in twin and "--beside" in twin
    (beside,) = jobs["twin-cntk"].beside
    assert beside.name == "twin-port"
    assert jobs["twin-cntk"].ended.parent == beside.ended.parent


def test_onnxruntime_runs_what_was_exported_where_a_stage_asks_for_it(plan, tmp_path):
    plan = plan.with_values(twin_iterations=0)
    jobs = {job.name: job for job in main_jobs(plan, tmp_path, roles=("onnx-cntk", "onnx-port"))}
    assert list(jobs) == ["cntk", "port", "oracle", "onnx-cntk", "onnx-port"]
    assert jobs["onnx-cntk"].after == ("cntk",) and not jobs["onnx-cntk"].may_fail
    assert jobs["onnx-port"].after == ("cntk", "port") and jobs["onnx-port"].may_fail
    adapter = recipes.Sources(port=tmp_path / "adapter.py")
    assert not any(job.name.startswith("onnx") for job in main_jobs(
        plan, tmp_path, adapter, roles=("onnx-cntk", "onnx-port")))


def test_where_a_side_made_nothing_there_is_nothing_to_run(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    code = onnx_program.main(["--plan", str(tmp_path / "plan.json"), "--side", "port",
                              "--reference", str(tmp_path / "cntk"),
                              "--exported", str(tmp_path / "port"),
                              "--output", str(tmp_path / "onnx-port")])
    assert code == 0 and not (tmp_path / "onnx-port").exists()


def test_another_port_beside_a_capture_that_is_there(plan, tmp_path):
    job = port_job(plan, tmp_path, port=tmp_path / "other", reference=tmp_path / "kept",
                   parts="training")
    assert job.cwd == tmp_path / "other" and job.after == ()
    assert job.command[job.command.index("--reference") + 1] == tmp_path / "kept"


def test_no_environment_of_cntk(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("CNTK_PYTHON", "none")
    with pytest.raises(ProducerError, match=r"CNTK_PYTHON=none says to do without"):
        cntk_job(plan, tmp_path)


# ------------------------------------------------------------------------------------- bad ends


@pytest.mark.parametrize("code, expected", [
    (KILL.format("SIGKILL"), "the process of one was ended by SIGKILL: most likely memory ran out"),
    (KILL.format("SIGABRT"), "ended by SIGABRT: it aborted itself"),
    (KILL.format("SIGSEGV"), "ended by SIGSEGV: run it again"),
    (SAYS.format(b"noise\nerror: the map is bad: mend it\n", 2), "the map is bad: mend it"),
    (SAYS.format(b"\xff\xfe noise\nerror: it is bad\n", 2), "it is bad"),
    (SAYS.format(b"Traceback ...\nValueError: no\n\n", 1),
     "the process of one failed with exit 1: ValueError: no"),
    (SAYS.format(b"", 3), "the process of one failed with exit 3: it said nothing"),
    ("import sys; sys.stdout.buffer.write(b'\\xff\\n'); sys.exit('error: later')", "later"),
])
def test_how_a_process_ended(refused, code, expected):
    assert expected in refused(one=code)


def test_last_words():
    assert "Its last words: cannot allocate 7 GB." in explanation(
        "cntk", -signal.SIGABRT, ["loading", "cannot allocate 7 GB"])
    assert "ended by signal 63" in explanation("cntk", -63, [])


def test_a_program_that_is_not_there(plan, tmp_path):
    with pytest.raises(OSError, match=r"No such file.*no-python"):
        run_jobs([Job("one", [tmp_path / "no-python"], tmp_path)], plan, tmp_path / "run",
                 Console(file=io.StringIO()))


def alive(path):
    """Whether the process that wrote its number there is."""
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


WAITS = "import os; open('pid', 'w').write(str(os.getpid())); " + SLEEP
FAILS = "import os, sys, time\nwhile not os.path.exists('pid'): time.sleep(.01)\n" \
        "sys.exit('error: no')"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor runs one job")
def test_one_that_fails_ends_the_others_and_what_waited_is_not_started(refused, tmp_path):
    begun = time.monotonic()
    assert refused(after={"later": ("sleeper",)}, sleeper=WAITS, failing=FAILS,
                   later=log("later")) == "no"
    assert time.monotonic() - begun < 30  # not the sleeper's 60
    assert not alive(tmp_path / "pid") and not (tmp_path / "log").exists()


def test_ctrl_c_ends_them_too(run, tmp_path):
    def interrupt(*_):
        if not (tmp_path / "pid").exists():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            return
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(sleeper=WAITS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not alive(tmp_path / "pid")


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor runs one job")
def test_one_that_does_not_end_when_it_is_asked_to_is_killed(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 0.5)
    begun = time.monotonic()
    assert refused(sleeper=STUBBORN, failing=FAILS) == "no"
    assert time.monotonic() - begun < 30  # not the sleeper's 60
    assert not alive(tmp_path / "pid")


def test_a_folder_that_cannot_be_written(plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProducerError, match=r"file/run cannot be written \(Not a directory\)"):
        run_jobs([], plan, tmp_path / "file" / "run", Console(file=io.StringIO()))


def test_a_full_disk_in_the_ports_process(plan, tmp_path, monkeypatch, capsys):
    """One line, exit 2, and nothing that looks like a capture."""
    import numpy as np


    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plan.save(str(tmp_path / "plan.json"))
    monkeypatch.setattr(main_module, "twin_job", lambda writer, *_: writer.add("a/b/c/d", 1.0))
    monkeypatch.setattr(np, "save", full)
    monkeypatch.setattr(main_module, "as_cntk_rounds", lambda threads: None)
    monkeypatch.setattr(main_module.torch, "set_num_threads", lambda number: None)
    code = main_module.main(["--plan", str(tmp_path / "plan.json"), "--job", "twin",
                         "--output", str(tmp_path / "capture")])
    assert code == 2 and not (tmp_path / "capture").exists()
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'capture'} cannot be written (No space left on device): free space "
        "there or choose another folder\n")


@pytest.mark.parametrize(("text", "words"), [
    ("import os; os.kill(os.getpid(), 9)", "SIGKILL"), ("raise KeyError('no such layer')", "layer"),
    ("print('x' * 2 ** 20); import sys; sys.exit('y' * 2 ** 20)", "yyy"),
    ("import time; time.sleep(60)", "made no progress for too long")])
def test_a_port_that_fails_is_a_finding(plan, tmp_path, text, words):
    """Killed, raising, printing a megabyte, hanging: the reason is kept, the others go on."""
    jobs = [Job("port", [sys.executable, "-c", text], tmp_path / "run" / "port", cwd=tmp_path,
                may_fail=True, silence=1.0, ended=tmp_path / "run" / "meeting" / "follower"),
            Job("after", [sys.executable, "-c", "pass"], tmp_path / "run" / "after", cwd=tmp_path,
                after=("port",))]
    run_jobs(jobs, plan, tmp_path / "run", Console(file=io.StringIO()))
    said = (tmp_path / "run" / "port.failed").read_text()
    assert words in said and len(said) < 1000 and said.count("\n") == 1
    assert (tmp_path / "run" / "meeting" / "follower").exists()
