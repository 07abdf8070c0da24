"""Varied, realistic images of a class from one classifier: sample its activations, then find images that have them."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stochdeconv import errors, losses, parameterizations, regularizers, samplers, transforms
    from stochdeconv.atlas import write_atlas
    from stochdeconv.collect import collect, merge
    from stochdeconv.compare import compare
    from stochdeconv.descent import Descent
    from stochdeconv.generate import generate
    from stochdeconv.methods.class_maximization import maximize
    from stochdeconv.methods.deepdream import dream
    from stochdeconv.methods.feature_inversion import invert
    from stochdeconv.methods.morph import morph
    from stochdeconv.methods.refine import refine
    from stochdeconv.methods.saliency import saliency
    from stochdeconv.methods.sweep import sweep
    from stochdeconv.models import load_model
    from stochdeconv.networks import Network
    from stochdeconv.optimize import optimize
    from stochdeconv.recipe import Recipe
    from stochdeconv.statistics_file import load_statistics, save_statistics

__version__ = "0.1.0"

__all__ = [
    "Descent",
    "Network",
    "Recipe",
    "collect",
    "compare",
    "dream",
    "errors",
    "generate",
    "invert",
    "load_model",
    "load_statistics",
    "losses",
    "maximize",
    "merge",
    "morph",
    "optimize",
    "parameterizations",
    "refine",
    "regularizers",
    "saliency",
    "samplers",
    "save_statistics",
    "sweep",
    "transforms",
    "write_atlas",
]

# Names are looked up on first use (PEP 562): Keras takes seconds to import, and `stochdeconv --help` needs none of it.
_HOMES = {
    "Descent": "descent",
    "Network": "networks",
    "Recipe": "recipe",
    "collect": "collect",
    "compare": "compare",
    "dream": "methods.deepdream",
    "generate": "generate",
    "invert": "methods.feature_inversion",
    "load_model": "models",
    "load_statistics": "statistics_file",
    "maximize": "methods.class_maximization",
    "merge": "collect",
    "morph": "methods.morph",
    "optimize": "optimize",
    "refine": "methods.refine",
    "saliency": "methods.saliency",
    "save_statistics": "statistics_file",
    "sweep": "methods.sweep",
    "write_atlas": "atlas",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(ModuleType):
    """The package itself, in which a function stays where a submodule of the same name is imported.

    Python binds every imported submodule as an attribute of its package: ``stochdeconv.collect`` would turn from the function into
    the module that it is defined in as soon as anything imports that module.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
