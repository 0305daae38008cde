"""Variational autoencoders whose latent code stays informative.

A model is three modules, each of which maps a condition to a distribution:

    vae = mpdvae.VAE(encoder, decoder, prior)
    log_weights = vae.decoder(z).log_prob(x) + vae.prior().log_prob(z) - vae.encoder(x).log_prob(z)

The paper's contribution is `mpdvae.divergence`; everything else has a package, from `models` up to `workflows`. Names are
listed in `__init__.pyi`, where type checkers find them, and imported when first used, so that `import mpdvae` is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
