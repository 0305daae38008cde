r"""Annealed importance sampling: a referee of likelihoods that does not need the encoder.

Along the path :math:`f_\beta(z) = p(z)\,p(x|z)^\beta` from the prior to the posterior, with
:math:`0 = \beta_0 < \dots < \beta_T = 1`, a chain starts with :math:`z_0 \sim p(z)` and moves by Hamiltonian Monte Carlo
(`hamiltonian`) under each beta in turn:

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log p(x|z_{t-1}), \qquad z_t \sim \mathrm{move}_{\beta_t}(z_{t-1}),
          \qquad \mathbb{E}\,w = p(x)

(Neal 2001, https://arxiv.org/abs/physics/9803008; for VAEs Wu, Burda, Salakhutdinov & Grosse 2017,
https://arxiv.org/abs/1611.04273), so that the log of the mean weight of some chains is a lower bound in expectation. Betas
are a sigmoid's values: small steps at both ends, where the path bends.

*The sandwich.* For an image that the model made itself, z* ~ p(z) and x ~ p(x|z*), z* is an exact draw from the posterior.
The same moves in reversed order from there give weights with :math:`\mathbb{E}\,[1/w] = 1/p(x)`, hence an upper bound,

.. math:: \mathbb{E} \log \tfrac1C \sum_c w_c^{forward} \;\le\; \log p(x) \;\le\;
          \mathbb{E} \Big[ -\log \tfrac1C \sum_c 1 / w_c^{reverse} \Big]

(bidirectional Monte Carlo: Grosse, Ghahramani & Adams 2015, https://arxiv.org/abs/1511.02543). Nothing tells how far apart
the sides are on *other* images than the model's own.

*Moves are made in z*, by the gradient of log p(z) + beta log p(x|z): a flow prior gives its density in one pass, while the
way from its base noise to z, which moves in base space would differentiate, goes site by site.

*Step sizes* are adapted in a pilot run of a few chains, for each chain by itself; then frozen, for each image and beta at
the pilot's geometric mean over chains. The pilot's noise is its own, hence weights are exactly unbiased given its result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mpdvae.density import check_images, evaluating
from mpdvae.errors import InputError
from mpdvae.hamiltonian import Density, adapted, move
from mpdvae.importance import effective_sample_size, log_mean, standard_error
from mpdvae.memory import TRIAL, LiveBytes, usable_bytes
from mpdvae.seeding import derive_seed, seeded
from mpdvae.vae import VAE, check_samples
from mpdvae.weighing import refuse_broken_weights

PILOT_CHAINS = 4
FIRST_STEP_SIZE = 0.2
"""Where the pilot's adaptation begins."""
SHARPNESS = 4.0
"""The schedule is the part of the logistic function between minus and plus this."""

Report = Callable[[int], None]


@dataclass(frozen=True)
class AnnealedEstimate:
    """One value for each image, in nats and float64 on the CPU."""

    log_prob: Float64[Tensor, " batch"]
    """Log of the mean weight: a lower bound on log p(x) in expectation; from reverse chains an upper bound."""
    standard_error: Float64[Tensor, " batch"]
    """Monte-Carlo standard error of `log_prob` by the spread over chains; nan for one chain. Reverse chains of an image
    share their start, so that theirs is too small; errors of means over images don't suffer."""
    effective_sample_size: Float64[Tensor, " batch"]
    """(sum w)^2 / sum w^2, from 1 to the number of chains."""
    acceptance_rate: Float64[Tensor, " batch"]
    """Mean acceptance probability of the moves; nan for one step, which moves nothing."""
    chains: int
    steps: int
    """T, the number of betas above 0."""


@dataclass(frozen=True)
class Sandwich:
    """Bounds on the log-likelihood of images that the model made itself."""

    x: Float[Tensor, "batch channel height width"]
    lower: AnnealedEstimate
    """By forward chains."""
    upper: AnnealedEstimate
    """By reverse chains from the codes that the images were made from."""


@dataclass(frozen=True)
class _Plan:
    """How chains are run: their number, the betas, leapfrog steps per move, the seed, and who is told of each move."""

    chains: int
    betas: Float64[Tensor, " betas"]
    leapfrog_steps: int
    memory_budget: int
    seed: int
    report: Report

    @property
    def steps(self) -> int:
        return len(self.betas) - 1


def estimate(
    vae: VAE,
    x: Float[Tensor, "batch channel height width"],
    chains: int = 16,
    steps: int = 500,
    leapfrog_steps: int = 10,
    memory_budget: int = 2**30,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
) -> AnnealedEstimate:
    """The log-likelihood of each image by annealed importance sampling from the prior.

    Arguments:
        vae: any prior that can be sampled and any decoder with a gradient with respect to z; measured in evaluation mode.
        x: images in the range that the model was made for.
        chains: for each image.
        steps: T, betas above 0; more of them close the gap to log p(x).
        leapfrog_steps: of each move.
        memory_budget: bytes of tensors that may be held beyond the model; images go through in groups.
        seed: of all noise, which is a function of it and of the image's index.
        indices: the number of each image in its data set; default: 0, 1, 2, ...
        progress: called after every move with the share done.

    Raises:
        InputError: for no images, chains or steps, a pixel that is not finite, or a budget too small for one image.
        RunError: when the model gives a weight that is not a finite number; names the image.
    """
    plan = _plan(chains, steps, leapfrog_steps, memory_budget, seed, _reporter(progress, 2 * len(x) * steps))
    indices = list(range(len(x)) if indices is None else indices)
    check_images(x, indices)
    with evaluating(vae):
        return _in_groups(vae, x, indices, plan, lambda piece, numbers: (_forward(vae, piece, numbers, plan)[0],))[0]


def sandwich(
    vae: VAE,
    count: int,
    chains: int = 16,
    steps: int = 500,
    leapfrog_steps: int = 10,
    memory_budget: int = 2**30,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Sandwich:
    """Lower and upper bounds on the log-likelihood of `count` images drawn from the model. Arguments as `estimate`."""
    check_samples(count, "count")
    plan = _plan(chains, steps, leapfrog_steps, memory_budget, seed, _reporter(progress, 3 * count * steps))
    with evaluating(vae):
        with torch.no_grad(), seeded(seed, "simulated images"):
            z = vae.prior().sample((count,))
            x = vae.decoder(z).sample()

        def both(piece: Tensor, numbers: list[int]) -> tuple[AnnealedEstimate, AnnealedEstimate]:
            lower, step_sizes = _forward(vae, piece, numbers, plan)
            start = z[numbers].expand(chains, *z[numbers].shape)
            upper = _run(vae, piece, numbers, start, step_sizes, plan, reverse=True)
            return lower, upper

        lower, upper = _in_groups(vae, x, list(range(count)), plan, both)
    return Sandwich(x, lower, upper)


def schedule(steps: int) -> Float64[Tensor, " betas"]:
    """beta_0 = 0, ..., beta_T = 1 by a sigmoid (Wu et al. 2017, appendix)."""
    s = torch.sigmoid(SHARPNESS * torch.linspace(-1, 1, steps + 1, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])


def _forward(vae: VAE, x: Tensor, numbers: list[int], plan: _Plan) -> tuple[AnnealedEstimate, Tensor]:
    """The estimate by forward chains, and the step sizes [moves batch] that the pilot run found."""
    step_sizes = _pilot(vae, x, numbers, plan)
    start = _prior_samples(vae, numbers, plan.chains, plan.seed, "forward").to(x)
    return _run(vae, x, numbers, start, step_sizes, plan), step_sizes


def _run(
    vae: VAE, x: Tensor, numbers: list[int], start: Tensor, step_sizes: Tensor, plan: _Plan, reverse: bool = False
) -> AnnealedEstimate:
    """Chains from `start` [chains batch *latent], along the betas or, reversed, back."""
    noise = _Noise(plan.seed, "reverse" if reverse else "forward", numbers)
    widths, z = plan.betas.diff(), start
    log_w = torch.zeros(start.shape[:2], dtype=torch.float64)
    acceptances = []
    order = range(plan.steps)
    for t in reversed(order) if reverse else order:
        # z follows beta_t when going forward and beta_(t + 1) when going back: the weight's factor is the same.
        log_w += widths[t] * _log_likelihood(vae, x, z)
        moves = t - 1 if reverse else t  # the index of the move that comes next; there is one at each inner beta
        if 0 <= moves < plan.steps - 1:
            density = _annealed(vae, x, float(plan.betas[moves + 1]))
            momentum, uniform = noise.draw(z)
            step_size = step_sizes[moves].expand(start.shape[:2])
            z, acceptance = move(density, z, step_size, momentum, uniform, plan.leapfrog_steps)
            acceptances.append(acceptance.mean(0).cpu().double())
        plan.report(len(x))
    refuse_broken_weights(log_w, numbers)
    sign = -1 if reverse else 1
    return AnnealedEstimate(
        log_prob=sign * log_mean(sign * log_w),
        standard_error=standard_error(sign * log_w),
        effective_sample_size=effective_sample_size(sign * log_w),
        acceptance_rate=torch.stack(acceptances).mean(0) if acceptances else torch.full_like(log_w[0], torch.nan),
        chains=plan.chains,
        steps=plan.steps,
    )


def _pilot(vae: VAE, x: Tensor, numbers: list[int], plan: _Plan) -> Tensor:
    """Step sizes [moves batch]: adapted for each chain of a run along the betas, averaged over chains."""
    noise = _Noise(plan.seed, "pilot", numbers)
    z = _prior_samples(vae, numbers, PILOT_CHAINS, plan.seed, "pilot").to(x)
    step_size = torch.full_like(z[..., *[0] * (z.ndim - 2)], FIRST_STEP_SIZE)
    found = [step_size.new_empty(0, len(x))]
    for beta in plan.betas[1:-1].tolist():
        momentum, uniform = noise.draw(z)
        z, acceptance = move(_annealed(vae, x, beta), z, step_size, momentum, uniform, plan.leapfrog_steps)
        step_size = adapted(step_size, acceptance)
        found.append(step_size.log().mean(0, keepdim=True).exp())
        plan.report(len(x))
    plan.report(len(x))  # for the last beta, at which nothing moves
    return torch.cat(found)


def _annealed(vae: VAE, x: Tensor, beta: float) -> Callable[[Tensor], Density]:
    """log p(z) + beta log p(x|z) and its gradient, for z [chains batch *latent]."""

    def density(z: Tensor) -> Density:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_prob = vae.prior().log_prob(z) + beta * vae.decoder(z).log_prob(x)
            (gradient,) = torch.autograd.grad(log_prob.sum(), z)
        return Density(log_prob.detach(), gradient)

    return density


@torch.no_grad()
def _log_likelihood(vae: VAE, x: Tensor, z: Tensor) -> Float64[Tensor, "chains batch"]:
    return vae.decoder(z).log_prob(x).cpu().double()


@torch.no_grad()
def _prior_samples(vae: VAE, numbers: list[int], chains: int, seed: int, stream: str) -> Tensor:
    """Codes [chains batch *latent], those of an image being a function of its number."""
    codes = []
    for number in numbers:
        with seeded(seed, "annealed start", stream, number):
            codes.append(vae.prior().sample((chains,)))
    return torch.stack(codes, 1)


class _Noise:
    """The noise of moves, of each image from a generator of its own."""

    def __init__(self, seed: int, stream: str, numbers: list[int]) -> None:
        seeds = [derive_seed(seed, "annealed moves", stream, number) for number in numbers]
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]

    def draw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Momentum like z [chains batch *latent], and uniform numbers [chains batch]."""
        shape = (len(z), *z.shape[2:])
        momentum = torch.stack([torch.randn(shape, generator=g) for g in self.generators], 1)
        uniform = torch.stack([torch.rand(len(z), generator=g) for g in self.generators], 1)
        return momentum.to(z), uniform.to(z)


def _in_groups(
    vae: VAE,
    x: Tensor,
    numbers: list[int],
    plan: _Plan,
    run: Callable[[Tensor, list[int]], tuple[AnnealedEstimate, ...]],
) -> list[AnnealedEstimate]:
    """`run` on as many images at a time as fit the memory budget, its results put together."""
    size = _group_size(vae, x, plan)
    groups = [run(x[at : at + size], numbers[at : at + size]) for at in range(0, len(x), size)]
    return [_joined(parts) for parts in zip(*groups, strict=True)]


def _joined(parts: Sequence[AnnealedEstimate]) -> AnnealedEstimate:
    fields = ("log_prob", "standard_error", "effective_sample_size", "acceptance_rate")
    values = (torch.cat([getattr(part, name) for part in parts]) for name in fields)
    return AnnealedEstimate(*values, chains=parts[0].chains, steps=parts[0].steps)


def _group_size(vae: VAE, x: Tensor, plan: _Plan) -> int:
    """Images whose chains move together within the memory budget, by the bytes that a trial gradient holds."""
    z = _prior_samples(vae, [0], TRIAL, plan.seed, "trial").to(x)
    with LiveBytes() as live:
        _annealed(vae, x[:1], 0.5)(z)
    image = plan.chains * (live.peak // TRIAL + 6 * z[0, 0].nbytes)
    usable = usable_bytes(plan.memory_budget, x, image)
    if usable < image:
        raise InputError(
            f"memory_budget: one image with {plan.chains:,} chains needs {2 * image:,} bytes, "
            f"got {plan.memory_budget:,}; raise the budget or take fewer chains."
        )
    return usable // image


def _plan(chains: int, steps: int, leapfrog_steps: int, memory_budget: int, seed: int, report: Report) -> _Plan:
    for name, count in (("chains", chains), ("steps", steps), ("leapfrog_steps", leapfrog_steps)):
        check_samples(count, name)
    return _Plan(chains, schedule(steps), leapfrog_steps, memory_budget, seed, report)


def _reporter(progress: Callable[[float], None] | None, total: int) -> Report:
    """Counts images moved, and tells `progress` the share of `total`."""
    done = 0

    def report(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(done / total)

    return report
