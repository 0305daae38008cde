r"""An isometry from short vectors to maps: the smoothest orthonormal cosines as a basis.

Along an axis of n positions, the functions of the discrete cosine transform (type II)

.. math:: c_u(i) = \sqrt{\frac{2 - [u = 0]}{n}} \cos \frac{\pi u (2 i + 1)}{2 n}, \qquad u = 0, ..., n - 1,

are orthonormal; so are their products over the axes of maps. Those with the lowest frequencies, by the sum of (u / n)^2 over
axes, are the columns of a matrix B with :math:`B^T B = I`, for which :math:`\lVert B z \rVert = \lVert z \rVert`.

Ahmed, Natarajan & Rao, "Discrete Cosine Transform", IEEE Transactions on Computers, 1974.
"""

import math
from functools import reduce
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError


class SmoothIsometry(nn.Module):
    """z -> B z, flattened. B is computed from its size, so that there is nothing to save.

    Arguments:
        features: length of z, at most the product of `shape`.
        shape: of the maps.
    """

    def __init__(self, features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("basis", lowest_cosines(features, shape), persistent=False)
        self.basis: Tensor

    def forward(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, "batch elements"]:
        return z @ self.basis.mT

    def extra_repr(self) -> str:
        return f"{self.basis.shape[1]} -> {self.basis.shape[0]}"


def lowest_cosines(count: int, shape: tuple[int, ...]) -> Float[Tensor, "elements count"]:
    """Returns B. Raises `InputError` if maps of `shape` have fewer than `count` elements."""
    if count > math.prod(shape):
        raise InputError(
            f"latent_dim: a code of {count} numbers cannot be told from maps of {math.prod(shape)} (shape {shape}); an "
            f"injective decoder needs at most as many numbers in a code."
        )
    frequencies = product(*(range(n) for n in shape))
    smoothest = sorted(frequencies, key=lambda us: (sum((u / n) ** 2 for u, n in zip(us, shape, strict=True)), us))
    axes = [_cosines(n) for n in shape]
    columns = [reduce(torch.kron, (axis[u] for axis, u in zip(axes, us, strict=True))) for us in smoothest[:count]]
    return torch.stack(columns, 1).to(torch.get_default_dtype())


def _cosines(n: int) -> Float[Tensor, "frequency position"]:
    u, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    cosines = (math.pi * u * (2 * i + 1) / (2 * n)).cos() * math.sqrt(2 / n)
    cosines[0] /= math.sqrt(2)
    return cosines
