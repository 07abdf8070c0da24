"""The images of one run of `generate`: how they are asked for, their targets, where they start, and the order they are made in."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, SettingsError
from stochdeconv.methods.objective import channel_directions, check_model, target_loss
from stochdeconv.methods.recipe import Recipe, own_recipe, parse_recipe
from stochdeconv.methods.settings import RunSettings
from stochdeconv.optimization.descent import Descent
from stochdeconv.sampling.samplers import (
    EXEMPLARS,
    LOCAL,
    OF_SCENES,
    PLACE_BY_PLACE,
    SAMPLERS,
    check_sampling,
    sample_targets,
)
from stochdeconv.sampling.traversals import component_targets, spaced_deviations, walk_targets
from stochdeconv.settings import OPEN
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.layout import layout_maps

if TYPE_CHECKING:
    from stochdeconv.losses import Loss
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.parameterizations import Constraint, Parameterization
    from stochdeconv.optimization.results import OptimizationResult, Step
    from stochdeconv.sampling.targets import Targets
    from stochdeconv.statistics.class_statistics import ClassStatistics

# The sampler where places cannot be drawn, and of the rows whose scenes `exemplars` draws them in.
_USUAL = "bootstrap"
# Of smaller images, with a dozen patches or fewer side by side, nobody measured whether local Gaussians are the better default.
_LEAST_SIDE_OF_LOCAL = 96
# A walk starts from its middle frame after this part of the steps.
_OPENING = 0.5


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(RunSettings):
    """How images of a class are made from its statistics.

    Attributes
    ----------
    n_images : int, optional
        How many images: by default 8 samples, or 5 images along a component; a walk has its own number.
    component : str, ``LAYER:J``, optional
        What varies in the class: its mean moved along the J-th layout component of a layer, counted from 0, from -2 to 2 standard
        deviations in equal steps; nothing is sampled. The sheet says how far each image was to go and how far it came.
    walk : int, ``N``, optional
        N frames from one sample to another, as a GIF and an MP4.
    gif : bool
        Show how the images come about, the first 16 of them, as a GIF and an MP4.
    sampler : {"local", "exemplars", "chain", "joint", "bootstrap", "independent"}
        How targets are sampled, see `samplers.sample_targets`; ``local`` draws images place by place from local Gaussians, see
        `scenes.sample_scenes` and `local.draw_places`, ``exemplars`` from photographs that the statistics keep, see
        `exemplars.sample_places`. By default local where the statistics hold what it needs and images have 96 pixels a side, else
        exemplars where there are enough, else bootstrap; bootstrap, too, of series, of another size than the statistics', and from a
        photograph (`init`).
    scenes : {"chain", "joint", "bootstrap", "independent"}
        What lays out the scenes of the sampler ``local``, which is then chosen; by default chain.
    temperature : float
        Multiplies the deviations of the samples, and of images along a component, from the class's mean; to ``local`` they tell which rows
        its scenes are of. Place by place, multiplies the noise, too.
    row_weight : float
        How much of real images' deviations a chain or bootstrap sample is made of, 0 (Gaussian throughout) to 1, one that lays
        out scenes too; of `exemplars` above 0.
    gradient_rule : {"true", "guided", "deconvnet", "mix"}
        How gradients pass a ReLU, see `gradient.loss_gradient`.
    init : path, ``noise|IMAGE``
        Start from noise, about the colours that are sampled (`start` of the recipe), or from a photograph.
    recipe : Recipe or str, ``NAME=VALUE,…``
        The objective: whole, or what changes in the network's own: weights such as facets=0 or class_term=1, order=deepest-first,
        parameterization=pixels. A network's own is the default of `Recipe`, place by place with weights of its own (textures and layout
        beside the maps, no colours, edges or smoothness of the whole), with what its sidecar file says under "recipe".
    n_steps : int
        Optimisation steps.
    size : int, optional
        Side of the images in pixels; by default that of the statistics.
    batch_size : int, optional
        Images optimised at a time: by default 8, on a GPU 64, or half as many until they fit its memory. They do not influence each
        other; those of a series go one at a time.
    seed : int
        Target, start and random views of image i depend on (seed, i) alone.
    """

    counts = (*RunSettings.counts, "walk")

    n_images: int | None = None
    component: str | None = None
    walk: int | None = None
    gif: bool = False
    sampler: str = OPEN
    scenes: str = OPEN
    temperature: float = 1.0
    row_weight: float = 0.9
    gradient_rule: str = "true"
    init: str | Path = "noise"
    recipe: str | Recipe | None = ""
    n_steps: int = 128
    batch_size: int = OPEN

    def _settle(self) -> None:
        super()._settle()
        if self.component is not None and self.walk is not None:
            raise SettingsError("component= and walk= are two different series of images; give one of the two")
        if self.walk is not None and self.n_images is not None:
            raise SettingsError(f"a walk has its own number of frames, here {self.walk}; leave n_images= out")
        if self.walk is not None and self.walk < 2:
            raise SettingsError(f"a walk has at least 2 frames; got {self.walk}")
        if self.component is not None and self.n_images == 1:
            raise SettingsError("a component is shown by at least 2 images, one at either end; got 1")
        if self.walk is not None and self.gif:
            raise SettingsError("a walk is an animation already; leave gif=True out")
        if self.sampler in PLACE_BY_PLACE and self.is_series:
            raise SettingsError(
                f"the sampler '{self.sampler}' draws images one by one; leave component= and walk= out, or choose another"
            )
        if self.sampler == EXEMPLARS and self.row_weight == 0:
            raise SettingsError(
                "the sampler 'exemplars' draws in the scene of a row; row_weight= is above 0, or choose another"
            )
        numbers: dict[str, Any] = {"temperature": self.temperature, "row_weight": self.row_weight}
        check_sampling(self.sampler or _USUAL, also=PLACE_BY_PLACE, **numbers)
        if self.scenes is not None:
            self._check_scenes()
        Descent(gradient_rule=self.gradient_rule)
        if not isinstance(self.recipe, Recipe):
            parse_recipe(self.recipe or "")

    def _check_scenes(self) -> None:
        if self.scenes not in SAMPLERS:
            raise InputError(f"scenes= is one of {', '.join(SAMPLERS)}, which lay out scenes; got '{self.scenes}'")
        if self.sampler not in (None, LOCAL):
            raise SettingsError(f"scenes= lays out what the sampler 'local' draws; got the sampler '{self.sampler}'")
        if self.is_series:
            raise SettingsError("scenes= lays out images one by one; leave component= and walk= out, or scenes=")

    @property
    def is_series(self) -> bool:
        """Whether the images are to differ by their targets alone."""
        return self.component is not None or self.walk is not None

    def check_shareable(self) -> None:
        """Raise SettingsError where the images cannot be made by several processes."""
        if self.is_series or self.gif:
            what = "an animation of the steps" if self.gif else "a series"
            raise SettingsError(f"{what} is made in one process; leave gif=, component= and walk= out, or the workers")

    def sampler_for(self, statistics: ClassStatistics, size: tuple[int, int]) -> str:
        """Choose the sampler of images of a size where that was left open.

        Parameters
        ----------
        statistics : ClassStatistics
        size : tuple of int
            (height, width).

        Returns
        -------
        str

        Raises
        ------
        InputError
            Places are to be drawn for images of another size than the photographs'.
        """
        from stochdeconv.sampling.exemplars import check_exemplars
        from stochdeconv.sampling.scenes import check_local

        checks = {LOCAL: check_local, EXEMPLARS: check_exemplars}
        is_own_size = size == tuple(statistics.input_size)
        chosen = self.sampler if self.scenes is None else LOCAL
        if chosen in PLACE_BY_PLACE:
            if not is_own_size:
                height, width = statistics.input_size
                raise InputError(
                    f"the sampler '{chosen}' draws images of {height}x{width} pixels: leave size= out, or choose another"
                )
            checks[chosen](statistics)
        if chosen is not None:
            return chosen
        if is_own_size and not self.is_series and str(self.init) == "noise":
            for sampler, check in checks.items():
                if sampler == LOCAL and min(size) < _LEAST_SIDE_OF_LOCAL:
                    continue
                if sampler == EXEMPLARS and self.row_weight == 0:
                    continue
                with contextlib.suppress(InputError):
                    check(statistics)
                    return sampler
        return _USUAL

    def targets(self, model: ImageModel, statistics: ClassStatistics, sampler: str) -> Targets:
        """Return what the images are to activate."""
        drawing: dict[str, Any] = {"temperature": self.temperature, "seed": self.seed}
        sampling: dict[str, Any] = {"row_weight": self.row_weight, **drawing}
        whole = _USUAL if sampler in PLACE_BY_PLACE else sampler
        if self.component is not None:
            return component_targets(statistics, self.component, self.deviations())
        if self.walk is not None:
            return walk_targets(statistics, n_frames=self.walk, sampler=whole, **sampling)
        number = {} if self.n_images is None else {"n_images": self.n_images}
        if sampler == LOCAL:
            from stochdeconv.sampling.local import draw_places
            from stochdeconv.sampling.scenes import sample_scenes

            scenes = sample_scenes(statistics, sampler=self.scenes or OF_SCENES, **number, **sampling)
            return draw_places(statistics, scenes, **drawing)
        targets = sample_targets(statistics, sampler=whole, **number, **sampling)
        if sampler == EXEMPLARS:
            from stochdeconv.sampling.exemplars import sample_places

            return sample_places(model, statistics, targets, **drawing)
        return targets

    def deviations(self) -> np.ndarray:
        """Return how far along the component the images are to go, (image,), in standard deviations."""
        number = {} if self.n_images is None else {"n_values": self.n_images}
        return spaced_deviations(self.temperature, **number)


@dataclass(frozen=True, eq=False)
class ClassImages:
    """All that images of one run have in common."""

    model: ImageModel
    statistics: ClassStatistics
    settings: GenerateSettings
    sampler: str
    targets: Targets
    recipe: Recipe
    size: tuple[int, int]
    photo: np.ndarray | None
    callback: Callable[[Step], None] | None

    @classmethod
    def of(
        cls,
        model: ImageModel,
        statistics: ClassStatistics,
        settings: GenerateSettings,
        callback: Callable[[Step], None] | None,
        targets: Targets | None = None,
    ) -> ClassImages:
        """Work out what the settings leave to the network and the statistics, and sample targets unless they were already."""
        from stochdeconv.images.files import load_image

        check_model(model, statistics)
        size = statistics.input_size if settings.size is None else model.image_size(settings.size)
        sampler = settings.sampler_for(statistics, size)
        recipe = _recipe_at(size, settings.recipe, model, statistics, sampler=sampler)
        is_noise = str(settings.init) == "noise"
        photo = None if is_noise else load_image(settings.init, size, channels=model.n_channels)
        if targets is None:
            targets = settings.targets(model, statistics, sampler)
        return cls(model, statistics, settings, sampler, targets, recipe, size, photo, callback)

    @property
    def parts(self) -> list[slice]:
        """The images of each batch."""
        from stochdeconv.optimization.results import part_images

        return part_images(self.targets.n_images, self.settings.batch_size)

    def samples(self) -> OptimizationResult:
        """Make images that have nothing in common but their class."""
        return self._optimized(self.targets, self._start(self.targets), batch_size=self.settings.batch_size)

    def batch(self, number: int) -> OptimizationResult:
        """Make those of one batch."""
        own = self.parts[number]
        targets = self.targets.take(own)
        result = self._optimized(
            targets, self._start(targets), batch_size=targets.n_images, first_index=own.start, callback=None
        )
        return result.labelled(batch=number)

    def series(self) -> OptimizationResult:
        """Make images that differ by their targets alone, one at a time."""
        from stochdeconv.optimization.results import OptimizationResult, gather

        n_images, n_steps = self.targets.n_images, self.settings.n_steps
        middle = self.targets.take(slice(n_images // 2, n_images // 2 + 1))
        opening, start = 0, self._start(middle)
        n_all = n_images * n_steps
        if self.settings.walk is not None:
            opening = math.ceil(_OPENING * n_steps)
            n_all += opening
            opened = self._optimized(middle, start, n_steps=opening, callback=self._counted(0, n_all))
            if not opened.complete:
                raise KeyboardInterrupt  # what there is belongs to no frame
            start = opened.images[0]
        befores = range(opening, n_all, n_steps)
        results = gather(self._of_series(number, start, before, n_all) for number, before in enumerate(befores))
        return OptimizationResult.joined(results)

    def _of_series(self, number: int, start: np.ndarray | None, n_before: int, n_all: int) -> OptimizationResult:
        own = self.targets.take(slice(number, number + 1))
        result = self._optimized(own, start, batch_size=1, callback=self._counted(n_before, n_all))
        return result.labelled(batch=number)

    def _optimized(
        self, targets: Targets, start: np.ndarray | None, *, first_index: int = 0, **changes: Any
    ) -> OptimizationResult:
        from stochdeconv.optimization.loop import optimize
        from stochdeconv.optimization.transforms import Transform

        recipe = self.recipe
        options = {"n_steps": self.settings.n_steps, "callback": self.callback, **changes}
        return optimize(
            self.model,
            functools.partial(self._loss, targets),
            parameterization=self._variables(start, targets, first_index, options["n_steps"]),
            transforms=[Transform(recipe.jitter, recipe.scale, recipe.rotate, interpolation="nearest")],
            descent=Descent(gradient_rule=self.settings.gradient_rule, decay=recipe.decay),
            **options,
        )

    def _loss(self, targets: Targets, images: slice) -> Loss:
        score_layer = self.model.score_layer if self.recipe.class_score else None
        own = targets.take(images)
        loss = target_loss(self.statistics, own, self.recipe, directions=self._directions, score_layer=score_layer)
        return (
            loss + self.recipe.maps * self._match(own) if self.sampler in PLACE_BY_PLACE and self.recipe.maps else loss
        )

    def _match(self, targets: Targets) -> Loss:
        """Ask for the maps that were drawn place by place."""
        from stochdeconv.losses import local_maps, match
        from stochdeconv.sampling.exemplars import target_maps
        from stochdeconv.sampling.local import local_targets

        layers = self.statistics.map_layers
        if self.sampler == EXEMPLARS:
            return match(target_maps(self.model, self.statistics, targets, layers))
        layers = [name for name in layers if self.statistics[name].local_means is not None]
        directions = {name: self.statistics[name].local_directions for name in layers}
        return local_maps(local_targets(self.statistics, targets, layers), directions)

    @functools.cached_property
    def _directions(self) -> dict[str, np.ndarray | None]:
        """The channel directions of all layers, the same for every batch."""
        return channel_directions(self.statistics, self.recipe)

    def _start(self, targets: Targets) -> np.ndarray | None:
        """Draw what noise is added to: the photograph, or images of the colours that are sampled; nothing for grey."""
        from stochdeconv.images.files import stretch

        if self.photo is not None or self.recipe.start == "grey":
            return self.photo
        if self.sampler in PLACE_BY_PLACE:
            from stochdeconv.statistics.patches import as_pictures

            return as_pictures(targets.pixels)
        colors = layout_maps(self.statistics[INPUT], targets.layers[INPUT].scores)
        return np.clip(np.stack([stretch(layout, self.size) for layout in colors]), 0.0, 1.0)

    def _variables(
        self, start: np.ndarray | None, targets: Targets, first_index: int, n_steps: int
    ) -> Parameterization:
        from stochdeconv.optimization.parameterizations import Clip, fourier, pixels

        shape = (*self.size, self.model.n_channels)
        prior = self._prior(targets, n_steps)
        numbers: dict[str, Any] = {
            "n_images": targets.n_images,
            "seed": self.settings.seed,
            "first_index": first_index,
            "learning_rate": self.recipe.learning_rate,
        }
        if start is not None and start.ndim == 3:
            start = start[None]
        if self.recipe.parameterization == "fourier":
            return fourier(shape[:2], n_channels=shape[2], initial_images=start, constraints=prior, **numbers)
        start = np.full(shape, 0.5, np.float32) if start is None else start
        return pixels(start, input_shape=shape, constraints=[*prior, Clip(0.0, 1.0)], **numbers)

    def _prior(self, targets: Targets, n_steps: int) -> list[Constraint]:
        """Hold images that are drawn place by place to the local Gaussians of their places, where there are any."""
        from stochdeconv.methods.patch_prior import patch_priors
        from stochdeconv.sampling.exemplars import exemplars_of_rows
        from stochdeconv.sampling.local import denoise_images
        from stochdeconv.sampling.scenes import scene_contexts

        width = self.recipe.patch_prior
        if self.sampler not in PLACE_BY_PLACE or self.statistics.local is None or not width:
            return []
        if self.sampler == EXEMPLARS:
            exemplars = exemplars_of_rows(self.statistics, targets.source_rows)
            contexts = self.statistics.contexts[self.statistics.exemplars.rows[exemplars]]
        else:
            contexts = scene_contexts(self.statistics, targets)
        return [*patch_priors(functools.partial(denoise_images, self.statistics), contexts, n_steps, width)]

    def _counted(self, n_before: int, n_all: int) -> Callable[[Step], None] | None:
        """Count the steps of one image through the series."""
        return None if self.callback is None else functools.partial(_count, self.callback, n_before, n_all)


def _count(callback: Callable[[Step], None], n_before: int, n_all: int, step: Step) -> None:
    callback(replace(step, step=n_before + step.step, n_steps=n_all))


def _recipe_at(
    size: tuple[int, int],
    recipe: Recipe | str | None,
    model: ImageModel,
    statistics: ClassStatistics,
    *,
    sampler: str,
) -> Recipe:
    """Read the recipe of images of a size, changes of the network's own taken from a text.

    Raises
    ------
    InputError
        The spectrum is asked of images of another size than it was measured at.
    """
    if not isinstance(recipe, Recipe):
        recipe = parse_recipe(recipe or "", _own_recipe_at(size, model, statistics, sampler=sampler))
    if recipe.spectrum and size != tuple(statistics.input_size):
        height, width = statistics.input_size
        raise InputError(
            f"recipe: the spectrum was measured at {height}x{width} and can only be asked of images of that size"
        )
    return recipe


def _own_recipe_at(size: tuple[int, int], model: ImageModel, statistics: ClassStatistics, *, sampler: str) -> Recipe:
    """Take out of the network's own recipe what cannot be asked of images of a size, and say so."""
    recipe = own_recipe(model, place_by_place=sampler in PLACE_BY_PLACE)
    if size == tuple(statistics.input_size):
        return recipe
    impossible = ["spectrum"]
    if statistics.class_index is not None and not model.can_compute(["logits"], size):
        impossible += ["class_term", "class_score"]
    left_out = [name for name in impossible if getattr(recipe, name)]
    if left_out:
        warnings.warn(
            f"'{model.name}' can be asked for its {' and '.join(left_out)} at its own size alone: left out at {size[0]}x{size[1]}",
            stacklevel=4,
        )
    nothing: dict[str, Any] = dict.fromkeys(left_out, 0.0)
    return replace(recipe, **nothing)
