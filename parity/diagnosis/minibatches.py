"""What may be wrong with a reader's minibatches.

    port = bytes(scale * turned(channels(resize(colour(file[i])))) + offset)

Each of the parts is CNTK's or one of a few that readers have; the fewest that are not CNTK's and
give the port's numbers are the diagnosis, each a mistake of its own. What an image was made of is
its file, where it is there and makes CNTK's image; else CNTK's images themselves, without what only
the file shows (colour, resizing). The parts are found on one image, and have to hold on all that
differ.
"""
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from captures.article import COLOUR_RADIUS
from captures.errors import MapFileError
from captures.files import plan_file, read_json
from captures.map_file import read_map_file
from captures.probes import READER_IMAGES
from parity.diagnosis.arithmetic import Floats, wide
from parity.diagnosis.evidence import Found, listed, nice, rms
from parity.diagnosis.pattern import described
from parity.judge.results import Stage
from parity.stages.common import Captures

PAGE = "docs/behaviours.md#image-reader"
READER = "torch_port.reader.reader.ImageReader(map_file, minibatch_size, randomization_seed=seed)"
MOST = 32  # images that are looked at
SMALL = 16  # each side of an image by which another is known
NEAR = 0.02  # of 255, root mean square: OpenCV's rounding in colour and resizing, and more
ROUNDED = 0.45  # the same of what is rounded to bytes: 0.29, and more where many are near a half
STEP, RARE = 1.02, 0.02  # of 255: what is rounded so; the part of the values that may be farther
FEW = 7  # of so many rows and columns one is looked at, before all are
ALIKE = 0.97  # correlation of an image with the same one of other colours

Bytes = NDArray[np.uint8]


# ------------------------------------------------------------------------------ from file to image


def draws(position: int, step: int) -> tuple[float, ...]:
    """CNTK's brightness, contrast and saturation of a place of a minibatch."""
    outputs = np.random.RandomState(position).randint(0, 2**32, 3 * step + 3, dtype=np.uint32)
    return tuple(float(k) / 2**32 * 2 * COLOUR_RADIUS - COLOUR_RADIUS for k in outputs[-3:])


def coloured(image: Floats, position: int, step: int) -> Floats:
    """CNTK's colour change of an image H x W x 3 of 0 .. 255."""
    brightness, contrast, saturation = draws(position, step)
    x = np.clip(image * (1 + contrast) + brightness * image.mean(), 0, 255)
    value = x.max(2, keepdims=True)
    with np.errstate(all="ignore"):
        s = np.where(value > 0, 1 - x.min(2, keepdims=True) / value, 0)
        more = np.where(s > 0, np.minimum(s * (1 + saturation), 1) / s, 1)
    made: Floats = value - (value - x) * more
    return made


def _triangle(x: Floats) -> Floats:
    made: Floats = np.maximum(0, 1 - np.abs(x))
    return made


def _cubic(x: Floats, a: float) -> Floats:
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    made: Floats = np.where(x < 1, near, np.where(x < 2, far, 0))
    return made


# Name to how it is said.
RESIZES = {"linear": "",
           "antialias-bytes": "linear with antialiasing, as Pillow's and torchvision's",
           "antialias": "linear with antialiasing, as torch's interpolate",
           "antialias-cubic-bytes": "cubic with antialiasing, as Pillow's resize",
           "antialias-cubic": "cubic with antialiasing, as torch's interpolate",
           "area": "the mean of an area, as INTER_AREA", "cubic": "cubic without antialiasing",
           "nearest": "that of the nearest pixel"}


@cache
def _weights(source: int, size: int, how: str) -> Floats:
    """(size, source): what each pixel of a row is of the source's."""
    scale = source / size
    at = (np.arange(size)[:, None] + 0.5) * scale - 0.5
    taps = np.arange(-6, source + 6)[None]
    if how == "nearest":
        w = wide(taps == np.floor(np.arange(size) * scale)[:, None])
    elif how == "area" and scale > 1:
        left = np.arange(size)[:, None] * scale
        w = np.clip(np.minimum(taps + 1, left + scale) - np.maximum(taps, left), 0, None)
    else:
        wider = max(scale, 1.0) if "antialias" in how else 1.0
        x = (taps - at) / wider
        w = _cubic(x, -0.5 if wider > 1 or "antialias" in how else -0.75) if "cubic" in how \
            else _triangle(x)
    made = w[:, 6:-6].copy()
    if "antialias" not in how:  # else what is outside has no weight
        made[:, 0] += w[:, :6].sum(1)
        made[:, -1] += w[:, -6:].sum(1)
    made /= made.sum(1, keepdims=True)
    return made


def resized(image: Floats, height: int, width: int, how: str) -> Floats:
    """H x W x 3 to 3 x height x width."""
    rows, columns = _weights(image.shape[0], height, how), _weights(image.shape[1], width, how)
    between: Callable[[Floats], Floats] = _whole if how.endswith("bytes") else lambda x: x
    return np.stack([rows @ between(image[..., c] @ columns.T) for c in range(3)])


def _whole(x: Floats) -> Floats:
    made: Floats = np.clip(np.floor(x + 0.5 + 1e-6), 0, 255)  # a half goes up
    return made


# -------------------------------------------------------------------------------- what is looked at


@dataclass
class Seen:
    """Images one after the other, 3 x H x W, of both sides, and where in which minibatch each is.
    names: of the images that there are, by number. files: as they are in their files, or {}."""

    cntk: Sequence[NDArray[np.float32]]
    port: Sequence[NDArray[np.float32]]
    places: Sequence[tuple[int, int]]
    files: Mapping[int, Bytes] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)  # of CNTK's images

    def __post_init__(self) -> None:
        height, width = self.cntk[0].shape[1:]
        if self.files:
            keys = {number: _key(resized(wide(image), height, width, "linear"))
                    for number, image in self.files.items()}
            self.numbers = [_nearest(_key(image), keys)[0] for image in self.cntk]
            self.known = keys
            if any(rms(self.made(k, self.numbers[k], "own", "linear") - self.cntk[k]) > NEAR
                   for k in range(min(2, len(self.cntk)))):
                self.files = {}  # CNTK's images are of others
        if not self.files:
            self.numbers = list(range(len(self.cntk)))
            self.known = {i: _key(image) for i, image in enumerate(self.cntk)}

    def made(self, k: int, number: int, colour: str, resize: str) -> Floats:
        """Image ``number`` in place k, with its channels, scale and sides as CNTK's."""
        if not self.files:
            return wide(self.cntk[number])
        height, width = self.cntk[k].shape[1:]
        position, step = self.places[k][1], self.places[k][0]
        image = wide(self.files[number])
        if colour == "bytes":
            return resized(np.rint(coloured(image, position, step)), height, width, resize)
        if colour == "last":
            image = resized(image, height, width, resize).transpose(1, 2, 0)
            return coloured(np.rint(image), position, step).transpose(2, 0, 1)
        return resized(coloured(image, position, step) if colour == "own" else image,
                       height, width, resize)


def _key(image: NDArray[Any]) -> Floats:
    """An image in few numbers, whatever its range."""
    small = cv2.resize(np.ascontiguousarray(image.transpose(1, 2, 0), np.float32), (SMALL, SMALL),
                       interpolation=cv2.INTER_AREA)
    flat = wide(np.ravel(small))
    flat = flat - flat.mean()
    made: Floats = flat / (np.sqrt(np.square(flat).sum()) or 1.0)
    return made


def _nearest(key: Floats, known: Mapping[int, Floats]) -> tuple[int, float]:
    number = max(known, key=lambda one: float(known[one] @ key))
    return number, float(known[number] @ key)


# -------------------------------------------------------------------------------------- the search

TURNS = {"": lambda x: x, "left and right exchanged": lambda x: x[..., ::-1],
         "upside down": lambda x: x[:, ::-1], "turned by half": lambda x: x[:, ::-1, ::-1],
         "rows and columns exchanged": lambda x: x.swapaxes(1, 2)}
SCALES = {"0 .. 1": (255.0, 0.0), "-1 .. 1": (127.5, 127.5), "-0.5 .. 0.5": (255.0, 127.5),
          "-127.5 .. 127.5": (1.0, 127.5), "-128 .. 127": (1.0, 128.0),
          "-1 .. 1, as (x - 128) / 128": (128.0, 128.0)}


@dataclass(frozen=True)
class Parts:
    """What the port does; each "" or "own" or "linear" where it is CNTK's. scale, offset: of each
    channel, that give 0 .. 255 back."""

    reversed: bool
    turn: str
    colour: str
    resize: str
    elsewhere: bool
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    whole: str = ""

    def back(self, image: NDArray[np.float32]) -> Floats:
        """The port's image with channels, sides and range as CNTK's."""
        x = wide(TURNS[self.turn](image)[::-1] if self.reversed else TURNS[self.turn](image))
        made: Floats = x * np.reshape(self.scale, (-1, 1, 1)) + np.reshape(self.offset, (-1, 1, 1))
        return made


def _wholes(port: Floats, made: Floats) -> str | None:
    """How ``made`` was rounded to give ``port``: "" if it was not; None if it does not give it."""
    apart = port - made
    if rms(apart) < NEAR:
        return ""
    if np.abs(port - np.rint(port)).max() > 1e-2:
        return None
    apart = port - np.clip(made, 0, 255)
    if (np.abs(apart) > STEP).mean() > RARE:
        return None
    if rms(apart) < ROUNDED and abs(apart.mean()) < 0.2:
        return "rounded"
    return "cut" if abs(apart.mean() + 0.5) < 0.1 else None


def _fitted(x: Floats, made: Floats) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Scales and offsets that may give 0 .. 255 back: none, those that are usual, one of each
    channel."""
    yield (1.0,), (0.0,)
    for scale, offset in SCALES.values():
        yield (scale,), (offset,)
    pairs = []
    for ours, theirs in zip(x, made, strict=True):
        apart = ours - ours.mean()
        spread = float(np.square(apart).sum())
        by = float((apart * theirs).sum()) / spread if spread else 1.0
        pairs.append((by, float(theirs.mean() - by * ours.mean())))
    yield tuple(by for by, _ in pairs), tuple(more for _, more in pairs)


def _near(x: Floats, made: Floats, scale: Sequence[float], offset: Sequence[float]) -> bool:
    """Rounding aside."""
    return rms(x * np.reshape(scale, (-1, 1, 1)) + np.reshape(offset, (-1, 1, 1)) - made) < 1


def _searched(seen: Seen, k: int) -> Parts | None:
    """The fewest parts that are not CNTK's and give the port's image k."""
    colours = ("own", "none", "bytes", "last") if seen.files else ("own",)
    resizes = tuple(RESIZES) if seen.files else ("linear",)
    made = cache(seen.made)
    views = [Parts(flipped, turn, "own", "linear", False)
             for flipped, turn in itertools.product((False, True), TURNS)
             if TURNS[turn](seen.port[k]).shape == seen.cntk[k].shape]
    asked: list[tuple[int, int, Floats, int, Parts]] = []
    for view in views:
        x = view.back(seen.port[k])
        other, alike = _nearest(_key(x), seen.known)
        for number in dict.fromkeys((seen.numbers[k], other)):
            if number == other and alike < ALIKE:
                continue
            for colour, resize in itertools.product(colours, resizes):
                parts = Parts(view.reversed, view.turn, colour, resize, number != seen.numbers[k])
                count = (parts.reversed + bool(parts.turn) + (colour != "own")
                         + (resize != "linear") + parts.elsewhere)
                asked.append((count, len(asked), x, number, parts))
    best: tuple[int, Parts] | None = None
    for count, _, x, number, parts in sorted(asked, key=lambda one: one[:2]):
        if best is not None and count >= best[0]:
            break
        wanted = made(k, number, parts.colour, parts.resize)
        few, of = x[:, ::FEW, ::FEW], wanted[:, ::FEW, ::FEW]
        if not any(_near(few, of, *one) for one in _fitted(few, of)):
            continue
        for scale, offset in _fitted(x, wanted):
            whole = _wholes(x * np.reshape(scale, (-1, 1, 1)) + np.reshape(offset, (-1, 1, 1)),
                            wanted)
            if whole is None:
                continue
            more = count + (scale != (1.0,)) + bool(whole)
            if best is None or more < best[0]:
                best = more, Parts(parts.reversed, parts.turn, parts.colour, parts.resize,
                                   parts.elsewhere, scale, offset, whole)
            break
    return best[1] if best else None


def _holds(seen: Seen, k: int, parts: Parts) -> int | None:
    """The number of the image that the parts give in place k; None if they give none there."""
    x = parts.back(seen.port[k])
    numbers = dict.fromkeys((seen.numbers[k], _nearest(_key(x), seen.known)[0]))
    for number in numbers if parts.elsewhere else (seen.numbers[k],):
        whole = _wholes(x, seen.made(k, number, parts.colour, parts.resize))
        if whole is not None and (not whole or whole == parts.whole):
            return number
    return None


def explained(seen: Seen) -> list[Found]:
    """Every part that is not CNTK's; none where none that is known gives all images that differ."""
    differing = [k for k in range(len(seen.port)) if not np.array_equal(seen.port[k], seen.cntk[k])]
    looked = differing[:MOST]
    if not looked or not all(np.isfinite(seen.port[k]).all() for k in looked):
        return []
    for k in dict.fromkeys((looked[0], looked[len(looked) // 2])):
        parts = _searched(seen, k)
        for one in (parts, replace(parts, elsewhere=True)) if parts else ():
            numbers = [_holds(seen, at, one) for at in looked]
            if None not in numbers:
                return list(_said(seen, one, dict(zip(looked, numbers, strict=True)),
                                  len(differing)))
    return []


def _said(seen: Seen, parts: Parts, ours: Mapping[int, int | None], count: int
          ) -> Iterator[Found]:
    of = "" if count == len(seen.port) else f", in {count} of {len(seen.port)} images"
    if parts.reversed:
        yield Found("channels-reversed", f"its channels are R, G, B; CNTK's B, G, R{of}",
                    "minibatch.flip(1) in `reader`, or images = {\"channels\": \"RGB\"} where your "
                    "networks take R, G, B too", PAGE)
    if parts.scale != (1.0,) or parts.offset != (0.0,):
        yield _range(parts)
    if parts.turn:
        yield Found("images-turned", f"images are turned: {parts.turn}{of}",
                    "take the flip out: CNTK's reader turns none", PAGE)
    if any(number != seen.numbers[k] for k, number in ours.items()):
        yield _order(seen, ours)
    if parts.colour == "none":
        yield Found("colour-missing", "brightness, contrast and saturation of the images are not "
                    f"changed; CNTK changes each by up to {COLOUR_RADIUS:g}, by the place in the "
                    f"minibatch{of}", f"read with {READER}", PAGE)
    if parts.colour == "last":
        yield Found("resized-before-colour", "images are resized first and coloured then; CNTK "
                    f"colours first{of}", f"read with {READER}", PAGE)
    if parts.resize != "linear":
        yield Found("another-interpolation", f"the resizing is {RESIZES[parts.resize]}; CNTK's is "
                    f"linear without{of}", "cv2.resize(image, (width, height), interpolation="
                    f"cv2.INTER_LINEAR) of float32, or read with {READER}", PAGE)
    if parts.colour == "bytes" or (parts.whole and parts.colour == "own"):
        yield Found("rounded-to-bytes", f"its values are {parts.whole or 'rounded'} to whole "
                    f"numbers{'' if parts.whole else ' before they are resized'}; CNTK's are "
                    f"float32 from the colours on{of}", "colour and resize in float32", PAGE)


def _range(parts: Parts) -> Found:
    mend = "give 0 .. 255 in `reader`: "
    for said, (scale, offset) in SCALES.items():
        if (parts.scale, parts.offset) == ((scale,), (offset,)):
            back = f"minibatch * {scale:g}" + (f" + {offset:g}" if offset else "")
            return Found("range-of-the-minibatches", f"its values are {said}; CNTK's 0 .. 255",
                         mend + back, PAGE)
    each = [f"(x - {nice(more, 4)}) / {nice(by, 4)}" if more >= 0 else
            f"(x + {nice(-more, 4)}) / {nice(by, 4)}"
            for by, more in zip(parts.scale, parts.offset, strict=True)]
    return Found("range-of-the-minibatches", "its values are "
                 f"{', '.join(dict.fromkeys(each))} of CNTK's x of 0 .. 255",
                 mend + "take the normalisation out, the network has its own", PAGE)


def _order(seen: Seen, ours: Mapping[int, int | None]) -> Found:
    theirs, first = [seen.numbers[k] for k in ours], [number for number in ours.values()
                                                      if number is not None]
    plain = first == [k % len(seen.known) for k in ours]
    where = "of the map file" if seen.files else "of CNTK's"
    return Found("order-of-the-images", "the images come in " + (
        "the map file's order, not shuffled" if plain and seen.files else "another order")
        + f": {listed('image', first[:5])} {where} (from 0), where CNTK has "
        f"{', '.join(map(str, theirs[:5]))}", f"read with {READER}", PAGE)


# --------------------------------------------------------------------------------------- the stage


def read(captures: Captures, stage: Stage) -> tuple[str, list[Found], str]:
    """(place, what was found, else the pattern of the difference)."""
    place = next(check.place for check in stage.checks if not check.passed)
    cntk, port = captures.cntk, captures.port
    names = sorted(name for name in cntk.names("reader/probe") if name.endswith("/images"))
    if not names or not all(f"reader/probe/{name}" in port for name in names):
        return place, [], ""
    theirs, ours = ([np.asarray(capture[f"reader/probe/{name}"], np.float32) for name in names]
                    for capture in (cntk, port))
    found = []
    if all(one.shape != other.shape and one.shape == (len(other), *other.shape[2:], 3)
           for one, other in zip(ours, theirs, strict=True)):
        found.append(Found("layout", f"a minibatch is N x H x W x 3, {ours[0].shape}; CNTK's is "
                           f"{theirs[0].shape}", "minibatch.permute(0, 3, 1, 2), or images = "
                           "{\"layout\": \"NHWC\"} where your networks take it so", PAGE))
        ours = [one.transpose(0, 3, 1, 2) for one in ours]
    short = [i for i, (one, other) in enumerate(zip(ours, theirs, strict=True))
             if len(one) < len(other) and one.shape[1:] == other.shape[1:]]
    if short:
        found.append(Found("short-minibatches", f"{listed('minibatch', short)} (from 0) holds fewer"
                           " images than are asked for; CNTK's is always full: a sweep's last one "
                           "goes on into the next sweep", f"read with {READER}", PAGE))
        # Behind it each image is in another place, whatever the order.
        ours, theirs = ours[:short[0]], theirs[:short[0]]
    pairs = list(zip(ours, theirs, strict=True))
    if not pairs or any(one.shape != other.shape for one, other in pairs):
        return place, found, "" if found or not pairs else described(
            *next((wide(one), wide(other)) for one, other in pairs if one.shape != other.shape))
    if all(np.array_equal(one, other) for one, other in pairs):
        return place, found, "" if found else (
            f"the minibatches of {READER_IMAGES} images are CNTK's, those of the plan's images are "
            "others: look at the order of many images, or at what the reader kept from before")
    seen = Seen(list(np.concatenate(theirs)), list(np.concatenate(ours)),
                [(step, place) for step, one in enumerate(theirs) for place in range(len(one))],
                _files(_map_file(captures)))
    more = explained(seen)
    return place, found + more, "" if more else pattern(seen)


def _map_file(captures: Captures) -> str:
    """Of the plan that lies beside a capture; "" where none does."""
    for capture in (captures.cntk, captures.port):
        try:
            return str(read_json(plan_file(Path(capture.folder).parent))["map_file"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


def _files(map_file: str) -> dict[int, Bytes]:
    """The images of the probe's map file; {} where one is not there."""
    made = {}
    try:
        for i, entry in enumerate(read_map_file(map_file)[:READER_IMAGES]):
            image = cv2.imdecode(np.frombuffer(entry.read(), np.uint8), cv2.IMREAD_COLOR)
            if image is None:
                return {}
            made[i] = np.asarray(image, np.uint8)
    except (OSError, KeyError, zipfile.BadZipFile, MapFileError, cv2.error):
        return {}
    return made


def pattern(seen: Seen) -> str:
    """Which images differ, whether they are the same ones, and how."""
    differing = [k for k in range(len(seen.port))
                 if not np.array_equal(seen.port[k], seen.cntk[k])][:MOST]
    port, cntk = (np.stack([wide(side[k]) for k in differing]) for side in (seen.port, seen.cntk))
    said = f"{len(differing)} of {min(len(seen.port), MOST)} images differ: "
    if not np.isfinite(port).all():
        return said + described(port, cntk)
    if all(float(_key(one) @ _key(other)) > ALIKE for one, other in zip(port, cntk, strict=True)):
        said += "they are the same images, "
        smooth = rms(port - cntk) < 0.02 * 255
        said += ("alike but for details: another resizing, or rounding; " if smooth else
                 "with other brightness, contrast, saturation or range; ")
    else:
        others = [_nearest(_key(one), seen.known) for one in port]
        same = sum(alike > ALIKE for _, alike in others)
        said += (f"{same} of them look like another of CNTK's images; " if same
                 else "they look like none of CNTK's images; ")
    return said + described(port, cntk)


# ------------------------------------------------------------------------------------- the picture


BORDER = 1e-3  # of the values
MAPPINGS = {"(x + 1) * 127.5": (127.5, 127.5), "x * 127 + 127.5": (127.0, 127.5),
            "(x + 1) * 127": (127.0, 127.0), "x * 127 + 128": (127.0, 128.0),
            "(x + 1) * 128": (128.0, 128.0), "x * 128 + 127.5": (128.0, 127.5),
            "x * 127.5 + 128": (127.5, 128.0), "x * 255": (255.0, 0.0), "x": (1.0, 0.0)}


def picture(image: NDArray[Any], written: NDArray[Any]) -> list[Found]:
    """image: 3 x H x W of -1 .. 1, B, G, R. written: H x W x 3, B, G, R, as read back."""
    right = "(x + 1) * 127.5"
    span = float(np.ptp(image)) or 1.0
    mappings = {**MAPPINGS, "stretched from the image's own least to its largest value": (
        255 / span, -255 / span * float(image.min()))}
    got = wide(written).transpose(2, 0, 1)
    tried = sorted(itertools.product(mappings, (False, True), TURNS, (False, True)),
                   key=lambda one: (one[0] != right) + one[1] + bool(one[2]) + one[3])
    for how, flipped, turn, cut in tried:
        scale, offset = mappings[how]
        x = TURNS[turn](wide(image)[::-1] if flipped else wide(image))
        if x.shape != got.shape:
            continue
        x = x * scale + offset
        for wraps in (False, True):
            wanted = np.floor(x) if cut else np.rint(x)
            wanted = np.mod(np.trunc(x) if cut else wanted, 256) if wraps else np.clip(
                wanted, 0, 255)
            apart = np.abs(got - wanted)
            # A value just at the border may go either way in float32.
            if (apart != 0).mean() < BORDER and (wraps or apart.max(initial=0) <= 1):
                return list(_picture_said(how, how == right, flipped, turn, cut, wraps))
    return []


def _picture_said(how: str, right: bool, flipped: bool, turn: str, cut: bool, wraps: bool
                  ) -> Iterator[Found]:
    mend = "np.rint((image + 1) * 127.5).clip(0, 255).astype(np.uint8)"
    if flipped:
        yield Found("channels-reversed", "the written picture has R and B exchanged",
                    "Pillow takes R, G, B and cv2.imwrite B, G, R: turn the channels once, "
                    "image[::-1], or say images = {\"channels\": ...} as your network gives them")
    if not right:
        yield Found("range-of-the-picture", f"the picture is {how} of the image's x; CNTK's "
                    "program writes (x + 1) * 127.5", mend)
    if turn:
        yield Found("images-turned", f"the picture is turned: {turn}",
                    "image.transpose(1, 2, 0) alone: rows first")
    if cut:
        yield Found("truncated", "the picture's values are cut off, not rounded", mend)
    if wraps:
        yield Found("wrapped", "values outside of 0 .. 255 begin anew at the other end", mend)
