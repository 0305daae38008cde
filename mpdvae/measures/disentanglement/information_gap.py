r"""MIG, the mutual information gap (Chen et al. 2018, https://arxiv.org/abs/1802.04942): does one unit alone know a factor?

.. math:: \text{MIG} = \frac1K \sum_k \frac{1}{H(v_k)} \Big( I(z_{j(k)}; v_k) - \max_{j \ne j(k)} I(z_j; v_k) \Big),
          \qquad j(k) = \arg\max_j I(z_j; v_k),

over K factors v. Each gap is in [0, 1]: 1 if one unit determines the factor and no other unit tells anything of it, 0 if two
units tell as much as each other or none tells anything. Chen et al. draw z from q(z|x); here, as in most later work, it is
the code of an image, in bins (`mpdvae.measures.disentanglement.binned_information`).

A rotation of the code by 45 degrees leaves all information in it, and takes the gap to about 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from mpdvae.measures.disentanglement.binned_information import BINS, BinnedInformation, information_per_unit
from mpdvae.measures.disentanglement.factored import Factored


@dataclass(frozen=True)
class InformationGap:
    """MIG, with the gap of each factor."""

    per_factor: Float64[np.ndarray, " factor"]
    """In [0, 1]."""
    unit: Int64[np.ndarray, " factor"]
    """The unit that knows most of each factor."""

    @property
    def score(self) -> float:
        """MIG: the mean over factors, in [0, 1]."""
        return float(self.per_factor.mean())

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Returns the numbers for JSON, by name of the factor."""
        units = dict(zip(names, self.unit.tolist(), strict=True))
        return {
            "score": self.score,
            "per_factor": dict(zip(names, self.per_factor.tolist(), strict=True)),
            "unit": units,
        }


def measure_gap(data: Factored, bins: int = BINS) -> InformationGap:
    """Measures MIG.

    Arguments:
        data: codes of images and their factors: at least two units and two factors of at least two values each.
        bins: number of bins of equal width into which each unit is cut.

    Raises:
        InputError: for codes and factors that do not match or are no such, or too few images.
    """
    return gap_of(information_per_unit(data, bins))


def gap_of(known: BinnedInformation) -> InformationGap:
    """Returns MIG, from the information of every unit and factor."""
    order = np.sort(known.information, axis=0)
    return InformationGap((order[-1] - order[-2]) / known.entropy, known.information.argmax(0))
