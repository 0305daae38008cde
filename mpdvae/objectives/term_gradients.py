r"""Gradient norms: which term of the loss acts on the posteriors, and how strongly.

A term T of the loss (in nats per image, a mean over the batch of N images) affects the encoder only through the gradient
with respect to its outputs. For image i these are :math:`\theta_i = (m_i, \log s_i^2)`, and

.. math:: G_T = \Big( \frac1N \sum_i \lVert N \, E_z \, \partial T / \partial \theta_i \rVert^2 \Big)^{1/2}

is the root mean square over images of the gradient per image, in nats per unit of (m, log s^2). Terms that couple the
images of a batch, such as those of MAE, are treated in the same way. The expectation over z matters: with one draw of z,
the noise in the reconstruction's gradient exceeds the gradient itself. With independent draws g_1, ..., g_D of the
gradient, the mean of :math:`\langle g_a, g_b \rangle` over a != b is an unbiased estimate of its squared norm; negative
estimates count as zero.

Interpretation: when training is stationary the terms balance, and `total`, the norm of their sum, is small compared with
the norms of the terms. When a code collapses, the gradient of the reconstruction fades first, because the decoder no longer
uses z, and the KL dominates. Norms near zero in all terms mean that the code has collapsed: no term acts on it any more.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.measures.density import evaluating
from mpdvae.measures.finite import refuse_not_finite
from mpdvae.objectives.terms import Objective
from mpdvae.seeding import seeded
from mpdvae.system.devices import to_float64
from mpdvae.vae import VAE

DRAWS = 2
"""Independent draws of the gradient."""
TOTAL = "total"
"""Key of the norm of the sum of all terms."""


def gradient_norms(
    objective: Objective, vae: VAE, x: Float[Tensor, "images channel height width"], step: int = 0, seed: int = 0
) -> dict[str, float]:
    """Returns G_T of each term of `objective` by name, and of their sum as `total`. Leaves no gradients in `vae`.

    Arguments:
        objective: the objective; its terms have their weights at `step`.
        vae: the model; used in evaluation mode, its mode is restored afterwards.
        x: the batch, at least 2 images.
        step: step of the schedules.
        seed: seed of the noise of z.

    Raises:
        InputError: for fewer than two images, or a posterior that is not a diagonal Gaussian.
        RunError: for a gradient that is not finite; names the term and the image.
    """
    if x.ndim != 4 or len(x) < 2:
        raise InputError(f"x: expected images [images channel height width], at least 2, got shape {tuple(x.shape)}.")
    with torch.enable_grad(), evaluating(vae):
        draws = [_gradients(objective, vae, x, step, seed, draw) for draw in range(DRAWS)]
    return {name: _norm(name, torch.stack([draw[name] for draw in draws])) for name in draws[0]}


def _gradients(
    objective: Objective, vae: VAE, x: Tensor, step: int, seed: int, draw: int
) -> dict[str, Float[Tensor, "images twice_latent"]]:
    """Returns one draw of the gradient of each term and of their sum."""
    with seeded(seed, "gradient norms", draw):
        loss = objective(vae, x, step)
    q = diagonal_normal(loss.forward.q)
    gradients = {name: _per_image(term, q.loc, q.scale) for name, term in loss.terms.items()}
    return {**gradients, TOTAL: torch.stack(list(gradients.values())).sum(0)}


def _per_image(term: Tensor, mean: Tensor, scale: Tensor) -> Float[Tensor, "images twice_latent"]:
    """Returns N dT / d(m, log s^2) of each image: zero for outputs unaffected by the term or by the encoder's weights."""
    learned = [output for output in (mean, scale) if output.requires_grad]
    needed = term.requires_grad and learned  # nothing, where the term is constant or the encoder frozen
    found = torch.autograd.grad(term, learned, retain_graph=True, allow_unused=True) if needed else ()
    by_output = {id(output): gradient for output, gradient in zip(learned, found, strict=False) if gradient is not None}
    by_mean, by_scale = (by_output.get(id(output), torch.zeros_like(output)) for output in (mean, scale))
    return len(mean) * torch.cat([by_mean.flatten(1), (by_scale * scale / 2).flatten(1)], 1)


def _norm(name: str, draws: Float[Tensor, "draws images twice_latent"]) -> float:
    refuse_not_finite(f"{name} gradient", draws.transpose(0, 1))
    g, count = to_float64(draws), len(draws)
    different = g.sum(0).square().sum(1) - g.square().sum((0, 2))
    return (different.mean() / (count * (count - 1))).clamp_min(0.0).sqrt().item()
