"""The command for those who have no network yet: models."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from stochdeconv.catalogue import OFFERS, Offer, weights_folder
from stochdeconv.cli import terminal

_HEADER = ("name", "parameters", "MB", "images", "preprocessing", "here", "file")
# Whatever Keras can save comes in too.
_ANY_FILE = ("FILE.keras", "", "", "any", "as FILE.json says", "yours", "")


def models(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Run ``stochdeconv models``."""
    if as_json:
        typer.echo(json.dumps([_facts(offer) for offer in OFFERS], indent=2))
        return
    typer.echo(terminal.format_table([_HEADER, *map(_row, OFFERS), _ANY_FILE]))
    typer.echo(
        f"What is not here Keras downloads, once, into {weights_folder()}; a file that is put there needs no download.",
        err=True,
    )


def _row(offer: Offer) -> tuple[str, ...]:
    here = "ships" if offer.ships else "yes" if offer.is_here else "no"
    side = f"{offer.side}×{offer.side}"
    return (
        offer.name,
        f"{offer.n_parameters / 1e6:.1f} M",
        f"{offer.megabytes:.0f}",
        side,
        offer.preprocessing,
        here,
        offer.file,
    )


def _facts(offer: Offer) -> dict[str, object]:
    return {
        "name": offer.name,
        "ships": offer.ships,
        "here": offer.is_here,
        "path": str(offer.path),
        "n_parameters": offer.n_parameters,
        "megabytes": round(offer.megabytes, 1),
        "input_size": [offer.side, offer.side],
        "preprocessing": offer.preprocessing,
    }
