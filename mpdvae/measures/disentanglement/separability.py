r"""SAP, separated attribute predictability (Kumar et al. 2018, https://arxiv.org/abs/1711.00848): how much better the best
unit alone predicts a factor than the second best.

The score S_jk of unit j for factor k is

    an ordered factor   R^2 of linear regression on the unit, the square of their correlation on the test images
    another factor      balanced accuracy, on test images, of thresholds on the unit that are fitted to training images: a
                        decision tree with as many leaves as the factor has values, and equal weight for each value

and SAP is the mean over factors of the difference between the two largest S_jk. The gap of an ordered factor is in [0, 1].
That of another factor with V values is at most 1 - 1/V, because a unit that tells nothing has the accuracy 1/V.

Kumar et al. call the factors continuous and categorical. Relabelling the values of a factor that is not ordered changes
nothing, nor does the scale of a unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from mpdvae.measures.disentanglement.factored import Factored, check_names, checked_both


@dataclass(frozen=True)
class Separability:
    """SAP, with the scores behind it."""

    predictability: Float64[np.ndarray, "unit factor"]
    """S: R^2 or balanced accuracy, in [0, 1]."""

    @property
    def per_factor(self) -> Float64[np.ndarray, " factor"]:
        """Difference between the two units that predict a factor best."""
        order = np.sort(self.predictability, axis=0)
        return order[-1] - order[-2]

    @property
    def score(self) -> float:
        """SAP: the mean over factors, in [0, 1]."""
        return float(self.per_factor.mean())

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Returns the numbers for JSON, by name of the factor."""
        return {"score": self.score, "per_factor": dict(zip(names, self.per_factor.tolist(), strict=True))}


def measure_separability(train: Factored, test: Factored, ordered: Sequence[bool] | None = None) -> Separability:
    """Measures SAP.

    Arguments:
        train: codes and factors that thresholds are fitted to.
        test: codes and factors on which units are scored; every value of a factor must occur in both.
        ordered: for each factor, whether its numbers are steps of a quantity; None: none is.

    Raises:
        InputError: for codes and factors that do not match or are no such.
    """
    train, test = checked_both(train, test)
    factors = train.factors.shape[1]
    kinds = [False] * factors if ordered is None else list(ordered)
    check_names([str(k) for k in range(factors)], kinds, factors)
    scores = [
        [_explained(test, j, k) if kinds[k] else _told_apart(train, test, j, k) for k in range(factors)]
        for j in range(train.codes.shape[1])
    ]
    return Separability(np.array(scores))


def _explained(test: Factored, unit: int, factor: int) -> float:
    """Returns the square of the correlation; 0 for a constant unit."""
    z, v = test.codes[:, unit].astype(np.float64), test.factors[:, factor].astype(np.float64)
    return float(np.corrcoef(z, v)[0, 1] ** 2) if z.min() < z.max() else 0.0


def _told_apart(train: Factored, test: Factored, unit: int, factor: int) -> float:
    """Returns the balanced accuracy of thresholds on the unit."""
    values, column = train.factors[:, factor], [unit]
    tree = DecisionTreeClassifier(max_leaf_nodes=len(np.unique(values)), class_weight="balanced", random_state=0)
    predicted = tree.fit(train.codes[:, column], values).predict(test.codes[:, column])
    return float(balanced_accuracy_score(test.factors[:, factor], predicted))
