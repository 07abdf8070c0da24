"""stochdeconv layers."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command
from stochdeconv.cli.running import NetworkFlags


@command
def layers(
    model: Annotated[
        str, Parameter(metavar="MODEL", help="mini-vgg16, a name of keras.applications, or a .keras file.")
    ],
    /,
    *,
    source: NetworkFlags,
) -> None:
    """List a network's layers, numbered from 0, the input; * marks what collect measures; NAME_linear is a layer before its activation."""
    network = source.load(model)
    rows = []
    for number, name in enumerate(("input", *network.layer_names)):
        shape = "×".join(map(str, network.layer_shape(name)))
        rows.append((str(number), name, shape, "*" if name in network.default_layers else ""))
    print(terminal.format_table(rows))
