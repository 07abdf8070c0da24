"""The loop that every method runs on, and what it is made of."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["parameterizations", "transforms"])
