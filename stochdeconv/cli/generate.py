"""stochdeconv generate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stochdeconv.cli.flags import command
from stochdeconv.cli.running import ClusterFlags, LoopFlags, check_pictures
from stochdeconv.errors import MissingInputError
from stochdeconv.methods import generate as method
from stochdeconv.methods.class_images import GenerateSettings

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.statistics.class_statistics import ClassStatistics


@dataclass(frozen=True, kw_only=True)
class GenerateFlags(LoopFlags):
    """Where a run from statistics takes its network from.

    Attributes
    ----------
    model : str, ``MODEL``, optional
        The network, if it is not where the file says it was.
    """

    model: str = ""

    def load_network_of(self, statistics: ClassStatistics) -> ImageModel:
        """Load the network that made the statistics, or the one in its place."""
        if self.model:
            return self.load_network()
        try:
            return self.load(statistics.model_source, dtype=self.dtype)
        except MissingInputError as error:
            raise MissingInputError(f"{error}; if the network has moved, say where with -m MODEL") from None


@command
def generate(
    statistics: Annotated[
        Path, Parameter(metavar="FILE", help="Class statistics, as collect leaves them; mini-vgg16/CLASS.h5 ship.")
    ],
    /,
    *,
    run: GenerateFlags,
    settings: GenerateSettings,
    sharing: ClusterFlags,
) -> None:
    """Make varied images of a class from its statistics."""
    from stochdeconv.sampling.traversals import find_component
    from stochdeconv.statistics.file import load_statistics

    if sharing.ray is not None:
        settings.check_shareable()
    sharing.check()
    run.check_output()
    check_pictures(settings.init)
    loaded = load_statistics(statistics)
    if settings.component is not None:
        find_component(loaded, settings.component)
    network = run.load_network_of(loaded)
    title = loaded.class_name or statistics.stem
    with sharing.started(network, run) as cluster:
        make_batches = None if cluster is None else cluster.batches
        run.make(method.generate, network, loaded, settings, title=title, make_batches=make_batches)
