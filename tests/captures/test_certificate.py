"""A certificate: what it keeps, what it finds, and what it refuses."""
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from captures import certificate
from captures.certificate import (
    SMALL,
    VALUES,
    Certificate,
    CertificateError,
    missed,
    pieces_of,
    places,
    put_together,
    recorded,
)
from tests.conftest import ROOT
from tests.schemas import misfits, schema

PLAN = {"seed": 5, "minibatch_size": 2}
random = np.random.RandomState(1)
ARRAYS = {
    "state/a/conv1/weight": random.standard_normal((40, 30, 3, 3)).astype(np.float32),
    "state/a/bn1/scale": np.ones(40, np.float32),
    "state/a/bn1/sample_count": np.array(12, np.int64),
    "forward/a/conv1/output": random.standard_normal((2, 40, 8, 8)).astype(np.float32),
    "losses": random.standard_normal((20, 2)),
}


def of(arrays=None, folder: Path | None = None, **files: bytes) -> bytes:
    paths = {}
    for name, data in files.items():
        assert folder is not None
        (folder / name).write_bytes(data)
        paths[name] = str(folder / name)
    return recorded(arrays or ARRAYS, paths, PLAN, "hash", {"producer": "cntk"}, {"ledger": []})


@pytest.fixture
def made(tmp_path) -> Certificate:
    path = tmp_path / "one.certificate"
    path.write_bytes(of(folder=tmp_path, model=model()))
    return Certificate(str(path))


def model() -> bytes:
    return (b"head" + ARRAYS["state/a/conv1/weight"].tobytes() + b"between"
            + ARRAYS["state/a/bn1/scale"].tobytes() + b"tail")


def test_recording_twice_gives_the_same_bytes(tmp_path):
    assert of(folder=tmp_path, model=model()) == of(dict(reversed(ARRAYS.items())), tmp_path,
                                                    model=model())


def test_the_same_arrays_have_its_bits(made):
    assert list(made) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        found = made.compare(name, array)
        assert found is not None and found.bits and found.differing == 0


def test_one_ulp_anywhere_is_found_by_the_hash(made):
    for place in (0, 7_000, 10_799):
        moved = ARRAYS["state/a/conv1/weight"].copy()
        moved.flat[place] = np.nextafter(moved.flat[place], np.float32(9))
        found = made.compare("state/a/conv1/weight", moved)
        assert found is not None and not found.bits and found.compared == VALUES


def test_where_bits_differ_values_and_moments_are_compared(made):
    weight = ARRAYS["state/a/conv1/weight"]
    found = made.compare("state/a/conv1/weight", weight * np.float32(1 + 1e-3))
    assert found.differing == VALUES and 1e-4 < found.largest < 1e-2 and found.moments > 1e-4
    chosen = places("state/a/conv1/weight", weight.size, PLAN["seed"], VALUES)
    moved = weight.copy()
    moved.flat[chosen[3]] += 1
    found = made.compare("state/a/conv1/weight", moved)
    assert found.differing == np.count_nonzero(chosen == chosen[3]) and found.largest > 0.5


def test_another_shape_or_type_is_not_compared(made):
    scale = ARRAYS["state/a/bn1/scale"]
    assert made.compare("state/a/bn1/scale", scale.reshape(4, 10)) is None
    assert made.compare("state/a/bn1/scale", scale.astype(np.float64)) is None


def test_small_arrays_are_kept_whole(made):
    assert made.is_whole("losses") and made.is_whole("state/a/bn1/sample_count")
    assert not made.is_whole("state/a/conv1/weight")
    assert np.array_equal(made.kept("losses"), ARRAYS["losses"].ravel())
    assert len(places("x", SMALL, 0, VALUES)) == SMALL


def test_places_follow_from_seed_and_name():
    ours = places("a", 10_000, 5, VALUES)
    assert ours.tolist() == places("a", 10_000, 5, VALUES).tolist()
    assert ours.tolist() != places("a", 10_000, 6, VALUES).tolist()
    assert ours.tolist() != places("b", 10_000, 5, VALUES).tolist()
    assert ours[:3].tolist() == [4072, 9414, 6905]  # numpy's stream, the same in 1.17 and 2.x


def test_how_likely_wrong_values_are_missed():
    """Against a count: k wrong values of n, and draws of 200 places."""
    size, wrong = 1000, 10
    drawn = np.random.RandomState(0).randint(0, size, (20_000, VALUES))
    share = float(np.mean(np.all(drawn >= wrong, axis=1)))
    assert missed(size, VALUES, wrong) == pytest.approx(share, abs=0.01)
    assert missed(100, 100, 1) == 0.0


def test_an_attached_file_is_put_together_again(made):
    assert made.file("model", ARRAYS) == model()
    assert made.attached["model"]["pieces"] == [
        4, "state/a/conv1/weight", 7, "state/a/bn1/scale", 4]


def test_an_attached_file_of_other_weights_is_refused(made):
    other = {**ARRAYS, "state/a/conv1/weight": ARRAYS["state/a/conv1/weight"] * 2}
    with pytest.raises(CertificateError, match="weights are not those"):
        made.file("model", other)
    with pytest.raises(CertificateError, match="has no onnx"):
        made.file("onnx", ARRAYS)


def test_pieces_that_hide_in_each_other():
    """A layer of zeros, found inside a larger one, is written once."""
    arrays = {"large": np.zeros(100, np.float32), "small": np.zeros(50, np.float32)}
    data = b"x" + bytes(400) + b"y"
    pieces, rest = pieces_of(data, arrays)
    assert put_together(pieces, rest, arrays) == data


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


def edited(**changes: object) -> bytes:
    parts = members(of())
    head = json.loads(parts["certificate.json"])
    for path, value in changes.items():
        at = head
        *before, last = path.split("__")
        for key in before:
            at = at[key]
        at[last] = value
    return packed({**parts, "certificate.json": json.dumps(head).encode()})


ENTRY = {"dtype": "float32", "shape": [2], "sha256": "0" * 64, "moments": [0, 0, 0, 0]}
WRONG = {
    "nothing": b"",
    "text": b"a certificate",
    "no member": packed({}),
    "another member": packed({"../../evil": b"x"}),
    "a member too many": packed({**members(of()), "more": b""}),
    "no json": packed({**members(of()), "certificate.json": b"{"}),
    "a list": packed({**members(of()), "certificate.json": b"[]"}),
    "NaN": packed({**members(of()), "certificate.json": b'{"format": NaN}'}),
    "values too few": packed({**members(of()), "values.bin": b"1234"}),
    "pieces too many": packed({**members(of()), "pieces.bin": b"1234"}),
    "a bomb": packed({**members(of()), "values.bin": bytes(65 * 2 ** 20)}),
    "another format": edited(format=99),
    "no arrays": edited(arrays=None),
    "an object": edited(arrays={"a": {**ENTRY, "dtype": "object"}}),
    "a negative shape": edited(arrays={"a": {**ENTRY, "shape": [-1]}}),
    "a huge shape": edited(arrays={"a": {**ENTRY, "shape": [2 ** 62]}}),
    "a short hash": edited(arrays={"a": {**ENTRY, "sha256": "0"}}),
    "a path that climbs": edited(attached={"../x": {"size": 0, "sha256": "0" * 64, "pieces": []}}),
    "an unknown piece": edited(attached={"x": {"size": 0, "sha256": "0" * 64, "pieces": ["no"]}}),
    "a negative piece": edited(attached={"x": {"size": 0, "sha256": "0" * 64, "pieces": [-5]}}),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_certificates(tmp_path, what):
    path = tmp_path / "bad.certificate"
    path.write_bytes(WRONG[what])
    with pytest.raises(CertificateError) as refused:
        Certificate(str(path))
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert [one.name for one in tmp_path.iterdir()] == ["bad.certificate"]


def test_one_that_is_not_there(tmp_path):
    with pytest.raises(CertificateError, match="cannot be read"):
        Certificate(str(tmp_path / "none"))


def test_300_damaged_ones(tmp_path):
    """Cut, or with bytes changed: whole and right, or refused in one line; never anything else."""
    whole, path = of(), tmp_path / "damaged.certificate"
    random, refused = np.random.RandomState(3), 0
    for _ in range(300):
        data = bytearray(whole[:random.randint(1, len(whole))] if random.randint(2) else whole)
        for _ in range(random.randint(1, 4)):
            data[random.randint(len(data))] = random.randint(256)
        path.write_bytes(bytes(data))
        try:
            read = Certificate(str(path))
            for name in read:
                read.kept(name)
        except CertificateError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 290  # the others are as they were


def test_one_changed_byte_anywhere_is_found(tmp_path):
    """Of the members, and of the archive around them, where no checksum looks."""
    whole, path = of(folder=tmp_path, model=model()), tmp_path / "changed.certificate"
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        path.write_bytes(bytes(data))
        with pytest.raises(CertificateError):
            Certificate(str(path))


def test_every_certificate_that_is_kept_is_sealed():
    kept = sorted((ROOT / "golden").glob("*.certificate"))
    assert kept and all(certificate.is_sealed(path.read_bytes()) for path in kept)


HEAD = {"plan": (None, {}, {"seed": "x"}, {"seed": 5, "network": "a\nb"}, {"seed": 5, "x": []}),
        "plan_hash": (7,), "format": (True, "1", None), "values": (-1, 1e9, 2 ** 70),
        "facts": ([], {"ledger": 5}, {"no fact": 1}), "order": (["a"], 7),
        "made_by": (7, {"versions": []}, {"machine": "x"}, {"machine": {"flags": [1]}},
                    {"machine": {"packages": 7}}, {"machine": {"variables": {"a": {}}}},
                    {"machine": {"model": ["x"]}}, {"producer": "\ud800"}),
        "arrays": ([1], 7, {"a": {**ENTRY, "moments": [0, -1, 0, 0]}},
                   {"a": {**ENTRY, "moments": [0, 10 ** 400, 0, 0]}},
                   {"a": {**ENTRY, "shape": [1.5]}}, {"a": {**ENTRY, "shape": [10 ** 400]}},
                   {"a": {**ENTRY, "dtype": "a\nb"}}, {"a": {**ENTRY, "moments": ["0"] * 4}}),
        "attached": (7, {"x": 7}, {"x": {"size": 0, "sha256": 7, "pieces": 7}})}


@pytest.mark.parametrize("field", HEAD)
def test_what_is_of_another_form_is_refused_where_it_is_read(tmp_path, field):
    path = tmp_path / "bad.certificate"
    for value in HEAD[field]:
        path.write_bytes(edited(**{field: value}))
        with pytest.raises(CertificateError) as refused:
            Certificate(str(path))
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600, value


def test_what_is_no_number(tmp_path):
    """1e999 is infinite where JSON is read; kept values are numbers, but where gaps may be."""
    parts, path = members(of()), tmp_path / "bad.certificate"
    text = parts["certificate.json"].replace(b'"moments":[12.0', b'"moments":[1e999')
    assert text != parts["certificate.json"]
    path.write_bytes(packed({**parts, "certificate.json": text}))
    with pytest.raises(CertificateError, match="1e999"):
        Certificate(str(path))
    for name, fine in (("losses", False), ("program/run/events/d_and_g", True)):
        path.write_bytes(of({name: np.array([1.0, np.nan, 3.0])}))
        if not fine:
            with pytest.raises(CertificateError, match="losses holds NaN"):
                Certificate(str(path))
        else:
            assert Certificate(str(path)).entries[name]["moments"] == [2.0, 2.23606798, 1.0, 3.0]


def test_how_much_of_a_bomb_is_unpacked(tmp_path):
    """Lists in lists would take 25 times their bytes; a pipe would be waited for."""
    path = tmp_path / "bad.certificate"
    path.write_bytes(packed({**members(of()), "certificate.json": b"[" + b"[]," * 2 ** 24}))
    with pytest.raises(CertificateError, match="larger than 32 MB"):
        Certificate(str(path))
    path.write_bytes(bytes(33 * 2 ** 20))
    with pytest.raises(CertificateError, match="larger than 32 MB"):
        Certificate(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CertificateError, match="is no file"):
        Certificate(str(path))


def test_one_changed_byte_of_what_it_says_is_found(tmp_path):
    """The archive's own checksums, or the hash of the array, notice each."""
    parts = members(of())
    text = bytearray(parts["certificate.json"])
    at = text.index(b'"sha256":"') + 10
    text[at] = ord("0") if text[at] != ord("0") else ord("1")
    path = tmp_path / "changed.certificate"
    path.write_bytes(packed({**parts, "certificate.json": bytes(text)}))
    read = Certificate(str(path))
    assert sum(not read.compare(name, array).bits for name, array in ARRAYS.items()) == 1


def test_an_array_that_it_cannot_hold():
    with pytest.raises(CertificateError, match="complex"):
        of({"a": np.ones(2, np.complex64)})
    assert certificate.moments(np.zeros(0)) == [0.0] * 4


def test_it_is_as_the_published_schema_says(tmp_path):
    def said(data: bytes) -> list[str]:
        return list(misfits(json.loads(members(data)["certificate.json"]), schema("certificate")))

    assert said(of(folder=tmp_path, model=model())) == []
    assert said(edited(format=2)) == ["/format: not 1"]
    assert said(edited(arrays={"a": {**ENTRY, "sha256": "0"}}))[0].startswith(
        "/arrays/a/sha256: not of the form")
    assert said(edited(attached={"x": {"size": -1, "sha256": "0" * 64, "pieces": []}})) == [
        "/attached/x/size: below 0"]
