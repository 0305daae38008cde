r"""MADE: a network from n numbers to n numbers whose output o depends on the inputs before o only.

Every unit has a degree: input j (from 0) has j + 1, output o has o, and unit i (from 0) of a hidden layer of h units has
:math:`\lceil (i+1)(n-1)/h \rceil`, so that degrees are spread evenly. A weight is allowed where the degree does not fall
from input to output. A masked direct connection from input to output is added. `reverse` turns the order round: output o
depends on the inputs after o (both axes of each mask reversed).

Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015, https://arxiv.org/abs/1502.03509.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.networks.masked import MaskedLinear


class MADE(nn.Module):
    """Autoregressive ReLU network with a direct connection.

    Arguments:
        features: n, numbers in and out.
        hidden_features: units of each hidden layer.
        hidden_layers: number of hidden layers, >= 1.
        reverse: order n-1 .. 0 instead of 0 .. n-1.
        init_scale: output standard deviation after data-dependent initialisation.
    """

    def __init__(
        self,
        features: int,
        hidden_features: int,
        hidden_layers: int = 1,
        reverse: bool = False,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if min(features, hidden_features, hidden_layers) < 1:
            raise InputError(
                "features, hidden_features, hidden_layers: expected numbers >= 1, "
                f"got {features}, {hidden_features}, {hidden_layers}."
            )
        self.features, self.reverse = features, reverse
        units = [math.ceil((i + 1) * (features - 1) / hidden_features) for i in range(hidden_features)]
        inputs, outputs = list(range(1, features + 1)), list(range(features))
        degrees = [inputs, *[units] * hidden_layers, outputs]
        self.layers = nn.ModuleList(
            MaskedLinear(_mask(before, after, reverse), init_scale) for before, after in pairwise(degrees)
        )
        self.direct = MaskedLinear(_mask(inputs, outputs, reverse), init_scale)

    def forward(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        *hidden, last = self.layers
        h = y
        for layer in hidden:
            h = layer(h).relu()
        return last(h) + self.direct(y)

    def extra_repr(self) -> str:
        order = f"{self.features - 1}..0" if self.reverse else f"0..{self.features - 1}"
        return f"features={self.features}, order={order}"


def _mask(before: list[int], after: list[int], reverse: bool) -> Float[Tensor, "after before"]:
    mask = (torch.tensor(after)[:, None] >= torch.tensor(before)).float()
    return mask.flip(0, 1) if reverse else mask
