"""Which image files CNTK's decoder and the port's read alike, told without a decoder. Python 3.6.

CNTK 2.7 carries OpenCV 3.1, the port runs on OpenCV 5. Here both decode BMP and the PNM family
(PBM, PGM, PPM); what they make of a file was compared file by file, and the rules below accept a
file only if both read it, and the same pixels (the test repeats that on hundreds of files). They
are not the formats' rules: both ignore a BMP's own size, its planes, and a gap before the pixels.

Every file is walked through to its last pixel, which decides what decoding would:

* OpenCV 3.1 gives a file that is cut short what the memory happened to hold; 5 refuses it.
* 32 bits with masks (BITFIELDS): OpenCV 3.1 ignores them, 5 follows those of a header of 56 bytes
  or more. Masks other than those of B, G, R, X are read differently.
* 16 bits with masks: both know 5-5-5 and 5-6-5 only, behind the header.
* RLE: OpenCV 3.1 wants the end marked, and writes outside the image where 5 stops.
* The text forms of PNM: OpenCV 3.1 reads letters as blanks; 5 wants something behind the last
  number.

One rule of ours: a fourth channel that is neither all 0 nor all 255 is an alpha channel. Both
decoders drop it, and show colours that nobody was meant to see.
"""
import re
import struct
from typing import Optional, Tuple

LARGEST_SIDE, LARGEST_AREA = 2 ** 20, 2 ** 30  # OpenCV 5's limits, in pixels
LARGEST_FILE = 2 ** 31 - 1  # bytes: what a decoder takes from memory

_CONVERT = "convert it: `bin/parity photos FOLDER` writes what both read"
_CUT = "is cut short (%d bytes of %d): replace the file or delete the line"
_OTHERS = (  # what stands at which place: the name
    (0, b"\x89PNG", "a PNG image"), (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"II*\0", "a TIFF image"), (0, b"MM\0*", "a TIFF image"), (8, b"WEBP", "a WebP image"),
    (4, b"ftypavi", "an AVIF image"), (4, b"ftyphei", "a HEIC image"),
    (4, b"ftypmif", "a HEIC image"), (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"\xffO\xffQ", "a JPEG 2000 image"), (0, b"\xff\n", "a JPEG XL image"),
    (0, b"P7", "a PAM image"), (0, b"Pf\n", "a PFM image"), (0, b"PF\n", "a PFM image"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image"), (0, b"#?R", "a Radiance image"),
    (0, b"v/1\x01", "an OpenEXR image"), (0, b"8BPS", "a Photoshop image"),
    (0, b"\0\0\x01\0", "an icon"), (0, b"PK\x03\x04", "a zip archive"), (0, b"%PDF", "a PDF file"),
)
_SPACE = b" \t\n\v\f\r"
_STANDARD = (0xff0000, 0xff00, 0xff)
_SIXTEEN = ((0x7c00, 0x3e0, 0x1f), (0xf800, 0x7e0, 0x1f))


class _Refused(Exception):
    """Why: the end of a sentence that begins with the file's name."""


def refusal(content: bytes) -> Optional[str]:
    """Why an image file cannot be used, and how to mend it; None if both decoders read it alike.

    content: the whole file. The text goes on a sentence that begins with the file's name.
    """
    try:
        if content[:2] == b"BM":
            _check_bmp(content)
        elif content[:1] == b"P" and content[1:2] in b"123456" and content[2:3] in _SPACE \
                and len(content) > 2:
            _check_pnm(content)
        else:
            raise _Refused("%s, and BMP and PNM are read here: %s" % (_kind(content), _CONVERT))
    except _Refused as reason:
        return str(reason)
    return None


def _kind(content: bytes) -> str:
    if not content:
        return "is empty"
    for place, magic, name in _OTHERS:
        if content[place:place + len(magic)] == magic:
            return "is " + name
    return "is no image that is known here"


def _need(content: bytes, size: int) -> None:
    if len(content) < size:
        raise _Refused(_CUT % (len(content), size))


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise _Refused("says that it has %d x %d pixels: replace the file or delete the line"
                       % (width, height))
    if width > LARGEST_SIDE or height > LARGEST_SIDE or width * height > LARGEST_AREA:
        raise _Refused("says that it has %d x %d pixels, more than is decoded (2^20 a side, 2^30 "
                       "in all): scale it down or delete the line" % (width, height))


# ------------------------------------------------------------------------------------------ BMP

def _check_bmp(content: bytes) -> None:
    _need(content, 26)
    offset, header = struct.unpack_from("<ii", content, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = colours = 0
    elif header >= 36:
        _need(content, 50)
        width, height, _, bits, compression = struct.unpack_from("<iiHHi", content, 18)
        colours, = struct.unpack_from("<i", content, 46)
    else:
        raise _Refused("is a BMP with a header of %d bytes, which is not read: %s"
                       % (header, _CONVERT))
    _check_size(width, abs(height))
    if (bits, compression) not in ((1, 0), (4, 0), (8, 0), (24, 0), (32, 0), (16, 0), (16, 3),
                                   (32, 3), (4, 2), (8, 1)) or (header == 12 and bits == 16):
        raise _Refused("is a BMP of %d bits and compression %d, which is not read: %s"
                       % (bits, compression, _CONVERT))
    _check_colours(content, header, bits, compression, colours)
    if offset < 0:
        raise _Refused("is a BMP whose pixels begin at byte %d: replace the file" % offset)
    if compression in (1, 2):
        _walk_rle(content, offset, width, abs(height), bits)
        return
    stride = ((width * bits + 7) // 8 + 3) // 4 * 4
    end = offset + stride * abs(height)
    _need(content, end)
    if bits == 32:
        _check_alpha(content[offset + 3:end:4])


def _check_colours(content: bytes, header: int, bits: int, compression: int, colours: int) -> None:
    """The palette, or the masks: that they are there, and that both decoders take them alike."""
    begin = 14 + header
    if bits <= 8:
        if not 0 <= colours <= 256:
            raise _Refused("is a BMP with a palette of %d colours, which is not read: %s"
                           % (colours, _CONVERT))
        entry = 3 if header == 12 else 4
        _need(content, begin + entry * (colours or 2 ** bits))
    elif (bits, compression) == (16, 3):
        _need(content, begin + 12)
        if struct.unpack_from("<III", content, begin) not in _SIXTEEN:
            raise _Refused("is a BMP of 16 bits with masks other than 5-5-5 and 5-6-5 behind its "
                           "header, which CNTK does not read: %s" % _CONVERT)
    elif (bits, compression) == (32, 3) and header >= 56:
        _need(content, 70)
        masks = struct.unpack_from("<III", content, 54)
        if all(masks) and masks != _STANDARD:
            raise _Refused("is a BMP of 32 bits with the masks %08x, %08x, %08x, which CNTK "
                           "ignores, so that it takes other colours from it: %s"
                           % (masks + (_CONVERT,)))


def _check_alpha(channel: bytes) -> None:
    if channel.count(b"\0") != len(channel) and channel.count(b"\xff") != len(channel):
        raise _Refused("has an alpha channel, which both decoders drop: %s" % _CONVERT)


def _walk_rle(content: bytes, place: int, width: int, height: int, bits: int) -> None:
    """Follows the codes of RLE4 or RLE8 as OpenCV 3.1 does, as far as 5 does the same."""
    x = y = 0
    wrapped = False  # RLE8: a run has just filled its row, so that an end of line says nothing more
    while True:
        _need(content, place + 2)
        count, code = content[place], content[place + 1]
        place += 2
        if count or code > 2:
            steps = count or code
            if y >= height or x + steps > width:
                raise _Refused("is a BMP with a run beyond the edge of its row: %s" % _CONVERT)
            if not count:
                place += (code + 1) // 2 * 2 if bits == 8 else ((code + 1) // 2 + 1) // 2 * 2
                _need(content, place)
            x, wrapped = x + steps, False
            if count and bits == 8 and x == width:
                x, y, wrapped = 0, y + 1, True
            continue
        steps = width - x
        if code == 2:
            _need(content, place + 2)
            steps = content[place] + (content[place + 1] * width if bits == 8 else 0)
            place += 2
        elif code == 1 and bits == 8:
            steps += (height - y) * width
        if not (code == 0 and wrapped and x == 0):
            # What is skipped gets the first colour; a row that is full ends at once.
            y, x = y + (x + steps) // width, (x + steps) % width
        wrapped = False
        if y >= height:
            return


# ------------------------------------------------------------------------------------------ PNM

def _check_pnm(content: bytes) -> None:
    kind = content[1] - ord("0")
    width, place = _number(content, 2)
    height, place = _number(content, place)
    largest, place = (1, place) if kind in (1, 4) else _number(content, place)
    _check_size(width, height)
    if not 1 <= largest <= 65535:
        raise _Refused("is a PNM image with %d for its largest value: replace the file" % largest)
    samples = width * (3 if kind in (3, 6) else 1)
    if kind >= 4:
        row = (width + 7) // 8 if kind == 4 else samples * (2 if largest > 255 else 1)
        _need(content, place + row * height)
    else:
        _walk_text(content, place, samples * height, kind == 1)


_NUMBER = re.compile(rb"(?:[ \t\n\v\f\r]|#[^\n\r]*[\n\r])*([0-9]+)[^0-9]", re.DOTALL)
_DIGIT = re.compile(rb"(?:[ \t\n\v\f\r]|#[^\n\r]*[\n\r])*([0-9])")


def _number(content: bytes, place: int) -> Tuple[int, int]:
    """A number behind blanks and comments, and the place behind the byte that ends it."""
    found = _NUMBER.match(content, place)
    digits = b"" if found is None else found.group(1).lstrip(b"0")
    if found is None or int(digits[:11] or b"0") >= 2 ** 31:
        raise _Refused("is a PNM image in which no number, with something behind it, stands at "
                       "byte %d: replace the file or delete the line" % place)
    return int(digits or b"0"), found.end()


def _walk_text(content: bytes, place: int, count: int, digits: bool) -> None:
    """That ``count`` numbers follow; of P1, digits."""
    if len(content) - place < count:  # so that a header's word costs no walk
        _need(content, place + count)
    for _ in range(count):
        if digits:
            found = _DIGIT.match(content, place)
            if found is None:
                raise _Refused("is a PNM image in which no digit stands at byte %d: replace the "
                               "file or delete the line" % place)
            place = found.end()
        else:
            place = _number(content, place)[1]
