"""From folders of photographs to the report: our images against Simonyan's and its descendants, one class or several.

The last fifth of each class's photographs (sorted by name) is held out: the statistics never see it, and the images are compared with
it. The judge is another network than the one that makes the images. Images use the seeds 0, 1, 2, …; nothing is picked. What is
finished is not made again, so the run can be stopped and continued. CLASS.png shows all images of a class: a row a preset, then a
row a sampler. overview.png shows the first of every class: a row of `simonyan`, then two of `bootstrap`.

    python scripts/compare_with_simonyan.py photos/church -m vgg16 --judge mobilenet -o out/church
    python scripts/compare_with_simonyan.py n03028079 n02102040 -m squeezenet.keras --judge mobilenet.keras -o out -n 4 --n-steps 128
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

import stochdeconv as sd
from stochdeconv.images.files import load_image, resize, save_png
from stochdeconv.images.folders import find_images, hold_out
from stochdeconv.images.sheets import contact_sheet
from stochdeconv.methods.generate import own_recipe
from stochdeconv.methods.maximize import PRESETS
from stochdeconv.methods.runs import RECORD, read_record

SAMPLERS = ("chain", "joint", "bootstrap")


def main() -> None:
    """Read the arguments, make all images and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", help="folders of photographs, named by their class")
    parser.add_argument("-m", "--model", required=True, help="the network that makes the images")
    parser.add_argument("--judge", required=True, help="the network that judges them")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", "--n-images", type=int, default=8)
    parser.add_argument("--n-steps", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    output = arguments.output
    how = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}

    model = sd.load_model(arguments.model)
    runs: dict[str, list[Path]] = {name: [] for name in (*PRESETS, *SAMPLERS)}
    for folder in arguments.images:
        name = folder.resolve().name
        split(folder, output)
        statistics = statistics_of(model, output, name)
        for contestant, finished in runs.items():
            run = output / contestant / name
            finished.append(run)
            if is_made(run, model, contestant, None if contestant in PRESETS else statistics.hash(), how):
                continue
            if contestant in SAMPLERS:
                result = sd.generate(model, statistics, sampler=contestant, **how)
            else:
                result = sd.maximize(model, name, preset=contestant, **how)
            print(result.save(run, overwrite=True) / "contact_sheet.png", flush=True)
        save_sheet(output / f"{name}.png", [images_of(found[-1]) for found in runs.values()])
    n = max(1, min(3, arguments.n_images // 2))
    places = (("simonyan", 0), ("bootstrap", 0), ("bootstrap", n))
    rows = [[image for run in runs[name] for image in images_of(run)[first : first + n]] for name, first in places]
    save_sheet(output / "overview.png", rows)

    judge = sd.load_model(arguments.judge)
    metrics = sd.compare(
        runs, real=output / "held_out", train=output / "train", judge=judge, output=output / "report", overwrite=True
    )
    for name, figures in metrics["contestants"].items():
        values = {key: figures[key]["value"] for key in ("judge_top1", "judge_top5", "kid", "coverage")}
        told = "  ".join(f"{key} {'-' if value is None else format(value, '.3g')}" for key, value in values.items())
        print(f"{name:12} {told}")
    print(output / "report" / "report.html")


def is_made(run: Path, model, contestant: str, statistics_hash: str | None, how: dict[str, int]) -> bool:
    """Tell whether a finished run is there that was made as it would be made now."""
    if not (run / RECORD).exists():
        return False
    record = read_record(run)
    settings = record["settings"]
    # What a preset leaves open (the weight of its decay) is found from the network.
    defaults = (
        vars(PRESETS[contestant].at(model.input_size))
        if contestant in PRESETS
        else {"recipe": asdict(own_recipe(model))}
    )
    wanted = {key: value for key, value in defaults.items() if value is not None} | {"n_steps": how["n_steps"]}
    return (
        record["complete"]
        and record["model"]["weights_hash"] == model.weights_hash
        and record["statistics_hash"] == statistics_hash
        and (record["n_images"], record["seed"]) == (how["n_images"], how["seed"])
        and all(settings.get(key) == value for key, value in wanted.items())
    )


def images_of(run: Path) -> list[np.ndarray]:
    """Images of a run, at half their size."""
    images = [load_image(path) for path in sorted(run.glob("image_*.png"))]
    return [resize(image, (image.shape[0] // 2, image.shape[1] // 2)) for image in images]


def save_sheet(path: Path, rows: list[list[np.ndarray]]) -> None:
    """Put rows of images on one sheet."""
    save_png(path, contact_sheet(np.stack([image for row in rows for image in row]), columns=len(rows[0])))


def split(folder: Path, output: Path) -> None:
    """Link the photographs of a class into ``train`` and ``held_out``."""
    for part, files in zip(("train", "held_out"), hold_out(find_images(folder)), strict=True):
        links = output / part / folder.resolve().name
        links.mkdir(parents=True, exist_ok=True)
        for file in files:
            if not (links / file.name).exists():
                (links / file.name).symlink_to(file.resolve())


def statistics_of(model, output: Path, name: str):
    """Collect the statistics of a class, once."""
    path = output / f"{name}.h5"
    if not path.exists():
        sd.save_statistics(sd.collect(model, output / "train" / name), path)
    return sd.load_statistics(path)


if __name__ == "__main__":
    main()
