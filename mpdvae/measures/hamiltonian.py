r"""Hamiltonian Monte Carlo: moves of a code z that leave a density invariant, and step-size adaptation.

With momentum :math:`\rho \sim N(0, I)` and L leapfrog steps of size epsilon from (z, rho) to (z', rho'), the end point is
accepted with probability

.. math:: \alpha = \min\{1, \exp(\log p(z') - \tfrac12 |\rho'|^2 - \log p(z) + \tfrac12 |\rho|^2)\},

otherwise z is kept (Duane et al. 1987; Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901).
Since the momentum is redrawn for each move, a move is reversible: it is its own reversal under the density.

The step size is adapted by stochastic approximation (Robbins & Monro 1951) with a constant gain, because the density
changes along an annealed path: after each move of a chain, :math:`\log\epsilon` increases by gain * (alpha - target).
During adaptation epsilon depends on the chain's past, and moves leave the density invariant only approximately: adapt in a
pilot run, then freeze the step sizes found.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TARGET = 0.65
"""Acceptance probability at which Hamiltonian Monte Carlo is approximately most efficient (Beskos et al. 2013,
https://arxiv.org/abs/1001.4460)."""
GAIN = 0.2

Codes = Float[Tensor, "..."]
"""Points [*batch *latent], one per chain."""


@dataclass(frozen=True)
class Density:
    """Log-density log p(z), up to a constant, and its gradient at given points."""

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
    """Makes one move of each chain.

    Arguments:
        density: the density to leave invariant.
        z: current positions of the chains.
        step_size: epsilon of each chain.
        momentum: standard normal noise.
        uniform: uniform noise in [0, 1); a move is accepted if its value is below the acceptance probability.
        leapfrog_steps: L, >= 1.

    Returns:
        the new positions, and the acceptance probability of each chain; 0 if the density at the end point is nan.
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
    """Returns the step size of each chain, adapted after a move with the given acceptance probability."""
    return step_size * ((acceptance - TARGET) * GAIN).exp()
