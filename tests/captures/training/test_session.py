"""The session around a training: nothing lost, nothing overwritten, everything refused by name.

The networks are tiny (toy.py), everything else is what both programs run with.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from captures.errors import DataError, ParityError, TrainingError
from captures.training import folder as run_folder
from captures.training.checkpoint import found, read_checkpoint, read_newest, weights_sha256
from captures.training.log import read_log
from captures.training.options import Settings, of_the_run
from tests.captures.training import toy
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.bmp"), np.full((8, 8, 3), i * 90, np.uint8))
    (folder / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(3)))
    return folder / "map.txt"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture(scope="module")
def whole(map_file, tmp_path_factory):
    """Nine iterations in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    toy.run(map_file, folder, 9)
    return folder


def final(folder):
    """What has to be the same: weights and all, the log, the pictures' names."""
    checkpoint = read_newest(folder)
    record = json.loads((folder / "run.json").read_text())
    assert record["weights_sha256"] == weights_sha256(checkpoint.arrays)
    return ({name: array.tobytes() for name, array in checkpoint.arrays.items()},
            checkpoint.latents, (folder / "dcgan.csv").read_bytes(),
            sorted(path.name for path in (folder / "dcgan_image").iterdir()))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -------------------------------------------------------------------------------- a run, resumed


def test_what_a_run_leaves(whole):
    assert names(whole) == [".lock", "checkpoints", "dcgan.csv", "dcgan_generator.model",
                            "dcgan_image", "events", "run.json", "samples"]
    assert [path.name for path in found(whole)] == ["iteration0000009", "iteration0000008"]
    assert [row[0] for row in read_log(whole / "dcgan.csv")] == list(range(1, 10))
    record = json.loads((whole / "run.json").read_text())
    assert record["status"] == "finished" and record["iterations"] == 9
    assert record["identity"]["data"]["images"] == 3


@pytest.mark.parametrize("first", [1, 4, 8])
def test_a_run_in_two_parts_is_the_run(map_file, folder, whole, first):
    toy.run(map_file, folder, first)
    toy.run(map_file, folder, 9, resume=True)
    assert final(folder) == final(whole)
    assert len(json.loads((folder / "run.json").read_text())["starts"]) == 2


def test_a_lost_iteration_would_show(map_file, folder, whole):
    toy.run(map_file, folder, 8)
    assert final(folder)[0] != final(whole)[0]


def test_a_finished_run_goes_on_with_nothing_and_stays_what_it_is(map_file, folder):
    toy.run(map_file, folder, 3)
    before = final(folder)
    toy.run(map_file, folder, 3, resume=True)
    assert final(folder) == before


# ------------------------------------------------------------------------------ signals and kills


def as_from_a_terminal():
    """A program under nohup keeps ignoring the signal; the tests may run under one themselves."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(map_file, folder, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.captures.training.toy", str(map_file), str(folder), "60",
         *options], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=as_from_a_terminal)  # noqa: PLW1509 - no thread is running here


def wait_for_iteration(folder, count):
    for _ in range(2000):
        if (folder / "dcgan.csv").exists() and \
                (folder / "dcgan.csv").read_bytes().count(b"\n") > count:
            return
        time.sleep(0.01)
    raise AssertionError(f"it never came to iteration {count}")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143),
                                            (signal.SIGHUP, 129)])
def test_a_signal_leaves_a_checkpoint_of_the_last_iteration(map_file, folder, number, status):
    process = start(map_file, folder, "seconds=0.05", "every=1000")
    wait_for_iteration(folder, 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    newest = read_newest(folder)
    assert newest.iteration == len(read_log(folder / "dcgan.csv")) >= 3
    assert f"stopped by {signal.Signals(number).name}" in err and "--resume" in err
    assert (folder / "dcgan_generator.model").exists()


def test_kill_at_random_moments(map_file, folder, tmp_path):
    """Whatever was being written, going on ends with the bits of a run that was never killed."""
    toy.run(map_file, tmp_path / "never killed", 60)
    moments, kills = random.Random(5), 0
    for _ in range(40):
        resume = ["resume"] if (folder / "run.json").exists() else []
        if folder.exists() and not resume:
            shutil.rmtree(folder)  # it was killed before it was a run
        process = start(map_file, folder, "seconds=0.01", *resume)
        if kills < 5:
            wait = moments.uniform(0.0, 0.3)
            wait_for_iteration(folder, 0)
            time.sleep(wait)
            process.kill()
            kills += 1
        _, err = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert kills == 5 and final(folder) == final(tmp_path / "never killed")


# -------------------------------------------------------------------------------- what is refused


def refused(*arguments, **given):
    with pytest.raises(ParityError) as caught:
        toy.run(*arguments, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_is_not_overwritten_silently(map_file, folder):
    toy.run(map_file, folder, 4)
    before = final(folder)
    said = refused(map_file, folder, 2)
    assert "holds a run of 4 of 4 iterations" in said and "--overwrite" in said
    assert "4 iterations, 2 are asked for" in refused(map_file, folder, 2, resume=True)
    assert final(folder) == before
    toy.run(map_file, folder, 2, overwrite=True)
    assert read_newest(folder).iteration == 2 and len(found(folder)) == 1


def test_what_is_of_no_run_is_not_deleted(map_file, folder):
    theirs = folder / "samples" / "mine.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    assert "samples is there, and no run that it is of" in refused(
        map_file, folder, 2, overwrite=True)
    assert theirs.read_text() == "precious"


@pytest.mark.parametrize("option", ["output_dir", "map_file"])
def test_an_empty_path(option, map_file, folder):
    given = {"iterations": 1, "map_file": str(map_file), "output_dir": str(folder), option: ""}
    with pytest.raises(TrainingError, match="is empty: give a path"):
        Settings.make(**given)


def test_a_folder_in_use(map_file, folder):
    with run_folder.locked(folder):
        said = refused(map_file, folder, 2)
    assert f"is in use by another run (process {os.getpid()})" in said and "--output-dir" in said


def test_nothing_to_resume(map_file, folder):
    assert "holds no run to go on with: begin without --resume" in refused(
        map_file, folder, 2, resume=True)
    assert not folder.exists()


@pytest.mark.parametrize("edit, expected", [
    ({"program": 5}, "its program is no str"),
    ({"changes": {}}, "its changes is no list"),
    ({"iterations": None}, "its iterations is no int"),
    ({"settings": {"map_file": None}}, "says map_file is None: give --map-file"),
    ({"settings": {"unit_gain": "yes"}}, "says unit_gain is 'yes': give --unit-gain"),
    ({"settings": {"iterations": [3]}}, "says iterations is [3]: give --iterations"),
])
def test_an_edited_record(map_file, folder, edit, expected):
    toy.run(map_file, folder, 2)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, **edit}))
    with pytest.raises(TrainingError) as caught:
        of_the_run(folder, {"resume": True}, set())
    assert expected in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_quiet_run_says_nothing(map_file, folder, capfd, quiet):
    said = []
    toy.run(map_file, folder, 2, say=said.append, quiet=quiet)
    toy.run(map_file, folder, 4, say=said.append, resume=True, quiet=quiet)
    out, err = capfd.readouterr()
    assert ("iteration 4 of 4" in err) != quiet and bool(out + err + "".join(said)) != quiet
    assert "quiet" not in json.loads((folder / "run.json").read_text())["settings"]


@pytest.mark.parametrize("given, expected", [
    ({"seed": 8}, "the run's seed is 0, now it is 8: go on with --seed as it was"),
    ({"minibatch_size": 3}, "the run's minibatch size is 2, now it is 3: go on with"),
    ({"unit_gain": True}, "the run's unit gain is False, now it is True: go on with --unit-gain"),
    ({"identity": {"threads": 4}}, "the run's cntk_threads is 2, now it is 4: go on as it was, or "
                                   "with the change by --accept threads"),
    ({"identity": {"arithmetic": "other"}}, "--accept arithmetic"),
])
def test_another_run_is_refused_by_name(map_file, folder, given, expected):
    toy.run(map_file, folder, 2)
    before = final(folder)
    assert expected in refused(map_file, folder, 4, resume=True, **given)
    assert final(folder) == before


def test_images_replaced_under_the_same_names_are_noticed(map_file, folder, tmp_path):
    """And a repaired data set is resumed on request, which the run says from then on."""
    shutil.copytree(map_file.parent, tmp_path / "images")
    mine = tmp_path / "images" / "map.txt"
    toy.run(mine, folder, 2)
    cv2.imwrite(str(tmp_path / "images" / "1.bmp"), np.full((8, 8, 3), 7, np.uint8))
    said = refused(mine, folder, 4, resume=True)
    assert "the run's data is 3 images with the hash" in said and "--accept data" in said
    heard = []
    toy.run(mine, folder, 4, resume=True, accept=("data",), say=heard.append)
    toy.run(mine, folder, 5, resume=True, say=heard.append)
    assert len([one for one in heard if "was changed behind iteration 2: data" in one]) == 2
    (change,) = json.loads((folder / "run.json").read_text())["changes"]
    assert change["what"] == "data" and change["behind iteration"] == 2


def test_fewer_images_than_a_minibatch(map_file, folder):
    assert "names 3 images, fewer than the 4 of one minibatch" in refused(
        map_file, folder, 2, minibatch_size=4)
    assert not folder.exists()


@pytest.mark.parametrize("given, expected", [
    ({"iterations": 0}, "--iterations is 0: give at least 1"),
    ({"seed": 2 ** 32}, "--seed is 4294967296: give at least 0 and at most 4294967295"),
    ({"checkpoint_minutes": float("inf")}, "--checkpoint-minutes is inf: give a number"),
    ({"minibatch_size": "x"}, "--minibatch-size is 'x': give a number"),
    ({"accept": ("data",)}, "give it with --resume"),
    ({"resume": True, "overwrite": True}, "contradict each other"),
    ({"checkpoint_iterations": 0}, "are both 0"),
])
def test_options(map_file, folder, given, expected):
    given = {"iterations": 2, **given}
    assert expected in refused(map_file, folder, **given)
    assert not folder.exists()


def test_no_room(map_file, folder, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    said = refused(map_file, folder, 2)
    assert "the run needs about" in said and "free space there" in said and not folder.exists()


def test_the_output_folder_is_a_file(map_file, folder):
    folder.write_text("")
    assert "cannot be written (File exists)" in refused(map_file, folder, 2)


# -------------------------------------------------------------------------------------- not finite


def test_a_loss_that_is_not_finite_stops_the_run(map_file, folder):
    said = refused(map_file, folder, 9, nan=6)
    assert said.startswith("D_loss is nan in iteration 6; it began in discriminator/conv1. The "
                           f"last good checkpoint is {folder / 'checkpoints' / 'iteration0000004'}")
    assert read_newest(folder).iteration == 4
    assert json.loads((folder / "run.json").read_text())["status"] == "not finite"
    toy.run(map_file, folder, 9, resume=True)
    assert read_newest(folder).iteration == 9


def test_an_image_that_fails_keeps_what_was_done(map_file, folder, monkeypatch):
    def fails(self):
        steps = real(self)
        yield next(steps)
        raise DataError("an image does not decode")
    real = toy.Toy.iterations
    monkeypatch.setattr(toy.Toy, "iterations", fails)
    assert refused(map_file, folder, 9) == "an image does not decode"
    assert read_newest(folder).iteration == 1


# ------------------------------------------------------------------------------ damaged checkpoints


def damage(path, how, generator):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:generator.randrange(len(content))]
    elif how == "byte":
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif how == "empty":
        content = bytearray()
    elif how == "garbage":
        content = bytearray(generator.randrange(256) for _ in range(100))
    elif how == "more":
        content += b"\0"
    path.write_bytes(content)
    if how == "gone":
        path.unlink()


def test_fifty_damaged_checkpoints(whole, tmp_path):
    """A message each; and the older checkpoint is taken in place of the newer."""
    generator = random.Random(1)
    for i in range(50):
        folder = tmp_path / str(i)
        shutil.copytree(whole, folder)
        newest = found(folder)[0]
        file = newest / ("state.npz", "dcgan.csv", "manifest.json")[i % 3]
        before = file.read_bytes()
        damage(file, ("cut", "byte", "empty", "garbage", "more", "gone")[i % 6], generator)
        same = file.exists() and (file.read_bytes() == before or (
            file.name == "manifest.json" and _same_json(file.read_bytes(), before)))
        if not same:
            with pytest.raises(TrainingError, match=r"checkpoint") as caught:
                read_checkpoint(newest)
            assert "\n" not in str(caught.value) and str(newest) in str(caught.value)
            heard = []
            assert read_newest(folder, heard.append).iteration == 8 and len(heard) == 1
        shutil.rmtree(folder)


def _same_json(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def test_a_checkpoint_of_other_networks(map_file, folder, monkeypatch):
    toy.run(map_file, folder, 2)
    larger = toy.SPEC._replace(critic=toy.DCGAN.critic)
    monkeypatch.setattr(toy, "SPEC", larger)
    assert "the run's network is a toy" in refused(map_file, folder, 4, resume=True)


def test_a_half_written_checkpoint_is_none(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    newest = found(tmp_path / "run")[0]
    newest.rename(newest.with_name(newest.name + ".part"))
    assert read_newest(tmp_path / "run").iteration == 8
