"""The likelihood check of a run (`--referee`): annealed importance sampling compared with importance sampling, on the same
images.

It answers two questions, with the same number of images each. On random images of the split: do both estimates of log p(x)
agree? Both are lower bounds in expectation, so the higher one is nearer to the truth. On images that the model generated:
does the importance-weighted estimate lie in the sandwich of bidirectional Monte Carlo, and how wide is it
(`annealed_importance`)?
"""

from functools import partial as partial_of
from typing import Any

from torch import Tensor

from mpdvae.evaluation.resumable_parts import ResumableParts
from mpdvae.evaluation.run_likelihood import Measurement, Request, Watch
from mpdvae.measures import annealed_importance, density
from mpdvae.measures.density import DensityEstimate
from mpdvae.measures.memory_budget import Budget
from mpdvae.measures.random_subsets import error_of_mean, finite, mean_and_error, random_subset
from mpdvae.vae import VAE

CHAINS, LEAPFROG_STEPS = 16, 10


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
    m, images, steps, budget = measurement, request.referee, request.annealing_steps, Budget()
    chosen = random_subset(images, m.images_of_split)
    rows = (m.indices[:, None] == chosen).nonzero()
    rows = rows[rows[:, 1].argsort(), 0]

    def of_split(memory_budget: int) -> dict[str, Tensor]:
        return annealed_importance.estimate(
            vae,
            m.x[rows.to(m.x.device)],
            CHAINS,
            steps,
            LEAPFROG_STEPS,
            memory_budget,
            indices=chosen.tolist(),
            progress=lambda share: watch("likelihood check: images of the split", share),
        ).tensors()

    def simulated(memory_budget: int) -> dict[str, Tensor]:
        s = annealed_importance.sandwich(
            vae,
            images,
            CHAINS,
            steps,
            LEAPFROG_STEPS,
            memory_budget,
            progress=lambda share: watch("likelihood check: simulated images", share),
        )
        weighted = density.estimate(
            vae, s.x, m.samples, memory_budget, tolerance=m.tolerance, proposal=m.proposal
        ).tensors()
        sides = {"lower": s.lower.tensors(), "upper": s.upper.tensors(), "weighted": weighted}
        return {f"{side}.{name}": value for side, values in sides.items() for name, value in values.items()}

    one = annealed_importance.forms(images)
    sides = {"lower": one, "upper": one, "weighted": density.forms(images, m.samples)}
    three = {f"{side}.{name}": form for side, forms in sides.items() for name, form in forms.items()}
    ais = partial.get(f"annealed-{images}-{steps}", partial_of(budget.spend, of_split), one)
    bdmc = partial.get(f"sandwich-{images}-{steps}", partial_of(budget.spend, simulated), three)
    return {
        "images": images,
        "chains": CHAINS,
        "steps": steps,
        "leapfrog_steps": LEAPFROG_STEPS,
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


def _nll(log_prob: Tensor, errors: Tensor) -> dict[str, Any]:
    return mean_and_error(-log_prob) | {
        "monte_carlo_error": finite(error_of_mean(errors)),
        "per_image": (-log_prob).tolist(),
    }
