r"""Pixels with 256 levels: level k is the number x_k = k / 127.5 - 1 in [-1, 1], the centre of a bin of half-width 1/255.

A continuous density with distribution function F gives each level the probability of its bin,

.. math:: P(x_k) = F(x_k + \tfrac1{255}) - F(x_k - \tfrac1{255}),

where the lowest bin extends to -infinity and the highest to +infinity, so that the probabilities sum to one. A number that
is not a level has no probability, although the formula would give one.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

LEVELS = 256
HALF_BIN = 1 / 255
LEVEL_TOLERANCE = 1e-3
"""Distance within which a number counts as a level, in units of the distance between levels. Rounding to float32 moves a
level by less than 1e-5."""


def nearest_level(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns the level nearest to each number, as a number in [-1, 1]."""
    return ((x + 1) * 127.5).round().clamp(0, LEVELS - 1) / 127.5 - 1


class _Levels(constraints.Constraint):
    """The 256 levels as numbers in [-1, 1]."""

    is_discrete = True
    bounds = (-1.0, 1.0)

    def check(self, value: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        level = (value + 1) * 127.5
        near = (level - level.round()).abs() < LEVEL_TOLERANCE
        return near & (level > -0.5) & (level < LEVELS - 0.5)

    def __repr__(self) -> str:
        return "the 256 levels k / 127.5 - 1 in [-1, 1]"


BINARY_IMAGES = constraints.independent(constraints.boolean, 3)
"""Images [channel height width] of zeros and ones."""
LEVEL_IMAGES = constraints.independent(_Levels(), 3)
"""Images [channel height width] of the 256 levels."""
