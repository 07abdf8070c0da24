"""What maximize raises: a class, a unit or a direction, or several of them at once."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ClassNotFoundError, InputError, LayerNotFoundError, MissingInputError, SettingsError
from stochdeconv.parsing import read_layer_word, read_list

if TYPE_CHECKING:
    from stochdeconv.losses import Loss, Term
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel


@dataclass(frozen=True, eq=False)
class Objective:
    """Minus a sum of scores, and what it is called.

    Attributes
    ----------
    loss : Loss
        A term for each score.
    titles : tuple of str
        One for each term.
    classes : tuple of ClassName
        Those that are raised.
    direction : dict or None
        What is recorded of a direction: its layer and the vector, of length one.
    """

    loss: Loss
    titles: tuple[str, ...]
    classes: tuple[ClassName, ...] = ()
    direction: dict[str, Any] | None = None

    @property
    def only_class(self) -> ClassName | None:
        """The class, where it is one that is raised."""
        return self.classes[0] if len(self.classes) == 1 else None


def find_objective(
    model: ImageModel,
    class_name: str | int | Sequence[str | int] | None,
    unit: str | Sequence[str] | None,
    direction: str | tuple[str, Any] | None,
) -> Objective:
    """Find what is to be raised; arguments as in `maximize.maximize`, one of them not None.

    Returns
    -------
    Objective

    Raises
    ------
    InputError, LayerNotFoundError, ClassNotFoundError
    """
    from stochdeconv import losses

    if class_name is not None:
        classes = find_classes(model, class_name)
        terms = [losses.unit(model.score_layer, entry.index) for entry in classes]
        return Objective(_sum(terms), tuple(entry.label for entry in classes), classes)
    if unit is not None:
        terms = [losses.unit(*place) for place in read_list(unit, "unit", functools.partial(parse_unit, model))]
        return Objective(_sum(terms), tuple(term.name.removeprefix("unit:") for term in terms))
    if direction is None:
        raise SettingsError("nothing is to be raised; expected a class, a unit or a direction")
    layer, vector = read_direction(direction)
    layer = model.find_layer(layer)
    _check_direction(model, layer, vector, f"'{direction}'" if isinstance(direction, str) else "the vector")
    term = losses.direction(layer, vector)
    recorded = {"layer": layer, "vector": term.arrays["direction"].tolist()}
    return Objective(_sum([term]), (f"a direction of {layer}",), direction=recorded)


def _sum(terms: Sequence[Term]) -> Loss:
    from stochdeconv import losses

    return functools.reduce(operator.add, terms, losses.Loss())


def find_classes(model: ImageModel, class_name: str | int | Sequence[str | int]) -> tuple[ClassName, ...]:
    """Find one class, or several of a sequence or a comma-separated text; a name that has a comma itself is one."""
    if isinstance(class_name, str):
        try:
            return (model.find_class(class_name),)
        except ClassNotFoundError:
            if "," not in class_name:
                raise
    return tuple(read_list(class_name, "class", model.find_class))


def read_direction(direction: str | tuple[str, Any]) -> tuple[str, np.ndarray]:
    """Read ``LAYER:FILE.npy``, or a layer and a vector.

    Parameters
    ----------
    direction : str or (layer, vector)

    Returns
    -------
    layer : str
    vector : ndarray
        Whether it fits the layer is not looked at.

    Raises
    ------
    InputError, MissingInputError
    """
    if not isinstance(direction, str):
        layer, vector = direction
        return layer, np.asarray(vector)
    parts = [(direction[: colon.start()], direction[colon.end() :]) for colon in re.finditer(":", direction)]
    parts = [(layer, file) for layer, file in parts if layer and file]
    if not parts:
        raise InputError(f"direction '{direction}' is not of the form LAYER:FILE.npy")
    # A layer's name may hold colons, and so may a path.
    layer, file = next((part for part in parts if Path(part[1]).is_file()), parts[0])
    return layer, _read_vector(file)


def _check_direction(model: ImageModel, layer: str, vector: np.ndarray, source: str) -> None:
    n_channels = math.prod(model.layer_shape(layer)[-1:])
    if vector.shape != (n_channels,) or vector.dtype.kind not in "biuf":
        raise InputError(
            f"a direction of '{layer}' is {n_channels} numbers, one for each channel; "
            f"{source} holds {vector.dtype} of shape {vector.shape}"
        )


def _read_vector(file: str) -> np.ndarray:
    expected = "expected one vector of numbers, written by numpy.save"
    if not Path(file).is_file():
        raise MissingInputError(f"no such file: '{file}'; {expected}")
    try:
        vector = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"'{file}' cannot be read ({error.strerror or error}); {expected}") from error
    except (ValueError, EOFError) as error:  # what NumPy says of a text is how to unpickle it
        raise InputError(f"'{file}' is another kind of file; {expected}") from error
    if not isinstance(vector, np.ndarray):
        raise InputError(f"'{file}' holds several arrays; {expected}")
    return vector


def read_unit(unit: str) -> tuple[str, int, tuple[int, int] | None]:
    """Read ``LAYER:CHANNEL[:ROW:COLUMN]``; a layer's name may hold colons itself.

    Parameters
    ----------
    unit : str

    Returns
    -------
    layer : str
    channel : int
    position : (row, column) or None

    Raises
    ------
    InputError
    """
    form = "of the form LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN"
    read = read_layer_word(unit, form, what="unit", n_numbers=(1, 3))
    channel, *position = read.numbers
    if not position:
        return read.layer, channel, None
    row, column = position
    return read.layer, channel, (row, column)


def parse_unit(model: ImageModel, unit: str) -> tuple[str, int, tuple[int, int] | None]:
    """Read a unit as `read_unit` does, and check it against the network.

    Parameters
    ----------
    model : ImageModel
    unit : str

    Returns
    -------
    layer : str
    channel : int
    position : (row, column) or None

    Raises
    ------
    InputError, LayerNotFoundError
    """
    layer, channel, position = read_unit(unit)
    layer = model.find_layer(layer)
    shape = model.layer_shape(layer)
    if not shape:
        raise InputError(f"layer '{layer}' is a single number for each image, without channels; name a layer below it")
    if channel >= shape[-1]:
        raise LayerNotFoundError(f"layer '{layer}' has channels 0 to {shape[-1] - 1}; got {channel}")
    if position is None:
        return layer, channel, None
    if len(shape) != 3:
        raise InputError(f"layer '{layer}' has no positions (shape {shape}); use '{layer}:{channel}'")
    row, column = position
    if row >= shape[0] or column >= shape[1]:
        raise LayerNotFoundError(
            f"layer '{layer}' has rows 0 to {shape[0] - 1} and columns 0 to {shape[1] - 1}; got {row}, {column}"
        )
    return layer, channel, position
