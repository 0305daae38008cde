"""Variational autoencoders whose latent code stays informative.

A model is three modules, each of which maps a condition to a distribution:

    vae = mpdvae.VAE(encoder, decoder, prior)
    log_weights = vae.decoder(z).log_prob(x) + vae.prior().log_prob(z) - vae.encoder(x).log_prob(z)

Names are imported when first used, so that `import mpdvae` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError, RunError
from mpdvae.version import __version__

if TYPE_CHECKING:
    from mpdvae.divergence import PosteriorDivergence, mutual_posterior_divergence
    from mpdvae.sharing.pretrained import load
    from mpdvae.vae import VAE

__all__ = ["VAE", "InputError", "PosteriorDivergence", "RunError", "__version__", "load", "mutual_posterior_divergence"]

_HOME = {
    "VAE": "vae",
    "PosteriorDivergence": "divergence",
    "mutual_posterior_divergence": "divergence",
    "load": "sharing.pretrained",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"mpdvae.{_HOME[name]}"), name)
    try:
        return import_module(f"mpdvae.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"mpdvae.{name}":
            raise  # the module is there, something that it needs is not
        raise AttributeError(f"module 'mpdvae' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
