"""The compiled parts of a step: a loss with its gradient, and the move that follows from it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops

from stochdeconv import backend
from stochdeconv.errors import InputError
from stochdeconv.losses import Activations, Loss, Term
from stochdeconv.networks.network import Network
from stochdeconv.optimization.descent import Descent, Evaluation, tiles
from stochdeconv.optimization.gradient import loss_gradient
from stochdeconv.optimization.parameterizations import Parameterization, Pixels
from stochdeconv.optimization.steps import steps_of
from stochdeconv.optimization.transforms import view
from stochdeconv.statistics.shared_maps import SharedMap

Tensor = Any

# Keeps the stream that places tiles apart from others that are seeded with the same number.
_TILE_STREAM = 0x711E


@dataclass(frozen=True)
class CompiledSteps:
    """How variables move along a gradient, see `steps.Steps`.

    Attributes
    ----------
    initial_state : callable
        shape of the variables -> optimizer state.
    step : callable
        variables, optimizer state, gradient, learning rate -> variables, optimizer state; compiled.
    """

    initial_state: Callable[[tuple[int, ...]], list]
    step: Callable[..., tuple]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def moved(self, *arguments: Any) -> tuple:
        """Make a step; threads that share the program make theirs one after another, since an optimizer's variables are filled for each."""
        with self._lock:
            return self.step(*arguments)


@dataclass(frozen=True, eq=False)
class Program:
    """What one kind of run computes at each step; compiled once for every shape.

    Attributes
    ----------
    gradient : callable
        variables, arrays of all terms, (views, weights, guided share) -> loss of each term and image, gradient, cosine, whether finite.
    steps : CompiledSteps or None
        None for L-BFGS, which has none.
    decode : callable
        variables -> images.
    names : tuple of str
        Of the terms.
    tile_size, tile_batch_size
        See `descent.Descent`.
    logs_cosine : bool
    """

    gradient: Callable[..., tuple]
    steps: CompiledSteps | None
    decode: Callable[[Tensor], Tensor]
    names: tuple[str, ...]
    tile_size: int | None
    tile_batch_size: int
    logs_cosine: bool

    def images(self, variable: Tensor) -> np.ndarray:
        """Return the images the variables stand for, as NumPy."""
        return np.asarray(ops.convert_to_numpy(self.decode(variable)), np.float32)

    def evaluate(
        self,
        variable: Tensor,
        arrays: Sequence[Tensor],
        numbers: Sequence[Tensor],
        *,
        grid: tuple[int, int, int],
    ) -> Evaluation:
        """Evaluate the loss and its gradient, whole or tile by tile.

        Parameters
        ----------
        variable : tensor of shape (image, ...)
        arrays : sequence of tensor
            What the terms read, see `Loss.arrays`.
        numbers : (views, weights, guided share)
            Of this step.
        grid : (seed, first index, step)
            Where tiles lie depends on these.

        Returns
        -------
        Evaluation
        """
        if self.tile_size is None or max(variable.shape[1:3]) <= self.tile_size:
            per_term, gradient, cosine, finite = self.gradient(variable, arrays, *numbers)
            return self._evaluation([per_term], gradient, [cosine], [finite], numbers[1])
        whole = ops.convert_to_numpy(variable)
        total = np.zeros_like(whole)
        n_seen = np.zeros((*whole.shape[1:3], 1), np.float32)
        per_terms, cosines, finites = [], [], []
        views, weights, share = numbers
        offset = np.random.default_rng([*grid, _TILE_STREAM]).integers(self.tile_size, size=2)
        places = list(tiles(whole.shape[1:3], self.tile_size, tuple(offset.tolist())))
        for batch in self._batches_of(places, n_images=len(whole)):
            cut = ops.convert_to_tensor(np.concatenate([whole[:, rows, columns] for rows, columns in batch]))
            seen_from = ops.tile(views, (len(batch), 1, 1))
            per_term, gradient, cosine, finite = self.gradient(cut, arrays, seen_from, weights, share)
            for (rows, columns), part in zip(batch, np.split(ops.convert_to_numpy(gradient), len(batch)), strict=True):
                total[:, rows, columns] += part
                n_seen[rows, columns] += 1
            per_terms += np.split(ops.convert_to_numpy(per_term), len(batch), axis=1)
            cosines += np.split(ops.convert_to_numpy(cosine), len(batch))
            finites.append(finite)
        return self._evaluation(per_terms, ops.convert_to_tensor(total / n_seen), cosines, finites, weights)

    def _batches_of(self, places: list, *, n_images: int) -> Iterator[list]:
        # What does not fill a batch goes one by one: a batch of every length would have to be compiled.
        size = self.tile_batch_size if n_images == 1 else 1
        n_full = len(places) // size * size
        yield from (places[first : first + size] for first in range(0, n_full, size))
        yield from ([place] for place in places[n_full:])

    def _evaluation(
        self, per_term: Sequence, gradient: Tensor, cosines: Sequence, finite: Sequence, weights: Tensor
    ) -> Evaluation:
        return Evaluation(gradient, self.names, weights, per_term, finite, cosines if self.logs_cosine else None)


def program_of(
    model: Network, loss: Loss, parameterization: Parameterization, *, views: str, descent: Descent, dtype: str
) -> Program:
    """Return the program of a run; one that the network has run before is not compiled again.

    Parameters
    ----------
    model : Network
    loss : Loss
    parameterization : Parameterization
    views : {"none", "nearest", "bilinear"}
        Whether the network sees random views of the images, and what it sees between pixels, see `transforms.view`.
    descent : Descent
    dtype : {"float32", "bfloat16"}
        Of the network.

    Returns
    -------
    Program

    Raises
    ------
    InputError
        Tiles are asked of a parameterization that has none.
    """
    if descent.tile_size is not None and not isinstance(parameterization, Pixels):
        raise InputError("tiles are parts of pixels: a tile_size goes with parameterizations.pixels alone")
    terms = [weighted.term for weighted in loss.terms]
    # Arrays are handed in at every step: a program that kept those it was compiled with would keep whole statistics alive.
    terms = [replace(term, arrays={}) if term.is_described_by_fields else term for term in terms]
    identities = tuple(term if term.is_described_by_fields else id(term) for term in terms)
    places = loss.array_places
    key = (identities, places, parameterization.key(), parameterization.n_images, views, descent.key, dtype)
    program = model.program(
        key, lambda: _compiled(model, terms, places, parameterization.images, views, descent, dtype)
    )
    # The same program may have served terms of other names: units of a layer differ in what is handed in.
    return replace(program, names=loss.names)


def _compiled(
    model: Network,
    terms: Sequence[Term],
    places: tuple,
    decode: Callable,
    views: str,
    descent: Descent,
    dtype: str,
) -> Program:
    rule = descent.gradient_rule
    rules = ("true",) if rule == "true" else ("true", "guided" if rule == "mix" else rule)
    layers = tuple(dict.fromkeys(layer for term in terms for layer in term.layers))
    steps = None if descent.searches_lines else steps_of(descent.optimizer)
    forwards = {name: model.forward(layers, gradient_rule=name, dtype=dtype, as_computed=True) for name in rules}
    return Program(
        backend.compile(_Pull(tuple(terms), places, forwards, decode, views, rule).gradient),
        None if steps is None else CompiledSteps(steps.initial_state, backend.compile(steps.moved)),
        decode,
        (),
        descent.tile_size,
        descent.tile_batch_size,
        rule != "true",
    )


@dataclass(frozen=True, eq=False)
class _Pull:
    """How the loss pulls at the variables: what is compiled of a step before the move.

    Attributes
    ----------
    terms : tuple of Term
        Without arrays.
    places : tuple
        Where each term's arrays stand among all, see `Loss.array_places`.
    forwards : mapping of str to callable
        Backward rule -> (inputs -> activations).
    decode : callable
        variables -> images.
    views, rule : str
        See `program_of` and `gradient.loss_gradient`.
    """

    terms: tuple[Term, ...]
    places: tuple[tuple[tuple[str, int], ...], ...]
    forwards: Mapping[str, Callable[[Tensor], Activations]]
    decode: Callable[[Tensor], Tensor]
    views: str
    rule: str

    def gradient(self, variable, arrays, matrices, weights, guided_share) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the loss of each term and image, the gradient, its cosine with the true one, and whether all of it is finite."""
        activations = {
            rule: functools.partial(self.activations, forward, matrices) for rule, forward in self.forwards.items()
        }
        weighted_sum = functools.partial(self.weighted_sum, arrays, weights)
        per_term, gradient, cosine = loss_gradient(variable, activations, weighted_sum, self.rule, guided_share)
        return per_term, gradient, cosine, ops.all(ops.isfinite(gradient))

    def activations(self, forward: Callable, matrices: Tensor, variable: Tensor) -> dict[str, Tensor]:
        """Return what the network computes from a view of the images, and the images themselves."""
        images = self.decode(variable)
        viewed = images if self.views == "none" else view(images, matrices, interpolation=self.views)
        return {**forward(viewed), "input": images}

    def weighted_sum(self, arrays: Sequence, weights: Tensor, activations: Activations) -> tuple[Tensor, Tensor]:
        """Return the loss, and its terms, (term, image)."""
        shared = {layer: SharedMap(values) for layer, values in activations.items()}
        per_term = []
        for term, places in zip(self.terms, self.places, strict=True):
            read: Activations
            if term.reads_shared_maps:
                read = shared
            elif term.reads_network_dtype:
                read = activations
            else:
                read = {layer: ops.cast(activations[layer], "float32") for layer in (*term.layers, "input")}
            per_term.append(term.evaluate(read, {name: arrays[place] for name, place in places}))
        per_term = ops.stack(per_term)
        return ops.sum(per_term * weights[:, None]), per_term
