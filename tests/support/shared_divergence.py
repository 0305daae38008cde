"""Computes the divergence of a batch that is sharded among processes, and of the whole batch.

test_batch_sharding.py runs it as each of several processes. The first one prints as JSON, by case, the largest difference
of value and gradients, relative to the largest of each, summed over processes.
"""

import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from mpdvae.divergence import diversity_term, mutual_posterior_divergence, smoothness_term, spread_per_dimension
from mpdvae.system import process_group
from mpdvae.system.batch_sharding import divided, own

LATENT = (3, 2)
PAIRS, GRAM = 17, 40
"""Numbers of images, for the computation by the matrix of pairs and by Gram matrices. Neither is a multiple of 2 or 3 in
both."""

VALUES: dict[str, Callable[[Independent], Tensor]] = {
    "mean per dimension": lambda q: mutual_posterior_divergence(q).per_dimension,
    "mean": lambda q: mutual_posterior_divergence(q).mean,
    "spread": lambda q: mutual_posterior_divergence(q).std,
    "spread per dimension": spread_per_dimension,
    **{
        f"diversity, {form}": lambda q, form=form: diversity_term(q, 0.7, form)
        for form in ("released", "paper", "submitted")
    },
    "smoothness, total": lambda q: smoothness_term(q, 0.7),
    "smoothness, dimensions": lambda q: smoothness_term(q, 0.7, "dimensions"),
}
SPREADS = {"apart": 1.0, "nearly collapsed": 1e-4}
CASES = {
    f"{name}, {images} images, {distance}": (value, images, spread)
    for name, value in VALUES.items()
    for images in (PAIRS, GRAM)
    for distance, spread in SPREADS.items()
}


def outcome(value: Callable[[Independent], Tensor], m: Tensor, log_s: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the value, and its gradient with respect to the posteriors of this process's images."""
    m, log_s = (own(x).clone().requires_grad_() for x in (m, log_s))
    found = value(Independent(Normal(m, log_s.exp()), 2))
    weights = torch.linspace(0.5, 1.5, found.numel()).reshape(found.shape)
    ((found * weights).sum() / process_group.world()).backward()
    assert m.grad is not None
    assert log_s.grad is not None
    return found.detach(), torch.stack([m.grad, log_s.grad], 1)


def difference(value: Callable[[Independent], Tensor], images: int, spread: float) -> float:
    torch.manual_seed(1)
    m, log_s = 3 + spread * torch.randn(images, *LATENT), -1 + spread * torch.randn(images, *LATENT)
    with process_group._at(process_group.Place()):
        expected, gradient = outcome(value, m, log_s)
    with divided(images):
        found, own_gradient = outcome(value, m, log_s)
        apart = (own_gradient - own(gradient)).abs().max() / gradient.abs().max()
    return process_group.add_up(torch.maximum((found - expected).abs().max() / expected.abs().max(), apart)).item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    with process_group.joined():
        json.dump({name: difference(*case) for name, case in CASES.items()}, sys.stdout)
