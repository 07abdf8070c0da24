"""What a statistic is: one object that is measured, summarised, sampled and asked of images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from stochdeconv.statistics.class_statistics import ClassStatistics, LayerStatistics
    from stochdeconv.statistics.measured import LayerMeasurements, MeasuredLayer, Measurements

Tensor = Any


# ---- what the file holds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Array:
    """A dataset of the file.

    Attributes
    ----------
    stored : str
        dtype on disk.
    loaded : str or None
        dtype in memory, where it is another.
    per_row : bool
        One entry a row of the statistics; rows that are dropped take it with them.
    is_rounded_when_compacted : bool
        To 11 significant bits.
    is_optional : bool
        None where it is missing.
    one_a_chunk : bool
        Entries along the first axis can be read one by one.
    """

    stored: str
    loaded: str | None = None
    per_row: bool = False
    is_rounded_when_compacted: bool = False
    is_optional: bool = False
    one_a_chunk: bool = False


@dataclass(frozen=True)
class Number:
    """An attribute of the file, float64."""


@dataclass(frozen=True)
class Text:
    """An attribute of the file."""


@dataclass(frozen=True)
class Record:
    """An optional group of the file, a dataclass in memory.

    Attributes
    ----------
    kind : type
        The dataclass.
    fields : mapping of str to Array, Number or Text
        All of its fields.
    is_dropped_when_compacted : bool
        What is made small is made to be given on: it leaves out what is not to be.
    """

    kind: type
    fields: Mapping[str, Array | Number | Text]
    is_dropped_when_compacted: bool = False


Field = Array | Number | Text | Record


# ---- what is kept of each image --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Storage:
    """Where the numbers of each image go, by name; a name may stand in more than one place.

    Attributes
    ----------
    columns : mapping of str to (str, int)
        dtype and width of what is kept for every image.
    sums : mapping of str to tuple of int
        Shape of what is added up exactly, see `exact_sums.ExactSum`.
    """

    columns: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    sums: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


# ---- what is sampled and asked ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Block:
    """Columns for the samplers.

    Attributes
    ----------
    rows : ndarray of shape (row, column)
    weight : float
        Against other blocks, each of them scaled to a summed variance of one.
    """

    rows: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class PureLoss:
    """What an image is asked, free of everything but numbers; `losses.targets` makes a term of it.

    Attributes
    ----------
    function : callable
        (values, **settings, **arrays) -> loss of each image, (image,), float32, in operations of ``keras.ops``. A function of a module,
        whose name is that of the loss in the history. The values are those of the layer, or a tuple where there are more layers.
    layers : tuple of str
        What it reads; the first is the one it is named by.
    arrays : mapping of str to ndarray
        Targets and constants, handed in at every step.
    settings : mapping
        What is part of the compiled program.
    is_tied_to_places : bool
        Its targets lie at places of the whole image, so that it cannot be asked of one tile at a time.
    reads_shared_maps : bool
        Values come as `shared_maps.SharedMap`, from which several losses derive what they need once; as float32 tensors otherwise.
    """

    function: Callable[..., Tensor]
    layers: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Hashable] = field(default_factory=dict)
    is_tied_to_places: bool = False
    reads_shared_maps: bool = False


# ---- the statistic ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """Weights of a statistic in a recipe, by name; a base of `methods.recipe.Recipe`."""


class Statistic:
    """One statistic of a class, from the measurement to the loss.

    Attributes
    ----------
    name : str
    weights : type or None
        A frozen dataclass of the numbers a recipe has for it; None where it asks for nothing.
    class_fields : mapping of str to Field
        What `ClassStatistics` and the file hold of it.
    rank : int
        Terms of a lower rank are added up first. Sums of float32 depend on their order, and images with them.
    """

    name: ClassVar[str]
    weights: ClassVar[type[Weights] | None] = None
    class_fields: ClassVar[Mapping[str, Field]] = {}
    rank: ClassVar[int] = 1

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError where values that were read do not fit each other."""


class LayerStatistic(Statistic):
    """A statistic of each layer; a subclass redefines what it takes part in.

    Attributes
    ----------
    layer_fields : mapping of str to Field
        What `LayerStatistics` and the file hold of it.
    """

    layer_fields: ClassVar[Mapping[str, Field]] = {}

    def storage(self, layer: MeasuredLayer) -> Storage:
        """Say what is kept of each image."""
        return Storage()

    def measure(self, maps: Tensor, layer: MeasuredLayer) -> dict[str, Tensor]:
        """Measure maps (image, height, width, channel), float32, within the compiled pass: arrays (image, ...) by name."""
        return {}

    def encode(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn what was measured into what `storage` names, (image, ...)."""
        return measured

    def summarise(self, measured: LayerMeasurements) -> dict[str, Any]:
        """Turn what was kept of all images into the layer's fields."""
        return {}

    def summarise_together(self, measured: Measurements) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Turn what was kept of all layers into fields of the class, and of layers by their names."""
        return {}, {}

    def blocks(self, layer: LayerStatistics) -> list[Block]:
        """Give the columns that are sampled."""
        return []

    def targets(self, blocks: Sequence[np.ndarray], layer: LayerStatistics) -> dict[str, np.ndarray]:
        """Turn sampled columns, float32 (image, column), into targets, by name."""
        return {}

    def channel_covariances(self, layer: LayerStatistics) -> list[np.ndarray]:
        """Say in which channel directions lies what it knows: covariances (channel, channel), see `directions.leading_directions`."""
        return []

    def weight(self, recipe: Any, layer: str, maps: Sequence[str]) -> float:
        """Tell how much a recipe asks for it in one of the layers, the image or one of those with positions, shallowest first."""
        return 0.0

    def loss(
        self, statistics: ClassStatistics, layer: str, target: Any, directions: np.ndarray | None
    ) -> PureLoss | None:
        """Say what images are asked to come to their targets; None where there is nothing to ask.

        The layer's `directions`, (channel, direction), hold nearly all that its statistics know: a loss may look along these alone, see
        `shared_maps.SharedMap`. None for all channels.
        """
        return None


class PhotographStatistic(Statistic):
    """A statistic of the photographs themselves; a subclass redefines what it takes part in."""

    def storage(self, shape: tuple[int, int, int], settings: Mapping[str, Any]) -> Storage:
        """Say what is kept of each photograph of a (height, width, channel), in a collection of these settings."""
        return Storage()

    def measure(self, photograph: np.ndarray) -> dict[str, np.ndarray]:
        """Measure a photograph (height, width, channel), float32 in [0, 1]: arrays by the names of `storage`."""
        return {}

    def summarise(self, measured: Measurements) -> dict[str, Any]:
        """Turn what was kept of all photographs into fields of the class."""
        return {}

    def blocks(self, statistics: ClassStatistics) -> list[Block]:
        """Give the columns that are sampled."""
        return []

    def targets(self, blocks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Turn sampled columns, float32 (image, column), into targets, by name."""
        return {}

    def weight(self, recipe: Any) -> float:
        """Tell how much a recipe asks for it."""
        return 0.0

    def loss(self, statistics: ClassStatistics, targets: Any) -> PureLoss | None:
        """Say what images are asked to come to their targets; None where there is nothing to ask."""
        return None
