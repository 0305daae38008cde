r"""DCI: disentanglement, completeness and informativeness (Eastwood & Williams 2018, https://openreview.net/forum?id=By-7dz-AZ).

A random forest predicts each factor from the whole code. R_jk is the importance of unit j in the forest of factor k: the
share of its decrease in Gini impurity that splits on this unit bring; for each factor they add up to 1.

    disentanglement   D_j = 1 - H_K(R_jk / sum_k R_jk): 1 if unit j is used for one factor only, 0 if for all K alike.
                      The score weighs units by their share of all importance, so that unused ones do not count.
    completeness      C_k = 1 - H_J(R_jk): 1 if the forest of factor k uses one unit only, 0 if all J alike. The score is the
                      mean over factors.
    informativeness   accuracy of the forest on test images; the score is the mean over factors

with entropies H to the base of the number of outcomes. Disentanglement and completeness are in [0, 1]. Informativeness is
an accuracy in [0, 1], not the error of the paper; guessing the most frequent value of a factor gives that value's share.

**Forest.** Trees see all units at every split, as those of the paper: with random subsets of units, even a perfect code
would spread its importance. As in the paper, the depth is chosen by validation: of `DEPTHS`, the first with the best
out-of-bag accuracy. Deeper trees split on noise, and so would spread the importance of a factor that the code does not
tell. Predicting values as classes makes relabelling harmless; trees make the scale of units harmless.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from sklearn.ensemble import RandomForestClassifier

from mpdvae.measures.disentanglement.factored import Factored, checked_both
from mpdvae.seeding import derive_seed

TREES = 30
DEPTHS = (4, 8, 16)
"""Depths of the trees that are tried, in this order."""


@dataclass(frozen=True)
class Importance:
    """The importances of units for factors, and what follows from them."""

    importance: Float64[np.ndarray, "unit factor"]
    """R; the column of a factor adds up to 1, or is 0 if all units are constant."""
    informativeness_per_factor: Float64[np.ndarray, " factor"]
    """Accuracy on test images, in [0, 1]."""
    chance_per_factor: Float64[np.ndarray, " factor"]
    """Share of the most frequent value among the test images."""
    depths: tuple[int, ...]
    """Depth of the trees of each factor."""

    @property
    def disentanglement_per_unit(self) -> Float64[np.ndarray, " unit"]:
        """D, in [0, 1]; 0 for a unit that no forest uses."""
        return _concentration(self.importance)

    @property
    def completeness_per_factor(self) -> Float64[np.ndarray, " factor"]:
        """C, in [0, 1]; 0 if all units are constant."""
        return _concentration(self.importance.T)

    @property
    def disentanglement(self) -> float:
        """Mean of D over units, weighted by importance; in [0, 1]."""
        whole = self.importance.sum()
        return float(self.importance.sum(1) @ self.disentanglement_per_unit / whole) if whole > 0 else 0.0

    @property
    def completeness(self) -> float:
        """Mean of C over factors, in [0, 1]."""
        return float(self.completeness_per_factor.mean())

    @property
    def informativeness(self) -> float:
        """Mean accuracy over factors, in [0, 1]."""
        return float(self.informativeness_per_factor.mean())

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Returns the numbers for JSON, by name of the factor."""

        def by_name(values: np.ndarray) -> dict[str, float]:
            return dict(zip(names, values.tolist(), strict=True))

        return {
            "disentanglement": self.disentanglement,
            "completeness": self.completeness,
            "informativeness": self.informativeness,
            "disentanglement_per_unit": self.disentanglement_per_unit.tolist(),
            "completeness_per_factor": by_name(self.completeness_per_factor),
            "informativeness_per_factor": by_name(self.informativeness_per_factor),
            "chance_per_factor": by_name(self.chance_per_factor),
            "importance": self.importance.tolist(),
        }


def measure_importance(train: Factored, test: Factored, seed: int = 0) -> Importance:
    """Measures disentanglement, completeness and informativeness.

    Arguments:
        train: codes and factors that the forests are trained on.
        test: codes and factors on which they are tested; every value of a factor must occur in both.
        seed: seed of the forests.

    Raises:
        InputError: for codes and factors that do not match or are no such.
    """
    train, test = checked_both(train, test)
    count = train.factors.shape[1]
    depths, forests = zip(*(_best(train, k, derive_seed(seed, "forest") % 2**32) for k in range(count)), strict=True)
    accuracies = [forest.score(test.codes, test.factors[:, k]) for k, forest in enumerate(forests)]
    shares = [np.unique(values, return_counts=True)[1].max() / len(values) for values in test.factors.T]
    return Importance(
        np.stack([forest.feature_importances_ for forest in forests], axis=1),
        np.array(accuracies, np.float64),
        np.array(shares),
        depths,
    )


def _best(train: Factored, factor: int, seed: int) -> tuple[int, RandomForestClassifier]:
    """Returns the depth with the best out-of-bag accuracy, and its forest."""
    forests = {
        depth: RandomForestClassifier(
            TREES,
            max_depth=depth,
            max_features=None,  # pyright: ignore[reportArgumentType] - all of them; the default is a word
            oob_score=True,
            random_state=seed,
        )
        for depth in DEPTHS
    }
    for forest in forests.values():
        forest.fit(train.codes, train.factors[:, factor])
    return max(forests.items(), key=lambda item: item[1].oob_score_)


def _concentration(weights: np.ndarray) -> np.ndarray:
    """Returns 1 less the entropy of each row, to the base of its length; 0 for a row of zeros."""
    whole = weights.sum(1, keepdims=True)
    shares = np.divide(weights, whole, out=np.full_like(weights, 1 / weights.shape[1]), where=whole > 0)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return (1 + (shares * logarithms).sum(1) / np.log(weights.shape[1])).clip(0, 1)
