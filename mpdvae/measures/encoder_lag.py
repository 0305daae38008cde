r"""Encoder lag: how far the amortised posterior is behind the best Gaussian for the current decoder.

An encoder computes q(z|x) = N(m, s^2) of every image in one pass of a network. For a fixed decoder and prior, the best
diagonal Gaussian of *this* image, found by maximising its ELBO over (m, log s^2) alone, is at least as good:

.. math:: lag(x) = \max_{m', s'} ELBO(x; m', s') - ELBO(x; m, s) \ge 0 \quad \text{nats}.

While the decoder changes faster than the encoder can follow, the lag is large and the decoder learns to ignore z: this is
He et al.'s explanation of collapse. The lag is what semi-amortised inference (Kim et al. 2018) would gain immediately;
after training it is called the amortisation gap (Cremer et al. 2018).

**Measured quantity**: the gain from `steps` natural-gradient steps that start from the encoder's (m, log s^2). In the
metric of q, whose Fisher information is 1/s^2 for m and 1/2 for log s^2,

.. math:: m \leftarrow m + \rho s^2 \nabla_m ELBO, \qquad
          \log s^2 \leftarrow \log s^2 + 2 \rho \nabla_{\log s^2} ELBO,

with the encoder's s^2 in the metric throughout, rho decreasing linearly from `RATE` to 0, and no step longer than one
standard deviation. Gradients use one antithetic pair of fresh noise; the posteriors before and after are compared on
separate noise that no step has used. The gain is therefore (up to that noise) a **lower bound** on the lag: a few steps
find most of it, and a value below zero means that they found no better posterior.

He, Spokoyny, Neubig & Berg-Kirkpatrick, ICLR 2019, https://arxiv.org/abs/1901.05534; Kim, Wiseman, Miller, Sontag & Rush,
ICML 2018, https://arxiv.org/abs/1802.02550; Cremer, Li & Duvenaud, ICML 2018, https://arxiv.org/abs/1801.03558.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.utils import parametrize

from mpdvae.distributions.support import floating
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.measures.density import evaluating
from mpdvae.measures.finite import refuse_not_finite
from mpdvae.seeding import seeded
from mpdvae.vae import VAE, check_samples

STEPS = 10
RATE = 0.2
LONGEST_STEP = 1.0
"""Maximum length of a step of (m, log s^2) of an image, in standard deviations of q."""
PAIRS = 2
"""Antithetic pairs of noise on which the posteriors before and after are compared."""


@dataclass(frozen=True)
class EncoderLag:
    """How far the encoder lags behind; means over images, in nats."""

    gain_nats: float
    """ELBO of the refined posterior minus ELBO of the encoder's: a lower bound on the lag."""
    gain_standard_error_nats: float
    """Standard error of that mean, from the spread over images."""
    moved_nats: float
    """KL(refined || encoder's): how far the refinement moved the posterior."""
    images: int
    steps: int


def encoder_lag(
    vae: VAE,
    x: Float[Tensor, "images channel height width"],
    steps: int = STEPS,
    pairs: int = PAIRS,
    rate: float = RATE,
    seed: int = 0,
) -> EncoderLag:
    """Measures the lag of `vae`'s encoder on the images `x`; see the module docstring. Leaves `vae` unchanged, including
    its gradients.

    Arguments:
        vae: the model; used in evaluation mode, its mode is restored afterwards.
        x: at least 2 images. The cost is 2 * steps forward and backward passes of the decoder per image.
        steps: number of refinement steps.
        pairs: antithetic pairs of noise on which the posteriors before and after are compared.
        rate: rho of the first step, in (0, 1].
        seed: seed of all noise.

    Raises:
        InputError: for fewer than two images, no steps, no pairs, or a posterior that is not a diagonal Gaussian.
        RunError: if a posterior or a gain is not finite; names the image.
    """
    if floating(x).ndim != 4 or len(x) < 2:
        raise InputError(f"x: expected images [images channel height width], at least 2, got shape {tuple(x.shape)}.")
    check_samples(steps, "steps")
    check_samples(pairs, "pairs")
    with evaluating(vae), seeded(seed, "encoder lag"), parametrize.cached():
        with torch.no_grad():
            encoded = diagonal_normal(vae.encoder(x))
        mean, log_variance = encoded.loc, 2 * encoded.scale.log()
        refuse_not_finite("posterior", mean + log_variance)
        refined = _refine(vae, x, mean, log_variance, steps, rate)
        with torch.no_grad():
            noise = _antithetic(mean, pairs)
            gain = _elbo(vae, x, *refined, noise) - _elbo(vae, x, mean, log_variance, noise)
            moved = kl_divergence(_gaussian(*refined), _gaussian(mean, log_variance))
    refuse_not_finite("refined posterior", gain + moved)
    return EncoderLag(
        gain_nats=gain.mean().item(),
        gain_standard_error_nats=(gain.std() / math.sqrt(len(x))).item(),
        moved_nats=moved.mean().item(),
        images=len(x),
        steps=steps,
    )


measure_encoder_lag = encoder_lag
"""Name of `encoder_lag` in `mpdvae.measures`."""


def _refine(vae: VAE, x: Tensor, mean: Tensor, log_variance: Tensor, steps: int, rate: float) -> tuple[Tensor, Tensor]:
    """Returns (m, log s^2) after natural-gradient steps from the given values."""
    m, l = mean, log_variance  # noqa: E741
    for step in range(steps):
        m, l = m.detach().requires_grad_(), l.detach().requires_grad_()  # noqa: E741
        elbo = _elbo(vae, x, m, l, _antithetic(m, 1)).sum()
        gradient_m, gradient_l = torch.autograd.grad(elbo, [m, l])
        rho = rate * (1 - step / steps)
        # In units of the metric, in which the length of a step is in standard deviations of q.
        a, b = rho * torch.exp(log_variance / 2) * gradient_m, rho * 2 * gradient_l
        length = torch.cat([a.flatten(1), b.flatten(1)], 1).norm(dim=1)
        shrink = (LONGEST_STEP / length).clamp_max(1.0).reshape(-1, *[1] * (m.ndim - 1))
        m, l = m + shrink * torch.exp(log_variance / 2) * a, l + shrink * b  # noqa: E741
    return m.detach(), l.detach()


def _elbo(vae: VAE, x: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Float[Tensor, " images"]:
    """Returns each image's ELBO in nats under N(mean, exp(log_variance)), with the given noise [samples images *latent]."""
    q = _gaussian(mean, log_variance)
    z = mean + torch.exp(log_variance / 2) * noise
    return vae.decoder(z).log_prob(x).mean(0) - vae.kl(q, z)


def _gaussian(mean: Tensor, log_variance: Tensor) -> Independent:
    return Independent(Normal(mean, torch.exp(log_variance / 2), validate_args=False), mean.ndim - 1)


def _antithetic(like: Tensor, pairs: int) -> Tensor:
    noise = torch.randn(pairs, *like.shape, dtype=like.dtype, device=like.device)
    return torch.cat([noise, -noise])
