"""The figures of a comparison: what each is called, and how all of them come from the measurements of one class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stochdeconv.evaluation import density_coverage, kernel_distance, objects, pixels, variety
from stochdeconv.evaluation.intervals import UNDEFINED, Estimate, bootstrap, mean_of, median_of, subsample
from stochdeconv.evaluation.judge import MIN_CLASSES_FOR_TOP5, in_top
from stochdeconv.evaluation.measurements import Measurements, Standardizer


@dataclass(frozen=True)
class Figure:
    """One figure: its key in metrics.json, its name, what it says, and where good lies ("high", "low" or "real")."""

    key: str
    label: str
    meaning: str
    better: str


FIGURES = (
    Figure("judge_top1", "Judge top-1", "share of images that the judge names as the class", "high"),
    Figure("judge_top5", "Judge top-5", "share of images with the class among the judge's first five names", "high"),
    Figure("kid", "KID", "kernel distance to the real photographs; 0 is real", "low"),
    Figure("density", "Density", "how densely photographs lie around the images; about 1 is real", "real"),
    Figure("coverage", "Coverage", "share of the real photographs with an image in their neighbourhood", "real"),
    Figure("pairwise_distance", "Pairwise distance", "mean feature distance of two images: variety", "real"),
    Figure("vendi", "Vendi score", "effective number of different images", "real"),
    Figure("nearest_train_distance", "Nearest training photo", "feature distance to it; small means copied", "real"),
    Figure("cam_peaks", "Objects", "places where the judge sees the class in one image", "real"),
    Figure("spectrum_slope", "Spectrum slope", "fall of the amplitude spectrum from coarse to fine", "real"),
    Figure("gradient_kurtosis", "Edge kurtosis", "few strong edges on flat ground: high; even noise: 0", "real"),
    Figure(
        "color_distance", "Colour distance", "Jensen-Shannon distance of the colours to those of photographs", "low"
    ),
    Figure("largest_share", "From one photograph", "largest part of an image drawn from a single photograph", "low"),
    Figure("largest_piece", "In one piece", "largest part that lies together as it lay in one photograph", "low"),
)
FIGURE_KEYS = tuple(figure.key for figure in FIGURES)
#: Of a judge that looks for faces. Beside them stand the figures of pixels, which ask no judge; all others need a network's features.
FACE_FIGURES = (
    Figure("with_face", "Images with a face", "share of images in which the detector finds a face", "real"),
    Figure("mean_faces", "Faces", "faces that the detector finds in one image", "real"),
    *(figure for figure in FIGURES if figure.key in ("spectrum_slope", "gradient_kurtosis", "color_distance")),
)


# A figure as a function of how often each image is drawn, and the highest value of one that repeated images would lower: those are
# subsampled, all others (None) bootstrapped.
_Resampled = tuple[Callable[[np.ndarray], np.ndarray], float | None]


@dataclass(frozen=True, eq=False)
class Reference:
    """The real photographs a set of images is measured against.

    Attributes
    ----------
    measurements : Measurements
        Of the full real set.
    standardizer : Standardizer
        Fitted on the full real set.
    length_scale : float
        Median distance of two of them.
    peak_threshold : float
        Half the median of their class activation maximum.
    train : ndarray of shape (photograph, feature) or None
        Standardised features of the training photographs.
    class_index, n_classes : int or None, int
        The class in the judge's own numbering, and how many classes the judge has.
    """

    measurements: Measurements
    standardizer: Standardizer
    length_scale: float
    peak_threshold: float
    train: np.ndarray | None
    class_index: int | None
    n_classes: int

    @classmethod
    def of(cls, real: Measurements, *, train: np.ndarray | None, class_index: int | None, n_classes: int) -> Reference:
        """Prepare the reference from the full real set and the training photographs' features (not yet standardised)."""
        standardizer = Standardizer.fit(real.features)
        return cls(
            measurements=real,
            standardizer=standardizer,
            length_scale=variety.median_distance(standardizer(real.features)),
            peak_threshold=float("nan") if real.cams is None else objects.peak_threshold(real.cams),
            train=None if train is None else standardizer(train),
            class_index=class_index,
            n_classes=n_classes,
        )


def measure_figures(
    images: Measurements,
    reference: Reference,
    *,
    seed: tuple[int, ...],
    same: np.ndarray | None = None,
    against: np.ndarray | None = None,
    owed: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Estimate]:
    """Compute every figure of one class's images.

    Parameters
    ----------
    images : Measurements
    reference : Reference
    seed : tuple of int
        Seed of the resampling; sets of equal size get equal draws.
    same : ndarray of int of shape (image,), optional
        For real photographs as a contestant: each one's row in the reference, so that none is compared with itself.
    against : ndarray of int, optional
        Rows of the reference to measure against instead of all of them (for two disjoint halves). Units and
        thresholds stay those of the full set.
    owed : mapping of str to ndarray of shape (image,), optional
        By each of `COPYING_KEYS`, what the images owe to single photographs; NaN where an image was not drawn from any.

    Returns
    -------
    dict of str to Estimate
        A key for each of `FIGURES`, of `FACE_FIGURES` where faces were looked for; undefined ones hold NaN.
    """
    n_images = len(images)
    if same is None:
        same = np.full(n_images, -1)
    real = reference.measurements if against is None else reference.measurements[against]
    resampled = {
        **_of_judgements(images, reference),
        **_of_features(images, real, reference, same),
        "spectrum_slope": (mean_of(pixels.spectrum_slopes(images.spectra)), None),
        "gradient_kurtosis": (median_of(images.kurtoses), None),
        "color_distance": (pixels.color_distance(images.colors, real.colors, same=same), 1.0),
        **{key: (mean_of(values), None) for key, values in (owed or {}).items()},
    }
    estimates = {}
    for number, figure in enumerate(FIGURES if images.faces is None else FACE_FIGURES):
        function, highest = resampled.get(figure.key, (None, None))
        if function is None:
            estimates[figure.key] = UNDEFINED
        elif highest is None:
            estimates[figure.key] = bootstrap(function, n_images, seed=[*seed, number])
        else:
            estimates[figure.key] = subsample(function, n_images, seed=[*seed, number], highest=highest)
    return estimates


def _of_judgements(images: Measurements, reference: Reference) -> dict[str, _Resampled]:
    figures: dict[str, _Resampled] = {}
    if reference.class_index is not None:
        figures["judge_top1"] = mean_of(in_top(images.logits, reference.class_index, k=1)), None
        if reference.n_classes >= MIN_CLASSES_FOR_TOP5:
            figures["judge_top5"] = mean_of(in_top(images.logits, reference.class_index, k=5)), None
    if images.cams is not None:
        figures["cam_peaks"] = mean_of(objects.count_peaks(images.cams, threshold=reference.peak_threshold)), None
    if images.faces is not None:
        counts = np.array([len(boxes) for boxes in images.faces])
        figures["with_face"] = mean_of(counts > 0), None
        figures["mean_faces"] = mean_of(counts), None
    return figures


def _of_features(
    images: Measurements, real: Measurements, reference: Reference, same: np.ndarray
) -> dict[str, _Resampled]:
    features, real_features = reference.standardizer(images.features), reference.standardizer(real.features)
    if not features.shape[1]:
        return {}
    figures: dict[str, _Resampled] = {
        "kid": (kernel_distance.kernel_distance(features, real_features, same=same), None),
        "pairwise_distance": (variety.pairwise_distance(features), None),
        "vendi": (variety.vendi(features, length_scale=reference.length_scale), len(images)),
    }
    if len(real_features) > density_coverage.N_NEIGHBOURS:
        within = density_coverage.inside_radii(features, real_features, same=same)
        figures["density"] = density_coverage.density(within), None
        figures["coverage"] = density_coverage.coverage(within), 1.0
    if reference.train is not None and len(reference.train):
        distances, _ = variety.nearest_photographs(features, reference.train)
        figures["nearest_train_distance"] = mean_of(distances), None
    return figures
