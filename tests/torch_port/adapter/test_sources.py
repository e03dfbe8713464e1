"""The name and the hash of a user's port, by which two captures can say that it changed."""
import re

import pytest

from torch_port.adapter.load import load
from torch_port.adapter.sources import described, files

ADAPTER = """
import {helper}
from torch import nn

class generator(nn.Module):
    pass
"""


@pytest.fixture
def adapter(tmp_path):
    """Its helper is called as no other test's: Python keeps what it imported."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "helper_of_test_sources.py").write_text("RATE = 1\n")
    (folder / "beside.py").write_text("nobody imports this\n")
    (folder / "adapter.py").write_text(ADAPTER.format(helper="helper_of_test_sources"))
    return folder / "adapter.py"


def test_what_it_is_made_of_and_nothing_else_changes_the_hash(adapter, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(adapter.parent))
    loaded = load(adapter)
    first = described(loaded)
    assert re.fullmatch(r"mine/adapter.py, sources [0-9a-f]{12}", first)
    assert [path.name for path in files(loaded)] == ["adapter.py", "helper_of_test_sources.py"]
    (adapter.parent / "beside.py").write_text("still nobody\n")
    assert described(loaded) == first
    mapping = tmp_path / "mapping.json"
    mapping.write_text("{}")
    assert described(loaded, mapping) != first
    (adapter.parent / "helper_of_test_sources.py").write_text("RATE = 2\n")
    assert described(loaded) != first


def test_a_network_that_is_a_file_belongs_to_it(adapter):
    adapter.write_text("generator = 'net.onnx'\n")
    (adapter.parent / "net.onnx").write_bytes(b"1")
    loaded = load(adapter)
    assert [path.name for path in files(loaded)] == ["adapter.py", "net.onnx"]
    first = described(loaded)
    (adapter.parent / "net.onnx").write_bytes(b"2")
    assert described(loaded) != first
