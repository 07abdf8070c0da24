"""Saliency: which pixels of a photo a class or unit depends on, by seven rules of the field."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import InputError, ModelError, SettingsError, closest
from stochdeconv.images import colormaps
from stochdeconv.methods.objectives import parse_unit, read_unit
from stochdeconv.methods.presets import input_origin
from stochdeconv.methods.settings import RunSettings
from stochdeconv.parsing import read_list
from stochdeconv.settings import OPEN, check_number, read_settings, source_of, takes

if TYPE_CHECKING:
    from stochdeconv.losses import Term
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult


@dataclass(frozen=True)
class Rule:
    """One way to tell which pixels matter.

    Attributes
    ----------
    paper : str
    draw : callable
        The map -> its picture; grad_cam's takes the photo too.
    is_sampled : bool
        Whether it is a mean over `n_samples` gradients.
    """

    paper: str
    draw: Callable[..., np.ndarray]
    is_sampled: bool = False


#: In the order they are shown.
RULES = {
    "gradient": Rule("Simonyan et al. 2014", colormaps.color_gradient),
    "deconvnet": Rule("Zeiler & Fergus 2014", colormaps.color_gradient),
    "guided": Rule("Springenberg et al. 2015", colormaps.color_gradient),
    "gradient_x_input": Rule("Shrikumar et al. 2016", colormaps.signed_heat),
    "smoothgrad": Rule("Smilkov et al. 2017", colormaps.heat, is_sampled=True),
    "integrated_gradients": Rule("Sundararajan et al. 2017", colormaps.signed_heat, is_sampled=True),
    "grad_cam": Rule("Selvaraju et al. 2017", colormaps.overlay),
}
_N_SAMPLES, _NOISE = 50, 0.15
_BACKWARD_RULES = ("deconvnet", "guided")


@dataclass(frozen=True, kw_only=True)
class SaliencySettings(RunSettings):
    """How it is told which pixels matter.

    Attributes
    ----------
    unit : str, ``LAYER:CHANNEL[:ROW:COLUMN]``, optional
        A unit instead of a class (without a position: the mean over them). LAYER is a name, or a number of the list of layers (0 is the
        input).
    rule : str, ``RULE[,RULE]|all``
        Which picture; several are separated by commas.
    layer : str, ``LAYER``, optional
        Where grad_cam looks, by name or number; by default the last of the model's default layers that the score is computed from.
    n_samples : int, optional
        Noisy copies of smoothgrad, points on the line of integrated_gradients; 50 by default.
    noise : float, optional
        Of smoothgrad: standard deviation as a fraction of the photo's range of values; 0.15 by default.
    batch_size : int
        Copies or points at a time.
    seed : int
        Noisy copy i depends on (seed, i) alone.
    """

    counts = (*RunSettings.counts, "n_samples")

    unit: str | None = None
    rule: str = "all"
    layer: str | None = None
    n_samples: int = OPEN
    noise: float = OPEN

    def _settle(self) -> None:
        super()._settle()
        check_number("noise", self.noise, at_least=0)
        rules = parse_rules(self.rule)
        if self.unit is not None:
            read_unit(self.unit)
        if self.layer is not None and "grad_cam" not in rules:
            raise SettingsError(f"layer= says where grad_cam looks; it means nothing to {', '.join(rules)}")
        if self.noise is not None and "smoothgrad" not in rules:
            raise SettingsError(f"noise= is that of smoothgrad; it means nothing to {', '.join(rules)}")
        if self.n_samples is not None and not any(RULES[rule].is_sampled for rule in rules):
            sampled = " and ".join(name for name, rule in RULES.items() if rule.is_sampled)
            raise SettingsError(f"n_samples= is for {sampled}; it means nothing to {', '.join(rules)}")
        self._fill(n_samples=self.n_samples or _N_SAMPLES, noise=_NOISE if self.noise is None else self.noise)

    def check_objective(self, class_name: object) -> None:
        """Raise SettingsError where both a class and a unit are to be explained."""
        if class_name is not None and self.unit is not None:
            raise SettingsError("give either a class or unit=LAYER:CHANNEL[:ROW:COLUMN], not both")


@takes(SaliencySettings)
def saliency(
    model: ImageModel,
    photo: str | PathLike | np.ndarray,
    class_name: str | int | None = None,
    settings: SaliencySettings | None = None,
    *,
    callback: Callable[[int, int, str], None] | None = None,
    **keywords: Any,
) -> RunResult:
    """Show which pixels of a photo raise a class's score, or a unit.

    The score is the one `maximize.maximize` raises: the class's value before the last non-linearity, and, where a
    network ends in a ReLU and an average (SqueezeNet), the mean over positions before that ReLU, which has a gradient for classes that do
    not fire too.
    Everything is computed in float32. With g the gradient of the score with respect to the image:

    ======================== ======================================================================= ==================
    rule                     map                                                                     drawn
    ======================== ======================================================================= ==================
    ``gradient``             g                                                                       in colour, about mid-grey
    ``deconvnet``            g, each ReLU passing back what is positive                              in colour, about mid-grey
    ``guided``               g, each ReLU passing back what is positive where it fired               in colour, about mid-grey
    ``gradient_x_input``     g · (image - baseline)                                                  red raises, blue lowers the score
    ``smoothgrad``           mean of g at noisy copies                                               absolute, black to yellow
    ``integrated_gradients`` (image - baseline) · mean of g on the line from the baseline            red raises, blue lowers the score
    ``grad_cam``             a layer's channels weighted by the score's mean gradient, what is > 0   over the photo in grey
    ======================== ======================================================================= ==================

    Pictures are scaled to the 99th percentile of a map's absolute values (grad_cam: to its maximum), so they show where and not how much:
    that is in ``maps.npz``. The baseline is the colour that the network's input convention maps to zero, the mean of the training images
    (mid-grey for a network that takes plain 0..255).

    Parameters
    ----------
    model : ImageModel
    photo : path or ndarray of shape (height, width, 3)
        A file is resized and cropped to the network's input; so is an array, RGB in [0, 1].
    class_name : str or int, optional
        Name, wnid or index. Without it and without `unit`: the network's own top class.
    settings : SaliencySettings, optional
    callback : callable, optional
        Called with how many passes are done, how many there are, and the rule.
    **keywords
        Fields of `SaliencySettings`, in its place.

    Returns
    -------
    RunResult
        A picture for each rule; ``arrays`` (maps.npz) holds the maps by rule: (height, width, 3), for grad_cam (height, width), signed, in
        units of the score, per unit of [0, 1] where it is a gradient. ``history`` has a row for each rule: the score, and the map's sum and
        extremes.

    Raises
    ------
    InputError
        Class and unit were both given, a rule is unknown, the photo cannot be used, or grad_cam has no such layer for this score.
    ModelError
        deconvnet or guided was asked of a network without ReLU (``all`` leaves them out and warns), or there are no class scores.
    LayerNotFoundError, ClassNotFoundError
        The unit, layer or class does not exist.
    MissingInputError
        The photo is not there.
    RunInterrupted
        On Ctrl-C, with the rules that were done.

    Notes
    -----
    deconvnet and guided give sharp pictures that depend little on the weights of the upper layers (Adebayo et al. 2018; Nie, Zhang & Patel
    2018): they do not show what a class depends on. See docs/how-to/saliency.md.
    """
    from stochdeconv import losses
    from stochdeconv.images.files import open_image
    from stochdeconv.methods.runs import hand_over, record_run

    settings = read_settings(SaliencySettings, settings, keywords, model=model)
    settings.check_objective(class_name)
    started = time.monotonic()
    image = open_image(photo, model.image_size(settings.size), channels=model.n_channels)
    shown_class, unit = None, None
    if settings.unit is None:
        shown_class = _class_of(model, class_name, image)
        term = losses.unit(model.score_layer, shown_class.index)
        title = shown_class.label
    else:
        term = losses.unit(*parse_unit(model, settings.unit))
        title = unit = term.name.removeprefix("unit:")
    rules, layer = _what_fits(model, term, parse_rules(settings.rule), settings.layer, leave_out=settings.rule == "all")
    baseline = np.broadcast_to(input_origin(model)[0], image.shape)
    explained = _Explained(model, term, image, baseline, layer, settings)
    maps, complete = explained.maps(rules, callback)
    run = record_run(
        "saliency",
        explained.drawn(maps, complete=complete),
        model=model,
        settings=settings.record(
            "rule",
            size=list(image.shape[:2]),
            photo=source_of(photo),
            class_name=class_name,
            unit=unit,
            rules=list(rules),
            layer=layer,
            baseline=baseline[0, 0].tolist(),
        ),
        seed=settings.seed,
        seconds=time.monotonic() - started,
        shown_class=shown_class,
    )
    run = _with_captions(run, explained, maps, shown_class, unit, by_itself=class_name is None)
    blank = [name for name, values in maps.items() if not values.any()]
    if blank and complete:
        silent = "; a unit that does not fire has a gradient before its ReLU: LAYER_linear:CHANNEL"
        warnings.warn(
            f"{', '.join(blank)}: zero everywhere, nothing in this photo raises {title} by that rule"
            + (silent if explained.score == 0 else ""),
            stacklevel=2,
        )
    return hand_over(run)


def _with_captions(
    run: RunResult,
    explained: _Explained,
    maps: Mapping[str, np.ndarray],
    shown_class: ClassName | None,
    unit: str | None,
    *,
    by_itself: bool,
) -> RunResult:
    """Say below the photo what the network makes of it, and below each picture what it shows."""
    from stochdeconv.images.colors import with_channels
    from stochdeconv.images.sheets import contact_sheet

    model, image = explained.model, explained.image
    score, probability = explained.score, _probability(model, shown_class, image)
    captions = [_caption(model, shown_class, unit, by_itself=by_itself, score=score, probability=probability)]
    captions += [explained.caption(name, values) for name, values in maps.items()]
    sheet = contact_sheet(np.stack([with_channels(image, 3), *run.images]), captions=captions)
    return replace(run, record={**run.record, "score": score, "probability": probability}, arrays=maps, sheet=sheet)


@dataclass(frozen=True, eq=False)
class _Explained:
    """The score of one image, and all that the rules need to explain it."""

    model: ImageModel
    term: Term
    image: np.ndarray
    baseline: np.ndarray
    layer: str | None
    settings: SaliencySettings

    @functools.cached_property
    def score(self) -> float:
        return self._score_of(self.image)

    @functools.cached_property
    def rise(self) -> float:
        """What the image scores more than the baseline."""
        return self.score - self._score_of(self.baseline)

    def _score_of(self, image: np.ndarray) -> float:
        return -float(self.term(self.model.activations(image[None], self.term.layers, batch_size=1))[0])

    def maps(
        self, rules: Sequence[str], callback: Callable[[int, int, str], None] | None
    ) -> tuple[dict[str, np.ndarray], bool]:
        """Compute one map after the other, or those until Ctrl-C; tell whether it came to its end."""
        n_passes = [self.settings.n_samples if RULES[rule].is_sampled else 1 for rule in rules]
        maps: dict[str, np.ndarray] = {}
        try:
            for number, rule in enumerate(rules):
                count = functools.partial(_count, callback, sum(n_passes[:number]), sum(n_passes), rule)
                count(0)
                maps[rule] = self._map(rule, count)
        except KeyboardInterrupt:
            if not maps:
                raise
            return maps, False
        return maps, True

    def drawn(self, maps: Mapping[str, np.ndarray], *, complete: bool) -> OptimizationResult:
        """Draw the maps."""
        from stochdeconv.optimization.results import OptimizationResult

        pictures = [_draw(name, values, self.image) for name, values in maps.items()]
        return OptimizationResult(np.stack(pictures), self.history(maps), {"dtype": "float32"}, complete)

    def _map(self, rule: str, on_batch: Callable[[int], None]) -> np.ndarray:
        from stochdeconv.methods import attributions

        if rule == "grad_cam" and self.layer is not None:
            return attributions.grad_cam(self.model, self.term, self.image, self.layer)
        gradients = attributions.score_gradients(
            self.model, self.term, gradient_rule=rule if rule in _BACKWARD_RULES else "true"
        )
        settings = self.settings
        sampling = {"n_samples": settings.n_samples, "batch_size": min(settings.batch_size, settings.n_samples)}
        if rule == "smoothgrad":
            return attributions.smoothgrad(
                gradients, self.image, noise=settings.noise, seed=settings.seed, on_batch=on_batch, **sampling
            )
        if rule == "integrated_gradients":
            return attributions.integrated_gradients(
                gradients, self.image, self.baseline, on_batch=on_batch, **sampling
            )
        (gradient,) = gradients(self.image[None])
        return gradient * (self.image - self.baseline) if rule == "gradient_x_input" else gradient

    def history(self, maps: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        return [
            {
                "rule": rule,
                "score": self.score,
                "score_above_baseline": self.rise,
                "map_sum": float(values.sum(dtype=np.float64)),
                "map_min": float(values.min()),
                "map_max": float(values.max()),
            }
            for rule, values in maps.items()
        ]

    def caption(self, rule: str, values: np.ndarray) -> str:
        detail = ""
        if rule == "integrated_gradients":
            # Completeness, for the reader to check: how much of the score the points on the line account for.
            detail = f"\nadds up to {values.sum(dtype=np.float64):.3g} of {self.rise:.3g}"
        elif rule == "grad_cam":
            detail = f"\nat {self.layer}"
        if not values.any():
            detail += "\nzero everywhere"
        return f"{rule}\n{RULES[rule].paper}{detail}"


def _count(callback: Callable[[int, int, str], None] | None, n_before: int, n_all: int, rule: str, n_made: int) -> None:
    """Count the passes of one rule through all of them."""
    if callback is not None:
        callback(n_before + n_made, n_all, rule)


def parse_rules(rule: str) -> tuple[str, ...]:
    """Read names of rules, separated by commas, or ``all``.

    Parameters
    ----------
    rule : str

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        A name is unknown, or named twice.
    """
    if rule == "all":
        return tuple(RULES)
    return tuple(read_list(rule, "rule", _find_rule))


def _find_rule(word: str) -> str:
    name = word.replace("-", "_")
    if name not in RULES:
        near = closest(name, RULES)
        raise InputError(
            f"rule '{name}' is unknown{f'; closest: {near}' if near else ''}; there are {', '.join(RULES)}, or 'all' alone"
        )
    return name


def _class_of(model: ImageModel, class_name: str | int | None, image: np.ndarray) -> ClassName:
    if class_name is not None:
        return model.find_class(class_name)
    if not model.class_names:
        raise ModelError(f"model '{model.name}' has no class scores; say which unit=LAYER:CHANNEL to explain")
    return model.class_names[int(model.probabilities(image[None], batch_size=1)[0].argmax())]


def _probability(model: ImageModel, shown_class: ClassName | None, image: np.ndarray) -> float | None:
    if shown_class is None:
        return None
    return float(model.probabilities(image[None], batch_size=1)[0, shown_class.index])


def _what_fits(
    model: ImageModel, term: Term, rules: tuple[str, ...], layer: str | None, *, leave_out: bool
) -> tuple[tuple[str, ...], str | None]:
    """Refuse or, where all rules are asked for, leave out with a warning what this network or score has no place for."""
    impossible: dict[str, InputError | ModelError] = {}
    if not model.has_relu:
        problem = ModelError(f"model '{model.name}' has no ReLU, which deconvnet and guided are rules for")
        impossible.update({name: problem for name in rules if name in _BACKWARD_RULES})
    if layer is not None:
        layer = model.find_layer(layer)
        shape = model.layer_shape(layer)
        if len(shape) != 3 or layer in {"input", "network_input"}:
            raise InputError(f"grad_cam needs a layer with positions, (height, width, channel); '{layer}' is {shape}")
        if not model.is_computed_from(term.layer, layer):
            raise InputError(f"'{term.layer}' is not computed from '{layer}': grad_cam needs a layer below it")
    elif "grad_cam" in rules:
        below = [name for name in model.default_layers if model.is_computed_from(term.layer, name)]
        layer = below[-1] if below else None
        if layer is None:
            impossible["grad_cam"] = InputError(
                f"grad_cam needs a map below '{term.layer}', and none of the model's default layers is; name one with layer="
            )
    if impossible:
        if not leave_out:
            raise next(iter(impossible.values()))
        reasons = dict.fromkeys(str(error) for error in impossible.values())
        warnings.warn(f"{', '.join(impossible)} left out: {'; '.join(reasons)}", stacklevel=3)
    return tuple(name for name in rules if name not in impossible), layer


def _draw(rule: str, values: np.ndarray, photo: np.ndarray) -> np.ndarray:
    return RULES[rule].draw(values, photo) if rule == "grad_cam" else RULES[rule].draw(values)


def _caption(
    model: ImageModel,
    shown_class: ClassName | None,
    unit: str | None,
    *,
    by_itself: bool,
    score: float,
    probability: float | None,
) -> str:
    if shown_class is None:
        return f"unit {unit}\nscore {score:.3g}"
    chosen = "\nthe network's own top class" if by_itself else ""
    # Of an end that is not understood it is the output as it is.
    what = "output" if model.head is not None and model.head.doubt else "probability"
    return f"{shown_class.label}\n{what} {probability:.3g}, score {score:.3g}{chosen}"
