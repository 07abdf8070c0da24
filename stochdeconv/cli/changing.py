"""Commands that change a photograph: refine, morph, invert. What is wrong with a call is said before Keras is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stochdeconv.cli import running, terminal
from stochdeconv.cli.terminal import ProgressBar, default
from stochdeconv.methods.approach import JITTER, Approach
from stochdeconv.methods.invert import invert as invert_photo
from stochdeconv.methods.invert import plan_search
from stochdeconv.methods.morph import N_FRAMES, N_STEPS, is_photograph, list_statistics, plan_frames
from stochdeconv.methods.morph import morph as morph_image
from stochdeconv.methods.outlier_suppression import APPROACH_WEIGHT, weigh_outliers
from stochdeconv.methods.refine import CHECKPOINTS, plan_steps
from stochdeconv.methods.refine import refine as refine_photo
from stochdeconv.parsing import read_list

Photo = Annotated[Path, typer.Argument(metavar="PHOTO", help="A photograph.")]
Class = Annotated[str, typer.Argument(metavar="CLASS", help="Name, wnid or index.")]
Strength = Annotated[float, typer.Option(help="How far the picture may go in all, however many the steps.")]
TotalVariation = Annotated[float, typer.Option("--tv", help="Weight of the total variation: smoothness.")]
Jitter = Annotated[
    int | None,
    typer.Option(
        min=0, help="Largest random shift of the view, in pixels.", show_default=f"{JITTER}; below 112 pixels less"
    ),
]
Scale = Annotated[float, typer.Option(help="Largest random change of the view's size, as a fraction.")]
Rotate = Annotated[float, typer.Option(help="Largest random turn of the view, in degrees.")]
OutlierWeight = Annotated[
    float | None, typer.Option(help=terminal.OUTLIER_WEIGHT_HELP, show_default=f"{APPROACH_WEIGHT:g}")
]
NumberOfVariants = Annotated[
    int, typer.Option("--n-images", "-n", min=1, help="Variants, in random views of their own.")
]
VariantsAtATime = Annotated[int, typer.Option(min=1, help="Variants at a time.")]


def refine(
    photo: Photo,
    class_name: Class,
    model: terminal.Model,
    output: running.Output,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Steps after which the picture is kept.",
            show_default=f"{terminal.as_list(CHECKPOINTS)}; with --n-steps the same parts of it",
        ),
    ] = None,
    strength: Strength = default(refine_photo, "strength"),
    tv: TotalVariation = default(refine_photo, "tv"),
    jitter: Jitter = None,
    scale: Scale = default(refine_photo, "scale"),
    rotate: Rotate = default(refine_photo, "rotate"),
    suppress_outliers: terminal.SuppressOutliers = None,
    outlier_weight: OutlierWeight = None,
    n_images: NumberOfVariants = default(refine_photo, "n_images"),
    weights: terminal.Weights = None,
    n_steps: Annotated[
        int | None, typer.Option(min=1, help="Optimisation steps.", show_default="the last checkpoint")
    ] = None,
    size: terminal.Size = None,
    batch_size: VariantsAtATime = default(refine_photo, "batch_size"),
    seed: terminal.Seed = default(refine_photo, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv refine``."""
    steps = None if checkpoints is None else terminal.parse_numbers(checkpoints, "--checkpoints")
    plan_steps(steps, n_steps)
    Approach(strength, tv, jitter, scale, rotate).check_variants(n_images)
    weigh_outliers(suppress_outliers, outlier_weight, default=APPROACH_WEIGHT)
    running.check_picture(photo)
    running.check_output(output, overwrite=overwrite)
    running.check_statistics(suppress_outliers)
    network = terminal.load_model(model, weights=weights, dtype=dtype)
    with ProgressBar(class_name, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: refine_photo(
                network,
                photo,
                class_name,
                checkpoints=steps,
                strength=strength,
                tv=tv,
                jitter=jitter,
                scale=scale,
                rotate=rotate,
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


def morph(
    start: Annotated[str, typer.Argument(metavar="PHOTO|CLASS", help="A photograph, or a class to start from.")],
    class_name: Class,
    model: terminal.Model,
    output: running.Output,
    n_frames: Annotated[
        int | None,
        typer.Option(min=2, help="Frames of the animation.", show_default=f"{N_FRAMES}; of fewer steps, each of them"),
    ] = None,
    strength: Strength = default(morph_image, "strength"),
    tv: TotalVariation = default(morph_image, "tv"),
    jitter: Jitter = None,
    scale: Scale = default(morph_image, "scale"),
    rotate: Rotate = default(morph_image, "rotate"),
    suppress_outliers: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.h5,…",
            help="Statistics of the class it turns into, from a class of both: what makes layers outliers is decreased.",
        ),
    ] = None,
    outlier_weight: OutlierWeight = None,
    n_images: NumberOfVariants = default(morph_image, "n_images"),
    weights: terminal.Weights = None,
    n_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimisation steps.", show_default=f"{N_STEPS}; for more frames, one for each"),
    ] = None,
    size: terminal.Size = None,
    batch_size: VariantsAtATime = default(morph_image, "batch_size"),
    seed: terminal.Seed = default(morph_image, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv morph``."""
    plan_frames(n_frames, n_steps)
    how = Approach(strength, tv, jitter, scale, rotate)
    weigh_outliers(suppress_outliers, outlier_weight, default=APPROACH_WEIGHT)
    known = list_statistics(suppress_outliers)
    if is_photograph(start):
        how.check_variants(n_images)
        running.check_picture(start)
    running.check_output(output, overwrite=overwrite)
    running.check_statistics(*known)
    network = terminal.load_model(model, weights=weights, dtype=dtype)
    with ProgressBar(f"{Path(start).stem} to {class_name}", quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: morph_image(
                network,
                start,
                class_name,
                n_frames=n_frames,
                strength=strength,
                tv=tv,
                jitter=jitter,
                scale=scale,
                rotate=rotate,
                suppress_outliers=known or None,
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


def invert(
    photo: Photo,
    model: terminal.Model,
    layer: Annotated[
        str,
        typer.Option(
            metavar="LAYER,…", help=f"Layers whose activations are asked for; a picture each. {terminal.LAYER_HELP}"
        ),
    ],
    output: running.Output,
    target: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Take the activations of this photograph.", show_default="PHOTO itself"),
    ] = None,
    enhance: Annotated[
        float | None,
        typer.Option(
            help="What the activations asked for are multiplied by.",
            show_default="1; from the photograph toward itself 1.5",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="noise|photo|mean",
            help="Where the search starts.",
            show_default="noise; one picture with --target: photo",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="lbfgs|adam", help="How it goes on.", show_default="lbfgs; with another gradient rule adam"
        ),
    ] = None,
    gradient_rule: Annotated[
        str,
        typer.Option(metavar="true|guided|deconvnet|mix", help="How gradients pass a ReLU; all but true with adam."),
    ] = default(invert_photo, "gradient_rule"),
    tv: TotalVariation = default(invert_photo, "tv"),
    alpha_norm: Annotated[float, typer.Option(help="Weight of the 6-norm: pixels in range.")] = default(
        invert_photo, "alpha_norm"
    ),
    n_images: Annotated[
        int, typer.Option("--n-images", "-n", min=1, help="Pictures of each layer, from different noise.")
    ] = default(invert_photo, "n_images"),
    weights: terminal.Weights = None,
    n_steps: terminal.NumberOfSteps = default(invert_photo, "n_steps"),
    size: terminal.Size = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures of a layer at a time, with adam; lbfgs takes one at a time.")
    ] = default(invert_photo, "batch_size"),
    seed: terminal.Seed = default(invert_photo, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv invert``."""
    read_list(layer, "layer")
    search = {
        "target": target,
        "enhance": enhance,
        "init": init,
        "optimizer": optimizer,
        "gradient_rule": gradient_rule,
        "tv": tv,
        "alpha_norm": alpha_norm,
        "n_images": n_images,
    }
    plan_search(**search)
    running.check_picture(photo, target)
    running.check_output(output, overwrite=overwrite)
    network = terminal.load_model(model, weights=weights, dtype=dtype)
    with ProgressBar(layer, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: invert_photo(
                network,
                photo,
                layer,
                **search,
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
