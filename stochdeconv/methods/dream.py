"""DeepDream: amplify whatever a layer sees in a picture, at several scales, and feed the result back as a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import SettingsError
from stochdeconv.methods.amplification import dream_loss, parse_layers, warn_where_nothing_fired
from stochdeconv.methods.octaves import Octaves, Pyramid
from stochdeconv.settings import OPEN, check_count, check_number, read_settings, source_of, takes

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult, Step

# Noise to dream in: about mid-grey, strong enough that layers see something in it.
_NOISE_DEVIATION = 0.1
#: Part by which each frame of a stream is enlarged, and how many frames there are where only their movement is given.
ZOOM, ZOOM_FRAMES = 0.05, 24
# Longest side of a picture on the contact sheet, and how many frames of a stream it shows.
_SHEET_SIDE, _SHEET_FRAMES = 768, 8


@dataclass(frozen=True, kw_only=True)
class DreamSettings(Octaves):
    """How a picture is dreamt.

    Attributes
    ----------
    guide : path or ndarray, ``IMAGE``, optional
        A picture whose features are to be amplified instead of the strongest ones: at every place the one that fits best.
    zoom_frames : int, optional
        Frames of a stream that zooms into the dream, as a GIF and an MP4: each is the one before, zoomed and turned a little, in the
        colours of the first picture, dreamt again. By default 24 where `zoom` or `rotate` is set, else 0: a single picture.
    zoom : float, optional
        Part by which a frame is enlarged; 0.05, the default, shows the middle 95 %.
    rotate : float
        Degrees by which a frame is turned, counterclockwise.
    n_steps : int
        Steps at each octave.
    size : int, optional
        Shorter side in pixels; the photograph's own by default, the network's for noise.
    tile_size : int
        A larger picture goes through the network in tiles of this side, in pixels; less takes less memory.
    batch_size : int
        Tiles at a time; those left over go one by one. It changes no result; more take more memory, and less time where tiles are small.
    """

    counts = (*Octaves.counts, "tile_size")

    guide: str | Path | np.ndarray | None = None
    zoom_frames: int = OPEN
    zoom: float = OPEN
    rotate: float = 0.0
    n_steps: int = 10
    tile_size: int = 512
    batch_size: int = 1

    def _settle(self) -> None:
        super()._settle()
        zoom_frames, zoom = _plan_zoom(self.zoom_frames, self.zoom, self.rotate)
        self._fill(zoom_frames=zoom_frames, zoom=zoom)


@takes(DreamSettings)
def dream(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    layer: str | int | Sequence[str | int],
    settings: DreamSettings | None = None,
    *,
    callback: Callable[[Step], None] | None = None,
    **keywords: Any,
) -> RunResult:
    """Change a picture so that layers see more of what they see in it: DeepDream (Mordvintsev, Olah & Tyka 2015).

    Gradient ascent on the L2 norm of the layers' activations by steps of one size, over octaves: the picture is dreamt small first,
    and what was added is carried over, enlarged, to the next size. Lower layers give strokes, higher ones whole objects.

    Parameters
    ----------
    model : ImageModel
    photo : path, ndarray of shape (height, width, 3) in [0, 1], or "noise"
        Of any size: what is larger than `tile_size` goes through the network in tiles.
    layer : str, int or sequence of them
        ``LAYER[:CHANNEL][=WEIGHT],…``, names or numbers (`Network.find_layer`): layers, or single channels, and how much of
        each. Norms are relative to those of the picture (its middle, at the network's size), so that equal weights mean about equal
        shares.
    settings : DreamSettings, optional
    callback : callable, optional
        Called with a `Step` after each step.
    **keywords
        Fields of `DreamSettings`, in its place.

    Returns
    -------
    RunResult
        One image: the dream, or the last frame of the stream; the stream as `frames`.

    Raises
    ------
    InputError, MissingInputError, LayerNotFoundError
        A picture, layer or number that cannot be used.
    RunInterrupted
        On Ctrl-C, with the picture as it is.
    """
    from stochdeconv.methods.runs import hand_over, record_run
    from stochdeconv.optimization.results import OptimizationResult, gather

    settings = read_settings(DreamSettings, settings, keywords, model=model)
    started = time.monotonic()
    amplified = parse_layers(model, layer)
    layer = ",".join(map(str, amplified))
    picture = _picture(model, photo, settings.size, settings.seed)
    pyramid = settings.pyramid(
        model,
        [part.layer for part in amplified],
        picture.shape[:2],
        n_steps=settings.n_steps,
        tile_size=settings.tile_size,
        tile_batch_size=settings.batch_size,
    )
    loss = dream_loss(model, amplified, picture[None], settings.guide)
    frames: list[np.ndarray] = []
    run = record_run(
        "dream",
        OptimizationResult.chained(gather(_dreams(model, loss, picture, pyramid, settings, callback, frames))),
        model=model,
        settings=settings.record(
            photo=source_of(photo),
            layer=layer,
            **vars(pyramid),
            guide=source_of(settings.guide),
            size=list(picture.shape[:2]),
        ),
        seed=settings.seed,
        seconds=time.monotonic() - started,
    )
    sheet = _sheet(
        model, "noise" if _is_noise(photo) else "photograph", picture, layer, settings.guide, run.images[0], frames
    )
    warn_where_nothing_fired(layer, run.history)
    return hand_over(replace(run, sheet=sheet, frames=np.stack(frames) if frames else None))


def _dreams(
    model: ImageModel,
    loss: Loss,
    picture: np.ndarray,
    pyramid: Pyramid,
    settings: DreamSettings,
    callback: Callable[[Step], None] | None,
    frames: list[np.ndarray],
) -> Iterator[OptimizationResult]:
    """Dream the picture, and each frame of a stream from the one before; those of a stream that are finished go into `frames`."""
    from stochdeconv.images.animations import as_frames
    from stochdeconv.methods.zooming import Colors, moved
    from stochdeconv.optimization.results import in_stage

    # Every dream adds contrast and nothing takes it away: fed back as it is, a stream ends in the corners of the colour cube.
    colors = Colors.to_keep_of(picture)
    n_frames = max(settings.zoom_frames, 1)
    current = picture
    for frame in range(n_frames):
        if frame:
            current = colors.given_to(moved(current, zoom=settings.zoom, rotate=settings.rotate))
        on_step = in_stage(callback, frame, n_frames)
        result = pyramid.run(model, loss, current[None], first_index=frame * pyramid.octaves, callback=on_step)
        current = result.images[0]
        if result.complete and settings.zoom_frames:
            frames.append(as_frames(current))
        yield result.labelled(frame=frame)


def _sheet(
    model: ImageModel,
    start: str,
    picture: np.ndarray,
    layer: str,
    guide: str | Path | np.ndarray | None,
    image: np.ndarray,
    frames: Sequence[np.ndarray],
) -> np.ndarray:
    """Show the picture, the guide where there is one, and the dream or some frames of the stream."""
    from stochdeconv.images.colors import with_channels
    from stochdeconv.images.files import open_image, resize, stretch
    from stochdeconv.images.sheets import contact_sheet

    tiles, captions = [picture], [start]
    if guide is not None:
        tiles.append(resize(open_image(guide, channels=model.n_channels), picture.shape[:2]))
        captions.append("guide")
    if len(frames) > 1:
        picked = np.unique(np.linspace(0, len(frames) - 1, _SHEET_FRAMES).round().astype(int))
        tiles += [frames[i] / np.float32(255) for i in picked]
        captions += [f"frame {i}" for i in picked]
    else:
        tiles.append(image)
        captions.append(layer)
    shrink = min(1.0, _SHEET_SIDE / max(picture.shape[:2]) * (1 if len(tiles) <= 3 else 0.5))
    small = tuple(max(round(side * shrink), 1) for side in picture.shape[:2])
    return contact_sheet(np.stack([with_channels(stretch(tile, small), 3) for tile in tiles]), captions=captions)


def _plan_zoom(zoom_frames: int | None, zoom: float | None, rotate: float) -> tuple[int, float | None]:
    """Fill in the frames of a stream, and by how much each is enlarged, where they were not given.

    Raises
    ------
    SettingsError
        A number is out of range, or frames are to move where there is but one picture.
    """
    moves = zoom is not None or bool(rotate)
    if zoom_frames is None:
        zoom_frames = ZOOM_FRAMES if moves else 0
    if moves and zoom_frames in (0, 1):
        raise SettingsError(
            f"zoom= and rotate= are about the frames of a stream, and zoom_frames= says {zoom_frames}: give 2 or more, or leave it out"
        )
    check_count("zoom_frames", zoom_frames, at_least=0)
    check_number("zoom", zoom, at_least=0, below=1)
    check_number("rotate", rotate)
    return zoom_frames, ZOOM if zoom is None and zoom_frames > 1 else zoom


def _is_noise(photo: object) -> bool:
    return isinstance(photo, str) and photo == "noise"


def _picture(model: ImageModel, photo: str | Path | np.ndarray, size: int | None, seed: int) -> np.ndarray:
    from stochdeconv.images.files import open_image, stretch

    if _is_noise(photo):
        sides = model.image_size(size)
        noise = np.random.default_rng([seed, 0]).standard_normal((*sides, model.n_channels))
        return np.clip(0.5 + _NOISE_DEVIATION * noise, 0, 1).astype(np.float32)
    picture = open_image(photo, channels=model.n_channels)
    if size is None:
        return picture
    scale = size / min(picture.shape[:2])
    return np.clip(stretch(picture, tuple(max(round(side * scale), 1) for side in picture.shape[:2])), 0, 1)
