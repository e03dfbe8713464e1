"""Mistakes in the reader, and in what the network makes of a pixel."""
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from captures.map_file import MapEntry
from planted.parts import method, number, replace
from planted.plant import DATA, mistake
from torch_port import dcgan
from torch_port.mersenne import Mersenne64
from torch_port.reader import augmentation, order, reader
from torch_port.reader.augmentation import Draws, apply_color, augmentation_draws, write_planes
from torch_port.reader.reader import ImageReader

FIRST_IMAGES = "minibatch00/images"
EVALUATION, REAL = "forward/evaluation", "discriminator_real/conv1/output"


@mistake("rgb-for-bgr", DATA, "Channels in the order R, G, B.", "reader", FIRST_IMAGES)
def rgb_for_bgr() -> None:
    before = reader.decode

    def decode(entry: MapEntry, where: str) -> np.ndarray:
        return np.ascontiguousarray(before(entry, where)[..., ::-1])
    replace(reader.decode, decode)


def _pixels(change: Callable[[Tensor], Tensor]) -> None:
    """Of the port alone: its exported file stays what it is."""
    before = dcgan.normalized
    replace(dcgan.normalized,
            lambda x, middle=127.5: before(x, middle) if torch.onnx.is_in_onnx_export()
            else change(x))


@mistake("no-normalisation", DATA, "Pixels go into the discriminator as 0..255.", EVALUATION, REAL)
def no_normalisation() -> None:
    _pixels(lambda x: x * 1.0)


@mistake("zero-to-one", DATA, "Pixels in [0, 1], as torchvision's ToTensor gives them.",
         EVALUATION, REAL)
def zero_to_one() -> None:
    _pixels(lambda x: x / 255)


@mistake("middle-128", DATA, "(x - 128) / 128.", EVALUATION, REAL)
def middle_128() -> None:
    _pixels(lambda x: (x - 128) / 128)


@mistake("scale-before-color", DATA, "The image is scaled first, its bytes, and coloured then.",
         "reader", FIRST_IMAGES)
def scale_before_color() -> None:
    def transform(self: ImageReader, image: np.ndarray, draws: Draws, out: np.ndarray) -> None:
        image = augmentation.scale(image, self.width, self.height).copy()
        write_planes(apply_color(image, *draws), out)
    method(ImageReader, "transform", transform)


def _scaled(by: Callable[[np.ndarray, int, int], np.ndarray]) -> None:
    replace(augmentation.scale, by)


@mistake("area-interpolation", DATA, "OpenCV's INTER_AREA.", "reader", FIRST_IMAGES)
def area_interpolation() -> None:
    _scaled(lambda image, width, height: cv2.resize(image, (width, height),
                                                    interpolation=cv2.INTER_AREA))


@mistake("cubic-interpolation", DATA, "OpenCV's INTER_CUBIC.", "reader", FIRST_IMAGES)
def cubic_interpolation() -> None:
    _scaled(lambda image, width, height: cv2.resize(image, (width, height),
                                                    interpolation=cv2.INTER_CUBIC))


@mistake("antialiasing", DATA,
         "torchvision's and Pillow's linear scaling, which filters before it samples.",
         "reader", FIRST_IMAGES)
def antialiasing() -> None:
    def scale(image: np.ndarray, width: int, height: int) -> np.ndarray:
        planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(planes.float(), (height, width), mode="bilinear",
                                                antialias=True)
        return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())
    _scaled(scale)


@mistake("fisher-yates", DATA, "A proper Fisher-Yates shuffle, where CNTK swaps over the whole "
         "range.", "reader", FIRST_IMAGES)
def fisher_yates() -> None:
    def shuffled(count: int, seed: int) -> list[int]:
        chunks = list(range(count))
        modulus = np.arange(1, count + 1, dtype=np.uint64)
        for i, other in enumerate((Mersenne64(seed).outputs(count) % modulus).tolist()):
            chunks[i], chunks[other] = chunks[other], chunks[i]
        return chunks
    replace(order.shuffled_chunks, shuffled)


@mistake("one-generator-for-all-positions", DATA,
         "One generator colours every image of a minibatch, position after position.",
         "reader", FIRST_IMAGES)
def one_generator_for_all_positions() -> None:
    def draws(self: ImageReader, step: int) -> list[Draws]:
        return [augmentation_draws(0, step * self.minibatch_size + position, self.color_radii)
                for position in range(self.minibatch_size)]
    method(ImageReader, "draws", draws)


@mistake("same-order-every-sweep", DATA, "Every sweep has the first one's order.",
         "reader", "minibatch0[67]/images")
def same_order_every_sweep() -> None:
    before = order.sample_order
    replace(order.sample_order, lambda count, sweep, seed=0: before(count, 0, seed))


@mistake("last-partial-minibatch-dropped", DATA,
         "DataLoader(drop_last=True): what is left of a sweep is left out.",
         "reader", "minibatch06/images")
def last_partial_minibatch_dropped() -> None:
    def indices(step: int, minibatch_size: int, count: int, seed: int = 0,
                of: order.Order = order.sample_order) -> np.ndarray:
        sweep, at = divmod(step, count // minibatch_size)
        first = sweep * count + at * minibatch_size
        return np.array([of(count, s // count, seed)[s % count]
                         for s in range(first, first + minibatch_size)], dtype=np.int64)
    replace(order.sample_indices, indices)


@mistake("contrast-about-the-mean", DATA, "torchvision's contrast: about the mean, not about 0.",
         "reader", FIRST_IMAGES)
def contrast_about_the_mean() -> None:
    def table(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
        mean = sum(cv2.sumElems(image)) / image.size
        made = np.arange(256, dtype=np.float32) * np.float32(1 + contrast)
        made += np.float32(brightness * mean)
        made -= np.float32(contrast * mean)
        return np.clip(made, 0, 255, out=made)
    replace(augmentation.brightness_contrast_table, table)


@mistake("window-of-64", DATA, "The second shuffle looks at 64 images, not at 128.",
         "reader", "(.*/)?(images|minibatches/of_warm_up/hashes)")
def window_of_64() -> None:
    number("WINDOW", 128, 64)


@mistake("augmentation-of-the-image", DATA,
         "An image is coloured by its own number, not by its place in the minibatch.",
         "reader", FIRST_IMAGES)
def augmentation_of_the_image() -> None:
    def draws(self: ImageReader, step: int) -> list[Draws]:
        return [augmentation_draws(int(index) % 7, step, self.color_radii)
                for index in self.indices(step)]
    method(ImageReader, "draws", draws)


@mistake("augmentation-restarts-with-the-sweep", DATA,
         "The augmentation's generators start again with every sweep.",
         "reader", "minibatch0[67]/images")
def augmentation_restarts() -> None:
    before = method(ImageReader, "draws", lambda self, step: before(
        self, step % max(1, self.images // self.minibatch_size)))


@mistake("contrast-drawn-first", DATA, "Contrast is drawn before brightness.",
         "reader", FIRST_IMAGES)
def contrast_drawn_first() -> None:
    before = augmentation.augmentation_draws

    def draws(position: int, step: int, radii: Sequence[float] = augmentation.RADII) -> Draws:
        brightness, contrast, saturation = before(position, step, radii)
        return Draws(contrast, brightness, saturation)
    replace(augmentation.augmentation_draws, draws)


@mistake("bytes-after-colour", DATA, "The coloured image is rounded to bytes before it is scaled.",
         "reader", FIRST_IMAGES)
def bytes_after_colour() -> None:
    def transform(self: ImageReader, image: np.ndarray, draws: Draws, out: np.ndarray) -> None:
        image = np.rint(apply_color(image, *draws)).astype(np.uint8).astype(np.float32)
        write_planes(augmentation.scale(image, self.width, self.height), out)
    method(ImageReader, "transform", transform)


@mistake("images-mirrored", DATA, "Every second image of a minibatch is mirrored.",
         "reader", FIRST_IMAGES)
def images_mirrored() -> None:
    def minibatch(self: ImageReader, step: int) -> Tensor:
        made: Tensor = before(self, step)
        made[1::2] = made[1::2].flip(-1)
        return made
    before = method(ImageReader, "minibatch", minibatch)


@mistake("brightness-of-luminance", DATA,
         "Brightness by the mean luminance, not by the mean of all values.",
         "reader", FIRST_IMAGES)
def brightness_of_luminance() -> None:
    def table(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
        blue, green, red = (total / image[..., 0].size for total in cv2.sumElems(image)[:3])
        mean = 0.114 * blue + 0.587 * green + 0.299 * red
        made = np.arange(256, dtype=np.float32) * np.float32(1 + contrast)
        made += np.float32(brightness * mean)
        return np.clip(made, 0, 255, out=made)
    replace(augmentation.brightness_contrast_table, table)
