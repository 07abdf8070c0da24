"""Collect the statistics of every class in a tree of class folders, holding the last part of each class out.

The files of a class are sorted by name; what is held out is listed in CLASS_held_out.txt beside the statistics, ready to be the
`--real` of a comparison. Classes that are there already are left alone. With --n-rows the files are small (fewer rows, rounded): so are
those that ship with the package made, by the last of these.

    python scripts/tools/collect_class_statistics.py photos -m vgg16 -o stats_cache/vgg16
    python scripts/tools/collect_class_statistics.py imagenette/train -m squeezenet.keras -o stats --classes n03028079 n03445777
    python scripts/tools/collect_class_statistics.py imagenette/train -m mini-vgg16 -o stats --n-components 24 --layout-size 7 --n-rows 150
        --n-contexts 64

The photographs held out then, as they ship too, are measured by

    stochdeconv measure imagenette/train --judge mini-resnet --size 112 --held-out 0.2 -o stochdeconv/assets/held_out.npz
"""

import argparse
from pathlib import Path

import stochdeconv as sd
from stochdeconv.images.folders import find_class_folders, find_images, hold_out
from stochdeconv.networks.classes import file_stem
from stochdeconv.statistics.compaction import compact


def collect_class(model, folder: Path, output: Path, *, held_out: float, n_rows: int | None, **settings: int) -> Path:
    """Collect one class folder; return the statistics file."""
    # Called as the network calls the class: of a wnid nobody knows what it is.
    name = file_stem(model.find_class(folder.name), model.class_names)
    path = output / f"{name}.h5"
    if path.exists():
        return path
    seen, kept = hold_out([file.absolute() for file in find_images(folder)], part=held_out)
    statistics = sd.collect(model, seen, class_name=folder.name, **settings)
    if n_rows is not None:
        statistics = compact(statistics, n_rows)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}_held_out.txt").write_text("".join(f"{photograph}\n" for photograph in kept))
    sd.save_statistics(statistics, path)
    return path


def main() -> None:
    """Read the arguments and collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder with one folder of photographs a class")
    parser.add_argument("-m", "--model", required=True, help="vgg16, another keras.applications name, or a .keras file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the statistics")
    parser.add_argument("--classes", nargs="+", help="names of class folders (default: all)")
    parser.add_argument(
        "--held-out", type=float, default=0.2, help="part of each class that is not seen (default: 0.2)"
    )
    parser.add_argument("--n-components", type=int, default=64)
    parser.add_argument("--layout-size", type=int, default=14)
    parser.add_argument(
        "--n-contexts", type=int, default=512, help="kinds of surroundings for the sampler local (default: 512)"
    )
    parser.add_argument(
        "--n-rows", type=int, help="keep this many rows, and round what is stored (default: all, exactly)"
    )
    arguments = parser.parse_args()

    model = sd.load_model(arguments.model)
    names = arguments.classes or [folder.name for folder in find_class_folders(arguments.images)]
    if not names:
        parser.error(f"'{arguments.images}' is no folder with one folder of photographs a class")
    for name in names:
        names_of_settings = ("held_out", "n_rows", "n_components", "layout_size", "n_contexts")
        options = {setting: getattr(arguments, setting) for setting in names_of_settings}
        print(collect_class(model, arguments.images / name, arguments.output, **options))


if __name__ == "__main__":
    main()
