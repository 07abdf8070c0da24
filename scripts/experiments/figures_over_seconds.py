"""How good images are after how many seconds, by this state of the project and by earlier ones: KID, and what the judge names, over time.

A state is a checkout (`git worktree add ../v1 v1.0`); each makes the images of all classes and seeds in processes of its own, from the
same statistics and with its own defaults, and keeps them at some steps on the way. Seconds are the median time of a step times the number
of steps: what it takes to load and compile is not in them. States take turns class by class, so that other work on the machine hits all
alike. The images are measured against the photographs that the statistics have not seen. What is finished is not made again.

    python scripts/experiments/figures_over_seconds.py ../shared/data/imagenette/train -m squeezenet.keras --judge mobilenet.keras \
        --classes n03028079 n03445777 n02102040 --states now=. v1=../v1 -o docs/results/figures_over_seconds.json
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from arguments import argument_parser

STEPS = (8, 16, 32, 64, 128, 256)
FIGURES = ("kid", "judge_top1", "judge_top5", "spectrum_slope", "pairwise_distance")


def main() -> None:
    """Read the arguments, make what is missing, measure it, write figures and curves."""
    parser = argument_parser(__doc__, "model", "judge", "output", n_images=8)
    parser.add_argument("images", type=Path, help="tree with one folder of photographs a class")
    parser.add_argument("--classes", nargs="+", required=True, help="folder names")
    parser.add_argument("--states", nargs="+", default=["now=."], metavar="NAME=CHECKOUT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 8, 16], help="first seeds of sets of images")
    parser.add_argument("--work", type=Path, default=Path("stats_cache/figures_over_seconds"))
    arguments = parser.parse_args()
    states = dict(state.split("=", 1) for state in arguments.states)
    for name in arguments.classes:
        collected(arguments, name)
        for seed in arguments.seeds:
            for state, checkout in states.items():
                made_by(state, Path(checkout), arguments, name, seed)
    figures = {state: measured(arguments, state) for state in states}
    arguments.output.write_text(json.dumps(figures, indent=1) + "\n")
    draw_curves(figures, arguments.output.with_suffix(".svg"))
    for state, rows in figures.items():
        for row in rows:
            values = "  ".join(f"{key} {row[key]['mean']:.3g} ± {row[key]['of_seeds']:.2g}" for key in FIGURES)
            print(f"{state:6} {row['steps']:4} steps {row['seconds']:6.2f} s  {values}")


def collected(arguments: argparse.Namespace, name: str) -> Path:
    """Collect the statistics of a class, once, without the photographs that are held out."""
    import stochdeconv as sd
    from stochdeconv.images.folders import find_images, hold_out

    path = arguments.work / f"{Path(arguments.model).stem}_{name}.h5"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train, _ = hold_out(find_images(arguments.images / name))
        sd.save_statistics(sd.collect(sd.load_model(arguments.model), train, class_name=name), path)
    return path


def folder_of(arguments: argparse.Namespace, state: str, name: str, seed: int) -> Path:
    """Where a state's images of a class and seed are."""
    return arguments.work / Path(arguments.model).stem / state / name / str(seed)


def made_by(state: str, checkout: Path, arguments: argparse.Namespace, name: str, seed: int) -> None:
    """Let a state make images, in a process that imports its package."""
    folder = folder_of(arguments, state, name, seed)
    if (folder / "seconds.json").exists():
        return
    request = {
        "model": str(Path(arguments.model).resolve() if Path(arguments.model).exists() else arguments.model),
        "statistics": str(collected(arguments, name).resolve()),
        "folder": str(folder.resolve()),
        "n_images": arguments.n_images,
        "seed": seed,
    }
    command = [sys.executable, __file__, "--make", json.dumps(request)]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    subprocess.run(command, check=True, env=environment)
    print(folder, flush=True)


def make(request: dict) -> None:
    """Make images and keep them at every one of `STEPS`; runs in the process of a state."""
    import stochdeconv as sd
    from stochdeconv.images.files import save_png

    folder, times = Path(request["folder"]), []

    def keep(step) -> None:
        times.append(time.perf_counter())
        if step.step in STEPS:
            (folder / str(step.step)).mkdir(parents=True, exist_ok=True)
            for number, image in enumerate(step.images()):
                save_png(folder / str(step.step) / f"image_{number:03d}.png", image)
            times.append(time.perf_counter())  # keeping them is no part of the next step

    sd.generate(
        sd.load_model(request["model"]),
        sd.load_statistics(request["statistics"]),
        n_images=request["n_images"],
        batch_size=request["n_images"],
        n_steps=max(STEPS),
        seed=request["seed"],
        callback=keep,
    )
    seconds = float(np.median(np.diff(times))) / request["n_images"]
    (folder / "seconds.json").write_text(json.dumps({"seconds_of_a_step_and_image": seconds}))


def measured(arguments: argparse.Namespace, state: str) -> list[dict]:
    """Measure a state's images: for each number of steps, figures averaged over classes and seeds, and their deviation over seeds."""
    import stochdeconv as sd
    from stochdeconv.evaluation.figures import Reference, measure_figures
    from stochdeconv.evaluation.intervals import interval
    from stochdeconv.evaluation.judge import Judge
    from stochdeconv.evaluation.measure import measure
    from stochdeconv.images.folders import find_images, hold_out

    judge, size = Judge(sd.load_model(arguments.judge)), sd.load_model(arguments.model).input_size
    values = {key: np.zeros((len(STEPS), len(arguments.classes), len(arguments.seeds))) for key in FIGURES}
    seconds = []
    for c, name in enumerate(arguments.classes):
        index = judge.model.class_index(name)
        _, held_out = hold_out(find_images(arguments.images / name))
        real = measure(held_out, judge, size=size, class_index=index, tick=lambda n: None)
        reference = Reference.of(real, train=None, class_index=index, n_classes=judge.n_classes)
        for s, seed in enumerate(arguments.seeds):
            folder = folder_of(arguments, state, name, seed)
            seconds.append(json.loads((folder / "seconds.json").read_text())["seconds_of_a_step_and_image"])
            for n, steps in enumerate(STEPS):
                paths = sorted((folder / str(steps)).glob("image_*.png"))
                images = measure(paths, judge, size=size, class_index=index, tick=lambda n: None)
                figures = measure_figures(images, reference, seed=(0, c))
                for key in FIGURES:
                    values[key][n, c, s] = interval(figures[key])["value"]
    rows = []
    for n, steps in enumerate(STEPS):
        row = {"steps": steps, "seconds": round(steps * float(np.median(seconds)), 3)}
        for key in FIGURES:
            of_seeds = values[key][n].mean(axis=0)
            deviation = float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else 0.0
            row[key] = {"mean": round(float(of_seeds.mean()), 4), "of_seeds": round(deviation, 4)}
        rows.append(row)
    return rows


def draw_curves(figures: dict[str, list[dict]], path: Path) -> None:
    """Draw KID and the judge's word over seconds."""
    import matplotlib.pyplot as plt

    labels = {"kid": "KID (smaller is nearer to photographs)", "judge_top5": "named by the judge among five"}
    drawing, axes = plt.subplots(1, len(labels), figsize=(10, 3.6), layout="constrained")
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        for state, rows in figures.items():
            seconds, mean = [row["seconds"] for row in rows], np.array([row[key]["mean"] for row in rows])
            spread = np.array([row[key]["of_seeds"] for row in rows])
            (line,) = ax.plot(seconds, mean, "o-", label=state)
            ax.fill_between(seconds, mean - spread, mean + spread, color=line.get_color(), alpha=0.2, linewidth=0)
            for second, value, row in zip(seconds, mean, rows, strict=True):
                ax.annotate(row["steps"], (second, value), textcoords="offset points", xytext=(3, 4), fontsize=7)
        ax.set(xscale="log", xlabel="seconds an image", ylabel=label)
    axes[0].set_yscale("log")
    axes[0].legend()
    drawing.savefig(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(json.loads(sys.argv[2]))
    else:
        main()
