"""The command that tells which networks there are: models."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from stochdeconv.cli import terminal
from stochdeconv.networks.catalogue import APPLICATIONS, SHIPPED, cache_folder

# How the values are wanted, by Keras's names.
_VALUES = {
    "caffe": "BGR minus means",
    "tf": "-1 to 1",
    "torch": "0 to 1, standardised",
    "none": "0 to 255",
}


def models(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Run ``stochdeconv models``."""
    networks = {**SHIPPED, **APPLICATIONS}
    if as_json:
        facts = [
            {
                "model": word,
                "source": "package" if network.ships else "keras.applications",
                "input_size": [network.side, network.side],
                "n_parameters": network.n_parameters,
                "megabytes": network.megabytes,
                "preprocessing": network.preprocessing,
                "path": str(network.path),
                "is_here": network.is_here,
            }
            for word, network in networks.items()
        ]
        typer.echo(json.dumps(facts, indent=2))
        return
    rows = [("model", "input", "parameters", "MB", "here", "values")]
    for word, network in networks.items():
        here = "ships" if network.ships else "yes" if network.is_here else "no"
        size, million = f"{network.side}×{network.side}", f"{network.n_parameters / 1e6:.1f}M"
        values = f"{network.preprocessing}: {_VALUES[network.preprocessing]}"
        rows.append((word, size, million, str(network.megabytes), here, values))
    typer.echo(terminal.format_table(rows))
    typer.echo(
        f"\nWhat is not here is downloaded once, to {cache_folder()}; a file that was brought there, or --weights FILE, will do.\n"
        "A network of your own is the path of a .keras file, with a .json of the same name beside it that says how it wants its input."
    )
