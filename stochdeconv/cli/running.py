"""What all commands that make images do around the work: refuse early, load, show progress, save what comes, say where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import read_fields
from stochdeconv.cli.imports import import_code
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.errors import SettingsError
from stochdeconv.settings import check_count

if TYPE_CHECKING:
    import numpy as np

    from stochdeconv.cluster import Cluster
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Said wherever a layer of the network is asked for.
LAYER_HELP = "LAYER is a name, or a number of the list of 'stochdeconv layers' (0 is the input)."

Photo = Annotated[Path, Parameter(help="A photograph.")]
ClassWord = Annotated[str, Parameter(help="Name, wnid or index.")]


@dataclass(frozen=True, kw_only=True)
class PlaceFlags:
    """Where a run takes its network from, and where it leaves its images.

    Attributes
    ----------
    model : str, ``MODEL``
        mini-vgg16, which ships; vgg16 or another name of keras.applications; or a .keras file.
    output : path, ``DIR``
        Folder for the images, their history and run.json.
    """

    model: str
    output: Path


#: What is said of a network wherever one is asked for.
MODEL_HELP = read_fields(PlaceFlags)["model"][1]


@dataclass(frozen=True, kw_only=True)
class NetworkFlags:
    """Where a network comes from.

    Attributes
    ----------
    weights : path, ``FILE``, optional
        Local weights of a keras.applications network, instead of a download.
    imports : sequence of str, ``MODULE|FILE.py``
        Run this Python code first, with all it may do to your machine: layers that a .keras file needs register themselves so.
    """

    weights: Path | None = None
    imports: Sequence[str] = ()

    def load(self, word: str, **options: Any) -> ImageModel:
        """Load a network, after the code that it needs."""
        self.run_imports()
        return terminal.load_model(word, weights=self.weights, **options)

    def run_imports(self) -> None:
        """Run the code that networks need."""
        for module in self.imports:
            import_code(module)


@dataclass(frozen=True, kw_only=True)
class ClusterFlags:
    """Who does the work.

    Attributes
    ----------
    ray : str, ``local|ADDRESS``, optional
        Share the work among processes by Ray (the extra "ray"): on this machine, or on a cluster by its address, such as auto or HOST:PORT,
        whose machines see the files under the same paths. The result is the same.
    workers : int, optional
        How many share it; by default one for each GPU, or for each machine without one.
    """

    ray: str | None = None
    workers: int | None = None

    def __post_init__(self):
        check_count("workers", self.workers)
        if self.workers is not None and self.ray is None:
            raise SettingsError("workers= share the work by Ray: say where with ray=local, or the address of a cluster")

    def check(self) -> None:
        """Refuse before anything is loaded a cluster that does not answer."""
        if self.ray is not None:
            from stochdeconv.cluster import knock

            knock(self.ray)

    def started(self, network: ImageModel, source: NetworkFlags) -> AbstractContextManager[Cluster | None]:
        """Start the workers, where there are to be any."""
        if self.ray is None:
            return nullcontext()
        from stochdeconv.cluster import Cluster

        prepare = source.run_imports if source.imports else None
        return Cluster(self.ray, network, n_workers=self.workers, weights=source.weights, prepare=prepare)


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """What becomes of what is there, and what is shown meanwhile.

    Attributes
    ----------
    overwrite : bool
        Replace output that is already there.
    quiet : bool
        No progress bar.
    """

    overwrite: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class RunFlags(OutputFlags, NetworkFlags, PlaceFlags):  # help lists the last first
    """What all commands have that make images."""

    def check_output(self) -> None:
        """Refuse before the work what saving would refuse after it."""
        from stochdeconv.methods.runs import refuse_existing

        refuse_existing(self.output, overwrite=self.overwrite)
        terminal.require_writable(self.output)

    def load_network(self) -> ImageModel:
        """Load the network."""
        return self.load(self.model)

    def make(
        self, method: Callable[..., RunResult], *operands: object, title: str, reports: str = "on_step", **options: Any
    ) -> None:
        """Run a method and save, after Ctrl-C too; say where the images are.

        Parameters
        ----------
        method : callable
        *operands
            The network first.
        title : str
            Of the progress bar.
        reports : str
            Which method of the bar watches the run.
        **options
            Keywords of the method.
        """
        from stochdeconv.methods.runs import RunInterrupted

        with terminal.stopping_once(), ProgressBar(title, quiet=self.quiet) as bar:
            try:
                result, complete = method(*operands, callback=getattr(bar, reports), **options), True
            except RunInterrupted as interrupt:
                result, complete = interrupt.result, False
            result.save(self.output, overwrite=self.overwrite)
        # Once the progress bar is gone, which would wipe the line away.
        if not complete:
            terminal.fail(
                f"interrupted; the images as far as they came are in {self.output}", code=terminal.EXIT_INTERRUPTED
            )
        print(self.output / "contact_sheet.png")


@dataclass(frozen=True, kw_only=True)
class LoopFlags(RunFlags):
    """Where a run in the image loop takes its network from.

    Attributes
    ----------
    dtype : {"auto", "float32", "bfloat16"}, optional
        Of the network in the image loop; auto by default.
    """

    dtype: str | None = None

    def load_network(self) -> ImageModel:
        """Load the network, in the dtype of the loop."""
        return self.load(self.model, dtype=self.dtype)


def check_pictures(*pictures: str | Path | np.ndarray | None) -> None:
    """Refuse a picture that cannot be read before the network is loaded."""
    from stochdeconv.images.files import load_image

    for picture in pictures:
        if isinstance(picture, str | Path) and str(picture) != "noise":
            load_image(picture)


def check_statistics(*files: str | Path | ClassStatistics | None) -> None:
    """Refuse statistics that cannot be read before the network is loaded."""
    from stochdeconv.statistics.file import load_statistics

    for file in files:
        if isinstance(file, str | Path):
            load_statistics(file)
