"""Does suppressing outliers bring activation maximization nearer to photographs? Every preset without and with it, and the real ones.

The statistics name the classes and the network; photographs are a folder a class (or an .npz of measure_photographs.py) that the
statistics have not seen. Images use the seeds 0, 1, 2, …; nothing is picked. What is finished is not made again, so the run can be
stopped and continued.

    python scripts/outlier_suppression.py church.h5 golf_ball.h5 --real held_out --judge mobilenet.keras -o out
"""

import argparse
from pathlib import Path

import numpy as np

import stochdeconv as sd
from stochdeconv.images import load_image, resize, save_png
from stochdeconv.methods.class_maximization import PRESETS
from stochdeconv.run_folder import RECORD, read_record
from stochdeconv.sheets import contact_sheet

FIGURES = ("cam_peaks", "judge_top1", "judge_top5", "kid", "pairwise_distance")


def main() -> None:
    """Read the arguments, make what is missing and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("statistics", type=Path, nargs="+", help="files of class statistics, all of one network")
    parser.add_argument("-m", "--model", help="the network, if it is not where the files say it was")
    parser.add_argument(
        "--real", type=Path, required=True, help="photographs, a folder a class, or what was measured of them"
    )
    parser.add_argument("--judge", required=True, help="another network, which judges")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--weights", type=float, nargs="+", default=[10.0], help="outlier weights, each a contestant")
    parser.add_argument("-n", "--n-images", type=int, default=8)
    parser.add_argument("--n-steps", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    how = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}
    known = [sd.load_statistics(path) for path in arguments.statistics]
    model = sd.load_model(arguments.model or known[0].model_source)

    runs: dict[str, list[Path]] = {}
    for preset in arguments.presets:
        for weight in (0.0, *arguments.weights):
            name = f"{preset}_without_outliers_{weight:g}" if weight else preset
            for statistics in known:
                run = arguments.output / name / (statistics.wnid or statistics.class_name)
                runs.setdefault(name, []).append(run)
                if not is_made(run, model, statistics, weight, how):
                    given = {"suppress_outliers": statistics, "outlier_weight": weight} if weight else {}
                    result = sd.maximize(model, statistics.class_index, preset=preset, **given, **how)
                    print(result.save(run, overwrite=True) / "contact_sheet.png", flush=True)
    for number, statistics in enumerate(known):
        save_sheet(arguments.output / f"{statistics.class_name}.png", [found[number] for found in runs.values()])

    metrics = sd.compare(
        runs,
        real=arguments.real,
        judge=sd.load_model(arguments.judge),
        output=arguments.output / "report",
        overwrite=True,
    )
    width = max(map(len, runs))
    print("".join(f"{word:<20}" for word in (" " * width, *FIGURES)).rstrip())
    for name, figures in {**metrics["contestants"], "real": metrics["real"]}.items():
        print(name.ljust(max(width, 20)), *(told(figures[key]).ljust(19) for key in FIGURES))
    for statistics, of_class in zip(known, metrics["classes"].values(), strict=True):
        entrants = {**of_class["contestants"], "real": of_class["real"]}
        print(f"cam_peaks of {statistics.class_name}:", *(f"{n} {told(f['cam_peaks'])};" for n, f in entrants.items()))


def told(figure: dict[str, float | None]) -> str:
    """Write a figure with its interval."""
    if figure["value"] is None:
        return "-"
    return f"{figure['value']:.3g}" + (
        f" [{figure['low']:.3g}, {figure['high']:.3g}]" if figure["low"] is not None else ""
    )


def is_made(run: Path, model, statistics, weight: float, how: dict[str, int]) -> bool:
    """Tell whether a finished run is there that was made as it would be made now."""
    if not (run / RECORD).exists():
        return False
    record = read_record(run)
    settings = record["settings"]
    return (
        record["complete"]
        and record["model"]["weights_hash"] == model.weights_hash
        and record["statistics_hash"] == (statistics.hash() if weight else None)
        and settings["outlier_weight"] == (weight or None)
        and (record["n_images"], settings["n_steps"], record["seed"]) == tuple(how.values())
    )


def save_sheet(path: Path, runs: list[Path]) -> None:
    """Put the images of runs on one sheet at half their size, a row a run."""
    rows = [[load_image(image) for image in sorted(run.glob("image_*.png"))] for run in runs]
    images = np.stack([resize(image, (image.shape[0] // 2, image.shape[1] // 2)) for row in rows for image in row])
    captions = [run.parent.name for run, row in zip(runs, rows, strict=True) for _ in row]
    save_png(path, contact_sheet(images, columns=len(rows[0]), captions=captions))


if __name__ == "__main__":
    main()
