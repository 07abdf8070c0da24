"""The package's top: names that load on first use, and stay what they are."""

import subprocess
import sys
import types
from pathlib import Path

import pytest


def run(code):
    """What a fresh interpreter prints: this one has imported too much already."""
    called = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert called.returncode == 0, called.stderr
    return called.stdout.strip()


def test_importing_the_package_imports_nothing_else():
    heavy = "{'numpy', 'keras', 'tensorflow', 'scipy', 'h5py', 'PIL'}"
    assert run(f"import sys, stochdeconv; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_every_name_is_there_and_listed():
    import stochdeconv as sd

    for name in sd.__all__:
        assert getattr(sd, name) is not None
    assert set(dir(sd)) == set(sd.__all__)
    assert sd.load_model.__module__ == "stochdeconv.networks.image_model"
    assert isinstance(sd.losses, types.ModuleType)


def test_unknown_names_are_attribute_errors():
    import stochdeconv as sd

    with pytest.raises(AttributeError, match="colect"):
        _ = sd.colect


def test_no_module_at_the_top_has_the_name_of_a_function():
    """Python binds every imported submodule in its package: the function would be gone."""
    import stochdeconv as sd

    modules = {path.stem for path in Path(sd.__file__).parent.iterdir()}
    assert not {name for name in sd.__all__ if isinstance(getattr(sd, name), types.FunctionType)} & modules


def test_version_is_that_of_the_project():
    import importlib.metadata
    import re

    import stochdeconv as sd

    assert re.fullmatch(r"\d+\.\d+\.\d+", sd.__version__)
    try:
        installed = importlib.metadata.version("stochdeconv")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("stochdeconv is not installed")
    assert installed == sd.__version__
