"""One pass of a batch through a VAE, from which all terms of an objective are computed."""

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.distributions.pixels import AutoregressivePixels
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.system import gradient_sums
from mpdvae.system.batch_sharding import added, gathered, images_of_all, is_divided, like_all, own
from mpdvae.vae import VAE, Estimator


class ForwardPass:
    """The results of one pass through a VAE; each quantity is computed once, on first access.

    If several processes share a batch (`mpdvae.system.batch_sharding`), `x` holds the process's own images, the only ones
    that pass through its networks; `own_q` and `own_z` belong to these, all other quantities to the whole batch.
    """

    def __init__(
        self,
        vae: VAE,
        x: Float[Tensor, "batch channel height width"],
        samples: int = 1,
        noise: bool = True,
        estimator: Estimator = "analytic-if-possible",
    ) -> None:
        self.vae, self.x = vae, x
        self.estimator: Estimator = estimator
        self.own_q: Distribution = self._encoded()
        self.own_z: Float[Tensor, "samples own *latent"] = self._codes(samples, noise)

    @cached_property
    def q(self) -> Distribution:
        """q(z|x) of each image."""
        return _of_all(self.own_q)

    @cached_property
    def z(self) -> Float[Tensor, "samples batch *latent"]:
        """Draws from `q`, or its mean if there is no noise."""
        return gathered(self.own_z, axis=1)

    @cached_property
    def log_likelihood(self) -> Float[Tensor, "samples batch"]:
        """log p(x|z) in nats."""
        return gathered(self._own_log_likelihood, axis=1)

    @cached_property
    def own_pixels(self) -> Any:
        """p(x|z) of own images, a distribution or whatever else the decoder returns that has its `log_prob`; of pixels that
        depend on each other, the distribution of each given those before it."""
        p = self.vae.decoder(self.own_z)
        return p.given(self.x) if isinstance(p, AutoregressivePixels) else p

    @cached_property
    def _own_log_likelihood(self) -> Tensor:
        return self._log_likelihood_of_own()

    @cached_property
    def reconstruction(self) -> Float[Tensor, " batch"]:
        """-log p(x|z) in nats, averaged over samples of z."""
        return -self.log_likelihood.mean(0)

    @cached_property
    def log_weights(self) -> Float[Tensor, "samples batch"]:
        """log p(x, z) - log q(z|x) in nats."""
        z = self.own_z
        log_weights = self._own_log_likelihood + self.vae.prior().log_prob(z) - self.own_q.log_prob(z)
        return gathered(log_weights, axis=1)

    @cached_property
    def kl(self) -> Float[Tensor, " batch"]:
        """KL(q(z|x) || p(z)) in nats."""
        return gathered(self._kl_of_own())

    @cached_property
    def kl_per_dimension(self) -> Float[Tensor, " latent"]:
        """Batch mean of the KL of each latent dimension, in nats; for factorised priors."""
        q = diagonal_normal(self.own_q)
        p = factorised(self.vae.prior(), "free bits per dimension", "free bits on the total KL")
        return added(kl_divergence(q, p).sum(0)).flatten() / images_of_all(q.loc)

    def backward(self, loss: Float[Tensor, ""], moving: list[nn.Parameter]) -> None:
        """Sets the gradient of `loss`, a function of this pass, in the parameters `moving`."""
        gradient_sums.backward(loss, moving)

    # The network passes, which subclasses may override.

    def _encoded(self) -> Distribution:
        return self.vae.encoder(self.x)

    def _codes(self, samples: int, noise: bool) -> Tensor:
        return _drawn(self.own_q, samples) if noise else self.own_q.mean[None]

    def _log_likelihood_of_own(self) -> Tensor:
        return self.own_pixels.log_prob(self.x)

    def _kl_of_own(self) -> Tensor:
        return self.vae.kl(self.own_q, self.own_z, self.estimator)


def _of_all(q: Distribution) -> Distribution:
    """Returns the posteriors of the whole batch, from those of the process's own images."""
    if not is_divided():
        return q
    normal = diagonal_normal(q)
    mean, deviation = gathered(torch.stack([normal.loc, normal.scale]), axis=1)
    return diagonal_gaussian(mean, deviation)


def _drawn(q: Distribution, samples: int) -> Tensor:
    """Draws [samples own *latent] from the posteriors of own images, using their part of the whole batch's noise."""
    if not is_divided():
        return q.rsample((samples,))
    normal = diagonal_normal(q)
    noise = torch.randn(samples, *like_all(normal.loc).shape, dtype=normal.loc.dtype, device=normal.loc.device)
    return normal.loc + normal.scale * own(noise, axis=1)


def factorised(prior: Distribution, what: str, instead: str) -> Normal:
    """Returns a prior as a Normal of each dimension. Raises `InputError`, saying `what` needs it and what can be used
    `instead`, for any other prior."""
    try:
        return diagonal_normal(prior)
    except InputError:
        raise InputError(
            f"{what}: expected a factorised prior, got {type(prior).__name__}; use the standard normal prior, or {instead}."
        ) from None
