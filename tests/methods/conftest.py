"""What several methods' tests run on."""

import numpy as np
import pytest
from sunsets import SIZE, network

from stochdeconv.images.files import save_png
from stochdeconv.statistics.collection import collect


@pytest.fixture(scope="session")
def model():
    return network(3)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Sixty landscapes: blue above, green below, a disc of light somewhere."""
    folder = tmp_path_factory.mktemp("images") / "sunset"
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    for i in range(60):
        horizon, cx, cy = rng.uniform(0.4, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4)
        image = np.where((y < horizon)[..., None], [0.3, 0.5, 0.9], [0.2, 0.6, 0.2]) + 0.05 * rng.normal(
            size=(SIZE, SIZE, 3)
        )
        image[(x - cx) ** 2 + (y - cy) ** 2 < 0.01] = [1.0, 0.9, 0.3]
        save_png(folder / f"{i:02d}.png", np.clip(image, 0, 1))
    return folder


@pytest.fixture(scope="session")
def statistics(model, photographs):
    """Without local Gaussians: images are asked for descriptors."""
    return collect(model, photographs, n_components=16, n_contexts=0)


@pytest.fixture(scope="session")
def whole(model, photographs):
    """With local Gaussians and photographs."""
    return collect(model, photographs, n_components=16, n_contexts=24, exemplars=50)
