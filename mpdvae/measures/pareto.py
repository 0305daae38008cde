"""How far importance weights can be relied on: the shape of their tail.

An error bar is only as good as the weights' tail. The shape k-hat of a generalised Pareto law fitted to the largest
weights (Zhang & Stephens 2009, https://doi.org/10.1198/tech.2009.08017) says how good: above 0.7 neither their mean nor
its error bar can be relied on (Vehtari, Simpson, Gelman, Yao & Gabry 2024, https://arxiv.org/abs/1507.02646).
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

RELIABLE = 0.7
"""Up to this shape the mean of the weights and its error can be relied on."""

ROUNDING = 1e-4
"""A tail that spans less than this share of the largest weight is none: float32 likelihoods are not more exact."""


def pareto_shape(log_weights: Float64[Tensor, "samples batch"]) -> Float64[Tensor, " batch"]:
    """Shape k-hat of a generalised Pareto law fitted to the largest weights of each image.

    The tail is the M = ceil(min(samples / 5, 3 sqrt(samples))) largest weights, each less the next one below the tail.
    The estimate is the average over the grid of Zhang & Stephens (2009) by profile likelihood, drawn towards 0.5 as if
    by ten further observations (Vehtari et al. 2024). Weights with shape k-hat have moments of orders up to 1 / k-hat.

    Returns:
        nan where M < 5 (fewer than 21 samples) or all tail weights are equal but for rounding (an exact posterior: there is
        no tail);
        inf where the tail spans more orders of magnitude than float64 holds.
    """
    samples, images = log_weights.shape
    tail = math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    if tail < 5:
        return log_weights.new_full((images,), math.nan)
    largest = log_weights.mT.topk(tail + 1, dim=1).values.flip(1)
    w = (largest - largest[:, -1:]).exp()
    x = w[:, 1:] - w[:, :1]  # exceedances [images tail], ascending
    x_quarter, x_max = x[:, math.floor(tail / 4 + 0.5) - 1, None], x[:, -1:]
    m = 30 + math.floor(math.sqrt(tail))
    j = torch.arange(1, m + 1, dtype=x.dtype, device=x.device)
    b = 1 / x_max + (1 - (m / (j - 0.5)).sqrt()) / (3 * x_quarter)  # theta of Zhang & Stephens [images grid]
    k = torch.log1p(-b[:, :, None] * x[:, None, :]).mean(-1)
    log_likelihood = tail * ((-b / k).log() - k - 1)
    b_hat = (torch.softmax(log_likelihood, dim=1) * b).sum(1, keepdim=True)
    k_hat = (torch.log1p(-b_hat * x).sum(1) + 10 * 0.5) / (tail + 10)
    lost = torch.where(x_quarter.squeeze(1) > 0, k_hat, math.inf)
    return torch.where(x_max.squeeze(1) > ROUNDING, lost, math.nan)
