"""The judge: a network that names images and measures them, and had no part in making them; or a detector that finds faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.errors import ClassNotFoundError, ModelError
from stochdeconv.images import FACES
from stochdeconv.images.colors import with_channels
from stochdeconv.images.faces import describe_detector, find_faces
from stochdeconv.images.files import resize
from stochdeconv.networks.operations import PASSES_ON

if TYPE_CHECKING:
    from stochdeconv.evaluation.measurements import Measurements
    from stochdeconv.networks.graph import NetworkGraph, Step
    from stochdeconv.networks.heads import Head
    from stochdeconv.networks.image_model import ImageModel

# Naming the class among the first five says something only where there are many.
MIN_CLASSES_FOR_TOP5 = 100
# Pictures the judge looks at together: small, because one contestant has few.
BATCH = 8


@dataclass(frozen=True)
class FeatureSource:
    """Where in the judge its feature is read.

    Attributes
    ----------
    class_layer : str
        The judge's last weighted layer.
    feature_layer : str
        The layer whose output it reads; a map where only averaging (and dropout) lies between.
    class_weights : ndarray of shape (channel, class) or None
        Weights from the averaged map to the classes; None where the layer does not read a map position by position.
    """

    class_layer: str
    feature_layer: str
    class_weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the judge says of images.

    Attributes
    ----------
    features : ndarray of shape (image, feature)
        Input of the last weighted layer, averaged over positions.
    logits : ndarray of shape (image, class)
        By which classes are ranked: their scores; of an image in which those rank otherwise than the probabilities, as averages of
        several heads may, the logarithms of these.
    probabilities : ndarray of shape (image, class)
        The judge's own, see `heads.Head`.
    feature_maps : ndarray of shape (image, height, width, channel) or None
        The same input before averaging; None where the judge has none (see `FeatureSource`).
    faces : ndarray of object of shape (image,), optional
        Of each image its faces (face, 4), as `faces.find_faces` gives them; None of a judge that looks for none.
    """

    features: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    feature_maps: np.ndarray | None
    faces: np.ndarray | None = None


def find_feature_source(model: ImageModel) -> FeatureSource:
    """Find the judge's feature in the network's graph: the input of its last layer with weights.

    Parameters
    ----------
    model : ImageModel
        A classifier; layers inside nested models are found too.

    Returns
    -------
    FeatureSource

    Raises
    ------
    ModelError
        The network has no layer with a kernel: it classifies nothing.
    """
    graph = model.graph
    steps = graph.needed_steps([graph.output])
    weighted = [
        step
        for step in steps
        if getattr(step.operation, "kernel", None) is not None and step.kind in {"layer", "linear"}
    ]
    if not weighted:
        raise ModelError(f"the judge '{model.name}' has no weighted layer; expected a trained classifier")
    last = weighted[-1]
    symbol = _behind_what_passes_on(graph, last.inputs[0])
    kernel = np.asarray(last.operation.kernel)
    reads_each_position = kernel.ndim == 2 or (kernel.ndim == 4 and kernel.shape[:2] == (1, 1))
    pooling = graph.producer(symbol)
    if reads_each_position and pooling is not None and pooling.type_name == "GlobalAveragePooling2D":
        symbol = _behind_what_passes_on(graph, pooling.inputs[0])
    elif kernel.ndim != 4 or not reads_each_position:
        # Behind a flattening or a dense layer no position has its own evidence: there is no class activation map.
        return FeatureSource(last.name, _layer_of(model, symbol, last), None)
    return FeatureSource(last.name, _layer_of(model, symbol, last), _class_weights(model.head, kernel))


def _behind_what_passes_on(graph: NetworkGraph, symbol: Any) -> Any:
    """Find the value that layers hand on to be this one."""
    step = graph.producer(symbol)
    while step is not None and _passes_on(step):
        symbol = step.inputs[0]
        step = graph.producer(symbol)
    return symbol


def _passes_on(step: Step) -> bool:
    if step.type_name in {"Flatten", "Reshape"}:
        return tuple(step.inputs[0].shape[1:-1]) == (1, 1)
    return step.type_name in PASSES_ON


def _layer_of(model: ImageModel, symbol: Any, reader: Step) -> str:
    names = {id(value): name for name, value in model.graph.symbols.items()} | {id(model.graph.input): "network_input"}
    if id(symbol) not in names:
        raise ModelError(
            f"the judge '{model.name}' reads its classes from a value without a name, below '{reader.name}'; expected a layer's output"
        )
    return names[id(symbol)]


def _class_weights(head: Head | None, kernel: np.ndarray) -> np.ndarray | None:
    weights: np.ndarray = kernel.reshape(kernel.shape[-2:]).astype(np.float32)
    if head is not None and head.is_pair:
        weights = np.concatenate([-weights, weights], axis=1)
    # Whole numbers of a quantised layer are no weights, and those of one of several heads not the weights of all classes.
    are_weights = kernel.dtype.kind == "f" and head is not None and weights.shape[1] == head.n_classes
    return weights if are_weights else None


class Judge:
    """A network asked for its feature, its logits and its class activation maps in one pass.

    Parameters
    ----------
    model : ImageModel
        The network, with its own input size and convention.
    """

    def __init__(self, model: ImageModel) -> None:
        self.model = model
        self.source = find_feature_source(model)

    def look(self, images: np.ndarray) -> Judgement:
        """Measure images, brought to the judge's own input size and channels first.

        Parameters
        ----------
        images : ndarray of shape (image, height, width, channel), float32 in [0, 1]
            Of any size.

        Returns
        -------
        Judgement
        """
        from stochdeconv.networks.network import PROBABILITIES

        layer = self.source.feature_layer
        size, channels = self.model.input_size, self.model.n_channels
        images = np.stack([with_channels(resize(image, size), channels) for image in images])
        seen = self.model.activations(images, [layer, "logits", PROBABILITIES], batch_size=BATCH)
        maps = np.asarray(seen[layer], dtype=np.float32)
        features = maps.mean(axis=tuple(range(1, maps.ndim - 1))) if maps.ndim > 2 else maps
        logits, probabilities = seen["logits"], seen[PROBABILITIES]
        by_score = np.take_along_axis(probabilities, logits.argsort(axis=1), axis=1)
        rank_alike = (np.diff(by_score, axis=1) >= -1e-6).all(axis=1, keepdims=True)
        logits = np.where(rank_alike, logits, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)))
        return Judgement(features, logits, probabilities, maps if self.source.class_weights is not None else None)

    @property
    def n_classes(self) -> int:
        """Number of classes the judge tells apart."""
        return len(self.model.class_names)

    def class_index(self, *, wnid: str | None, label: str | None) -> int | None:
        """Find the judge's own index of a class, by wnid; by label only where the images' network knows no wnid. None: unknown."""
        word = wnid or label
        if word is None:
            return None
        try:
            return self.model.find_class(word).index
        except ClassNotFoundError:
            return None

    def class_weights(self, class_index: int | None) -> np.ndarray | None:
        """Give the weights (channel,) from the feature map to a class; None where there is no map or no class."""
        weights = self.source.class_weights
        if weights is None or class_index is None or class_index >= weights.shape[1]:
            return None
        return weights[:, class_index]

    def describe_pictures(self, measured: Measurements, class_index: int | None) -> list[dict[str, Any]]:
        """Say of each image what it is called, how surely (None: not kept), and whether that is right (None: no class was asked for)."""
        first = measured.logits.argmax(axis=1)
        certainty: list[float | None] = [None] * len(measured)
        if measured.probabilities is not None:
            certainty = np.take_along_axis(measured.probabilities, first[:, None], 1)[:, 0].tolist()
        return [
            {
                "judge_label": self.model.class_names[index].label if index < self.n_classes else None,
                "judge_probability": probability,
                "judge_right": None if class_index is None else bool(index == class_index),
            }
            for index, probability in zip(first, certainty, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """Say who judges, for metrics.json."""
        return {
            "name": self.model.name,
            "source": str(self.model.source),
            "weights_hash": self.model.weights_hash,
            "input_size": list(self.model.input_size),
            "n_classes": self.n_classes,
            "feature_layer": self.source.feature_layer,
            "class_layer": self.source.class_layer,
        }


class FaceJudge:
    """A face detector in a judge's place: it says how many faces there are and where, and knows neither classes nor features."""

    n_classes = 0

    def look(self, images: np.ndarray) -> Judgement:
        """Find the faces in images (image, height, width, channel) in [0, 1]; features and logits have no columns."""
        faces = np.empty(len(images), dtype=object)
        faces[:] = [find_faces(image) for image in images]
        nothing = np.zeros((len(images), 0), np.float32)
        return Judgement(nothing, nothing, nothing, None, faces)

    def class_index(self, *, wnid: str | None, label: str | None) -> None:
        """Know no class."""

    def class_weights(self, class_index: int | None) -> None:
        """Have no class activation map."""

    def describe_pictures(self, measured: Measurements, class_index: int | None) -> list[dict[str, Any]]:
        """Say of each image where its faces are: x, y, width and height in pixels of the size that was compared at."""
        return [{"faces": boxes.tolist()} for boxes in ([] if measured.faces is None else measured.faces)]

    def describe(self) -> dict[str, Any]:
        """Say who judges, for metrics.json."""
        return {"name": FACES, "source": describe_detector()}


def in_top(logits: np.ndarray, class_index: int, *, k: int) -> np.ndarray:
    """Tell for each image whether the class is among its k largest logits.

    Parameters
    ----------
    logits : ndarray of shape (image, class)
    class_index : int
    k : int

    Returns
    -------
    ndarray of float of shape (image,)
        1 or 0; ties count for the class.
    """
    n_larger = (logits > logits[:, class_index : class_index + 1]).sum(axis=1)
    return (n_larger < k).astype(np.float64)
