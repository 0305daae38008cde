"""Which values of pixels a distribution of a user's is a likelihood of: its support says so."""

import torch
from torch.distributions import constraints

from mpdvae.distributions.pixel_values import RANGES, PixelValues


def values_within(support: constraints.Constraint, image_shape: tuple[int, int, int]) -> tuple[PixelValues, ...]:
    """Returns the kinds of values that all have a probability under a distribution of such images with this support. Zeros
    and ones are binary where they are all that there is, not if they are the first counts, or the ends of an interval."""

    def has(*values: float) -> bool:
        return all(bool(support.check(torch.full(image_shape, value)).all()) for value in values)

    found: list[PixelValues] = []
    if has(*RANGES["levels"]):
        found.append("levels")
    if has(*RANGES["intensities"], 0.5):
        found.append("intensities")
    return ("binary",) if has(*RANGES["binary"]) and not found and not has(2.0) else tuple(found)
