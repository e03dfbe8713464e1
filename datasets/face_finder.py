"""Finds faces as the article did: OpenCV 4.1.1's frontal-face Haar cascade. Python 3.6.

    .venv-cntk/bin/python -m datasets.face_finder SCALE NEIGHBOURS SMALLEST

OpenCV 5 has no cascades any more, and no package of it brings the trained one. The article's own
OpenCV has both, in CNTK's environment: so this runs there, as a process that answers.

In, for each picture: a line ``height width``, then height * width * 3 bytes, B, G, R. Out: a line
``ready`` at the beginning; for each picture a line of JSON, [[x, y, width, height], ...], sorted.
"""
import json
import sys

import cv2
import numpy as np

CASCADE = "haarcascade_frontalface_default.xml"


def main() -> None:
    scale, neighbours, smallest = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    cv2.setNumThreads(1)  # the pictures are side by side, and the boxes in one order
    # What mypy reads is OpenCV 5, which has no cascades.
    cascade = cv2.CascadeClassifier(  # type: ignore[attr-defined]
        cv2.data.haarcascades + CASCADE)  # type: ignore[attr-defined]
    source, answer = sys.stdin.buffer, sys.stdout
    answer.write("ready\n")
    answer.flush()
    while True:
        line = source.readline()
        if not line:
            return
        height, width = (int(word) for word in line.split())
        pixels = np.frombuffer(source.read(height * width * 3), np.uint8)
        grey = cv2.cvtColor(pixels.reshape(height, width, 3), cv2.COLOR_BGR2GRAY)
        boxes = cascade.detectMultiScale(grey, scaleFactor=scale, minNeighbors=neighbours,
                                         minSize=(smallest, smallest))
        answer.write(json.dumps(sorted([int(value) for value in box] for box in boxes)) + "\n")
        answer.flush()


if __name__ == "__main__":
    main()
