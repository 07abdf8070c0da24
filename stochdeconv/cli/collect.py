"""stochdeconv collect."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command
from stochdeconv.cli.running import MODEL_HELP, ClusterFlags, NetworkFlags, OutputFlags
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.errors import (
    AmbiguousClassError,
    ExistingOutputError,
    InputError,
    MissingInputError,
    SettingsError,
    StochDeconvError,
)
from stochdeconv.networks.classes import file_stem, find_folder_class, safe_stem
from stochdeconv.parsing import read_list
from stochdeconv.statistics.collection import CollectSettings, class_of
from stochdeconv.statistics.collection import collect as collect_statistics

if TYPE_CHECKING:
    from stochdeconv.cluster import Cluster
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
    settings: CollectSettings,
    resume: Annotated[bool, Parameter(help="Go on with what was interrupted; nothing to do is fine.")] = False,
    source: NetworkFlags,
    sharing: ClusterFlags,
    flags: OutputFlags,
) -> None:
    """Measure the joint statistics of a class's activations."""
    if resume and flags.overwrite:
        raise SettingsError("resume=True keeps what is there, overwrite=True does not; give one of the two")
    if sharing.ray is not None and settings.shard is not None:
        raise SettingsError("workers measure shards of their own; leave shard= out, or ray=")
    may_be_there = resume or flags.overwrite
    folders = _folders(images, settings, output)
    if output is not None and output.suffix in SUFFIXES and not may_be_there:
        refuse_existing(output)
    terminal.require_writable(STATS_CACHE if output is None else output)
    sharing.check()
    network = source.load(model)
    if settings.layers is not None:
        settings = replace(settings, layers=read_list(settings.layers, "layer", network.find_layer))
    jobs = {_output_file(output, network, folder, settings): folder for folder in folders}
    if len(jobs) < len(folders):
        raise InputError(f"two folders below '{images}' are of one class, as '{network.name}' names them; rename one")
    if not may_be_there:
        for path in jobs:
            refuse_existing(path)
    failed = []
    with sharing.started(network, source) as cluster:
        for path, folder in jobs.items():
            try:
                _collect_class(network, folder, path, settings, flags, resume=resume, cluster=cluster)
            except StochDeconvError as error:
                if folder == images:
                    raise
                # One bad folder must not cost the others; the exit code tells.
                terminal.say(f"error: {folder.name}: {terminal.in_flags(str(error))}")
                failed.append(folder.name)
    if failed:
        terminal.fail(f"{len(failed)} of {len(jobs)} classes failed: {', '.join(failed)}")


def _folders(images: Path, settings: CollectSettings, output: Path | None) -> list[Path]:
    """List what has a class each: the folders of a tree, or the images as they were given."""
    from stochdeconv.images.folders import find_class_folders, find_images

    if not images.exists():
        raise MissingInputError(f"no such folder or list of images: '{images}'")
    folders = find_class_folders(images)
    if not folders:
        find_images(images)
        return [images]
    is_tree = f"'{images}' is a tree of {len(folders)} class folders"
    if settings.class_name is not None:
        raise InputError(f"{is_tree}; class_name= goes with one folder of images")
    if output is not None and output.suffix in SUFFIXES:
        raise InputError(f"{is_tree}, one file for each; output= names a folder then")
    for folder in sorted(images.iterdir()):
        if folder.is_dir() and folder not in folders and not folder.name.startswith("."):
            terminal.say(f"warning: the folder '{folder}' holds no image and is passed over")
    return folders


def _collect_class(
    network: ImageModel,
    source: Path,
    path: Path,
    settings: CollectSettings,
    flags: OutputFlags,
    *,
    resume: bool,
    cluster: Cluster | None,
) -> None:
    from stochdeconv.statistics.file import save_statistics
    from stochdeconv.statistics.finished import check_finished
    from stochdeconv.statistics.spool import Spool, remove_spool

    partial = path.with_name(path.name + PARTIAL)
    if resume and path.exists():
        check_finished(path, network, source, settings)
        remove_spool(partial)
        print(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    places: dict[str, Any] = {"spool": partial, "resume": resume, "overwrite": flags.overwrite}
    try:
        with ProgressBar(source.name, quiet=flags.quiet) as bar:
            if cluster is None:
                statistics = collect_statistics(network, source, settings, progress=bar.on_progress, **places)
            else:
                statistics = cluster.collect(source, settings, progress=bar.on_progress, **places)
            save_statistics(statistics, path, overwrite=flags.overwrite)
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
    if network.class_names and class_of(network, source, settings.class_name) is None:
        terminal.say(
            f"warning: '{source.name}' is no class of '{network.name}', so these statistics have none; --class says which"
        )
    print(path)


def _output_file(output: Path | None, network: ImageModel, source: Path, settings: CollectSettings) -> Path:
    if output is not None and output.suffix in SUFFIXES:
        return output
    number, n_shards = settings.part()
    part = "" if settings.shard is None else f".{number}-of-{n_shards}"
    folder = STATS_CACHE / safe_stem(network.name) if output is None else output
    return folder / f"{_class_stem(network, source, settings.class_name)}{part}.h5"


def _class_stem(network: ImageModel, source: Path, class_name: str | None) -> str:
    """Name a file after the class as the network calls it, after the folder otherwise."""
    folder = source.resolve()
    named = None
    if class_name is not None:
        named = network.find_class(class_name)
    elif folder.is_dir():
        with suppress(AmbiguousClassError):  # which fails this class alone, when it is collected
            named = find_folder_class(folder.name, network.class_names)
    if named is not None:
        return file_stem(named, network.class_names)
    return safe_stem(folder.stem if folder.is_file() else folder.name)


def refuse_existing(path: Path) -> None:
    """Refuse to replace a file."""
    if path.exists():
        raise ExistingOutputError(f"'{path}' already exists; choose another with output=, or pass overwrite=True")
