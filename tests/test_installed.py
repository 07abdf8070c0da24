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
# Without a backend: Keras would not find TensorFlow.
COMMAND = """
import sys
from importlib import util
find = util.find_spec
util.find_spec = lambda name, *rest: None if name in ("tensorflow", "torch", "jax") else find(name, *rest)
sys.modules["tensorflow"] = None
from stochdeconv.cli import main
main(sys.argv[1:])
"""


def run(code, *words, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")} | variables
    command = [sys.executable, "-c", code, *words]
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
def test_keras_runs_on_what_is_installed(installed, backend, expected, tmp_path):
    chosen = {"KERAS_HOME": str(tmp_path)} | ({} if backend is None else {"KERAS_BACKEND": backend})
    assert run(CODE, *installed, **chosen).stdout.strip() == expected


@pytest.mark.parametrize(("configured", "expected"), [('{"backend": "jax"}', "None"), ("{", "torch"), ("{}", "torch")])
def test_the_backend_of_keras_own_file_is_kept_where_it_is_installed(configured, expected, tmp_path):
    (tmp_path / "keras.json").write_text(configured)
    assert run(CODE, "torch", "jax", KERAS_HOME=str(tmp_path)).stdout.strip() == expected


@pytest.mark.parametrize("wanted", [None, "0"])
def test_tensorflow_uses_onednn_unless_told_otherwise(wanted, tmp_path):
    code = 'import os, stochdeconv; print(os.environ["TF_ENABLE_ONEDNN_OPTS"])'
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {} if wanted is None else {"TF_ENABLE_ONEDNN_OPTS": wanted}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == (wanted or "1")


def test_no_backend_at_all_is_told_in_one_line_and_help_needs_none():
    result = run(COMMAND, "layers", "mini-vgg16")
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: stochdeconv computes with TensorFlow, PyTorch or JAX, and none of them is installed")
    assert result.returncode == 1
    assert "generate" in run(COMMAND, "--help").stdout


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("foo", "error: KERAS_BACKEND is 'foo'; stochdeconv computes with tensorflow, torch, jax"),
        ("torch", "error: KERAS_BACKEND is 'torch', which is not installed: pip install torch, or choose tensorflow"),
    ],
)
def test_a_backend_that_is_not_there_is_told_in_one_line(chosen, expected):
    only_tensorflow = COMMAND.replace('("tensorflow", "torch", "jax")', '("torch", "jax")').replace(
        'sys.modules["tensorflow"] = None', 'sys.modules["torch"] = None'
    )
    result = run(only_tensorflow, "layers", "mini-vgg16", KERAS_BACKEND=chosen)
    assert result.stderr.strip().splitlines() == [expected]
    assert result.returncode == 1
