r"""Mutual information of single units of a code and factors of variation, in nats.

Each unit is cut into bins of equal width between its smallest and largest value (20 of them, as in Locatello et al. 2019,
https://arxiv.org/abs/1811.12359), so that the information does not depend on its scale. With :math:`\hat p` the relative
frequencies of bins b and values v,

.. math:: \hat I(z; v) = \sum_{b, v} \hat p(b, v) \log \frac{\hat p(b, v)}{\hat p(b)\, \hat p(v)} .

**Bias.** For an independent unit the estimate is not 0 but, with n images, B bins and V values, about
(B - 1)(V - 1) / 2n (Miller 1955, "Note on the bias of information estimates"). Images are refused as too few if that exceeds
a tenth of the entropy of a factor.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer
from sklearn.metrics import mutual_info_score

from mpdvae.errors import InputError
from mpdvae.measures.disentanglement.factored import Factored, checked

BINS = 20
BIAS = 0.1
"""Largest bias that is accepted, relative to the entropy of a factor."""


class BinnedInformation(NamedTuple):
    """Information of units about factors, in nats."""

    information: Float64[np.ndarray, "unit factor"]
    entropy: Float64[np.ndarray, " factor"]
    """Entropy of each factor, which bounds the information about it."""


def information_per_unit(data: Factored, bins: int = BINS) -> BinnedInformation:
    """Returns the mutual information of every unit and factor. Raises `InputError` as `checked` does, for fewer than 2 bins,
    and for too few images."""
    data = checked(data)
    if bins < 2:
        raise InputError(f"bins: expected at least 2, got {bins}.")
    entropy = np.array([mutual_info_score(values, values) for values in data.factors.T])
    _check_enough(data, bins, entropy)
    binned = [in_bins(unit, bins) for unit in data.codes.T.astype(np.float64)]
    information = [[mutual_info_score(values, unit) for values in data.factors.T] for unit in binned]
    return BinnedInformation(np.array(information).clip(0), entropy)


def in_bins(unit: Float64[np.ndarray, " n"], bins: int) -> Integer[np.ndarray, " n"]:
    """Returns the number of the bin of each value; a constant unit is in one bin."""
    low, high = unit.min(), unit.max()
    if low == high:
        return np.zeros(len(unit), np.int64)
    shares = (unit - low) / (high - low)
    return np.minimum((bins * shares).astype(np.int64), bins - 1)


def _check_enough(data: Factored, bins: int, entropy: np.ndarray) -> None:
    counts = np.array([len(np.unique(values)) for values in data.factors.T])
    needed = np.ceil((bins - 1) * (counts - 1) / (2 * BIAS * entropy)).astype(np.int64)
    k = needed.argmax()
    if len(data.codes) < needed[k]:
        raise InputError(
            f"codes: expected at least {needed[k]:,} images to estimate the information about the {counts[k]} values of "
            f"factor {k} with {bins} bins, got {len(data.codes):,}; give more images, or fewer bins."
        )
