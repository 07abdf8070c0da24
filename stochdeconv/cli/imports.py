"""What --import does: run Python code of the user's own that a network needs, such as its registered layers."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from stochdeconv.cli import terminal
from stochdeconv.errors import InputError, MissingInputError


def import_code(module: str) -> None:
    """Run a module by its dotted name, the current folder searched first, or a file.

    Parameters
    ----------
    module : str
        A dotted name, or the path of a file that ends in .py.

    Raises
    ------
    MissingInputError
        There is none.
    InputError
        It raises an error.
    """
    # Such code imports Keras: without what its backend writes meanwhile.
    terminal.import_keras()
    is_file = module.endswith(".py")
    if is_file and not Path(module).is_file():
        raise MissingInputError(f"no such file of Python code: '{module}'")
    # It stays on the path: code may import what lies beside it later on.
    sys.path.insert(0, str(Path(module).resolve().parent) if is_file else os.getcwd())
    try:
        if is_file:
            _run_file(Path(module))
        else:
            importlib.import_module(module)
    except (Exception, SystemExit) as error:  # somebody's own code may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name in {module, module.partition(".")[0]}:
            raise MissingInputError(
                f"there is no Python module '{module}' to import, here or installed; a file is named with its ending, FILE.py"
            ) from error
        raise InputError(f"the Python code '{module}' fails: {type(error).__name__}: {error}") from error


def _run_file(path: Path) -> None:
    # Under a name of its own: a file may be called like a module that is there already.
    name = f"imported:{path.resolve()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is no Python code")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
