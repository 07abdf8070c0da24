"""Compare what feature inversion searches over: pixels, as in the paper, against Fourier coefficients, by L-BFGS and by Adam.

Prints what is left of the relative squared distance at each layer, and saves a sheet.

    python scripts/experiments/compare_inversions.py photo.png -m squeezenet.keras
        --layers fire4_concat,fire6_concat,fire9_concat -o out/inversions.png
"""

import numpy as np
from arguments import argument_parser
from finished_runs import save_sheet

import stochdeconv as sd
from stochdeconv.images.files import load_image
from stochdeconv.parsing import read_list


def main() -> None:
    """Invert every layer in four ways, under the same regularizers."""
    parser = argument_parser(__doc__, "photo", "model", "layers", "output", n_steps=100)
    arguments = parser.parse_args()

    model = sd.load_model(arguments.model)
    photo = load_image(arguments.photo, model.input_size)
    regularizer = 2.0 * sd.regularizers.total_variation() + 0.01 * sd.regularizers.alpha_norm()
    grey = np.full((*model.input_size, 3), 0.5)
    rows, captions = [], []
    for layer in read_list(arguments.layers, "layer"):
        match = sd.losses.match(model.activations(photo[None], [layer]))
        rows.append([photo])
        captions.append(f"photograph\n{layer}")
        for optimizer in ("lbfgs", "adam"):
            for name, variables in (
                ("pixels", sd.parameterizations.pixels(grey, noise=0.1, learning_rate=0.02)),
                ("fourier", sd.parameterizations.fourier(model.input_size)),
            ):
                run = {"n_steps": arguments.n_steps, "descent": sd.Descent(optimizer)}
                result = sd.optimize(model, match + regularizer, parameterization=variables, **run)
                if not result.complete:
                    raise KeyboardInterrupt
                image = result.images.clip(0, 1)
                left = float(np.asarray(match(model.activations(image, [layer])))[0])
                print(f"{layer}  {optimizer:5}  {name:7}  {left:.2g}", flush=True)
                rows[-1].append(image[0])
                captions.append(f"{optimizer}, {name}\n{left:.2g} left")
    save_sheet(arguments.output, rows, captions)
    print(arguments.output)


if __name__ == "__main__":
    main()
