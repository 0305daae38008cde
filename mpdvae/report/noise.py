r"""Sources of the noise of a score: label subsets, training seeds, or both.

Run i of n has the score :math:`y_{ij}` on label subset j of m, and the subsets are the same for all runs. In the two-way
model with random effects (Scheffe 1959, chapter 7)

.. math:: y_{ij} = \mu + a_i + b_j + e_{ij}, \qquad
          \operatorname{Var} a = \sigma_a^2, \; \operatorname{Var} b = \sigma_b^2, \; \operatorname{Var} e = \sigma_e^2,

a is the effect of the training seed, b the effect of a subset on every run, e the remainder. Then

    subsets   the mean over runs of the sample variance over j within the run                 estimates  s_b^2 + s_e^2
    seeds     max(0, sample variance over i of the run means, less MS_e / m)                  estimates  s_a^2
    both      their sum: the variance of one run scored on one subset                         estimates  s_a^2 + s_b^2 + s_e^2

    MS_e      sum over i, j of (y_ij - mean_i - mean_j + mean)^2 / ((n - 1)(m - 1))           estimates  s_e^2

The effect b is common to all runs, so it shifts all run means equally and does not contribute to their variance: only e has
to be removed from it. For clusterings, k-means restarts take the place of subsets. None of these terms includes the error
due to the choice of test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one score, in its unit. None: cannot be estimated from one run, or from one subset."""

    subsets: float | None
    """Noise of one run over label subsets (or k-means restarts)."""
    seeds: float | None
    """Noise over training seeds, without the noise of subsets. With one subset: the deviation of the scores themselves."""
    both: float | None
    """Noise of one run with a random seed, scored on one random subset."""


def noise(scores: Sequence[Sequence[float]]) -> Noise:
    """Returns the noise of scores by run and subset; every run has the same subsets.

    Raises:
        ValueError: if runs have different numbers of subsets.
    """
    counts = sorted({len(run) for run in scores})
    if len(counts) != 1:
        raise ValueError(
            f"scores: expected the same number of subsets for each run, got {' and '.join(map(str, counts))}."
        )
    y = np.array([list(run) for run in scores], dtype=float)
    runs, subsets = y.shape
    within = float(y.var(axis=1, ddof=1).mean()) if subsets > 1 else None
    between = _between_seeds(y) if runs > 1 else None
    both = None if within is None or between is None else within + between
    return Noise(*(None if variance is None else variance**0.5 for variance in (within, between, both)))


def _between_seeds(y: np.ndarray) -> float:
    runs, subsets = y.shape
    means = y.mean(axis=1)
    if subsets == 1:
        return float(means.var(ddof=1))
    rest = y - means[:, None] - y.mean(axis=0) + y.mean()
    mean_square = (rest**2).sum() / ((runs - 1) * (subsets - 1))
    return max(0.0, float(means.var(ddof=1) - mean_square / subsets))
