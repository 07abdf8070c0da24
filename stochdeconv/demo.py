"""The main job on what ships with the package: statistics, sampled images, baselines, and the report that compares them."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from stochdeconv.assets import HELD_OUT, JUDGE, NETWORK, shipped_file
from stochdeconv.errors import ExistingOutputError
from stochdeconv.methods.maximize import PRESETS
from stochdeconv.settings import check_count

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import Step

CLASSES = ("church", "English springer", "golf ball")
SAMPLERS = ("local", "chain")
#: Photographs that come with scikit-learn; crops of them are what the demo collects on.
PHOTOGRAPHS = ("china.jpg", "flower.jpg")


@dataclass(frozen=True)
class Effort:
    """How much the demo does.

    Attributes
    ----------
    n_images : int
        Images of each class, by each method.
    n_steps : int
        Steps of each method.
    n_crops : int
        Crops of each photograph that are collected on.
    """

    n_images: int
    n_steps: int
    n_crops: int


FULL, QUICK = Effort(n_images=4, n_steps=36, n_crops=32), Effort(n_images=2, n_steps=8, n_crops=8)

_RUNS_AT_ONCE = 2
_CROPS = "crops"
Progress = Callable[[int, int, str], None]


def demo(
    output: str | Path,
    *,
    quick: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Do the main job once, with the network, judge and statistics that ship; no download, no network access.

    Statistics are collected for real on crops of the two photographs that come with scikit-learn. Those that the images are made
    from ship with the package: ten classes, some 750 photographs each. Ours and Simonyan-style baselines get equal numbers of
    images and steps, and are compared with what the judge measured of photographs that no statistics have seen.

    Parameters
    ----------
    output : path
        Folder: ``crops`` and their ``crops.h5``, ``SAMPLER/CLASS`` and ``PRESET/CLASS`` run folders, ``metrics.json`` and ``report.html``.
    quick : bool
        Fewer images and steps: enough to see that everything works, too few for good pictures.
    seed : int
        Target, start and random views of image i depend on (seed, i) alone.
    overwrite : bool
        Replace an earlier demo.
    progress : callable, optional
        ``progress(n_done, n_all, message)``.

    Returns
    -------
    dict
        The content of metrics.json.

    Raises
    ------
    ExistingOutputError
        The folder holds an earlier demo, or a part of one.
    SettingsError
        The seed is no whole number from 0 on.
    KeyboardInterrupt
        On Ctrl-C; what was made until then stays.
    """
    from stochdeconv.evaluation.compare import compare
    from stochdeconv.networks.image_model import load_model

    check_count("seed", seed, at_least=0)
    output, effort = Path(output), QUICK if quick else FULL
    _make_room(output, overwrite=overwrite)
    # What comes before the runs, and what comes after them, takes about as long as one.
    n_parts = len(CLASSES) * (len(SAMPLERS) + len(PRESETS)) + 2
    counter = _Counter(progress, n_parts=n_parts, n_steps=effort.n_steps)
    collecting = f"collecting statistics on crops of {' and '.join(PHOTOGRAPHS)}, of scikit-learn"
    counter.say(collecting, 0.0, f": loading {NETWORK}")
    model = load_model(NETWORK)
    _collect_crops(model, output, effort.n_crops, seed=seed, progress=counter.on_count(collecting))
    folders, judge = _make_runs(model, output, effort, seed=seed, overwrite=overwrite, counter=counter)
    return compare(
        folders,
        real=shipped_file(HELD_OUT),
        judge=judge,
        output=output,
        seed=seed,
        progress=counter.on_count("comparing"),
    )


class _Counter:
    """How far the demo is: parts of equal length, some of them at the same time."""

    def __init__(self, report: Progress | None, *, n_parts: int, n_steps: int):
        self._report = report
        self._n_steps = n_steps
        self._n_all = n_parts * n_steps
        self._shares: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_stopped = False

    def stop(self) -> None:
        """End the optimisations that are followed, each as Ctrl-C would, at its next step."""
        self._is_stopped = True

    def go_on(self) -> None:
        """Raise KeyboardInterrupt where all are to end."""
        if self._is_stopped:
            raise KeyboardInterrupt

    def say(self, part: str, share: float, message: str) -> None:
        """Report how much of a part is done."""
        with self._lock:
            self._shares[part] = max(share, self._shares.get(part, 0.0))
            if self._report is not None:
                self._report(round(sum(self._shares.values()) * self._n_steps), self._n_all, f"{part}{message}")

    def on_count(self, part: str) -> Progress:
        """Make what counts through a part."""
        return lambda n, n_all, message: self.say(part, n / n_all, f": {message}")

    def on_step(self, part: str) -> Callable[[Step], None]:
        """Make what follows an optimisation."""

        def follow(step: Step) -> None:
            self.go_on()
            self.say(part, step.step / step.n_steps, f", step {step.step} of {step.n_steps}\n{step}")

        return follow


def _make_runs(
    model: ImageModel, output: Path, effort: Effort, *, seed: int, overwrite: bool, counter: _Counter
) -> tuple[dict[str, list[Path]], ImageModel]:
    """Make images of every class by every sampler and preset; the folders by method, and who judges."""
    # A class's samplers share a program: the second comes when the first has traced it.
    runs = [(class_name, method) for class_name in CLASSES for method in (SAMPLERS[0], *PRESETS, *SAMPLERS[1:])]
    options = {"n_images": effort.n_images, "n_steps": effort.n_steps, "seed": seed}
    # Two at a time: small batches leave a processor idle, and tracing one program leaves the others. BLAS on one thread each: how its
    # threads part a sum must not depend on what else runs.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_RUNS_AT_ONCE) as pool:
        made = {run: pool.submit(_make_run, model, *run, output, options, overwrite, counter) for run in runs}
        judge = pool.submit(_ready_judge)
        all_work: list[Future] = [*made.values(), judge]
        try:
            for work in as_completed(all_work):
                work.result()
        except BaseException:
            counter.stop()
            pool.shutdown(cancel_futures=True)
            raise
    folders = {
        method: [made[class_name, method].result() for class_name in CLASSES] for method in (*SAMPLERS, *PRESETS)
    }
    return folders, judge.result()


def _make_run(
    model: ImageModel, class_name: str, method: str, output: Path, options: dict, overwrite: bool, counter: _Counter
) -> Path:
    """Make images of a class by one sampler or preset; the folder."""
    from stochdeconv.methods.generate import generate
    from stochdeconv.methods.maximize import maximize
    from stochdeconv.methods.runs import RunInterrupted
    from stochdeconv.networks.classes import file_stem
    from stochdeconv.statistics.file import load_statistics

    stem = file_stem(model.find_class(class_name), model.class_names)
    manner = f"sampled by {method}" if method in SAMPLERS else f"class neuron maximised, {method}"
    options = {**options, "callback": counter.on_step(f"{class_name}: {manner}")}
    counter.go_on()
    try:
        if method in SAMPLERS:
            statistics = load_statistics(shipped_file(NETWORK, f"{stem}.h5"))
            result = generate(model, statistics, sampler=method, **options)
        else:
            result = maximize(model, class_name, preset=method, **options)
    except BaseException as error:
        counter.stop()  # at once: this thread would begin another
        if isinstance(error, RunInterrupted):
            error.result.save(output / method / stem, overwrite=overwrite)
        raise
    return result.save(output / method / stem, overwrite=overwrite)


def _ready_judge() -> ImageModel:
    """Load the judge, with what it looks by and the report is drawn by, while images are made."""
    from stochdeconv.evaluation.judge import Judge
    from stochdeconv.networks.image_model import load_model

    importlib.import_module("stochdeconv.evaluation.report.page")
    model = load_model(JUDGE)
    Judge(model).look(np.zeros((1, *model.input_shape), np.float32))
    return model


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise where an earlier demo may not be replaced, or the output is no folder."""
    from stochdeconv.evaluation.compare import METRICS, REPORT

    if output.exists() and not output.is_dir():
        raise ExistingOutputError(f"'{output}' is a file; the demo writes a folder; choose another with output=")
    names = [REPORT, METRICS, _CROPS, f"{_CROPS}.h5", *SAMPLERS, *PRESETS]
    held = [name for name in names if (output / name).exists()]
    if held and not overwrite:
        raise ExistingOutputError(
            f"'{output}' already holds an earlier demo ({', '.join(held)}); choose another folder with output=, or "
            "pass overwrite=True"
        )


def _make_room(output: Path, *, overwrite: bool) -> None:
    """Refuse an earlier demo, or take its report and crops away; its runs are replaced one by one."""
    from stochdeconv.evaluation.compare import METRICS, REPORT

    refuse_existing(output, overwrite=overwrite)
    for old in (REPORT, METRICS, f"{_CROPS}.h5"):
        (output / old).unlink(missing_ok=True)
    for photograph in PHOTOGRAPHS:
        for crop in (output / _CROPS).glob(f"{Path(photograph).stem}_*.png"):
            crop.unlink()


def _collect_crops(model: ImageModel, output: Path, n_crops: int, *, seed: int, progress: Progress) -> None:
    """Collect the statistics of random square crops of scikit-learn's photographs."""
    from sklearn.datasets import load_sample_image

    from stochdeconv.images.files import save_png
    from stochdeconv.statistics.collection import collect
    from stochdeconv.statistics.file import save_statistics

    rng = np.random.default_rng(seed)
    paths = []
    for name in PHOTOGRAPHS:
        photograph = load_sample_image(name)
        height, width = photograph.shape[:2]
        for number in range(n_crops):
            side = int(rng.integers(height // 4, height // 2))
            top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            path = output / _CROPS / f"{Path(name).stem}_{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_png(path, photograph[top : top + side, left : left + side] / np.float32(255))
            paths.append(path)
    # As coarse as what ships.
    statistics = collect(
        model, paths, n_components=n_crops // 2, layout_size=model.input_size[0] // 16, progress=progress
    )
    save_statistics(statistics, output / f"{_CROPS}.h5")
