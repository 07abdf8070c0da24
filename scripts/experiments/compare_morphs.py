"""Does suppressing outliers make better morphs? Every start turned into every class, over outlier weights and strengths, judged.

The statistics name the classes that the starts turn into and the network; where a start is a class, `--statistics-of-starts` may hold its
own. Variants use the seeds 0, 1, 2, …; nothing is picked. What is finished is not made again, so the run can be stopped and continued.

    python scripts/experiments/compare_morphs.py china.png church --into tench.h5 parachute.h5 --statistics-of-starts church.h5
        --judge mobilenet.keras -o out/morphs --weights 0 1 3 10 --strengths 4 6
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
from arguments import argument_parser
from finished_runs import images_of, save_sheet

import stochdeconv as sd
from stochdeconv.cli.terminal import format_table
from stochdeconv.files import write_atomically
from stochdeconv.methods.morph import is_photograph
from stochdeconv.methods.outlier_suppression import suppression
from stochdeconv.methods.recognition import recognise
from stochdeconv.methods.runs import is_made


def main() -> None:
    """Make what is missing, print what the judge says of it, and save a sheet of the first variants."""
    parser = argument_parser(__doc__, "model_of_statistics", "judge", "output", n_images=4, n_steps=128, seed=0)
    parser.add_argument("starts", nargs="+", help="photographs and classes")
    parser.add_argument("--into", type=Path, nargs="+", required=True, help="statistics of the classes they turn into")
    parser.add_argument("--statistics-of-starts", type=Path, nargs="+", default=[])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 3.0], help="outlier weights; 0: none")
    parser.add_argument("--strengths", type=float, nargs="+", default=[4.0])
    arguments = parser.parse_args()

    targets = [sd.load_statistics(path) for path in arguments.into]
    of_starts = {of.class_index: of for of in map(sd.load_statistics, arguments.statistics_of_starts)}
    model = sd.load_model(arguments.model or targets[0].model_source)
    judge = sd.load_model(arguments.judge)
    settings = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}

    morphs: list[dict[str, object]] = []
    sheet, captions = [], []
    for start, target in product(arguments.starts, targets):
        sheet.append([])
        for weight, strength in product(arguments.weights, arguments.strengths):
            folder = arguments.output / f"weight_{weight:g}_strength_{strength:g}"
            of_this = {**settings, "strength": strength, "outlier_weight": weight or None}
            run = make_morph(model, start, target, of_starts, folder, **of_this)
            judged = judge_morph(judge, run, target)
            morphs.append(
                {
                    "start": start_label(model, start),
                    "target": target.class_name,
                    "weight": weight,
                    "strength": strength,
                    **judged,
                }
            )
            print(*morphs[-1].values(), flush=True)
            sheet[-1].append(images_of(run)[0])
            captions.append(f"{morphs[-1]['start']} to {target.class_name}\nweight {weight:g}, strength {strength:g}")
    save_sheet(arguments.output / "sheet.png", sheet, captions)
    networks = {"model": model, "judge": judge}
    record = {
        "settings": settings,
        **{role: {"name": network.name, "weights_hash": network.weights_hash} for role, network in networks.items()},
        "statistics": {of.class_name: of.hash() for of in (*targets, *of_starts.values())},
        "morphs": morphs,
    }
    write_atomically(arguments.output / "morphs.json", json.dumps(record, indent=1).encode())
    print_table(morphs)


def start_label(model, start: str) -> str:
    """Name a start: a photograph by its file, a class by its label."""
    return Path(start).stem if is_photograph(start) else model.find_class(start).label


def make_morph(
    model, start: str, target, of_starts: dict, folder: Path, *, outlier_weight: float | None, **settings
) -> Path:
    """Turn a start into the class of the statistics `target`, unless that is made; return the run folder."""
    classes = [*([] if is_photograph(start) else [model.find_class(start)]), model.find_class(target.class_index)]
    statistics = [
        *(of_starts[start_class.index] for start_class in classes[:-1] if start_class.index in of_starts),
        target,
    ]
    held_by = statistics if outlier_weight else []
    statistics_hash = suppression(model, held_by, classes, weight=outlier_weight or 0.0).statistics_hash
    label = start_label(model, start)
    run = folder / f"{label}_{target.class_name}"
    settings["outlier_weight"] = outlier_weight
    if not is_made(
        run,
        "morph",
        model=model,
        statistics_hash=statistics_hash,
        start=start if is_photograph(start) else label,
        **settings,
    ):
        result = sd.morph(model, start, target.class_index, n_frames=2, suppress_outliers=held_by or None, **settings)
        result.save(run, overwrite=True)
    return run


def judge_morph(judge, run: Path, target) -> dict[str, float]:
    """Let the judge say how sure it is of the class, and how often it comes first."""
    probabilities = recognise(judge, images_of(run))
    index = judge.class_index(target.wnid or target.class_name)
    return {
        "probability": float(probabilities[:, index].mean()),
        "top1": float(np.mean(probabilities.argmax(axis=1) == index)),
    }


def print_table(morphs: list[dict]) -> None:
    """Print a row for each weight and strength, a column for each start."""
    starts = list(dict.fromkeys(morph["start"] for morph in morphs))
    rows = [["weight", "strength", *starts, "all"]]
    for weight, strength in dict.fromkeys((morph["weight"], morph["strength"]) for morph in morphs):
        of_row = [morph for morph in morphs if (morph["weight"], morph["strength"]) == (weight, strength)]
        by_start = [[morph for morph in of_row if morph["start"] == start] for start in starts]
        rows.append([f"{weight:g}", f"{strength:g}", *map(average_text, [*by_start, of_row])])
    print(format_table(rows))


def average_text(rows: list[dict]) -> str:
    """Write the judge's mean probability and how often the class comes first."""
    return f"{np.mean([row['probability'] for row in rows]):.0%}, {np.mean([row['top1'] for row in rows]):.0%}"


if __name__ == "__main__":
    main()
