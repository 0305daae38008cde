"""A table of models with known likelihood, in closed form or by summing over a fine grid of codes, for testing laws.

The encoders are wrong on purpose, each wider than its posterior or shifted from it, so that there is something to estimate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from constructors import all_binary_images, shaken
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from mpdvae.models.decoders import IndependentDecoder, pixelcnn_decoder
from mpdvae.models.flows import vector_flow
from mpdvae.models.priors import FlowPrior, StandardNormal
from mpdvae.networks.weight_norm import initialising_by_data
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

NOISE = 0.5
PIXELS = 6
SHAPE = (1, 2, 3)


@dataclass(frozen=True)
class Known:
    """A model, images, and the exact log-likelihood of any images [batch 1 height width]."""

    vae: VAE
    x: Tensor
    law: Callable[[Tensor], Tensor]

    @property
    def log_prob(self) -> Tensor:
        return self.law(self.x)


class LinearEncoder(nn.Module):
    """The posterior of x = W z + noise, z ~ N(0, I), without its correlations, with its standard deviation multiplied by
    `widened` and its mean shifted by `shifted`."""

    def __init__(self, weight: Tensor, widened: float, shifted: float) -> None:
        super().__init__()
        self.weight, self.widened, self.shifted = nn.Parameter(weight), widened, shifted
        self.calls = 0

    def forward(self, x: Tensor) -> Distribution:
        self.calls += len(x)
        precision = torch.eye(self.weight.shape[1]).to(x) + self.weight.mT @ self.weight / NOISE**2
        covariance = precision.inverse()
        mean = x.flatten(1) @ self.weight @ covariance / NOISE**2
        return Independent(Normal(mean + self.shifted, self.widened * covariance.diag().sqrt().expand_as(mean)), 1)


class LinearDecoder(nn.Module):
    def __init__(self, weight: Tensor, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.weight, self.image_shape = nn.Parameter(weight), image_shape
        self.dropout = nn.Dropout(0.9)

    def forward(self, z: Tensor) -> Distribution:
        mean = self.dropout(z @ self.weight.mT).unflatten(-1, self.image_shape)
        return Independent(Normal(mean, NOISE), 3)


def linear_gaussian(widened: float = 1.0, shifted: float = 0.0, latent: int = 3) -> tuple[VAE, Distribution]:
    """Returns a VAE with x = W z + noise, and the distribution of flattened x.

    Up to six columns of W are orthogonal, so that the posterior is diagonal and an encoder that is neither widened nor
    shifted is exact; with more columns, they are small, so that the posterior is nearly diagonal.
    """
    with seeded("linear-gaussian"):
        weight = torch.randn(PIXELS, latent, dtype=torch.float64) / 5
    if latent <= PIXELS:
        weight = torch.linalg.qr(weight).Q * torch.linspace(0.5, 2.0, latent).double()
    vae = VAE(LinearEncoder(weight, widened, shifted), LinearDecoder(weight, SHAPE), StandardNormal((latent,)))
    covariance = weight @ weight.mT + NOISE**2 * torch.eye(PIXELS, dtype=torch.float64)
    return vae.double().train(), MultivariateNormal(torch.zeros(PIXELS, dtype=torch.float64), covariance)


def images(law: Distribution, count: int) -> Tensor:
    with seeded("images"):
        return law.sample((count,)).reshape(count, *SHAPE)


def known_linear_gaussian(latent: int, widened: float = 1.3) -> Known:
    vae, law = linear_gaussian(widened, latent=latent)
    return Known(vae, images(law, 12), lambda x: law.log_prob(x.flatten(1)))


class MixturePrior(nn.Module):
    """A mixture of two normals with means -1 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 2.0], dtype=torch.float64))

    def forward(self) -> Distribution:
        weights = Categorical(torch.tensor([0.3, 0.7], dtype=torch.float64))
        bumps = Independent(Normal(self.means[:, None], torch.full_like(self.means, 0.6)[:, None]), 1)
        return MixtureSameFamily(weights, bumps)


def known_mixture() -> Known:
    """x = W z + noise, with z from a mixture of two normals, so that x follows a mixture of two normals as well."""
    vae, _ = linear_gaussian(1.4, latent=1)
    weight, prior = vae.decoder.weight.detach(), MixturePrior()
    covariance = 0.36 * weight @ weight.mT + NOISE**2 * torch.eye(PIXELS, dtype=torch.float64)
    bumps = MultivariateNormal((prior.means[:, None] * weight[:, 0]).detach(), covariance)
    law = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7], dtype=torch.float64)), bumps)
    return Known(VAE(vae.encoder, vae.decoder, prior), images(law, 12), lambda x: law.log_prob(x.flatten(1)))


class FixedEncoder(nn.Module):
    """A wide posterior whose mean depends on two pixels."""

    def forward(self, x: Tensor) -> Distribution:
        return Independent(Normal(x.flatten(1)[:, :2] - 0.5, torch.full((len(x), 2), 1.3).to(x)), 1)


def enumerated(decoder: nn.Module, prior: nn.Module) -> Known:
    """All binary images of 2x2 pixels; their likelihood is summed over a grid of codes."""
    vae, x = VAE(FixedEncoder(), decoder, prior).double(), all_binary_images(2, 2).double()
    steps = torch.linspace(-7, 7, 71, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps)
    with torch.no_grad():
        joint = vae.decoder(grid[:, None]).log_prob(x) + vae.prior().log_prob(grid)[:, None]
    table, bits = joint.logsumexp(0) + 2 * math.log(0.2), torch.tensor([8, 4, 2, 1])
    return Known(vae, x, lambda x: table[(x.flatten(1).long() * bits).sum(1)])


def independent_pixels() -> nn.Module:
    with seeded("enumeration"):
        body = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4), nn.Unflatten(-1, (1, 2, 2)))
    with torch.no_grad():
        body[2].weight.mul_(4)
    return IndependentDecoder(body)


def dependent_pixels() -> nn.Module:
    """Initialised by data; otherwise z would hardly matter."""
    with seeded("enumeration"):
        decoder = pixelcnn_decoder((1, 2, 2), 2, 4, (3, 5), 2)
        with initialising_by_data(decoder):
            decoder(2 * torch.randn(16, 2)).log_prob(all_binary_images(2, 2))
    return decoder


def flow_prior() -> nn.Module:
    with seeded("enumeration"):
        return FlowPrior(shaken(vector_flow(2, blocks=1, hidden_features=6)), (2,))


MODELS: dict[str, Callable[[], Known]] = {
    "linear-gaussian-1": lambda: known_linear_gaussian(1),
    "linear-gaussian-3": lambda: known_linear_gaussian(3),
    "linear-gaussian-8": lambda: known_linear_gaussian(8, widened=1.1),
    "mixture": known_mixture,
    "binary": lambda: enumerated(independent_pixels(), StandardNormal((2,))),
    "binary-flow-prior": lambda: enumerated(independent_pixels(), flow_prior()),
    "binary-pixelcnn-flow-prior": lambda: enumerated(dependent_pixels(), flow_prior()),
}


@cache
def known(name: str) -> Known:
    """Returns the model of this name; builds it once."""
    return MODELS[name]()


every_model = pytest.mark.parametrize("name", MODELS)
"""Runs a test with an argument `name` on the whole table."""
