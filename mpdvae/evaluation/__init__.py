"""What is measured of a finished run: likelihoods that can be resumed part by part, the representation beside its
baselines, the diagnosis of collapse, and pictures.

The measures themselves are in `mpdvae.measures`; here they are applied to a run folder and their results kept in it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
