"""An output folder: one run at a time; new as a whole, or as it was."""
import os
import signal
import subprocess
import sys
import time

import pytest

from captures import output
from captures.output import OutputError, alone, made_whole, replacing
from tests.conftest import ROOT


def put(folder, **files):
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)


def shown(folder):
    return {path.name: path.read_text() if path.is_file() else sorted(
        one.name for one in path.iterdir())
            for path in folder.iterdir() if not path.name.startswith(".")}


def run(folder, **files):
    with made_whole(folder) as making:
        put(making, **files)


def test_what_was_made_is_moved_into_place(tmp_path):
    folder = tmp_path / "new" / "run"
    run(folder, **{"cntk/a.npy": "1", "report.json": "first"})
    assert shown(folder) == {"cntk": ["a.npy"], "report.json": "first"}


def test_what_last_time_made_goes_and_what_is_somebodys_stays(tmp_path):
    run(tmp_path, **{"cntk/a.npy": "1", "cntk/b.npy": "1", "reproduction/run.py": "x",
                     "report.json": "first"})
    put(tmp_path, **{"notes.txt": "mine"})
    run(tmp_path, **{"cntk/a.npy": "2", "report.json": "second"})
    assert shown(tmp_path) == {"cntk": ["a.npy"], "report.json": "second", "notes.txt": "mine"}
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == {
        ".lock", ".made"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OutputError])
def test_an_interrupted_run_leaves_last_times(tmp_path, error):
    run(tmp_path, **{"cntk/a.npy": "1", "report.json": "first"})
    with pytest.raises(error), made_whole(tmp_path) as making:
        put(making, **{"cntk/a.npy": "2", "report.json": "second"})
        assert shown(tmp_path) == {"cntk": ["a.npy"], "report.json": "first"}
        raise error
    assert shown(tmp_path) == {"cntk": ["a.npy"], "report.json": "first"}
    assert not (tmp_path / ".making").exists()


KILLED = """
import sys, time
from captures.output import made_whole
with made_whole(sys.argv[1]) as making:
    open(making + "/report.json", "w").write("half")
    print("made", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_by_name_and_a_killed_one_leaves_nothing(tmp_path):
    run(tmp_path, **{"report.json": "first"})
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == "made\n"
        with pytest.raises(OutputError, match=rf"{tmp_path} is in use by another run \(process "
                                              rf"{process.pid}\): wait for it, or give this one "
                                              "another folder with --output"), alone(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    assert shown(tmp_path) == {"report.json": "first"}
    run(tmp_path, **{"report.json": "second"})
    assert shown(tmp_path) == {"report.json": "second"}
    assert not (tmp_path / ".making").exists()


def _is_held(folder):
    try:
        with alone(folder):
            return False
    except OutputError:
        return True


def test_a_child_does_not_keep_the_folder(tmp_path):
    with alone(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                                 close_fds=False)
    try:
        # Its descriptors are closed while the child becomes another program: shortly after.
        until = time.monotonic() + 20
        while time.monotonic() < until and _is_held(tmp_path):
            time.sleep(0.05)
        with alone(tmp_path) as folder:  # not refused
            assert folder == str(tmp_path)
    finally:
        child.kill()
        child.wait()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/run cannot be written \(Not a directory\)"), \
            alone(tmp_path / "file" / "run"):
        pass


def test_a_list_of_what_was_made_cannot_lead_out(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("not mine")
    folder = tmp_path / "run"
    run(folder, **{"report.json": "first"})
    (folder / ".made").write_text("../outside.txt\nreport.json\n")
    run(folder, **{"report.json": "second"})
    assert outside.read_text() == "not mine" and shown(folder) == {"report.json": "second"}


WRITES = ("cntk", "report.json", "twin-rerun[0-9]*")


@pytest.mark.parametrize("theirs", ["cntk/thesis.txt", "report.json", "twin-rerun2/a.npy"])
def test_what_somebody_put_where_a_run_writes_is_refused_before_the_work(tmp_path, theirs):
    folder = tmp_path / "mine"
    put(folder, **{theirs: "precious", "notes.txt": "mine"})
    before, name = shown(folder), theirs.split("/")[0]
    with pytest.raises(OutputError, match=rf"^{folder}/{name} was not made here by a run before, "
                                          "and would be replaced: choose another folder with "
                                          "--output"), made_whole(folder, WRITES):
        raise AssertionError("the work began")
    assert shown(folder) == before and not (folder / ".lock").exists()


def test_a_name_that_was_not_known_before_is_refused_after_the_work_and_nothing_is_moved(tmp_path):
    run(tmp_path, **{"report.json": "first"})
    put(tmp_path, **{"a[1].txt/thesis": "precious"})
    before = shown(tmp_path)
    with pytest.raises(OutputError, match=r"a\[1\].txt was not made here"):
        run(tmp_path, **{"report.json": "second", "a[1].txt": "2"})
    assert shown(tmp_path) == before and not (tmp_path / ".making").exists()


def test_somebodys_file_beside_last_times_run_is_refused_too(tmp_path):
    run(tmp_path, **{"report.json": "first"})
    put(tmp_path, **{"cntk/thesis.txt": "precious"})
    with pytest.raises(OutputError, match="cntk was not made"), made_whole(tmp_path, WRITES):
        raise AssertionError("the work began")


@pytest.mark.parametrize("name", [".old/backup", ".making/plan", ".lock"])
def test_what_is_called_as_a_run_calls_its_own(tmp_path, name):
    put(tmp_path, **{name: "my own"})
    with pytest.raises(OutputError, match=rf"\{name.split('/')[0]} was not made here"):
        run(tmp_path, **{"report.json": "first"})
    assert (tmp_path / name).read_text() == "my own"


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("killed", [True, False])
def test_a_move_that_does_not_come_to_its_end_is_undone(tmp_path, monkeypatch, at, killed):
    """By the same run, or, where that was killed, by the next. Five renames are between the two."""
    first = {"cntk/a.npy": "1", "report.json": "first", "gone.txt": "1"}
    run(tmp_path, **first)
    before, count = shown(tmp_path), iter(range(100))

    def stopping(real):
        def move(*names):
            if os.path.dirname(names[1]) in (str(tmp_path), str(tmp_path / ".old")) \
                    and next(count) == at:
                raise RuntimeError
            real(*names)
        return move

    with monkeypatch.context() as patched:
        for name in ("rename", "replace"):
            patched.setattr(output.os, name, stopping(getattr(os, name)))
        if killed:
            patched.setattr(output, "_cleared", lambda folder: None)
        with pytest.raises(RuntimeError):
            run(tmp_path, **{"cntk/b.npy": "2", "report.json": "second", "new.txt": "2"})
    if killed:
        with pytest.raises(KeyboardInterrupt), made_whole(tmp_path):
            raise KeyboardInterrupt
    assert shown(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == {
        ".lock", ".made"}


def test_a_program_that_writes_straight_into_a_folder(tmp_path):
    put(tmp_path, **{"notes.txt": "mine"})
    for text in ("first", "second"):
        with replacing(tmp_path, ("score.json", "score.html")):
            put(tmp_path, **{"score.json": text})
    put(tmp_path, **{"score.html": "precious"})
    with pytest.raises(OutputError, match=r"score\.html was not made here"), \
            replacing(tmp_path, ("score.json", "score.html")):
        raise AssertionError("the work began")
    assert shown(tmp_path) == {"notes.txt": "mine", "score.json": "second",
                               "score.html": "precious"}
