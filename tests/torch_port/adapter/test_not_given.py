"""What an adapter does not name, and what is said of it."""
import pytest

from captures.errors import ParityError
from torch_port.adapter import not_given
from torch_port.adapter.__main__ import _absent
from torch_port.adapter.load import load

NETWORKS = "from torch import nn\ngenerator = discriminator = nn.Identity\n"
STEPS = "def d_loss(r, f): pass\ndef optimizers(g, d, n): pass\n"


def adapter(tmp_path, lines):
    (tmp_path / "adapter.py").write_text(NETWORKS + lines)
    return load(tmp_path / "adapter.py")


def test_a_step_is_judged_without_their_own(tmp_path):
    """By their loss and optimizer, where both are there."""
    given, without = adapter(tmp_path, STEPS), adapter(tmp_path, "")
    assert _absent(given, "d_step").startswith("steps are judged with your d_loss and optimizer; ")
    for one, name in ((given, "g_step"), (without, "d_step"), (given, "initialize")):
        assert _absent(one, name).startswith(f"not judged without `{name} = ")


def test_shapes_are_compared_where_the_initial_weights_are(tmp_path):
    made = adapter(tmp_path, "")
    said = not_given.of_stages(made, {"initial": not_given.missing(made, "initial")})
    assert said["structure"].startswith("no line: layers, shapes and counts are compared where the")
    assert "`initialize = " in said["structure"] and said["initial"].startswith("initialize = ")


def test_a_file_that_is_not_there_is_called_so(tmp_path):
    with pytest.raises(ParityError, match=r"there is no .*nope\.py: give the adapter of your port"):
        load(tmp_path / "nope.py")
    (tmp_path / "port.txt").write_text("")
    with pytest.raises(ParityError, match="is no Python file"):
        load(tmp_path / "port.txt")
