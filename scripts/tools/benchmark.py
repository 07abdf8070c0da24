"""How much time and memory the library adds to what the network itself needs: ratios, measured side by side on one machine.

A bare step is one compiled forward pass and input gradient of the same network, dtype, batch and depth, with nothing around it; a second
one has its first convolution computed over blocks, as our steps do. What is compared takes turns, so that other work on the machine hits
all alike; a figure is the quotient of medians, its spread the 10th and 90th percentile of the quotients of single turns. Every row is
printed as it is measured, and the finished ones are in the output file, each with what it was measured on: with the same output, what is
there is not measured again.

    python scripts/tools/benchmark.py -o docs/performance/cpu.json -m vgg16:random -m squeezenet.keras --images photos/church
    python scripts/tools/benchmark.py -o out.json -m squeezenet.keras --images photos/church --rows generate batch

``NAME:random`` builds a keras.applications network without its weights: the same arithmetic, without the download. Without photographs
statistics are collected from noise. The peers, tf-keras-vis and Xplique, get a virtual environment of their own, made once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import stochdeconv as sd  # before Keras: it decides what Keras computes with

# isort: split
import keras
import numpy as np
from benchmark_peers import PEERS, peer
from keras import ops

from stochdeconv import backend
from stochdeconv.assets import NETWORKS
from stochdeconv.files import write_atomically
from stochdeconv.images.files import load_image, save_png
from stochdeconv.images.folders import find_images
from stochdeconv.methods.objective import target_loss
from stochdeconv.methods.recipe import Recipe
from stochdeconv.sampling.samplers import sample_targets
from stochdeconv.threads import n_processors

WORK = Path("stats_cache/benchmark")
BATCHES = (1, 4, 16)
MEMORY_IMAGES = (100, 10_000)
# Steps and turns before the first that counts: programs are traced, memory is found.
WARM_UP = 2


@dataclass(frozen=True)
class Case:
    """A network with all that rows need of it."""

    model: sd.ImageModel
    statistics: sd.ClassStatistics | None
    paths: list[Path]
    n_images: int
    n_turns: int


def main() -> None:
    """Read the arguments, measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument(
        "-m", "--model", action="append", required=True, metavar="NETWORK", help="NAME:random, a word or a file"
    )
    parser.add_argument("--images", type=Path, help="photographs to collect from; noise by default")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("-n", "--n-images", type=int, default=8, help="images of a step")
    parser.add_argument("--dtype", default="auto", help="of the steps; the peers compute in float32")
    parser.add_argument("--turns", type=int, default=15, help="turns that count")
    parser.add_argument("--collected", type=int, default=160, help="images collected; a multiple of 32")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # few images for many components: not what is measured here

    figures = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for word in arguments.model:
        case = None
        for row in arguments.rows:
            name = f"{row}:{Path(word).stem}"
            if name not in figures:
                case = case or case_of(word, arguments)
                figures[name] = ROWS[row](case) | {"measured_on": machine()}
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(arguments.output, (json.dumps(figures, indent=1) + "\n").encode())
            print(table_row(name, figures[name]), flush=True)


def machine() -> dict:
    """Say what a figure is measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    versions = backend.versions()
    return {"processor": processor, "n_processors": n_processors(), backend.name(): versions[backend.name()]}


def case_of(word: str, arguments: argparse.Namespace) -> Case:
    """Load a network and collect statistics for it."""
    name, _, how = word.partition(":")
    if how == "random":
        builder = next(entry for entry in dir(keras.applications) if entry.lower() == name.lower())
        model = sd.load_model(
            getattr(keras.applications, builder)(weights=None),
            preprocessing="caffe",
            mean=[104, 117, 123],
            dtype=arguments.dtype,
        )
    else:
        model = sd.load_model(word, dtype=arguments.dtype)
    paths = find_images(arguments.images) if arguments.images else noise_images(model, arguments.collected)
    paths = paths[: arguments.collected]
    statistics = sd.collect(model, paths, class_name="0" if model.class_names else None)
    return Case(model, statistics, paths, arguments.n_images, arguments.turns)


def noise_images(model: sd.ImageModel, n_images: int) -> list[Path]:
    """Write images of noise, as large as the network's."""
    folder = WORK / "x".join(map(str, model.input_size))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04d}.png" for i in range(n_images)]
    for i, path in enumerate(paths):
        if not path.exists():
            save_png(path, np.random.default_rng(i).uniform(size=(*model.input_size, 3)))
    return paths


# ---- taking turns ----------------------------------------------------------------------------------------------------


def seconds_in_turn(runs: dict[str, Callable[[], float | None]], n_turns: int) -> dict[str, np.ndarray]:
    """Let runs take turns; seconds of each, (turn,). A run that returns a number has timed itself."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(n_turns + WARM_UP):
        for name, run in runs.items():
            started = time.perf_counter()
            own = run()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - started if own is None else own)
    return {name: np.array(values) for name, values in seconds.items()}


def quotient(over: np.ndarray, under: np.ndarray) -> dict[str, float]:
    """Divide seconds by seconds: of the medians, and the 10th and 90th percentile of single turns."""
    low, high = np.percentile(over / under, [10, 90])
    return {"value": round(float(np.median(over) / np.median(under)), 3), "low": round(low, 3), "high": round(high, 3)}


def bare_step(model: sd.ImageModel, layer: str, n_images: int, *, over_blocks: bool = False) -> Callable[[], None]:
    """One compiled forward pass to a layer and the gradient of its sum with respect to the input."""
    forward = model.forward([layer], dtype=model.dtype, as_computed=over_blocks)
    compiled = backend.compile(
        lambda images: backend.value_and_gradient(lambda x: (ops.sum(ops.cast(forward(x)[layer], "float32")), ()))(
            images
        )[1]
    )
    images = ops.convert_to_tensor(
        np.random.default_rng(0).uniform(size=(n_images, *model.input_size, 3)).astype(np.float32)
    )

    def step() -> None:
        ops.convert_to_numpy(compiled(images))

    return step


def stepper(run: Callable[[Callable], None]) -> Callable[[], None]:
    """Turn a run with a callback into a function that makes the next step of it."""
    go, made = threading.Semaphore(0), threading.Semaphore(0)

    def callback(_step) -> None:
        # The next step may be under way on a device that is not waited for: it is ours, not of who takes the next turn.
        ops.convert_to_numpy(ops.ones(()) + 1.0)
        made.release()
        go.acquire()

    def start() -> None:
        go.acquire()
        run(callback)

    threading.Thread(target=start, daemon=True).start()

    def step() -> None:
        go.release()
        made.acquire()

    return step


def maximize_step(case: Case, n_images: int) -> Callable[[], None]:
    """Make the next step of ``maximize --preset fourier``."""
    return stepper(
        lambda callback: sd.maximize(
            case.model, 0, n_images=n_images, batch_size=n_images, n_steps=10_000, callback=callback
        )
    )


def generate_step(case: Case, n_images: int) -> Callable[[], None]:
    """Make the next step of ``generate`` with its default objective."""
    return stepper(
        lambda callback: sd.generate(
            case.model, case.statistics, n_images=n_images, batch_size=n_images, n_steps=10_000, callback=callback
        )
    )


# ---- rows ------------------------------------------------------------------------------------------------------------


def maximize_row(case: Case) -> dict:
    """One step of ``maximize --preset fourier`` over a bare step to the class scores."""
    return measured(case, maximize_step(case, case.n_images), "logits", mark=1.15)


def generate_row(case: Case) -> dict:
    """One step of ``generate`` with its default objective over a bare step to the deepest layer it needs."""
    needed = target_loss(case.statistics, sample_targets(case.statistics, n_images=1), Recipe()).layers
    deepest = "logits" if any("log" in layer for layer in needed) else list(case.statistics)[-1]
    return measured(case, generate_step(case, case.n_images), deepest, mark=1.25)


def measured(case: Case, ours: Callable, layer: str, *, mark: float) -> dict:
    """Let ours and the bare steps to a layer take turns."""
    bare = {
        name: bare_step(case.model, layer, case.n_images, over_blocks=over_blocks)
        for name, over_blocks in (("bare", False), ("bare_over_blocks", True))
    }
    seconds = seconds_in_turn({"ours": ours, **bare}, case.n_turns)
    return {
        **quotient(seconds["ours"], seconds["bare"]),
        "mark": f"<= {mark}",
        "over_bare_over_blocks": quotient(seconds["ours"], seconds["bare_over_blocks"]),
        "milliseconds_per_image": {
            name: round(1000 * float(np.median(values)) / case.n_images, 2) for name, values in seconds.items()
        },
        "n_images": case.n_images,
        "dtype": case.model.dtype,
    }


def batch_row(case: Case) -> dict:
    """Milliseconds an image and step of ``generate`` at several batch sizes; the figure is the largest over the smallest batch."""
    seconds = seconds_in_turn({str(n): generate_step(case, n) for n in BATCHES}, case.n_turns)
    per_image = {n: seconds[str(n)] / n for n in BATCHES}
    return {
        **quotient(per_image[BATCHES[-1]], per_image[BATCHES[0]]),
        "mark": "<= 1",
        "milliseconds_per_image": {str(n): round(1000 * float(np.median(per_image[n])), 2) for n in BATCHES},
    }


def peers_row(case: Case) -> dict:
    """Time a step of each peer's activation maximization at its defaults over one of ours: the same network, class score and size."""
    if not case.model.source.startswith("keras") and case.model.keras_model.name.lower() != "vgg16":
        return {"left out": "peers are measured on VGG16"}
    if case.model.dtype != "float32":
        return {"left out": "peers compute in float32, and so have we to: --dtype float32"}
    steps: dict[str, Callable] = {"ours": maximize_step(case, 1)}
    marks = {"tf-keras-vis": 2.3, "xplique": 1.4}
    with contextlib.ExitStack() as stack:
        for name in PEERS:
            for how, with_onednn in (("", False), (" with oneDNN", True)):
                steps[name + how] = stack.enter_context(peer(name, WORK / "peers", with_onednn=with_onednn))
        seconds = seconds_in_turn(steps, case.n_turns)
    return {
        name: quotient(seconds[name], seconds["ours"]) | ({"mark": f">= {marks[name]}"} if name in marks else {})
        for name in steps
        if name != "ours"
    }


def collect_row(case: Case) -> dict:
    """Images a second of the collector's pass over those of bare batched forward passes, decoding included."""
    forward = case.model.forward(case.model.default_layers)
    # Sums instead of maps: what is measured is the network, not the copying of its activations.
    compiled = backend.compile(lambda images: [ops.sum(values) for values in forward(images).values()])
    paths = case.paths[: len(case.paths) // 32 * 32]

    def bare() -> float:
        for start in range(0, len(paths), 32):
            batch = np.stack([load_image(path, case.model.input_size) for path in paths[start : start + 32]])
            ops.convert_to_numpy(compiled(ops.convert_to_tensor(batch))[-1])
            if start == 0:
                started = time.perf_counter()
        return time.perf_counter() - started

    def ours() -> float:
        times: list[float] = []

        def progress(n_finished, total, message) -> None:
            if len(times) < 2 and (not times or message.startswith("components")):
                times.append(time.perf_counter())  # after the first batch, which is compiled, and when all is written

        sd.collect(case.model, paths, progress=progress)
        return times[1] - times[0]

    seconds = seconds_in_turn({"bare": bare, "ours": ours}, max(3, case.n_turns // 5))
    n_images = len(paths) - 32
    return {
        **quotient(seconds["bare"], seconds["ours"]),
        "mark": ">= 0.85",
        "images_per_second": {name: round(n_images / float(np.median(values)), 1) for name, values in seconds.items()},
        "n_images": n_images,
    }


def memory_row(case: Case) -> dict:
    """Peak memory of collecting many images over that of few, each in a process of its own."""
    if not Path(case.model.source).exists() and case.model.source not in NETWORKS:
        return {"left out": "a process of its own cannot load a network without weights"}
    peaks = {}
    for n_images in MEMORY_IMAGES:
        folder = WORK / f"many_{n_images}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(n_images):
            link = folder / f"{i:05d}{case.paths[i % len(case.paths)].suffix}"
            if not link.exists():
                link.symlink_to(case.paths[i % len(case.paths)].resolve())
        code = (
            "import sys, warnings; warnings.simplefilter('ignore'); import stochdeconv as sd\n"
            "sd.collect(sd.load_model(sys.argv[1]), sys.argv[2])\n"
            # Not ru_maxrss, which begins at what this program, its parent, had.
            "lines = open('/proc/self/status').read().splitlines()\n"
            "print(next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024)"
        )
        command = [sys.executable, "-c", code, case.model.source, str(folder)]
        peaks[n_images] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    value = round(peaks[MEMORY_IMAGES[1]] / peaks[MEMORY_IMAGES[0]], 3)
    return {"value": value, "mark": "<= 1.1", "megabytes": {str(n): round(peak) for n, peak in peaks.items()}}


def help_row(_case: Case) -> dict:
    """Seconds until ``stochdeconv --help`` has printed."""
    command = [sys.executable, "-c", "from stochdeconv.cli import main; main()", "--help"]

    def ask() -> None:
        subprocess.run(command, check=True, capture_output=True)

    seconds = seconds_in_turn({"help": ask}, 7)["help"]
    low, high = np.percentile(seconds, [10, 90])
    return {
        "value": round(float(np.median(seconds)), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "mark": "< 0.5 seconds",
    }


ROWS: dict[str, Callable[[Case], dict]] = {
    "help": help_row,
    "maximize": maximize_row,
    "generate": generate_row,
    "batch": batch_row,
    "peers": peers_row,
    "collect": collect_row,
    "memory": memory_row,
}


def table_row(name: str, figure: dict) -> str:
    """Write a figure as a row of a table."""
    if "value" in figure:
        spread = f" ({figure['low']} to {figure['high']})" if "low" in figure else ""
        more = {
            key: value for key, value in figure.items() if key not in ("value", "low", "high", "mark", "measured_on")
        }
        return f"| {name} | {figure['value']}{spread} | {figure.get('mark', '')} | {json.dumps(more) if more else ''} |"
    return "\n".join(
        table_row(f"{name}:{part}", of_part) if isinstance(of_part, dict) else f"| {name} | {of_part} | | |"
        for part, of_part in figure.items()
        if part != "measured_on"
    )


if __name__ == "__main__":
    main()
