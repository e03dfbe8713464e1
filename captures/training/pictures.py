"""Generated images as pixels, and sixteen of them as one picture. Plain Python 3.6 and numpy."""
import numpy as np

GRID_SAMPLES, GRID_COLUMNS = 16, 4


def pixels(image: np.ndarray) -> np.ndarray:
    """(image / 2 + 0.5) * 255, rounded: 3 x H x W in [-1, 1] to bytes H x W x 3, channels as they
    are (B, G, R, as OpenCV writes them)."""
    values = np.rint((np.asarray(image, np.float32) / 2 + 0.5) * 255)
    return np.ascontiguousarray(np.clip(values, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def grid(images: np.ndarray, columns: int = GRID_COLUMNS, shrink: int = 2) -> np.ndarray:
    """N x 3 x H x W in [-1, 1] as one picture, row by row, each side divided by ``shrink`` (means
    of shrink x shrink pixels); what is missing of the last row is black."""
    n, channels, height, width = images.shape
    small = np.asarray(images, np.float32).reshape(
        n, channels, height // shrink, shrink, width // shrink, shrink).mean((3, 5))
    rows = -(-n // columns)
    full = np.full((rows * columns,) + small.shape[1:], -1, np.float32)
    full[:n] = small
    tiled = full.reshape((rows, columns) + small.shape[1:]).transpose(2, 0, 3, 1, 4)
    return pixels(tiled.reshape(channels, rows * small.shape[2], columns * small.shape[3]))
