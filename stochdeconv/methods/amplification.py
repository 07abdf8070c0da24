"""What a dream amplifies: layers or channels, each with a weight."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stochdeconv.errors import InputError, LayerNotFoundError
from stochdeconv.parsing import read_layer_word, read_list

if TYPE_CHECKING:
    from stochdeconv.losses import Loss, Term
    from stochdeconv.networks.image_model import ImageModel


@dataclass(frozen=True)
class Amplified:
    """A layer to amplify.

    Attributes
    ----------
    layer : str
    channel : int or None
        This channel alone.
    weight : float
        Against the other layers.
    """

    layer: str
    channel: int | None = None
    weight: float = 1.0

    def __str__(self) -> str:
        """Write ``LAYER[:CHANNEL][=WEIGHT]``."""
        channel = "" if self.channel is None else f":{self.channel}"
        return f"{self.layer}{channel}" + ("" if self.weight == 1 else f"={self.weight}")


def parse_layers(model: ImageModel, layers: str | int | Sequence[str | int]) -> list[Amplified]:
    """Read ``LAYER[:CHANNEL][=WEIGHT],…``, LAYER a name or a number, and check it against the network.

    Parameters
    ----------
    model : ImageModel
    layers : str, int or sequence of them

    Returns
    -------
    list of Amplified

    Raises
    ------
    InputError, LayerNotFoundError
        Not of this form; no such layer or channel.
    """
    amplified = read_list(layers, "layer", functools.partial(_read_layer, model))
    if not any(part.weight for part in amplified):
        raise InputError(
            f"'{','.join(map(str, amplified))}' gives every layer the weight 0; a dream needs one to amplify: LAYER[:CHANNEL][=WEIGHT],…"
        )
    return amplified


def _read_layer(model: ImageModel, part: str | int) -> Amplified:
    form = "of the form LAYER, LAYER:CHANNEL, LAYER=WEIGHT or LAYER:CHANNEL=WEIGHT"
    word = read_layer_word(part, form, n_numbers=(0, 1), weighted=True)
    layer, channel = model.find_layer(word.layer), next(iter(word.numbers), None)
    n_channels = model.layer_shape(layer)[-1]
    if channel is not None and channel >= n_channels:
        raise LayerNotFoundError(f"layer '{layer}' has channels 0 to {n_channels - 1}; got {channel}")
    return Amplified(layer, channel, 1.0 if word.weight is None else word.weight)


def dream_loss(
    model: ImageModel,
    amplified: list[Amplified],
    pictures: np.ndarray,
    guide: str | Path | np.ndarray | None = None,
) -> Loss:
    """Put the objective of pictures (image, height, width, 3) together, each layer in units of what it has in each of them."""
    from stochdeconv import losses
    from stochdeconv.images.files import open_image, resize

    names = [part.layer for part in amplified]
    resized = np.stack([resize(picture, model.input_size) for picture in pictures])
    start = model.activations(resized, names, batch_size=len(resized))
    features: Mapping[str, np.ndarray] = {}
    if guide is not None:
        if any(part.channel is not None for part in amplified):
            raise InputError(
                "a guide picture tells what to amplify among all channels of a layer: give layer= without a channel"
            )
        features = model.activations(
            open_image(guide, model.input_size, channels=model.n_channels)[None], names, batch_size=1
        )
    loss = losses.Loss()
    for part in amplified:
        feature = None if guide is None else features[part.layer][0]
        strength = -np.asarray(_amplifying(part, feature, 1.0)(start))
        loss = loss + part.weight * _amplifying(part, feature, np.where(strength > 0, strength, 1.0))
    return loss


def _amplifying(part: Amplified, feature: np.ndarray | None, unit: float | np.ndarray) -> Term:
    from stochdeconv import losses

    if feature is not None:
        return losses.guide(part.layer, feature, unit=unit)
    return losses.activation_norm(part.layer, part.channel, unit=unit)


def warn_where_nothing_fired(layer: str, history: list[dict[str, float]]) -> None:
    """Say it where a dream had no gradient to follow."""
    if history and all(value == 0 for name, value in history[-1].items() if ":" in name):
        warnings.warn(f"{layer} did not fire in any place, so there was no gradient to follow", stacklevel=3)
