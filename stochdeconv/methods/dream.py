"""DeepDream: amplify whatever a layer sees in a picture, at several scales, and feed the result back as a stream."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError, LayerNotFoundError, ModelError
from stochdeconv.parsing import read_layer_word, read_list

if TYPE_CHECKING:
    from stochdeconv.losses import Loss, Term
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step

# Noise to dream in: about mid-grey, strong enough that layers see something in it.
_NOISE_DEVIATION = 0.1
#: Part by which each frame of a stream is enlarged, and how many frames there are where only their movement is given.
ZOOM, ZOOM_FRAMES = 0.05, 24
# Longest side of a picture on the contact sheet, and how many frames of a stream it shows.
_SHEET_SIDE, _SHEET_FRAMES = 768, 8


@dataclass(frozen=True)
class Amplified:
    """A layer to amplify.

    Attributes
    ----------
    layer : str
    channel : int or None
        This channel alone.
    weight : float
        Against the other layers.
    """

    layer: str
    channel: int | None = None
    weight: float = 1.0

    def __str__(self) -> str:
        """Write ``LAYER[:CHANNEL][=WEIGHT]``."""
        channel = "" if self.channel is None else f":{self.channel}"
        return f"{self.layer}{channel}" + ("" if self.weight == 1 else f"={self.weight}")


def parse_layers(model: ImageModel, layers: str | int | Sequence[str | int]) -> list[Amplified]:
    """Read ``LAYER[:CHANNEL][=WEIGHT],…``, LAYER a name or a number, and check it against the network.

    Raises
    ------
    InputError, LayerNotFoundError
        Not of this form; no such layer or channel.
    """

    def read(part: str | int) -> Amplified:
        form = "of the form LAYER, LAYER:CHANNEL, LAYER=WEIGHT or LAYER:CHANNEL=WEIGHT"
        word = read_layer_word(part, form, n_numbers=(0, 1), weighted=True)
        layer, channel = model.find_layer(word.layer), next(iter(word.numbers), None)
        n_channels = model.layer_shape(layer)[-1]
        if channel is not None and channel >= n_channels:
            raise LayerNotFoundError(f"layer '{layer}' has channels 0 to {n_channels - 1}; got {channel}")
        return Amplified(layer, channel, 1.0 if word.weight is None else word.weight)

    found = read_list(layers, "layer", read)
    if not any(one.weight for one in found):
        raise InputError(
            f"'{','.join(map(str, found))}' gives every layer the weight 0; a dream needs one to amplify: LAYER[:CHANNEL][=WEIGHT],…"
        )
    return found


@dataclass(frozen=True)
class Octaves:
    """One dream: pictures through all their sizes.

    Attributes
    ----------
    octaves, octave_scale, jitter, step_size, n_steps, tile_size, batch_size, seed
        See `dream`. Octaves, scale, jitter, steps and their size are those of the original program. 4000 x 3000 with SqueezeNet takes
        3 GB in all in tiles of 512.
    """

    octaves: int = 4
    octave_scale: float = 1.4
    jitter: int = 32
    step_size: float = 1.5
    n_steps: int = 10
    tile_size: int = 512
    batch_size: int = 1
    seed: int = 0

    def __post_init__(self):
        if self.octaves < 1 or self.n_steps < 1 or not (self.octave_scale > 1 and self.step_size > 0):
            raise InputError(
                "octaves and the number of steps must be at least 1, octave_scale above 1 and step_size above 0; got "
                f"{self.octaves}, {self.n_steps}, {self.octave_scale} and {self.step_size}"
            )

    def sizes(self, full: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes in pixels, the smallest first."""
        scales = [self.octave_scale**-octave for octave in reversed(range(self.octaves))]
        return [tuple(max(round(side * scale), 1) for side in full) for scale in scales]

    def fitting(self, model: ImageModel, layers: Sequence[str], full: tuple[int, int]) -> Octaves:
        """Leave out the smallest sizes of a picture where layers have no values; its own size stays."""
        smallest = self.sizes(full)[0]
        if self.octaves == 1 or min(smallest) >= min(model.input_size) or model.can_compute(layers, smallest):
            return self
        return replace(self, octaves=self.octaves - 1).fitting(model, layers, full)

    def run(
        self,
        model: ImageModel,
        loss: Loss,
        pictures: np.ndarray,
        *,
        first_index: int,
        callback: Callable[[Step], None] | None,
    ) -> OptimizationResult:
        """Dream pictures (image, height, width, 3), each alone; the result is of their size, whatever octave an interruption came in.

        The views of picture i depend on the seed and ``first_index + i`` alone.
        """
        from stochdeconv.optimization.descent import Descent
        from stochdeconv.optimization.loop import OptimizationInterrupted, OptimizationResult, in_stage, optimize
        from stochdeconv.optimization.parameterizations import Clip, pixels
        from stochdeconv.optimization.transforms import Transform

        full = pictures.shape[1:3]
        detail = np.zeros_like(pictures)
        history: list[dict[str, float]] = []
        for octave, size in enumerate(self.sizes(full)):
            # The filter overshoots; what is clipped away must not count as dreamt.
            base = np.clip(_stretched(pictures, size), 0, 1)

            start = np.clip(base + _stretched(detail, size), 0, 1)
            variables = pixels(
                start,
                noise=0.0,
                constraints=[Clip()],
                n_images=len(pictures),
                seed=self.seed,
                first_index=first_index + octave,
                learning_rate=self.step_size / 255,
            )
            try:
                found = optimize(
                    model,
                    loss,
                    parameterization=variables,
                    n_steps=self.n_steps,
                    transforms=[Transform(self.jitter)],
                    descent=Descent("mean_normalized", tile_size=self.tile_size, tile_batch_size=self.batch_size),
                    callback=in_stage(callback, octave, self.octaves),
                )
            except ModelError as error:
                raise ModelError(f"{error}; fewer --octaves, another --size or a shallower layer may do") from error
            except OptimizationInterrupted as interrupt:
                detail = interrupt.result.images - base
                rows = _counted(interrupt.result.history, octave=octave)
                images = np.clip(pictures + _stretched(detail, full), 0, 1)
                stopped = OptimizationResult(images, [*history, *rows], interrupt.result.settings)
                raise OptimizationInterrupted(stopped) from interrupt
            detail = found.images - base
            history += _counted(found.history, octave=octave)
        return OptimizationResult(found.images, history, found.settings)


def _stretched(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from stochdeconv.images.files import stretch

    return np.stack([stretch(picture, size) for picture in pictures])


def _counted(history: list[dict[str, float]], **numbers: int) -> list[dict[str, float]]:
    return [{**numbers, "step": step + 1, **losses} for step, losses in enumerate(history)]


def dream(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    layer: str | int | Sequence[str | int],
    *,
    octaves: int | None = None,
    octave_scale: float = Octaves.octave_scale,
    jitter: int = Octaves.jitter,
    step_size: float = Octaves.step_size,
    guide: str | Path | np.ndarray | None = None,
    zoom_frames: int | None = None,
    zoom: float | None = None,
    rotate: float = 0.0,
    n_steps: int = Octaves.n_steps,
    size: int | None = None,
    tile_size: int = Octaves.tile_size,
    batch_size: int = Octaves.batch_size,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
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
    octaves : int, optional
        Sizes it is dreamt at, the last of them the picture's own. By default 4, or fewer where the layers have no values at the smallest.
    octave_scale : float
        Ratio of one size to the next.
    jitter : int
        Largest random shift of the view at each step, pixels.
    step_size : float
        Mean absolute change of a step, in 8-bit pixel values.
    guide : path or ndarray, optional
        A picture whose features are to be amplified instead of the strongest ones: at every place the one that fits best.
    zoom_frames : int, optional
        Frames of a stream: each is the one before, zoomed and turned a little, in the colours of the first picture, dreamt again. By
        default 24 where `zoom` or `rotate` is given, else 0: a single picture.
    zoom : float, optional
        Part by which a frame is enlarged; 0.05, the default, shows the middle 95 %.
    rotate : float
        Degrees by which a frame is turned, counterclockwise.
    n_steps : int
        At each octave.
    size : int, optional
        Shorter side in pixels; the photograph's own by default, the network's for noise.
    tile_size : int
        Side of the tiles, pixels; less takes less memory.
    batch_size : int
        Tiles at a time; those left over go one by one. It changes no result; more take more memory, and less time where tiles are small.
    seed : int
    callback : callable, optional
        Called with a `Step` after each step.

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
    from stochdeconv.images.animations import as_frames
    from stochdeconv.images.colors import with_channels
    from stochdeconv.images.files import open_image, resize, stretch
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.methods.runs import recorded_run, source_of
    from stochdeconv.methods.zooming import Colors, moved
    from stochdeconv.optimization.loop import OptimizationInterrupted, OptimizationResult, in_stage

    if seed < 0:
        raise InputError(f"seed is a whole number of at least 0; got {seed}")
    n_octaves = Octaves.octaves if octaves is None else octaves
    how = Octaves(n_octaves, octave_scale, jitter, step_size, n_steps, tile_size, batch_size, seed)
    zoom_frames, zoom = plan_zoom(zoom_frames, zoom, rotate)
    amplified = parse_layers(model, layer)
    layer = ",".join(map(str, amplified))
    picture = _picture(model, photo, size, seed)
    if octaves is None:
        how = how.fitting(model, [one.layer for one in amplified], picture.shape[:2])
    loss = dream_loss(model, amplified, picture[None], guide)
    # Every dream adds contrast and nothing takes it away: fed back as it is, a stream ends in the corners of the colour cube.
    colors = Colors.to_keep_of(picture)
    n_frames = max(zoom_frames, 1)
    frames: list[np.ndarray] = []

    def run() -> OptimizationResult:
        current, history, settings = picture, [], {}
        for frame in range(n_frames):
            if frame:
                current = colors.given_to(moved(current, zoom=zoom, rotate=rotate))
            try:
                on_step = in_stage(callback, frame, n_frames)
                done = how.run(model, loss, current[None], first_index=frame * how.octaves, callback=on_step)
            except OptimizationInterrupted as interrupt:
                rows = [*history, *({"frame": frame, **row} for row in interrupt.result.history)]
                raise OptimizationInterrupted(replace(interrupt.result, history=rows)) from interrupt
            current, settings = done.images[0], done.settings
            history += [{"frame": frame, **row} for row in done.history]
            if zoom_frames:
                frames.append(as_frames(current))
        return OptimizationResult(current[None], history, settings)

    def finish(result: RunResult) -> RunResult:
        shown = [picture, result.images[0]]
        captions = ["noise" if isinstance(photo, str) and photo == "noise" else "photograph", layer]
        if guide is not None:
            shown.insert(1, resize(open_image(guide, channels=model.n_channels), picture.shape[:2]))
            captions.insert(1, "guide")
        if len(frames) > 1:
            picked = np.unique(np.linspace(0, len(frames) - 1, _SHEET_FRAMES).round().astype(int))
            shown = [*shown[:-1], *(frames[i] / np.float32(255) for i in picked)]
            captions = [*captions[:-1], *(f"frame {i}" for i in picked)]
        shrink = min(1.0, _SHEET_SIDE / max(picture.shape[:2]) * (1 if len(shown) <= 3 else 0.5))
        small = tuple(max(round(side * shrink), 1) for side in picture.shape[:2])
        sheet = contact_sheet(np.stack([with_channels(stretch(one, small), 3) for one in shown]), captions=captions)
        return replace(result, sheet=sheet, frames=np.stack(frames) if frames else None)

    result = recorded_run(
        "dream",
        run,
        model=model,
        found_class=None,
        settings={
            "photo": source_of(photo),
            "layer": layer,
            **vars(how),
            "guide": source_of(guide),
            "zoom_frames": zoom_frames,
            "zoom": zoom,
            "rotate": rotate,
            "size": list(picture.shape[:2]),
        },
        seed=seed,
        finish=finish,
    )
    warn_where_nothing_fired(layer, result.history)
    return result


def plan_zoom(zoom_frames: int | None, zoom: float | None, rotate: float) -> tuple[int, float]:
    """Fill in the frames of a stream, and by how much each is enlarged, where they were not given.

    Raises
    ------
    InputError
        A number is out of range, or frames are to move where there is but one picture.
    """
    moves = zoom is not None or bool(rotate)
    if zoom_frames is None:
        zoom_frames = ZOOM_FRAMES if moves else 0
    if moves and zoom_frames in (0, 1):
        raise InputError(
            f"zoom and rotate are about the frames of a stream, and --zoom-frames says {zoom_frames}: give 2 or more, or leave it out"
        )
    if zoom_frames < 0 or (zoom is not None and not 0 <= zoom < 1) or not math.isfinite(rotate):
        raise InputError(
            f"zoom_frames must be at least 0, zoom in [0, 1) and rotate a number of degrees; got {zoom_frames}, {zoom} and {rotate}"
        )
    return zoom_frames, ZOOM if zoom is None else zoom


def warn_where_nothing_fired(layer: str, history: list[dict[str, float]]) -> None:
    """Say it where a dream had no gradient to follow."""
    if history and all(value == 0 for name, value in history[-1].items() if ":" in name):
        warnings.warn(f"{layer} did not fire in any place, so there was no gradient to follow", stacklevel=3)


def _picture(model: ImageModel, photo: str | Path | np.ndarray, size: int | None, seed: int) -> np.ndarray:
    from stochdeconv.images.files import open_image, stretch

    if size is not None and size < 1:
        raise InputError(f"size is the shorter side of the picture in pixels, at least 1; got {size}")
    if isinstance(photo, str) and photo == "noise":
        sides = model.image_size(size)
        noise = np.random.default_rng([seed, 0]).standard_normal((*sides, model.n_channels))
        return np.clip(0.5 + _NOISE_DEVIATION * noise, 0, 1).astype(np.float32)
    picture = open_image(photo, channels=model.n_channels)
    if size is None:
        return picture
    scale = size / min(picture.shape[:2])
    return np.clip(stretch(picture, tuple(max(round(side * scale), 1) for side in picture.shape[:2])), 0, 1)


def dream_loss(
    model: ImageModel,
    amplified: list[Amplified],
    pictures: np.ndarray,
    guide: str | Path | np.ndarray | None = None,
) -> Loss:
    """Put the objective of pictures (image, height, width, 3) together, each layer in units of what it has in each of them."""
    from stochdeconv import losses
    from stochdeconv.images.files import open_image, resize

    names = [one.layer for one in amplified]
    resized = np.stack([resize(picture, model.input_size) for picture in pictures])
    start = model.activations(resized, names, batch_size=len(resized))
    features: Mapping[str, np.ndarray] = {}
    if guide is not None:
        if any(one.channel is not None for one in amplified):
            raise InputError(
                "a guide picture tells what to amplify among all channels of a layer: give --layer without a channel"
            )
        features = model.activations(
            open_image(guide, model.input_size, channels=model.n_channels)[None], names, batch_size=1
        )
    loss = losses.Loss()
    for one in amplified:

        def term(unit: float | np.ndarray, one: Amplified = one) -> Term:
            if guide is not None:
                return losses.guide(one.layer, features[one.layer][0], unit=unit)
            return losses.activation_norm(one.layer, one.channel, unit=unit)

        strength = -np.asarray(term(1.0)(start))
        loss = loss + one.weight * term(np.where(strength > 0, strength, 1.0))
    return loss
