r"""Diagnostics: the information that the code carries about the image, per dimension and in total, and its collapse.

**Information per dimension.** Let x be uniform on the N images and r = N(a, v) any Gaussian. With m and s^2 the mean
and variance of q(z_k|x),

.. math:: E_x KL(q(z_k|x) || r) = \tfrac12 E_x \Big[ \log v - \log s^2 + \frac{s^2 + (m - a)^2}{v} - 1 \Big],

which is minimal at a = E m and v = V = E s^2 + Var m, the mean and variance of the aggregate q(z_k) = E_x q(z_k|x). The
minimum is

.. math:: R_k = \tfrac12 \big( \log V - E_x \log s^2 \big) \ge 0 .

It is zero exactly if m and s are the same for all images, that is, if the unit has collapsed. It does not involve the
prior, so it is comparable between a standard normal prior and a flow. It is an upper bound on the unit's information, since
E_x KL(q(z_k|x) || r) = I(x; z_k) + KL(q(z_k) || r) for any r.

**Mutual information** between the image and the whole code,
:math:`I_q = E_x E_{q(z|x)} [\log q(z|x) - \log q(z)]`, as a lower and an upper bound from one code of each image
(`mpdvae.measures.information_bracket`). The lower bound cannot exceed log N, and one near that ceiling only means "at least
about this much": it is called saturated.

**Mutual posterior divergence**, mean and spread over all pairs: see `mpdvae.divergence`. It has no ceiling.

**Active units**: those with Var_x(m) > 0.01 (Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519); since
the number depends on the threshold, it is also given for each of `ACTIVE_VARIANCES`.

On the mutual information of a VAE: Hoffman & Johnson, "ELBO surgery" (2016); on collapse and these measures: He,
Spokoyny, Neubig & Berg-Kirkpatrick, ICLR 2019, https://arxiv.org/abs/1901.05534.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from mpdvae.distributions.support import floating
from mpdvae.divergence import diagonal_normal, mutual_posterior_divergence
from mpdvae.errors import InputError
from mpdvae.measures import collapse
from mpdvae.measures.aggregate_posterior import Draws, moments
from mpdvae.measures.collapse import COLLAPSE_NATS, Judgement
from mpdvae.measures.information_bracket import Bracket, bracket, estimate
from mpdvae.measures.representation import posteriors
from mpdvae.vae import VAE

ACTIVE_VARIANCE = 0.01
"""Variance over images of the posterior mean above which a unit counts as active."""

ACTIVE_VARIANCES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Further thresholds for active units: if the count decreases slowly over them, 0.01 is an arbitrary cut."""


@dataclass(frozen=True)
class Diagnostics:
    """Statistics of the code from the posteriors of a set of images. Tensors are float64 on the CPU, values in nats."""

    images: int
    """N, which limits the lower bound on the mutual information to log N."""
    kl_per_dimension: Float64[Tensor, " latent"] | None
    """Mean over images of KL(q(z_k|x) || p(z_k)); None if the prior does not factorise into Gaussians."""
    information_per_dimension: Float64[Tensor, " latent"]
    """R_k of the module docstring: an upper bound on I(x; z_k), zero at collapse, for any prior."""
    active_units: int
    """Dimensions whose posterior mean varies by more than `ACTIVE_VARIANCE` over the images."""
    active_units_by_variance: dict[str, int]
    """The same at each of `ACTIVE_VARIANCES`, with the threshold as text as key."""
    bracket: Bracket
    """Lower and upper bound on the mutual information between image and code, from one code of each image."""
    mpd_per_dimension: Float64[Tensor, " latent"]
    """Mean over ordered pairs of images of KL(q(z_k|x) || q(z_k|x'))."""
    mpd_mean: float
    """Mean over ordered pairs of images of KL(q(z|x) || q(z|x')): the sum of `mpd_per_dimension`."""
    mpd_std: float
    """Standard deviation of that divergence over pairs."""

    @property
    def latent_dim(self) -> int:
        """Number of dimensions of the code."""
        return len(self.information_per_dimension)

    @property
    def idle_units(self) -> int:
        """Number of dimensions that carry less than `COLLAPSE_NATS`."""
        return idle_units(self.information_per_dimension)

    @property
    def verdict(self) -> str:
        """The collapse verdict in words, without the use of the code by the decoder: see `mpdvae.measures.collapse`."""
        return self.judged().sentence

    def judged(self, code_use_nats: float | None = None) -> Judgement:
        """Returns the collapse verdict; `code_use_nats`: the decoder's loss without the code, if measured (`code_use`)."""
        lower = self.bracket.lower.nats
        return collapse.judge(self.idle_units, self.latent_dim, lower, self.bracket.ceiling, code_use_nats)

    def to_dict(self) -> dict[str, Any]:
        """Returns the diagnostics for JSON, with units in the keys."""
        return {
            "mutual_information_nats": self.bracket.lower.nats,
            "mutual_information_standard_error_nats": self.bracket.lower.standard_error,
            "mutual_information_ceiling_nats": self.bracket.ceiling,
            "mutual_information_saturated": self.bracket.saturated,
            "mutual_information_upper_nats": self.bracket.upper.nats,
            "mutual_information_upper_standard_error_nats": self.bracket.upper.standard_error,
            "mpd_per_dimension_nats": self.mpd_per_dimension.tolist(),
            "mpd_mean_nats": self.mpd_mean,
            "mpd_std_nats": self.mpd_std,
            "active_units": self.active_units,
            "active_units_by_variance": self.active_units_by_variance,
            "idle_units": self.idle_units,
            "kl_per_dimension_nats": None if self.kl_per_dimension is None else self.kl_per_dimension.tolist(),
            "information_per_dimension_nats": self.information_per_dimension.tolist(),
            "latent_dim": self.latent_dim,
            "images": self.images,
            "verdict": self.verdict,
        }


def measure(
    vae: VAE, x: Float[Tensor, "images channel height width"], seed: int = 0, batch_size: int = 500
) -> Diagnostics:
    """Computes all diagnostics of the posteriors of `x`, over the whole set.

    Arguments:
        vae: the model; used in evaluation mode, its mode is restored afterwards.
        x: at least 2 images in the value range of the model.
        seed: seed of the single posterior sample per image.
        batch_size: images per encoder pass; does not change the results beyond rounding.

    Raises:
        InputError: for fewer than two images, a batch size below one, or a posterior that is not a diagonal Gaussian.
        RunError: for a posterior that is not finite; names the image.
    """
    if floating(x).ndim != 4 or len(x) < 2:
        raise InputError(f"x: expected images [images channel height width], at least 2, got shape {tuple(x.shape)}.")
    q = posteriors(vae, x, batch_size)
    with torch.no_grad():
        return of_posteriors(q, vae.prior(), seed)


measure_code = measure
"""Name of `measure` in `mpdvae.measures`."""


def of_posteriors(
    q: Independent, prior: Distribution, seed: int = 0, mutual_information: Bracket | None = None
) -> Diagnostics:
    """Computes all diagnostics from given posteriors.

    Arguments:
        q: diagonal Gaussian, flattened, float64 on the CPU, no gradient: batch shape [images], at least 2.
        prior: prior of the same size.
        seed: seed of the single posterior sample per image.
        mutual_information: bounds on the mutual information if they are known, such as those of `information.measure`, which
            include the rate.
    """
    divergence = mutual_posterior_divergence(q)
    return Diagnostics(
        images=len(q.mean),
        kl_per_dimension=_kl_per_dimension(q, prior),
        information_per_dimension=information_per_dimension(q),
        active_units=active_units(q, ACTIVE_VARIANCE),
        active_units_by_variance={f"{threshold:g}": active_units(q, threshold) for threshold in ACTIVE_VARIANCES},
        bracket=mutual_information or bounds_of_information(q, seed),
        mpd_per_dimension=divergence.per_dimension,
        mpd_mean=divergence.mean.item(),
        mpd_std=divergence.std.item(),
    )


def active_units(q: Distribution, threshold: float = ACTIVE_VARIANCE) -> int:
    """Returns the number of latent dimensions whose posterior mean has a variance above `threshold` over the images."""
    return int((diagonal_normal(q).loc.var(0, correction=0) > threshold).sum())


def information_per_dimension(q: Distribution) -> Float64[Tensor, " latent"]:
    """Returns R_k of the module docstring in nats, from diagonal Gaussian posteriors of batch shape [images].

    From a small batch it is underestimated, as is the variance over few images. Latent axes are flattened.
    """
    normal = diagonal_normal(q)
    mean, variance = normal.loc.flatten(1).double(), normal.scale.flatten(1).double().square()
    aggregate = variance.mean(0) + mean.var(0, correction=0)
    # Rounding may give -1e-16 if the exact value is zero.
    return (0.5 * (aggregate.log() - variance.log().mean(0))).clamp_min(0.0)


def bounds_of_information(q: Distribution, seed: int = 0) -> Bracket:
    """Returns a lower and an upper bound on I_q(x; z), from the posteriors of N images, one code of each."""
    return bracket(_draws(q, seed), seed)


def mutual_information(q: Distribution, seed: int = 0) -> tuple[float, float]:
    """Returns the lower bound on I_q(x; z) in nats and its standard error, from the posteriors of N images, one code of each.

    The mixture includes the code's own posterior, so that the bound cannot exceed log N.
    """
    drawn = _draws(q, seed)
    return estimate(drawn.own - drawn.aggregate)


def _draws(q: Distribution, seed: int) -> Draws:
    mean, stddev = moments(q)
    return Draws(mean, stddev, len(mean), seed)


def idle_units(information_per_dimension: Float[Tensor, " latent"], threshold: float = COLLAPSE_NATS) -> int:
    """Returns how many units carry less than `threshold` nats. Raises `InputError` for nan."""
    if information_per_dimension.isnan().any():
        unit = int(information_per_dimension.isnan().nonzero()[0].item())
        units = len(information_per_dimension)
        raise InputError(f"information_per_dimension: unit {unit} of {units} is not a number.")
    return int((information_per_dimension < threshold).sum())


def _kl_per_dimension(q: Independent, prior: Distribution) -> Tensor | None:
    base = prior.base_dist if isinstance(prior, Independent) else prior
    if not isinstance(base, Normal):
        return None
    p = Normal(base.loc.flatten().cpu().double(), base.scale.flatten().cpu().double())
    return kl_divergence(q.base_dist, p).mean(0)
