"""What is asked of a generated image: the weights of the objective and how it is optimised."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from stochdeconv.errors import InputError, ModelError, SettingsError, closest
from stochdeconv.parsing import read_list
from stochdeconv.statistics.registry import WEIGHTS

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel


_CHOICES = {
    "order": ("together", "deepest-first"),
    "start": ("colors", "grey"),
    "parameterization": ("fourier", "pixels"),
}


# Defaults where maps are drawn place by place, which a network's own recipe changes as it does the others: beside the maps textures and
# layout, and views that are shifted, without which images are noisy. No colours, edges or smoothness of the image as a whole: its patches
# have a prior of their own.
_OF_PLACES: dict[str, Any] = {
    "moments": 0.5,
    "facets": 1.0,
    "color": 0.0,
    "layout": 0.5,
    "shallow_layout": 0.0,
    "color_layout": 0.0,
    "sharpness": 0.0,
    "spectrum": 0.0,
    "total_variation": 0.0,
    "jitter": 3,
    "scale": 0.0,
    "rotate": 0.0,
    "learning_rate": 0.03,
}


@dataclass(frozen=True, kw_only=True)
class Recipe(*WEIGHTS):  # type: ignore[misc]  # bases that are read off the registry, which no checker follows
    """What is asked of a generated image, and how strongly; a weight of 0 leaves a term out.

    The weights of the statistics stand with these: `moments.MomentsWeights` (``moments``, ``color``), `layout.LayoutWeights` (``layout``,
    ``n_layout_layers``, ``shallow_layout``, ``color_layout``), `regions.RegionsWeights` (``facets``), `edges.EdgesWeights` (``sharpness``)
    and `spectrum.SpectrumWeights` (``spectrum``).

    Attributes
    ----------
    maps : float
        Distance to the maps that the samplers `local` and `exemplars` draw, each layer; others draw none. Of `exemplars` the squared
        distance over the square of the map, of `local` the mean square in units of the standard deviations within components.
    patch_prior : float
        Standard deviation of the noise, pixels being 0 to 1, that images are cleared of, four times on their way, the last time a fifth
        of it: patches become their posterior means under the local Gaussians of their places. Of images that `local` and `exemplars`
        draw, where the statistics have such Gaussians.
    class_term : float
        Cross-entropy of the class.
    class_score : float
        The raw class score, as activation maximization has it. Most networks answer with its tiling; one that was trained to withstand
        small changes answers with the object.
    total_variation : float
        Smoothness.
    order : {"together", "deepest-first"}
        All layers from the first step on, or the deepest first and the shallower ones joining one by one over the first half.
    start : {"colors", "grey"}
        What the noise that images start from is added to: the sampled layout of colours, so that no steps are spent on it, or grey.
    parameterization : {"fourier", "pixels"}
    learning_rate : float
        In units of the parameterization's variables.
    decay : bool
        Let the learning rate fall to zero.
    jitter : int
        Largest random shift of the view, pixels.
    scale, rotate : float
        Largest random change of the view's size (fraction) and rotation (degrees).
    """

    maps: float = 1.0
    patch_prior: float = 0.2
    class_term: float = 0.2
    class_score: float = 0.0
    total_variation: float = 100.0
    order: str = "together"
    start: str = "colors"
    parameterization: str = "fourier"
    learning_rate: float = 0.05
    decay: bool = False
    jitter: int = 3
    scale: float = 0.05
    rotate: float = 3.0

    def __post_init__(self):
        for name, values in _CHOICES.items():
            if getattr(self, name) not in values:
                raise InputError(f"recipe: {name} must be one of {', '.join(values)}; got '{getattr(self, name)}'")
        for name, value in asdict(self).items():
            limit = 1 if name in {"scale", "patch_prior"} else math.inf
            if isinstance(value, int | float) and not 0 <= value < limit:
                below = ", below 1" if limit == 1 else ""
                raise SettingsError(f"recipe: {name} is a finite number of at least 0{below}; got {value}")


def parse_recipe(text: str, base: Recipe | None = None) -> Recipe:
    """Read ``NAME=VALUE,NAME=VALUE``; what is not named stays as in `base`, by default `Recipe`'s own values.

    Parameters
    ----------
    text : str
    base : Recipe, optional

    Returns
    -------
    Recipe

    Raises
    ------
    InputError
        An unknown name, or a value of the wrong kind.
    """
    base = base or Recipe()
    defaults = asdict(base)
    changes: dict[str, Any] = {}
    for part in read_list(text, "NAME=VALUE") if text.strip() else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in defaults:
            near = closest(name, defaults)
            raise InputError(
                f"recipe: '{part}' is not NAME=VALUE of a part of the recipe{f'; closest: {near}' if near else ''}; "
                f"there are {', '.join(defaults)}"
            )
        if name in changes:
            raise InputError(f"recipe: '{text}' sets {name} twice; expected each part once")
        kind = type(defaults[name])
        readings = {"true": True, "false": False} if kind is bool else None
        try:
            changes[name] = readings[value.lower()] if readings else kind(value)
        except (KeyError, ValueError):
            expected = "true or false" if kind is bool else f"a value like {defaults[name]}"
            raise InputError(f"recipe: {name} is {expected}; got '{value}'") from None
    return replace(base, **changes)


def own_recipe(model: ImageModel, *, place_by_place: bool = False) -> Recipe:
    """Read the recipe of a network: the default, with what its sidecar says.

    Parameters
    ----------
    model : ImageModel
    place_by_place : bool
        Whether it is of images whose maps are drawn place by place, which have other defaults.

    Returns
    -------
    Recipe

    Raises
    ------
    ModelError
        The sidecar's recipe is none.
    """
    try:
        return parse_recipe(model.recipe, replace(Recipe(), **_OF_PLACES) if place_by_place else None)
    except InputError as error:
        raise ModelError(f"the sidecar of '{model.name}' has a bad recipe: {error}") from error
