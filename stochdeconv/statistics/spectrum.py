"""The amplitude spectrum of a class's photographs: how much of coarse and fine there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stochdeconv.images.measures import amplitude_spectrum as measured_spectrum
from stochdeconv.statistics.class_statistics import INPUT
from stochdeconv.statistics.statistic import Array, PhotographStatistic, PureLoss, Storage, Tensor, Weights


@dataclass(frozen=True)
class SpectrumWeights(Weights):
    """Weight of the spectrum in a recipe.

    Attributes
    ----------
    spectrum : float
        Amplitude spectrum, to the class's.
    """

    spectrum: float = 0.0


class Spectrum(PhotographStatistic):
    """Mean amplitude of every spatial frequency and colour; nothing of it is sampled.

    Field of the class: ``amplitude_mean`` (height, width // 2 + 1, channel), of ``numpy.fft.rfft2``, unnormalised.
    """

    name = "spectrum"
    weights = SpectrumWeights
    class_fields: ClassVar = {"amplitude_mean": Array("<f4", is_rounded_when_compacted=True)}

    def storage(self, shape, settings):
        """Add up the spectra."""
        height, width, n_channels = shape
        return Storage(sums={"amplitude": (height, width // 2 + 1, n_channels)})

    def measure(self, photograph):
        """Measure the spectrum."""
        return {"amplitude": measured_spectrum(photograph)}

    def summarise(self, measured):
        """Average over the photographs."""
        return {"amplitude_mean": measured.mean("amplitude").astype(np.float32)}

    def weight(self, recipe):
        """Take the recipe's spectrum."""
        return recipe.spectrum

    def loss(self, statistics, targets):
        """Ask for the class's mean spectrum."""
        return ask_amplitude_spectrum(statistics.amplitude_mean, statistics.input_size)


def ask_amplitude_spectrum(amplitude: np.ndarray, size: tuple[int, int], *, n_bands: int = 24) -> PureLoss:
    """Ask for a share of coarse and fine, see `regularizers.amplitude_spectrum`."""
    height, width = size
    # rfft2 keeps half of the plane; the other half mirrors it, and one set of bands then serves the full transform.
    row, column = np.mgrid[:height, :width]
    mirrored = column > width // 2
    full = amplitude[np.where(mirrored, -row % height, row), np.where(mirrored, width - column, column)]
    full = full.transpose(2, 0, 1).reshape(full.shape[-1], -1)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
    edges = np.geomspace(1.0 / max(size), 0.5, n_bands + 1)
    edges[0] *= 0.99
    members = (frequency[:, None] >= edges[:-1]) & (frequency[:, None] < edges[1:])
    members = members[:, members.any(axis=0)]
    bands = (members / members.sum(axis=0)).astype(np.float32)
    arrays = {"bands": bands, "log_amplitude": np.log(full @ bands + 1e-6).astype(np.float32)}
    return PureLoss(amplitude_spectrum, (INPUT,), arrays, is_tied_to_places=True)


def amplitude_spectrum(images: Tensor, bands: Tensor, log_amplitude: Tensor) -> Tensor:
    """Compare spectra: mean squared difference of the log amplitude per band of frequencies and colour."""
    from keras import ops

    planes = ops.transpose(images, (0, 3, 1, 2))
    real, imaginary = ops.fft2((planes, ops.zeros_like(planes)))
    amplitude = ops.sqrt(real**2 + imaginary**2 + 1e-6)
    amplitude = ops.reshape(amplitude, (-1, planes.shape[1], planes.shape[2] * planes.shape[3]))
    return ops.mean((ops.log(ops.matmul(amplitude, bands)) - log_amplitude) ** 2, axis=(1, 2))


SPECTRUM = Spectrum()
