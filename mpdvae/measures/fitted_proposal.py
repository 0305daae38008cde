r"""A proposal for importance sampling that is fitted to each image: a Gaussian moved and turned towards p(z|x), mixed with q.

The encoder's q(z|x) = N(m, diag s^2) misses the posterior in its mean, and has none of its correlations. In 32 dimensions
this leaves a handful of effective samples out of hundreds. In coordinates y = (z - m) / s, where q is N(0, I), with
:math:`g(y) = \nabla_y \log p(x, z)`, the Gaussian N(c, P^-1) closest to the posterior in KL(. || p) satisfies

.. math:: \mathbb{E}\, g(y) = 0, \qquad P = -\mathbb{E}\, \nabla g(y)

(Opper & Archambeau 2009, https://doi.org/10.1162/neco.2008.08-07-592). Both are found from gradients at few points. For a
Gaussian posterior g(y) = -P (y - c), so P is the matrix of a regression of gradients on points, here shrunk towards that of
q, the identity, by a ridge. Points come in antithetic pairs c + d, c - d, whose difference has no second-order error. The
directions of an image are orthogonal, and each is distributed as N(0, I): the first round, around the mean of q, are draws
of q. Later rounds stretch them by P^-1/2, so that they probe where the posterior is. It is the symmetric root, a continuous
function of P: eigenvectors of nearly equal eigenvalues are not, and with them last digits would decide where draws fall.
After each round, c moves by the Newton step P^-1 mean(g), of limited length; the regression uses the gradients of all rounds.
Codes with more than `FULL` dimensions get a diagonal P.

Samples are drawn from the mixture

.. math:: r(z) = a\, q(z|x) + (1 - a)\, N(z;\, c, w^2 P^{-1}), \qquad \log w = \log p(x, z) - \log r(z),

with a wider by w > 1: tails that are too light cost more than tails that are too heavy. q is the defensive component: since
r >= a q, no weight is more than 1 / a times that from q, however bad the fit (Hesterberg 1995; Owen & Zhou 2000,
https://doi.org/10.1080/01621459.2000.10473909). r is the balance heuristic's denominator of either component.

*In which sense weights are unbiased.* The points of the fit use noise of their own. Given them, r is fixed, and samples are
independent draws from it: E w = p(x) exactly, for any number of samples and however the fit turned out. The points count
towards r alone, not towards the mean of the weights. Adding them with the denominators of all rounds, as adaptive multiple
importance sampling does (Cornuet, Marin, Mira & Robert 2012, https://arxiv.org/abs/0907.1254), is consistent but not
unbiased, since a denominator then depends on the points that it divides; the unbiased way to add them, with the density of
their own round (Cappé et al. 2008, https://arxiv.org/abs/0710.4242), brings back the heavy tail of q. Elvira et al. 2019
(https://arxiv.org/abs/1511.03095) compare these denominators.

Cost: a gradient with respect to z counts as `GRADIENT_COST` evaluations of the decoder.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Normal

from mpdvae.seeding import derive_seed
from mpdvae.vae import VAE

PAIRS = (8, 8, 16)
"""Antithetic pairs of points in each round of the fit."""
GRADIENT_COST = 2
"""Evaluations of the decoder that a gradient with respect to z takes, forward and back, as measured."""
POINTS = 2 * sum(PAIRS)
"""Points at which the fit evaluates gradients."""
FIT_COST = POINTS * GRADIENT_COST
"""Evaluations of the decoder per image that a fit takes."""
FULL = 128
"""Most dimensions of a code with a full covariance."""
DEFENSIVE, DEFENSIVE_OF_MAPS = 0.05, 0.5
"""Share a of q in the mixture; with a diagonal covariance, which seldom gains much."""
WIDTH = 1.1
"""Factor w of the standard deviations of the fitted Gaussian."""
RIDGE = 4.0
"""Pseudo-gradients that agree with q's own covariance, per dimension."""
LEAST, LARGEST = 0.05, 20.0
"""Bounds on the precision along each axis, relative to q."""


class Joint(NamedTuple):
    """log p(x|z) and log p(z) [draws batch], float64 on the CPU, and the gradient of their sum with respect to z."""

    log_likelihood: Float64[Tensor, "draws batch"]
    log_prior: Float64[Tensor, "draws batch"]
    gradient: Float64[Tensor, "draws batch dimension"]


class Points(NamedTuple):
    """The points of the first round, which are draws of q: [draws batch *latent], and what was found there."""

    z: Tensor
    joint: Joint


@dataclass(frozen=True)
class FittedProposal:
    """The mixture r(z) of each image. Tensors in float64 on the CPU, codes flattened."""

    q: Normal
    """Posteriors of the encoder [batch *latent], on the model's device."""
    centre: Float64[Tensor, "batch dimension"]
    axes: Float64[Tensor, "batch dimension dimension"] | None
    """Orthonormal columns: the axes of P; None: those of the code."""
    precision: Float64[Tensor, "batch dimension"]
    """Eigenvalues of P."""

    def of_images(self, chosen: Tensor) -> "FittedProposal":
        """Returns the proposals of the chosen images."""
        axes = None if self.axes is None else self.axes[chosen]
        q = Normal(self.q.loc[chosen], self.q.scale[chosen])
        return FittedProposal(q, self.centre[chosen], axes, self.precision[chosen])

    def draw(
        self, noise: Float[Tensor, "draws batch *latent"], uniform: Float64[Tensor, "draws batch"]
    ) -> tuple[Float[Tensor, "draws batch *latent"], Float64[Tensor, "draws batch"]]:
        """Returns codes and log r at them. `uniform` noise in [0, 1) chooses the component."""
        e = noise.flatten(2).cpu().double()
        share = DEFENSIVE_OF_MAPS if self.axes is None else DEFENSIVE
        turned = self.centre + WIDTH * _stretched(self.axes, self.precision, e)
        y = torch.where((uniform < share)[..., None], e, turned)
        whitened = _across(self.axes, y - self.centre) * self.precision.sqrt() / WIDTH
        log_fitted = self.precision.log().sum(-1) / 2 - e.shape[-1] * math.log(WIDTH) - whitened.square().sum(-1) / 2
        mixed = torch.logaddexp(math.log(share) - y.square().sum(-1) / 2, math.log1p(-share) + log_fitted)
        scale = self.q.scale.flatten(1).cpu().double()
        log_density = mixed - scale.log().sum(-1) - e.shape[-1] / 2 * math.log(2 * math.pi)
        return _codes(self.q, y), log_density


def fit(
    q: Normal, joint: Callable[[Tensor], Joint], seed: int, indices: Sequence[int]
) -> tuple[FittedProposal, Points]:
    """Fits the proposal of each image.

    Arguments:
        q: posteriors of the encoder, [batch *latent].
        joint: evaluates the joint density at codes [draws batch *latent].
        seed: seed of the points, which are a function of it and of the image's index.
        indices: the index of each image.
    """
    directions = _directions(q, seed, indices)
    scale, centre = q.scale.flatten(1).cpu().double(), torch.zeros(len(indices), directions.shape[-1]).double()
    axes, precision, first = None, torch.ones_like(centre), None
    moments = _Moments.empty(centre)
    for normal in directions.split(PAIRS):
        half = _stretched(axes, precision, normal)
        pairs = torch.cat([half, -half])
        z = _codes(q, centre + pairs)
        found = joint(z)
        first = first or Points(z, found)
        gradient = (found.gradient * scale).nan_to_num(0.0, 0.0, 0.0)
        moments = moments.with_round(pairs, gradient - gradient.mean(0))
        axes, precision = moments.solved()
        centre = centre + _step(axes, precision, gradient.mean(0))
    assert first is not None
    return FittedProposal(q, centre, axes, precision), first


def joint_density(
    vae: VAE, x: Float[Tensor, "batch channel height width"], z: Float[Tensor, "draws batch *latent"]
) -> Joint:
    """Evaluates log p(x|z), log p(z) and the gradient of their sum."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        log_likelihood, log_prior = vae.decoder(z).log_prob(x), vae.prior().log_prob(z)
        (gradient,) = torch.autograd.grad((log_likelihood + log_prior).sum(), z)
    values = (log_likelihood, log_prior, gradient.flatten(2))
    return Joint(*(value.detach().cpu().double() for value in values))


def fit_bytes(dimensions: int) -> int:
    """Returns the bytes that the fit of one image holds beside the decoder's."""
    return 8 * POINTS * dimensions * 8 + (10 * 8 * dimensions**2 if dimensions <= FULL else 0)


@dataclass(frozen=True)
class _Moments:
    """Sums over points of products of directions and gradients; full matrices, or their diagonals."""

    of_points: Tensor
    with_gradients: Tensor

    @classmethod
    def empty(cls, centre: Tensor) -> "_Moments":
        batch, dimensions = centre.shape
        zeros = centre.new_zeros((batch, dimensions, dimensions) if dimensions <= FULL else (batch, dimensions))
        return cls(zeros, zeros)

    def with_round(self, points: Tensor, gradients: Tensor) -> "_Moments":
        if self.of_points.ndim == 3:
            y, g = points.transpose(0, 1), gradients.transpose(0, 1)
            return _Moments(self.of_points + y.mT @ y, self.with_gradients + y.mT @ g)
        products = (points * points).sum(0), (points * gradients).sum(0)
        return _Moments(self.of_points + products[0], self.with_gradients + products[1])

    def solved(self) -> tuple[Tensor | None, Tensor]:
        """Returns axes and precisions of the ridge regression of gradients on points."""
        if self.of_points.ndim == 2:
            ridge = POINTS  # the other dimensions' share in a gradient is noise here
            return None, ((ridge - self.with_gradients) / (ridge + self.of_points)).clamp(LEAST, LARGEST)
        ridge = RIDGE * torch.eye(self.of_points.shape[-1], dtype=torch.float64)
        precision = torch.linalg.solve(self.of_points + ridge, ridge - self.with_gradients)
        eigenvalues, axes = torch.linalg.eigh((precision + precision.mT) / 2)
        return axes, eigenvalues.clamp(LEAST, LARGEST)


def _step(axes: Tensor | None, precision: Tensor, gradient: Tensor) -> Tensor:
    """Returns the Newton step P^-1 gradient, shortened to the trust region."""
    step = _along(axes, _across(axes, gradient) / precision)
    most = 1 + math.sqrt(step.shape[-1]) / 6
    return step * (most / step.norm(dim=-1, keepdim=True)).clamp_max(1.0)


def _directions(q: Normal, seed: int, indices: Sequence[int]) -> Float64[Tensor, "points batch dimension"]:
    """Draws one direction of each pair: as N(0, I), as many as possible of them orthogonal."""
    dimensions, count = q.loc[0].numel(), sum(PAIRS)
    generator, drawn = torch.Generator(), torch.empty(len(indices), count, dimensions, dtype=torch.float64)
    for index, one in zip(indices, drawn, strict=True):
        one.normal_(generator=generator.manual_seed(derive_seed(seed, "fitted proposal", index)))
    blocks = [torch.linalg.qr(block.mT).Q.mT for block in drawn.split(dimensions, 1)]
    return (torch.cat(blocks, 1) * drawn.norm(dim=-1, keepdim=True)).transpose(0, 1)


def _codes(q: Normal, y: Float64[Tensor, "draws batch dimension"]) -> Float[Tensor, "draws batch *latent"]:
    """Returns m + s y."""
    return q.loc + q.scale * y.unflatten(-1, q.loc.shape[1:]).to(q.loc)


def _stretched(axes: Tensor | None, precision: Tensor, noise: Float64[Tensor, "*draws batch dimension"]) -> Tensor:
    """Returns P^-1/2 times noise, with the symmetric root."""
    return _along(axes, _across(axes, noise) / precision.sqrt())


def _along(axes: Tensor | None, coordinates: Float64[Tensor, "*draws batch dimension"]) -> Tensor:
    """Maps coordinates along the axes to y."""
    return coordinates if axes is None else torch.einsum("bij,...bj->...bi", axes, coordinates)


def _across(axes: Tensor | None, y: Float64[Tensor, "*draws batch dimension"]) -> Tensor:
    """Maps y to coordinates along the axes."""
    return y if axes is None else torch.einsum("bji,...bj->...bi", axes, y)
