r"""Modularity and explicitness (Ridgeway & Mozer 2018, https://arxiv.org/abs/1802.05312).

**Modularity**: whether a unit tells something of one factor only. With m_jk the mutual information of unit j and factor k
(`mpdvae.measures.disentanglement.binned_information`), k(j) the factor that unit j knows most of, and K factors,

.. math:: \text{modularity}_j = 1 - \frac{\sum_{k \ne k(j)} m_{jk}^2}{(K - 1)\, m_{j k(j)}^2} \; \in [0, 1] .

The score is the mean over units. A unit that is constant knows nothing, has no modularity and is left out (the code of
Locatello et al. 2019 counts it as 0); a unit of pure noise is as modular as the bias of the estimate happens to be. Several
units may know the same factor: that is what MIG and completeness punish.

**Explicitness**: whether linear classifiers of the whole code find the factors. For each value of each factor, logistic
regression tells images with this value from all others; the score is the mean area under its ROC curve on test images,
over values, then over factors: 0.5 by chance, 1 if all are told apart. A rotation of the code does not change it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from mpdvae.measures.disentanglement.binned_information import BINS, BinnedInformation, information_per_unit
from mpdvae.measures.disentanglement.factored import Factored, checked_both
from mpdvae.measures.representation.classifiers import logistic_regression


@dataclass(frozen=True)
class Modularity:
    """Modularity of each unit."""

    per_unit: Float64[np.ndarray, " unit"]
    """In [0, 1]; NaN for a constant unit."""

    @property
    def score(self) -> float:
        """Mean over the units that are not constant, in [0, 1]; 0 if all are."""
        known = self.per_unit[~np.isnan(self.per_unit)]
        return float(known.mean()) if len(known) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers for JSON; null for a constant unit."""
        return {"score": self.score, "per_unit": [None if np.isnan(m) else m for m in self.per_unit.tolist()]}


@dataclass(frozen=True)
class Explicitness:
    """Explicitness of each factor."""

    per_factor: Float64[np.ndarray, " factor"]
    """Area under the ROC curve, the mean over the factor's values: 0.5 by chance, at most 1."""

    @property
    def score(self) -> float:
        """Mean over factors: 0.5 by chance, at most 1."""
        return float(self.per_factor.mean())

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Returns the numbers for JSON, by name of the factor."""
        return {"score": self.score, "per_factor": dict(zip(names, self.per_factor.tolist(), strict=True))}


def measure_modularity(data: Factored, bins: int = BINS) -> Modularity:
    """Measures modularity; arguments and errors are those of `measure_gap`."""
    return modularity_of(information_per_unit(data, bins))


def modularity_of(known: BinnedInformation) -> Modularity:
    """Returns modularity, from the information of every unit and factor."""
    squares = known.information**2
    most = squares.max(1)
    with np.errstate(invalid="ignore"):  # 0 / 0 for a constant unit
        return Modularity(1 - (squares.sum(1) - most) / (most * (squares.shape[1] - 1)))


def measure_explicitness(train: Factored, test: Factored) -> Explicitness:
    """Measures explicitness.

    Arguments:
        train: codes and factors that the classifiers are trained on.
        test: codes and factors on which they are tested; every value of a factor must occur in both.

    Raises:
        InputError: for codes and factors that do not match or are no such.
    """
    train, test = checked_both(train, test)
    with threadpool_limits(limits=1):  # sums over several threads have no fixed order
        areas = [_mean_area(train, test, k) for k in range(train.factors.shape[1])]
    return Explicitness(np.array(areas))


def _mean_area(train: Factored, test: Factored, factor: int) -> float:
    areas = []
    for value in np.unique(train.factors[:, factor]):
        classifier = logistic_regression(train.codes, (train.factors[:, factor] == value).astype(np.int64))
        areas.append(roc_auc_score(test.factors[:, factor] == value, classifier.decision_function(test.codes)))
    return float(np.mean(areas))
