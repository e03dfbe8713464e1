"""What real CNTK decodes of image files, one by one.

    images.py OUTPUT.npz LIST.txt

LIST.txt names an image file a line. Written for number i of them, from 0: ``i``, uint8
(height, width, 3), channels B, G, R; or ``i/error``, what CNTK said, or "killed by signal N" (a
forked process reads; when it dies, another goes on behind the image that killed it).
"""
import os
import resource
import shutil
import signal
import sys
import tempfile

import numpy as np

from environment.quiet import select_device

select_device()
import cntk as C  # noqa: E402


def decoded(image, folder):
    map_file = os.path.join(folder, "map.txt")
    with open(map_file, "w", errors="surrogateescape") as file:
        file.write("%s\t0\n" % image)
    source = C.io.MinibatchSource(
        C.io.ImageDeserializer(map_file, C.io.StreamDefs(
            features=C.io.StreamDef(field="image", transforms=[]),
            labels=C.io.StreamDef(field="label", shape=1))),
        randomize=False, max_sweeps=1)
    got = source.next_minibatch(1)
    pixels = got[source.streams.features].data.asarray()
    return np.ascontiguousarray(pixels.reshape(pixels.shape[-3:]).transpose(1, 2, 0), np.uint8)


def read_from(first, images, folder):
    """In a forked process: files number.npy, or number.txt with what CNTK said."""
    for number in range(first, len(images)):
        path = os.path.join(folder, str(number))
        open(path, "w").close()  # begun
        signal.alarm(20)
        try:
            np.save(path + ".npy", decoded(images[number], folder))
        except Exception as error:
            with open(path + ".txt", "w", errors="surrogateescape") as file:
                file.write((str(error).strip().splitlines() or [repr(error)])[0])


def main():
    with open(sys.argv[2], errors="surrogateescape") as file:
        images = file.read().splitlines()
    folder, output, first = tempfile.mkdtemp(), {}, 0
    while first < len(images):
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_AS, (4 * 2 ** 30, 4 * 2 ** 30))
                read_from(first, images, folder)
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        while first < len(images) and os.path.exists(os.path.join(folder, str(first))):
            path = os.path.join(folder, str(first))
            if os.path.exists(path + ".npy"):
                output[str(first)] = np.load(path + ".npy")
            elif os.path.exists(path + ".txt"):
                with open(path + ".txt", errors="surrogateescape") as file:
                    output["%d/error" % first] = np.array(file.read())
            else:
                output["%d/error" % first] = np.array("killed by signal %d" % (status & 127))
            first += 1
    shutil.rmtree(folder)
    np.savez(sys.argv[1], **output)


if __name__ == "__main__":
    main()
