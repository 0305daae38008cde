r"""Walks through the latent space, on straight lines and on the surface between four codes.

.. math:: z(t) = a + t (b - a), \qquad z(s, t) = z_{top}(t) + s \, (z_{bottom}(t) - z_{top}(t)), \qquad s, t \in [0, 1],

where z_top is the straight line between the upper two of the four codes, and z_bottom that between the lower two.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def linear(start: Float[Tensor, "*latent"], end: Float[Tensor, "*latent"], steps: int) -> Float[Tensor, "step *latent"]:
    """Returns `steps` codes from one code, or from each of several, to another, both ends included."""
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device).reshape(steps, *[1] * start.ndim)
    return start + t * (end - start)


def bilinear(corners: Float[Tensor, "4 *latent"], rows: int, columns: int) -> Float[Tensor, "row column *latent"]:
    """Returns codes between four corners: upper left, upper right, lower left, lower right."""
    return linear(linear(corners[0], corners[1], columns), linear(corners[2], corners[3], columns), rows)
