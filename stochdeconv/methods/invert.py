"""Feature inversion: find a picture whose activations at a layer are given ones, so as to see what the layer keeps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.methods.presets import input_origin
from stochdeconv.methods.settings import RunSettings
from stochdeconv.optimization.descent import Descent
from stochdeconv.parsing import read_list
from stochdeconv.settings import OPEN, check_number, read_settings, source_of, takes

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult, Step

INITS = ("noise", "photo", "mean")
OPTIMIZERS = ("lbfgs", "adam")
# What the activations of a photograph are multiplied by where the search starts from that photograph: as they are, it has them.
_ENHANCED = 1.5
# Deviation of the Fourier coefficients a search from noise starts with, as everywhere else.
_START_NOISE = 0.01


@dataclass(frozen=True, kw_only=True)
class InvertSettings(RunSettings):
    """How a picture is searched for that activates a layer as a photograph does.

    Attributes
    ----------
    target : path or ndarray, ``IMAGE``, optional
        Change the photograph toward the activations of this one; by default they are its own.
    enhance : float, optional
        What the target activations are multiplied by: more than 1 amplifies what the layer sees. By default 1 or, from the photograph
        toward itself, which has them already, 1.5.
    init : {"noise", "photo", "mean"}, optional
        Start from noise about the training mean, from the photograph, or from the mean itself (zero for the network). By default from
        noise or, for one picture with a `target`, from the photograph, which the search would not see otherwise.
    optimizer : {"lbfgs", "adam"}, optional
        SciPy's L-BFGS-B, or Adam. By default L-BFGS, and Adam where a gradient rule needs it.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        How gradients pass a ReLU, see `gradient.loss_gradient`; only "true" with L-BFGS. At deep layers the others hardly follow the true
        gradient: 128 steps toward scikit-learn's china.jpg at mini-vgg16's block4_conv3 leave 49 % of the squared distance with guided,
        15 % with deconvnet, 2 % with mix, 0.4 % with true.
    tv : float
        Weight of the total variation; deeper layers leave more open and bear more of it.
    alpha_norm : float
        Weight of the 6-norm, which keeps pixels in range.
    n_images : int
        Pictures of each layer, from different noise.
    n_steps : int
        Iterations; L-BFGS may end before.
    batch_size : int
        Pictures of a layer that Adam makes at a time. L-BFGS takes one at a time whatever this is, as it chooses its steps for one.
    seed : int
        The start of picture i of a layer depends on (seed, i) alone.
    """

    target: str | Path | np.ndarray | None = None
    enhance: float = OPEN
    init: str = OPEN
    optimizer: str = OPEN
    gradient_rule: str = "true"
    tv: float = 2.0
    alpha_norm: float = 0.01
    n_images: int = 1
    n_steps: int = 256

    def _settle(self) -> None:
        super()._settle()
        init = self.init
        if init is None:
            init = "noise" if self.target is None or self.n_images > 1 else "photo"
        toward_itself = self.target is None and init == "photo"
        self._fill(
            init=init,
            enhance=(_ENHANCED if toward_itself else 1.0) if self.enhance is None else self.enhance,
            optimizer=self.optimizer or ("lbfgs" if self.gradient_rule == "true" else "adam"),
        )
        self._check(toward_itself)
        self.descent()

    def _check(self, toward_itself: bool) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer '{self.optimizer}' is unknown; there are {', '.join(OPTIMIZERS)}")
        if self.init not in INITS:
            raise InputError(f"init '{self.init}' is unknown; there are {', '.join(INITS)}")
        check_number("enhance", self.enhance, above=0)
        check_number("tv", self.tv, at_least=0)
        check_number("alpha_norm", self.alpha_norm, at_least=0)
        if toward_itself and self.enhance == 1:
            raise SettingsError(
                "the photograph has its own activations already: change them (enhance=, target=) or start from elsewhere (init=)"
            )
        if self.n_images > 1 and self.init != "noise":
            raise SettingsError(
                f"every search from init '{self.init}' comes to the same picture: make 1, or start from init 'noise'; got {self.n_images}"
            )

    def descent(self) -> Descent:
        """Return how the search goes on."""
        return Descent(self.optimizer, self.gradient_rule)


@takes(InvertSettings)
def invert(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    layer: str | int | Sequence[str | int],
    settings: InvertSettings | None = None,
    *,
    callback: Callable[[Step], None] | None = None,
    **keywords: Any,
) -> RunResult:
    """Find pictures that activate a layer as a photograph does: feature inversion (Mahendran & Vedaldi 2015).

    Minimises ``|Φ(x) - target|² / |target|² + tv · TV(x) + alpha_norm · A(x)``, TV the mean squared difference of neighbours and A the
    mean of ``|2x - 1|⁶``. What the layer has thrown away (place, colour, texture) is what comes out differently. The picture is found by
    its Fourier coefficients, not by its pixels as in the paper: at middle layers the same search then comes two to eight times nearer
    (`scripts/experiments/compare_inversions.py`). Several searches from different noise come to different pictures: what differs
    between them is what the layer does not keep.

    Parameters
    ----------
    model : ImageModel
    photo : path or ndarray of shape (height, width, 3) in [0, 1]
    layer : str, int or sequence of them
        Names or numbers (`Network.find_layer`), as a text comma-separated; pictures are made for each.
    settings : InvertSettings, optional
    callback : callable, optional
        Called with a `Step` after each step.
    **keywords
        Fields of `InvertSettings`, in its place.

    Returns
    -------
    RunResult
        The images layer by layer; `tables` holds what is left of the relative distance of each.

    Raises
    ------
    InputError, MissingInputError, LayerNotFoundError
        A picture, layer or number that cannot be used; a gradient rule that is the gradient of no function, with L-BFGS.
    RunInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    from stochdeconv.images.files import open_image
    from stochdeconv.methods.runs import hand_over, record_run
    from stochdeconv.optimization.results import OptimizationResult, gather

    settings = read_settings(InvertSettings, settings, keywords, model=model)
    started = time.monotonic()
    layers = read_list(layer, "layer", model.find_layer)
    size = model.image_size(settings.size)
    picture = open_image(photo, size, channels=model.n_channels)
    of = picture if settings.target is None else open_image(settings.target, size, channels=model.n_channels)
    targets = {
        name: settings.enhance * values for name, values in model.activations(of[None], layers, batch_size=1).items()
    }
    silent = [name for name in layers if not np.any(targets[name])]
    if silent:
        raise InputError(f"the photograph activates nothing in {', '.join(silent)}: there is nothing to match")
    results = gather(_searched(model, targets, picture, settings, callback))
    run = record_run(
        "invert",
        OptimizationResult.joined(results),
        model=model,
        settings=settings.record(photo=source_of(photo), layers=layers, size=list(size)),
        seed=settings.seed,
        seconds=time.monotonic() - started,
    )
    run.record["settings"]["optimization"] = {
        name: result.settings for name, result in zip(targets, results, strict=False)
    }
    run = _with_distances(
        run, model, targets, [picture] if settings.target is None else [picture, of], settings.n_images
    )
    stuck = [name for name in layers if not any(f"match:{name}" in row for row in run.history)]
    if stuck and run.record["complete"]:
        warnings.warn(
            f"the search ended before its first step at {', '.join(stuck)}: nothing in reach of init '{settings.init}' comes nearer; "
            "try another init",
            stacklevel=2,
        )
    return hand_over(run)


def _searched(
    model: ImageModel,
    targets: Mapping[str, np.ndarray],
    picture: np.ndarray,
    settings: InvertSettings,
    callback: Callable[[Step], None] | None,
) -> Iterator[OptimizationResult]:
    """Search for the pictures of one layer after another; the history counts the batches through all of them."""
    from stochdeconv.optimization.loop import optimize
    from stochdeconv.optimization.parameterizations import fourier
    from stochdeconv.optimization.results import in_stage, part_images

    size, n_channels = picture.shape[:2], picture.shape[2]
    start = picture if settings.init == "photo" else np.broadcast_to(input_origin(model)[0], picture.shape)
    # All layers start from the same noise: what differs is what the layers keep.
    variables = fourier(
        size,
        n_channels=n_channels,
        initial_images=start[None],
        deviation=_START_NOISE if settings.init == "noise" else 0.0,
        n_images=settings.n_images,
        seed=settings.seed,
    )
    descent = settings.descent()
    batch_size = 1 if descent.searches_lines else settings.batch_size
    n_batches = len(part_images(settings.n_images, batch_size))
    for number, (name, target) in enumerate(targets.items()):
        result = optimize(
            model,
            _matching(name, target, settings),
            parameterization=variables,
            n_steps=settings.n_steps,
            descent=descent,
            batch_size=batch_size,
            callback=in_stage(callback, number, len(targets)),
        )
        yield replace(result, history=[{**row, "batch": number * n_batches + row["batch"]} for row in result.history])


def _matching(layer: str, target: np.ndarray, settings: InvertSettings) -> Loss:
    """Ask for the activations, smoothness and pixels in range."""
    from stochdeconv import losses
    from stochdeconv.losses import regularizers

    loss = losses.match({layer: target})
    if settings.tv:
        loss = loss + settings.tv * regularizers.total_variation()
    if settings.alpha_norm:
        loss = loss + settings.alpha_norm * regularizers.alpha_norm()
    return loss


def _with_distances(
    run: RunResult,
    model: ImageModel,
    targets: Mapping[str, np.ndarray],
    photographs: Sequence[np.ndarray],
    n_images: int,
) -> RunResult:
    """Show the pictures after the photographs, with what is left of the distance of each."""
    from stochdeconv import losses
    from stochdeconv.images.sheets import contact_sheet

    titles = ["photograph", "target"][: len(photographs)]
    table: list[dict[str, Any]] = []
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    places = [(name, variant) for name in targets for variant in range(n_images)]
    # An interrupted run has fewer images.
    for (name, variant), image in zip(places, run.images, strict=False):
        activations = model.activations(image[None], [name], batch_size=1)
        left = float(np.asarray(losses.match({name: targets[name]})(activations))[0])
        table.append({"layer": name, "variant": variant, "distance": left})
        # Single pictures of several layers stand beside each other, several of a layer have a row of their own.
        if not tiles or (n_images > 1 and variant == 0):
            tiles, captions = [*tiles, *photographs], [*captions, *titles]
        tiles.append(image)
        captions.append(f"{name}\n{left:.2g} left")
    columns = len(photographs) + n_images if n_images > 1 else None
    sheet = contact_sheet(np.stack(tiles), columns=columns, captions=captions)
    return replace(run, sheet=sheet, tables={"distances": table})
