"""A linear-Gaussian model, whose likelihood is known in closed form.

    z ~ N(0, I),   x|z ~ N(W z + b, sigma^2 I)   =>   x ~ N(b, W W^T + sigma^2 I)

The columns of W are orthogonal, so the exact posterior is diagonal and an encoder can be exact. Uses double precision.
"""

import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

SHAPE = (1, 2, 2)
SIGMA = 0.7
W = torch.tensor([[1.0, 0.5], [-1.0, 0.5], [0.5, 1.0], [0.5, -1.0]], dtype=torch.float64)
B = torch.tensor([0.3, -0.2, 0.1, 0.5], dtype=torch.float64)
PRECISION = 1 + W.square().sum(0) / SIGMA**2


class LinearDecoder(nn.Module):
    def forward(self, z):
        return Independent(Normal((z @ W.mT + B).unflatten(-1, SHAPE), SIGMA), 3)


class LinearEncoder(nn.Module):
    """The exact posterior, with its mean shifted by `shift` and its standard deviation multiplied by `factor`."""

    def __init__(self, shift: float = 0.0, factor: float = 1.0) -> None:
        super().__init__()
        self.shift, self.factor = shift, factor

    def forward(self, x):
        mean = (x.flatten(1) - B) @ W / SIGMA**2 / PRECISION
        return Independent(Normal(mean + self.shift, self.factor * PRECISION.rsqrt().expand_as(mean)), 1)


def log_likelihood(x: torch.Tensor) -> torch.Tensor:
    return MultivariateNormal(B, W @ W.mT + SIGMA**2 * torch.eye(4)).log_prob(x.flatten(1))
