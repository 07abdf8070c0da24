"""The peers of the benchmark: activation maximization of VGG16 by tf-keras-vis and Xplique, each in a process that waits for its turn.

The processes run in a virtual environment of their own, which `peer` makes where it is not there yet:

    python scripts/tools/benchmark_peers.py xplique        # in that environment: one number a line read, seconds of a step
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

PEERS = {"tf-keras-vis": "tf-keras-vis==0.8.7", "xplique": "xplique==2.0.2"}
N_STEPS = 4


@contextlib.contextmanager
def peer(name: str, folder: Path, *, with_onednn: bool) -> Iterator[Callable[[], float]]:
    """Start a peer, and end it; each call gives the seconds of one of its steps.

    Parameters
    ----------
    name : str
        One of `PEERS`.
    folder : Path
        Of the virtual environment.
    with_onednn : bool
        Whether TensorFlow computes with oneDNN on every processor, as it does with `stochdeconv`; as it comes otherwise.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "tensorflow", *PEERS.values()], check=True)
    variable = "TF_ENABLE_ONEDNN_OPTS"
    environment = {key: value for key, value in os.environ.items() if key != variable}
    process = subprocess.Popen(
        [python, __file__, name],
        env=environment | ({variable: "1"} if with_onednn else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def seconds() -> float:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        while line := process.stdout.readline():
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise SystemExit(f"{name} ended: run `{python} {__file__} {name}` to see why")

    try:
        yield seconds
    finally:
        process.kill()
        process.wait()


def tf_keras_vis() -> Callable[[], float]:
    """Make a step of tf-keras-vis at its defaults: random views, total variation and a norm, RMSprop on pixels."""
    import keras
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.callbacks import Callback
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    maximization = ActivationMaximization(keras.applications.VGG16(weights=None), model_modifier=ReplaceToLinear())

    class Clock(Callback):
        def __init__(self):
            self.times = []

        def __call__(self, *_arguments, **_keywords):
            self.times.append(time.perf_counter())

    def seconds() -> float:
        clock = Clock()
        maximization(CategoricalScore(0), steps=N_STEPS + 1, callbacks=[clock])
        # The first step finds its memory.
        return (clock.times[-1] - clock.times[0]) / N_STEPS

    return seconds


def xplique() -> Callable[[], float]:
    """Make a step of Xplique at its defaults: random views, Adam on Fourier coefficients."""
    import keras
    from xplique.features_visualizations import Objective, optimize

    objective = Objective.neuron(keras.applications.VGG16(weights=None), -1, 0)

    def of(n_steps: int) -> float:
        started = time.perf_counter()
        optimize(objective, nb_steps=n_steps)
        return time.perf_counter() - started

    # It compiles anew in every call: the difference of two leaves the steps.
    return lambda: (of(2 * N_STEPS) - of(N_STEPS)) / N_STEPS


if __name__ == "__main__":
    step = {"tf-keras-vis": tf_keras_vis, "xplique": xplique}[sys.argv[1]]()
    for _line in sys.stdin:
        print("seconds", step(), flush=True)
