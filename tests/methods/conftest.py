"""What several methods' tests run on."""

import pytest
from sunsets import make_landscapes, network

from stochdeconv.statistics.collection import collect


@pytest.fixture(scope="session")
def model():
    return network(3)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Sixty landscapes."""
    return make_landscapes(tmp_path_factory.mktemp("images") / "sunset", 60)


@pytest.fixture(scope="session")
def statistics(model, photographs):
    """Without local Gaussians: images are asked for descriptors."""
    return collect(model, photographs, n_components=16, n_contexts=0)


@pytest.fixture(scope="session")
def whole(model, photographs):
    """With local Gaussians and photographs."""
    return collect(model, photographs, n_components=16, n_contexts=24, exemplars=50)
