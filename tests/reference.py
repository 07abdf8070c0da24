"""What the package computes, computed again in plain NumPy, all at once, without a thought for speed or memory."""

import numpy as np


def pooled(maps: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Average (image, height, width, channel) over cells of equal area, a position on an edge shared by both cells."""
    n_images, height, width, n_channels = maps.shape
    # Copied onto the common multiple of both grids, where every cell is whole.
    fine = maps.astype(np.float64).repeat(rows, axis=1).repeat(columns, axis=2)
    return fine.reshape(n_images, rows, height, columns, width, n_channels).mean(axis=(2, 4))


def layer_statistics(maps: np.ndarray, layout_size: int) -> dict[str, np.ndarray]:
    """Moments of maps (image, height, width, channel), per image and over images, in float64."""
    maps = maps.astype(np.float64)
    n_images, height, width, n_channels = maps.shape
    flat = maps.reshape(n_images, -1, n_channels)
    means = flat.mean(axis=1)
    within = np.stack([np.cov(image, rowvar=False, bias=True).reshape(n_channels, n_channels) for image in flat])
    layouts = pooled(maps, min(height, layout_size), min(width, layout_size))
    return {
        "means": means,
        "log_stds": np.log(flat.std(axis=1) + 0.01),
        "within_covariance": within.mean(axis=0),
        "firing_fraction": (flat > 0).mean(axis=(0, 1)),
        "layouts": layouts.reshape(n_images, -1),
        "layout_mean": layouts.mean(axis=0),
        "total_variance": layouts.reshape(n_images, -1).var(axis=0, ddof=1).sum(),
    }


def log_gradients(image: np.ndarray) -> np.ndarray:
    """Log gradient magnitude of one image (height, width, 3), pixel by pixel."""
    luminance = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    height, width = luminance.shape
    values = np.empty((height - 1, width - 1))
    for y in range(height - 1):
        for x in range(width - 1):
            dx, dy = luminance[y, x + 1] - luminance[y, x], luminance[y + 1, x] - luminance[y, x]
            values[y, x] = np.log(np.hypot(dx, dy) + 1 / 255)
    return values
