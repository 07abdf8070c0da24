"""Measure photographs with a judge once, for comparisons where the pictures themselves cannot be given.

IMAGES is a tree with one folder of photographs a class. The last fifth of each class (sorted by name) is measured: what the statistics
of collect_class_statistics.py have not seen. The file goes to `stochdeconv compare --real FILE.npz`, with the same judge and images of the
same size. What ships with the package was made by

    python scripts/tools/measure_photographs.py photos --judge mini-resnet --size 112 -o stochdeconv/assets/held_out.npz
"""

import argparse
from pathlib import Path

import stochdeconv as sd
from stochdeconv.evaluation.classes import ClassKey
from stochdeconv.evaluation.judge import Judge
from stochdeconv.evaluation.measure import measure
from stochdeconv.evaluation.photographs import MeasuredPhotographs
from stochdeconv.images.folders import find_class_folders, find_images, hold_out


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder with one folder of photographs a class")
    parser.add_argument("--judge", required=True, help="the network that judges")
    parser.add_argument("--size", type=int, required=True, help="side of the images they will be compared with, pixels")
    parser.add_argument("-o", "--output", type=Path, required=True, help="an .npz file")
    arguments = parser.parse_args()

    folders = find_class_folders(arguments.images)
    if not folders:
        parser.error(f"'{arguments.images}' is no folder with one folder of photographs a class")
    judge = Judge(sd.load_model(arguments.judge))
    classes = {}
    for folder in folders:
        _, held_out = hold_out(find_images(folder))
        found = judge.model.find_class(folder.name)
        size = (arguments.size, arguments.size)
        measured = measure(held_out, judge, size=size, class_index=found.index, tick=lambda n: None)
        classes[ClassKey(found.wnid, found.label)] = measured
        print(f"{found.label}: {len(held_out)} photographs", flush=True)
    MeasuredPhotographs.by(judge, classes, (arguments.size, arguments.size)).save(arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
