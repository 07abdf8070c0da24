"""One row per switch: what each part of the recipe, each sampler and each setting of the baselines is worth.

Every row makes the same number of images of the same classes with the same seeds, and is measured by the judge against photographs.
A finished row is one JSON file (settings and figures) with its features beside it; finished rows are not made again, so the run can
be stopped and continued, and rows can be added later. Tune on other classes than those that are reported, and against training
photographs (`--against train`).

    python scripts/experiments/ablation.py ../shared/data/imagenette/train -m squeezenet.keras --judge mobilenet.keras \
        --classes n01440764 n03425413 n03888257 --against train -o docs/results/tuning
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from arguments import argument_parser
from finished_runs import figure_text, image_paths

import stochdeconv as sd
from stochdeconv.errors import InputError
from stochdeconv.evaluation.figures import FIGURE_KEYS, Reference, measure_figures
from stochdeconv.evaluation.intervals import average, interval
from stochdeconv.evaluation.judge import Judge
from stochdeconv.evaluation.measure import measure
from stochdeconv.files import write_atomically
from stochdeconv.images.folders import find_images, hold_out
from stochdeconv.methods.recipe import Recipe, own_recipe
from stochdeconv.networks.classes import file_stem
from stochdeconv.sampling.exemplars import check_exemplars
from stochdeconv.sampling.samplers import EXEMPLARS, LOCAL, PLACE_BY_PLACE
from stochdeconv.sampling.scenes import check_local

COLUMNS = ("judge_top1", "judge_top5", "kid", "density", "coverage", "pairwise_distance", "spectrum_slope")

# Row -> (command, its arguments). What a row of `generate` does not name is the network's own recipe, which has other defaults where places
# are drawn; `general` is the recipe of networks without one of their own. The sampler is `bootstrap` where a row names none.
OURS = {
    "default": {},
    "sampler-chain": {"sampler": "chain"},
    "sampler-chain-gaussian": {"sampler": "chain", "row_weight": 0.0},
    "sampler-joint": {"sampler": "joint"},
    "sampler-independent": {"sampler": "independent"},
    "no-facets": {"recipe": {"facets": 0.0}},
    "facets-2": {"recipe": {"facets": 2.0}},
    "facets-8": {"recipe": {"facets": 8.0}},
    "no-layout": {"recipe": {"layout": 0.0, "shallow_layout": 0.0}},
    "no-shallow-layout": {"recipe": {"shallow_layout": 0.0}},
    "no-color-layout": {"recipe": {"color_layout": 0.0}},
    "no-moments": {"recipe": {"moments": 0.0}},
    "no-class-term": {"recipe": {"class_term": 0.0}},
    "class-term-1": {"recipe": {"class_term": 1.0}},
    "class-term-3": {"recipe": {"class_term": 3.0}},
    "class-score-0": {"recipe": {"class_score": 0.0}},
    "class-score-1": {"recipe": {"class_score": 1.0}},
    "class-score-10": {"recipe": {"class_score": 10.0}},
    "general": {"recipe": asdict(Recipe())},
    "no-total-variation": {"recipe": {"total_variation": 0.0}},
    "total-variation-2": {"recipe": {"total_variation": 2.0}},
    "total-variation-20": {"recipe": {"total_variation": 20.0}},
    "total-variation-200": {"recipe": {"total_variation": 200.0}},
    "total-variation-600": {"recipe": {"total_variation": 600.0}},
    "sharpness": {"recipe": {"sharpness": 0.3}},
    "spectrum": {"recipe": {"spectrum": 0.3}},
    "color": {"recipe": {"color": 0.3}},
    "jitter-0": {"recipe": {"jitter": 0}},
    "jitter-8": {"recipe": {"jitter": 8}},
    "shifts-only": {"recipe": {"scale": 0.0, "rotate": 0.0}},
    "shifts-only-total-variation-2": {"recipe": {"scale": 0.0, "rotate": 0.0, "total_variation": 2.0}},
    "large-views": {"recipe": {"scale": 0.1, "rotate": 5.0, "jitter": 6}},
    "large-views-total-variation-200": {"recipe": {"scale": 0.1, "rotate": 5.0, "jitter": 6, "total_variation": 200.0}},
    "decay": {"recipe": {"decay": True}},
    "deepest-first": {"recipe": {"order": "deepest-first"}},
    "pixels": {"recipe": {"parameterization": "pixels", "learning_rate": 0.02}},
    "rule-guided": {"gradient_rule": "guided"},
    "rule-deconvnet": {"gradient_rule": "deconvnet"},
    "rule-mix": {"gradient_rule": "mix"},
    "temperature-0.7": {"temperature": 0.7},
    "temperature-0": {"temperature": 0.0},
    "exemplars": {"sampler": "exemplars"},
    "local": {"sampler": "local"},
    "local-scenes-joint": {"sampler": "local", "scenes": "joint"},
    "local-scenes-bootstrap": {"sampler": "local", "scenes": "bootstrap"},
    "local-no-prior": {"sampler": "local", "recipe": {"patch_prior": 0.0}},
    "local-prior-0.1": {"sampler": "local", "recipe": {"patch_prior": 0.1}},
    "local-no-maps": {"sampler": "local", "recipe": {"maps": 0.0}},
    "local-maps-3": {"sampler": "local", "recipe": {"maps": 3.0}},
    "local-no-textures": {"sampler": "local", "recipe": {"moments": 0.0, "facets": 0.0}},
    "local-no-layout": {"sampler": "local", "recipe": {"layout": 0.0}},
    "local-no-class-term": {"sampler": "local", "recipe": {"class_term": 0.0}},
    "local-large-views": {"sampler": "local", "recipe": {"scale": 0.05, "rotate": 3.0}},
    "local-temperature-0": {"sampler": "local", "temperature": 0.0},
}
PRESETS = {
    "simonyan": {"preset": "simonyan"},
    "simonyan-l2-1e-6": {"preset": "simonyan", "l2": 1e-6},
    "simonyan-l2-1e-5": {"preset": "simonyan", "l2": 1e-5},
    "simonyan-l2-1e-4": {"preset": "simonyan", "l2": 1e-4},
    "regularised": {"preset": "regularised"},
    "regularised-blur-0.5": {"preset": "regularised", "blur": 0.5},
    "regularised-l2-1e-7": {"preset": "regularised", "l2": 1e-7},
    "regularised-jitter-16": {"preset": "regularised", "jitter": 16},
    "fourier": {"preset": "fourier"},
    "fourier-jitter-32": {"preset": "fourier", "jitter": 32},
    "fourier-l2-1e-5": {"preset": "fourier", "l2": 1e-5},
    "fourier-l2-1e-4": {"preset": "fourier", "l2": 1e-4},
}
ROWS = {name: ("generate", settings) for name, settings in OURS.items()} | {
    name: ("maximize", settings) for name, settings in PRESETS.items()
}


def main() -> None:
    """Read the arguments, make what is missing, print the table."""
    parser = argument_parser(__doc__, "model", "judge", "output", n_images=8, n_steps=128)
    parser.add_argument("images", type=Path, help="tree with one folder of photographs a class")
    parser.add_argument("--classes", nargs="+", required=True, help="folder names")
    parser.add_argument(
        "--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument(
        "--against", choices=("train", "held-out"), default="held-out", help="photographs to measure against"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("stats_cache/ablation"), help="folder of statistics and images"
    )
    parser.add_argument("--n-components", type=int, default=64)
    parser.add_argument(
        "--statistics",
        type=Path,
        help="folder of finished statistics, CLASS.h5, in place of collecting",
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    model, judge = sd.load_model(arguments.model), Judge(sd.load_model(arguments.judge))
    references = {name: reference_of(arguments, model, judge, name) for name in arguments.classes}
    made_with = {
        "model": model.weights_hash, "judge": judge.model.weights_hash, "against": arguments.against,
        "classes": arguments.classes, "n_images": arguments.n_images, "n_steps": arguments.n_steps,
    }  # fmt: skip
    for row in arguments.rows:
        path = arguments.output / f"{row}.json"
        if not path.exists():
            missing = missing_for(row, arguments, model)
            if missing is not None:
                print(f"{row:28} left out: {missing}", flush=True)
                continue
            content, features = make_row(row, arguments, model, judge, references)
            np.savez_compressed(path.with_suffix(".npz"), **features)
            write_atomically(
                path, (json.dumps({"row": row, "made_with": made_with, **content}, indent=1) + "\n").encode()
            )
        content = json.loads(path.read_text())
        others = [name for name, value in made_with.items() if content.get("made_with", {}).get(name) != value]
        if others:
            raise SystemExit(f"{path} was made with another {' and '.join(others)}; remove it, or choose another -o")
        print_row(row, content)


def missing_for(row: str, arguments: argparse.Namespace, model) -> str | None:
    """Say what a row needs that the statistics do not have."""
    check = {LOCAL: check_local, EXEMPLARS: check_exemplars}.get(ROWS[row][1].get("sampler"))
    if check is not None:
        try:
            for name in arguments.classes:
                check(statistics_of(arguments, model, name))
        except InputError as error:
            return str(error)
    return None


def statistics_of(arguments: argparse.Namespace, model, name: str):
    """Statistics of a class, collected where they are not there yet."""
    if arguments.statistics is not None:
        return sd.load_statistics(arguments.statistics / f"{file_stem(model.find_class(name), model.class_names)}.h5")
    path = arguments.work / f"{model.name}_{name}_{arguments.n_components}.h5"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train, _ = hold_out(find_images(arguments.images / name))
        sd.save_statistics(sd.collect(model, train, class_name=name, n_components=arguments.n_components), path)
    return sd.load_statistics(path)


def reference_of(arguments: argparse.Namespace, model, judge: Judge, name: str) -> Reference:
    """Measure the photographs a class's rows are compared with."""
    train, held_out = hold_out(find_images(arguments.images / name))
    paths = train if arguments.against == "train" else held_out
    index = judge.model.class_index(name)
    measured = measure(paths, judge, size=model.input_size, class_index=index, tick=lambda n: None)
    return Reference.of(measured, train=None, class_index=index, n_classes=judge.n_classes)


def make_row(row: str, arguments: argparse.Namespace, model, judge: Judge, references: dict) -> tuple[dict, dict]:
    """Make and measure the images of a row, all classes; return its settings and figures, and its features."""
    command, of_row = ROWS[row]
    of_row = {**of_row, "n_images": arguments.n_images, "n_steps": arguments.n_steps}
    if "recipe" in of_row:
        own = own_recipe(model, place_by_place=of_row.get("sampler") in PLACE_BY_PLACE)
        of_row["recipe"] = replace(own, **of_row["recipe"])
    estimates, features, settings = {}, {}, {}
    for number, (name, reference) in enumerate(references.items()):
        if command == "generate":
            result = sd.generate(model, statistics_of(arguments, model, name), **{"sampler": "bootstrap", **of_row})
        else:
            result = sd.maximize(model, name, **of_row)
        folder = result.save(arguments.work / "runs" / row / name, overwrite=True)
        measured = measure(
            image_paths(folder), judge, size=model.input_size, class_index=reference.class_index, tick=lambda n: None
        )
        estimates[name] = measure_figures(measured, reference, seed=(0, number))
        features[name] = measured.features.astype(np.float16)
        settings = result.record["settings"]
    mean = {
        key: interval(average([estimate[key] for estimate in estimates.values()], seed=(0,))) for key in FIGURE_KEYS
    }
    classes = {name: {key: interval(estimate[key]) for key in FIGURE_KEYS} for name, estimate in estimates.items()}
    return {"command": command, "settings": settings, "mean": mean, "classes": classes}, features


def print_row(row: str, content: dict) -> None:
    """Print the figures of a row, the mean over its classes."""
    figures = "  ".join(f"{key} {figure_text(content['mean'][key]):>6}" for key in COLUMNS)
    print(f"{row:28} {figures}", flush=True)


if __name__ == "__main__":
    main()
