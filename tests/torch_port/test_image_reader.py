"""The reader against CNTK's own, bit for bit: order, augmentation, scaling, resuming, workers.

CNTK runs in three processes: the orders, the pixels, the complaints. Each check has a twin in which
a planted mistake makes it fail. `behaviours` gives the measurements for the table in the docs.
"""
import functools
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from captures.errors import DataError, ReaderError
from captures.map_file import read_map_file
from torch_port.mersenne import Mersenne64
from torch_port.reader import augmentation, order
from torch_port.reader import reader as image_reader
from torch_port.reader.augmentation import Draws, augmentation_draws
from torch_port.reader.order import ends_sweep, sample_indices, sample_order
from torch_port.reader.reader import ImageReader

ORDERS = {  # name: (images, randomization seed, minibatch size, minibatches)
    "seed0": (612, 0, 16, 77),  # two sweeps and a little
    "seed1": (612, 1, 16, 77),
    "seed7": (612, 7, 16, 77),
    "wrapping": (300, 2**64 - 1, 16, 38),
    "count1": (1, 0, 3, 2),
    "count5": (5, 0, 2, 8),
    "larger": (5, 0, 16, 3),  # than the data set
    "count127": (127, 0, 4, 65),
    "count128": (128, 0, 4, 65),
    "count129": (129, 0, 4, 65),
    "count130": (130, 0, 4, 66),
    "count300": (300, 3, 50, 12),
}
SHAPES = [(218, 178), (512, 512), (100, 60), (256, 256), (333, 480), (97, 41), (512, 256)]  # H, W
SIZES = {1: 5, 4: 4, 5: 4, 16: 3}  # minibatch size: minibatches, of SHAPES' 7 images


# ------------------------------------------------------------------------ images, and CNTK's view

def photo(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth colours with noise, both ends of the range and some exact greys."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    image += random.randint(-12, 13, image.shape).astype(np.int16)
    image[:height // 8] = image[:height // 8, :, :1]
    return np.clip(image, 0, 255).astype(np.uint8)


def write_images(folder: Path, images: list[np.ndarray]) -> Path:
    """BMP files and their map file, which names them with the folder prefix."""
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.bmp"), image)
    map_file = folder / "map.txt"
    map_file.write_text("".join(f".../{index}.bmp\t0\n" for index in range(len(images))))
    return map_file


@functools.cache
def made(folder: str) -> dict[str, Path]:
    """Map files: coded images, of which pixel (0, 0) tells the index, and photos."""
    root = Path(folder)
    maps = {}
    coded = write_images(root / "coded", [np.full((2, 2, 3), (i % 256, i // 256, 9), np.uint8)
                                          for i in range(max(o[0] for o in ORDERS.values()))])
    lines = coded.read_text().splitlines(keepends=True)
    for name, (count, *_rest) in ORDERS.items():
        maps[name] = coded.with_name(f"{name}.txt")
        maps[name].write_text("".join(lines[:count]))
    maps["mixed"] = write_images(root / "mixed", [photo(i, *s) for i, s in enumerate(SHAPES)])
    maps["same"] = write_images(root / "same", [photo(i, 70, 90) for i in range(5)])
    maps["calibration"] = write_images(root / "calibration", [augmentation.calibration_image()])
    return maps


@pytest.fixture(scope="session")
def maps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return made(str(tmp_path_factory.getbasetemp() / "image_reader"))


@pytest.fixture(scope="session", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    (tmp_path_factory.getbasetemp() / "image_reader").mkdir(exist_ok=True)


def cntk_orders(cntk: Any, maps: dict[str, Path]) -> dict[str, np.ndarray]:
    return cntk.run("image_reader.py", *(
        f"job={name};map={maps[name]};shape=2,2;seed={seed};size={size};minibatches={minibatches}"
        for name, (_, seed, size, minibatches) in ORDERS.items()))


PIXEL_JOBS = {
    "brightness_contrast": "map=same;shape=90,70;color=.2,.2,0;size=4;minibatches=4",
    "brightness": "map=same;shape=90,70;color=.3,0,0;size=4;minibatches=2",
    "contrast": "map=same;shape=90,70;color=0,.9,0;size=4;minibatches=2",
    "saturation": "map=same;shape=90,70;color=0,0,.6;size=4;minibatches=2",
    "color": "map=same;shape=90,70;color=.2,.2,.2;size=4;minibatches=4;seed=7",
    "scale": "map=mixed;shape=256,256;scale=1;size=4;minibatches=2",
    "larger": "map=mixed;shape=300,140;scale=1;color=.2,.2,.2;size=4;minibatches=2",
    "calibration": "map=calibration;shape=40,53;scale=1;color=.2,.2,.2;size=1;minibatches=1",
    **{f"one_image_seed{seed}": "map=calibration;shape=40,53;scale=1;color=.2,.2,.2;size=4;"
                                f"minibatches=2;seed={seed}" for seed in (0, 7)},
    **{f"size{size}": f"map=mixed;shape=256,256;scale=1;color=.2,.2,.2;size={size};"
                      f"minibatches={minibatches}" for size, minibatches in SIZES.items()},
}


def parsed(job: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in job.split(";"))


def cntk_pixels(cntk: Any, maps: dict[str, Path], *first: str) -> dict[str, np.ndarray]:
    return cntk.run("image_reader.py", *first, *(
        f"job={name};{job.replace('map=', 'map=' + str(maps[parsed(job)['map']]) + ';was=')}"
        for name, job in PIXEL_JOBS.items()))


def port_reader(maps: dict[str, Path], job_name: str, **more: Any) -> ImageReader:
    job = parsed(PIXEL_JOBS[job_name])
    width, height = (int(part) for part in job["shape"].split(","))
    return ImageReader(maps[job["map"]], int(job["size"]), width=width, height=height,
                       randomization_seed=int(job.get("seed", 0)),
                       color_radii=[float(part) for part in job.get("color", "0,0,0").split(",")],
                       **{"stop_step": int(job["minibatches"]), **more})


def differing(cntk: Any, maps: dict[str, Path], job_name: str) -> int:
    """How many values of the job's minibatches are not CNTK's."""
    theirs = cntk_pixels(cntk, maps)[f"{job_name}/features"]
    ours = torch.stack([batch.clone() for batch in port_reader(maps, job_name)]).numpy()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return int(np.count_nonzero(ours != theirs))


# ------------------------------------------------------------------------------------- the order

def wrong_places(cntk: Any, maps: dict[str, Path], name: str) -> int:
    """How many samples of the run are another image than CNTK's."""
    count, seed, size, minibatches = ORDERS[name]
    features = cntk_orders(cntk, maps)[f"{name}/features"][..., 0, 0]
    theirs = features[..., 0].astype(int) + 256 * features[..., 1].astype(int)
    ours = np.stack([order.sample_indices(step, size, count, seed,
                                                 functools.cache(order.sample_order))
                     for step in range(minibatches)])
    assert ours.shape == theirs.shape
    return int(np.count_nonzero(ours != theirs))


@pytest.mark.parametrize("name", ORDERS)
def test_order_is_cntks(cntk, maps, name):
    assert wrong_places(cntk, maps, name) == 0


def test_known_order():
    assert sample_order(5, 0).tolist() == [2, 4, 1, 0, 3]
    assert sample_order(300, 1, 0).tolist() == sample_order(300, 0, 1).tolist()


def fisher_yates(count, sweep, seed=0):
    places = list(range(count))
    outputs = Mersenne64((seed + sweep) % 2**64).outputs(count).tolist()
    for i in range(count - 1, 0, -1):
        j = outputs[i] % (i + 1)
        places[i], places[j] = places[j], places[i]
    return np.array(places)


def first_stage_only(count, sweep, seed=0):
    places = list(range(count))
    for i, o in enumerate(Mersenne64((seed + sweep) % 2**64).outputs(count).tolist()):
        places[i], places[o % count] = places[o % count], places[i]
    return np.array(places)


def one_stream_for_all_sweeps(count, sweep, seed=0):
    return sample_order(count, 0, seed)


def last_minibatch_dropped(step, size, count, seed=0, order=sample_order):
    sweep, place = divmod(step, count // size)
    return order(count, sweep, seed)[place * size:(place + 1) * size]


@pytest.mark.parametrize(("piece", "mistake", "name"), [
    ("sample_order", fisher_yates, "seed0"),
    ("sample_order", first_stage_only, "seed0"),
    ("sample_order", first_stage_only, "count129"),
    ("sample_order", one_stream_for_all_sweeps, "seed0"),
    ("sample_indices", last_minibatch_dropped, "seed0"),
])
def test_order_with_a_mistake_is_not_cntks(cntk, maps, monkeypatch, piece, mistake, name):
    monkeypatch.setattr(order, piece, mistake)
    assert wrong_places(cntk, maps, name) > 0


@pytest.mark.parametrize("window", [127, 129])
def test_order_with_another_window_is_not_cntks(cntk, maps, monkeypatch, window):
    monkeypatch.setattr(order, "WINDOW", window)
    assert wrong_places(cntk, maps, "seed0") > 0


def flags_differ(cntk: Any, maps: dict[str, Path], flag: Any) -> bool:
    answers = cntk_orders(cntk, maps)
    return any([flag(step, size, count) for step in range(minibatches)]
               != answers[f"{name}/end_of_sweep"].tolist()
               for name, (count, _, size, minibatches) in ORDERS.items())


def test_sweep_ends(cntk, maps):
    assert not flags_differ(cntk, maps, ends_sweep)
    for name, (_, _, size, _) in ORDERS.items():
        assert set(cntk_orders(cntk, maps)[f"{name}/samples"].tolist()) == {size}


def test_sweep_ends_with_a_mistake(cntk, maps):
    assert flags_differ(cntk, maps, lambda step, size, count: (step + 1) * size % count == 0)


# ------------------------------------------------------------------------------------- the pixels

@pytest.mark.parametrize("job", PIXEL_JOBS)
def test_every_value_is_cntks(cntk, maps, job):
    assert augmentation.bit_exact()
    assert differing(cntk, maps, job) == 0


def test_bit_exact_is_cntks_own_hash(cntk, maps, monkeypatch):
    import hashlib
    done = cntk_pixels(cntk, maps)["calibration/features"]
    assert hashlib.sha256(done.tobytes()).hexdigest() == augmentation._CALIBRATION_BY_CNTK
    monkeypatch.setattr(augmentation, "_CALIBRATION_BY_CNTK", "of something else")
    assert not augmentation.bit_exact()


def test_cntk_does_not_depend_on_its_threads(cntk, maps):
    one, default = cntk_pixels(cntk, maps, "threads=1"), cntk_pixels(cntk, maps)
    assert all(np.array_equal(one[name], default[name]) for name in default)


def raw(position: int, start: int, count: int) -> list[int]:
    return np.random.RandomState(position).randint(0, 2**32, start + count, dtype=np.uint32)[
        start:].tolist()


def uniform(k: float, radius: float = 0.2) -> float:
    return k / 2**32 * (radius + radius) - radius


def one_generator_for_all(position, step, radii):
    return Draws(*map(uniform, raw(0, 3 * (step * 4 + position), 3)))


def begun_anew_each_minibatch(position, step, radii):
    return Draws(*map(uniform, raw(position, 0, 3)))


def brightness_after_contrast(position, step, radii):
    contrast, brightness, saturation = map(uniform, raw(position, 3 * step, 3))
    return Draws(brightness, contrast, saturation)


def two_outputs_each(position, step, radii):
    k = raw(position, 6 * step, 6)
    return Draws(*(uniform(k[2 * i] + k[2 * i + 1] / 2**32) for i in range(3)))


def seeded_by_image(position, step, radii):
    return augmentation_draws(position + 1, step, radii)


def rgb(entry, where):
    return cv2.cvtColor(cv2.imread(str(entry.path)), cv2.COLOR_BGR2RGB)


def contrast_about_the_mean(image, brightness, contrast, saturation=None):
    mean = image.mean(dtype=np.float64)
    return _color(image, brightness - contrast, contrast, saturation) if mean else image


def brightness_multiplied(image, brightness, contrast, saturation=None):
    return _color(image, 0.0, (1 + brightness) * (1 + contrast) - 1, saturation)


def saturation_towards_grey(image, brightness, contrast, saturation=None):
    pixels = _color(image, brightness, contrast)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
    return np.clip(pixels + (pixels - grey) * np.float32(saturation or 0), 0, 255)


def area(image, width, height):
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def scaled_in_bytes(image, width, height):
    return cv2.resize(image.round().astype(np.uint8), (width, height)).astype(np.float32)


def aspect_ratio_kept(image, width, height):
    side = min(image.shape[:2])
    return cv2.resize(np.ascontiguousarray(image[:side, :side]), (width, height))


def width_for_height(image, width, height):
    return _scale(image.transpose(1, 0, 2).copy(), height, width).transpose(1, 0, 2).copy()


_color, _scale, _decode = augmentation.apply_color, augmentation.scale, image_reader.decode


@pytest.mark.parametrize(("piece", "mistake", "job"), [
    ("augmentation_draws", one_generator_for_all, "color"),
    ("augmentation_draws", begun_anew_each_minibatch, "color"),
    ("augmentation_draws", brightness_after_contrast, "color"),
    ("augmentation_draws", two_outputs_each, "color"),
    ("augmentation_draws", seeded_by_image, "color"),
    ("augmentation_draws", one_generator_for_all, "brightness_contrast"),
    ("decode", rgb, "color"),
    ("apply_color", contrast_about_the_mean, "brightness_contrast"),
    ("apply_color", brightness_multiplied, "brightness_contrast"),
    ("apply_color", saturation_towards_grey, "saturation"),
    ("scale", area, "size4"),
    ("scale", scaled_in_bytes, "size4"),
    ("scale", aspect_ratio_kept, "size4"),
    ("scale", width_for_height, "size16"),
    ("sample_order", fisher_yates, "size4"),
    ("sample_indices", last_minibatch_dropped, "size5"),
])
def test_pixels_with_a_mistake_are_not_cntks(cntk, maps, monkeypatch, piece, mistake, job):
    monkeypatch.setattr(image_reader, piece, mistake)
    assert differing(cntk, maps, job) > 0


def test_scaling_before_colour_is_not_cntks(cntk, maps, monkeypatch):
    monkeypatch.setattr(image_reader, "decode",
                        lambda path, where: cv2.resize(_decode(path, where), (256, 256)))
    assert differing(cntk, maps, "size4") > 0


def test_newer_code_of_opencv_rounds_differently(cntk, maps, monkeypatch):
    """Why the reader switches it off: it is near (2.5e-4 of 255 was seen), not equal."""
    monkeypatch.setattr(augmentation, "_round_as_cntk", lambda: cv2.setUseOptimized(True))
    assert not augmentation.bit_exact()
    assert differing(cntk, maps, "color") > 0
    assert differing(cntk, maps, "size4") > 0


def test_draws_of_a_late_step_come_from_the_same_stream():
    for position, step in ((0, 0), (3, 255), (3, 256), (15, 1000), (2, 50_000)):
        assert augmentation_draws(position, step) == Draws(
            *map(uniform, raw(position, 3 * step, 3)))
    assert augmentation_draws(1, 700, (0.2, 0.0, 0.2)) == Draws(
        uniform(raw(1, 1400, 1)[0]), 0.0, uniform(raw(1, 1401, 1)[0]))
    assert augmentation_draws(1, 700, (0.2, 0.2, 0)).saturation is None


def test_the_generator_is_the_standards():
    """The 10000th output of std::mt19937 of its default seed, as the C++ standard gives it."""
    assert raw(5489, 9999, 1) == [4123659995]


# --------------------------------------------------------- resuming, threads, workers, being used

def all_of(reader: Any) -> list[torch.Tensor]:
    return [batch.clone() for batch in reader]


def small(maps: dict[str, Path], **more: Any) -> ImageReader:
    return ImageReader(maps["mixed"], 5, **{"width": 32, "height": 24, "stop_step": 6, **more})


@pytest.mark.parametrize("step", range(7))
def test_resumes_at_any_step(maps, step):
    whole = all_of(small(maps))
    begun = small(maps)
    taken = [batch.clone() for _, batch in zip(range(step), begun, strict=False)]
    state = json.loads(json.dumps(begun.state_dict(len(taken))))
    resumed = small(maps)
    resumed.load_state_dict(state)
    assert resumed.step == step
    rest = all_of(resumed)
    assert len(rest) == 6 - step and resumed.step == 6
    for got, expected in zip(taken + rest, whole, strict=True):
        assert torch.equal(got, expected)
    assert all(map(torch.equal, all_of(small(maps, start_step=step)), whole[step:]))


def test_resumed_minibatches_are_cntks(cntk, maps):
    theirs = cntk_pixels(cntk, maps)["size5/features"]
    late = all_of(port_reader(maps, "size5", start_step=2))
    assert len(late) == 2 and np.array_equal(torch.stack(late).numpy(), theirs[2:])


def test_resuming_one_step_off_is_seen(maps):
    whole = all_of(small(maps))
    assert not any(map(torch.equal, all_of(small(maps, start_step=2)), whole[3:]))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_the_result(maps, threads):
    assert all(map(torch.equal, all_of(small(maps, threads=threads)), all_of(small(maps))))


# Python 3.12 and later warn of every fork of a process with threads; a DataLoader forks.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # than processors
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_workers_do_not_change_the_result_or_its_order(maps, workers):
    def loaded(**more: Any) -> list[torch.Tensor]:
        return all_of(DataLoader(small(maps, **more), batch_size=None, num_workers=workers))

    whole = all_of(small(maps))
    got = loaded()
    assert len(got) == 6 and all(map(torch.equal, got, whole))
    late = loaded(start_step=3)
    assert len(late) == 3 and all(map(torch.equal, late, whole[3:]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_worker_that_takes_no_share_is_seen(maps, monkeypatch):
    """The mistake of most iterable data sets: every worker gives every minibatch."""
    whole = all_of(small(maps))
    monkeypatch.setattr(image_reader, "get_worker_info", lambda: None)
    got = all_of(DataLoader(small(maps, threads=1), batch_size=None, num_workers=2))
    assert len(got) != 6 or not all(map(torch.equal, got, whole))


def test_memory_that_a_tensor_holds_is_left_alone(maps):
    whole = all_of(small(maps, threads=1))
    kept = list(small(maps, threads=1))  # no copies: six minibatches alive at once
    assert all(map(torch.equal, kept, whole))
    reader = small(maps, threads=1)
    part = next(iter(reader))[0, 1:]  # only a view of the first minibatch lives on
    for _ in reader:
        pass
    assert torch.equal(part, whole[0][0, 1:])
    used_again = {reader.minibatch(step).data_ptr() for step in range(6)}
    assert len(used_again) == 1


def test_a_reader_can_be_sent_to_another_process(maps):
    reader = small(maps, threads=2)
    first = next(iter(reader)).clone()
    again = pickle.loads(pickle.dumps(reader))
    assert again.step == 1 and torch.equal(again.minibatch(0), first)


def test_endless_without_a_stop_and_sweeps_are_told(maps):
    reader = small(maps, stop_step=None)
    assert [bool(reader.end_of_sweep(step)) for step in range(4)] == [False, True, True, False]
    for _, batch in zip(range(4), reader, strict=False):
        assert batch.shape == (5, 3, 24, 32) and batch.dtype == torch.float32
    assert reader.indices(1).tolist() == sample_indices(1, 5, 7).tolist()


# -------------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize(("text", "told"), [("", "is empty"), ("0.bmp 0\n", "not of the form"),
                                             ("0.bmp\t0\n1.bmp\t0\n", "line 2: .* is cut short")])
def test_a_bad_data_set(tmp_path, monkeypatch, text, told):
    """The forms of map files and of images have tests of their own."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("0.bmp", photo(0, 20, 20))
    Path("1.bmp").write_bytes(Path("0.bmp").read_bytes()[:-1])
    Path("map.txt").write_text(text)
    with pytest.raises(DataError, match=told) as error:
        ImageReader("map.txt")
    assert "map.txt" in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def spoiled(tmp_path):
    """Seven images and the step at which the sixth, which is spoiled after opening, is read."""
    map_file = write_images(tmp_path / "faces", [photo(i, 40, 30) for i in range(7)])
    reader = ImageReader(map_file, 2, width=16, height=16, stop_step=8, threads=2)
    whole = all_of(reader)
    step = next(step for step in range(8) if 5 in reader.indices(step))
    return map_file, tmp_path / "faces" / "5.bmp", step, whole


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_image_fails_in_the_middle_of_a_sweep(spoiled, content, capfd):
    map_file, image, step, whole = spoiled
    good = image.read_bytes()
    reader = ImageReader(map_file, 2, width=16, height=16, stop_step=8, threads=2)
    image.write_bytes(good[:500] if content is None else content)
    with pytest.raises(ReaderError, match="cannot be decoded") as error:
        all_of(reader)
    assert "map.txt, line 6:" in str(error.value) and str(image) in str(error.value)
    assert reader.step == step and capfd.readouterr().err == ""
    image.write_bytes(good)
    assert all(map(torch.equal, all_of(reader), whole[step:]))
    assert reader.step == 8


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_an_image_fails_in_a_worker(spoiled):
    map_file, image, _, _ = spoiled
    reader = ImageReader(map_file, 2, width=16, height=16, stop_step=8)
    image.unlink()
    with pytest.raises(ReaderError) as error:
        all_of(DataLoader(reader, batch_size=None, num_workers=1))
    assert str(error.value).startswith(f"{map_file}, line 6: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(("given", "told"), [
    ({"minibatch_size": 0}, "minibatch_size is 0"),
    ({"minibatch_size": 1.5}, "minibatch_size is 1.5"),
    ({"minibatch_size": True}, "minibatch_size is True"),
    ({"randomization_seed": -1}, "randomization_seed is -1"),
    ({"randomization_seed": 2**64}, "randomization_seed is 18446744073709551616"),
    ({"width": 0}, "width is 0"),
    ({"color_radii": (0.2, 1.2, 0.2)}, "color_radii"),
    ({"color_radii": (0.2, 0.2)}, "color_radii"),
    ({"start_step": -1}, "start_step is -1"),
    ({"threads": 0}, "threads is 0"),
])
def test_bad_settings(maps, given, told):
    with pytest.raises(ReaderError, match=told):
        ImageReader(maps["mixed"], **given)


@pytest.mark.parametrize(("change", "told"), [
    ({"minibatch_size": 4}, "minibatch_size=4, this reader has 5: make the reader with"),
    ({"randomization_seed": 1}, "randomization_seed=1"),
    ({"width": 64}, "width=64"),
    ({"color_radii": [0.2, 0.2, 0]}, "color_radii"),
    ({"images": 6}, "another data set"),
    ({"images_sha256": "0"}, "another data set"),
    ({"step": -1}, "step is -1"),
    ({"step": "3"}, "step is '3'"),
    ({"minibatch_size": None}, "minibatch_size"),
    ({"images_sha256": ...}, "has no 'images_sha256'"),
    ({"step": ...}, "has no 'step'"),
])
def test_a_state_that_does_not_fit_changes_nothing(maps, change, told):
    reader = small(maps, start_step=2)
    state = {**small(maps, start_step=4).state_dict(), **change}
    state = {name: value for name, value in state.items() if value is not ...}
    with pytest.raises(ReaderError, match=told):
        reader.load_state_dict(state)
    assert reader.step == 2
    reader.load_state_dict(small(maps, start_step=4).state_dict())
    assert reader.step == 4


def test_the_state_of_another_data_set(maps):
    other = ImageReader(maps["same"], 5, width=32, height=24)
    with pytest.raises(ReaderError, match=r"another data set \(5 images; .* has 7"):
        small(maps).load_state_dict(other.state_dict())


def test_images_replaced_under_the_same_names_are_another_data_set(tmp_path):
    map_file = write_images(tmp_path / "a", [photo(i, 20, 20) for i in range(3)])
    state = ImageReader(map_file).state_dict()
    moved = write_images(tmp_path / "b", [photo(i, 20, 20) for i in range(3)])
    ImageReader(moved).load_state_dict(state)
    write_images(tmp_path / "a", [photo(i, 20, 20) for i in (0, 7, 2)])
    with pytest.raises(ReaderError, match="another data set"):
        ImageReader(map_file).load_state_dict(state)


# ----------------------------------------------------------------------------- for the docs' table

def _mean_difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{np.abs(ours.astype(np.float64) - theirs).mean():.2f} of 255 on average"


def _ordinary_jitter(image: np.ndarray, draws: Draws) -> np.ndarray:
    """torchvision's three blends on float32 with the factors CNTK drew, in CNTK's order."""
    def grey(x: np.ndarray) -> np.ndarray:
        return x @ np.array([0.114, 0.587, 0.299], np.float32)

    x = np.clip(image.astype(np.float32) * (1 + draws.brightness), 0, 255)
    x = np.clip((x - grey(x).mean()) * (1 + draws.contrast) + grey(x).mean(), 0, 255)
    grey_x = grey(x)[..., None]
    return np.clip((x - grey_x) * (1 + (draws.saturation or 0)) + grey_x, 0, 255)


def behaviours(cntk: Any, folder: str | None = None) -> list[dict[str, str]]:
    """What CNTK's reader does, what ordinary PyTorch does, how far off that is; from measurements.

    folder: where the images are made; a temporary one if None.
    """
    if folder is None:
        import tempfile
        with tempfile.TemporaryDirectory() as temporary:
            return behaviours(cntk, temporary)
    maps = made(folder)
    order, pixels = cntk_orders(cntk, maps), cntk_pixels(cntk, maps)

    features = order["seed0/features"][..., 0, 0].reshape(-1, 3)[:612]
    theirs = features[:, 0].astype(int) + 256 * features[:, 1].astype(int)
    shuffled = DataLoader(range(612), batch_size=None, shuffle=True,
                          generator=torch.Generator().manual_seed(0))
    ours = np.array([int(index) for index in shuffled])
    another = 100 * np.mean(ours != theirs)

    sizes = order["seed0/samples"]
    last = len(list(DataLoader(range(612), batch_size=16))[-1])

    same = [cv2.imread(str(entry.path)) for entry in read_map_file(maps["same"])]
    indices = np.stack([sample_indices(step, 4, 5, 7) for step in range(4)])
    jittered = np.stack([[_ordinary_jitter(same[indices[t, j]], augmentation_draws(j, t))
                          .transpose(2, 0, 1) for j in range(4)] for t in range(4)])

    mixed = [cv2.imread(str(entry.path)) for entry in read_map_file(maps["mixed"])]
    order4 = np.stack([sample_indices(step, 4, 7) for step in range(2)])
    bytes_scaled = pixels["scale/features"]

    def resized(image: np.ndarray, antialias: bool) -> np.ndarray:
        return torch.nn.functional.interpolate(
            torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None], (256, 256),
            mode="bilinear", antialias=antialias)[0].numpy()

    smooth = np.stack([[resized(mixed[i], True) for i in row] for row in order4])

    by_seed = np.abs(pixels["one_image_seed0/features"] - pixels["one_image_seed7/features"]).max()
    torch_draws = [torch.empty(4, 3).uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(s))
                   for s in (0, 7)]
    return [
        {"behaviour": "order of a sweep of 612 images, seed 0",
         "cntk": "two shuffles of mt19937_64(seed + sweep), the second within 128 places",
         "ordinary_pytorch": "DataLoader(shuffle=True): one uniform permutation",
         "off_by": f"{another:.1f} % of the places hold another image"},
        {"behaviour": "last minibatch of a sweep, 612 images, minibatch 16",
         "cntk": f"always {sizes.min()} images: it goes on into the next sweep",
         "ordinary_pytorch": f"DataLoader: {last} images, or none with drop_last",
         "off_by": f"{sizes.min() - last} of 16 images, and every later minibatch of the run"},
        {"behaviour": "brightness, contrast, saturation with the same three draws",
         "cntk": "p(1 + c) + b * mean in one step, one clamp; then S of HSV",
         "ordinary_pytorch": "ColorJitter: p(1 + b), then blends with greys",
         "off_by": _mean_difference(jittered, pixels["color/features"])},
        {"behaviour": "what the augmentation's generator depends on",
         "cntk": "the place in the minibatch, and the minibatch's number; not the seed "
                 f"(minibatches of one image with seeds 0 and 7 differ by {by_seed:g})",
         "ordinary_pytorch": "the global generator's seed and all that drew from it before",
         "off_by": f"draws of seeds 0 and 7, radius 0.2, differ by up to "
                   f"{float((torch_draws[0] - torch_draws[1]).abs().max()):.2f}"},
        {"behaviour": "scaling to 256x256",
         "cntk": "bilinear without antialiasing, of four pixels",
         "ordinary_pytorch": "torchvision's Resize: with antialiasing",
         "off_by": _mean_difference(smooth, bytes_scaled)},
        {"behaviour": "order of the channels",
         "cntk": "B, G, R, 0..255",
         "ordinary_pytorch": "R, G, B, 0..1",
         "off_by": _mean_difference(bytes_scaled[:, :, ::-1], bytes_scaled)},
    ]


def test_behaviours_are_measured(cntk, tmp_path):
    rows = behaviours(cntk, str(tmp_path))
    assert [set(row) for row in rows] == [{"behaviour", "cntk", "ordinary_pytorch", "off_by"}] * 6
    assert rows[1]["off_by"].startswith("12 of 16")
    assert "differ by 0)" in rows[3]["cntk"]
    assert float(rows[2]["off_by"].split()[0]) > 1


# ------------------------------------------------------------------------------------ reading ahead


def watched(reader, monkeypatch):
    """The steps whose minibatches were read, and an event for each."""
    plain, read = reader.minibatch, [threading.Event() for _ in range(6)]

    def minibatch(step):
        made = plain(step)
        read[step].set()
        return made

    monkeypatch.setattr(reader, "minibatch", minibatch)
    return read


def test_the_next_minibatch_is_read_while_one_is_used(maps, monkeypatch):
    reader = small(maps, stop_step=2)
    read, minibatches = watched(reader, monkeypatch), iter(reader)
    next(minibatches)
    assert reader.step == 1 and read[1].wait(60)
    next(minibatches)
    assert list(minibatches) == [] and not read[2].is_set()  # none beyond the stop


def test_what_was_read_ahead_is_not_given_for_another_step(maps, monkeypatch):
    reader = small(maps)
    read, minibatches = watched(reader, monkeypatch), iter(reader)
    next(minibatches)
    assert read[1].wait(60)
    reader.step = 4
    assert torch.equal(next(minibatches), small(maps).minibatch(4)) and reader.step == 5
