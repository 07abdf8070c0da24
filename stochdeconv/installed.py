"""What Keras computes with where nobody has chosen: TensorFlow, or what there is in its place; on a CPU, with oneDNN."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

from stochdeconv.errors import InputError

_BACKENDS = ("tensorflow", "torch", "jax")


def choose_backend() -> None:
    """Let Keras run on a backend that is installed; ``KERAS_BACKEND`` decides where it is set. Before Keras is imported."""
    # Unasked, TensorFlow uses oneDNN on newer processors alone. On those with AVX2 and no more a step takes 0.5 to 0.7 times as long
    # with it, and networks with channels first run at all.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # It would take all memory of every GPU, and workers on the same machine had none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if "KERAS_BACKEND" in os.environ or find_spec(_BACKENDS[0]) is not None:
        return
    there = _installed()
    if there and _configured() not in there:
        os.environ["KERAS_BACKEND"] = there[0]


def require_backend() -> None:
    """Raise InputError where none is installed, or not the one that was chosen; Keras would speak of TensorFlow alone."""
    there = _installed()
    if not there:
        raise InputError(
            "stochdeconv computes with TensorFlow, PyTorch or JAX, and none of them is installed: "
            "pip install 'stochdeconv-core[tensorflow]', [torch] or [jax]"
        )
    chosen = os.environ.get("KERAS_BACKEND") or None
    called, backend = ("KERAS_BACKEND", chosen) if chosen else ("the backend in Keras's own keras.json", _configured())
    if backend is None or backend in there:
        return
    if backend not in _BACKENDS:
        raise InputError(f"{called} is '{backend}'; stochdeconv computes with {', '.join(_BACKENDS)}")
    raise InputError(
        f"{called} is '{backend}', which is not installed: pip install {backend}, or choose {' or '.join(there)}"
    )


def _installed() -> list[str]:
    return [name for name in _BACKENDS if find_spec(name) is not None]


def _configured() -> str | None:
    """Read the backend that Keras's own configuration file names."""
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        return json.loads(file.read_text()).get("backend")
    except (OSError, ValueError, AttributeError):
        return None  # Keras says what is wrong with it, if it is
