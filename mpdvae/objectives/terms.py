r"""Training objectives as named terms that sum to the loss, in nats per image, to be minimised.

    loss = reconstruction + kl + diversity + smoothness + ...

`reconstruction` is :math:`-E_q \log p(x|z)`, `kl` the (scheduled, floored) KL(q(z|x) || p(z)); the other two are the terms
of MAE (see `mpdvae.divergence`). Without `kl` and without noise the objective is that of a plain autoencoder.
Further terms:

- `importance_weighted` replaces `reconstruction` and `kl`: :math:`-\log \frac1k \sum_i p(x, z_i) / q(z_i|x)`, the IWAE
  bound of k samples (Burda, Grosse & Salakhutdinov, ICLR 2016, https://arxiv.org/abs/1509.00519). It tolerates errors of q
  that the weights correct.
- `mutual_posterior_divergence`: -w MPD, the divergence as a plain loss (Jhamtani & Berg-Kirkpatrick, EMNLP 2021, section
  6.1). It is unbounded below (variances go to zero), so here it counts only up to a limit, above which it has no gradient.
- Terms of the aggregate posterior (InfoVAE's MMD, total correlation, density gap) are in
  `mpdvae.objectives.aggregate_terms`, latent reconstruction is in `mpdvae.objectives.latent_reconstruction`.

A term is a function of one `ForwardPass` and the step. An objective combines terms by name:

    Objective({"reconstruction": reconstruction, "kl": KL(), "diversity": Diversity(1.0), "smoothness": Smoothness(0.5)})

Free bits: Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016,
https://arxiv.org/abs/1606.04934 (appendix C.8). Weights that change during training: `mpdvae.objectives.kl_weights`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.distributions.pixels import AutoregressivePixels
from mpdvae.divergence import (
    DiversityForm,
    SmoothnessOver,
    diagonal_normal,
    diversity_term,
    mutual_posterior_divergence,
    smoothness_term,
)
from mpdvae.errors import InputError
from mpdvae.objectives.kl_weights import AdaptiveWeight, Constant, Schedule
from mpdvae.system import process_group
from mpdvae.system.batch_sharding import added, gathered, images_of_all, is_divided, like_all, own
from mpdvae.vae import VAE, Estimator, check_samples


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
    def own_pixels(self) -> Distribution:
        """p(x|z) of own images; of pixels that depend on each other, the distribution of each given those before it."""
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
        process_group.backward(loss, moving)

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


Term = Callable[[ForwardPass, int], Float[Tensor, ""]]
"""A function of a forward pass and the step (counted from 0) that returns nats per image."""


def reconstruction(forward: ForwardPass, step: int) -> Float[Tensor, ""]:
    """Returns the batch mean of -log p(x|z) in nats."""
    return forward.reconstruction.mean()


def importance_weighted(forward: ForwardPass, step: int) -> Float[Tensor, ""]:
    """Returns the batch mean of the negative importance-weighted bound of all samples, in nats; for one sample, the
    negative ELBO."""
    return math.log(len(forward.own_z)) - forward.log_weights.logsumexp(0).mean()


@dataclass(frozen=True)
class KL:
    """weight(step) * KL, with a floor (free bits).

    Arguments:
        weight: schedule of the factor.
        free_bits_nats: floor of the batch mean of the total KL, max(mean KL, floor), as in the released code of MAE; below
            it the term has no gradient.
        free_bits_per_dimension_nats: floor of the batch mean of each dimension, sum_k max(KL_k, floor); needs a factorised
            prior.
    """

    weight: Schedule = field(default_factory=Constant)
    free_bits_nats: float = 0.0
    free_bits_per_dimension_nats: float = 0.0

    def __post_init__(self) -> None:
        if min(self.free_bits_nats, self.free_bits_per_dimension_nats) < 0:
            raise InputError("free bits: expected floors >= 0 nats; 0 switches them off.")

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        if self.free_bits_per_dimension_nats > 0:
            kl = forward.kl_per_dimension.clamp_min(self.free_bits_per_dimension_nats).sum()
        else:
            kl = forward.kl.mean()
        if self.free_bits_nats > 0:
            kl = kl.clamp_min(self.free_bits_nats)
        return self.weight(step) * kl


@dataclass(frozen=True)
class Diversity:
    """The paper's L_diverse with weight eta; see `mpdvae.divergence.diversity_term` for its forms."""

    weight: float
    form: DiversityForm = "released"

    def __post_init__(self) -> None:
        check_weight("diversity_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        return diversity_term(forward.own_q, self.weight, self.form)


@dataclass(frozen=True)
class Smoothness:
    """The paper's L_smooth with weight gamma; see `mpdvae.divergence.smoothness_term`."""

    weight: float
    over: SmoothnessOver = "total"

    def __post_init__(self) -> None:
        check_weight("smoothness_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        return smoothness_term(forward.own_q, self.weight, self.over)


@dataclass(frozen=True)
class MutualPosteriorDivergence:
    """-weight * min(MPD, `limit_nats`): the divergence as a plain loss."""

    weight: float
    limit_nats: float = 100.0

    def __post_init__(self) -> None:
        check_weight("mpd_weight", self.weight)
        check_weight("mpd_limit_nats", self.limit_nats)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        return -self.weight * mutual_posterior_divergence(forward.own_q).mean.clamp_max(self.limit_nats)


@dataclass(frozen=True)
class Loss:
    """The value of an objective on one batch: `terms` in nats by name, and `total`, their sum."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]
    forward: ForwardPass


@dataclass(frozen=True)
class Objective:
    """Named terms, and how z is drawn for them.

    Arguments:
        terms: terms by name; the loss is their sum.
        samples: draws of z per image.
        noise: whether z is drawn from q; if not, z is its mean (autoencoder).
        estimator: estimator of the KL.
        adaptive: the adaptive weight of one of the terms, if any; its state is saved in checkpoints.
        images_at_once: images that pass through the networks at once, see `mpdvae.objectives.piecewise`; None: all.
    """

    terms: Mapping[str, Term]
    samples: int = 1
    noise: bool = True
    estimator: Estimator = "analytic-if-possible"
    adaptive: AdaptiveWeight | None = None
    images_at_once: int | None = None

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if not self.terms:
            raise InputError("terms: expected at least one, got none.")

    def __call__(self, vae: VAE, x: Float[Tensor, "batch channel height width"], step: int = 0) -> Loss:
        forward = self._pass(vae, x)
        terms = {name: term(forward, step) for name, term in self.terms.items()}
        return Loss(total=torch.stack(list(terms.values())).sum(), terms=terms, forward=forward)

    def _pass(self, vae: VAE, x: Tensor) -> ForwardPass:
        if self.images_at_once is None or not torch.is_grad_enabled():
            return ForwardPass(vae, x, self.samples, self.noise, self.estimator)
        from mpdvae.objectives.piecewise import PiecewisePass  # which builds on this module

        return PiecewisePass(vae, x, self.samples, self.noise, self.estimator, self.images_at_once)

    @property
    def state(self) -> dict[str, float]:
        """State that changes during training apart from the model's weights; empty without an adaptive weight."""
        return {} if self.adaptive is None else self.adaptive.state

    def restore(self, state: dict[str, float]) -> None:
        """Restores a saved state; an empty one means that nothing has adapted yet."""
        if self.adaptive is not None:
            self.adaptive.state |= state

    def adapt(self, loss: Loss) -> None:
        """Called after a step: updates the adaptive weight, if there is one, from the step's batch."""
        if self.adaptive is not None:
            kl, reconstruction = loss.forward.kl, loss.forward.reconstruction
            self.adaptive.adapt(kl.mean().item(), reconstruction.mean().item())


def factorised(prior: Distribution, what: str, instead: str) -> Normal:
    """Returns a prior as a Normal of each dimension. Raises `InputError`, saying `what` needs it and what can be used
    `instead`, for any other prior."""
    try:
        return diagonal_normal(prior)
    except InputError:
        raise InputError(
            f"{what}: expected a factorised prior, got {type(prior).__name__}; use the standard normal prior, or {instead}."
        ) from None


def check_weight(name: str, weight: float) -> None:
    """Raises `InputError` unless the weight called `name` is above zero."""
    if not weight > 0:
        raise InputError(f"{name}: a term needs a weight > 0, got {weight}; leave the term out instead.")
