r"""Annealed importance sampling: a likelihood check that does not need the encoder.

Along the path :math:`f_\beta(z) = p(z)\,p(x|z)^\beta` from the prior to the posterior, with
:math:`0 = \beta_0 < \dots < \beta_T = 1`, a chain starts with :math:`z_0 \sim p(z)` and moves by Hamiltonian Monte Carlo
(`hamiltonian`) under each beta in turn:

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log p(x|z_{t-1}), \qquad z_t \sim \mathrm{move}_{\beta_t}(z_{t-1}),
          \qquad \mathbb{E}\,w = p(x)

(Neal 2001, https://arxiv.org/abs/physics/9803008; for VAEs Wu, Burda, Salakhutdinov & Grosse 2017,
https://arxiv.org/abs/1611.04273), so that the log of the mean weight over chains is a lower bound in expectation. The betas
follow a sigmoid: small steps at both ends, where the path bends.

*The sandwich.* For an image drawn from the model, z* ~ p(z) and x ~ p(x|z*), z* is an exact draw from the posterior. The
same moves in reverse order from z* give weights with :math:`\mathbb{E}\,[1/w] = 1/p(x)`, hence an upper bound,

.. math:: \mathbb{E} \log \tfrac1C \sum_c w_c^{forward} \;\le\; \log p(x) \;\le\;
          \mathbb{E} \Big[ -\log \tfrac1C \sum_c 1 / w_c^{reverse} \Big]

(bidirectional Monte Carlo: Grosse, Ghahramani & Adams 2015, https://arxiv.org/abs/1511.02543). The gap between the bounds
on images *other* than the model's own samples remains unknown.

*Moves are made in z*, with the gradient of log p(z) + beta log p(x|z): a flow prior evaluates its density in one pass,
whereas the map from its base noise to z, which moves in base space would have to differentiate, is computed site by site.

*Step sizes* are adapted in a pilot run of a few chains, separately for each chain; then frozen, for each image and beta at
their geometric mean over the pilot's chains. The pilot uses separate noise: given its result, weights are exactly unbiased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mpdvae.distributions.support import floating
from mpdvae.errors import InputError
from mpdvae.measures.annealing_chains import Plan, Report, annealed_density, pilot, prior_samples, schedule, weigh
from mpdvae.measures.density import check_images, evaluating
from mpdvae.measures.importance_weights import effective_sample_size, log_mean, standard_error
from mpdvae.measures.memory_budget import drawn_in_pieces
from mpdvae.measures.memory_use import TRIAL, LiveBytes, usable_bytes
from mpdvae.models.acceleration import uncompiled
from mpdvae.seeding import seeded
from mpdvae.vae import VAE, check_samples


@dataclass(frozen=True)
class AnnealedEstimate:
    """One value per image, in nats, float64 on the CPU."""

    log_prob: Float64[Tensor, " batch"]
    """Log of the mean weight: a lower bound on log p(x) in expectation; from reverse chains, an upper bound."""
    standard_error: Float64[Tensor, " batch"]
    """Monte-Carlo standard error of `log_prob` from the spread over chains; nan for one chain. Reverse chains of an image
    share their start, which makes it too small; errors of means over images are not affected."""
    effective_sample_size: Float64[Tensor, " batch"]
    """(sum w)^2 / sum w^2, from 1 to the number of chains."""
    acceptance_rate: Float64[Tensor, " batch"]
    """Mean acceptance probability of the moves; nan for one step, which has no moves."""
    chains: int
    steps: int
    """T, the number of betas above 0."""

    def tensors(self) -> dict[str, Float64[Tensor, " batch"]]:
        """Returns the fields that have a value per image, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}


def forms(images: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Returns shape and dtype of each tensor of an estimate of `images` images."""
    names = [f.name for f in fields(AnnealedEstimate) if f.name not in ("chains", "steps")]
    return dict.fromkeys(names, ((images,), torch.float64))


@dataclass(frozen=True)
class Sandwich:
    """Bounds on the log-likelihood of images drawn from the model."""

    x: Float[Tensor, "batch channel height width"]
    lower: AnnealedEstimate
    """From forward chains."""
    upper: AnnealedEstimate
    """From reverse chains that start at the codes from which the images were drawn."""


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
    """Estimates the log-likelihood of each image by annealed importance sampling from the prior.

    Arguments:
        vae: a model with any prior that can be sampled and any decoder that is differentiable in z; measured in evaluation
            mode.
        x: images in the value range of the model.
        chains: number of chains per image.
        steps: T, number of betas above 0; larger values close the gap to log p(x).
        leapfrog_steps: leapfrog steps per move.
        memory_budget: bytes of tensors that may be held beyond the model; images are processed in groups.
        seed: seed of all noise, which is a function of it and the image's index.
        indices: the index of each image in its data set; default: 0, 1, 2, ...
        progress: called after every move with the fraction done.

    Raises:
        InputError: for no images, chains or steps, a non-finite pixel, or a budget too small for one image.
        RunError: if the model gives a non-finite weight; names the image.
    """
    plan = _plan(chains, steps, leapfrog_steps, memory_budget, seed, _reporter(progress, 2 * len(floating(x)) * steps))
    indices = list(range(len(x)) if indices is None else indices)
    check_images(x, indices)
    vae.check_images(x, indices)
    with evaluating(vae):
        (found,) = _in_groups(vae, x, indices, plan, lambda piece, numbers: (_forward(vae, piece, numbers, plan)[0],))
    return found


estimate_by_annealing = estimate
"""Name of `estimate` in `mpdvae.measures`."""


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
    """Computes lower and upper bounds on the log-likelihood of `count` images drawn from the model. Other arguments are
    those of `estimate`."""
    check_samples(count, "count")
    plan = _plan(chains, steps, leapfrog_steps, memory_budget, seed, _reporter(progress, 3 * count * steps))
    with evaluating(vae):
        with torch.no_grad():
            with seeded(seed, "simulated images"):
                z = vae.prior().sample((count,))
            x = drawn_in_pieces(lambda rows: vae.decoder(z[rows]).sample(), count, seed, "simulated pixels")

        def both(piece: Tensor, numbers: list[int]) -> tuple[AnnealedEstimate, AnnealedEstimate]:
            lower, step_sizes = _forward(vae, piece, numbers, plan)
            drawn = z[torch.tensor(numbers)]
            start = drawn.expand(chains, *drawn.shape)
            log_w, acceptance = weigh(vae, piece, numbers, start, step_sizes, plan, reverse=True)
            upper = _of_weights(-log_w, acceptance, plan)
            return lower, replace(upper, log_prob=-upper.log_prob)

        lower, upper = _in_groups(vae, x, list(range(count)), plan, both)
    return Sandwich(x, lower, upper)


def _forward(vae: VAE, x: Tensor, numbers: list[int], plan: Plan) -> tuple[AnnealedEstimate, Tensor]:
    """Returns the estimate from forward chains, and the step sizes [moves batch] found by the pilot run."""
    step_sizes = pilot(vae, x, numbers, plan)
    start = prior_samples(vae, numbers, plan.chains, plan.seed, "forward").to(x)
    return _of_weights(*weigh(vae, x, numbers, start, step_sizes, plan), plan), step_sizes


def _of_weights(log_w: Tensor, acceptance: Tensor, plan: Plan) -> AnnealedEstimate:
    return AnnealedEstimate(
        log_prob=log_mean(log_w),
        standard_error=standard_error(log_w),
        effective_sample_size=effective_sample_size(log_w),
        acceptance_rate=acceptance,
        chains=plan.chains,
        steps=plan.steps,
    )


def _in_groups(
    vae: VAE,
    x: Tensor,
    numbers: list[int],
    plan: Plan,
    run: Callable[[Tensor, list[int]], tuple[AnnealedEstimate, ...]],
) -> list[AnnealedEstimate]:
    """Calls `run` on groups of as many images as fit the memory budget, and joins the results."""
    size = _group_size(vae, x, plan)
    groups = [run(x[at : at + size], numbers[at : at + size]) for at in range(0, len(x), size)]
    return [_joined(parts) for parts in zip(*groups, strict=True)]


def _joined(parts: Sequence[AnnealedEstimate]) -> AnnealedEstimate:
    values = {name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()}
    return replace(parts[0], **values)


def _group_size(vae: VAE, x: Tensor, plan: Plan) -> int:
    """Returns how many images fit the memory budget together, from the bytes held while computing a trial gradient."""
    z = prior_samples(vae, [0], TRIAL, plan.seed, "trial").to(x)
    with uncompiled(), LiveBytes() as live:
        annealed_density(vae, x[:1], 0.5)(z)
    image = plan.chains * (live.peak // TRIAL + 6 * z[0, 0].nbytes)
    usable = usable_bytes(plan.memory_budget, x, image)
    if usable < image:
        raise InputError(
            f"memory_budget: one image with {plan.chains:,} chains needs {2 * image:,} bytes, "
            f"got {plan.memory_budget:,}; raise the budget or use fewer chains.",
            topic="memory",
        )
    return usable // image


def _plan(chains: int, steps: int, leapfrog_steps: int, memory_budget: int, seed: int, report: Report) -> Plan:
    for name, count in (("chains", chains), ("steps", steps), ("leapfrog_steps", leapfrog_steps)):
        check_samples(count, name)
    return Plan(chains, schedule(steps), leapfrog_steps, memory_budget, seed, report)


def _reporter(progress: Callable[[float], None] | None, total: int) -> Report:
    """Returns a callback that counts image moves and reports the fraction of `total` to `progress`."""
    done = 0

    def report(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(done / total)

    return report
