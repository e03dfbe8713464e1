"""What CNTK's MinibatchSource reads through an ImageDeserializer.

    image_reader.py OUTPUT.npz JOB [JOB ...]

A job is ``name=value;name=value...``; all but the first three have defaults.

    job=NAME       its arrays are NAME/features ...
    map=MAP_FILE
    shape=W,H      of the images that come out
    minibatches=2  size=4  seed=0  randomize=1  sweeps=0 (endless)
    color=B,C,S    the radii; left out: no color transform
    scale=1        scales to the shape; left out: no scale transform
    first=color    which of the two comes first
    folder=PATH    the working directory while it reads
    repetitions=N  measures the speed instead of keeping the images

The number of OpenMP's threads is OMP_NUM_THREADS, or a first argument ``threads=N``.

Written for each job: ``features`` (minibatches, size, 3, H, W) float32, ``end_of_sweep`` and
``samples`` (minibatches,); or ``images_per_second`` (repetitions,), after one that is not counted;
or ``error``, the first line of what CNTK said.
"""
import os
import sys
import time

import numpy as np

if sys.argv[2].startswith("threads="):
    os.environ["OMP_NUM_THREADS"] = sys.argv.pop(2).split("=")[1]

from environment.quiet import select_device  # noqa: E402

select_device()
import cntk as C  # noqa: E402
from cntk.io import transforms  # noqa: E402


def source(job, shape):
    made = {}
    if "color" in job:
        brightness, contrast, saturation = (float(part) for part in job["color"].split(","))
        made["color"] = transforms.color(brightness_radius=brightness, contrast_radius=contrast,
                                         saturation_radius=saturation)
    if "scale" in job:
        made["scale"] = transforms.scale(width=shape[0], height=shape[1], channels=3,
                                         interpolations="linear")
    first = job.get("first", "color")
    steps = [made[name] for name in sorted(made, key=lambda name: name != first)]
    streams = C.io.StreamDefs(
        features=C.io.StreamDef(field="image", transforms=steps),
        labels=C.io.StreamDef(field="label", shape=1))
    options = {"randomize": job.get("randomize", "1") == "1"}
    if "seed" in job:
        options["randomization_seed"] = int(job["seed"])
    if "sweeps" in job:
        options["max_sweeps"] = int(job["sweeps"])
    return C.io.MinibatchSource(C.io.ImageDeserializer(job["map"], streams), **options)


def read(job, shape):
    reader = source(job, shape)
    features, ends, samples = [], [], []
    for _ in range(int(job.get("minibatches", 2))):
        got = reader.next_minibatch(int(job.get("size", 4)))
        if not got:  # past max_sweeps
            samples.append(0)
            ends.append(False)
            continue
        data = got[reader.streams.features]
        features.append(data.data.asarray().reshape(-1, 3, shape[1], shape[0]))
        ends.append(data.end_of_sweep)
        samples.append(data.num_samples)
    return {"features": np.stack(features), "end_of_sweep": np.array(ends),
            "samples": np.array(samples)}


def rate(job, shape):
    reader = source(job, shape)
    size, minibatches = int(job.get("size", 16)), int(job.get("minibatches", 8))
    rates = []
    for _ in range(int(job["repetitions"]) + 1):
        start = time.perf_counter()
        for _ in range(minibatches):
            got = reader.next_minibatch(size)
            got[reader.streams.features].data.asarray()
        rates.append(size * minibatches / (time.perf_counter() - start))
    return {"images_per_second": np.array(rates[1:])}


def main():
    output, home = {}, os.getcwd()
    for text in sys.argv[2:]:
        job = dict(part.split("=", 1) for part in text.split(";"))
        shape = [int(part) for part in job["shape"].split(",")]
        os.chdir(job.get("folder", home))
        try:
            got = rate(job, shape) if "repetitions" in job else read(job, shape)
        except (RuntimeError, ValueError, OverflowError) as error:
            got = {"error": np.array(str(error).strip().splitlines()[0])}
        os.chdir(home)
        output.update({job["job"] + "/" + name: value for name, value in got.items()})
    np.savez(sys.argv[1], **output)


if __name__ == "__main__":
    main()
