"""Images per second of the port's reader against CNTK's own, on the same images and processors.

    .venv-torch/bin/python -m benchmarks.image_reader
                                [--json PATH] [--map MAP_FILE] [--rounds 5] [--threads N]

Both read BMP files, change colour, scale to 256x256 and hand over minibatches of 16 as arrays.
They take turns, a round of one and then a round of the other; the figures are medians over rounds.
Without --map the images are data/train_dcgan_map.txt's, or, where that is missing, 64 images of
random sizes from 256x256 to 512x512 in a temporary folder.
"""
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from torch_port.reader.reader import ImageReader

ROOT = Path(__file__).resolve().parents[2]

SIZE, MINIBATCHES = 16, 8


def make_images(folder: Path, count: int = 64) -> Path:
    """Smooth coloured images with a little noise, and their map file."""
    random = np.random.default_rng(0)
    lines = []
    for index in range(count):
        height, width = random.integers(256, 513, 2).tolist()
        coarse = random.integers(0, 256, (height // 16, width // 16, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image += random.integers(-12, 13, image.shape).astype(np.int16)
        cv2.imwrite(str(folder / f"{index}.bmp"), np.clip(image, 0, 255).astype(np.uint8))
        lines.append(f".../{index}.bmp\t0\n")
    (folder / "map.txt").write_text("".join(lines))
    return folder / "map.txt"


def cntk_rates(map_file: Path, threads: int) -> list[float]:
    """Images per second of three repetitions in a process of CNTK's."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rate.npz"
        subprocess.run(
            [ROOT / ".venv-cntk" / "bin" / "python",
             ROOT / "tests" / "cntk_probes" / "image_reader.py", output, f"threads={threads}",
             f"job=it;map={map_file};shape=256,256;scale=1;color=0.2,0.2,0.2;size={SIZE};"
             f"minibatches={MINIBATCHES};repetitions=3"],
            check=True, stdout=subprocess.DEVNULL)
        with np.load(output) as arrays:
            return [float(rate) for rate in arrays["it/images_per_second"]]


def port_rates(map_file: Path, threads: int) -> list[float]:
    """Images per second of three repetitions of the port, after one that is not counted."""
    minibatches = iter(ImageReader(map_file, SIZE, threads=threads))
    rates = []
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(MINIBATCHES):
            next(minibatches)
        rates.append(SIZE * MINIBATCHES / (time.perf_counter() - start))
    return rates[1:]


def measure(map_file: Path, rounds: int, threads: int) -> dict[str, float | int]:
    """Medians, and the ratio of the port's to CNTK's; above 1 the port is faster."""
    map_file = map_file.resolve()
    port: list[float] = []
    cntk: list[float] = []
    ratios: list[float] = []
    for _ in range(rounds):
        ours, theirs = port_rates(map_file, threads), cntk_rates(map_file, threads)
        port += ours
        cntk += theirs
        ratios.append(statistics.median(ours) / statistics.median(theirs))
    return {"port_images_per_second": round(statistics.median(port), 1),
            "cntk_images_per_second": round(statistics.median(cntk), 1),
            "ratio": round(statistics.median(ratios), 3),
            "smallest_ratio": round(min(ratios), 3), "largest_ratio": round(max(ratios), 3),
            "rounds": rounds, "threads": threads, "minibatch_size": SIZE}
