"""stochdeconv inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stochdeconv.assets import NETWORKS
from stochdeconv.atlas.writing import AtlasInterrupted, refuse_existing, write_atlas
from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command, default, described
from stochdeconv.cli.running import NetworkFlags, OutputFlags
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.errors import SettingsError, StochDeconvError
from stochdeconv.networks.classes import ClassName

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics


def _of_atlas(name: str) -> Parameter:
    """Describe a flag that has no meaning but for an atlas."""
    return Parameter(help=f"{described(write_atlas, name)} By default {default(write_atlas, name)}.")


@command
def inspect(
    path: Annotated[
        Path, Parameter(metavar="FILE", help="Class statistics; mini-vgg16/CLASS.h5 ship with the package.")
    ],
    /,
    *,
    as_json: Annotated[bool, Parameter(help="For programs.")] = False,
    html: Annotated[
        Path | None,
        Parameter(metavar="OUT.html", help="An atlas to look at: what varies, regions, samples, spectra, on one page."),
    ] = None,
    model: Annotated[
        str | None,
        Parameter(
            metavar="MODEL",
            help="The network, for images in the atlas; by default the one the file names, where that needs no download.",
        ),
    ] = None,
    n_steps: Annotated[int | None, _of_atlas("n_steps")] = None,
    seed: Annotated[int | None, _of_atlas("seed")] = None,
    source: NetworkFlags,
    flags: OutputFlags,
) -> None:
    """Show what a file of statistics holds."""
    from stochdeconv.statistics.file import load_statistics

    if html is None:
        if model is not None or source.weights is not None:
            raise SettingsError("a network makes the images of an atlas; give --html OUT.html too")
        if n_steps is not None or seed is not None:
            raise SettingsError("n_steps= and seed= are for the images of an atlas; give --html OUT.html too")
        _tell(describe_statistics(load_statistics(path)), as_json=as_json)
        return
    if html.resolve() == path.resolve():
        raise SettingsError(
            f"html= '{html}' is the file of statistics itself, which the page would replace; choose another"
        )
    if as_json:
        raise SettingsError("--json goes to a program, --html to a person; give one of the two")
    refuse_existing(html, overwrite=flags.overwrite)
    terminal.require_writable(html, flag="--html")
    statistics = load_statistics(path)
    network = _network_at_hand(statistics, model, source)
    try:
        with (
            terminal.stopping_once("stopping; the page is being written"),
            ProgressBar(statistics.class_name or path.stem, quiet=flags.quiet) as bar,
        ):
            write_atlas(
                statistics,
                html,
                model=network,
                n_steps=default(write_atlas, "n_steps") if n_steps is None else n_steps,
                seed=default(write_atlas, "seed") if seed is None else seed,
                overwrite=flags.overwrite,
                progress=bar.on_progress,
            )
    except AtlasInterrupted:
        terminal.fail(f"interrupted; {html} holds the images made until then, and maps", code=terminal.EXIT_INTERRUPTED)
    print(html)


def _network_at_hand(statistics: ClassStatistics, word: str | None, source: NetworkFlags) -> ImageModel | None:
    """Load the network that was named, or the one the statistics name if it lies here; None, and a warning, where there is none."""
    if word is not None or source.weights is not None:
        return source.load(word or statistics.model_source)
    path = statistics.model_source
    if path not in NETWORKS and not Path(path).is_file():
        why = f"the network '{path}' is not on this machine"
    else:
        from stochdeconv.methods.objective import check_model

        try:
            network = source.load(path)
            check_model(network, statistics)
            return network
        except StochDeconvError as error:
            why = str(error)
    terminal.say(f"warning: {why}; the atlas has maps in place of images (-m MODEL says which network makes them)")
    return None


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print what `describe_statistics` says."""
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    skipped = facts["skipped"]
    print(f"class     {'none' if facts['class'] is None else ClassName(**facts['class'])}")
    print(
        f"network   {facts['model']['name']} ({facts['model']['source']}), weights {facts['model']['weights_hash'][:12]}"
    )
    print(f"images    {facts['n_images']}, {facts['n_rows']} with a row of their own, {len(skipped)} skipped")
    if facts["n_exemplars"]:
        print(
            f"exemplars {facts['n_exemplars']} photographs are kept in this file; images of the sampler exemplars hold pieces of them"
        )
    if facts["local"] is None:
        print("places    no local Gaussians, which the sampler local draws from")
    else:
        print(
            f"places    {facts['local']['n_contexts']} contexts of {'×'.join(map(str, facts['local']['grid']))} places, a mixture of "
            f"{facts['local']['n_components']} Gaussians in each"
        )
    for name, reason in skipped.items():
        print(f"skipped   {name}: {reason}")
    print()
    rows = [("layer", "shape", "layout", "components", "explained")]
    for layer in facts["layers"]:
        shape, layout = ("×".join(map(str, layer[key])) for key in ("shape", "layout_shape"))
        rows.append((layer["name"], shape, layout, str(layer["n_components"]), f"{layer['explained']:.1%}"))
    print(terminal.format_table(rows))


def _describe_local(statistics: ClassStatistics) -> dict[str, Any] | None:
    """Sum local Gaussians up: of how many contexts, places and components they are."""
    if statistics.local is None:
        return None
    _, n_contexts, n_components = statistics.local.weights.shape
    return {"n_contexts": n_contexts, "grid": statistics.local.grid.tolist(), "n_components": n_components}


def describe_statistics(statistics: ClassStatistics) -> dict[str, Any]:
    """Sum statistics up in plain values."""
    return {
        "class": None if statistics.class_name is None else statistics.of_class,
        "model": {
            "name": statistics.model_name,
            "source": statistics.model_source,
            "weights_hash": statistics.weights_hash,
        },
        "input_size": list(statistics.input_size),
        "n_images": statistics.n_images,
        "n_rows": statistics.n_rows,
        "local": _describe_local(statistics),
        "n_exemplars": 0 if statistics.exemplars is None else len(statistics.exemplars),
        "skipped": dict(statistics.skipped),
        "layers": [
            {
                "name": name,
                "shape": list(layer.shape),
                "layout_shape": list(layer.layout_shape),
                "n_components": layer.n_components,
                "explained": layer.explained,
            }
            for name, layer in statistics.items()
        ],
        "settings": dict(statistics.settings),
        "versions": dict(statistics.versions),
        "hash": statistics.hash(),
    }
