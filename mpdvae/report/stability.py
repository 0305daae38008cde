r"""The probability that a repeat of the whole matrix gives the same verdict on a claim.

A repeat has the same numbers of seeds and images, but others: new seeds, or the same seeds on another machine. Its words are
predicted, not bootstrapped, because the true differences are not known either. With the estimate D and the terms V_i of its
variance, with nu_i degrees of freedom, one draw is (Geisser 1993, "Predictive inference", section 2.2, under flat priors)

.. math:: \sigma_i^2 = V_i \nu_i / \chi^2_{\nu_i}, \quad \sigma^2 = \sum_i \sigma_i^2, \quad \delta = D + \sigma g_1, \quad
          D' = \delta + \sigma g_2, \quad V_i' = \sigma_i^2 \chi'^2_{\nu_i} / \nu_i ,

and the repeat judges D' and the V' by the same rule, with degrees of freedom of its own. The differences of a claim share
runs and images: g_1 and g_2 are normal with the correlations of the estimates, from the products of the deviations that each
run and each image adds to both.

A flat prior makes the probability right on average over true differences of all sizes; over those that are exactly 0, a
"cannot tell" is repeated more often than stated. tests/report/test_report_stability.py measures the calibration.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpdvae.measures.crossed_effects import Difference

DRAWS = 4000
"""The standard error of a probability is at most 0.008."""

MOST_DEGREES = 1e9
"""Stands for infinitely many degrees of freedom."""

Draw = NDArray[np.float64]


class Repeats:
    """Differences of one claim as predicted for repeats of the matrix."""

    def __init__(self, differences: Sequence[Difference], draws: int = DRAWS) -> None:
        """Draws the repeats. Every difference needs a known variance."""
        random = np.random.default_rng(0)
        root, count = _root(correlations(differences)), len(differences)
        drawn = [_draw(d, draws, random) for d in differences]
        deviation = np.sqrt(np.stack([variance for variance, _, _ in drawn], axis=1))
        true, moved = (deviation * (random.standard_normal((draws, count)) @ root.T) for _ in range(2))
        self.means = np.array([d.mean for d in differences]) + true + moved
        self.errors = np.sqrt(np.stack([variance for _, variance, _ in drawn], axis=1))
        self.degrees = np.stack([degrees for _, _, degrees in drawn], axis=1)

    def interval(self, index: int, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the ends of the interval of one difference, in each repeat."""
        from scipy.special import stdtrit

        half = stdtrit(self.degrees[:, index], 0.5 + level / 2) * self.errors[:, index]
        return self.means[:, index] - half, self.means[:, index] + half


def _draw(difference: Difference, draws: int, random: np.random.Generator) -> tuple[Draw, Draw, Draw]:
    """Returns, for each repeat, the true variance, the variance that the repeat estimates, and its degrees of freedom."""
    terms = difference.terms or ()
    degrees = np.minimum([term.degrees for term in terms], MOST_DEGREES)
    true = np.array([term.variance for term in terms]) * degrees / random.chisquare(degrees, (draws, len(terms)))
    repeated = true * random.chisquare(degrees, (draws, len(terms))) / degrees
    total, squares = repeated.sum(1), (repeated**2 / degrees).sum(1)
    of_sum = np.divide(total**2, squares, out=np.full(draws, float(degrees.min())), where=squares > 0)
    return true.sum(1), total, of_sum


def correlations(differences: Sequence[Difference]) -> NDArray[np.float64]:
    """Returns the correlations of the estimates; a difference without noise has none."""
    covariance = np.array([[_covariance(one, other) for other in differences] for one in differences])
    np.fill_diagonal(covariance, [d.variance for d in differences])
    deviation = np.sqrt(covariance.diagonal())
    scale = np.outer(deviation, deviation)
    found = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    np.fill_diagonal(found, 1.0)
    return found


def _covariance(one: Difference, other: Difference) -> float:
    shared = one.directions.keys() & other.directions.keys()
    return sum(
        value * other.directions[source].get(key, 0.0)
        for source in shared
        for key, value in one.directions[source].items()
    )


def _root(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a matrix whose product with its transpose is `correlation`, which may be singular."""
    values, vectors = np.linalg.eigh(correlation)
    return vectors * np.sqrt(np.maximum(values, 0.0))
