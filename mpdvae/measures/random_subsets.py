r"""Random subsets of images, and what they say about the full set.

From n of N images, drawn at random without replacement, the mean over all N is estimated by the mean y of the n values.
With their sample variance s^2, the share f = n / N, and the variance e_i^2 of each value's own (Monte-Carlo) noise,

.. math:: \operatorname{Var} y = (1 - f) \frac{s^2}{n} + \frac{f}{n} \cdot \frac1n \sum_i e_i^2 .

The first term is the finite-population correction (Cochran, "Sampling Techniques", 1977, section 2.6): with all N images
nothing is left of it. The second restores what it takes too much: s^2 contains the noise e^2 / n of the mean, which does
not vanish with N. The interval is y plus or minus the 97.5 % quantile of Student's t with n - 1 degrees of freedom times
the root of the variance.

How far *another* set of n images would move the mean is s / sqrt(n), whatever N.

Several binary draws of one image are no independent images: values are first averaged over the draws of each.
"""

from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.seeding import seeded


def random_subset(count: int, of: int) -> Int64[Tensor, " count"]:
    """The numbers of `count` of the images 0 .. of - 1, always the same; a smaller subset begins a larger one.

    Never a prefix of the data, which may be sorted by class. Raises `InputError` where there are not so many.
    """
    if not 1 <= count <= of:
        raise InputError(f"images: expected a number from 1 to {of:,}, which is how many there are, got {count:,}.")
    with seeded("density images"):
        return torch.randperm(of)[:count]


def mean_and_error(
    values: Float64[Tensor, " values"],
    draws: int = 1,
    population: int | None = None,
    noise: Float64[Tensor, " values"] | None = None,
) -> dict[str, Any]:
    """Mean and standard error, ready for JSON; null for what cannot be had (an error from one image).

    Arguments:
        values: one for each image; of several draws first all images of the first draw, then all of the second.
        draws: of each image.
        population: N, images of the full set that the mean is to be stated for; None: no interval.
        noise: standard error of each value; None: it has none.

    Returns:
        mean; standard_error: how far another set of as many images would move it; and, with `population`,
        interval_95_of_full_set: where the mean over the full set lies.
    """
    per_image = values.unflatten(0, (draws, -1)).mean(0)
    n, mean = len(per_image), values.mean()
    variance = per_image.var(correction=0) / (n - 1)  # 0 / 0 for one image
    found: dict[str, Any] = {"mean": finite(mean), "standard_error": finite(variance.sqrt())}
    if population is None:
        return found
    own = torch.zeros_like(values) if noise is None else noise
    share, own_variance = n / population, own.square().sum() / len(values) ** 2
    # With every image in the set its spread plays no part, even where it is unknown.
    between = (1 - share) * variance if share < 1 else torch.zeros_like(variance)
    half = student_quantile(n - 1) * (between + share * own_variance).sqrt()
    bounds = [finite(mean - half), finite(mean + half)]
    return found | {"interval_95_of_full_set": None if None in bounds else bounds}


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; that of the normal law for no degree of freedom, where nothing is estimated."""
    from scipy.stats import norm, t

    return float(t.ppf(0.975, degrees) if degrees > 0 else norm.ppf(0.975))


def finite(value: Tensor) -> float | None:
    """A number for JSON: null for what is not finite."""
    return value.item() if value.isfinite() else None


def error_of_mean(errors: Float64[Tensor, " values"]) -> Float64[Tensor, ""]:
    """Standard error of the mean of independent values with these errors."""
    return errors.square().sum().sqrt() / len(errors)
