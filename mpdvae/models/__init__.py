"""The parts of a VAE: encoders with their posterior heads, decoders, priors and flows, and what makes them fast.

For anyone who puts a model together: `VAE(encoder, decoder, prior)`, with any module that returns a distribution in place of
one of these. Names of parameters are part of the model folder's format: renaming one needs a new format number
(`mpdvae.runs.model_folder`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
