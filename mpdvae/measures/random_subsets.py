r"""Random subsets of images, and estimates of the full set's mean from them.

The mean y over n of N images, drawn at random without replacement, estimates the mean over all N. With the sample variance
s^2, the sampling fraction f = n / N, and the variance e_i^2 of each value's own (Monte-Carlo) noise,

.. math:: \operatorname{Var} y = (1 - f) \frac{s^2}{n} + \frac{f}{n} \cdot \frac1n \sum_i e_i^2 .

The first term has the finite-population correction (Cochran, "Sampling Techniques", 1977, section 2.6) and vanishes when
all N images are used. The second restores the part that the correction removes in excess: s^2 contains the noise e^2 / n of
the mean, which does not vanish when n = N. The interval is y plus or minus the 97.5 % quantile of Student's t with n - 1
degrees of freedom times the root of the variance.

The standard deviation of the mean over *another* random set of n images is s / sqrt(n), whatever N.

Several binary draws of an image are not independent images: values are first averaged over the draws of each image.
"""

from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.measures.tables import Table, tensor_of
from mpdvae.seeding import seeded


def random_subset(count: int, of: int) -> Int64[Tensor, " count"]:
    """Returns the indices of `count` random images out of 0 .. of - 1: always the same, and a prefix of any larger subset.

    Never a prefix of the data, which may be sorted by class. Raises `InputError` unless 1 <= count <= of.
    """
    if not 1 <= count <= of:
        raise InputError(f"images: expected a number from 1 to {of:,}, the number available, got {count:,}.")
    with seeded("density images"):
        return torch.randperm(of)[:count]


def mean_and_error(
    values: Table,
    draws: int = 1,
    population: int | None = None,
    noise: Table | None = None,
) -> dict[str, Any]:
    """Returns the mean and standard error, ready for JSON; null if undefined (the error from one image). Values and
    noise are arrays, tensors or lists.

    Arguments:
        values: one per image; with several draws, all images of the first draw, then all of the second, and so on.
        draws: number of draws of each image.
        population: N, number of images in the full set whose mean is estimated; None: no interval.
        noise: standard error of each value; None: no noise.

    Returns:
        mean; standard_error: the standard deviation of the mean over another set of as many images; and, with
        `population`, interval_95_of_full_set: the interval for the mean over the full set.
    """
    values = tensor_of(values, "values").double()
    per_image = values.unflatten(0, (draws, -1)).mean(0)
    n, mean = len(per_image), values.mean()
    variance = per_image.var(correction=0) / (n - 1)  # 0 / 0 for one image
    found: dict[str, Any] = {"mean": finite(mean), "standard_error": finite(variance.sqrt())}
    if population is None:
        return found
    own = torch.zeros_like(values) if noise is None else tensor_of(noise, "noise").double()
    share, own_variance = n / population, own.square().sum() / len(values) ** 2
    # If the set holds every image, the spread over images does not matter, even if it is unknown.
    between = (1 - share) * variance if share < 1 else torch.zeros_like(variance)
    half = student_quantile(n - 1) * (between + share * own_variance).sqrt()
    bounds = [finite(mean - half), finite(mean + half)]
    return found | {"interval_95_of_full_set": None if None in bounds else bounds}


def student_quantile(degrees: int) -> float:
    """Returns the 97.5 % quantile of Student's t; that of the normal distribution for 0 degrees of freedom, where nothing
    is estimated."""
    from scipy.stats import norm, t

    return float(t.ppf(0.975, degrees) if degrees > 0 else norm.ppf(0.975))


def finite(value: Tensor) -> float | None:
    """Returns the value as a JSON number; None (null) if it is not finite."""
    return value.item() if value.isfinite() else None


def error_of_mean(errors: Float64[Tensor, " values"]) -> Float64[Tensor, ""]:
    """Returns the standard error of the mean of independent values with these errors."""
    return errors.square().sum().sqrt() / len(errors)
