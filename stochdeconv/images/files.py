"""Photographs in, pictures out: reading, resizing and saving image files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from stochdeconv.errors import InputError, MissingInputError
from stochdeconv.files import write_atomically
from stochdeconv.images.colors import with_channels

# Named one by one: Pillow would hand an EPS file to Ghostscript, and that is a program, no picture.
# (Pillow opens MPO as JPEG; a format it was built without is not registered.)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")
_ORIENTATION_TAG = 0x0112
# EXIF 2.32, tag 274: what undoes each stored orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(path: str | os.PathLike, size: tuple[int, int] | None = None, *, channels: int = 3) -> np.ndarray:
    """Read one image the way every network of the package is shown it.

    Upright (EXIF), RGB or grey, transparency on white, 16 bits scaled to [0, 1], the first frame of an animation. The shorter side
    (relative to ``size``) is resized with an antialiasing Lanczos filter, then the centre is cropped.

    Parameters
    ----------
    path : path-like
        JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000 or AVIF, told by content.
    size : tuple of int, optional
        (height, width) of the result; by default the picture's own.
    channels : {3, 1}
        3 for RGB, of a grey picture three times the same; 1 for grey, of a colour picture its luminance.

    Returns
    -------
    ndarray of shape (height, width, channel)
        float32 in [0, 1].

    Raises
    ------
    MissingInputError
        No such file.
    InputError
        The file is no image, is truncated, or is too large to be unpacked safely; the message names file and reason.
    """
    path = Path(path)
    # Opening by a list of formats finds only registered ones, and Pillow registers the rarer ones late. Done once.
    Image.init()
    try:
        with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as picture:
            if size is not None:
                # A large JPEG is decoded at a fraction of its size; twice the size wanted leaves the filter its work, and neither side
                # is too short for it once the picture is turned upright.
                picture.draft(None, (2 * max(size), 2 * max(size)))
            orientation = _orientation(picture)
            upright = _as_rgb_or_float(picture)
            if orientation in _UPRIGHT:
                upright = upright.transpose(_UPRIGHT[orientation])
            if size is not None:
                upright = _resize_and_crop(upright, size)
            pixels = np.array(upright)  # a copy, made before the file closes
    except FileNotFoundError:
        raise MissingInputError(f"no such image: '{path}'") from None
    except (MemoryError, InputError):
        raise
    except Exception as error:  # decoders raise nearly anything (struct.error, SyntaxError, …) on damaged files
        raise InputError(f"cannot read '{path}' as an image: {_reason(error, path)}") from error
    if pixels.dtype == np.uint8:
        return with_channels(pixels.astype(np.float32) / np.float32(255), channels)
    # The filter overshoots at edges, and only 8-bit pictures are clipped by Pillow itself.
    return with_channels(np.clip(pixels, 0.0, 1.0)[..., np.newaxis], channels)


def _reason(error: Exception, path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    if isinstance(error, Image.UnidentifiedImageError):
        return "the file is empty" if path.stat().st_size == 0 else "no known image format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too many pixels ({error})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _orientation(picture: Image.Image) -> int:
    # Damaged EXIF is common in old photographs and no reason to lose the picture: it then counts as upright.
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1


def _as_rgb_or_float(picture: Image.Image) -> Image.Image:
    """One 8-bit RGB picture, or one float picture in [0, 1] for grey of more than 8 bits."""
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(picture, dtype=np.float32)
        low, high = float(values.min()), float(values.max())
        top = 1.0 if mode == "F" else 65535.0
        if not (low >= 0.0 and high <= top):
            raise ValueError(f"its values run from {low:g} to {high:g}; a {mode!r} image is read as 0 to {top:g}")
        if mode == "I" and picture.format == "TIFF" and 0 < high <= 255:
            raise ValueError(
                f"its whole numbers of 32 bits run to {high:g}, of 255 or of 65535; save it with 8 or 16 bits"
            )
        if "transparency" in picture.info:  # one value that stands for nothing, as PNG has it
            values = np.where(values == picture.info["transparency"], np.float32(top), values)
        return Image.fromarray(values / np.float32(top))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture if mode == "RGB" else picture.convert("RGB")


def _resize_and_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if (picture.height, picture.width) == (height, width):
        picture.load()
        return picture
    # The crop is taken inside the filter, in the picture's own coordinates: no rounding of the intermediate size.
    scale = min(picture.width / width, picture.height / height)
    # Rounding may take the difference of equal numbers a little below zero.
    left = max((picture.width - scale * width) / 2, 0.0)
    top = max((picture.height - scale * height) / 2, 0.0)
    box = (left, top, min(left + scale * width, picture.width), min(top + scale * height, picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a picture to a network's size the way ``load_image`` does: antialiased, shorter side first, centre crop.

    Parameters
    ----------
    image : ndarray of shape (height, width, channel), float32 in [0, 1]
    size : tuple of int
        (height, width) wanted.

    Returns
    -------
    ndarray of shape (height, width, channel)
        float32 in [0, 1]; the picture itself where it has this size already.
    """
    if image.shape[:2] == tuple(size):
        return image
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c], dtype=np.float32)) for c in range(image.shape[-1])]
    resized = np.stack([np.asarray(_resize_and_crop(channel, size)) for channel in channels], axis=-1)
    return np.clip(resized, 0.0, 1.0)


def open_image(
    photo: str | os.PathLike | np.ndarray, size: tuple[int, int] | None = None, *, channels: int = 3
) -> np.ndarray:
    """Take a photograph as a path or as a picture in memory, at the size wanted.

    Parameters
    ----------
    photo : path-like or ndarray
        In memory (height, width, channel) or (height, width), of 1, 3 or 4 channels: floats in [0, 1], or whole numbers of 8 or 16 bits.
    size : tuple of int, optional
        (height, width); the shorter side is resized to it, then the centre is cropped. By default the picture's own.
    channels : {3, 1}
        3 for RGB, of a grey picture three times the same; 1 for grey, of a colour picture its luminance.

    Returns
    -------
    ndarray of shape (height, width, channel)
        float32 in [0, 1].

    Raises
    ------
    MissingInputError, InputError
        No such file, no image, or an array of another shape or range.
    """
    if not isinstance(photo, np.ndarray):
        if not isinstance(photo, str | os.PathLike):
            raise InputError(f"a photograph is a path or an array in [0, 1]; got {type(photo).__name__}")
        return load_image(photo, size, channels=channels)
    picture = photo[..., np.newaxis] if photo.ndim == 2 else photo
    if picture.dtype in (np.uint8, np.uint16):
        picture = picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)
    is_picture = picture.ndim == 3 and picture.shape[-1] in (1, 3, 4) and picture.size and picture.dtype.kind in "fiu"
    if not is_picture or not (picture.min() >= 0 and picture.max() <= 1):
        raise InputError(
            f"a picture in memory is (height, width, 3) or grey, with values in [0, 1] or whole numbers of 8 or 16 bits; got "
            f"{photo.dtype} of shape {photo.shape}"
            + (f" and values from {photo.min():g} to {photo.max():g}" if is_picture else "")
        )
    picture = with_channels(picture.astype(np.float32), channels)
    return picture if size is None else resize(picture, size)


def stretch(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize the whole of a picture, or of any map of numbers, to a size, its proportions changed where they differ.

    Parameters
    ----------
    values : ndarray of shape (height, width, channel), float32
        Any range; nothing is clipped, and a sharp edge may overshoot a little (Lanczos filter).
    size : tuple of int
        (height, width) wanted.

    Returns
    -------
    ndarray of shape (height, width, channel), float32
    """
    height, width = size
    channels = (
        Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(values, -1, 0).astype(np.float32)
    )
    return np.stack([np.asarray(c.resize((width, height), Image.Resampling.LANCZOS)) for c in channels], axis=-1)


def save_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Save a picture, whole or not at all; the same picture gives the same bytes.

    Parameters
    ----------
    path : path-like
        Where to; an existing file is replaced.
    image : ndarray of shape (height, width, 3), (height, width, 1) or (height, width)
        Values in [0, 1], clipped; uint8 is taken as it is.

    Raises
    ------
    InputError
        The picture holds NaN or has another shape, or the disk is full.
    """
    write_atomically(path, png_bytes(image))


def png_bytes(image: np.ndarray) -> bytes:
    """Encode a picture as PNG, for a file or for embedding in a page.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), (height, width, 1) or (height, width)
        Values in [0, 1], clipped; uint8 is taken as it is.

    Returns
    -------
    bytes
    """
    return _encoded(image, "PNG", compress_level=6)


def jpeg_bytes(image: np.ndarray, *, quality: int = 90) -> bytes:
    """Encode a picture as JPEG, where a page must stay small.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), (height, width, 1) or (height, width)
        Values in [0, 1], clipped; uint8 is taken as it is.
    quality : int
        1 to 95, Pillow's scale.

    Returns
    -------
    bytes
    """
    return _encoded(image, "JPEG", quality=quality)


def _encoded(image: np.ndarray, kind: str, **options: int) -> bytes:
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)):
        raise InputError(f"a picture of shape (height, width, 3) or (height, width) was expected; got {image.shape}")
    if image.dtype != np.uint8:
        if not np.isfinite(image).all():
            raise InputError("the picture holds NaN or infinite values and was not saved")
        image = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()
