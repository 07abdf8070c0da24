"""Varied, realistic images of a class from one classifier: sample its activations, then find images that have them."""

import lazy_loader

from stochdeconv.installed import choose_backend

__version__ = "0.1.0"

choose_backend()

# The names stand in __init__.pyi and are looked up on first use: Keras takes seconds to import, and `stochdeconv --help` needs none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
