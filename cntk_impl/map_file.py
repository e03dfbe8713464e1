"""What has to be right about a map file before CNTK's reader sees it.

CNTK finds a missing or undecodable image only when its turn comes, which may be an hour on; its
image reader decodes BMP and PPM here (see ``environment/missing_libraries.py``). Python 3.6.
"""
import os

MAGIC = {b"BM": "BMP", b"P5": "PPM", b"P6": "PPM"}


class BadInput(Exception):
    """What was wrong, where, and how to mend it, in one line."""


def checked_map_file(path):
    """The map file's absolute path, once every line of it names an image that CNTK can read.

    A path that begins with ``...`` is relative to the map file's folder (CNTK expands it only
    where it is given the map file with its folder, so the absolute path is returned).

    Raises BadInput.
    """
    path = os.path.abspath(path)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except (OSError, IOError) as error:
        raise BadInput("map file %s cannot be read (%s): make the default data with `make data`, "
                       "or give --map-file" % (path, error.strerror))
    if not lines:
        raise BadInput("map file %s is empty: write one `image<TAB>0` a line" % path)
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        where = "%s, line %d" % (path, number)
        if len(columns) < 2 or not columns[-2] or "\0" in line:
            raise BadInput("%s: %r is not of the form `image<TAB>0`: separate the two with one "
                           "tab, and leave no line blank" % (where, line[:80]))
        image = columns[-2]
        if image.startswith("..."):
            image = os.path.dirname(path) + image[3:]
        _check_image(image, where)
    return path


def _check_image(image, where):
    try:
        with open(image, "rb") as file:
            head = file.read(6)
            size = os.fstat(file.fileno()).st_size
    except (OSError, IOError) as error:
        raise BadInput("%s: image %s cannot be read (%s): restore it or delete the line"
                       % (where, image, error.strerror))
    if head[:2] not in MAGIC:
        raise BadInput("%s: %s is not a BMP or PPM image, and CNTK's reader decodes no other kind "
                       "here: convert it to BMP" % (where, image))
    whole = max(int.from_bytes(head[2:6], "little"), 26)  # the two headers take at least that
    if head[:2] == b"BM" and size < whole:
        raise BadInput("%s: %s is cut short (%d bytes of %d): replace the file or "
                       "delete the line" % (where, image, size, whole))
