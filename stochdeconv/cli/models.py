"""stochdeconv models."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command
from stochdeconv.networks.catalogue import APPLICATIONS, SHIPPED, cache_folder

# How the values are wanted, by Keras's names.
_VALUES = {
    "caffe": "BGR minus means",
    "tf": "-1 to 1",
    "torch": "0 to 1, standardised",
    "none": "0 to 255",
}


@command
def models(*, as_json: Annotated[bool, Parameter(help="For programs.")] = False) -> None:
    """List the networks that can be had by name, how large they are and which are here already."""
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
        print(json.dumps(facts, indent=2))
        return
    rows = [("model", "input", "parameters", "MB", "here", "values")]
    for word, network in networks.items():
        here = "ships" if network.ships else "yes" if network.is_here else "no"
        size, million = f"{network.side}×{network.side}", f"{network.n_parameters / 1e6:.1f}M"
        values = f"{network.preprocessing}: {_VALUES[network.preprocessing]}"
        rows.append((word, size, million, str(network.megabytes), here, values))
    print(terminal.format_table(rows))
    print(
        f"\nWhat is not here is downloaded once, to {cache_folder()}; a file that was brought there, or --weights FILE, will do.\n"
        "A network of your own is the path of a .keras file, with a .json of the same name beside it that says how it wants its input."
    )
