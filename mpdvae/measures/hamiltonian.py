r"""Hamiltonian Monte Carlo: moves of a code z that leave a density unchanged, and the step size that suits it.

With momentum :math:`\rho \sim N(0, I)` and L leapfrog steps of size epsilon from (z, rho) to (z', rho'), the end is taken
with probability

.. math:: \alpha = \min\{1, \exp(\log p(z') - \tfrac12 |\rho'|^2 - \log p(z) + \tfrac12 |\rho|^2)\},

else z is kept (Duane et al. 1987; Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901). Since
the momentum is drawn anew each time, a move is reversible: it is its own reversal under the density.

The step size is adapted by stochastic approximation (Robbins & Monro 1951) with a constant gain, because the density
changes along an annealed path: after each move of a chain :math:`\log\epsilon` grows by gain * (alpha - target). While it
is adapted, epsilon depends on the chain's past, and moves leave the density unchanged only approximately: adapt in a pilot
run, then keep the step sizes that were found.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TARGET = 0.65
"""Acceptance probability at which Hamiltonian Monte Carlo is about most efficient (Beskos et al. 2013,
https://arxiv.org/abs/1001.4460)."""
GAIN = 0.2

Codes = Float[Tensor, "..."]
"""Points [*batch *latent]: one for each chain."""


@dataclass(frozen=True)
class Density:
    """log p(z) of an unnormalised density at some points, and its gradient."""

    log_prob: Float[Tensor, " *batch"]
    gradient: Codes


LogDensity = Callable[[Codes], Density]


def move(
    density: LogDensity,
    z: Codes,
    step_size: Float[Tensor, " *batch"],
    momentum: Codes,
    uniform: Float[Tensor, " *batch"],
    leapfrog_steps: int,
) -> tuple[Codes, Float[Tensor, " *batch"]]:
    """One move of each chain.

    Arguments:
        density: to be left unchanged.
        z: where the chains are.
        step_size: epsilon of each chain.
        momentum: standard normal noise.
        uniform: in [0, 1); the move is made where it lies below the acceptance probability.
        leapfrog_steps: L, >= 1.

    Returns:
        where the chains are then, and the acceptance probability of each; 0 where the end's density is not a number.
    """
    epsilon = step_size.reshape(*step_size.shape, *[1] * (z.ndim - step_size.ndim))
    start = end = density(z)
    position, rho = z, momentum + epsilon / 2 * start.gradient
    for step in range(leapfrog_steps):
        position = position + epsilon * rho
        end = density(position)
        rho = rho + epsilon * (1.0 if step < leapfrog_steps - 1 else 0.5) * end.gradient
    events = tuple(range(step_size.ndim, z.ndim))
    kinetic_gain = (rho.square() - momentum.square()).sum(events) / 2
    acceptance = (end.log_prob - start.log_prob - kinetic_gain).exp().clamp_max(1.0).nan_to_num(0.0)
    accepted = (uniform < acceptance).reshape(epsilon.shape)
    return torch.where(accepted, position, z), acceptance


def adapted(step_size: Float[Tensor, " *batch"], acceptance: Float[Tensor, " *batch"]) -> Float[Tensor, " *batch"]:
    """The step size of each chain after a move with this acceptance probability."""
    return step_size * ((acceptance - TARGET) * GAIN).exp()
