"""Distributions that torch lacks: autoregressive pixels, discretised logistics and mixtures of them, densities by a flow, the
Gaussian AR(1) process; and the table of distributions of pixels (`pixel_laws`), with the values each is a likelihood of.

Each is a `torch.distributions.Distribution`. Parts of a model return them, so a new distribution needs no change anywhere
else. Their log-densities are fixed by the formulas at the heads of the files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
