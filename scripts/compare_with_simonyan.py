"""From one folder of photographs of a class to the report: our images against Simonyan's and its descendants.

The last fifth of the photographs (sorted by name) is held out: the statistics never see it, and the images are compared with it. The
judge is another network than the one that makes the images.

    python scripts/compare_with_simonyan.py photos/church -m vgg16 --judge mobilenet -o out/church
    python scripts/compare_with_simonyan.py n03028079 -m squeezenet.keras --judge mobilenet.keras -o out -n 4 --n-steps 128
"""

import argparse
from pathlib import Path

import stochdeconv as sd

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SAMPLERS = ("chain", "joint", "bootstrap")
PRESETS = ("simonyan", "regularised", "fourier")


def main() -> None:
    """Read the arguments, make all images and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of photographs; its name is that of the class")
    parser.add_argument("-m", "--model", required=True, help="the network that makes the images")
    parser.add_argument("--judge", required=True, help="the network that judges them")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", "--n-images", type=int, default=8)
    parser.add_argument("--n-steps", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    how = {"n_images": arguments.n_images, "n_steps": arguments.n_steps, "seed": arguments.seed}

    model = sd.load_model(arguments.model)
    class_name = arguments.images.resolve().name
    photographs = sorted(file.resolve() for file in arguments.images.rglob("*") if file.suffix.lower() in SUFFIXES)
    n_seen = len(photographs) - len(photographs) // 5
    arguments.output.mkdir(parents=True, exist_ok=True)
    lists = {}
    for part, files in (("train", photographs[:n_seen]), ("held_out", photographs[n_seen:])):
        lists[part] = arguments.output / f"{part}.txt"
        lists[part].write_text("".join(f"{file}\n" for file in files))

    statistics = sd.collect(model, lists["train"], class_name=class_name)
    folders = {}
    for sampler in SAMPLERS:
        result = sd.generate(model, statistics, sampler=sampler, **how)
        folders[sampler] = [result.save(arguments.output / sampler)]
    for preset in PRESETS:
        result = sd.maximize(model, class_name, preset=preset, **how)
        folders[preset] = [result.save(arguments.output / preset)]

    judge = sd.load_model(arguments.judge)
    report = arguments.output / "report"
    metrics = sd.compare(folders, real=lists["held_out"], train=lists["train"], judge=judge, output=report)
    for name, figures in metrics["contestants"].items():
        told = "  ".join(f"{key} {figures[key]['value']:.3g}" for key in ("judge_top1", "kid", "coverage"))
        print(f"{name:12} {told}")
    print(report / "report.html")


if __name__ == "__main__":
    main()
