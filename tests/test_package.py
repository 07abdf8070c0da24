"""The package's top: names that load on first use, and stay what they are."""

import subprocess
import sys
import types

import pytest


def run(code):
    """What a fresh interpreter prints: this one has imported too much already."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_else():
    heavy = "{'numpy', 'keras', 'tensorflow', 'scipy', 'h5py', 'PIL'}"
    assert run(f"import sys, stochdeconv; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_every_name_is_there_and_listed():
    import stochdeconv as sd

    for name in sd.__all__:
        assert getattr(sd, name) is not None
    assert set(dir(sd)) == {*sd.__all__, "__version__"}
    assert sd.load_model.__module__ == "stochdeconv.models"
    assert isinstance(sd.losses, types.ModuleType)


def test_unknown_names_are_attribute_errors():
    import stochdeconv as sd

    with pytest.raises(AttributeError, match="has no attribute 'colect'"):
        _ = sd.colect


@pytest.mark.parametrize(
    "code",
    [
        "import stochdeconv as sd; import stochdeconv.{0}",
        "import stochdeconv.{0}; import stochdeconv as sd",
        "import stochdeconv as sd; sd.{0}; import stochdeconv.{0}",
        "import stochdeconv as sd; from stochdeconv.{0} import {0}",
        "import stochdeconv as sd, importlib; importlib.import_module('stochdeconv.{0}')",
    ],
)
@pytest.mark.parametrize("name", ["collect", "compare", "generate"])
def test_a_function_stays_where_a_module_has_its_name(code, name):
    code = code.format(name)
    check = f"; import sys; print(type(sd.{name}).__name__, type(sys.modules['stochdeconv.{name}']).__name__)"
    assert run(code + check) == "function module"
    imported = f"from stochdeconv import {name}; print(type({name}).__name__)"
    assert run(f"import stochdeconv.{name}; {imported}") == "function"


def test_optimize_is_the_function_after_a_run_has_imported_its_module():
    import stochdeconv as sd
    import stochdeconv.run_folder

    assert isinstance(sd.optimize, types.FunctionType)
    assert isinstance(sys.modules["stochdeconv.optimize"], types.ModuleType)


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
