"""Chains of annealed importance sampling: from the prior to the posterior by Hamiltonian Monte Carlo moves, and back.

The theory is in `annealed_importance`. Chains are batched over images, [chains batch *latent]; all noise of an image is a
function of the seed and the image's index.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from mpdvae.measures.hamiltonian import Density, LogDensity, adapted, move
from mpdvae.measures.importance_sampling import refuse_broken_weights
from mpdvae.seeding import derive_seed, seeded
from mpdvae.vae import VAE

PILOT_CHAINS = 4
FIRST_STEP_SIZE = 0.2
"""Initial step size of the pilot run's adaptation."""
SHARPNESS = 4.0
"""The schedule is the logistic function between minus and plus this value."""

Report = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """How chains are run: their number, the betas, leapfrog steps per move, memory budget, seed, and progress callback."""

    chains: int
    betas: Float64[Tensor, " betas"]
    leapfrog_steps: int
    memory_budget: int
    seed: int
    report: Report

    @property
    def steps(self) -> int:
        return len(self.betas) - 1


def schedule(steps: int) -> Float64[Tensor, " betas"]:
    """Returns beta_0 = 0, ..., beta_T = 1, spaced by a sigmoid (Wu et al. 2017, appendix)."""
    s = torch.sigmoid(SHARPNESS * torch.linspace(-1, 1, steps + 1, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])


def weigh(
    vae: VAE, x: Tensor, numbers: list[int], start: Tensor, step_sizes: Tensor, plan: Plan, reverse: bool = False
) -> tuple[Float64[Tensor, "chains batch"], Float64[Tensor, " batch"]]:
    """Runs chains from `start` [chains batch *latent] along the betas or, with `reverse`, back along them. Returns their
    log w and mean acceptance probability, which is nan if there are no moves.

    `step_sizes` [moves batch] are those of the moves at the betas strictly between 0 and 1, the same in both directions.
    """
    noise = _Noise(plan.seed, "reverse" if reverse else "forward", numbers)
    widths, z = plan.betas.diff(), start
    log_w = torch.zeros(start.shape[:2], dtype=torch.float64)
    acceptances = [torch.full((0, len(x)), torch.nan, dtype=torch.float64)]
    for t in range(plan.steps)[:: -1 if reverse else 1]:
        # z follows beta_t in the forward direction and beta_(t + 1) in reverse: the factor of the weight is the same.
        log_w += widths[t] * _log_likelihood(vae, x, z)
        following = t if reverse else t + 1  # the next beta; there are no moves at 0 and 1
        if 0 < following < plan.steps:
            density = annealed_density(vae, x, float(plan.betas[following]))
            step_size = step_sizes[following - 1].expand(start.shape[:2])
            z, acceptance = move(density, z, step_size, *noise.draw(z), plan.leapfrog_steps)
            acceptances.append(acceptance.mean(0, keepdim=True).cpu().double())
        plan.report(len(x))
    refuse_broken_weights(log_w, numbers)
    return log_w, torch.cat(acceptances).mean(0)


def pilot(vae: VAE, x: Tensor, numbers: list[int], plan: Plan) -> Tensor:
    """Returns step sizes [moves batch]: adapted per chain in a run along the betas, geometric mean over chains."""
    noise = _Noise(plan.seed, "pilot", numbers)
    z = prior_samples(vae, numbers, PILOT_CHAINS, plan.seed, "pilot").to(x)
    step_size = torch.full_like(z[..., *[0] * (z.ndim - 2)], FIRST_STEP_SIZE)
    found = [step_size.new_empty(0, len(x))]
    for beta in plan.betas[1:-1].tolist():
        z, acceptance = move(annealed_density(vae, x, beta), z, step_size, *noise.draw(z), plan.leapfrog_steps)
        step_size = adapted(step_size, acceptance)
        found.append(step_size.log().mean(0, keepdim=True).exp())
        plan.report(len(x))
    plan.report(len(x))  # for the last beta, which has no move
    return torch.cat(found)


def annealed_density(vae: VAE, x: Tensor, beta: float) -> LogDensity:
    """Returns a function of z [chains batch *latent] that gives log p(z) + beta log p(x|z) and its gradient."""

    def density(z: Tensor) -> Density:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_prob = vae.prior().log_prob(z) + beta * vae.decoder(z).log_prob(x)
            (gradient,) = torch.autograd.grad(log_prob.sum(), z)
        return Density(log_prob.detach(), gradient)

    return density


@torch.no_grad()
def prior_samples(vae: VAE, numbers: list[int], chains: int, seed: int, stream: str) -> Tensor:
    """Draws codes [chains batch *latent] from the prior; those of an image depend only on the seed and its index."""
    codes = []
    for number in numbers:
        with seeded(seed, "annealed start", stream, number):
            codes.append(vae.prior().sample((chains,)))
    return torch.stack(codes, 1)


@torch.no_grad()
def _log_likelihood(vae: VAE, x: Tensor, z: Tensor) -> Float64[Tensor, "chains batch"]:
    return vae.decoder(z).log_prob(x).cpu().double()


class _Noise:
    """Noise of the moves, from a separate generator per image."""

    def __init__(self, seed: int, stream: str, numbers: list[int]) -> None:
        seeds = [derive_seed(seed, "annealed moves", stream, number) for number in numbers]
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]

    def draw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Draws momentum shaped like z [chains batch *latent], and uniform noise [chains batch]."""
        shape = (len(z), *z.shape[2:])
        momentum = torch.stack([torch.randn(shape, generator=g) for g in self.generators], 1)
        uniform = torch.stack([torch.rand(len(z), generator=g) for g in self.generators], 1)
        return momentum.to(z), uniform.to(z)
