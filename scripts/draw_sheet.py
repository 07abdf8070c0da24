"""Draw the sheet of what ships: all ten classes as mini-vgg16 sees them, nothing picked.

Seeds 0 to 3 of every class: ours on the left, Simonyan's class neuron on the right, as many steps.

    python scripts/draw_sheet.py -o out/sheet
"""

import argparse
from pathlib import Path

import numpy as np

import stochdeconv as sd
from stochdeconv.assets import NETWORK, shipped_file
from stochdeconv.images.files import load_image, save_png
from stochdeconv.images.sheets import contact_sheet
from stochdeconv.networks.classes import file_stem


def main() -> None:
    """Make the images and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", "--n-images", type=int, default=4)
    parser.add_argument("--n-steps", type=int, default=256)
    parser.add_argument("--sampler", default="bootstrap")
    arguments = parser.parse_args()

    model = sd.load_model(NETWORK)
    how = {"n_images": arguments.n_images, "n_steps": arguments.n_steps}
    ours, simonyan = [], []
    for found in model.class_names:
        path = shipped_file(NETWORK, f"{file_stem(found, model.class_names)}.h5")
        statistics = sd.load_statistics(path)
        for name, images in ((arguments.sampler, ours), ("simonyan", simonyan)):
            folder = arguments.output / name / path.stem
            if name == "simonyan":
                result = sd.maximize(model, found.index, preset=name, **how)
            else:
                result = sd.generate(model, statistics, sampler=name, **how)
            result.save(folder, overwrite=True)
            images.append([load_image(file) for file in sorted(folder.glob("image_*.png"))])
        print(path.stem, flush=True)

    images = [image for left, right in zip(ours, simonyan, strict=True) for image in left + right]
    sheet = arguments.output / "mini-vgg16.png"
    save_png(sheet, contact_sheet(np.stack(images), columns=2 * arguments.n_images))
    print(sheet)


if __name__ == "__main__":
    main()
