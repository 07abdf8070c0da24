"""The atlas of a class: one page that shows what a file of statistics holds, with images where the network is at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import ExistingOutputError

if TYPE_CHECKING:
    from stochdeconv.atlas.page import NetworkPictures
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import Step
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
        Of the samples and of the images' starts.
    overwrite : bool
        Replace the file.
    progress : callable, optional
        ``progress(done, total, message)``.

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
    from stochdeconv.atlas.page import NetworkPictures, map_layers, render_atlas
    from stochdeconv.files import write_atomically
    from stochdeconv.methods.objective import check_model

    output = Path(output)
    refuse_existing(output, overwrite=overwrite)
    pictures, interrupt = None, None
    # Images are asked for maps, and sampled from the spread of two rows at least.
    if model is not None:
        check_model(model, statistics)
        if map_layers(statistics) and statistics.n_rows >= 2:
            pictures = NetworkPictures()
            try:
                _make_pictures(
                    pictures, model, statistics, n_images=n_images, n_steps=n_steps, seed=seed, progress=progress
                )
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
        raise ExistingOutputError(f"'{output}' already exists; choose another file, or pass --overwrite")


def _make_pictures(
    pictures: NetworkPictures,
    model: ImageModel,
    statistics: ClassStatistics,
    *,
    n_images: int,
    n_steps: int,
    seed: int,
    progress: Progress | None,
) -> None:
    """Make the images of the page one run after another; what is finished stays in `pictures` whatever happens."""
    from stochdeconv.atlas.page import Walk, map_layers, varying_components
    from stochdeconv.methods.generate import generate
    from stochdeconv.sampling.samplers import SAMPLERS
    from stochdeconv.statistics.pooling import pooled_map

    components = [
        (name, index)
        for name in reversed(map_layers(statistics)[-_N_LAYERS:])
        for index in varying_components(statistics[name], _N_COMPONENTS)
    ]
    total = n_steps * (len(components) * _N_PLACES + len(SAMPLERS) * n_images)
    before = 0

    def run(what: str, n: int, **options: object) -> RunResult:
        """Make n images and count them."""
        nonlocal before

        def on_step(step: Step) -> None:
            if progress is not None:
                progress(before + round(n * n_steps * step.step / step.n_steps), total, f"{what}\n{step}")

        result = generate(model, statistics, n_images=n, n_steps=n_steps, seed=seed, callback=on_step, **options)
        before += n * n_steps
        return result

    for sampler in SAMPLERS:
        images = run(f"samples by {sampler}", n_images, sampler=sampler).images
        if statistics.facets is not None:
            layer = statistics.facets.layer
            maps = model.activations(images, [layer])[layer]
            pictures.layouts[sampler] = np.asarray(pooled_map(maps, statistics[layer].layout_shape[:2]))
        pictures.samples[sampler] = images
    for name, index in components:
        result = run(f"component {name}:{index}", _N_PLACES, component=f"{name}:{index}")
        deviations = [(row["asked"], row["reached"]) for row in result.tables["deviations"]]
        pictures.walks.append(Walk(name, index, result.images, deviations))
