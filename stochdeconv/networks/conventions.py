"""How a network wants its input: the convention it was trained with, in the form of the sidecar of a .keras file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stochdeconv.errors import ModelError

PREPROCESSINGS = ("caffe", "tf", "torch", "none")
# keras.applications.imagenet_utils: "caffe" subtracts these from B, G, R in 0..255; "torch" takes RGB in 0..1.
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


def input_convention(
    preprocessing: Any,
    mean: Any = None,
    std: Any = None,
    *,
    input: str | None = None,
    inputs: Any = None,
    output: str | int | None = None,
    where: str = "",
) -> dict[str, Any]:
    """Check how a network wants its input, and write it in the sidecar's form.

    Parameters
    ----------
    preprocessing : {"caffe", "tf", "torch", "none"}
        Keras's names. ``"caffe"``: BGR in 0..255 minus `mean`; ``"tf"``: RGB in -1..1; ``"torch"``: RGB in 0..1, minus
        `mean`, divided by `std`; ``"none"``: RGB in 0..255, for a network that does the rest itself.
    mean : sequence of float, optional
        One number for each colour; ImageNet's where it is left out. For ``"caffe"`` blue, green, red in 0..255, for ``"torch"`` red, green,
        blue in 0..1.
    std : sequence of float, optional
        For ``"torch"``: red, green, blue, above 0; ImageNet's where it is left out. Mean 0 and std 1 are plain 0..1.
    input : str, optional
        Which of several inputs is the image.
    inputs : mapping of str to number or list, optional
        What the other inputs are held at.
    output : str or int, optional
        Which of several outputs has the classes.
    where : str
        Put before error messages.

    Returns
    -------
    dict
        Of what JSON can hold; without what is left out.

    Raises
    ------
    ModelError
        A value is none of these, or goes with another preprocessing; the message says which.
    """
    if preprocessing not in PREPROCESSINGS:
        expected = ", ".join(f'"{mode}"' for mode in PREPROCESSINGS)
        raise ModelError(f"{where}preprocessing is {preprocessing!r}; expected one of {expected}")
    colors = _checked_colors(preprocessing, mean, std, where)
    return {"preprocessing": preprocessing, **colors, **_checked_ports(input, inputs, output, where)}


def _checked_colors(preprocessing: str, mean: Any, std: Any, where: str) -> dict[str, Any]:
    if preprocessing == "caffe":
        if std is not None:
            raise ModelError(f'{where}std only goes with preprocessing "torch", not with "caffe"')
        text = "must be three numbers [blue, green, red], or one [grey], in 0..255"
        return {"mean": _numbers(IMAGENET_MEAN_BGR if mean is None else mean, 0, 255, f"{where}mean {text}")}
    if preprocessing != "torch":
        if mean is not None or std is not None:
            surplus, modes = ("std", '"torch"') if mean is None else ("mean", '"caffe" or "torch"')
            raise ModelError(f'{where}{surplus} only goes with preprocessing {modes}, not with "{preprocessing}"')
        return {}
    if (mean is None) != (std is None):
        raise ModelError(f"{where}mean and std go together; only {'std' if mean is None else 'mean'} was given")
    if (
        mean is None
    ):  # ImageNet's are not written out: so it was before others could be given, and files of statistics compare this.
        return {}
    text = (
        'must be three numbers [red, green, blue], or one [grey], for values in 0..1, such as "mean": [0], "std": [1]'
    )
    means, stds = _numbers(mean, -10, 10, f"{where}mean {text}"), _numbers(std, 1e-6, 100, f"{where}std {text}")
    if len(means) != len(stds):
        raise ModelError(f"{where}mean has {len(means)} numbers and std {len(stds)}; expected as many")
    return {"mean": means, "std": stds}


def _checked_ports(input: Any, inputs: Any, output: Any, where: str) -> dict[str, Any]:
    ports: dict[str, Any] = {}
    if input is not None:
        ports["input"] = _text(input, f"{where}input")
    if inputs:
        if not isinstance(inputs, Mapping):
            raise ModelError(
                f'{where}inputs is {inputs!r}; expected the values of the other inputs by name, {{"age": 30}}'
            )
        ports["inputs"] = {_text(name, f"{where}inputs"): _plain(name, value, where) for name, value in inputs.items()}
    if output is not None:
        is_number = isinstance(output, int) and not isinstance(output, bool)
        ports["output"] = output if is_number else _text(output, f"{where}output")
    return ports


def _numbers(values: Any, low: float, high: float, expected: str) -> list[float]:
    try:
        values = [float(value) for value in values]
    except (TypeError, ValueError):
        values = []
    if len(values) not in (1, 3) or not all(low <= value <= high for value in values):
        raise ModelError(expected)
    return values


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ModelError(f"{what} is {value!r}; expected a name")
    return value


def _plain(name: str, value: Any, where: str) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ModelError(f"{where}inputs: '{name}' is {value!r}; expected a number or lists of numbers")
    return array.tolist()
