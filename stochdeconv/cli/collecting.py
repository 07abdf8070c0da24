"""Commands about statistics: collect, merge, inspect, layers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stochdeconv.assets import NETWORKS
from stochdeconv.atlas.writing import AtlasInterrupted, refuse_existing, write_atlas
from stochdeconv.cli import terminal
from stochdeconv.cli.terminal import ProgressBar, default
from stochdeconv.errors import ClassNotFoundError, ExistingOutputError, InputError, MissingInputError, StochDeconvError
from stochdeconv.networks.classes import ClassName, file_stem, safe_stem
from stochdeconv.parsing import read_list
from stochdeconv.statistics.collection import class_of
from stochdeconv.statistics.collection import collect as collect_statistics

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Where statistics land in a checkout, and what a working folder is called beside its file: that of a merge must not take the place
# of an interrupted collection's.
STATS_CACHE = Path("stats_cache")
SUFFIXES = (".h5", ".hdf5")
PARTIAL, MERGING = ".partial", ".merging"


def _parse_shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise typer.BadParameter(f"'{text}' is not I/N with 1 <= I <= N")
    return int(match[1]), int(match[2])


def collect(
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="A folder of images, a tree of class folders, or a text file of paths."),
    ],
    model: terminal.Model,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="An .h5 file, or a folder.",
            show_default="stats_cache/MODEL/CLASS.h5",
        ),
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class.", show_default="the folder's name")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER,LAYER,…",
            help=f"Layers to measure. {terminal.LAYER_HELP}",
            show_default="the network's default layers",
        ),
    ] = None,
    n_components: Annotated[int, typer.Option(min=1, help="Layout components kept per layer.")] = default(
        collect_statistics, "n_components"
    ),
    layout_size: Annotated[int, typer.Option(min=1, help="Rows and columns of a layout, at most.")] = default(
        collect_statistics, "layout_size"
    ),
    batch_size: terminal.BatchSize = default(collect_statistics, "batch_size"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what was interrupted; nothing to do is fine.")
    ] = False,
    shard: Annotated[
        Any, typer.Option(metavar="I/N", parser=_parse_shard, help="Every N-th image from the I-th on; see merge.")
    ] = None,
    weights: terminal.Weights = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv collect``."""
    from stochdeconv.images.folders import find_class_folders, find_images

    if not images.exists():
        raise MissingInputError(f"no such folder or list of images: '{images}'")
    named = None if layers is None else read_list(layers, "layer")
    if resume and overwrite:
        raise typer.BadParameter("--resume keeps what is there, --overwrite does not; give one of the two")
    folders = find_class_folders(images)
    if folders and class_name is not None:
        raise InputError(
            f"'{images}' is a tree of {len(folders)} class folders; --class goes with one folder of images"
        )
    if folders and output is not None and output.suffix in SUFFIXES:
        raise InputError(
            f"'{images}' is a tree of {len(folders)} class folders, one file for each; -o names a folder then"
        )
    terminal.require_writable(STATS_CACHE if output is None else output)
    if not folders:
        find_images(images)
    if output is not None and output.suffix in SUFFIXES and not (resume or overwrite):
        _refuse_existing(output)
    network = terminal.load_model(model, weights=weights)
    named = None if named is None else read_list(named, "layer", network.find_layer)
    jobs = {_output_file(output, network, source, class_name, shard): source for source in folders or [images]}
    if len(jobs) < len(folders):
        raise InputError(f"two folders below '{images}' are of one class, as '{network.name}' names them; rename one")
    if not (resume or overwrite):
        for path in jobs:
            _refuse_existing(path)

    def one(path: Path, source: Path) -> None:
        _collect_one(
            network,
            source,
            path,
            resume=resume,
            quiet=quiet,
            settings={
                "class_name": class_name,
                "layers": named,
                "n_components": n_components,
                "layout_size": layout_size,
                "batch_size": batch_size,
                "shard": shard,
                "overwrite": overwrite,
            },
        )

    failed = []
    for path, source in jobs.items():
        try:
            one(path, source)
        except StochDeconvError as error:
            if not folders:
                raise
            # One bad folder must not cost the others; the exit code tells.
            typer.echo(f"error: {source.name}: {terminal.in_flags(str(error))}", err=True)
            failed.append(source.name)
    if failed:
        terminal.fail(f"{len(failed)} of {len(jobs)} classes failed: {', '.join(failed)}")


def _collect_one(
    network: ImageModel, source: Path, path: Path, *, resume: bool, quiet: bool, settings: dict[str, Any]
) -> None:
    from stochdeconv.statistics.file import save_statistics
    from stochdeconv.statistics.spool import remove_spool

    partial = path.with_name(path.name + PARTIAL)
    if resume and path.exists():
        _refuse_another(network, source, path, settings)
        remove_spool(partial)
        typer.echo(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ProgressBar(source.name, quiet=quiet) as bar:
            statistics = collect_statistics(
                network, source, spool=partial, resume=resume, progress=bar.on_progress, **settings
            )
            save_statistics(statistics, path, overwrite=settings["overwrite"])
    except KeyboardInterrupt:
        terminal.fail(
            f"interrupted; go on with --resume ({partial} holds what is done)", code=terminal.EXIT_INTERRUPTED
        )
    if settings["shard"] is None:
        skipped = statistics.skipped
    else:
        skipped = statistics.skipped_keys
        statistics.close()
    remove_spool(partial)
    for name, reason in skipped:
        typer.echo(f"skipped: {name}: {reason}", err=True)
    if network.class_names and class_of(network, source, settings["class_name"]) is None:
        typer.echo(
            f"warning: '{source.name}' is no class of '{network.name}', so these statistics have none; --class says which",
            err=True,
        )
    typer.echo(path)


def _refuse_another(network: ImageModel, source: Path, path: Path, settings: dict[str, Any]) -> None:
    """Raise where a finished file is not what a collection with these settings would leave."""
    from stochdeconv.statistics.file import load_statistics
    from stochdeconv.statistics.measurement import measured_layers
    from stochdeconv.statistics.shards import ShardFile
    from stochdeconv.statistics.spool import differing

    # Only a file that was made smaller afterwards has n_rows.
    compared = ("n_components", "layout_size", "n_rows")
    layers = measured_layers(network, settings["layers"], settings["layout_size"])
    asked = {
        "weights_hash": network.weights_hash,
        "preprocessing": dict(network.preprocessing),
        "class": class_of(network, source, settings["class_name"]),
        "layers": [[layer.name] for layer in layers],
        "settings": {name: settings.get(name) for name in compared},
    }
    if settings["shard"] is None:
        known = load_statistics(path)
        class_ = {"index": known.class_index, "wnid": known.wnid, "label": known.class_name}
        found = {
            "weights_hash": known.weights_hash,
            "preprocessing": dict(known.preprocessing),
            "class": None if known.class_index is None else class_,
            "layers": [[name] for name in known],
            "settings": {name: known.settings.get(name) for name in compared},
        }
    else:
        with ShardFile(path) as shard:
            found = {name: shard.manifest[name] for name in (*asked, "shard")}
        asked["shard"] = list(settings["shard"])
        found["layers"] = [layer[:1] for layer in found["layers"]]
        found["settings"] = {name: found["settings"].get(name) for name in compared}
    difference = differing(json.loads(json.dumps(asked)), found)  # as JSON gives it back: lists, no tuples
    if difference:
        raise InputError(
            f"'{path}' is complete, but was collected with something else: {difference}; --overwrite replaces it"
        )


def _output_file(
    output: Path | None, network: ImageModel, source: Path, class_name: str | None, shard: tuple[int, int] | None
) -> Path:
    if output is not None and output.suffix in SUFFIXES:
        return output
    part = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    folder = STATS_CACHE / safe_stem(network.name) if output is None else output
    return folder / f"{_class_stem(network, source, class_name)}{part}.h5"


def _class_stem(network: ImageModel, source: Path, class_name: str | None) -> str:
    """Name a file after the class as the network calls it, after the folder otherwise."""
    folder = source.resolve()
    word = class_name or (folder.name if folder.is_dir() else None)
    stem = folder.stem if folder.is_file() else folder.name
    # A network without class scores knows no class; one that is named all the same is refused.
    if class_name is not None or (word is not None and network.class_names):
        try:
            found = network.find_class(word)
        except ClassNotFoundError:
            if class_name is not None:
                raise
        else:
            return file_stem(found, network.class_names)
    return safe_stem(stem)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ExistingOutputError(f"'{path}' already exists; choose another with -o, or pass --overwrite")


def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="A.h5 B.h5 …", help="Files of collect --shard.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="C.h5", help="The whole.")],
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv merge``."""
    from stochdeconv.statistics.collection import merge as merge_shards
    from stochdeconv.statistics.file import save_statistics

    if not overwrite:
        _refuse_existing(output)
    # Beside the output: as much space as the shards take is where the user wants the result, not in a folder for small things.
    with ProgressBar(output.stem, quiet=quiet) as bar:
        statistics = merge_shards(shards, spool=output.with_name(output.name + MERGING), progress=bar.on_progress)
    save_statistics(statistics, output, overwrite=overwrite)
    typer.echo(output)


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="FILE.h5", help="Class statistics; mini-vgg16/CLASS.h5 ship with the package.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.html", help="An atlas to look at: what varies, regions, samples, spectra, on one page."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="The network, for images in the atlas.",
            show_default="the one the file names, where that needs no download",
        ),
    ] = None,
    weights: terminal.Weights = None,
    n_steps: terminal.NumberOfSteps = default(write_atlas, "n_steps"),
    seed: terminal.Seed = default(write_atlas, "seed"),
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv inspect``."""
    from stochdeconv.statistics.file import load_statistics

    if html is None:
        if model is not None or weights is not None:
            raise typer.BadParameter("a network makes the images of an atlas; give --html OUT.html too")
        _tell(describe_statistics(load_statistics(path)), as_json=as_json)
        return
    if as_json:
        raise typer.BadParameter("--json goes to a program, --html to a person; give one of the two")
    refuse_existing(html, overwrite=overwrite)
    terminal.require_writable(html, flag="--html")
    known = load_statistics(path)
    network = _network_at_hand(known, model, weights)
    try:
        with ProgressBar(known.class_name or path.stem, quiet=quiet) as bar:
            write_atlas(
                known,
                html,
                model=network,
                n_steps=n_steps,
                seed=seed,
                overwrite=overwrite,
                progress=bar.on_progress,
            )
    except AtlasInterrupted:
        terminal.fail(f"interrupted; {html} holds the images made until then, and maps", code=terminal.EXIT_INTERRUPTED)
    typer.echo(html)


def _network_at_hand(statistics: ClassStatistics, word: str | None, weights: Path | None) -> ImageModel | None:
    """Load the network that was given, or the one the statistics name if it lies here; None, and a warning, where there is none."""
    if word is not None or weights is not None:
        return terminal.load_model(word or statistics.model_source, weights=weights)
    source = statistics.model_source
    if source not in NETWORKS and not Path(source).is_file():
        why = f"the network '{source}' is not on this machine"
    else:
        from stochdeconv.methods.objective import check_model

        try:
            network = terminal.load_model(source)
            check_model(network, statistics)
            return network
        except StochDeconvError as error:
            why = str(error)
    typer.echo(
        f"warning: {why}; the atlas has maps in place of images (-m MODEL says which network makes them)", err=True
    )
    return None


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print what `describe_statistics` found."""
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    known = facts["class"]
    skipped = facts["skipped"]
    told = "none" if known is None else str(ClassName(**known))
    typer.echo(f"class     {told}")
    typer.echo(
        f"network   {facts['model']['name']} ({facts['model']['source']}), weights {facts['model']['weights_hash'][:12]}"
    )
    typer.echo(f"images    {facts['n_images']}, {facts['n_rows']} with a row of their own, {len(skipped)} skipped")
    for name, reason in skipped.items():
        typer.echo(f"skipped   {name}: {reason}")
    typer.echo("")
    rows = [("layer", "shape", "layout", "components", "explained")]
    for layer in facts["layers"]:
        shape, layout = ("×".join(map(str, layer[key])) for key in ("shape", "layout_shape"))
        rows.append((layer["name"], shape, layout, str(layer["n_components"]), f"{layer['explained']:.1%}"))
    typer.echo(terminal.format_table(rows))


def describe_statistics(statistics: ClassStatistics) -> dict[str, Any]:
    """Sum statistics up in plain values."""
    known = {"index": statistics.class_index, "wnid": statistics.wnid, "label": statistics.class_name}
    return {
        "class": None if statistics.class_name is None else known,
        "model": {
            "name": statistics.model_name,
            "source": statistics.model_source,
            "weights_hash": statistics.weights_hash,
        },
        "input_size": list(statistics.input_size),
        "n_images": statistics.n_images,
        "n_rows": statistics.n_rows,
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


def layers(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="mini-vgg16, a name of keras.applications, or a .keras file.")
    ],
    weights: terminal.Weights = None,
) -> None:
    """Run ``stochdeconv layers``."""
    network = terminal.load_model(model, weights=weights)
    rows = []
    for number, name in enumerate(("input", *network.layer_names)):
        shape = "×".join(map(str, network.layer_shape(name)))
        rows.append((str(number), name, shape, "*" if name in network.default_layers else ""))
    typer.echo(terminal.format_table(rows))
