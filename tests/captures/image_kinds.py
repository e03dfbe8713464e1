"""Image files of every kind that a decoder may meet, made byte by byte: good, odd and broken."""
import struct
from functools import cache

import cv2
import numpy as np

SIZE = (6, 5)  # width, height
STANDARD = (0xff0000, 0xff00, 0xff, 0)
MASKS32 = {
    "standard": STANDARD, "with alpha": (0xff0000, 0xff00, 0xff, 0xff000000),
    "red first": (0xff, 0xff00, 0xff0000, 0xff000000), "shifted": (0xff00, 0xff0000, 0xff000000, 0),
    "ten bits": (0x3ff00000, 0xffc00, 0x3ff, 0), "five bits": (0x7c00, 0x3e0, 0x1f, 0),
    "none": (0, 0, 0, 0), "no blue": (0xff0000, 0xff00, 0, 0), "red alone": (0xff, 0, 0, 0),
}
MASKS16 = {"555": (0x7c00, 0x3e0, 0x1f), "565": (0xf800, 0x7e0, 0x1f), "444": (0xf00, 0xf0, 0xf),
           "bgr": (0x1f, 0x7e0, 0xf800)}


def bmp(bits=24, header=40, compression=0, *, size=SIZE, fields=None, down=False, colours=0,
        masks=(), behind=(), gap=0, offset=None, file_size=None, planes=1, image_size=0,
        header_size=None, alpha=0, data=None, palette=None, end=b"", magic=b"BM"):
    """A BMP file. fields: width and height as the header tells them; masks: in the header;
    behind: masks behind it; alpha: the fourth byte of each pixel, or None for noise."""
    width, height = size
    random = np.random.RandomState(bits)
    if data is None:
        rows = random.randint(0, 256, (height, (width * bits + 31) // 32 * 4), dtype=np.uint8)
        if bits == 32 and alpha is not None:
            rows[:, 3::4] = alpha
        data = rows.tobytes()
    told = fields or (width, -height if down else height)
    start = struct.pack("<I", header if header_size is None else header_size)
    if header == 12:
        start += struct.pack("<HHHH", told[0] & 0xffff, told[1] & 0xffff, planes, bits)
    else:
        start += struct.pack("<iiHHIIiiII", *told, planes, bits, compression & 0xffffffff,
                             image_size, 2835, 2835, colours & 0xffffffff, 0)
        start = (start + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")[:header]
    if palette is None and bits <= 8:
        count = min(max(colours, 0) or 2 ** bits, 300)
        entries = random.randint(0, 256, (count, 4), dtype=np.uint8)
        palette = (entries[:, :3] if header == 12 else entries).tobytes()
    body = start + struct.pack(f"<{len(behind)}I", *behind) + (palette or b"") + bytes(gap)
    place = 14 + len(body) if offset is None else offset & 0xffffffff
    whole = 14 + len(body) + len(data) + len(end) if file_size is None else file_size
    return magic + struct.pack("<IHHI", whole, 0, 0, place) + body + data + end


def rle(codes, bits=8, **more):
    return bmp(bits, compression=1 if bits == 8 else 2, data=bytes(codes), **more)


def pnm(kind, largest=255, *, size=SIZE, data=None, blank=b"\n", told=None):
    """A PNM file, P1 to P6."""
    width, height = size
    count = width * height * (3 if kind in (3, 6) else 1)
    random = np.random.RandomState(kind)
    if data is None and kind == 4:
        data = random.bytes((width + 7) // 8 * height)
    elif data is None and kind > 4:
        data = random.bytes(count * (2 if largest > 255 else 1))
    elif data is None:
        highest = 1 if kind == 1 else max(largest, 0)
        data = b"".join(b"%d " % value for value in random.randint(0, highest + 1, count))
    head = [b"P%d" % kind, *(b"%d" % value for value in told or size)]
    if kind not in (1, 4):
        head.append(b"%d" % largest)
    return blank.join(head) + blank + data


def _bmps():
    for bits in (1, 2, 4, 8, 16, 24, 32):
        yield f"{bits} bits", bmp(bits)
        for header in (12, 16, 36, 52, 56, 64, 108, 124):
            yield f"{bits} bits, header {header}", bmp(bits, header, masks=STANDARD[:4])
        yield f"{bits} bits, top first", bmp(bits, down=True)
        yield f"{bits} bits, one pixel", bmp(bits, size=(1, 1))
        yield f"{bits} bits, a gap", bmp(bits, gap=7)
        yield f"{bits} bits, more behind", bmp(bits, end=b"more")
        yield f"{bits} bits, a byte missing", bmp(bits)[:-1]
        yield f"{bits} bits, two rows missing", bmp(bits)[:-20]
        yield f"{bits} bits, BITFIELDS without masks", bmp(bits, compression=3)
    for name, masks in MASKS32.items():
        for header in (40, 52, 56, 108, 124):
            behind = masks[:3] if header == 40 else ()
            yield (f"32 bits, masks {name}, header {header}",
                   bmp(32, header, 3, masks=masks if header > 40 else (), behind=behind))
        yield f"32 bits, masks {name}, ALPHABITFIELDS", bmp(32, 40, 6, behind=masks)
    for name, masks in MASKS16.items():
        yield f"16 bits, masks {name}", bmp(16, 40, 3, behind=masks)
        yield f"16 bits, masks {name}, in the header", bmp(16, 124, 3, masks=masks)
        yield f"16 bits, masks {name}, in and behind", bmp(16, 124, 3, masks=masks, behind=masks)
    for alpha in (255, 7, None):
        yield f"32 bits, alpha {alpha}", bmp(32, alpha=alpha)
    for compression in (1, 2, 3, 4, 5, 6, 7, 11, -1):
        for bits in (8, 24):
            yield f"{bits} bits, compression {compression}", bmp(bits, compression=compression)
    for value in (0, 2, 65535):
        yield f"{value} planes", bmp(planes=value)
    for value in (0, 54, 10 ** 5, 2 ** 32 - 1):
        yield f"file size {value}", bmp(file_size=value)
        yield f"image size {value}", bmp(image_size=value)
    for value in (1, 2, 255, 256, 257, 1000, -1):
        yield f"8 bits, {value} colours", bmp(8, colours=value)
        yield f"24 bits, {value} colours", bmp(colours=value)
    yield "4 bits, 17 colours", bmp(4, colours=17)
    for value in (0, 20, 55, 10 ** 5, -16, -1):
        yield f"pixels at {value}", bmp(offset=value, end=b"x")
    yield "pixels in the palette", bmp(8, offset=154)
    for fields in ((0, 5), (6, 0), (-6, 5), (2 ** 20, 2), (2 ** 20 + 1, 1), (1, 2 ** 20 + 1)):
        yield f"{fields[0]} x {fields[1]} pixels told", bmp(fields=fields)
    for value in (0, 1, 11, 13, 35, 39, 41, 48, 1000, 2 ** 31 - 1, 2 ** 32 - 1):
        yield f"a header that tells {value} bytes", bmp(header_size=value)
    for length in range(55):
        yield f"the first {length} bytes", bmp()[:length]
    greys = b"".join(bytes((value, value, value, 0)) for value in range(256))
    yield "8 bits, a grey palette", bmp(8, palette=greys)
    for magic in (b"BA", b"CI", b"IC", b"PT"):
        yield f"OS/2's {magic.decode()}", bmp(magic=magic)


def _rles():
    row, row4, line, line4 = [2, 10, 4, 20], [6, 0x12], [2, 10, 4, 20, 0, 0], [6, 0x12, 0, 0]
    yield "RLE8", rle(line * 4 + row + [0, 1])
    yield "RLE8, end of line before the end", rle(line * 5 + [0, 1])
    yield "RLE8, no ends of lines", rle(row * 5 + [0, 1])
    yield "RLE8, no end", rle(line * 5)
    yield "RLE8, no end at all", rle(line * 4 + row)
    yield "RLE8, literal", rle([0, 6, 1, 2, 3, 4, 5, 6, 0, 0] * 5 + [0, 1])
    yield "RLE8, literal, odd", rle([0, 5, 1, 2, 3, 4, 5, 0, 1, 9, 0, 0] * 5 + [0, 1])
    yield "RLE8, short rows", rle([2, 10, 0, 0] * 5 + [0, 1])
    yield "RLE8, ended early", rle([2, 10, 0, 1])
    yield "RLE8, nothing", rle([0, 1])
    yield "RLE8, a delta", rle([2, 10, 0, 2, 1, 1, 2, 20, 0, 0, 0, 1])
    yield "RLE8, a large delta", rle([0, 2, 200, 200, 0, 1])
    yield "RLE8, a run too long", rle([7, 10, 0, 0] + line * 4 + [0, 1])
    yield "RLE8, a literal too long", rle([0, 7, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0] * 5 + [0, 1])
    yield "RLE8, a run behind the last row", rle(line * 4 + row + [3, 4, 0, 1])
    yield "RLE8, rows too many", rle(line * 7 + [0, 1])
    yield "RLE8, cut short", rle(line * 3)[:-3]
    yield "RLE8, top first", rle(line * 5 + [0, 1], down=True)
    yield "RLE8 of 4 bits", bmp(4, compression=1)
    yield "RLE4", rle(line4 * 4 + row4 + [0, 1], 4)
    yield "RLE4, no end", rle(line4 * 5, 4)
    yield "RLE4, no ends of lines", rle(row4 * 5 + [0, 1], 4)
    yield "RLE4, literal", rle([0, 6, 0x12, 0x34, 0x56, 0, 0, 0] * 5 + [0, 1], 4)
    yield "RLE4, short rows", rle([2, 0x12, 0, 0] * 5 + [0, 1], 4)
    yield "RLE4, a run too long", rle([7, 0x12, 0, 0] * 5 + [0, 1], 4)
    yield "RLE4, ended early", rle([2, 0x12, 0, 1], 4)
    random = np.random.RandomState(1)
    for number in range(60):  # legal runs and literals, some of them one too many
        bits, codes = (4, 8)[number % 2], []
        for _ in range(random.randint(4, 7)):
            x = 0
            while x < 6:
                count = random.randint(1, 7 - x)
                if count > 2 and random.randint(2):
                    length = (count + 1) // 2 * 2 if bits == 8 else ((count + 1) // 2 + 1) // 2 * 2
                    codes += [0, count, *random.bytes(length)]
                else:
                    codes += [count, random.randint(256)]
                x += count
            codes += [0, 0]
        yield f"RLE{bits}, random {number}", rle([*codes, *[0, 1] * random.randint(2)], bits)


def _pnms():
    for kind in range(1, 7):
        whole = pnm(kind)
        yield f"P{kind}", whole
        yield f"P{kind}, a byte missing", whole[:-1]
        yield f"P{kind}, two bytes missing", whole[:-2]
        yield f"P{kind}, more behind", whole + b"7 more"
        yield f"P{kind}, a comment", whole.replace(b"\n", b"\n# six by five\n", 1)
        yield f"P{kind}, CR LF", pnm(kind, blank=b"\r\n")
        yield f"P{kind}, tabs", pnm(kind, blank=b"\t")
        yield f"P{kind}, 9 wide", pnm(kind, size=(9, 2))
        for told in ((0, 5), (6, -5), (2 ** 20 + 1, 1), (99999999999, 1)):
            yield f"P{kind}, {told[0]} x {told[1]} told", pnm(kind, told=told)
        for length in (3, 4, 5, 6, 8):
            yield f"P{kind}, the first {length} bytes", whole[:length]
    for kind in (2, 3, 5, 6):
        for largest in (0, 1, 15, 100, 256, 1023, 65535, 65536, -1):
            yield f"P{kind}, largest {largest}", pnm(kind, largest)
    yield "P3, letters", pnm(3, data=b"a " * 90)
    yield "P3, negative", pnm(3, data=b"-1 " * 90)
    yield "P3, commas", pnm(3, data=b"1," * 90)
    yield "P3, comments", pnm(3, data=b"1 # one\n2 " * 45)
    yield "P3, beyond the largest", pnm(3, 100, data=b"200 " * 90)
    yield "P3, beyond 2^31", pnm(3, data=b"9999999999 " * 90)
    yield "P1, tight", pnm(1, data=b"01" * 15)
    yield "P1, a two", pnm(1, data=b"2 " * 30)
    yield "P6, no blank", b"P66 5 255\n" + bytes(90)
    yield "P6, a comment behind the last number", b"P6\n6 5\n255 #\n" + bytes(90)
    yield "P7", b"P7\nWIDTH 6\nHEIGHT 5\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(90)


def _others():
    image = np.random.RandomState(0).randint(0, 256, (5, 6, 3), dtype=np.uint8)
    for kind in ("png", "jpg", "gif", "webp", "tiff", "avif", "ras", "pam"):
        done, content = cv2.imencode(f".{kind}", image)
        assert done
        yield kind.upper(), content.tobytes()
        yield f"half a {kind.upper()}", content.tobytes()[:content.size // 2]
    for kind in ("hdr", "pfm"):
        yield kind.upper(), cv2.imencode(f".{kind}", image.astype(np.float32) / 255)[1].tobytes()
    yield "OpenCV's BMP", cv2.imencode(".bmp", image)[1].tobytes()
    yield "OpenCV's grey BMP", cv2.imencode(".bmp", image[..., 0])[1].tobytes()
    image = np.dstack([image, image[..., :1]])
    yield "OpenCV's BMP with alpha", cv2.imencode(".bmp", image)[1].tobytes()
    for name, start in (("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"), ("JPEG XL", b"\xff\n"),
                        ("HEIC", b"\0\0\0\x18ftypheic"), ("EXR", b"v/1\x01"), ("PSD", b"8BPS"),
                        ("ICO", b"\0\0\x01\0"), ("zip", b"PK\x03\x04"), ("PDF", b"%PDF-1.7"),
                        ("SVG", b"<svg xmlns="), ("HTML", b"<!DOCTYPE html>"), ("text", b"a face"),
                        ("zeros", bytes(8)), ("gzip", b"\x1f\x8b\x08")):
        yield name, start + bytes(200)
    for content in (b"", b"B", b"BM", b"P", b"P6", b"P6\0"):
        yield f"{content!r} alone", content


@cache
def kinds() -> dict[str, bytes]:
    """Every file, by what it is."""
    made = [*_bmps(), *_rles(), *_pnms(), *_others()]
    named = dict(made)
    assert len(named) == len(made)
    return named
