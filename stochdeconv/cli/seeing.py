"""The command that looks at one photo through a network: saliency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stochdeconv.cli import running, terminal
from stochdeconv.cli.terminal import ProgressBar, default
from stochdeconv.methods.objectives import read_unit
from stochdeconv.methods.saliency import RULES, parse_rules
from stochdeconv.methods.saliency import saliency as explain_photo


def saliency(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The image to explain.")],
    model: terminal.Model,
    output: running.Output,
    class_name: Annotated[
        str | None,
        typer.Argument(metavar="[CLASS]", help="Name, wnid or index; left out: the network's own top class."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="LAYER:CHANNEL[:ROW:COLUMN]", help=f"A unit instead of a class. {terminal.LAYER_HELP}"),
    ] = None,
    rule: Annotated[
        str, typer.Option(metavar="|".join((*RULES, "all")), help="Which picture; several are separated by commas.")
    ] = default(explain_photo, "rule"),
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help="Where grad_cam looks, by name or number.",
            show_default="the last map before the score",
        ),
    ] = None,
    weights: terminal.Weights = None,
    n_samples: Annotated[
        int, typer.Option(min=1, help="Noisy copies of smoothgrad, points on the line of integrated_gradients.")
    ] = default(explain_photo, "n_samples"),
    noise: Annotated[
        float, typer.Option(min=0, help="Of smoothgrad, as a fraction of the photo's range of values.")
    ] = default(explain_photo, "noise"),
    size: terminal.Size = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Copies or points at a time.")] = default(
        explain_photo, "batch_size"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Noisy copy i depends on (seed, i) alone.")] = default(
        explain_photo, "seed"
    ),
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv saliency``."""
    if class_name is not None and unit is not None:
        raise typer.BadParameter("give either CLASS or --unit LAYER:CHANNEL[:ROW:COLUMN], not both")
    # What is wrong is said before Keras is loaded.
    parse_rules(rule)
    if unit is not None:
        read_unit(unit)
    running.check_output(output, overwrite=overwrite)
    running.check_picture(photo)
    network = terminal.load_model(model, weights=weights)
    with ProgressBar(class_name or unit or photo.stem, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: explain_photo(
                network,
                photo,
                class_name,
                unit=unit,
                rule=rule,
                layer=layer,
                n_samples=n_samples,
                noise=noise,
                size=size,
                batch_size=batch_size,
                seed=seed,
                callback=bar.on_progress,
            ),
            output,
            overwrite=overwrite,
        )
    running.report(output, complete=saved)
