"""Draw the sheet of what ships: all ten classes as mini-vgg16 sees them, nothing picked.

Seeds 0 to 3 of every class: ours on the left, Simonyan's class neuron on the right, as many steps.

    python scripts/experiments/draw_sheet.py -o out/sheet
"""

from arguments import argument_parser
from finished_runs import images_of, save_sheet

import stochdeconv as sd
from stochdeconv.assets import NETWORK, shipped_file
from stochdeconv.networks.classes import file_stem


def main() -> None:
    """Make the images and draw the sheet."""
    parser = argument_parser(__doc__, "output", n_images=4, n_steps=128)
    parser.add_argument("--sampler", default="local")
    arguments = parser.parse_args()

    model = sd.load_model(NETWORK)
    settings = {"n_images": arguments.n_images, "n_steps": arguments.n_steps}
    ours, simonyan = [], []
    for class_name in model.class_names:
        path = shipped_file(NETWORK, f"{file_stem(class_name, model.class_names)}.h5")
        statistics = sd.load_statistics(path)
        for name, images in ((arguments.sampler, ours), ("simonyan", simonyan)):
            folder = arguments.output / name / path.stem
            if name == "simonyan":
                result = sd.maximize(model, class_name.index, preset=name, **settings)
            else:
                result = sd.generate(model, statistics, sampler=name, **settings)
            result.save(folder, overwrite=True)
            images.append(images_of(folder))
        print(path.stem, flush=True)

    sheet = arguments.output / "mini-vgg16.png"
    save_sheet(sheet, [left + right for left, right in zip(ours, simonyan, strict=True)])
    print(sheet)


if __name__ == "__main__":
    main()
