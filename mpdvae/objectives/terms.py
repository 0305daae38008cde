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

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.divergence import (
    DiversityForm,
    SmoothnessOver,
    diversity_term,
    mutual_posterior_divergence,
    smoothness_term,
)
from mpdvae.errors import InputError
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.objectives.kl_weights import AdaptiveWeight, Constant, Schedule
from mpdvae.objectives.piecewise import PiecewisePass
from mpdvae.vae import VAE, Estimator, check_samples

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


def check_weight(name: str, weight: float) -> None:
    """Raises `InputError` unless the weight called `name` is above zero."""
    if not weight > 0:
        raise InputError(f"{name}: a term needs a weight > 0, got {weight}; leave the term out instead.")
