"""Compare our dreams with those of the program of 2015 (Mordvintsev, Olah & Tyka, google/deepdream), line by line on the same network.

Both take the same settings; they differ in how they resize and in what they do at borders. Prints how far each raised the layer's mean
square over that of the photograph, and saves a sheet for each layer. Photographs go through the network whole.

    python scripts/experiments/compare_dreams.py china.png -m googlenet.keras
        --layers inception_4c_output,inception_4d_pool -o out/dreams
"""

from collections.abc import Callable

import numpy as np
import scipy.ndimage
from arguments import argument_parser
from finished_runs import save_sheet
from keras import ops

import stochdeconv as sd
from stochdeconv import backend
from stochdeconv.images.files import load_image
from stochdeconv.networks.image_model import ImageModel
from stochdeconv.parsing import read_list


def main() -> None:
    """Dream of every layer twice."""
    parser = argument_parser(__doc__, "photo", "model", "layers", "output", n_steps=10)
    parser.add_argument("--octaves", type=int, default=4)
    parser.add_argument("--jitter", type=int, default=32)
    arguments = parser.parse_args()

    model = sd.load_model(arguments.model, dtype="float32")
    photo = load_image(arguments.photo)
    settings = {name: getattr(arguments, name) for name in ("octaves", "jitter", "n_steps")}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for layer in read_list(arguments.layers, "layer", model.find_layer):
        strength = strength_of(model, layer)
        rng = np.random.default_rng(0)
        theirs = original_dream(strength, photo, rng, **settings)
        ours = sd.dream(model, photo, layer, tile_size=max(photo.shape), **settings).images[0]
        rises = [strength(image)[0] / strength(photo)[0] for image in (theirs, ours)]
        captions = ["photograph", *(f"{who}: x {x:.1f}" for who, x in zip(("2015", "ours"), rises, strict=True))]
        save_sheet(arguments.output / f"{layer}.png", [[photo, theirs, ours]], captions)
        print(f"{layer}  2015 x {rises[0]:.2f}  ours x {rises[1]:.2f}", flush=True)


def strength_of(model: ImageModel, layer: str) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Make the function from an image to a layer's mean square and its gradient."""
    forward = model.forward((layer,))

    def mean_square(images):
        return ops.mean(forward(images)[layer] ** 2), ()

    compiled = backend.compile(backend.value_and_gradient(mean_square))

    def strength(image):
        (value, _), gradient = compiled(ops.convert_to_tensor(image[None], dtype="float32"))
        return float(ops.convert_to_numpy(value)), np.asarray(ops.convert_to_numpy(gradient))[0]

    return strength


def original_dream(
    strength: Callable[[np.ndarray], tuple[float, np.ndarray]],
    photo: np.ndarray,
    rng: np.random.Generator,
    *,
    octaves: int,
    jitter: int,
    n_steps: int,
    octave_scale: float = 1.4,
    step_size: float = 1.5,
) -> np.ndarray:
    """Dream as the notebook's `deepdream` and `make_step` do: rolled, resized bilinearly, clipped to what a picture can be."""
    bases = [photo]
    for _ in range(octaves - 1):
        bases.append(scipy.ndimage.zoom(bases[-1], (1 / octave_scale, 1 / octave_scale, 1), order=1))
    detail = np.zeros_like(bases[-1])
    for base in reversed(bases):
        ratios = [now / then for now, then in zip(base.shape, detail.shape, strict=True)]
        detail = scipy.ndimage.zoom(detail, ratios, order=1)
        image = base + detail
        for _ in range(n_steps):
            shift = rng.integers(-jitter, jitter + 1, 2)
            rolled = np.roll(image, shift, (0, 1))
            _, gradient = strength(rolled)
            rolled = rolled + step_size / 255 * gradient / np.abs(gradient).mean()
            image = np.clip(np.roll(rolled, -shift, (0, 1)), 0, 1)
        detail = image - base
    return image


if __name__ == "__main__":
    main()
