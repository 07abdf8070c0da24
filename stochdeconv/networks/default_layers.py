"""The layers whose statistics describe an image at every scale."""

from __future__ import annotations

from collections import Counter

import keras

from stochdeconv.networks.graph import NetworkGraph
from stochdeconv.networks.operations import JOINS, KEEPS_NONNEGATIVE, NONLINEAR


def default_layers(graph: NetworkGraph, *, has_classes: bool) -> tuple[str, ...]:
    """Choose the layers whose statistics describe an image at every scale.

    Parameters
    ----------
    graph : NetworkGraph
    has_classes : bool
        Whether the output are scores of classes.

    Returns
    -------
    tuple of str
        These are maps that every path from the input to the output passes, after their ReLU (a concatenation or sum of
        rectified maps included), no bottleneck (fewer channels than the map before), with weights still to come (the maps
        of class scores are none of them; a network without class scores has no such maps). Of every run of equal shape it
        is the last. A network without such maps gives those after other activations and sums, failing that all maps that
        every path passes.
    """
    fitting = _chokes(graph)
    if has_classes:
        fitting &= _before_weights(graph)
    maps = [name for name, symbol in graph.symbols.items() if len(symbol.shape) == 4 and id(symbol) in fitting]
    for activated in (_rectified(graph), _activated(graph)):
        chosen = _last_of_runs(graph, [name for name in maps if id(graph.symbols[name]) in activated])
        if chosen:
            return chosen
    return _last_of_runs(graph, maps)


def _chokes(graph: NetworkGraph) -> set[int]:
    """Collect the values that every path from the input to the output passes: paths to them times paths onward are all paths."""
    to, onward = Counter({id(graph.input): 1}), Counter({id(graph.output): 1})
    for step in graph.model_steps:
        for output in step.outputs:
            to[id(output)] = sum(to[id(symbol)] for symbol in step.inputs)
    for step in reversed(graph.model_steps):
        n_onward = sum(onward[id(output)] for output in step.outputs)
        for symbol in step.inputs:
            onward[id(symbol)] += n_onward
    n_paths = to[id(graph.output)]
    return {id(symbol) for symbol in graph.symbols.values() if to[id(symbol)] * onward[id(symbol)] == n_paths}


def _before_weights(graph: NetworkGraph) -> set[int]:
    """Collect the values that layers with weights still follow."""
    before: set[int] = set()
    for step in reversed(graph.model_steps):
        has_weights = step.kind in {"layer", "linear"} and bool(getattr(step.operation, "weights", ()))
        if has_weights or any(id(output) in before for output in step.outputs):
            before.update(id(symbol) for symbol in step.inputs)
    return before


def _rectified(graph: NetworkGraph) -> set[int]:
    """Collect the outputs of ReLUs, and of joins of values that come from ReLUs alone."""
    nonnegative: set[int] = set()
    rectified: set[int] = set()
    for step in graph.model_steps:
        keeps = step.type_name in KEEPS_NONNEGATIVE and all(id(symbol) in nonnegative for symbol in step.inputs)
        if step.kind == "relu" or keeps:
            nonnegative.update(id(output) for output in step.outputs)
            if step.kind == "relu" or step.type_name in JOINS:
                rectified.update(id(output) for output in step.outputs)
    return rectified


def _activated(graph: NetworkGraph) -> set[int]:
    """Collect the outputs of activation functions of any kind, and of joins."""
    activated: set[int] = set()
    for step in graph.model_steps:
        function = getattr(step.operation, "activation", keras.activations.linear)
        if step.type_name in JOINS | NONLINEAR or step.activation or function is not keras.activations.linear:
            activated.update(id(output) for output in step.outputs)
    return activated


def _last_of_runs(graph: NetworkGraph, names: list[str]) -> tuple[str, ...]:
    """Keep the last of every run of maps of equal shape; bottlenecks, of fewer channels than the map before, are none of a run."""
    chosen: dict[str, tuple] = {}
    runs: list[str] = []
    n_before: int | None = None
    for name in names:
        shape = graph.channels_last(graph.symbols[name]).shape[1:]
        is_bottleneck = n_before is not None and shape[-1] < n_before
        n_before = shape[-1]
        if is_bottleneck:
            continue
        if runs and chosen[runs[-1]] == shape:
            runs[-1] = name
        else:
            runs.append(name)
        chosen[name] = shape
    return tuple(runs)
