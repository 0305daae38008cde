r"""Pixels with L levels, 256 for bytes: level k is the number x_k = 2 k / (L - 1) - 1 in [-1, 1], the centre of a bin of
half-width h = 1 / (L - 1).

A continuous density with distribution function F gives each level the probability of its bin,

.. math:: P(x_k) = F(x_k + h) - F(x_k - h),

where the lowest bin extends to -infinity and the highest to +infinity, so that the probabilities sum to one. A number that
is not a level has no probability, although the formula would give one.
"""

import math
from functools import cache

from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from mpdvae.errors import InputError

LEVELS = 256
MOST_LEVELS = 2**16
"""Levels of 16 bits."""
LEVEL_TOLERANCE = 1e-3
"""Distance within which a number counts as one of 256 levels, in units of the distance between levels. Rounding to float32
moves such a level by less than 1e-5."""
ROUNDING = 2.0**-21
"""The same for more levels, in units of the number of levels: four times what rounding to float32 can do."""


def half_bin(levels: int = LEVELS) -> float:
    """Returns half the distance between levels in [-1, 1]."""
    return 1 / (levels - 1)


def least_log_scale(levels: int = LEVELS) -> float:
    """Returns the lower limit of the log-scale of a logistic: -7 for 256 levels (PixelCNN++), at which the level at the mean
    has 97% of the mass, and the same in units of the bin for other numbers of levels."""
    return -7.0 - math.log((levels - 1) / (LEVELS - 1))


def level_index(x: Float[Tensor, "*shape"], levels: int = LEVELS) -> Float[Tensor, "*shape"]:
    """Returns k = 0 .. levels - 1 of the level nearest to each number."""
    return ((x + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1)


def level_value(k: Float[Tensor, "*shape"], levels: int = LEVELS) -> Float[Tensor, "*shape"]:
    """Returns level k as a number in [-1, 1]."""
    return k / ((levels - 1) / 2) - 1


def nearest_level(x: Float[Tensor, "*shape"], levels: int = LEVELS) -> Float[Tensor, "*shape"]:
    """Returns the level nearest to each number, as a number in [-1, 1]."""
    return level_value(level_index(x, levels), levels)


class _Levels(constraints.Constraint):
    """Levels as numbers in [-1, 1]."""

    is_discrete = True
    bounds = (-1.0, 1.0)

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        level = (value + 1) * ((self.levels - 1) / 2)
        near = (level - level.round()).abs() < max(LEVEL_TOLERANCE, self.levels * ROUNDING)
        return near & (level > -0.5) & (level < self.levels - 0.5)

    def __repr__(self) -> str:
        return f"the {self.levels} levels k / {(self.levels - 1) / 2:g} - 1 in [-1, 1]"


@cache
def level_images(levels: int = LEVELS) -> constraints.Constraint:
    """Returns the constraint of images [channel height width] of so many levels. Raises `InputError` unless there are 2 to
    65,536."""
    if not 2 <= levels <= MOST_LEVELS:
        raise InputError(f"levels: expected 2 to {MOST_LEVELS:,} levels, got {levels}.")
    return constraints.independent(_Levels(levels), 3)


BINARY_IMAGES = constraints.independent(constraints.boolean, 3)
"""Images [channel height width] of zeros and ones."""
LEVEL_IMAGES = level_images()
"""Images [channel height width] of the 256 levels."""
