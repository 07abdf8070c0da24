"""Commands that make images: generate, maximize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stochdeconv.cli import running, terminal
from stochdeconv.cli.terminal import ProgressBar, default
from stochdeconv.errors import InputError, MissingInputError
from stochdeconv.methods.constraint_ablation import VALUES_OF
from stochdeconv.methods.generate import check_shown
from stochdeconv.methods.generate import generate as generate_images
from stochdeconv.methods.maximize import BATCH_SIZE, N_IMAGES, choose_preset, plan_batch
from stochdeconv.methods.maximize import maximize as maximize_images
from stochdeconv.methods.objectives import read_direction, read_unit
from stochdeconv.methods.outlier_suppression import MAXIMIZE_WEIGHT, weigh_outliers
from stochdeconv.methods.presets import DEFAULT_PRESET
from stochdeconv.methods.recipe import parse_recipe
from stochdeconv.parsing import read_list

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics


def generate(
    statistics: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.h5",
            help="Class statistics, as collect leaves them; mini-vgg16/CLASS.h5 ship.",
        ),
    ],
    output: running.Output,
    n_images: Annotated[
        int | None,
        typer.Option(
            "--n-images", "-n", min=1, help="How many images.", show_default="8; with --component 5, with --walk N"
        ),
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER:J",
            help="What varies in the class: its mean moved from -2 to 2 standard deviations along a layer's J-th component, from 0.",
        ),
    ] = None,
    walk: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="N frames from one sample to another, as a GIF and an MP4.")
    ] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Show the images coming about, as a GIF and an MP4.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="The network, if it is not where the file says it was."),
    ] = None,
    weights: terminal.Weights = None,
    sampler: Annotated[
        str, typer.Option(metavar="chain|joint|bootstrap|independent", help="How targets are sampled.")
    ] = default(generate_images, "sampler"),
    temperature: Annotated[
        float, typer.Option(help="Multiplies what sets the images apart from the mean of the class.")
    ] = default(generate_images, "temperature"),
    row_weight: Annotated[
        float, typer.Option(help="Share of real images' deviations in a chain or bootstrap sample, 0 (Gaussian) to 1.")
    ] = default(generate_images, "row_weight"),
    gradient_rule: Annotated[
        str, typer.Option(metavar="true|guided|deconvnet|mix", help="How gradients pass a ReLU.")
    ] = default(generate_images, "gradient_rule"),
    init: Annotated[str, typer.Option(metavar="noise|IMAGE", help="Where the images start.")] = default(
        generate_images, "init"
    ),
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME=VALUE,…",
            help="Change parts of the objective: weights such as facets=0 or class_term=1, order=deepest-first, parameterization=pixels.",
        ),
    ] = "",
    n_steps: terminal.NumberOfSteps = default(generate_images, "n_steps"),
    size: terminal.Size = None,
    batch_size: terminal.BatchSize = default(generate_images, "batch_size"),
    seed: terminal.Seed = default(generate_images, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv generate``."""
    from stochdeconv.optimization.descent import Descent
    from stochdeconv.sampling.samplers import check_sampling
    from stochdeconv.sampling.traversals import find_component
    from stochdeconv.statistics.file import load_statistics

    # What is wrong is said before Keras is loaded.
    parse_recipe(recipe)
    check_sampling(sampler, temperature=temperature, row_weight=row_weight)
    Descent(gradient_rule=gradient_rule)
    try:
        check_shown(n_images, component=component, walk=walk, gif=gif)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    running.check_output(output, overwrite=overwrite)
    running.check_picture(init)
    known = load_statistics(statistics)
    if component is not None:
        find_component(known, component)
    network = _network_of(known, model, weights=weights, dtype=dtype)
    with ProgressBar(known.class_name or statistics.stem, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: generate_images(
                network,
                known,
                n_images=n_images,
                component=component,
                walk=walk,
                gif=gif,
                sampler=sampler,
                temperature=temperature,
                row_weight=row_weight,
                gradient_rule=gradient_rule,
                init=init,
                n_steps=n_steps,
                size=size,
                batch_size=batch_size,
                seed=seed,
                recipe=recipe,
                callback=bar.on_step,
            ),
            output,
            overwrite=overwrite,
        )
    running.report(output, complete=saved)


def maximize(
    model: terminal.Model,
    output: running.Output,
    class_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[CLASS[,CLASS]]",
            help="Name, wnid or index; left out when --unit or --direction is given. Several: the sum of their scores.",
        ),
    ] = None,
    n_images: Annotated[
        int | None,
        typer.Option(
            "--n-images",
            "-n",
            min=1,
            help="How many images; with --ablate-constraints, a row.",
            show_default=f"{N_IMAGES}; with --diversity no more than --batch-size",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="simonyan|regularised|fourier",
            help="Way to maximise.",
            show_default=f"{DEFAULT_PRESET}; where pixels are blurred or clipped, and with --ablate-constraints, {VALUES_OF}",
        ),
    ] = None,
    l2: Annotated[
        float | None,
        typer.Option(
            help="Weight of the squared, mean-centred input; any preset.",
            show_default="as the preset finds it for the network",
        ),
    ] = None,
    blur: Annotated[
        float | None,
        typer.Option(
            help="Gaussian blur between steps, in pixels (simonyan, regularised).",
            show_default="the preset's",
        ),
    ] = None,
    blur_every: Annotated[
        int | None,
        typer.Option(help="Steps from one blur to the next (simonyan, regularised).", show_default="the preset's"),
    ] = None,
    jitter: Annotated[
        int | None,
        typer.Option(
            help="Largest random shift, in pixels; any preset.", show_default="the preset's; below 112 pixels less"
        ),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Largest distance of a pixel from mid-grey (simonyan, regularised).",
            show_default="the preset's",
        ),
    ] = None,
    contribution: Annotated[
        float | None,
        typer.Option(
            help="Percentile of the pixels, those that contribute least, that are reset to the mean colour (simonyan, regularised).",
            show_default="the preset's",
        ),
    ] = None,
    ablate_constraints: Annotated[
        bool,
        typer.Option(
            "--ablate-constraints",
            help="No constraint, each alone (L2, blur, jitter, clip, contribution) and all together, on one sheet.",
        ),
    ] = default(maximize_images, "ablate_constraints"),
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER:CHANNEL[:ROW:COLUMN]",
            help=f"A unit instead of a class; several, with commas: their sum. {terminal.LAYER_HELP}",
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER:FILE.npy", help="A direction instead of a class: one number for each channel of the layer."
        ),
    ] = None,
    diversity: Annotated[
        float,
        typer.Option(
            help="Weight of the images' likeness to each other, 0 for none; try a tenth to a half of the score reached without it."
        ),
    ] = default(maximize_images, "diversity"),
    diversity_layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help="Where likeness is measured, by name or number.",
            show_default="the middle default layer",
        ),
    ] = None,
    suppress_outliers: terminal.SuppressOutliers = None,
    outlier_weight: Annotated[
        float | None, typer.Option(help=terminal.OUTLIER_WEIGHT_HELP, show_default=f"{MAXIMIZE_WEIGHT:g}")
    ] = None,
    weights: terminal.Weights = None,
    n_steps: terminal.NumberOfSteps = default(maximize_images, "n_steps"),
    size: terminal.Size = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images at a time.", show_default=f"{BATCH_SIZE}; with --diversity all of them"),
    ] = None,
    seed: terminal.Seed = default(maximize_images, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv maximize``."""
    if sum(given is not None for given in (class_name, unit, direction)) != 1:
        raise typer.BadParameter(
            "give either CLASS, --unit LAYER:CHANNEL[:ROW:COLUMN] or --direction LAYER:FILE.npy, one of the three"
        )
    constraints = {
        "l2": l2,
        "blur": blur,
        "blur_every": blur_every,
        "jitter": jitter,
        "clip": clip,
        "contribution": contribution,
    }
    choose_preset(preset, constraints, ablate_constraints=ablate_constraints)
    weigh_outliers(suppress_outliers, outlier_weight, default=MAXIMIZE_WEIGHT)
    plan_batch(diversity, diversity_layer, n_images=n_images, batch_size=batch_size)
    if unit is not None:
        read_list(unit, "unit", read_unit)
    if direction is not None:
        read_direction(direction)
    running.check_output(output, overwrite=overwrite)
    running.check_statistics(suppress_outliers)
    network = terminal.load_model(model, weights=weights, dtype=dtype)
    with ProgressBar(class_name or unit or direction, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: maximize_images(
                network,
                class_name,
                unit=unit,
                direction=direction,
                preset=preset,
                **constraints,
                ablate_constraints=ablate_constraints,
                diversity=diversity,
                diversity_layer=diversity_layer,
                suppress_outliers=suppress_outliers,
                outlier_weight=outlier_weight,
                n_images=n_images,
                n_steps=n_steps,
                size=size,
                batch_size=batch_size,
                seed=seed,
                callback=bar.on_step,
            ),
            output,
            overwrite=overwrite,
        )
    running.report(output, complete=saved)


def _network_of(statistics: ClassStatistics, word: str | None, **options: object) -> ImageModel:
    """Load the network the statistics name, or the one given in its place."""
    if word is not None:
        return terminal.load_model(word, **options)
    try:
        return terminal.load_model(statistics.model_source, **options)
    except MissingInputError as error:
        raise MissingInputError(f"{error}; if the network has moved, say where with -m MODEL") from None
