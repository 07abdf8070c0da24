"""How much time the library adds to what the network itself needs: ratios, measured side by side on one machine.

A bare step is one compiled forward pass and input gradient of the same network, dtype, batch and depth, with nothing around it. Bare and
ours are timed in turn and compared by their medians, so that other work on the machine hits both alike.

    python scripts/tools/benchmark.py -m vgg16
    python scripts/tools/benchmark.py -m squeezenet.keras --images photos/church --batch-size 8
    python scripts/tools/benchmark.py -m vgg16 --random-weights          # the same arithmetic, without the download
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from keras import ops

import stochdeconv as sd
from stochdeconv import backend
from stochdeconv.images.files import load_image, save_png
from stochdeconv.images.folders import find_images
from stochdeconv.methods.generate import Recipe, target_loss
from stochdeconv.methods.maximize import PRESETS
from stochdeconv.sampling.samplers import sample_targets


def main() -> None:
    """Read the arguments and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument(
        "--random-weights", action="store_true", help="build the keras.applications network without its weights"
    )
    parser.add_argument("--images", type=Path, help="photographs to collect from; noise images by default")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--n-steps", type=int, default=10, help="timed steps of each kind")
    parser.add_argument("--n-images", type=int, default=64, help="images collected; a multiple of 32")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # few images for many components: not what is measured here

    model = load(arguments)
    figures = {
        "model": model.name,
        "dtype": model.dtype,
        "batch_size": arguments.batch_size,
        "help_seconds": help_seconds(),
    }
    figures["maximize_over_bare"] = maximize_ratio(model, arguments)
    folder = Path("stats_cache/benchmark")
    paths = find_images(arguments.images) if arguments.images else noise_images(folder, model, arguments.n_images)
    figures["collect_over_bare"], statistics = collect_ratio(model, paths[: arguments.n_images])
    figures["generate_over_bare"] = generate_ratio(model, statistics, arguments)
    print(json.dumps(figures, indent=1))


def load(arguments: argparse.Namespace):
    """Load the network, or build it with random weights."""
    if not arguments.random_weights:
        return sd.load_model(arguments.model)
    builder = next(name for name in dir(keras.applications) if name.lower() == arguments.model)
    return sd.load_model(
        getattr(keras.applications, builder)(weights=None), preprocessing="caffe", mean=[104, 117, 123]
    )


def help_seconds() -> float:
    """Seconds until ``stochdeconv --help`` has printed, the best of three."""
    command = [sys.executable, "-c", "from stochdeconv.cli import main; main()", "--help"]

    def once() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started

    return round(min(once() for _ in range(3)), 3)


def bare_step(model, layers: list[str], n_images: int) -> Callable[[], None]:
    """One compiled forward pass to these layers and the gradient of their sum with respect to the input."""
    forward = model.forward(layers, dtype=model.dtype)

    def total(images):
        activations = forward(images)
        return sum(ops.sum(activations[layer]) for layer in layers), ()

    compiled = backend.compile(lambda images: backend.value_and_gradient(total)(images)[1])
    images = ops.convert_to_tensor(
        np.random.default_rng(0).uniform(size=(n_images, *model.input_size, 3)).astype(np.float32)
    )
    return lambda: ops.convert_to_numpy(compiled(images)) is None


def ratio(ours: Iterator[None], bare: Callable[[], None], n_steps: int) -> float:
    """Median time of our steps over that of bare ones, timed in turn, after a warm-up of both."""
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for step in range(n_steps + 2):
        for name, run in (("ours", lambda: next(ours)), ("bare", bare)):
            started = time.perf_counter()
            run()
            if step > 1:
                times[name].append(time.perf_counter() - started)
    return round(float(np.median(times["ours"]) / np.median(times["bare"])), 3)


def stepwise(run: Callable[[Callable], None], n_steps: int) -> Iterator[None]:
    """Turn a run with a callback into an iterator that stops after every step."""
    import threading

    go, waiting = threading.Semaphore(0), threading.Semaphore(0)

    def callback(step):
        waiting.release()
        go.acquire()

    def start():
        go.acquire()
        run(callback)

    threading.Thread(target=start, daemon=True).start()
    for _ in range(n_steps):
        go.release()
        waiting.acquire()
        yield


def maximize_ratio(model, arguments: argparse.Namespace) -> float:
    """One step of ``maximize --preset fourier`` over a bare step to the class scores."""
    n_steps, n_images = arguments.n_steps + 2, arguments.batch_size

    def run(callback):
        sd.maximize(model, 0, n_images=n_images, batch_size=n_images, n_steps=n_steps + 1, callback=callback)

    assert PRESETS["fourier"].parameterization == "fourier"
    return ratio(stepwise(run, n_steps), bare_step(model, ["logits"], n_images), arguments.n_steps)


def generate_ratio(model, statistics, arguments: argparse.Namespace) -> float:
    """One step of ``generate`` with its default objective over a bare step to the deepest layer it needs."""
    n_steps, n_images = arguments.n_steps + 2, arguments.batch_size

    def run(callback):
        sd.generate(model, statistics, n_images=n_images, batch_size=n_images, n_steps=n_steps + 1, callback=callback)

    needed = target_loss(statistics, sample_targets(statistics, n_images=1), Recipe()).layers
    deepest = "logits" if "logits" in needed else list(statistics)[-1]
    return ratio(stepwise(run, n_steps), bare_step(model, [deepest], n_images), arguments.n_steps)


def noise_images(folder: Path, model, n_images: int) -> list[Path]:
    """Write images of noise, as large as the network's."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04d}.png" for i in range(n_images)]
    for i, path in enumerate(paths):
        save_png(path, np.random.default_rng(i).uniform(size=(*model.input_size, 3)))
    return paths


def collect_ratio(model, paths: list[Path]) -> tuple[float, object]:
    """Images a second of one pass of the collector over those of bare batched forward passes, decoding included; and the statistics."""
    forward = model.forward(model.default_layers)
    # Sums instead of maps: what is measured is the network, not the copying of its activations.
    compiled = backend.compile(lambda images: [ops.sum(values) for values in forward(images).values()])
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _repeat in range(3):
        started = time.perf_counter()
        for start in range(0, len(paths) - 31, 32):
            batch = np.stack([load_image(path, model.input_size) for path in paths[start : start + 32]])
            ops.convert_to_numpy(compiled(ops.convert_to_tensor(batch))[-1])
        times["bare"].append(time.perf_counter() - started)
        passed = []

        def progress(n_finished, total, message, passed=passed):
            if message.startswith("components") and not passed:  # the pass is over, with all it had to write
                passed.append(time.perf_counter())

        started = time.perf_counter()
        statistics = sd.collect(model, paths, class_name="0" if model.class_names else None, progress=progress)
        times["ours"].append(passed[0] - started)
    return round(min(times["bare"]) / min(times["ours"]), 3), statistics


if __name__ == "__main__":
    main()
