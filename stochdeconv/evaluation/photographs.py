"""Photographs known by their numbers alone: what a judge measured of them, for comparisons where the pictures cannot be given."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from stochdeconv.errors import FileFormatError, InputError, MissingInputError
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.judge import Judge
from stochdeconv.evaluation.measurements import Measurements
from stochdeconv.files import write_atomically

#: Ending of such a file; where a folder of photographs is expected, it tells the two apart.
SUFFIX = ".npz"
_FORMAT, _FORMAT_VERSION = "stochdeconv-photographs", 2  # version 1 weighted colours in grey otherwise (BT.709)
# Half the size, and digits no figure has. Features stay as they are: what is a copy is told by their last digits.
_HALF = frozenset({"cams", "gradients", "colors"})
# What no figure is made of.
_LEFT_OUT = frozenset({"probabilities", "faces"})


@dataclass(frozen=True, eq=False)
class MeasuredPhotographs:
    """What one judge measured of photographs at one size, class by class.

    Attributes
    ----------
    classes : mapping of ClassKey to Measurements
    size : tuple of int
        (height, width) every photograph was brought to first: that of the images they can be compared with.
    judge_name, judge_hash : str
        The judge and the hash of its weights.
    judge_preprocessing : mapping
        Its input convention, in the form of the sidecar file.
    """

    classes: Mapping[ClassKey, Measurements]
    size: tuple[int, int]
    judge_name: str
    judge_hash: str
    judge_preprocessing: Mapping[str, Any]

    @classmethod
    def by(cls, judge: Judge, classes: Mapping[ClassKey, Measurements], size: tuple[int, int]) -> MeasuredPhotographs:
        """Put together what a judge measured."""
        model, (height, width) = judge.model, size
        return cls(classes, (height, width), model.name, model.weights_hash, dict(model.preprocessing))

    def of(self, class_key: ClassKey) -> Measurements:
        """Find the photographs of a class.

        Parameters
        ----------
        class_key : ClassKey

        Returns
        -------
        Measurements

        Raises
        ------
        InputError
            There are none.
        """
        for key, measurements in self.classes.items():
            if class_key.matches(key):
                return measurements
        held = ", ".join(key.title for key in self.classes)
        raise InputError(
            f"there are no measured photographs of '{class_key.title}', only of {held or 'nothing'}: leave the class out, or measure "
            "photographs of it too (stochdeconv measure)"
        )

    def require(self, judge: Judge, size: tuple[int, int]) -> None:
        """Raise InputError unless they were measured by this judge, at the size of the images."""
        if judge.model.weights_hash != self.judge_hash:
            raise InputError(
                f"the photographs were measured by the judge '{self.judge_name}' (weights {self.judge_hash[:12]}…), not by "
                f"'{judge.model.name}' ({judge.model.weights_hash[:12]}…): take that judge, or measure them anew "
                "(stochdeconv measure)"
            )
        if dict(judge.model.preprocessing) != dict(self.judge_preprocessing):
            raise InputError(
                f"the photographs were measured with the input convention {dict(self.judge_preprocessing)}, but the judge "
                f"'{judge.model.name}' now has {dict(judge.model.preprocessing)}: put its sidecar right, or measure them anew "
                "(stochdeconv measure)"
            )
        if tuple(size) != tuple(self.size):
            raise InputError(
                f"the photographs were measured at {self.size[0]}×{self.size[1]}, but the images are {size[0]}×{size[1]}: "
                f"make the images at that size, or measure the photographs anew (stochdeconv measure --size {min(size)})"
            )

    def save(self, path: str | Path) -> None:
        """Write a NumPy .npz file: arrays, and a header in JSON."""
        header = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "judge": {
                "name": self.judge_name,
                "weights_hash": self.judge_hash,
                "preprocessing": dict(self.judge_preprocessing),
            },
            "size": list(self.size),
            "classes": [
                {"wnid": key.wnid, "label": key.label, "n": len(of), "has_cams": of.cams is not None}
                for key, of in self.classes.items()
            ],
        }
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header))}
        for number, measurements in enumerate(self.classes.values()):
            for spec in fields(Measurements):
                values = getattr(measurements, spec.name)
                if values is not None and spec.name not in _LEFT_OUT:
                    kind = np.float16 if spec.name in _HALF else np.float32
                    arrays[f"{number:03d}/{spec.name}"] = values.astype(kind)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(path, buffer.getvalue())


def load_photographs(path: str | Path) -> MeasuredPhotographs:
    """Read what `MeasuredPhotographs.save` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    MeasuredPhotographs

    Raises
    ------
    MissingInputError
        No such file.
    FileFormatError
        It is damaged, of another kind, or of an unknown version.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"no such file of measured photographs: '{path}'")
    try:
        # Opened here: NumPy leaves a file that is no archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            if header["format"] != _FORMAT or header["format_version"] != _FORMAT_VERSION:
                raise FileFormatError(
                    f"'{path}' is {header['format']} version {header['format_version']}; this program reads {_FORMAT} "
                    f"version {_FORMAT_VERSION}: measure the photographs anew (stochdeconv measure)"
                )
            classes = {}
            for number, listed in enumerate(header["classes"]):
                columns = {
                    spec.name: file[f"{number:03d}/{spec.name}"].astype(np.float32)
                    for spec in fields(Measurements)
                    if spec.name not in _LEFT_OUT and (spec.name != "cams" or listed["has_cams"])
                }
                for name, values in columns.items():
                    if len(values) != listed["n"]:
                        raise ValueError(f"'{name}' of '{listed['label']}' has {len(values)} rows, not {listed['n']}")
                classes[ClassKey(listed["wnid"], listed["label"])] = Measurements(**{"cams": None, **columns})
            judge = header["judge"]
            return MeasuredPhotographs(
                classes, tuple(header["size"]), judge["name"], judge["weights_hash"], judge["preprocessing"]
            )
    except FileFormatError:
        raise
    # Of a damaged array NumPy's reader raises whatever its parts do, from zlib.error to TokenError.
    except Exception as error:
        raise FileFormatError(f"'{path}' is no file of measured photographs: {error}") from error
