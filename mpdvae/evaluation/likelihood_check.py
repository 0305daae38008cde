"""The likelihood check of a run (`--referee`): annealed importance sampling compared with importance sampling, on the same
images.

It answers two questions, with the same number of images each. On random images of the split: do both estimates of log p(x)
agree? Both are lower bounds in expectation, so the higher one is nearer to the truth. On images that the model generated:
does the importance-weighted estimate lie in the sandwich of bidirectional Monte Carlo, and how wide is it
(`annealed_importance`)?
"""

from collections.abc import Mapping
from functools import partial as partial_of
from typing import Any, TypeVar

from torch import Tensor

from mpdvae.evaluation.resumable_parts import ResumableParts
from mpdvae.evaluation.run_likelihood import Measurement, Request, Watch
from mpdvae.measures import annealed_importance, density
from mpdvae.measures.density import DensityEstimate
from mpdvae.measures.memory_budget import Budget
from mpdvae.measures.random_subsets import error_of_mean, finite, mean_and_error, random_subset
from mpdvae.vae import VAE

CHAINS, LEAPFROG_STEPS = 16, 10

T = TypeVar("T")


def judge(
    vae: VAE,
    measurement: Measurement,
    estimate: DensityEstimate,
    request: Request,
    partial: ResumableParts,
    watch: Watch,
) -> dict[str, Any]:
    """Returns the entry `referee` of density.json. NLL in nats; `monte_carlo_error` is that of the mean over the images.

    Arguments:
        estimate: the importance-weighted estimate for all images of `measurement`.
        request: specifies how many of them are checked, along with as many simulated images, and the annealing steps.
    """
    assert request.referee is not None
    images, steps, budget = request.referee, request.annealing_steps, Budget()
    chosen = random_subset(images, measurement.images_of_split)
    rows = (measurement.indices[:, None] == chosen).nonzero()
    rows = rows[rows[:, 1].argsort(), 0]
    one = annealed_importance.forms(images)
    three = _named({"lower": one, "upper": one, "weighted": density.forms(images, measurement.samples)})

    def of_split(memory_budget: int) -> dict[str, Tensor]:
        x = measurement.x[rows.to(measurement.x.device)]
        return _annealed(vae, x, chosen.tolist(), steps, memory_budget, watch)

    def simulated(memory_budget: int) -> dict[str, Tensor]:
        return _sandwich(vae, measurement, images, steps, memory_budget, watch)

    ais = partial.get(f"annealed-{images}-{steps}", partial_of(budget.spend, of_split), one)
    bdmc = partial.get(f"sandwich-{images}-{steps}", partial_of(budget.spend, simulated), three)
    settings = {"images": images, "chains": CHAINS, "steps": steps, "leapfrog_steps": LEAPFROG_STEPS}
    return settings | {
        "of_split": {
            "indices": chosen.tolist(),
            "annealed_nll_nats": _nll(ais["log_prob"], ais["standard_error"]),
            "importance_weighted_nll_nats": _nll(estimate.log_prob[rows], estimate.standard_error[rows]),
            "acceptance_rate": finite(ais["acceptance_rate"].mean()),
        },
        "simulated": {
            "nll_at_least_nats": _nll(bdmc["upper.log_prob"], bdmc["upper.standard_error"]),
            "importance_weighted_nll_nats": _nll(bdmc["weighted.log_prob"], bdmc["weighted.standard_error"]),
            "nll_at_most_nats": _nll(bdmc["lower.log_prob"], bdmc["lower.standard_error"]),
            "gap_nats": mean_and_error(bdmc["upper.log_prob"] - bdmc["lower.log_prob"]),
            "acceptance_rate": finite(bdmc["lower.acceptance_rate"].mean()),
        },
    }


def _annealed(
    vae: VAE, x: Tensor, indices: list[int], steps: int, memory_budget: int, watch: Watch
) -> dict[str, Tensor]:
    """Returns the annealed estimate of images of the split; `indices` are their places there, which seed their noise."""
    return annealed_importance.estimate(
        vae,
        x,
        CHAINS,
        steps,
        LEAPFROG_STEPS,
        memory_budget,
        indices=indices,
        progress=lambda share: watch("likelihood check: images of the split", share),
    ).tensors()


def _sandwich(
    vae: VAE, measurement: Measurement, images: int, steps: int, memory_budget: int, watch: Watch
) -> dict[str, Tensor]:
    """Returns both bounds of bidirectional Monte Carlo for simulated images, and their importance-weighted estimate."""
    found = annealed_importance.sandwich(
        vae,
        images,
        CHAINS,
        steps,
        LEAPFROG_STEPS,
        memory_budget,
        progress=lambda share: watch("likelihood check: simulated images", share),
    )
    weighted = density.estimate(
        vae,
        found.x,
        measurement.samples,
        memory_budget,
        tolerance=measurement.tolerance,
        proposal=measurement.proposal,
    )
    return _named({"lower": found.lower.tensors(), "upper": found.upper.tensors(), "weighted": weighted.tensors()})


def _named(parts: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Returns the entries of all parts, with names such as `lower.log_prob`."""
    return {f"{part}.{name}": value for part, entries in parts.items() for name, value in entries.items()}


def _nll(log_prob: Tensor, errors: Tensor) -> dict[str, Any]:
    return mean_and_error(-log_prob) | {
        "monte_carlo_error": finite(error_of_mean(errors)),
        "per_image": (-log_prob).tolist(),
    }
