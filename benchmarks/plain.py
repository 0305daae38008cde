"""The plain methods that benchmarks compare with: short, evidently right, and slow."""

import torch
from torch import Tensor

from mpdvae.flows import AutoregressiveFlow, AutoregressiveStep


@torch.no_grad()
def plain_inverse(flow: AutoregressiveFlow, u: Tensor) -> Tensor:
    """z with flow.to_base(z) = u, [batch *event]: for each site of each step one full forward pass of the step's networks.

    Weights are normalised in each pass; inside `torch.nn.utils.parametrize.cached()` once for all.
    """
    for step in reversed(flow.steps):
        assert isinstance(step, AutoregressiveStep)
        u = _plain_inverse_of_vectors(step, u) if step.event_ndim == 1 else _plain_inverse_of_maps(step, u)
    return u


def _plain_inverse_of_vectors(step: AutoregressiveStep, u: Tensor) -> Tensor:
    z = torch.zeros_like(u)
    sites = range(u.shape[-1])
    for o in reversed(sites) if step.reverse else sites:
        z[:, o] = _solved(step, z, u)[:, o]
    return z


def _plain_inverse_of_maps(step: AutoregressiveStep, u: Tensor) -> Tensor:
    u = u.flip(-2, -1) if step.reverse else u
    z = torch.zeros_like(u)
    for i in range(u.shape[-2]):
        for j in range(u.shape[-1]):
            z[:, :, i, j] = _solved(step, z, u)[:, :, i, j]
    return z.flip(-2, -1) if step.reverse else z


def _solved(step: AutoregressiveStep, z: Tensor, u: Tensor) -> Tensor:
    """(u - mu(z)) exp(-l(z) / 2), right at each site before which z is right."""
    shifted = u - step.mean(z)
    return shifted if step.log_variance is None else shifted * torch.exp(-step.log_variance(z) / 2)
