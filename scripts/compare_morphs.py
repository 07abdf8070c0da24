"""Does suppressing outliers make better morphs? Every start turned into every class, over outlier weights and strengths, judged.

The statistics name the classes that the starts turn into and the network; where a start is a class, `--statistics-of-starts` may hold its
own. Variants use the seeds 0, 1, 2, …; nothing is picked. What is finished is not made again, so the run can be stopped and continued.

    python scripts/compare_morphs.py china.png church --into tench.h5 parachute.h5 --statistics-of-starts church.h5
        --judge mobilenet.keras -o out/morphs --weights 0 1 3 10 --strengths 4 6
"""

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np

import stochdeconv as sd
from stochdeconv.cli.terminal import format_table
from stochdeconv.files import write_atomically
from stochdeconv.images.files import load_image, save_png
from stochdeconv.images.sheets import contact_sheet
from stochdeconv.methods.morph import is_photograph
from stochdeconv.methods.outlier_suppression import suppression
from stochdeconv.methods.recognition import recognise
from stochdeconv.methods.runs import RECORD, read_record


def main() -> None:
    """Make what is missing, print what the judge says of it, and save a sheet of the first variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("starts", nargs="+", help="photographs and classes")
    parser.add_argument("--into", type=Path, nargs="+", required=True, help="statistics of the classes they turn into")
    parser.add_argument("--statistics-of-starts", type=Path, nargs="+", default=[])
    parser.add_argument("-m", "--model", help="the network, if it is not where the files say it was")
    parser.add_argument("--judge", required=True, help="another network, which judges")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 3.0], help="outlier weights; 0: none")
    parser.add_argument("--strengths", type=float, nargs="+", default=[4.0])
    parser.add_argument("-n", "--n-images", type=int, default=4)
    parser.add_argument("--n-steps", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    targets = [sd.load_statistics(path) for path in arguments.into]
    of_starts = {known.class_index: known for known in map(sd.load_statistics, arguments.statistics_of_starts)}
    model = sd.load_model(arguments.model or targets[0].model_source)
    judge = sd.load_model(arguments.judge)
    how = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}

    found: list[dict[str, object]] = []
    shown, captions = [], []
    settings = list(product(arguments.weights, arguments.strengths))
    for start, target in product(arguments.starts, targets):
        classes = [*([] if is_photograph(start) else [model.find_class(start)]), model.find_class(target.class_index)]
        label = Path(start).stem if is_photograph(start) else classes[0].label
        known = [*(of_starts[one.index] for one in classes[:-1] if one.index in of_starts), target]
        for weight, strength in settings:
            name = f"weight_{weight:g}_strength_{strength:g}"
            folder = arguments.output / name / f"{label}_{target.class_name}"
            held_by = known if weight else []
            of_this = {**how, "strength": strength, "outlier_weight": weight or None}
            statistics_hash = suppression(model, held_by, classes, weight=weight).statistics_hash
            begun = start if is_photograph(start) else label
            if not is_made(folder, {"start": begun, **of_this}, model.weights_hash, statistics_hash):
                result = sd.morph(
                    model, start, target.class_index, n_frames=2, suppress_outliers=held_by or None, **of_this
                )
                result.save(folder, overwrite=True)
            images = [load_image(path) for path in sorted(folder.glob("image_[0-9]*.png"))]
            sure = recognise(judge, images)
            index = judge.class_index(target.wnid or target.class_name)
            row = {
                "start": label,
                "target": target.class_name,
                "weight": weight,
                "strength": strength,
                "probability": float(sure[:, index].mean()),
                "top1": float(np.mean(sure.argmax(axis=1) == index)),
            }
            found.append(row)
            print(*row.values(), flush=True)
            shown.append(images[0])
            captions.append(f"{row['start']} to {row['target']}\nweight {weight:g}, strength {strength:g}")
    save_png(arguments.output / "sheet.png", contact_sheet(np.stack(shown), columns=len(settings), captions=captions))
    networks = {"model": model, "judge": judge}
    record = {
        "settings": how,
        **{what: {"name": one.name, "weights_hash": one.weights_hash} for what, one in networks.items()},
        "statistics": {one.class_name: one.hash() for one in (*targets, *of_starts.values())},
        "morphs": found,
    }
    write_atomically(arguments.output / "morphs.json", json.dumps(record, indent=1).encode())
    starts = list(dict.fromkeys(row["start"] for row in found))
    rows = [["weight", "strength", *starts, "all"]]
    for weight, strength in settings:
        chosen = [row for row in found if (row["weight"], row["strength"]) == (weight, strength)]
        by_start = [[row for row in chosen if row["start"] == start] for start in starts]
        rows.append([f"{weight:g}", f"{strength:g}", *map(told, [*by_start, chosen])])
    print(format_table(rows))


def is_made(run: Path, how: dict[str, object], weights_hash: str, statistics_hash: str | None) -> bool:
    """Tell whether a run with these settings, of this network and these statistics, is there and complete."""
    if not (run / RECORD).is_file():
        return False
    record = read_record(run)
    made = {**record["settings"], "seed": record["seed"]}
    return (
        record["complete"]
        and all(made.get(name) == value for name, value in how.items())
        and record["model"]["weights_hash"] == weights_hash
        and record["statistics_hash"] == statistics_hash
    )


def told(rows: list[dict]) -> str:
    """Write the judge's mean probability and how often the class comes first."""
    return f"{np.mean([row['probability'] for row in rows]):.0%}, {np.mean([row['top1'] for row in rows]):.0%}"


if __name__ == "__main__":
    main()
