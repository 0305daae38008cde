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
from mpdvae.networks.incremental import CausalLayer, Raster
from mpdvae.networks.masked import MaskedLinear


class MADE(CausalLayer):
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

    def forward(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:
        """All outputs; in an incremental evaluation, the one of the present site, given the earlier inputs of `y`."""
        if self.raster is not None:
            return self.column(y, self.raster)
        *hidden, last = self.layers
        h = y
        for layer in hidden:
            h = layer(h).relu()
        return last(h) + self.direct(y)

    def column(self, y: Float[Tensor, "batch features"], at: Raster) -> Float[Tensor, "batch 1"]:
        """The output of the present site: the first hidden layer takes in one input a step, the last gives one output."""
        first, *middle, last = (layer for layer in self.layers if isinstance(layer, MaskedLinear))
        if self not in at.memory:
            sums = first.bias.expand(len(y), -1).clone()
            rows = torch.cat([last.weight, self.direct.weight], 1).unbind(0)  # of the last hidden units, and of y
            at.memory[self] = (
                sums,
                first.weight.mT.contiguous().unbind(0),
                rows,
                (last.bias + self.direct.bias).unbind(0),
            )
        sums, columns, rows, biases = at.memory[self]
        site = self.features - 1 - at.column if self.reverse else at.column
        if at.column:
            before = site + 1 if self.reverse else site - 1
            sums.addr_(y[:, before], columns[before])
        h = sums.relu()
        for layer in middle:
            h = layer(h).relu()
        return torch.addmv(biases[site], torch.cat([h, y], 1), rows[site])[:, None]

    def extra_repr(self) -> str:
        order = f"{self.features - 1}..0" if self.reverse else f"0..{self.features - 1}"
        return f"features={self.features}, order={order}"


def _mask(before: list[int], after: list[int], reverse: bool) -> Float[Tensor, "after before"]:
    mask = (torch.tensor(after)[:, None] >= torch.tensor(before)).float()
    return mask.flip(0, 1) if reverse else mask
