"""Variational autoencoders whose latent code stays informative.

A model is three modules, each of which maps a condition to a distribution:

    vae = mpdvae.VAE(encoder, decoder, prior)
    log_weights = vae.decoder(z).log_prob(x) + vae.prior().log_prob(z) - vae.encoder(x).log_prob(z)

The paper's contribution is `mpdvae.divergence`; everything else has a package, from `models` up to `workflows`. Names are
listed in `__init__.pyi`, where type checkers find them, and imported when first used, so that `import mpdvae` is quick.
"""

from typing import Any

import lazy_loader

_named, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

OTHER_NAMES = {
    "train": "mpdvae.MPDVAE().fit(images) trains a model on images, mpdvae.fit(vae, images, out=...) one of your own, "
    "`mpdvae train RECIPE --out DIR` a recipe, and mpdvae.training.train(run, data) a run folder",
    "encode": "use mpdvae.load(source).encode(x), or mpdvae.evaluation.encode_images(vae, images)",
    "from_pretrained": "use mpdvae.load(source) or mpdvae.VAE.from_pretrained(source)",
    "load_model": "use mpdvae.load(source)",
    "load_dataset": "use mpdvae.data.load(name)",
    "MAE": "use mpdvae.MPDVAE, whose defaults are MAE, or the model mpdvae.load('mae-mnist')",
}
"""What other libraries call something, and what does it here."""


def __getattr__(name: str) -> Any:
    if name in OTHER_NAMES:
        raise AttributeError(f"mpdvae has no {name!r}: {OTHER_NAMES[name]}.")
    return _named(name)
