"""Feature inversion: find a picture whose activations at a layer are given ones, so as to see what the layer keeps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError
from stochdeconv.methods.presets import input_origin
from stochdeconv.optimization.descent import Descent
from stochdeconv.parsing import read_list

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import OptimizationResult, Step

INITS = ("noise", "photo", "mean")
OPTIMIZERS = ("lbfgs", "adam")
# What the activations of a photograph are multiplied by where the search starts from that photograph: as they are, it has them.
_ENHANCED = 1.5
# Deviation of the Fourier coefficients a search from noise starts with, as everywhere else.
_START_NOISE = 0.01


def invert(
    model: ImageModel,
    photo: str | Path | np.ndarray,
    layer: str | int | Sequence[str | int],
    *,
    target: str | Path | np.ndarray | None = None,
    enhance: float | None = None,
    init: str | None = None,
    optimizer: str | None = None,
    gradient_rule: str = "true",
    tv: float = 2.0,
    alpha_norm: float = 0.01,
    n_images: int = 1,
    n_steps: int = 256,
    size: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    callback: Callable[[Step], None] | None = None,
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
    target : path or ndarray, optional
        Change `photo` toward the activations of this photograph; by default they are those of `photo` itself.
    enhance : float, optional
        What the target activations are multiplied by: more than 1 amplifies what the layer sees. By default 1 or, from the photograph
        toward itself, which has them already, 1.5.
    init : {"noise", "photo", "mean"}, optional
        Start from noise about the training mean, from the photograph, or from the mean itself (zero for the network). By default from
        noise or, for one picture with a `target`, from the photograph, which the search would not see otherwise.
    optimizer : {"lbfgs", "adam"}, optional
        SciPy's L-BFGS-B, or Adam. By default L-BFGS, and Adam where a gradient rule is given that needs it.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        See `gradient.loss_gradient`; only ``"true"`` with L-BFGS. At deep layers the others hardly follow the true gradient: 128
        steps toward scikit-learn's china.jpg at mini-vgg16's block4_conv3 leave 49 % of the squared distance with guided, 15 % with
        deconvnet, 2 % with mix, 0.4 % with true.
    tv, alpha_norm : float
        Weights of the regularizers; deeper layers leave more open and bear more of both.
    n_images : int
        Pictures of each layer, from different noise.
    n_steps : int
        Iterations; L-BFGS may end before.
    size : int, optional
        Side of the pictures in pixels; the network's own by default.
    batch_size : int
        Pictures of a layer that Adam makes at a time. L-BFGS takes one at a time whatever this is, as it chooses its steps for one.
    seed : int
        The start of picture i of a layer depends on (seed, i) alone.
    callback : callable, optional
        Called with a `Step` after each step.

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
    from stochdeconv import losses
    from stochdeconv.images.files import open_image
    from stochdeconv.images.sheets import contact_sheet
    from stochdeconv.losses import regularizers
    from stochdeconv.methods.runs import recorded_run, source_of
    from stochdeconv.optimization import parameterizations
    from stochdeconv.optimization.loop import OptimizationInterrupted, optimize, optimize_in_batches

    layers = read_list(layer, "layer", model.find_layer)
    enhance, init, descent = plan_search(
        target=target,
        enhance=enhance,
        init=init,
        optimizer=optimizer,
        gradient_rule=gradient_rule,
        tv=tv,
        alpha_norm=alpha_norm,
        n_images=n_images,
    )
    image_size = model.image_size(size)
    picture = open_image(photo, image_size, channels=model.n_channels)
    shown = picture if target is None else open_image(target, image_size, channels=model.n_channels)
    wanted = {name: enhance * values for name, values in model.activations(shown[None], layers, batch_size=1).items()}
    silent = [name for name in layers if not np.any(wanted[name])]
    if silent:
        raise InputError(f"the photograph activates nothing in {', '.join(silent)}: there is nothing to match")
    start = picture if init == "photo" else np.broadcast_to(input_origin(model)[0], (*image_size, model.n_channels))
    deviation = _START_NOISE if init == "noise" else 0.0

    optimizations: dict[str, dict] = {}
    at_a_time = min(batch_size, 1) if descent.searches_lines else batch_size
    n_batches = 0

    def run_layer(index: int, _: int, on_layer_step: Callable[[Step], None]) -> OptimizationResult:
        loss = losses.match({layers[index]: wanted[layers[index]]})
        if tv:
            loss = loss + tv * regularizers.total_variation()
        if alpha_norm:
            loss = loss + alpha_norm * regularizers.alpha_norm()

        n_before = n_batches

        def run_batch(first: int, n: int, on_step: Callable[[Step], None]) -> OptimizationResult:
            nonlocal n_batches
            n_batches += 1
            # All layers start from the same noise: what differs is what the layers keep.
            seeds = {"n_images": n, "seed": seed, "first_index": first, "n_channels": model.n_channels}
            variables = parameterizations.fourier(image_size, initial_images=start[None], deviation=deviation, **seeds)
            found = optimize(
                model, loss, parameterization=variables, n_steps=n_steps, descent=descent, callback=on_step
            )
            optimizations[layers[index]] = found.settings
            return found

        def counted(found: OptimizationResult) -> OptimizationResult:
            """Count the batches through all layers."""
            return replace(found, history=[{**row, "batch": n_before + row["batch"]} for row in found.history])

        try:
            return counted(optimize_in_batches(run_batch, n_images, batch_size=at_a_time, callback=on_layer_step))
        except OptimizationInterrupted as interrupt:
            raise OptimizationInterrupted(counted(interrupt.result)) from interrupt

    def finish(result: RunResult) -> RunResult:
        asked = [(name, variant) for name in layers for variant in range(n_images)]
        given = [picture] if target is None else [picture, shown]
        titles = ["photograph", "target"][: len(given)]
        table, pictures, captions = [], [], []
        # An interrupted run has fewer images than were asked for.
        for (name, variant), image in zip(asked, result.images, strict=False):
            found = model.activations(image[None], [name], batch_size=1)
            left = float(np.asarray(losses.match({name: wanted[name]})(found))[0])
            table.append({"layer": name, "variant": variant, "distance": left})
            # Single pictures of several layers stand beside each other, several of a layer have a row of their own.
            if not pictures or (n_images > 1 and variant == 0):
                pictures, captions = [*pictures, *given], [*captions, *titles]
            pictures.append(image)
            captions.append(f"{name}\n{left:.2g} left")
        columns = len(given) + n_images if n_images > 1 else None
        return replace(
            result,
            sheet=contact_sheet(np.stack(pictures), columns=columns, captions=captions),
            tables={"distances": table},
            record={**result.record, "settings": {**result.record["settings"], "optimization": optimizations}},
        )

    result = recorded_run(
        "invert",
        lambda: optimize_in_batches(run_layer, len(layers), batch_size=1, callback=callback),
        model=model,
        found_class=None,
        settings={
            "photo": source_of(photo),
            "layers": layers,
            "target": source_of(target),
            "enhance": enhance,
            "init": init,
            "optimizer": descent.optimizer,
            "gradient_rule": gradient_rule,
            "tv": tv,
            "alpha_norm": alpha_norm,
            "n_images": n_images,
            "n_steps": n_steps,
            "size": list(image_size),
            "batch_size": batch_size,
        },
        seed=seed,
        finish=finish,
    )
    stuck = [name for name in layers if not any(f"match:{name}" in row for row in result.history)]
    if stuck:
        warnings.warn(
            f"the search ended before its first step at {', '.join(stuck)}: nothing in reach of init '{init}' comes nearer; "
            "try another init",
            stacklevel=2,
        )
    return result


def plan_search(
    *,
    target: str | Path | np.ndarray | None,
    enhance: float | None,
    init: str | None,
    optimizer: str | None,
    gradient_rule: str,
    tv: float,
    alpha_norm: float,
    n_images: int,
) -> tuple[float, str, Descent]:
    """Check the settings of `invert`, and fill in those that were not given: what to enhance by, where to start, how to descend.

    Raises
    ------
    InputError
        A setting is unknown or out of range, or does not go with another.
    """
    if optimizer is None:
        optimizer = "lbfgs" if gradient_rule == "true" else "adam"
    if init is None:
        init = "noise" if target is None or n_images > 1 else "photo"
    toward_itself = target is None and init == "photo"
    if enhance is None:
        enhance = _ENHANCED if toward_itself else 1.0
    if optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer '{optimizer}' is unknown; there are {', '.join(OPTIMIZERS)}")
    if init not in INITS:
        raise InputError(f"init '{init}' is unknown; there are {', '.join(INITS)}")
    if not np.isfinite(enhance) or enhance <= 0 or tv < 0 or alpha_norm < 0:
        raise InputError(f"enhance must be above 0, tv and alpha_norm at least 0; got {enhance}, {tv} and {alpha_norm}")
    if toward_itself and enhance == 1:
        raise InputError(
            "the photograph has its own activations already: change them (enhance, target) or start from elsewhere"
        )
    if n_images > 1 and init != "noise":
        raise InputError(
            f"every search from init '{init}' comes to the same picture: make 1, or start from init 'noise'; got {n_images}"
        )
    return enhance, init, Descent(optimizer, gradient_rule)
