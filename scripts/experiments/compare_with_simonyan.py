"""From folders of photographs to the report: our images against Simonyan's and its descendants, one class or several.

The last fifth of each class's photographs (sorted by name) is held out: the statistics never see it, and the images are compared with
it. The judge is another network than the one that makes the images. Images use the seeds 0, 1, 2, …; nothing is picked. What is
finished is not made again, so the run can be stopped and continued. CLASS.png shows all images of a class: a row a preset, then a
row a sampler. overview.png shows the first of every class: a row of `simonyan`, then two of `local`. `exemplars` draws from
photographs that the statistics keep; the other samplers make nothing of these.

    python scripts/experiments/compare_with_simonyan.py photos/church -m vgg16 --judge mobilenet -o out/church
    python scripts/experiments/compare_with_simonyan.py n03028079 n02102040 -m squeezenet.keras --judge mobilenet.keras
        -o out -n 4
"""

from dataclasses import asdict
from pathlib import Path

from arguments import argument_parser
from finished_runs import figure_text, halved, images_of, save_sheet

import stochdeconv as sd
from stochdeconv.images.folders import find_images, hold_out
from stochdeconv.methods.maximize import PRESETS
from stochdeconv.methods.recipe import own_recipe
from stochdeconv.methods.runs import is_made
from stochdeconv.sampling.samplers import PLACE_BY_PLACE

SAMPLERS = ("chain", "joint", "bootstrap", "local", "exemplars")


def main() -> None:
    """Read the arguments, make all images and compare them."""
    parser = argument_parser(__doc__, "model", "judge", "output", n_images=8, n_steps=128, seed=0)
    parser.add_argument("images", type=Path, nargs="+", help="folders of photographs, named by their class")
    parser.add_argument(
        "--exemplars", type=int, default=500, help="photographs that exemplars draws from; 0 leaves it out"
    )
    arguments = parser.parse_args()
    output = arguments.output
    settings = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}

    model = sd.load_model(arguments.model)
    runs: dict[str, list[Path]] = {
        name: [] for name in (*PRESETS, *SAMPLERS) if arguments.exemplars or name != "exemplars"
    }
    for folder in arguments.images:
        name = folder.resolve().name
        split(folder, output)
        statistics = statistics_of(model, output, name, exemplars=arguments.exemplars)
        for contestant, finished in runs.items():
            run = output / contestant / name
            finished.append(run)
            statistics_hash = statistics.hash() if contestant in SAMPLERS else None
            as_now = {**settings_of(contestant, model), **settings}
            command = "generate" if contestant in SAMPLERS else "maximize"
            if is_made(run, command, model=model, statistics_hash=statistics_hash, **as_now):
                continue
            if contestant in SAMPLERS:
                result = sd.generate(model, statistics, sampler=contestant, **settings)
            else:
                result = sd.maximize(model, name, preset=contestant, **settings)
            print(result.save(run, overwrite=True) / "contact_sheet.png", flush=True)
        save_sheet(output / f"{name}.png", [halved(images_of(finished[-1])) for finished in runs.values()])
    n = max(1, min(3, arguments.n_images // 2))
    places = (("simonyan", 0), ("local", 0), ("local", n))
    rows = [
        [image for run in runs[name] for image in halved(images_of(run)[first : first + n])] for name, first in places
    ]
    save_sheet(output / "overview.png", rows)

    judge = sd.load_model(arguments.judge)
    metrics = sd.compare(
        runs, real=output / "held_out", train=output / "train", judge=judge, output=output / "report", overwrite=True
    )
    for name, figures in metrics["contestants"].items():
        columns = (f"{key} {figure_text(figures[key])}" for key in ("judge_top1", "judge_top5", "kid", "coverage"))
        print(f"{name:12} {'  '.join(columns)}")
    print(output / "report" / "report.html")


def settings_of(contestant: str, model) -> dict[str, object]:
    """Say what a contestant's defaults are now; what a preset leaves open (the weight of its decay) is the network's."""
    if contestant in SAMPLERS:
        return {"recipe": asdict(own_recipe(model, place_by_place=contestant in PLACE_BY_PLACE))}
    defaults = vars(PRESETS[contestant].at(model.input_size))
    return {name: value for name, value in defaults.items() if value is not None}


def split(folder: Path, output: Path) -> None:
    """Link the photographs of a class into ``train`` and ``held_out``."""
    for part, files in zip(("train", "held_out"), hold_out(find_images(folder)), strict=True):
        links = output / part / folder.resolve().name
        links.mkdir(parents=True, exist_ok=True)
        for file in files:
            if not (links / file.name).exists():
                (links / file.name).symlink_to(file.resolve())


def statistics_of(model, output: Path, name: str, *, exemplars: int):
    """Collect the statistics of a class, once."""
    path = output / f"{name}.h5"
    if path.exists():
        statistics = sd.load_statistics(path)
        if statistics.settings.get("exemplars", 0) == exemplars:
            return statistics
    statistics = sd.collect(model, output / "train" / name, exemplars=exemplars)
    sd.save_statistics(statistics, path, overwrite=True)
    return statistics


if __name__ == "__main__":
    main()
