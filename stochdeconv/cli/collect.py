"""stochdeconv collect."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command, default
from stochdeconv.cli.running import LAYER_HELP, MODEL_HELP, NetworkFlags, OutputFlags
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.errors import (
    ClassNotFoundError,
    ExistingOutputError,
    InputError,
    MissingInputError,
    SettingsError,
    StochDeconvError,
)
from stochdeconv.networks.classes import file_stem, safe_stem
from stochdeconv.parsing import read_list
from stochdeconv.statistics.collection import class_of
from stochdeconv.statistics.collection import collect as collect_statistics

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel

# Where statistics land in a checkout, and what a working folder is called beside its file.
STATS_CACHE = Path("stats_cache")
SUFFIXES = (".h5", ".hdf5")
PARTIAL = ".partial"


@command
def collect(
    images: Annotated[
        Path, Parameter(metavar="IMAGES", help="A folder of images, a tree of class folders, or a text file of paths.")
    ],
    /,
    *,
    model: Annotated[str, Parameter(metavar="MODEL", help=MODEL_HELP)],
    output: Annotated[
        Path | None,
        Parameter(metavar="FILE|DIR", help="An .h5 file, or a folder; stats_cache/MODEL/CLASS.h5 by default."),
    ] = None,
    class_name: Annotated[
        str | None, Parameter(metavar="NAME", help="The class; the folder's name by default.")
    ] = None,
    layers: Annotated[
        str | None,
        Parameter(
            metavar="LAYER,LAYER,…",
            help=f"Layers to measure; the network's default layers by default. {LAYER_HELP}",
        ),
    ] = None,
    n_components: Annotated[int, Parameter(help="Layout components kept per layer.")] = default(
        collect_statistics, "n_components"
    ),
    layout_size: Annotated[int, Parameter(help="Rows and columns of a layout, at most.")] = default(
        collect_statistics, "layout_size"
    ),
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = default(collect_statistics, "batch_size"),
    resume: Annotated[bool, Parameter(help="Go on with what was interrupted; nothing to do is fine.")] = False,
    shard: Annotated[str | None, Parameter(metavar="I/N", help="Every N-th image from the I-th on; see merge.")] = None,
    source: NetworkFlags,
    flags: OutputFlags,
) -> None:
    """Measure the joint statistics of a class's activations."""
    from stochdeconv.images.folders import find_class_folders, find_images

    part = None if shard is None else _parse_shard(shard)
    for name, number in (("n_components", n_components), ("layout_size", layout_size), ("batch_size", batch_size)):
        if number < 1:
            raise SettingsError(f"{name} must be at least 1; got {number}")
    if not images.exists():
        raise MissingInputError(f"no such folder or list of images: '{images}'")
    named = None if layers is None else read_list(layers, "layer")
    if resume and flags.overwrite:
        raise SettingsError("--resume keeps what is there, --overwrite does not; give one of the two")
    folders = find_class_folders(images)
    if folders:
        _check_tree(images, len(folders), class_name, output)
    terminal.require_writable(STATS_CACHE if output is None else output)
    if not folders:
        find_images(images)
    if output is not None and output.suffix in SUFFIXES and not (resume or flags.overwrite):
        refuse_existing(output)
    network = source.load(model)
    named = None if named is None else read_list(named, "layer", network.find_layer)
    jobs = {_output_file(output, network, folder, class_name, part): folder for folder in folders or [images]}
    if len(jobs) < len(folders):
        raise InputError(f"two folders below '{images}' are of one class, as '{network.name}' names them; rename one")
    if not (resume or flags.overwrite):
        for path in jobs:
            refuse_existing(path)

    settings = {
        "class_name": class_name,
        "layers": named,
        "n_components": n_components,
        "layout_size": layout_size,
        "batch_size": batch_size,
        "shard": part,
        "overwrite": flags.overwrite,
    }
    failed = []
    for path, folder in jobs.items():
        try:
            _collect_class(network, folder, path, resume=resume, quiet=flags.quiet, settings=settings)
        except StochDeconvError as error:
            if not folders:
                raise
            # One bad folder must not cost the others; the exit code tells.
            terminal.say(f"error: {folder.name}: {terminal.in_flags(str(error))}")
            failed.append(folder.name)
    if failed:
        terminal.fail(f"{len(failed)} of {len(jobs)} classes failed: {', '.join(failed)}")


def _check_tree(images: Path, n_folders: int, class_name: str | None, output: Path | None) -> None:
    """Refuse what goes with one folder of images alone."""
    if class_name is not None:
        raise InputError(f"'{images}' is a tree of {n_folders} class folders; --class goes with one folder of images")
    if output is not None and output.suffix in SUFFIXES:
        raise InputError(
            f"'{images}' is a tree of {n_folders} class folders, one file for each; -o names a folder then"
        )


def _collect_class(
    network: ImageModel, source: Path, path: Path, *, resume: bool, quiet: bool, settings: dict[str, Any]
) -> None:
    from stochdeconv.statistics.file import save_statistics
    from stochdeconv.statistics.spool import Spool, remove_spool

    partial = path.with_name(path.name + PARTIAL)
    if resume and path.exists():
        _refuse_another(network, source, path, settings)
        remove_spool(partial)
        print(path)
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
    if isinstance(statistics, Spool):
        skipped = statistics.skipped_keys
        statistics.close()
    else:
        skipped = list(statistics.skipped)
    remove_spool(partial)
    for name, reason in skipped:
        terminal.say(f"skipped: {name}: {reason}")
    if network.class_names and class_of(network, source, settings["class_name"]) is None:
        terminal.say(
            f"warning: '{source.name}' is no class of '{network.name}', so these statistics have none; --class says which"
        )
    print(path)


def _refuse_another(network: ImageModel, source: Path, path: Path, settings: dict[str, Any]) -> None:
    """Raise where a finished file is not what a collection with these settings would leave."""
    from stochdeconv.statistics.file import load_statistics
    from stochdeconv.statistics.measurement import measured_layers
    from stochdeconv.statistics.shards import ShardFile
    from stochdeconv.statistics.spool import differing

    # Only a file that was made smaller afterwards has n_rows.
    compared = ("n_components", "layout_size", "n_rows")
    layers = measured_layers(network, settings["layers"], settings["layout_size"])
    expected: dict[str, Any] = {
        "weights_hash": network.weights_hash,
        "preprocessing": dict(network.preprocessing),
        "class": class_of(network, source, settings["class_name"]),
        "layers": [[layer.name] for layer in layers],
        "settings": {name: settings.get(name) for name in compared},
    }
    if settings["shard"] is None:
        statistics = load_statistics(path)
        class_ = {"index": statistics.class_index, "wnid": statistics.wnid, "label": statistics.class_name}
        there: dict[str, Any] = {
            "weights_hash": statistics.weights_hash,
            "preprocessing": dict(statistics.preprocessing),
            "class": None if statistics.class_index is None else class_,
            "layers": [[name] for name in statistics],
            "settings": {name: statistics.settings.get(name) for name in compared},
        }
    else:
        with ShardFile(path) as shard:
            there = {name: shard.manifest[name] for name in (*expected, "shard")}
        expected["shard"] = list(settings["shard"])
        there["layers"] = [layer[:1] for layer in there["layers"]]
        there["settings"] = {name: there["settings"].get(name) for name in compared}
    difference = differing(json.loads(json.dumps(expected)), there)  # as JSON gives it back: lists, no tuples
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
    if word is not None and (class_name is not None or network.class_names):
        try:
            named = network.find_class(word)
        except ClassNotFoundError:
            if class_name is not None:
                raise
        else:
            return file_stem(named, network.class_names)
    return safe_stem(stem)


def refuse_existing(path: Path) -> None:
    """Refuse to replace a file."""
    if path.exists():
        raise ExistingOutputError(f"'{path}' already exists; choose another with -o, or pass --overwrite")


def _parse_shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise SettingsError(f"--shard '{text}' is not I/N with 1 <= I <= N")
    return int(match[1]), int(match[2])
