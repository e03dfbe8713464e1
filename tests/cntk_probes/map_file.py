"""What real CNTK makes of map files: one answer for each, in a process of its own each.

    map_file.py OUTPUT.npz JOBS.json

JOBS.json is a list of objects: ``name``; ``map``, the name that CNTK is given; ``folder``, the
working directory; ``classes``, which are declared (1). Every image is uniform, and its blue value
says which image it is.

Written for each: ``NAME/read``, the blue values of one sweep in the file's order (int64); or
``NAME/error``, the first line of what CNTK said; or ``NAME/error`` = "killed by signal N".
"""
import json
import os
import sys
import tempfile

import numpy as np

from environment.quiet import select_device

select_device()
import cntk as C  # noqa: E402


def read(job):
    os.chdir(job["folder"])
    source = C.io.MinibatchSource(
        C.io.ImageDeserializer(job["map"], C.io.StreamDefs(
            features=C.io.StreamDef(field="image", transforms=[]),
            labels=C.io.StreamDef(field="label", shape=job.get("classes", 1)))),
        randomize=False, max_sweeps=1)
    images = []
    while True:
        got = source.next_minibatch(1)
        if not got:
            return images
        images.append(int(got[source.streams.features].data.asarray().ravel()[0]))


def in_a_process(job):
    """The answer of one job. CNTK may abort, so a forked process asks, before any thread runs."""
    answer = tempfile.TemporaryFile()
    child = os.fork()
    if child == 0:
        try:
            try:
                got = {"read": read(job)}
            except Exception as error:
                lines = str(error).strip().splitlines() or [repr(error)]
                got = {"error": lines[0]}
            answer.write(json.dumps(got).encode("ascii"))
            answer.flush()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    answer.seek(0)
    text = answer.read()
    if not text:
        return {"error": "killed by signal %d" % (status & 127)}
    return json.loads(text.decode("ascii"))


def main():
    output = {}
    with open(sys.argv[2]) as file:
        jobs = json.load(file)
    for job in jobs:
        for name, value in in_a_process(job).items():
            output["%s/%s" % (job["name"], name)] = (
                np.array(value) if name == "error" else np.array(value, np.int64))
    np.savez(sys.argv[1], **output)


if __name__ == "__main__":
    main()
