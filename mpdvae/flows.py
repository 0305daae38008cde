r"""Autoregressive flows on vectors, for the prior p(z).

One step, in the direction in which densities are computed, from z to u:

.. math:: u_o = \mu_o(z_{<o}) + z_o \, e^{l_o(z_{<o}) / 2}, \qquad \log |\det \partial u / \partial z| = \tfrac12 \sum_o l_o,

with mu and l each a MADE of its own; "mean-only" steps keep l = 0 and the volume. All outputs come at once in this direction;
inverting takes one pass per dimension. A *dual block* is a step in the order n-1..0 followed by one in the order 0..n-1.

Papamakarios et al., "Masked Autoregressive Flow", NeurIPS 2017, https://arxiv.org/abs/1705.07057; as a prior: Chen et al.,
"Variational Lossy Autoencoder", ICLR 2017, https://arxiv.org/abs/1611.02731.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.networks.made import MADE

INIT_SCALE = 0.1
"""Steps start near the identity: the released code initialises the layers of its flows at a tenth of the usual scale."""


class AutoregressiveStep(nn.Module):
    """u = mu(z) + z exp(l(z) / 2), one MADE each for mu and l.

    Arguments:
        features: n, the length of z.
        hidden_features, hidden_layers: of each MADE.
        reverse: order n-1..0 instead of 0..n-1.
        mean_only: l = 0.
    """

    def __init__(
        self,
        features: int,
        hidden_features: int,
        hidden_layers: int = 1,
        reverse: bool = False,
        mean_only: bool = False,
    ) -> None:
        super().__init__()
        self.reverse = reverse
        self.mean = MADE(features, hidden_features, hidden_layers, reverse, INIT_SCALE)
        self.log_variance = None if mean_only else MADE(features, hidden_features, hidden_layers, reverse, INIT_SCALE)

    def to_base(
        self, z: Float[Tensor, "*batch latent"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, " *batch"]]:
        """u, and log |det du/dz|."""
        mean = self.mean(z)
        if self.log_variance is None:
            return mean + z, z.new_zeros(z.shape[:-1])
        half_log_variance = self.log_variance(z) / 2
        return mean + z * half_log_variance.exp(), half_log_variance.sum(-1)

    def from_base(self, u: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """z, dimension by dimension in the order of the step."""
        z = torch.zeros_like(u)
        dimensions = range(u.shape[-1])
        for o in reversed(dimensions) if self.reverse else dimensions:
            shifted = u[..., o] - self.mean(z)[..., o]
            scale = 1.0 if self.log_variance is None else (self.log_variance(z)[..., o] / 2).exp()
            z[..., o] = shifted / scale
        return z


class AutoregressiveFlow(nn.Module):
    """A chain of dual blocks: `blocks` times a step in reversed and a step in natural order.

    Arguments:
        features: n, the length of z.
        blocks: number of dual blocks, >= 1 (the paper's prior has 4).
        hidden_features: of each MADE (the paper's prior: 10 n).
        hidden_layers: of each MADE (the paper's prior: 1).
        mean_only: volume-preserving steps, as in the prior of the Variational Lossy Autoencoder.
    """

    def __init__(
        self,
        features: int,
        blocks: int = 4,
        hidden_features: int = 320,
        hidden_layers: int = 1,
        mean_only: bool = False,
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise InputError(f"blocks: expected at least one dual block, got {blocks}.")
        self.steps = nn.ModuleList(
            AutoregressiveStep(features, hidden_features, hidden_layers, reverse, mean_only)
            for _ in range(blocks)
            for reverse in (True, False)
        )

    def to_base(
        self, z: Float[Tensor, "*batch latent"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, " *batch"]]:
        """u = f(z), and log |det du/dz|."""
        log_det = z.new_zeros(z.shape[:-1])
        for step in self._steps():
            z, step_log_det = step.to_base(z)
            log_det = log_det + step_log_det
        return z, log_det

    def from_base(self, u: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """z with f(z) = u."""
        for step in reversed(self._steps()):
            u = step.from_base(u)
        return u

    def _steps(self) -> list[AutoregressiveStep]:
        return [step for step in self.steps if isinstance(step, AutoregressiveStep)]
