"""Where networks come from: the package, keras.applications, weights files, .keras files; and how each wants its input."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stochdeconv.assets import NETWORKS, shipped_file
from stochdeconv.errors import MissingCodeError, MissingInputError, ModelError, closest, first_reason
from stochdeconv.networks.catalogue import APPLICATIONS, cache_folder
from stochdeconv.networks.classes import ClassName, imagenet_class_names, load_class_names
from stochdeconv.networks.conventions import input_convention

# Entries of a sidecar that say more of how a network is to be called.
_CONVENTION = ("mean", "std", "input", "inputs", "output")

# Keras raises nothing while a server keeps silent.
_DOWNLOAD_TIMEOUT_SECONDS = 30
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Pretrained:
    """A network with everything that is known of it.

    Attributes
    ----------
    keras_model : keras.Model
    name : str
    source : str
        The word that loads it again.
    preprocessing : dict
        See `conventions.input_convention`.
    class_names : tuple of ClassName or None
        None where nothing is known.
    recipe : str
        What `generate` does otherwise for this network, see `recipe.parse_recipe`.
    """

    keras_model: keras.Model
    name: str
    source: str
    preprocessing: dict[str, Any]
    class_names: tuple[ClassName, ...] | None
    recipe: str = ""


def find_pretrained(
    model: str | Path | keras.Model,
    *,
    weights: str | Path | None = None,
    preprocessing: str | None = None,
    class_names: Any = None,
    **convention: Any,
) -> Pretrained:
    """Find the network that a word, a path or a model in memory means, and what else is to be said of it.

    Parameters
    ----------
    model, weights, preprocessing, class_names
        As in `image_model.load_model`.
    **convention
        `mean`, `std`, `input`, `inputs` and `output` of `conventions.input_convention`.

    Returns
    -------
    Pretrained

    Raises
    ------
    ModelError
        The network cannot be loaded, or an argument does not go with it.
    MissingInputError
        A file is not there.
    """
    if isinstance(model, keras.Model):
        _refuse_weights(weights, "a model in memory")
        if preprocessing is None:
            raise ModelError(
                f"model '{model.name}' does not say how it wants its input: "
                "pass preprocessing='caffe', 'tf', 'torch' or 'none'"
            )
        names = None if class_names is None else load_class_names(class_names)
        return Pretrained(model, model.name, model.name, input_convention(preprocessing, **convention), names)
    if not isinstance(model, (str, Path)):
        raise ModelError(f"expected a network's name, a path or a keras.Model, not {type(model).__name__}")
    if isinstance(model, Path) or Path(model).suffix or "/" in model or "\\" in model:
        _refuse_weights(weights, f"the file {model}")
        return load_keras_file(Path(model), preprocessing=preprocessing, class_names=class_names, **convention)
    surplus = [name for name, value in {"preprocessing": preprocessing, **convention}.items() if value is not None]
    if surplus:
        raise ModelError(
            f"how '{model}' wants its input is known: {' and '.join(surplus)} go with a file or a model in memory"
        )
    if model in NETWORKS:
        _refuse_weights(weights, f"'{model}', which ships with the package,")
        return load_shipped(model, class_names=class_names)
    return load_application(model, weights=weights, class_names=class_names)


def _refuse_weights(weights: str | Path | None, what: str) -> None:
    if weights is not None:
        raise ModelError(f"a weights file goes with the name of a network (vgg16); {what} has weights already")


# Networks that ship with the package


def load_shipped(word: str, *, class_names: Any = None) -> Pretrained:
    """Load one of `assets.NETWORKS`; no network access.

    Their weights are stored in float16, and their cards are beside them (``NAME.md``).
    """
    return replace(load_keras_file(shipped_file(f"{word}.keras"), class_names=class_names), source=word)


# keras.applications


def application_names() -> dict[str, str]:
    """Map the word for each network of keras.applications (``"resnet50v2"``) to its constructor's name."""
    return {
        name.lower(): name
        for name in dir(keras.applications)
        if name[0].isupper() and callable(getattr(keras.applications, name))
    }


def load_application(word: str, *, weights: str | Path | None = None, class_names: Any = None) -> Pretrained:
    """Load a network of keras.applications.

    Parameters
    ----------
    word : str
        ``"vgg16"``; case and ``-`` ``_`` do not matter.
    weights : path, optional
        A weights file: Keras's legacy HDF5 layout (the official files) or .weights.h5, with the classifier or without
        (``notop``). Left out: ImageNet weights, downloaded once by Keras.
    class_names : path or sequence, optional
        In place of ImageNet's.

    Returns
    -------
    Pretrained

    Raises
    ------
    ModelError
        No such network; the download fails; the file fits neither the network nor its layers below the classifier.
    """
    constructors = application_names()
    name = re.sub(r"[-_\s]", "", word.lower())
    if name not in constructors:
        near = closest(name, [*NETWORKS, *constructors])
        raise ModelError(
            f"there is no network '{word}'"
            + (f"; closest: {near}" if near else "")
            + f"; expected {', '.join(NETWORKS)}, a name of keras.applications (vgg16, resnet50, ...) or the path of a .keras file"
        )
    constructor = getattr(keras.applications, constructors[name])
    # Not every module of keras.applications shows its constructors, but each knows where it was written.
    module = constructor.__module__.rsplit(".", 1)[-1]
    if name not in APPLICATIONS:
        raise ModelError(f"how '{name}' wants its input is not known here: load it with Keras and pass the keras.Model")
    convention = input_convention(APPLICATIONS[name].preprocessing)
    if weights is None:
        model = _download(constructor, name)
    elif module == "efficientnet":
        raise ModelError(
            f"'{name}' cannot take a weights file: Keras adds a scaling of the input only when it loads its own "
            "ImageNet weights; save the whole network as a .keras file instead"
        )
    else:
        model = _with_weights(constructor, name, Path(weights))
    has_classes = len(model.output_shape) == 2
    names = imagenet_class_names() if has_classes and model.output_shape[-1] == 1000 else None
    if class_names is not None:
        names = load_class_names(class_names)
    return Pretrained(model, name, name, convention, names)


def _download(constructor: Any, name: str) -> keras.Model:
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_SECONDS)
    try:
        # Keras shows the download on stdout, where results go.
        with contextlib.redirect_stdout(sys.stderr):
            return constructor(weights="imagenet")
    # Keras raises a bare Exception when a download fails, and OSError or ValueError for what lies broken in its cache.
    except Exception as error:
        url = re.search(r"https?://\S+?(?=:?\s|:?$)", str(error))
        reason = first_reason(error)
        file = url.group(0).rsplit("/", 1)[-1] if url else ""
        raise ModelError(
            f"cannot get {file or f'the ImageNet weights of {name}'}: {reason}; download it elsewhere"
            + (f" ({url.group(0)})" if url else "")
            + f" and pass it as weights={file or 'FILE'}, or put it into {cache_folder()}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _with_weights(constructor: Any, name: str, path: Path) -> keras.Model:
    _require_hdf5(path)
    whole = constructor(weights=None)
    reason = _try_weights(whole, path)
    if reason is None:
        return whole
    input_shape = whole.input_shape[1:]
    del whole  # VGG16 is half a gigabyte.
    headless = constructor(weights=None, include_top=False, input_shape=input_shape)
    if _try_weights(headless, path) is None:
        return headless
    if "open file" in reason:
        raise ModelError(f"the weights {path} cannot be read: {reason}")
    raise ModelError(f"the weights in {path} do not fit '{name}', with or without its classifier: {reason}")


def _require_hdf5(path: Path) -> None:
    try:
        with path.open("rb") as file:
            signature = file.read(len(_HDF5_SIGNATURE))
    except OSError as error:
        raise MissingInputError(f"cannot read the weights {path}: {error.strerror}") from error
    if signature != _HDF5_SIGNATURE:
        raise ModelError(f"{path} is no HDF5 file; expected weights in Keras's legacy .h5 layout or .weights.h5")


def _try_weights(model: keras.Model, path: Path) -> str | None:
    """Load weights into the model; returns why that is not possible, None when it is done."""
    reasons = []
    # Keras tells its two layouts apart by the file's name; a name is no evidence, so both are tried under names it
    # understands.
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".h5", ".weights.h5"):
            link = Path(folder) / f"weights{suffix}"
            link.symlink_to(path.resolve())
            reason = _load_all_weights(model, link)
            if reason is None:
                return None
            reasons.append(reason)
    # What the wrong reader says of the file is no help.
    return reasons[1] if "found 0 saved layers" in reasons[0] else reasons[0]


def _load_all_weights(model: keras.Model, path: Path) -> str | None:
    # Of a .weights.h5 that lacks layers Keras loads the others and at best warns: what is still NaN was not in the file.
    weights = [weight for weight in model.weights if "float" in weight.dtype]
    for weight in weights:
        weight.assign(np.full(weight.shape, np.nan, dtype="float32"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(path)
    # Keras and h5py raise many kinds of error for a file that is broken or of another network.
    except Exception as error:
        return first_reason(error)
    missing = [weight.path for weight in weights if np.isnan(weight.numpy()).any()]
    return f"there is nothing for '{missing[0]}' in it" if missing else None


# .keras files


def load_keras_file(
    path: Path, *, preprocessing: str | None = None, class_names: Any = None, **convention: Any
) -> Pretrained:
    """Load a .keras file; what the arguments leave open, the sidecar ``NAME.json`` beside it says.

    Parameters
    ----------
    path : Path
    preprocessing : str, optional
        In place of the sidecar's, with its `mean` and `std`.
    class_names : path or sequence, optional
    **convention
        `mean`, `std`, `input`, `inputs` and `output` of `conventions.input_convention`.

    Returns
    -------
    Pretrained

    Raises
    ------
    MissingInputError
        The file, or its sidecar, is not there.
    MissingCodeError
        It needs Python code of its author.
    ModelError
        It is no Keras 3 file, or the sidecar is malformed.
    """
    if not path.is_file():
        raise MissingInputError(f"there is no network file {path}")
    # Before a sidecar is asked for; and Keras says of other files that they are not there.
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path} is no readable Keras 3 file (.keras): it is of another kind, or a part is missing; save it anew with model.save"
        )
    sidecar_path = path.with_suffix(".json")
    sidecar = _read_sidecar(sidecar_path, path, needed=preprocessing is None)
    stated = [name for name in _CONVENTION if preprocessing is None or name not in {"mean", "std"}]
    arguments = {name: value for name, value in convention.items() if value is not None}
    entries = {name: sidecar[name] for name in stated if name in sidecar} | arguments
    convention = input_convention(
        preprocessing or sidecar.get("preprocessing"), **entries, where=f"{sidecar_path}: " if sidecar else ""
    )
    if class_names is None:
        class_names = sidecar.get("class_names")
        if isinstance(class_names, str):
            class_names = sidecar_path.parent / class_names
    names = None if class_names is None else load_class_names(class_names)
    recipe = sidecar.get("recipe", "")
    if not isinstance(recipe, str):
        raise ModelError(
            f'{sidecar_path}: recipe is {recipe!r}; expected a text as recipe= takes it, "facets=0,jitter=6"'
        )
    return Pretrained(_read_keras_file(path), path.stem, str(path.resolve()), convention, names, recipe)


def _read_sidecar(path: Path, model_path: Path, *, needed: bool) -> dict[str, Any]:
    example = '{"preprocessing": "caffe" | "tf" | "torch" | "none", "mean": [..], "std": [..], "class_names": "FILE.json" | [..]}'
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not needed:
            return {}
        raise MissingInputError(
            f"{model_path.name} does not say how it wants its input: write {path} with {example}"
            ' (mean of blue, green, red in 0..255 with "caffe", mean and std of red, green, blue in 0..1 with "torch", where they are '
            'others than ImageNet\'s; class_names may be left out, and a "recipe" for generate may be added; '
            '"input", "inputs" and "output" are for networks with several)'
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not the JSON sidecar of a network: {first_reason(error)}; expected {example}"
        ) from error
    if not isinstance(sidecar, Mapping):
        raise ModelError(f"{path} is not the sidecar of a network: expected {example}")
    unknown = [key for key in sidecar if key not in {"preprocessing", "class_names", "recipe", *_CONVENTION}]
    if unknown:
        raise ModelError(f"{path} has the unknown entry '{unknown[0]}'; expected {example}")
    return dict(sidecar)


def _read_keras_file(path: Path) -> keras.Model:
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:
        reason = first_reason(error)
        if re.search(r"Could not locate|custom_object|register_keras_serializable|[Ll]ambda|safe_mode", str(error)):
            raise MissingCodeError(
                f"{path} needs Python code that is not in the file ({reason}): if it is yours, import the module that registers it first, "
                "or load it in Python and pass the keras.Model to load_model"
            ) from error
        raise ModelError(f"{path} is no readable Keras 3 file (.keras): {reason}") from error
    return model
