"""The main job on what ships with the package: statistics, sampled images, baselines, and the report that compares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stochdeconv.assets import HELD_OUT, JUDGE, NETWORK, shipped_file
from stochdeconv.errors import ExistingOutputError
from stochdeconv.methods.maximize import PRESETS
from stochdeconv.settings import check_count

if TYPE_CHECKING:
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.loop import Step

CLASSES = ("church", "English springer", "golf ball")
SAMPLERS = ("bootstrap", "chain")
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


FULL, QUICK = Effort(n_images=4, n_steps=128, n_crops=32), Effort(n_images=2, n_steps=40, n_crops=8)

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
    counter.say(f"loading {NETWORK}")
    model = load_model(NETWORK)
    on_crop = counter.on_count(f"collecting statistics on crops of {' and '.join(PHOTOGRAPHS)}, of scikit-learn")
    _collect_crops(model, output, effort.n_crops, seed=seed, progress=on_crop)
    counter.begin_next()
    folders = _make_runs(model, output, effort, seed=seed, overwrite=overwrite, counter=counter)
    return compare(
        folders,
        real=shipped_file(HELD_OUT),
        judge=load_model(JUDGE),
        output=output,
        seed=seed,
        progress=counter.on_count("comparing"),
    )


class _Counter:
    """How far the demo is: parts of equal length, one after another."""

    def __init__(self, report: Progress | None, *, n_parts: int, n_steps: int):
        self._report = report
        self._n_steps = n_steps
        self._n_all = n_parts * n_steps
        self._n_before = 0

    def begin_next(self) -> None:
        """Count a part as finished."""
        self._n_before += self._n_steps

    def say(self, message: str, share: float = 0.0) -> None:
        """Report how far the part is."""
        if self._report is not None:
            self._report(self._n_before + round(share * self._n_steps), self._n_all, message)

    def on_count(self, what: str) -> Progress:
        """Make what counts through a part."""
        return lambda n, n_all, message: self.say(f"{what}: {message}", n / n_all)

    def on_step(self, what: str) -> Callable[[Step], None]:
        """Make what follows an optimisation."""
        return lambda step: self.say(f"{what}, step {step.step} of {step.n_steps}\n{step}", step.step / step.n_steps)


def _make_runs(
    model: ImageModel, output: Path, effort: Effort, *, seed: int, overwrite: bool, counter: _Counter
) -> dict[str, list[Path]]:
    """Make images of every class by every sampler and preset; the folders by method."""
    from stochdeconv.methods.generate import generate
    from stochdeconv.methods.maximize import maximize
    from stochdeconv.methods.runs import RunInterrupted
    from stochdeconv.networks.classes import file_stem
    from stochdeconv.statistics.file import load_statistics

    folders: dict[str, list[Path]] = {name: [] for name in (*SAMPLERS, *PRESETS)}
    options: dict[str, Any] = {"n_images": effort.n_images, "n_steps": effort.n_steps, "seed": seed}
    for class_name in CLASSES:
        stem = file_stem(model.find_class(class_name), model.class_names)
        statistics = load_statistics(shipped_file(NETWORK, f"{stem}.h5"))
        for name, finished in folders.items():
            manner = f"sampled by {name}" if name in SAMPLERS else f"class neuron maximised, {name}"
            options["callback"] = counter.on_step(f"{class_name}: {manner}")
            try:
                if name in SAMPLERS:
                    result = generate(model, statistics, sampler=name, **options)
                else:
                    result = maximize(model, class_name, preset=name, **options)
            except RunInterrupted as interrupt:
                interrupt.result.save(output / name / stem, overwrite=overwrite)
                raise
            finished.append(result.save(output / name / stem, overwrite=overwrite))
            counter.begin_next()
    return folders


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
