"""A user's code at arm's length: one message that names their line; what they change is noticed."""
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from captures.article import DCGAN
from torch_port.adapter.conversion import user_networks
from torch_port.adapter.isolation import IMPORT, AdapterError, isolated
from torch_port.adapter.load import load, of_file
from torch_port.adapter.network import MatchingError

ROOT = Path(__file__).parents[3]


def adapter(folder: Path, text: str) -> Path:
    path = folder / "adapter.py"
    path.write_text(text)
    return path


NETWORK = "import torch\ngenerator = lambda: torch.nn.Conv2d(1, 1, 1)\n"

REFUSED = {
    "does not import": ("import nothing_of_this_name\n", r"adapter\.py, line 1: it does not import"
                                                         ".*ModuleNotFoundError"),
    "does not parse": ("generator = (\n", r"adapter\.py, line 1: it does not import: SyntaxError"),
    "ends the process": ("raise SystemExit(3)\n", "line 1: it does not import: SystemExit: 3"),
    "no network": ("x = 1\n", "names neither a `generator` nor a `discriminator`"),
    "no function": (NETWORK + "d_loss = 3\n", "`d_loss` is a int, not a function"),
    "another range": (NETWORK + "images = {'range': (0, 2)}\n", r"images\['range'\] is \(0, 2\)"),
    "another key": (NETWORK + "images = {'colour': 1}\n", "there are channels, layout, range"),
    "no shape": (NETWORK + "latents = 'x'\n", "give the shape of one latent"),
    "no reduction": (NETWORK + "reduction = 'max'\n", 'give "mean" or "sum"'),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_their_file(tmp_path, what):
    text, said = REFUSED[what]
    with pytest.raises(AdapterError, match=said):
        load(adapter(tmp_path, text))


def test_a_gpu_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AdapterError, match="PyTorch sees no GPU here"):
        load(adapter(tmp_path, NETWORK), device="cuda")
    with pytest.raises(AdapterError, match="give cpu or cuda"):
        load(adapter(tmp_path, NETWORK), device="tpu")


def test_it_ends_when_it_takes_too_long(tmp_path):
    path = adapter(tmp_path, NETWORK + "def d_loss(a, b):\n    while True:\n        try:\n"
                                       "            while True: pass\n"
                                       "        except Exception: pass\n")
    loaded = load(path, time_limit=0.2)
    with pytest.raises(AdapterError, match=r"adapter\.py, line [4-7]: `d_loss` takes more than 0.2"
                                           " seconds.*--time-limit"), loaded.theirs("d_loss"):
        loaded.call("d_loss", None, None)


def test_nothing_ends_what_is_quick(tmp_path):
    noticed: list[str] = []
    with isolated("`x`", tmp_path / "adapter.py", noticed, 0.2):
        pass
    time.sleep(0.3)  # a timer that was left on would end the tests
    assert noticed == []


CHANGED = {
    "dtype": ("torch.set_default_dtype(torch.float64)", "sets the default dtype to torch.float64"),
    "device": ("torch.set_default_device('meta')", "sets the default device to meta"),
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", "sets the threads to"),
    "oneDNN": ("torch.backends.mkldnn.enabled = not torch.backends.mkldnn.enabled",
               "sets oneDNN to"),
    "deterministic": ("torch.use_deterministic_algorithms(True)",
                      "sets deterministic algorithms to True"),
    "gradients": ("torch.set_grad_enabled(False)", "sets gradients to False"),
    "torch's seed": ("torch.manual_seed(3)", "PyTorch's random numbers"),
    "numpy's seed": ("import numpy; numpy.random.seed(3)", "numpy's random numbers"),
    "Python's seed": ("import random; random.seed(3)", "Python's random numbers"),
    "prints": ("print('hello'); print('again')", "prints 2 lines, first 'hello'"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_an_import_changes_is_noticed_and_put_back(tmp_path, what, capsys):
    line, said = CHANGED[what]

    def state() -> list[object]:
        return [torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(),
                torch.backends.mkldnn.enabled, torch.are_deterministic_algorithms_enabled(),
                torch.is_grad_enabled(), torch.random.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(), random.getstate()]

    before = state()
    loaded = load(adapter(tmp_path, NETWORK + line + "\n"))
    assert len(loaded.noticed) == 1 and said in loaded.noticed[0]
    assert state() == before
    assert capsys.readouterr().out == ""


def test_a_quiet_import_is_not_noticed(tmp_path):
    assert load(adapter(tmp_path, NETWORK)).noticed == []


def test_what_a_function_changes_is_noticed_once(tmp_path):
    path = adapter(tmp_path, NETWORK + "def d_loss(a, b):\n    torch.set_default_dtype(torch."
                                       "float64)\n    return torch.zeros(())\n")
    loaded = load(path)
    for _ in range(2):
        with loaded.theirs("d_loss"):
            loaded.call("d_loss", None, None)
    assert loaded.noticed == ["`d_loss` sets the default dtype to torch.float64"]
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name, line, said", [
    ("d_loss", "d_loss = lambda a, b: 1.0", "`d_loss` gives a float, not a tensor"),
    ("optimizers", "optimizers = lambda g, d, n: 3", "`optimizers` gives a int: return two"),
    ("optimizers", "optimizers = lambda g, d, n: (1, 2)", "gives 2 of int, int: return two")])
def test_what_gives_another_type(tmp_path, name, line, said):
    loaded = load(adapter(tmp_path, NETWORK + line + "\n"))
    with pytest.raises(AdapterError, match=said):
        loaded.call(name, *[None] * (2 if name == "d_loss" else 3))


def test_what_raises_names_their_line(tmp_path):
    loaded = load(adapter(tmp_path, NETWORK + "def g_loss(d):\n    return d.no_such_name\n"))
    said = r"adapter\.py, line 4: `g_loss` raises AttributeError"
    with pytest.raises(AdapterError, match=said), loaded.theirs("g_loss"):
        loaded.call("g_loss", 3)


def test_an_import_is_called_an_import(tmp_path):
    with pytest.raises(AdapterError, match="it does not import: ValueError: no"), isolated(
            IMPORT, tmp_path / "adapter.py", []):
        raise ValueError("no")


@pytest.mark.parametrize("given", [
    "generator = torch.nn.BatchNorm2d(1)", "one = torch.nn.BatchNorm2d(1)\ngenerator = lambda: one",
    "generator = (lambda w, x: w['n'].add_(len(x)), {'n': torch.zeros(1)})",
    "generator = lambda: torch.nn.BatchNorm2d(1)"])
def test_a_network_is_new_each_time(tmp_path, given):
    """One that ran has other statistics, and what its first minibatch does was done."""
    made = load(adapter(tmp_path, f"import torch\n{given}\n"))
    before = made.network("generator")
    before(torch.ones(2, 1, 3, 3))
    after = made.network("generator")
    assert [b.max().item() for b in before.buffers()] != [b.max().item() for b in after.buffers()]
    assert all(b.max() in (0, 1) for b in after.buffers())


def test_a_network_that_is_the_same_each_time_and_cannot_be_copied(tmp_path):
    made = load(adapter(tmp_path, "import torch\nclass G(torch.nn.Module):\n"
                        "    def __deepcopy__(self, memo): raise TypeError\ngenerator = G()\n"))
    made.network("generator")
    with pytest.raises(AdapterError, match="gives the same module each time"):
        made.network("generator")


def test_latents_of_another_size(tmp_path):
    made = load(adapter(tmp_path, NETWORK + "latents = (10, 20)\n"))
    with pytest.raises(AdapterError, match=r"`latents` is \(10, 20\), which holds 200 values"):
        user_networks(made, DCGAN)


def test_a_question_names_their_file_and_line(tmp_path):
    text = ("import torch\nclass G(torch.nn.Module):\n    def forward(self, z):\n"
            "        return z[:, :, 7]\ngenerator = G\n")
    with pytest.raises(MatchingError, match=r"adapter\.py, line 4: the generator does not run"):
        user_networks(load(adapter(tmp_path, text)), DCGAN)


@pytest.mark.parametrize("text, code, said", [
    ("import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\nx = 1\n",
     2, "names neither"),
    ("import os\nos._exit(0)\n", 2, "failed with exit 0"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", 2, "ended by SIGKILL")])
def test_however_their_code_ends_there_is_one_message(tmp_path, text, code, said):
    done = subprocess.run([sys.executable, "-m", "parity", "explain-port",
                           str(adapter(tmp_path, text))], cwd=ROOT, capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == code and said in done.stderr and "adapter.py" in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_a_loss_without_a_gradient(tmp_path):
    made = load(adapter(tmp_path, NETWORK + "def g_loss(d): return d.mean().detach()\n"))
    assert made.call("g_loss", torch.ones(2)) == 1  # nothing to learn from
    with pytest.raises(AdapterError, match="`g_loss` gives a tensor without a gradient"):
        made.call("g_loss", torch.ones(2, requires_grad=True))


def test_a_mapping_with_a_name_twice_or_of_no_array(tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text('{"a": "x", "a": "y"}')
    with pytest.raises(AdapterError, match=r"is no mapping file .a is there twice"):
        of_file(path)
    with pytest.raises(MatchingError, match="'a', which is no array of CNTK's"):
        user_networks(load(adapter(tmp_path, NETWORK)), DCGAN, {"a": "x"})
