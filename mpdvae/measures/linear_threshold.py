r"""The collapse threshold of the linear theory: which directions of the data are worth coding at a decoder's noise.

Let the decoder be linear with Gaussian pixels, p(x|z) = N(W z + b, sigma^2 I), and z ~ N(0, I). The optimum of :math:`-E
\log p(x|z) + \beta KL` is that of probabilistic principal component analysis (Tipping & Bishop 1999) with the variance
:math:`\beta \sigma^2` in place of :math:`\sigma^2`, since dividing by beta changes only the noise: with the eigenvalues
:math:`\lambda_1 \ge \lambda_2 \ge ...` of the data's covariance, unit i has

.. math:: \lVert W_i \rVert^2 = \max(0, \lambda_i - \beta \sigma^2), \qquad
          KL_i = \max \Big( 0, \tfrac12 \log \frac{\lambda_i}{\beta \sigma^2} \Big) \text{ nats}.

A direction whose variance is at most :math:`\beta \sigma^2` is therefore not coded: its unit collapses at the *optimum*,
whatever the training. No direction at all is coded if the largest eigenvalue is at most that. A learned sigma^2 falls, in
the linear model, to the mean of the eigenvalues that the code leaves out, and thereby below those that it uses.

For other decoders this is a diagnosis, not a law: it is exact for how a code begins, because around z = 0 every smooth
decoder is linear, and a collapsed code is stable where the largest eigenvalue is at most beta sigma^2. A nonlinear decoder
can code more cheaply than in straight directions.

Lucas, Tucker, Grosse & Norouzi, "Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse", NeurIPS 2019,
https://arxiv.org/abs/1911.02469; the criterion as a phase transition, also of deep decoders: "Posterior Collapse as a Phase
Transition in Variational Autoencoders", 2025, https://arxiv.org/abs/2510.01621.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mpdvae.distributions.gaussian import GaussianPixels
from mpdvae.distributions.support import floating
from mpdvae.errors import InputError
from mpdvae.measures.density import evaluating
from mpdvae.measures.tables import Table, tensor_of
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

MOST_IMAGES = 2_000
"""Random images from which a model's spectrum is computed, at most: eigenvalues of more take minutes."""


@dataclass(frozen=True)
class LinearThreshold:
    """The data's spectrum beside the decoder's noise."""

    eigenvalues: Float64[Tensor, " directions"]
    """Variances of the data along its principal directions, the largest first; those that so many images cannot have are left
    out."""
    decoder_variance: float
    """sigma^2 of the pixels."""
    beta: float
    """Weight of the KL."""

    @property
    def threshold(self) -> float:
        """beta sigma^2: the variance above which a direction is worth coding."""
        return self.beta * self.decoder_variance

    @property
    def directions_above(self) -> int:
        """Number of directions that the optimal linear model codes, given as many units."""
        return int((self.eigenvalues > self.threshold).sum())

    @property
    def rate_per_direction_nats(self) -> Float64[Tensor, " directions"]:
        """KL of each unit of the optimal linear model; zero where it collapses. Infinite without noise."""
        return (self.eigenvalues.clamp_min(0) / self.threshold).log().clamp_min(0) / 2

    def to_dict(self, units: int) -> dict[str, Any]:
        """Returns the measurement for JSON; `units`: length of a code, to which the rate of the linear model is limited."""
        return {
            "largest_eigenvalue": self.eigenvalues[0].item(),
            "decoder_variance": self.decoder_variance,
            "beta": self.beta,
            "threshold": self.threshold,
            "directions_above": self.directions_above,
            "units": units,
            "linear_rate_nats": self.rate_per_direction_nats[:units].sum().item(),
        }


def spectrum(x: Table) -> Float64[Tensor, " directions"]:
    """Returns the eigenvalues of the covariance of images [image ...], an array, a tensor or lists, the largest first: as
    many as there are images or values of pixels, whichever are fewer.

    Raises:
        InputError: for fewer than two images, or images that are not finite.
    """
    images = tensor_of(x, "x")
    if images.ndim < 2 or len(images) < 2 or images[0].numel() == 0:
        raise InputError(
            f"x: expected images [image ...], at least 2 for a covariance, got shape {tuple(images.shape)}."
        )
    broken = (~images.isfinite()).flatten(1).any(1).nonzero()
    if len(broken):
        raise InputError(
            f"x: expected finite pixels, but image {int(broken[0])} has others ({len(broken):,} of {len(images):,} images "
            "do); leave it out.",
            topic="not-a-number",
        )
    centred = images.flatten(1).cpu().double()
    centred = centred - centred.mean(0)
    gram = centred.mT @ centred if len(images) > centred.shape[1] else centred @ centred.mT
    return torch.linalg.eigvalsh(gram / len(images)).flip(0).clamp_min(0)


def linear_collapse_threshold(x: Table, decoder_variance: float, beta: float = 1.0) -> LinearThreshold:
    """Returns the spectrum of images and the threshold of a decoder.

    Arguments:
        x: at least 2 images [image ...]: an array, a tensor or lists.
        decoder_variance: sigma^2 of its pixels, > 0.
        beta: weight of the KL, > 0.

    Raises:
        InputError: for fewer than two images, images that are not finite, or a number that is not above zero.
    """
    for name, given in {"decoder_variance": decoder_variance, "beta": beta}.items():
        if not isinstance(given, Real) or not 0 < given < math.inf:
            raise InputError(f"{name}: expected a number > 0, got {given!r}.")
    return LinearThreshold(spectrum(x), float(decoder_variance), float(beta))


def measure_linear_threshold(
    vae: VAE, x: Float[Tensor, "images channel height width"], beta: float = 1.0, seed: int = 0
) -> LinearThreshold | None:
    """Returns the spectrum of at most `MOST_IMAGES` of the images, chosen at random, and the threshold of a model; None if
    its pixels are not independent Gaussians with one variance, to which the theory does not apply.

    Arguments:
        vae: the model.
        x: at least 2 images, as the model takes them.
        beta: weight of the KL with which it was trained, > 0.
        seed: seed of the choice.

    Raises:
        InputError: for anything but a floating-point tensor of images, or as `linear_collapse_threshold` does.
    """
    x = floating(x)
    with torch.no_grad(), evaluating(vae):
        p = vae.decoder(torch.zeros(1, *vae.latent_shape, dtype=x.dtype, device=x.device))
    if not isinstance(p, GaussianPixels):
        return None
    with seeded(seed, "images of the spectrum"):
        chosen = torch.randperm(len(x))[:MOST_IMAGES]
    return linear_collapse_threshold(x[chosen.to(x.device)], (2 * p.log_sigma.double()).exp().mean().item(), beta)
