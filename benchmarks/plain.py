r"""Baselines that `speed.py` compares this package with: the usual implementations, exact but slow.

- `square_kernels`: convolutions with the whole square kernel, including the zeros below its centre, and torch's ELU, in
  torch's default memory layout.
- `plain_sample`: runs the whole network for every pixel.
- `plain_inverse`: runs the whole networks of a flow step for every site.
- `plain_bound`: decodes all importance samples at once, and computes the likelihood from probabilities, log(p + 1e-12).
- `plain_divergence`: computes one tensor [image, image, latent] of pairwise KL divergences.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.nn.functional import conv2d, elu

from mpdvae import VAE
from mpdvae.models.flows import AutoregressiveFlow, AutoregressiveStep
from mpdvae.networks import blocks, masked, pixelcnn


def _square_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


PLAIN = {
    (masked, "_causal_conv2d"): _square_conv2d,
    (masked, "_square_conv2d"): _square_conv2d,
    (blocks, "convolve"): conv2d,
    (blocks, "elu"): elu,
    (pixelcnn, "elu"): elu,
}
"""Functions that replace those of this package, by module and name."""


@contextmanager
def square_kernels(module: nn.Module) -> Iterator[None]:
    """Within the context, causal convolutions also multiply the zeros of their masks, and convolutions and ELU are torch's;
    `module` is converted to the default memory layout."""
    module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] - missing in torch's stubs
    ours = {place: getattr(*place) for place in PLAIN}
    try:
        for place, function in PLAIN.items():
            setattr(*place, function)
        yield
    finally:
        for place, function in ours.items():
            setattr(*place, function)


@torch.no_grad()
def plain_pixel(
    parameters: Callable[[Tensor], Tensor],
    draw: Callable[[Tensor, int, int], Tensor],
    x: Float[Tensor, "*batch channel height width"],
    row: int,
    column: int,
) -> None:
    """Draws one pixel of the images `x` in place: computes the parameters of all pixels and uses those of one."""
    x[..., row, column] = draw(parameters(x)[..., row, column], row, column)


def plain_sample(
    parameters: Callable[[Tensor], Tensor],
    draw: Callable[[Tensor, int, int], Tensor],
    x: Float[Tensor, "*batch channel height width"],
) -> Float[Tensor, "*batch channel height width"]:
    """Draws images pixel by pixel into `x`, running the whole network for every pixel; returns `x`.

    Arguments:
        parameters: maps images to the parameters of all their pixels.
        draw: maps the parameters [*batch parameter] of the pixel at a row and column to its values [*batch channel].
    """
    for row in range(x.shape[-2]):
        for column in range(x.shape[-1]):
            plain_pixel(parameters, draw, x, row, column)
    return x


@torch.no_grad()
def plain_inverse(flow: AutoregressiveFlow, u: Tensor) -> Tensor:
    """Returns z with flow.to_base(z) = u, [batch *event], by one full forward pass of a step's networks per site and step.

    Weights are normalised in every pass; within `torch.nn.utils.parametrize.cached()`, only once.
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
    """Returns (u - mu(z)) exp(-l(z) / 2), which is correct at every site whose preceding sites of z are correct."""
    shifted = u - step.mean(z)
    return shifted if step.log_variance is None else shifted * torch.exp(-step.log_variance(z) / 2)


@torch.no_grad()
def plain_bound(vae: VAE, x: Float[Tensor, "1 channel height width"], samples: int) -> Float[Tensor, ""]:
    """Returns the importance-weighted bound of one binary image: encodes `samples` copies, decodes all samples at once, and
    computes the likelihood from probabilities."""
    q = vae.encoder(x.expand(samples, *x.shape[1:]))
    z = q.rsample()
    p = vae.decoder(z).parameters(x).sigmoid()
    log_likelihood = (x * (p + 1e-12).log() + (1 - x) * (1 - p + 1e-12).log()).sum((-3, -2, -1))
    return (log_likelihood + vae.prior().log_prob(z) - q.log_prob(z)).logsumexp(0) - math.log(samples)


def plain_divergence(q: Distribution) -> tuple[Tensor, Tensor]:
    """Returns the mean and sample standard deviation of KL(q_i || q_j) over ordered pairs i != j, from one tensor."""
    base = q.base_dist if isinstance(q, Independent) else q
    assert isinstance(base, Normal)
    rows, columns = (Normal(base.loc[axis], base.scale[axis]) for axis in ((slice(None), None), (None,)))
    totals = kl_divergence(rows, columns).sum(-1)
    others = totals[~torch.eye(len(totals), dtype=torch.bool)]
    return others.mean(), others.std()
