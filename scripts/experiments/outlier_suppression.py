"""Does suppressing outliers bring activation maximization nearer to photographs? Every preset without and with it, and the real ones.

Objects are counted twice. ``cam_peaks`` are places at which the judge sees the class half as strongly as in photographs, so that what
it does not recognise holds no object. ``own_peaks`` are places at which it sees the class half as strongly as anywhere in the same
picture: how often the picture repeats what it shows, however weakly it is recognised (one that is nowhere recognised counts none).

The statistics name the classes and the network; photographs are a folder a class (or an .npz of `stochdeconv measure`) that the
statistics have not seen. Images use the seeds 0, 1, 2, …; nothing is picked. What is finished is not made again, so the run can be
stopped and continued.

    python scripts/experiments/outlier_suppression.py church.h5 golf_ball.h5 --real held_out --judge mobilenet.keras -o out
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from arguments import argument_parser
from finished_runs import figure_text, halved, image_paths, images_of, save_sheet

import stochdeconv as sd
from stochdeconv.cli.terminal import format_table
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.judge import Judge
from stochdeconv.evaluation.measure import measure
from stochdeconv.evaluation.objects import PEAK_FRACTION, count_peaks
from stochdeconv.evaluation.photographs import SUFFIX, load_photographs
from stochdeconv.files import write_atomically
from stochdeconv.images.folders import find_class_folders, find_images
from stochdeconv.methods.maximize import PRESETS
from stochdeconv.methods.runs import is_made
from stochdeconv.statistics.class_statistics import INPUT, ClassStatistics

FIGURES = ("cam_peaks", "own_peaks", "judge_top1", "judge_top5", "kid", "pairwise_distance")


def main() -> None:
    """Read the arguments, make what is missing and print the figures."""
    parser = argument_parser(__doc__, "model_of_statistics", "judge", "output", n_images=8, n_steps=128, seed=0)
    parser.add_argument("statistics", type=Path, nargs="+", help="files of class statistics, all of one network")
    parser.add_argument(
        "--real", type=Path, required=True, help="photographs, a folder a class, or what was measured of them"
    )
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--weights", type=float, nargs="+", default=[10.0], help="outlier weights, each a contestant")
    parser.add_argument(
        "--n-layers",
        type=int,
        nargs="+",
        default=[0],
        help="only so many of the first maps, each a contestant; 0: all of them",
    )
    arguments = parser.parse_args()
    settings = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}
    classes = [sd.load_statistics(path) for path in arguments.statistics]
    model = sd.load_model(arguments.model or classes[0].model_source)
    judge = sd.load_model(arguments.judge)

    runs: dict[str, list[Path]] = {}
    for preset in arguments.presets:
        for weight, n_layers in [(0.0, 0), *product(arguments.weights, arguments.n_layers)]:
            name = preset + f"_without_outliers_{weight:g}" * bool(weight) + f"_of_{n_layers}" * bool(n_layers)
            for statistics in classes:
                run = arguments.output / name / (statistics.wnid or statistics.class_name)
                runs.setdefault(name, []).append(run)
                layers = first_layers(statistics, n_layers) if n_layers else statistics
                statistics_hash = layers.hash() if weight else None
                if not is_made(
                    run,
                    "maximize",
                    model=model,
                    statistics_hash=statistics_hash,
                    outlier_weight=weight or None,
                    **settings,
                ):
                    outliers = {"suppress_outliers": layers, "outlier_weight": weight} if weight else {}
                    result = sd.maximize(model, statistics.class_index, preset=preset, **outliers, **settings)
                    print(result.save(run, overwrite=True) / "contact_sheet.png", flush=True)
    for number, statistics in enumerate(classes):
        save_class_sheet(arguments.output / f"{statistics.class_name}.png", [of[number] for of in runs.values()])

    report = arguments.output / "report"
    metrics = sd.compare(runs, real=arguments.real, judge=judge, output=report, overwrite=True)
    add_own_peaks(metrics, runs, classes, arguments.real, Judge(judge), model.input_size)
    write_atomically(report / "metrics.json", json.dumps(metrics, indent=1).encode())
    everybody = {**metrics["contestants"], "real": metrics["real"]}
    rows = [
        ["", *FIGURES],
        *([name, *(figure_text(of[key], interval=True) for key in FIGURES)] for name, of in everybody.items()),
    ]
    print(format_table(rows))
    rows = [["cam_peaks, own_peaks", *everybody]]
    for statistics, of_class in zip(classes, metrics["classes"].values(), strict=True):
        of_each = {**of_class["contestants"], "real": of_class["real"]}
        counts = [f"{figure_text(of['cam_peaks'])}, {figure_text(of['own_peaks'])}" for of in of_each.values()]
        rows.append([statistics.class_name, *counts])
    print(format_table(rows))


def first_layers(statistics: ClassStatistics, n: int) -> ClassStatistics:
    """Leave out all but the first layers after the image."""
    kept = [INPUT, *(name for name in statistics if name != INPUT)][: 1 + n]
    return replace(statistics, layers={name: statistics[name] for name in kept})


def add_own_peaks(
    metrics: dict, runs: dict[str, list[Path]], classes: list, real: Path, judge: Judge, size: tuple[int, int]
) -> None:
    """Count, class by class, the places that are half as strong as the strongest of their own picture."""

    def maps(paths: list[Path], class_index: int) -> np.ndarray:
        return measure(paths, judge, size=size, class_index=class_index, tick=lambda n: None).cams

    for number, (statistics, of_class) in enumerate(zip(classes, metrics["classes"].values(), strict=True)):
        key = ClassKey(statistics.wnid, statistics.class_name)
        index = judge.class_index(wnid=key.wnid, label=key.label)
        if real.suffix == SUFFIX:
            photographs = load_photographs(real).of(key).cams
        else:
            folders = [
                folder for folder in find_class_folders(real) if judge.model.find_class(folder.name).index == index
            ]
            photographs = maps(find_images(folders[0]), index)
        of_class["real"]["own_peaks"] = {"value": own_peaks(photographs), "low": None, "high": None}
        for name, of in of_class["contestants"].items():
            peaks = own_peaks(maps(image_paths(runs[name][number]), index))
            of["own_peaks"] = {"value": peaks, "low": None, "high": None}
    of_classes = list(metrics["classes"].values())
    for name, of in metrics["contestants"].items():
        of["own_peaks"] = average([of_class["contestants"][name]["own_peaks"] for of_class in of_classes])
    metrics["real"]["own_peaks"] = average([of_class["real"]["own_peaks"] for of_class in of_classes])


def average(figures: list[dict]) -> dict[str, float | None]:
    """Average over classes."""
    return {"value": float(np.mean([figure["value"] for figure in figures])), "low": None, "high": None}


def own_peaks(maps: np.ndarray) -> float:
    """Count the peaks above half of each map's own maximum, averaged over the maps."""
    return float(np.mean([count_peaks(peaks[None], threshold=PEAK_FRACTION * peaks.max())[0] for peaks in maps]))


def save_class_sheet(path: Path, runs: list[Path]) -> None:
    """Put the images of runs on one sheet at half their size, a row a run."""
    rows = [halved(images_of(run)) for run in runs]
    save_sheet(path, rows, [run.parent.name for run, row in zip(runs, rows, strict=True) for _ in row])


if __name__ == "__main__":
    main()
