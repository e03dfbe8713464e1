"""How a program ends that a signal asks to: one line, its exit status, and what it leaves."""
import os
import signal
import subprocess
import sys

import pytest

from captures.process import Ended, ended, ending_signals
from tests.conftest import ROOT

WAITING = """
import sys, time
from captures.output import made_whole
from captures.process import ended, ending_signals
def run():
    with made_whole(sys.argv[1]) as making:
        open(making + "/report.json", "w").write("half")
        print("made", flush=True)
        try:
            time.sleep(60)
        finally:
            time.sleep(0.5)  # while a second signal comes
with ending_signals():
    sys.exit(ended(run))
"""


def waiting(folder, **options):
    return subprocess.Popen([sys.executable, "-c", WAITING, folder], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_one_line_and_the_folder_as_it_was(tmp_path, number, status):
    with waiting(tmp_path) as process:
        assert process.stdout.readline() == "made\n"
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == status
    assert said == f"ended by {signal.Signals(number).name}: {tmp_path} is as it was\n"
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_the_caller_ignores_is_ignored(tmp_path):
    with waiting(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
                 ) as process:
        assert process.stdout.readline() == "made\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.7)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 143


def test_a_forked_process_ends_at_once(tmp_path):
    """It does not unwind what is its parent's."""
    with ending_signals():
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_said_of_a_program_that_leaves_nothing_to_say(capsys):
    def run():
        raise Ended(signal.SIGTERM)

    assert ended(run) == 143
    assert capsys.readouterr().err == "ended by SIGTERM\n"
