"""What is known of a class: the joint statistics of its activations, layer by layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, Self

import numpy as np

from stochdeconv.errors import LayerNotFoundError, closest

# The image itself is the first layer: its channel moments are the colour composition, its layout is the colour layout.
INPUT = "input"
# What `hash` leaves out: the parts that are hashed by themselves, and where the numbers come from rather than what they are.
_NOT_HASHED = {"layers", "fields", "model_source", "skipped", "settings", "versions"}


@dataclass(frozen=True, eq=False)
class WithFields:
    """Fields that statistics have, by name, readable as attributes: ``layer.components``.

    Attributes
    ----------
    fields : mapping of str to ndarray, float or dataclass
    """

    fields: Mapping[str, Any] = field(kw_only=True)

    def __getattr__(self, name: str) -> Any:
        # Copies ask before there are fields.
        fields = vars(self).get("fields", {})
        if name not in fields:
            raise AttributeError(f"{type(self).__name__} has no '{name}'; fields: {', '.join(fields)}")
        return fields[name]

    def with_fields(self, **fields: Any) -> Self:
        """Return the same with some fields put in the place of others."""
        return replace(self, fields={**self.fields, **fields})


@dataclass(frozen=True, eq=False)
class LayerStatistics(WithFields):
    """Statistics of one layer's maps over the images of a class.

    Attributes
    ----------
    name : str
        The layer, ``"input"`` for the image itself.
    shape : tuple of int
        (height, width, channel) of the layer's map.
    layout_shape : tuple of int
        (height, width, channel) of the map after mean pooling to at most the layout size.
    n_images : int
        Images seen.
    fields : mapping of str to ndarray or float
        The fields of each statistic, readable as attributes; see `moments.Moments`, `layout.Layout` and `regions.RegionMeans`. What has
        one row an image (``means``, ``log_stds``, ``scores``, ``facet_means``) is aligned over all layers.
    """

    name: str
    shape: tuple[int, int, int]
    layout_shape: tuple[int, int, int]
    n_images: int

    @property
    def n_components(self) -> int:
        """Number of layout components kept."""
        return len(self.components)

    @property
    def explained(self) -> float:
        """Share of the layouts' variance that the components hold, 0 to 1; 0 where nothing varies."""
        # Components are rounded to 16 bits: all of them may explain a little more than there is.
        return min(1.0, float(self.explained_variance.sum()) / float(self.total_variance or 1.0))


@dataclass(frozen=True, eq=False)
class ClassStatistics(WithFields, Mapping[str, LayerStatistics]):
    """An ordered mapping layer name -> LayerStatistics, with what was seen and by which network.

    Attributes
    ----------
    layers : mapping of str to LayerStatistics
        From the image (``"input"``) to the deepest layer.
    model_name, model_source, weights_hash : str
        The network: its name, the word or path that loads it, and the hash of its weights.
    preprocessing : mapping
        The network's input convention, in the form of the sidecar file.
    input_size : tuple of int
        (height, width) of the images.
    class_name, wnid, class_index : str or None, str or None, int or None
        The class; all None where the network does not know it.
    n_images : int
        Images seen.
    image_names : tuple of str
        Name of each row's image.
    logits : ndarray of shape (image,) or None
        Class logit of each row's image.
    skipped : tuple of (str, str)
        Files that could not be read, and why.
    settings, versions : mapping
        Arguments of the collection; versions of the libraries.
    fields : mapping of str to ndarray or dataclass
        The fields of each statistic that are of no single layer, readable as attributes; see `edges.Edges`, `spectrum.Spectrum` and
        `regions.RegionMeans`.
    """

    layers: Mapping[str, LayerStatistics]
    model_name: str
    model_source: str
    weights_hash: str
    preprocessing: Mapping[str, object]
    input_size: tuple[int, int]
    class_name: str | None
    wnid: str | None
    class_index: int | None
    n_images: int
    image_names: tuple[str, ...]
    logits: np.ndarray | None
    skipped: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> LayerStatistics:
        try:
            return self.layers[name]
        except KeyError:
            near = closest(name, self.layers)
            raise LayerNotFoundError(
                f"the statistics hold no layer '{name}'{f'; closest: {near}' if near else ''}; all of them: {', '.join(self.layers)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def of_class(self) -> dict[str, Any]:
        """The class as files hold it."""
        return {"index": self.class_index, "wnid": self.wnid, "label": self.class_name}

    @property
    def map_layers(self) -> list[str]:
        """Layers with positions, the image itself left out, from the first to the deepest."""
        return [name for name, layer in self.items() if name != INPUT and layer.shape[0] * layer.shape[1] > 1]

    @property
    def n_rows(self) -> int:
        """Number of aligned rows (images whose descriptors are kept)."""
        return len(self.image_names)

    def _repr_html_(self) -> str:
        """Show the class, the network and a table of the layers in a notebook."""
        from stochdeconv.images import markup

        facts = {
            "class": "none" if self.class_name is None else f"{self.class_name} ({self.wnid or self.class_index})",
            "network": f"{self.model_name}, weights {self.weights_hash[:12]}",
            "images": f"{self.n_images}, {self.n_rows} with a row of their own, {len(self.skipped)} skipped",
        }
        rows = []
        for name, layer in self.items():
            shape, layout = ("×".join(map(str, sides)) for sides in (layer.shape, layer.layout_shape))
            rows.append((name, shape, layout, layer.n_components, f"{layer.explained:.1%}"))
        layers = markup.table(("layer", "shape", "layout", "components", "explained"), rows)
        return str(markup.facts_table(facts) + layers)

    def hash(self) -> str:
        """Identify the statistics: sha256 over all that a generated image can depend on, independent of file and compression."""
        digest = hashlib.sha256()
        for part in (self, *self.layers.values()):
            for name, value in sorted({**vars(part), **part.fields}.items()):
                if name not in _NOT_HASHED and value is not None:
                    _add_to(digest, f"{getattr(part, 'name', '')}.{name}", value)
        return digest.hexdigest()


def _add_to(digest: Any, name: str, value: Any) -> None:
    """Hash a value by its name: an array with shape and dtype, a dataclass field by field, anything else as JSON."""
    if is_dataclass(value):
        for key, part in sorted(vars(value).items()):
            _add_to(digest, f"{name}.{key}", part)
        return
    digest.update(name.encode())
    if isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    else:
        digest.update(json.dumps(value, sort_keys=True).encode())
