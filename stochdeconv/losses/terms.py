"""The protocol of losses: terms on activations, and the sums they add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from stochdeconv.errors import InputError

Tensor = Any
Activations = Mapping[str, Tensor]
LayerShape = Callable[[str], tuple[int, ...]]


@dataclass(frozen=True)
class Term:
    """One named loss: activations -> one number an image, to be minimised. Most are made by `losses.loss`.

    A term is its own program (class, layer, settings: what `==` compares) and the `arrays` it reads. The loop compiles the program
    once and passes the arrays in, so a new target needs no new compilation.

    Attributes
    ----------
    layer : str
        The layer it reads: a layer's name, ``"logits"``, ``"input"`` (the image in [0, 1]) or ``"network_input"`` (preprocessed).
    arrays : mapping of str to ndarray
        Targets and constants.
    """

    layer: str
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    @property
    def name(self) -> str:
        """Name in the history."""
        return f"{_snake(type(self).__name__)}:{self.layer}"

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers it reads."""
        return (self.layer,)

    @property
    def is_described_by_fields(self) -> bool:
        """Whether `==` tells its program from others: a subclass with constants of its own must be a frozen dataclass for that."""
        return "__dataclass_params__" in vars(type(self))

    @property
    def is_tied_to_places(self) -> bool:
        """Whether it means certain places of the image, so that it cannot be asked of one tile at a time."""
        return False

    @property
    def reads_network_dtype(self) -> bool:
        """Whether activations come as the network computed them, in bfloat16 maybe; in float32 otherwise."""
        return False

    @property
    def reads_shared_maps(self) -> bool:
        """Whether activations come as `shared_maps.SharedMap`, whose derived values several terms share."""
        return False

    def check(self, layer_shape: LayerShape) -> None:
        """Raise InputError where a layer has not what the term asks of it; by default anything will do.

        Indices are checked here: in a compiled program one too large, or negative, is another channel's without a word.
        """

    def evaluate(self, activations: Activations, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss per image, (image,), float32, from activations (image, ...) and the arrays."""
        return self.of_values(activations[self.layer], arrays)

    def of_values(self, values: Tensor, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss per image from the values of its one layer; what most terms define."""
        raise NotImplementedError

    def __call__(self, activations: Activations) -> Tensor:
        """Return the loss per image, (image,), of activations that may be NumPy arrays."""
        tensors = {layer: ops.convert_to_tensor(values) for layer, values in activations.items()}
        return self.evaluate(tensors, {name: ops.convert_to_tensor(array) for name, array in self.arrays.items()})

    def __add__(self, other: Term | Loss) -> Loss:
        return Loss.of(self) + other

    def __mul__(self, weight: float) -> Loss:
        return Loss.of(self) * weight

    __rmul__ = __mul__

    def __neg__(self) -> Loss:
        return Loss.of(self) * -1.0


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


@dataclass(frozen=True)
class WeightedTerm:
    """A term of a sum: its weight, and the fraction of the steps after which it joins.

    Attributes
    ----------
    term : Term
    weight : float
    joins_at : float
        In [0, 1): 0 for from the first step on.
    """

    term: Term
    weight: float = 1.0
    joins_at: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A flat weighted sum of terms; ``a + 0.1 * b`` makes a new one and leaves both as they were.

    Attributes
    ----------
    terms : tuple of WeightedTerm
    """

    terms: tuple[WeightedTerm, ...] = ()

    @staticmethod
    def of(part: Term | Loss) -> Loss:
        """Return a loss as it is, a term as a sum of one."""
        if isinstance(part, Loss):
            return part
        if isinstance(part, Term):
            return Loss((WeightedTerm(part),))
        raise InputError(
            f"a loss is made of losses; got {type(part).__name__}. "
            "Decorate a function by stochdeconv.losses.loss for one of your own, and call it with a layer"
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers the terms read, each once, in order of first use."""
        return tuple(dict.fromkeys(layer for weighted in self.terms for layer in weighted.term.layers))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms; a repeated name is numbered."""
        seen: dict[str, int] = {}
        names = []
        for weighted in self.terms:
            name = weighted.term.name
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
        return tuple(names)

    @property
    def arrays(self) -> list[np.ndarray]:
        """The arrays that the terms read, each once: terms that hold the same object read the same one."""
        return list({id(array): array for w in self.terms for array in w.term.arrays.values()}.values())

    @property
    def array_places(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """For each term, the names of its arrays and where they stand among all of the loss."""
        place = {id(array): number for number, array in enumerate(self.arrays)}
        return tuple(tuple((name, place[id(array)]) for name, array in w.term.arrays.items()) for w in self.terms)

    def weights(self, n_steps: int) -> np.ndarray:
        """Return the weight of each term at each step, (step, term), float32: zero before the term joins."""
        fraction = np.arange(n_steps)[:, None] / max(n_steps, 1)
        joined = fraction >= np.array([weighted.joins_at for weighted in self.terms])[None]
        return (joined * np.array([weighted.weight for weighted in self.terms])).astype(np.float32)

    def joining_at(self, fraction: float) -> Loss:
        """Return the same loss, its terms joining after that fraction of the steps."""
        if not 0 <= fraction < 1:
            raise InputError(f"a loss joins at a fraction of the steps in [0, 1); got {fraction}")
        return Loss(tuple(WeightedTerm(weighted.term, weighted.weight, fraction) for weighted in self.terms))

    def __call__(self, activations: Activations) -> Tensor:
        """Return the weighted sum per image, (image,)."""
        return sum(weighted.weight * weighted.term(activations) for weighted in self.terms)

    def __add__(self, other: Term | Loss) -> Loss:
        return Loss(self.terms + Loss.of(other).terms)

    def __mul__(self, weight: float) -> Loss:
        if not isinstance(weight, int | float) or not np.isfinite(weight):
            raise InputError(f"a loss is weighted by a finite number; got {weight!r}")
        return Loss(tuple(WeightedTerm(w.term, w.weight * weight, w.joins_at) for w in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Loss:
        return self * -1.0
