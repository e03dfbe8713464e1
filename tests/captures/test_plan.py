"""Plans: values in range, images known by content, one line for every bad input."""
import json
import shutil

import numpy as np
import pytest

from captures.errors import ParityError
from captures.plan import FIELDS, LARGEST_SEED, Latents, Plan


def grey(value):
    """A PGM file of one pixel."""
    return b"P5 1 1 255\n%c" % value


THREE = (grey(1), grey(2), grey(3))


def images(folder, contents=THREE, prefix="..."):
    """A map file of images of these bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"{i}.bmp").write_bytes(content)
    map_file = folder / "map.txt"
    map_file.write_text("".join(f"{prefix}/{i}.bmp\t0\n" for i in range(len(contents))))
    return map_file


@pytest.fixture
def map_file(tmp_path):
    return images(tmp_path / "images")


def refusal(function, *arguments, **named):
    """The message of the ParityError that the call raises: one line that names the mend."""
    with pytest.raises(ParityError) as caught:
        function(*arguments, **named)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def test_defaults(map_file):
    plan = Plan.make(map_file)
    assert {field[0]: field[1] for field in FIELDS} == {
        name: value for name, value in plan._asdict().items()
        if name not in ("map_file", "images_sha256", "spec")}
    assert plan.map_file == str(map_file)


@pytest.mark.parametrize("name, lowest, highest", [(f[0], f[2], f[3]) for f in FIELDS])
def test_ranges(map_file, name, lowest, highest):
    for value in (lowest, highest):
        assert getattr(Plan.make(map_file, **{name: value}), name) == value
    for value in (lowest - 1, highest + 1, float(lowest), str(lowest), None, True):
        message = refusal(Plan.make, map_file, **{name: value})
        assert name in message and f"{lowest} .. {highest}" in message


def test_an_unknown_name(map_file):
    message = refusal(Plan.make, map_file, minibatches=4)
    assert "'minibatches'" in message and "minibatch_size" in message


def test_with_values_changes_one_and_checks_it(map_file):
    plan = Plan.make(map_file, seed=3)
    other = plan.with_values(minibatch_size=2)
    assert other == plan._replace(minibatch_size=2)
    assert "minibatch_size" in refusal(plan.with_values, minibatch_size=0)


def test_the_hash_is_of_the_images_and_not_of_their_folder(tmp_path):
    here = Plan.make(images(tmp_path / "here"))
    moved = Plan.make(images(tmp_path / "elsewhere", prefix=str(tmp_path / "elsewhere")))
    assert here.map_file != moved.map_file
    assert here.hash == moved.hash
    assert "map_file" not in here.inputs


@pytest.mark.parametrize("contents", [
    (grey(1), grey(2), grey(4)),  # another byte
    (grey(2), grey(1), grey(3)),  # another order
    (grey(1), grey(2)),
    (grey(1), grey(2) + b"P", grey(3)),  # the same pixels, another file
])
def test_other_images_are_another_plan(tmp_path, map_file, contents):
    assert Plan.make(images(tmp_path / "other", contents)).hash != Plan.make(map_file).hash


def test_every_value_is_in_the_hash(map_file):
    plan = Plan.make(map_file)
    others = [plan.with_values(**{name: lowest if default != lowest else lowest + 1})
              for name, default, lowest, _, _ in FIELDS]
    assert len({plan.hash, *(other.hash for other in others)}) == len(FIELDS) + 1


def test_round_trip(tmp_path, map_file):
    plan = Plan.make(map_file, seed=LARGEST_SEED, unit_gain=1)
    path = str(tmp_path / "plan.json")
    plan.save(path)
    assert Plan.load(path) == plan
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "plan.json"]


def test_changed_images_are_refused(tmp_path, map_file):
    path = str(tmp_path / "plan.json")
    Plan.make(map_file).save(path)
    (map_file.parent / "1.bmp").write_bytes(grey(9))
    message = refusal(Plan.load, path)
    assert str(map_file) in message and "restore them" in message


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "{\"seed\": 0}", "\x00\xff"])
def test_a_file_that_is_no_plan(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("latin-1"))
    assert f"{path} is not a plan" in refusal(Plan.load, str(path))
    path.unlink()
    assert f"{path} is not a plan" in refusal(Plan.load, str(path))


def test_a_plan_whose_value_was_edited_out_of_range(tmp_path, map_file):
    path = tmp_path / "plan.json"
    Plan.make(map_file).save(str(path))
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": -1}))
    assert "seed is -1" in refusal(Plan.load, str(path))


@pytest.mark.parametrize("text, expected", [
    ("", "is empty"),
    ("\n", "line 1: '' is not of the form"),
    (".../0.bmp 0\n", "line 1: '.../0.bmp 0' is not of the form"),
    (".../0.bmp\t0\n.../missing.bmp\t0\n", "line 2: there is no file"),
    (".../0.bmp\t0\n...\t0\n", "is a folder"),
    ("BM\0\t0" + 500 * "\xff" + "\n", "line 1: 'BM\\x00\\t0"),  # an image given for a map file
])
def test_bad_map_files(map_file, text, expected):
    map_file.write_text(text)
    message = refusal(Plan.make, map_file)
    assert str(map_file) in message and expected in message and len(message) < 1000


def test_no_map_file(tmp_path):
    message = refusal(Plan.make, tmp_path / "none.txt")
    assert "none.txt" in message and "make data" in message and "--map-file" in message


def test_names_that_are_not_utf8(tmp_path):
    """File names are bytes."""
    folder = tmp_path / "latin"
    folder.mkdir()
    (folder / "0.bmp").write_bytes(grey(1))
    shutil.copy(folder / "0.bmp", bytes(folder) + b"/\xe9.bmp")
    (folder / "map.txt").write_bytes(b".../0.bmp\t0\n.../\xe9.bmp\t0\n")
    assert Plan.make(folder / "map.txt").hash == Plan.make(
        images(tmp_path / "ascii", (grey(1), grey(1)))).hash


def test_latents_are_the_articles():
    """np.random.normal in float64, rounded; a minibatch goes on where the last one stopped."""
    latents = Latents(7)
    got = np.concatenate([latents.next(3), latents.next(1)])
    expected = np.random.RandomState(7).normal(size=(4, 100))
    assert got.dtype == np.float32 and np.array_equal(got, expected.astype(np.float32))
    assert not np.array_equal(got, Latents(8).next(4))
