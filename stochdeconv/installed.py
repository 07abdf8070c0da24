"""Which backend Keras runs on where nobody has chosen: TensorFlow, or what there is in its place."""

from __future__ import annotations

import os
from importlib.util import find_spec

_BACKENDS = ("tensorflow", "torch", "jax")


def choose_backend() -> None:
    """Let Keras run on a backend that is installed; ``KERAS_BACKEND`` decides where it is set. Before Keras is imported."""
    if "KERAS_BACKEND" in os.environ or find_spec(_BACKENDS[0]) is not None:
        return
    there = [name for name in _BACKENDS if find_spec(name) is not None]
    if not there:
        raise ImportError(
            "stochdeconv computes with TensorFlow, PyTorch or JAX, and none of them is installed: "
            "pip install 'stochdeconv-core[tensorflow]', [torch] or [jax]"
        )
    os.environ["KERAS_BACKEND"] = there[0]
