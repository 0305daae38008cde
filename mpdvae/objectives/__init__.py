"""What training minimises and what moves: the terms of the loss, the weight of the KL over time, and step rules.

For anyone who tries a new regulariser: a term is a function of a forward pass, and `Objective` adds them up. The paper's two
terms are `Diversity` and `Smoothness`; the divergence they are made of is in `mpdvae.divergence`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
