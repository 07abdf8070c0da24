"""The atlas of a class: one page that shows what a file of statistics holds, with images where the network is at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ExistingOutputError

if TYPE_CHECKING:
    from stochdeconv.atlas.page import NetworkPictures
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import Step
    from stochdeconv.statistics.class_statistics import ClassStatistics

# Shown as images: so many components of so many layers, the deepest, each at so many places from -2 to 2 standard deviations.
_N_LAYERS, _N_COMPONENTS, _N_PLACES = 2, 2, 3

Progress = Callable[[int, int, str], None]


class AtlasInterrupted(KeyboardInterrupt):
    """Ctrl-C while images were made; the page is written, with those that were made until then."""


def write_atlas(
    statistics: ClassStatistics,
    output: str | Path,
    *,
    model: ImageModel | None = None,
    n_images: int = 4,
    n_steps: int = 96,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Show statistics on one page: what varies, regions, samples, spectra, which images went in and where they come from.

    Parameters
    ----------
    statistics : ClassStatistics
    output : path
        The page, an HTML file that is complete in itself; its folder is made where it is missing.
    model : ImageModel, optional
        The network of the statistics. Components, regions and samples are then shown as images, which takes some time; without it
        as maps and colour layouts, which takes seconds.
    n_images : int
        Images of each sampler.
    n_steps : int
        Steps each image is made with.
    seed : int
        Target, start and random views of image i depend on (seed, i) alone.
    overwrite : bool
        Replace the file.
    progress : callable, optional
        ``progress(n_steps, n_all_steps, message)``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExistingOutputError
        The file is there and `overwrite` is False, or a folder is in its place.
    ModelError
        The network is not the one the statistics were collected with.
    InputError
        The file cannot be written.
    AtlasInterrupted
        On Ctrl-C while images are made, once the page is written with those that there are.
    """
    from stochdeconv.atlas.page import NetworkPictures, can_have_images, render_atlas
    from stochdeconv.files import write_atomically
    from stochdeconv.methods.objective import check_model

    output = Path(output)
    refuse_existing(output, overwrite=overwrite)
    pictures, interrupt = None, None
    if model is not None:
        check_model(model, statistics)
        if can_have_images(statistics):
            pictures = NetworkPictures()
            maker = _Maker(model, statistics, n_images=n_images, n_steps=n_steps, seed=seed, progress=progress)
            try:
                maker.fill(pictures)
            except KeyboardInterrupt as stopped:
                interrupt = stopped
    page = render_atlas(statistics, pictures, seed=seed, n_steps=n_steps, interrupted=interrupt is not None)
    write_atomically(output, page.encode())
    if interrupt is not None:
        raise AtlasInterrupted("interrupted") from interrupt
    return output


def refuse_existing(output: str | Path, *, overwrite: bool) -> None:
    """Raise ExistingOutputError where the page would take the place of a folder, or of a file that may not be replaced."""
    output = Path(output)
    if output.is_dir():
        raise ExistingOutputError(f"'{output}' is a folder; the atlas is a file, such as '{output / 'atlas.html'}'")
    if output.exists() and not overwrite:
        raise ExistingOutputError(f"'{output}' already exists; choose another file, or pass overwrite=True")


class _Maker:
    """Makes the images of the page one run after another, and reports steps of all steps; arguments as in `write_atlas`."""

    def __init__(
        self,
        model: ImageModel,
        statistics: ClassStatistics,
        *,
        n_images: int,
        n_steps: int,
        seed: int,
        progress: Progress | None,
    ):
        from stochdeconv.atlas.page import map_layers, samplers_of, varying_components

        self._model = model
        self._statistics = statistics
        self._n_images = n_images
        self._n_steps = n_steps
        self._seed = seed
        self._report = progress
        self._components = [
            (name, index)
            for name in reversed(map_layers(statistics)[-_N_LAYERS:])
            for index in varying_components(statistics[name], _N_COMPONENTS)
        ]
        self._samplers = samplers_of(statistics)
        self._n_all = n_steps * (len(self._components) * _N_PLACES + len(self._samplers) * n_images)
        self._n_before = 0

    def fill(self, pictures: NetworkPictures) -> None:
        """Make the images; what is finished stays in `pictures` whatever happens."""
        from stochdeconv.atlas.page import Walk
        from stochdeconv.statistics.pooling import pooled_map

        statistics = self._statistics
        for sampler in self._samplers:
            images = self._make(f"samples by {sampler}", self._n_images, sampler=sampler).images
            if statistics.facets is not None:
                layer = statistics.facets.layer
                maps = self._model.activations(images, [layer])[layer]
                pictures.layouts[sampler] = np.asarray(pooled_map(maps, statistics[layer].layout_shape[:2]))
            pictures.samples[sampler] = images
        for name, index in self._components:
            result = self._make(f"component {name}:{index}", _N_PLACES, component=f"{name}:{index}")
            deviations = [(row["asked"], row["reached"]) for row in result.tables["deviations"]]
            pictures.walks.append(Walk(name, index, result.images, deviations))

    def _make(self, what: str, n_images: int, **options: Any) -> RunResult:
        from stochdeconv.methods.generate import generate

        def on_step(step: Step) -> None:
            if self._report is not None:
                n_steps = self._n_before + round(n_images * self._n_steps * step.step / step.n_steps)
                self._report(n_steps, self._n_all, f"{what}\n{step}")

        result = generate(
            self._model,
            self._statistics,
            n_images=n_images,
            n_steps=self._n_steps,
            seed=self._seed,
            callback=on_step,
            **options,
        )
        self._n_before += n_images * self._n_steps
        return result
