r"""Corrects log-weights from a fast but imprecise decoder with a few from the exact one.

Each image has k samples with log-weights v_i from the imprecise decoder; for n of them, chosen by their position alone, the
exact log-weight w_i is known too. The differences d_i = w_i - v_i have a mean for each image, because rounded weights of a
network shift all samples of an image alike, and a spread s around it. The mean is corrected:

.. math:: \hat w_i = w_i \;\text{if known, otherwise}\; v_i + \bar d, \qquad \bar d = \tfrac1n \sum_{i \text{ known}} d_i.

The mean of the corrected log-weights (ELBO, reconstruction) is unbiased for that of the exact ones. What remains in
:math:`\log \tfrac1k \sum_i e^{\hat w_i}` is, to first order, with the normalised weights u_i and sums over the i whose exact
weight is unknown, the error

.. math:: s \, \Bigl( \tfrac1n \bigl(\textstyle\sum u_i\bigr)^2 + \sum u_i^2 \Bigr)^{1/2},

which is independent between images, and a shift that is not: differences may depend on the weight. The shift is measured on
the known samples, as their corrected minus their exact log-mean of weights; its mean over images is the systematic error of
a mean log-likelihood.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor


def offset(raw: Float64[Tensor, "samples batch"], exact: Float64[Tensor, "samples batch"]) -> Float64[Tensor, " batch"]:
    """Returns the mean difference of each image, exact minus imprecise; 0 if no exact log-weight is known.

    Arguments:
        raw: imprecise log-weights; nan beyond the samples drawn.
        exact: exact log-weights; nan where unknown.
    """
    difference, known = _differences(raw, exact)
    return difference.sum(0) / known.sum(0).clamp(min=1)


def corrected(
    raw: Float64[Tensor, "samples batch"], exact: Float64[Tensor, "samples batch"]
) -> Float64[Tensor, "samples batch"]:
    """Returns the exact log-weights where they are known, otherwise the imprecise ones plus the image's offset."""
    return torch.where(exact.isnan(), raw + offset(raw, exact), exact)


def remaining_error(
    raw: Float64[Tensor, "samples batch"], exact: Float64[Tensor, "samples batch"]
) -> Float64[Tensor, " batch"]:
    """Returns the standard error in nats that the correction leaves in the log-mean of the weights of each image; nan for
    less than two known samples."""
    difference, known = _differences(raw, exact)
    n = known.sum(0).double()
    spread = torch.where(known, difference - difference.sum(0) / n, 0.0).square().sum(0) / (n - 1).clamp(min=0)
    log_w = corrected(raw, exact).nan_to_num(nan=-math.inf)
    shares = torch.where(exact.isnan(), (log_w - log_w.logsumexp(0)).exp(), 0.0)
    error = (spread * (shares.sum(0).square() / n + shares.square().sum(0))).sqrt()
    return torch.where(n > 1, error, math.nan)


def shift(raw: Float64[Tensor, "samples batch"], exact: Float64[Tensor, "samples batch"]) -> Float64[Tensor, " batch"]:
    """Returns the corrected minus the exact log-mean of the weights of each image, over the known samples; nan for less than
    two."""
    _, known = _differences(raw, exact)
    n = known.sum(0)
    moved = torch.where(known, raw + offset(raw, exact), -math.inf).logsumexp(0)
    return torch.where(n > 1, moved - torch.where(known, exact, -math.inf).logsumexp(0), math.nan)


def _differences(raw: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Returns exact minus imprecise log-weights, 0 where they are unknown or not finite, and where they are known."""
    difference = exact - raw
    known = difference.isfinite()
    return torch.where(known, difference, 0.0), known
