"""One function, one loss: a function of a layer's values made into something that can be asked of any layer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, overload

import numpy as np
from keras import ops

from stochdeconv.errors import InputError
from stochdeconv.losses.terms import LayerShape, Tensor, Term
from stochdeconv.statistics.shared_maps import SharedMap

P = ParamSpec("P")
Layers = str | tuple[str, ...]

# Of all that comes as an array: what networks compute in. 64 bits would be converted anew at every step, and JAX has none.
_DTYPES = {"f": np.float32, "i": np.int32, "u": np.int32, "b": np.bool_}


@dataclass(frozen=True, eq=False)
class Definition:
    """What `loss` makes of a function: how calls become terms. Compared by identity, since functions are.

    Attributes
    ----------
    function : callable
        (values, **arguments) -> loss of each image.
    layer : str or None
        The layer it reads; None for one that is named in the call.
    arrays : tuple of str
        Parameters that are handed in at every step even where they come as plain numbers.
    name : str, callable or None
        See `loss`.
    check : callable or None
        (term, layer_shape) -> None, or InputError.
    is_tied_to_places : bool or callable
        Or term -> bool.
    reads_network_dtype : bool
    """

    function: Callable[..., Tensor]
    layer: str | None = None
    arrays: tuple[str, ...] = ()
    name: str | Callable[[FunctionTerm], str] | None = None
    check: Callable[[FunctionTerm, LayerShape], None] | None = None
    is_tied_to_places: bool | Callable[[FunctionTerm], bool] = False
    reads_network_dtype: bool = False
    reads_shared_maps: bool = False

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Signature of a call: `layer` in place of the values, or nothing where the layer is fixed."""
        signature = inspect.signature(self.function)
        values, *others = signature.parameters.values()
        first = [] if self.layer is not None else [values.replace(name="layer", annotation="str | tuple[str, ...]")]
        return signature.replace(parameters=[*first, *others], return_annotation="Term")

    def term(self, *args: Any, **kwargs: Any) -> FunctionTerm:
        """Return the loss as asked of a layer, with these arguments."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        layers = self.layer if self.layer is not None else bound.arguments.pop("layer")
        layers = layers if isinstance(layers, tuple) else (layers,)
        if not layers or not all(isinstance(layer, str) for layer in layers):
            raise InputError(
                f"the loss '{self.function.__name__}' is asked of a layer, by its name, or of a tuple of layers; "
                f"got {', '.join(type(layer).__name__ for layer in layers) or 'an empty tuple'}"
            )
        arguments = {parameter: self._argument(parameter, value) for parameter, value in bound.arguments.items()}
        arrays = {parameter: value for parameter, value in arguments.items() if isinstance(value, np.ndarray)}
        settings = tuple((name, value) for name, value in bound.arguments.items() if name not in arrays)
        for parameter, value in settings:
            _check_setting(parameter, value)
        return FunctionTerm(layers[0], layers[1:], self, settings, arrays=arrays)

    def _argument(self, parameter: str, value: Any) -> Any:
        return _as_array(parameter, value) if parameter in self.arrays or hasattr(value, "__array__") else value


@dataclass(frozen=True)
class FunctionTerm(Term):
    """A decorated function asked of a layer. See `loss`.

    Attributes
    ----------
    further_layers : tuple of str
        What it reads beside `layer`.
    definition : Definition
    settings : tuple of (str, value)
        Arguments that are part of the program.
    """

    further_layers: tuple[str, ...]
    definition: Definition
    settings: tuple[tuple[str, Hashable], ...]

    @property
    def arguments(self) -> Mapping[str, Any]:
        """All arguments of the call: settings and arrays."""
        return {**dict(self.settings), **self.arrays}

    @property
    def name(self) -> str:
        """Name in the history: the function's, with its layer."""
        name = self.definition.name or self.definition.function.__name__
        return name(self) if callable(name) else f"{name}:{self.layer}"

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers it reads."""
        return (self.layer, *self.further_layers)

    @property
    def is_tied_to_places(self) -> bool:
        """Whether it means certain places of the image, so that it cannot be asked of one tile at a time."""
        tied = self.definition.is_tied_to_places
        return tied(self) if callable(tied) else tied

    @property
    def reads_network_dtype(self) -> bool:
        """Whether activations come as the network computed them."""
        return self.definition.reads_network_dtype

    @property
    def reads_shared_maps(self) -> bool:
        """Whether activations come as maps that are shared."""
        return self.definition.reads_shared_maps

    def check(self, layer_shape: LayerShape) -> None:
        """Raise InputError where a layer has not what the loss asks of it."""
        if self.definition.check is not None:
            self.definition.check(self, layer_shape)

    def evaluate(self, activations: Mapping[str, Tensor], arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss per image, (image,), float32, from activations (image, ...) and the arrays."""
        values = tuple(activations[layer] for layer in self.layers)
        if self.reads_shared_maps:
            values = tuple(part if isinstance(part, SharedMap) else SharedMap(part) for part in values)
        per_image = self.definition.function(
            values if self.further_layers else values[0], **dict(self.settings), **arrays
        )
        if len(getattr(per_image, "shape", ())) != 1:
            came = (
                f"a tensor of shape {tuple(per_image.shape)}"
                if hasattr(per_image, "shape")
                else type(per_image).__name__
            )
            raise InputError(
                f"the loss '{self.name}' is to return one number for each image, (image,); it returned {came}"
            )
        return per_image


@overload
def loss(function: Callable[Concatenate[Any, P], Tensor], /) -> Callable[Concatenate[Layers, P], Term]: ...
@overload
def loss(
    *,
    layer: None = None,
    arrays: tuple[str, ...] = (),
    name: str | Callable[[FunctionTerm], str] | None = None,
    check: Callable[[FunctionTerm, LayerShape], None] | None = None,
    is_tied_to_places: bool | Callable[[FunctionTerm], bool] = False,
    reads_network_dtype: bool = False,
) -> Callable[[Callable[Concatenate[Any, P], Tensor]], Callable[Concatenate[Layers, P], Term]]: ...
@overload
def loss(
    *,
    layer: str,
    arrays: tuple[str, ...] = (),
    name: str | Callable[[FunctionTerm], str] | None = None,
    check: Callable[[FunctionTerm, LayerShape], None] | None = None,
    is_tied_to_places: bool | Callable[[FunctionTerm], bool] = False,
    reads_network_dtype: bool = False,
) -> Callable[[Callable[Concatenate[Any, P], Tensor]], Callable[P, Term]]: ...
def loss(function=None, /, **options):
    """Make a loss of a function: ``(values, …) -> loss of each image`` becomes ``(layer, …) -> Term``.

    Numbers, texts and tuples the loss is called with are its settings, a part of the compiled program; arrays (``np.float32(0.3)`` is
    one) are handed in at every step, so that others compile nothing. Floating-point arrays become float32, whole numbers int32.

    Parameters
    ----------
    function : callable
        Takes the values of a layer, (image, ...), float32, or a tuple of them where the loss is asked of a tuple of layers, then the
        arguments of the call, arrays as tensors. Returns the loss of each image, (image,), float32, in operations of ``keras.ops``.
    layer : str, optional
        The one layer it is ever asked of: the loss is then called without.
    arrays : tuple of str, optional
        Parameters that are handed in as arrays even where they come as plain numbers.
    name : str or callable, optional
        Its name in the history, before that of the layer, where it is not the function's; or term -> the whole name.
    check : callable, optional
        (term, layer_shape) -> None; raises InputError where a layer has not what ``term.arguments`` ask of it. `layer_shape` tells the
        shape of a layer without the axis of images. Indices want it: in a compiled program one too large is another one's silently.
    is_tied_to_places : bool or callable, optional
        Whether it means certain places of the image, so that it cannot be asked of one tile at a time; or term -> bool.
    reads_network_dtype : bool, optional
        Whether values come as the network computed them, in bfloat16 maybe.

    Returns
    -------
    callable
        (layer, …) -> Term; without `function`, the decorator.

    Raises
    ------
    InputError
        In the call: a layer that is no name, or an argument that can neither be compared nor made an array.

    Examples
    --------
    >>> @loss
    ... def darkness(values):
    ...     return ops.mean(values, axis=(1, 2, 3))
    >>> darkness("input").name
    'darkness:input'

    References
    ----------
    The objectives of Lucid (Olah, Mordvintsev & Schubert 2017) and the losses of Keras are decorated functions, too.
    """
    if function is None:
        return functools.partial(_of_layers, **options)
    return _of_layers(function, **options)


def _of_layers(function: Callable[..., Tensor], **options: Any) -> Callable[..., FunctionTerm]:
    definition = Definition(function, **options)

    @functools.wraps(function)
    def of_layer(*args, **kwargs):
        return definition.term(*args, **kwargs)

    vars(of_layer)["__signature__"] = definition.signature  # what `inspect` reads
    return of_layer


def _as_array(parameter: str, value: Any) -> np.ndarray:
    array = np.asarray(ops.convert_to_numpy(value) if ops.is_tensor(value) else value)
    if array.dtype.kind not in _DTYPES:
        raise InputError(f"'{parameter}' of a loss is an array of numbers; got one of {array.dtype}")
    return np.asarray(array, _DTYPES[array.dtype.kind])


def _check_setting(parameter: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        raise InputError(
            f"'{parameter}' is a {type(value).__name__}, which cannot be told apart from others; "
            "losses take numbers, texts and tuples, which are compiled in, or arrays, which are not"
        ) from None
