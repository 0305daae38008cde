"""From one run to many: a job from start to end, the matrix of the reproduction, searches, verification, and the scikit-learn
estimator.

Everything a command does beyond parsing options is here, so that a notebook can do the same.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
