"""Weights: every file that is not what it should be, and a download on a real connection."""
from __future__ import annotations

import hashlib
import pickle
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from scores.classifiers import registry, weights
from scores.classifiers.weights import Source, check_sha256, fetched, load_into, of_user
from scores.errors import ScoreError


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


@pytest.fixture
def right(tmp_path: Path) -> Path:
    torch.save(network().state_dict(), tmp_path / "right.pth")
    return tmp_path / "right.pth"


def test_weights_are_taken_whole(right):
    made = network()
    load_into(made, right, "this")
    for name, value in torch.load(right, weights_only=True).items():
        assert torch.equal(made.state_dict()[name], value), name


def test_what_a_training_wrote_round_its_weights_is_taken(right, tmp_path):
    torch.save({"state_dict": torch.load(right, weights_only=True), "epoch": 3},
               tmp_path / "a.pth")
    load_into(network(), tmp_path / "a.pth", "this")


def changed(right: Path, to: Path, change) -> Path:
    state = dict(torch.load(right, weights_only=True))
    change(state)
    torch.save(state, to)
    return to


@pytest.mark.parametrize(("change", "says"), [
    (lambda s: s.pop("0.bias"), "another network.*1 of its parameters are missing, first 0.bias"),
    (lambda s: s.update(more=torch.zeros(1)), "1 of its parameters are unknown, first more"),
    (lambda s: s.update({"0.bias": torch.zeros(5)}), r"0\.bias has the shape \(5,\), not \(4,\)"),
    (lambda s: s["0.bias"].fill_(float("nan")), r"0\.bias holds NaN"),
    (lambda s: s.update({"0.bias": torch.full((4,), 1e300, dtype=torch.float64)}), "infinity"),
    (lambda s: s.update({"0.bias": torch.ones(4, dtype=torch.int64)}), "is a tensor of int64"),
    (lambda s: s.update({"0.bias": torch.ones(4, dtype=torch.complex64)}), "of complex64"),
    (lambda s: s.update({"0.bias": torch.ones(4).to_sparse()}), "is a tensor of sparse_coo"),
    (lambda s: s.update({"0.bias": torch.ones(4, device="meta")}), "a meta tensor, without values"),
])
def test_another_networks_weights(right, tmp_path, change, says):
    made = network()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with pytest.raises(ScoreError, match=says):
        load_into(made, changed(right, tmp_path / "wrong.pth", change), "this")
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} was changed by weights that are refused"


def test_parts_that_are_not_used_may_be_there(right, tmp_path):
    more = changed(right, tmp_path / "more.pth",
                   lambda s: s.update({"AuxLogits.fc.weight": torch.zeros(2)}))
    load_into(network(), more, "this", ("AuxLogits.",))
    with pytest.raises(ScoreError, match=r"unknown"):
        load_into(network(), more, "this")


class Trap:
    def __reduce__(self):
        return (print, ("this program ran",))


@pytest.mark.parametrize(("content", "says"), [
    ({"0.weight": Trap()}, "pickled Python objects"),
    ([torch.zeros(1)], "something else than named tensors"),
    (network(), "pickled Python objects"),
])
def test_pickled_files_are_not_run(tmp_path, capsys, content, says):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ScoreError, match=says):
        load_into(network(), tmp_path / "a.pth", "this")
    assert "this program ran" not in capsys.readouterr().out


def test_a_pickle_of_another_protocol_is_one_message(tmp_path):
    """torch.load warns of such a file besides; warnings are errors here."""
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"0.weight": Trap()}, protocol=4))
    with pytest.raises(ScoreError, match="pickled Python objects"):
        load_into(network(), tmp_path / "a.pth", "this")


def test_a_program_is_no_weights_file(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says of TorchScript that it is old
        torch.jit.script(network()).save(str(tmp_path / "a.pth"))
    with pytest.raises(ScoreError, match=r"a TorchScript program.*state_dict"):
        load_into(network(), tmp_path / "a.pth", "this")


@pytest.mark.parametrize("size", [0, 10, -40])
def test_cut_off_files(right, tmp_path, size):
    (tmp_path / "cut.pth").write_bytes(right.read_bytes()[:size])
    with pytest.raises(ScoreError, match=r"cut\.pth is no weights file, or is cut off"):
        load_into(network(), tmp_path / "cut.pth", "this")


def test_checksums(right, tmp_path):
    found = hashlib.sha256(right.read_bytes()).hexdigest()
    assert of_user(right) == of_user(right, found[:10]) == found
    with pytest.raises(ScoreError, match=r"you asked for abcd"):
        of_user(right, "abcd")
    named = tmp_path / f"net-{found[:8]}.pth"
    right.rename(named)
    assert of_user(named) == found
    wrong = named.rename(tmp_path / "net-00000000.pth")
    with pytest.raises(ScoreError, match=r"its name says 00000000.*rename it"):
        of_user(wrong)
    with pytest.raises(ScoreError, match=r"its name says 00000000"):
        of_user(wrong, found)
    with pytest.raises(ScoreError, match=r"cannot be read"):
        check_sha256(tmp_path / "none.pth", "00", "x")


def test_the_registry_says_whose_weights_they_are(random_weights, tmp_path):
    with pytest.raises(ScoreError, match=r"holds another network's weights, not inception-v3's"):
        registry.network("inception-v3", random_weights["inception-2015"])
    with pytest.raises(ScoreError, match=r"there is no classifier 'resnet'.*inception-v3"):
        registry.load("resnet")
    with pytest.raises(ScoreError, match=r"there is no runtime 'cntk'"):
        registry.load(runtime="cntk")
    _, says, found = registry.network("inception-2015", random_weights["inception-2015"])
    assert "not the published file" in says and found in says


def test_a_title_claims_no_weights_that_are_not_there(random_weights, tmp_path):
    for name, owner in (("inception-v3", "torchvision's"), ("inception-2015", "pytorch-fid's")):
        made = registry.load(name, random_weights[name], runtime="torch")
        assert f"other weights than {owner}" in made.spec.title
    packaged = registry.module_of(registry.DEFAULT).packaged()
    made = registry.load(registry.DEFAULT, packaged, runtime="torch")
    assert made.spec == registry.module_of(registry.DEFAULT).SPEC
    assert "not the published file" not in made.weights


@pytest.mark.parametrize("name", ["efficientnet-lite0", "inception-v3"])
def test_a_checksum_is_asked_of_weights_from_anywhere(name, tmp_path):
    with pytest.raises(ScoreError, match=r"you asked for deadbeef.*--sha256.*--weights"):
        registry.network(name, sha256="deadbeef", cache=tmp_path, offline=True)
    if name == registry.DEFAULT:
        assert registry.network(name, sha256="57934424")


# ---- downloads, from a server on this machine


class Server:
    """Serves ``content``; the next answers break off after ``cut`` bytes of the body, if any."""

    def __init__(self, content: bytes) -> None:
        self.content, self.cuts, self.asked = content, list[int](), list[str]()
        self.pause = 0.0  # seconds before the body
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.headers.get("Range", ""))
                first = int(self.headers.get("Range", "bytes=0-")[6:-1])
                if self.path != "/file" or first >= len(server.content):
                    self.send_error(404 if self.path != "/file" else 416)
                    return
                body = server.content[first:]
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                time.sleep(server.pause)
                self.wfile.write(body[:server.cuts.pop(0)] if server.cuts else body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def source(self, path: str = "/file", sha256: str = "") -> Source:
        return Source("net.pth", f"http://127.0.0.1:{self.http.server_port}{path}",
                      sha256 or hashlib.sha256(self.content).hexdigest(), len(self.content))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(bytes(range(256)) * 40)
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_download_is_kept_and_not_repeated(server, tmp_path):
    path = fetched(server.source(), tmp_path / "new")
    assert path.read_bytes() == server.content
    assert fetched(server.source(), tmp_path / "new", offline=True) == path
    assert len(server.asked) == 1 and kept(path.parent) == ["net.pth"]


def kept(folder: Path) -> list[str]:
    """Without the locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_of_downloads_at_once_one_goes_and_the_others_wait(server, tmp_path, capfd):
    server.pause = 0.1
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda n: fetched(server.source(), tmp_path), range(4)))
    assert all(path.read_bytes() == server.content for path in paths)
    assert server.asked == [""] and kept(tmp_path) == ["net.pth"]
    assert "waiting for it" in capfd.readouterr().err


def test_a_cut_download_goes_on(server, tmp_path):
    server.cuts = [3000]
    with pytest.raises(ScoreError, match=r"(cut off after|after) 3,000.*try again"):
        fetched(server.source(), tmp_path)
    assert kept(tmp_path) == ["net.pth.part"]
    assert fetched(server.source(), tmp_path).read_bytes() == server.content
    assert server.asked == ["", "bytes=3000-"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(ScoreError, match=r"the published file has 00000000"):
        fetched(server.source(sha256="0" * 64), tmp_path)
    assert not kept(tmp_path)


def test_a_file_that_was_changed_later_is_refused(server, tmp_path):
    path = fetched(server.source(), tmp_path)
    path.write_bytes(server.content[:-1])
    with pytest.raises(ScoreError, match=r"another file, or was changed.*Take it away"):
        fetched(server.source(), tmp_path)


def test_what_was_left_of_another_file_does_not_stay(server, tmp_path):
    (tmp_path / "net.pth.part").write_bytes(b"x" * (len(server.content) + 5))
    with pytest.raises(ScoreError, match=r"the published file has"):
        fetched(server.source(), tmp_path)
    assert fetched(server.source(), tmp_path).read_bytes() == server.content


def test_no_way_to_the_file(server, tmp_path):
    with pytest.raises(ScoreError, match=r"answered 404.*--weights"):
        fetched(server.source("/none"), tmp_path)
    with pytest.raises(ScoreError, match=r"--offline was asked for.*--weights FILE"):
        fetched(server.source(), tmp_path, offline=True)
    nowhere = Source("net.pth", "http://127.0.0.1:1/file", "00", 10)
    with pytest.raises(ScoreError, match=r"net\.pth did not come .*--weights FILE"):
        fetched(nowhere, tmp_path)
    assert not kept(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ScoreError, match=r"give a folder that can be written"):
        fetched(server.source(), tmp_path / "file" / "folder")


def test_pinned_checksums_are_whole_where_they_are_published():
    assert len(registry.module_of("inception-2015").SOURCE.sha256) == 64
    for name in ("inception-v3", "inception-2015"):
        source = registry.module_of(name).SOURCE
        assert weights.NAMED_HASH.search(source.file)[1] == source.sha256[:8]
