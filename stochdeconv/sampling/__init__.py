"""From the statistics of a class to what images should activate."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["samplers"])
