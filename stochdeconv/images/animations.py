"""Pictures that move: frames in, a GIF or an MP4 out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from stochdeconv.errors import InputError
from stochdeconv.images.colors import with_channels
from stochdeconv.images.sheets import contact_sheet

#: Frames a second. GIF counts in hundredths of a second, so not every rate can be had exactly.
FRAME_RATE = 12.5
# libx264's quality scale, 0 (lossless) to 51: dreams are all fine detail, so better than its default of 23.
_CONSTANT_RATE_FACTOR = 18

# A film of a run: moving pictures and the last one held for a second, 64 frames in all; pictures on them at most.
_MOVING_FRAMES, _HELD_FRAMES, _MAX_PICTURES = 52, 12, 16


class Film:
    """The images of a run while they are made, all in one picture: a frame every few steps.

    Frames are closer to each other early on, where most happens. No more than the first 16 images are shown, whole batches of them.

    Parameters
    ----------
    n_steps : int
        Steps of each batch.
    callback : callable, optional
        Watches the run too.
    """

    def __init__(self, n_steps: int, callback: Callable[[Any], None] | None = None):
        self._callback = callback
        shares = np.linspace(0.0, 1.0, _MOVING_FRAMES) ** 2
        self._due = set(np.rint(1 + (n_steps - 1) * shares).astype(int).tolist())
        self._batches: list[list[np.ndarray]] = []

    def __call__(self, step: Any) -> None:
        """Look at a `Step` of the run."""
        self.expose(step.batch_step, step.images)
        if self._callback is not None:
            self._callback(step)

    def expose(self, step: int, images: Callable[[], np.ndarray]) -> None:
        """Take a frame of a batch where one is due.

        Parameters
        ----------
        step : int
            Steps this batch has done; 1 starts a batch.
        images : callable
            () -> images (image, height, width, 3) in [0, 1].
        """
        if step == 1:
            self._batches.append([])
        n_before = sum(len(batch[0]) for batch in self._batches[:-1] if batch)
        if step in self._due and n_before < _MAX_PICTURES:
            self._batches[-1].append(as_frames(images()[: _MAX_PICTURES - n_before]))

    def frames(self) -> np.ndarray | None:
        """Develop the film: frames (frame, height, width, 3), uint8, or None where nothing was seen.

        A batch that was interrupted stays as it was last seen.
        """
        frames = side_by_side(self._batches)
        return None if frames is None else np.concatenate([frames, *[frames[-1:]] * _HELD_FRAMES])


def side_by_side(batches: Sequence[Sequence[np.ndarray]]) -> np.ndarray | None:
    """Show pictures that were made in batches together, while they move.

    Parameters
    ----------
    batches : sequence of sequence of ndarray of shape (image, height, width, 3), uint8
        Frame by frame. A batch that has fewer stays as it was last seen; one that has none is left out.

    Returns
    -------
    ndarray of shape (frame, height, width, 3), uint8, or None
        The pictures tiled; a single one as it is.
    """
    batches = [batch for batch in batches if len(batch)]
    frames = []
    for number in range(max(map(len, batches), default=0)):
        pictures = np.concatenate([batch[min(number, len(batch) - 1)] for batch in batches])
        frames.append(pictures[0] if len(pictures) == 1 else as_frames(contact_sheet(pictures / 255.0)))
    return np.stack(frames) if frames else None


def gif_bytes(frames: np.ndarray, *, frame_rate: float = FRAME_RATE) -> bytes:
    """Encode frames as an endless GIF; the same frames give the same bytes.

    Parameters
    ----------
    frames : ndarray of shape (frame, height, width, 3), uint8
    frame_rate : float
        Frames a second.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        Frames of another kind, or none.
    """
    _check(frames)
    # A palette of its own for every frame: one for all shows bands wherever colours change over time.
    pictures = [
        Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
        for frame in frames
    ]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=max(round(1000 / frame_rate), 20),
        loop=0,
        disposal=1,
    )
    return buffer.getvalue()


def mp4_bytes(frames: np.ndarray, *, frame_rate: float = FRAME_RATE) -> bytes:
    """Encode frames as H.264 in MP4, in the form browsers and phones play.

    Parameters
    ----------
    frames : ndarray of shape (frame, height, width, 3), uint8
        An odd last row or column is left out: the format stores colours at half the resolution.
    frame_rate : float
        Frames a second.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        Frames of another kind, none, or of fewer than two pixels a side.
    """
    _check(frames)
    height, width = (side - side % 2 for side in frames.shape[1:3])
    if not (height and width):
        raise InputError(f"an MP4 needs frames of at least 2x2 pixels; got {frames.shape[1]}x{frames.shape[2]}")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as movie:
        # One thread, and no rate control by macroblock trees: with either the bytes are not the same every time.
        options = {"crf": str(_CONSTANT_RATE_FACTOR), "threads": "1", "x264-params": "mbtree=0"}
        stream = movie.add_stream("libx264", rate=Fraction(frame_rate), options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            movie.mux(stream.encode(picture))
        movie.mux(stream.encode())
    return buffer.getvalue()


def as_frames(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Round images in [0, 1] (image, height, width, channel), clipped, to RGB frames of 8 bits."""
    images = with_channels(np.asarray(images, np.float32), 3)
    return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)


def _check(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise InputError(
            f"an animation is made of uint8 frames (frame, height, width, 3); got {frames.dtype} of shape {frames.shape}"
        )
