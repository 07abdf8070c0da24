import os
import subprocess
import sys

import pytest

CODE = """
import importlib.util, os, sys
there = set(sys.argv[1:])
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (name in there or None) if name in ("tensorflow", "torch", "jax") else find(name, *rest)
import stochdeconv
print(os.environ.get("KERAS_BACKEND"))
"""


def chosen(*installed, backend=None):
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, "-c", CODE, *installed]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("installed", "backend", "expected"),
    [
        (("tensorflow", "torch"), None, "None"),  # what Keras and its own configuration say
        (("torch", "jax"), None, "torch"),
        (("jax",), None, "jax"),
        (("torch", "jax"), "jax", "jax"),
    ],
)
def test_keras_runs_on_what_is_installed(installed, backend, expected):
    assert chosen(*installed, backend=backend).stdout.strip() == expected


def test_no_backend_at_all_is_told():
    result = chosen()
    assert result.returncode == 1
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .startswith("ImportError: stochdeconv computes with TensorFlow, PyTorch or JAX")
    )
