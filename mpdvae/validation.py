"""What is measured at an evaluation point of a training run: density, use of the code, and collapse in words.

Averaged weights in eval mode; fixed images and fixed noise, so that consecutive points differ by the weights alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal

from mpdvae.density import evaluating
from mpdvae.diagnostics import ACTIVE_VARIANCE, information_per_dimension, verdict
from mpdvae.divergence import diagonal_normal, mutual_posterior_divergence
from mpdvae.objective import ForwardPass
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

IMAGES_AT_ONCE = 500


@dataclass(frozen=True)
class Validation:
    """One evaluation point. Densities are means over images; nats."""

    negative_elbo_nats: float
    reconstruction_nats: float
    """-E log p(x|z)."""
    kl_nats: float
    active_units: int
    """Latent dimensions whose posterior mean varies over the images (variance > 0.01)."""
    latent_dim: int
    mpd_mean_nats: float
    mpd_std_nats: float
    verdict: str


def validate(vae: VAE, x: Float[Tensor, "n channel height width"], samples: int, seed: int) -> Validation:
    """Measures `vae` on `x` with `samples` draws of z per image."""
    means, scales, reconstruction, kl = [], [], 0.0, 0.0
    with torch.no_grad(), evaluating(vae), seeded(seed, "validation"):
        for part in x.split(IMAGES_AT_ONCE):
            forward = ForwardPass(vae, part, samples)
            q = diagonal_normal(forward.q)
            means.append(q.loc)
            scales.append(q.scale)
            reconstruction += forward.reconstruction.double().sum().item() / len(x)
            kl += forward.kl.double().sum().item() / len(x)
        q = Independent(Normal(torch.cat(means), torch.cat(scales)), means[0].ndim - 1)
        divergence = mutual_posterior_divergence(q)
        information = information_per_dimension(q)
        return Validation(
            negative_elbo_nats=reconstruction + kl,
            reconstruction_nats=reconstruction,
            kl_nats=kl,
            active_units=int((q.mean.var(0) > ACTIVE_VARIANCE).sum()),
            latent_dim=information.numel(),
            mpd_mean_nats=divergence.mean.item(),
            mpd_std_nats=divergence.std.item(),
            verdict=verdict(information),
        )
