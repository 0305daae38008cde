r"""Training objectives as named terms that sum to the loss, in nats per image, to be minimised.

    loss = reconstruction + kl + diversity + smoothness + ...

`reconstruction` is :math:`-E_q \log p(x|z)`, `kl` the (scheduled, floored) KL(q(z|x) || p(z)); the other two are the terms of
MAE (see `mpdvae.divergence`). Without `kl` and without noise the objective is that of a plain autoencoder.

A term is a function of one `ForwardPass` and the step. Terms are put together by name:

    Objective({"reconstruction": reconstruction, "kl": KL(), "diversity": Diversity(1.0), "smoothness": Smoothness(0.5)})

Free bits: Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016,
https://arxiv.org/abs/1606.04934 (appendix C.8). Annealing: Bowman et al. 2016, https://arxiv.org/abs/1511.06349; cyclical:
Fu et al. 2019, https://arxiv.org/abs/1903.10145.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from mpdvae.divergence import DiversityForm, SmoothnessOver, diagonal_normal, diversity_term, smoothness_term
from mpdvae.errors import InputError
from mpdvae.vae import VAE, Estimator, check_samples


class ForwardPass:
    """What one pass through a VAE gives; each quantity is computed once, when first asked for."""

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
        self.q: Distribution = vae.encoder(x)
        self.z: Tensor = self.q.rsample((samples,)) if noise else self.q.mean[None]

    @cached_property
    def reconstruction(self) -> Float[Tensor, " batch"]:
        """-log p(x|z) in nats, mean over samples of z."""
        return -self.vae.decoder(self.z).log_prob(self.x).mean(0)

    @cached_property
    def kl(self) -> Float[Tensor, " batch"]:
        """KL(q(z|x) || p(z)) in nats."""
        return self.vae.kl(self.q, self.z, self.estimator)

    @cached_property
    def kl_per_dimension(self) -> Float[Tensor, " latent"]:
        """Batch mean of the KL of each latent dimension, in nats; for priors that factorise."""
        q, prior = diagonal_normal(self.q), self.vae.prior()
        try:
            p = diagonal_normal(prior)
        except InputError:
            raise InputError(
                f"free bits per dimension need a prior that factorises, got {type(prior).__name__}; use the standard normal "
                "prior, or free bits on the total."
            ) from None
        return kl_divergence(q, p).mean(0).flatten()


Term = Callable[[ForwardPass, int], Float[Tensor, ""]]
Schedule = Callable[[int], float]
"""From the step (from 0) to a weight."""


def reconstruction(forward: ForwardPass, step: int) -> Float[Tensor, ""]:
    """Batch mean of -log p(x|z) in nats."""
    return forward.reconstruction.mean()


@dataclass(frozen=True)
class Constant:
    """A weight that stays the same (1: the ELBO; another value: beta-VAE)."""

    value: float = 1.0

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """From `start` to 1 in `warm_up_steps` steps, then 1 (KL annealing)."""

    warm_up_steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        check_samples(self.warm_up_steps, "warm_up_steps")

    def __call__(self, step: int) -> float:
        return min(1.0, self.start + (1 - self.start) * step / self.warm_up_steps)


@dataclass(frozen=True)
class Cyclical:
    """`cycles` times, over `total_steps`: from 0 to 1 in the first `rising_fraction` of the cycle, then 1; 1 afterwards."""

    total_steps: int
    cycles: int = 4
    rising_fraction: float = 0.5

    def __post_init__(self) -> None:
        check_samples(self.total_steps, "total_steps")
        check_samples(self.cycles, "cycles")
        if not 0 < self.rising_fraction <= 1:
            raise InputError(f"rising_fraction: expected a number in (0, 1], got {self.rising_fraction}.")

    def __call__(self, step: int) -> float:
        if step >= self.total_steps:
            return 1.0
        position = (step * self.cycles / self.total_steps) % 1.0
        return min(1.0, position / self.rising_fraction)


@dataclass(frozen=True)
class KL:
    """weight(step) * KL, floored by free bits.

    Arguments:
        weight: schedule of the factor.
        free_bits_nats: floor under the batch mean of the total KL, max(mean KL, floor), as in the released code of MAE;
            below it the term has no gradient.
        free_bits_per_dimension_nats: floor under each dimension's batch mean, sum_k max(KL_k, floor); needs a prior that
            factorises.
    """

    weight: Schedule = Constant()
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
        _check_weight("diversity_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        return diversity_term(forward.q, self.weight, self.form)


@dataclass(frozen=True)
class Smoothness:
    """The paper's L_smooth with weight gamma; see `mpdvae.divergence.smoothness_term`."""

    weight: float
    over: SmoothnessOver = "total"

    def __post_init__(self) -> None:
        _check_weight("smoothness_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        return smoothness_term(forward.q, self.weight, self.over)


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
        terms: by name; the loss is their sum.
        samples: draws of z per image.
        noise: whether z is drawn from q, or is its mean (autoencoder).
        estimator: of the KL.
    """

    terms: Mapping[str, Term]
    samples: int = 1
    noise: bool = True
    estimator: Estimator = "analytic-if-possible"

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if not self.terms:
            raise InputError("terms: expected at least one, got none.")

    def __call__(self, vae: VAE, x: Float[Tensor, "batch channel height width"], step: int = 0) -> Loss:
        forward = ForwardPass(vae, x, self.samples, self.noise, self.estimator)
        terms = {name: term(forward, step) for name, term in self.terms.items()}
        return Loss(total=torch.stack(list(terms.values())).sum(), terms=terms, forward=forward)


def _check_weight(name: str, weight: float) -> None:
    if not weight > 0:
        raise InputError(f"{name}: a term needs a weight > 0, got {weight}; leave the term out instead.")
