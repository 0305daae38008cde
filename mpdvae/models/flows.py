r"""Autoregressive flows, for the prior p(z) of vectors and of maps.

One step, in the direction in which densities are computed, from z to u:

.. math:: u_o = \mu_o(z_{<o}) + z_o \, e^{l_o(z_{<o}) / 2}, \qquad \log |\det \partial u / \partial z| = \tfrac12 \sum_o
l_o,

with mu and l an autoregressive network each; "mean-only" steps keep l = 0 and preserve volume. In this direction all
outputs are computed at once; the inverse proceeds site by site. A *site* is one number of a vector, or one position of a
map with all its channels. A *dual block* is a step in reversed order followed by one in natural order.

Papamakarios et al., "Masked Autoregressive Flow", NeurIPS 2017, https://arxiv.org/abs/1705.07057; as a prior: Chen et al.,
"Variational Lossy Autoencoder", ICLR 2017, https://arxiv.org/abs/1611.02731.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.networks.batching import over_leading
from mpdvae.networks.incremental import check_alike, incremental
from mpdvae.networks.made import MADE
from mpdvae.networks.made2d import MADE2d

INIT_SCALE = 0.1
"""Steps start near the identity: the released code initialises the layers of its flows at a tenth of the usual scale."""

LogDet = Float[Tensor, " *batch"]


class AutoregressiveStep(nn.Module):
    """u = mu(z) + z exp(l(z) / 2).

    Arguments:
        mean: causal network of mu, from [batch *event] to the same shape, that can be evaluated incrementally.
        log_variance: network of l, of the same architecture, since both are evaluated as one; None for l = 0.
        event_ndim: axes of a code: 1 (vectors) or 3 (maps: channel, height, width).
        reverse: whether the order of sites is last to first. Networks of vectors are built for their order; maps are
            rotated by 180 degrees before and after their networks instead.
    """

    def __init__(
        self, mean: nn.Module, log_variance: nn.Module | None, event_ndim: int = 1, reverse: bool = False
    ) -> None:
        super().__init__()
        if log_variance is not None:
            check_alike(mean, log_variance)
        self.mean, self.log_variance = mean, log_variance
        self.event_ndim, self.reverse = event_ndim, reverse

    def to_base(self, z: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], LogDet]:
        """Returns u, and log |det du/dz|."""
        mean, half_log_variance = self._location_and_scale(z)
        if half_log_variance is None:
            return mean + z, z.new_zeros(z.shape[: z.ndim - self.event_ndim])
        log_det = half_log_variance.flatten(-self.event_ndim).sum(-1)
        return mean + z * half_log_variance.exp(), log_det

    def from_base(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns z, site by site in the order of the step; evaluates the networks incrementally. Without gradients."""
        z = over_leading(self._invert, self._turned(u), self.event_ndim)
        return self._turned(z)

    def _invert(self, u: Tensor) -> Tensor:
        z = torch.zeros(u.shape, dtype=u.dtype, device=u.device)
        height, width = u.shape[-2:] if self.event_ndim == 3 else (1, u.shape[-1])
        network, beside = self.mean, () if self.log_variance is None else (self.log_variance,)
        minus_half = u.new_full((), -0.5)
        # What is known so far is written in place, which autocast, whose results are of another precision, does not allow.
        cast = torch.is_autocast_enabled(u.device.type)
        in_one_precision = torch.autocast(u.device.type, enabled=False) if cast else nullcontext()
        with in_one_precision, incremental(network, height, width, beside=beside) as at:
            for _, u_o, z_o in zip(at.visit(), self._sites(u), self._sites(z), strict=True):
                if beside:
                    mean, log_variance = network(z).unbind()
                    torch.mul(u_o - mean, log_variance.mul(minus_half).exp_(), out=z_o)
                else:
                    torch.sub(u_o, network(z), out=z_o)
        return z

    def _sites(self, y: Tensor) -> tuple[Tensor, ...]:
        """Views of the numbers at each site, in the order of the step: [batch 1], or [batch channel 1 1] for maps."""
        if self.event_ndim == 3:
            return y.flatten(-2)[..., None].split(1, -2)
        return y.split(1, -1)[:: -1 if self.reverse else 1]

    def _location_and_scale(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        turned = self._turned(z)
        mean = self._evaluate(self.mean, turned)
        return mean, None if self.log_variance is None else self._evaluate(self.log_variance, turned) / 2

    def _evaluate(self, network: nn.Module, turned: Tensor) -> Tensor:
        return self._turned(over_leading(network, turned, self.event_ndim))

    def _turned(self, y: Tensor) -> Tensor:
        """Rotates maps of a reversed step by 180 degrees; returns anything else unchanged."""
        return y.flip(-2, -1) if self.event_ndim == 3 and self.reverse else y


class AutoregressiveFlow(nn.Module):
    """A chain of dual blocks: `blocks` times a step in reversed and a step in natural order.

    Arguments:
        step: maps the order (reversed?) to a step.
        blocks: number of dual blocks, >= 1.
    """

    def __init__(self, step: Callable[[bool], AutoregressiveStep], blocks: int) -> None:
        super().__init__()
        if blocks < 1:
            raise InputError(f"blocks: expected at least one dual block, got {blocks}.")
        self.steps = nn.ModuleList(step(reverse) for _ in range(blocks) for reverse in (True, False))

    def to_base(self, z: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], LogDet]:
        """Returns u = f(z), and log |det du/dz|."""
        log_dets = []
        for step in self._steps():
            z, log_det = step.to_base(z)
            log_dets.append(log_det)
        return z, torch.stack(log_dets).sum(0)

    def from_base(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns z with f(z) = u."""
        for step in reversed(self._steps()):
            u = step.from_base(u)
        return u

    def _steps(self) -> list[AutoregressiveStep]:
        return [step for step in self.steps if isinstance(step, AutoregressiveStep)]


def vector_step(
    features: int, hidden_features: int, hidden_layers: int = 1, reverse: bool = False, mean_only: bool = False
) -> AutoregressiveStep:
    """Builds a step on vectors of length `features`, with one MADE each for mu and l."""

    def network() -> MADE:
        return MADE(features, hidden_features, hidden_layers, reverse, INIT_SCALE)

    return AutoregressiveStep(network(), None if mean_only else network(), 1, reverse)


def map_step(
    channels: int,
    hidden_channels: int = 128,
    hidden_layers: int = 2,
    kernel_size: int = 3,
    reverse: bool = False,
    mean_only: bool = False,
) -> AutoregressiveStep:
    """Builds a step on maps of `channels` channels, with one MADE2d each for mu and l."""

    def network() -> MADE2d:
        return MADE2d(channels, hidden_channels, hidden_layers, kernel_size, INIT_SCALE)

    return AutoregressiveStep(network(), None if mean_only else network(), 3, reverse)


def vector_flow(
    features: int, blocks: int = 4, hidden_features: int = 320, hidden_layers: int = 1, mean_only: bool = False
) -> AutoregressiveFlow:
    """Builds a flow on vectors; the defaults are the paper's prior for binary images (hidden features: 10 times 32)."""
    return AutoregressiveFlow(
        lambda reverse: vector_step(features, hidden_features, hidden_layers, reverse, mean_only), blocks
    )


def map_flow(
    channels: int,
    blocks: int = 4,
    hidden_channels: int = 128,
    hidden_layers: int = 2,
    kernel_size: int = 3,
    mean_only: bool = False,
) -> AutoregressiveFlow:
    """Builds a flow on maps; the defaults are the paper's prior for 32x32 colour images."""
    return AutoregressiveFlow(
        lambda reverse: map_step(channels, hidden_channels, hidden_layers, kernel_size, reverse, mean_only), blocks
    )
