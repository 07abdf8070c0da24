"""What is known of a class: the joint statistics of its activations, layer by layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np

from stochdeconv.errors import LayerNotFoundError, closest
from stochdeconv.statistics.summary import drawn_by_key, rounded

# The image itself is the first layer: its channel moments are the colour composition, its layout is the colour layout.
INPUT = "input"
# What `hash` leaves out: the parts that are hashed by themselves, and where the numbers come from rather than what they are.
_NOT_HASHED = {"layers", "facets", "model_source", "skipped", "settings", "versions"}


@dataclass(frozen=True, eq=False)
class LayerStatistics:
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
    channel_mean : ndarray of shape (channel,)
        Mean over images of each image's own spatial mean.
    within_covariance : ndarray of shape (channel, channel)
        Covariance over the positions of one image, averaged over images: the texture of *one* image.
    firing_fraction : ndarray of shape (channel,)
        Fraction of positions with a value above zero.
    histogram : ndarray of shape (channel, bin)
        Counts in the bins of ``summary.HISTOGRAM_EDGES`` over seeded positions of every map.
    layout_mean : ndarray of shape (height, width, channel)
        Mean pooled map.
    components : ndarray of shape (component, height * width * channel)
        Principal axes of the pooled maps, orthonormal.
    explained_variance : ndarray of shape (component,)
        Variance of the scores along each component (n_images - 1 in the denominator).
    total_variance : float
        Variance of the pooled maps summed over all their dimensions.
    means, log_stds, scores : ndarray of shape (image, channel), (image, channel), (image, component)
        One row an image, aligned over all layers: spatial mean, log(spatial standard deviation + LOG_STD_EPSILON), layout scores.
    facet_means : ndarray of shape (image, facet, channel) or None
        One row an image: mean over the places of each facet (see `Facets`); None where the layer is not below the facets' own.
    """

    name: str
    shape: tuple[int, int, int]
    layout_shape: tuple[int, int, int]
    n_images: int
    channel_mean: np.ndarray
    within_covariance: np.ndarray
    firing_fraction: np.ndarray
    histogram: np.ndarray
    layout_mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    total_variance: float
    means: np.ndarray
    log_stds: np.ndarray
    scores: np.ndarray
    facet_means: np.ndarray | None = None

    @property
    def n_components(self) -> int:
        """Number of layout components kept."""
        return len(self.components)

    @property
    def explained(self) -> float:
        """Share of the layouts' variance that the components hold, 0 to 1; 0 where nothing varies."""
        # Components are rounded to 16 bits: all of them may explain a little more than there is.
        return min(1.0, float(self.explained_variance.sum()) / float(self.total_variance or 1.0))

    @property
    def residual_variance(self) -> float:
        """Variance per dimension that the components leave out: (total - explained) / (d - k)."""
        n_left = self.layout_mean.size - self.n_components
        left = max(float(self.total_variance) - float(np.sum(self.explained_variance, dtype=np.float64)), 0.0)
        return left / n_left if n_left > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Facets:
    """Kinds of places in the images of a class, told apart by what one deep layer shows there: the dog, the grass, the sky.

    A place (a cell of the pooled map) with values a belongs to facet j with weight softmax_j(-|(a - offset) projection - centroid_j|² /
    temperature).

    Attributes
    ----------
    layer : str
        The layer whose pooled maps tell places apart.
    offset : ndarray of shape (channel,)
    projection : ndarray of shape (channel, dimension)
    centroids : ndarray of shape (facet, dimension)
    temperature : float
        Squared distance over which memberships fade.
    """

    layer: str
    offset: np.ndarray
    projection: np.ndarray
    centroids: np.ndarray
    temperature: float

    @property
    def n_facets(self) -> int:
        """Number of facets."""
        return len(self.centroids)


@dataclass(frozen=True, eq=False)
class ClassStatistics(Mapping[str, LayerStatistics]):
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
    log_gradient_mean, log_gradient_std : ndarray of shape (image,)
        Mean and standard deviation of the log gradient magnitude of each row's image: the sharpness of its edges.
    log_gradient_histogram : ndarray of shape (bin,)
        Counts of the log gradient magnitude in the bins of ``summary.LOG_GRADIENT_EDGES``, all images.
    amplitude_mean, amplitude_variance : ndarray of shape (height, width // 2 + 1, channel)
        Amplitude spectrum of the images (``numpy.fft.rfft2``, unnormalised), over images.
    skipped : tuple of (str, str)
        Files that could not be read, and why.
    settings, versions : mapping
        Arguments of the collection; versions of the libraries.
    facets : Facets or None
        Kinds of places; None where no layer is fine and deep enough to tell them apart.
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
    log_gradient_mean: np.ndarray
    log_gradient_std: np.ndarray
    log_gradient_histogram: np.ndarray
    amplitude_mean: np.ndarray
    amplitude_variance: np.ndarray
    skipped: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    facets: Facets | None = None

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
        for part in [self, *self.layers.values(), *([self.facets] if self.facets else [])]:
            for spec in fields(part):
                if spec.name in _NOT_HASHED:
                    continue
                value = getattr(part, spec.name)
                digest.update(f"{type(part).__name__}.{getattr(part, 'name', '')}.{spec.name}".encode())
                if isinstance(value, np.ndarray):
                    digest.update(f"{value.shape}{value.dtype}".encode())
                    digest.update(np.ascontiguousarray(value).tobytes())
                else:
                    digest.update(json.dumps(value, sort_keys=True).encode())
        return digest.hexdigest()

    def compacted(self, n_rows: int) -> ClassStatistics:
        """Return statistics that make a smaller file: fewer rows (drawn by their names), and what compresses to half its size.

        Rows, covariances and spectra are rounded to 11 significant bits, those of float16; `settings` tells, by ``n_rows``.
        """
        chosen = drawn_by_key(self.image_names, n_rows)
        layers = {}
        for name, layer in self.layers.items():
            of_rows = {key: getattr(layer, key) for key in ("means", "log_stds", "scores", "facet_means")}
            layers[name] = replace(
                layer,
                within_covariance=rounded(layer.within_covariance),
                **{key: None if rows is None else rounded(rows[chosen]) for key, rows in of_rows.items()},
            )
        return replace(
            self,
            layers=layers,
            image_names=tuple(self.image_names[row] for row in chosen),
            logits=None if self.logits is None else self.logits[chosen],
            log_gradient_mean=self.log_gradient_mean[chosen],
            log_gradient_std=self.log_gradient_std[chosen],
            amplitude_mean=rounded(self.amplitude_mean),
            amplitude_variance=rounded(self.amplitude_variance),
            settings={**self.settings, "n_rows": len(chosen)},
        )
