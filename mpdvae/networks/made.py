r"""MADE: a network from n numbers to n numbers in which output o depends only on the inputs before o.

Every unit has a degree: input j (from 0) has j + 1, output o has o, and unit i (from 0) of a hidden layer of h units has
:math:`\lceil (i+1)(n-1)/h \rceil`, so that degrees are spread evenly. A weight is allowed if the degree does not decrease
from input to output. A masked direct connection from input to output is added. `reverse` reverses the order: output o
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
        features: n, the number of inputs and of outputs.
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
        if reverse:
            inputs, units, outputs = inputs[::-1], units[::-1], outputs[::-1]
        degrees = [inputs, *[units] * hidden_layers, outputs]
        self.hidden_units = [units.count(degree) for degree in range(features)]
        self.layers = nn.ModuleList(
            MaskedLinear(_mask(before, after), init_scale) for before, after in pairwise(degrees)
        )
        self.direct = MaskedLinear(_mask(inputs, outputs), init_scale)

    def forward(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "... outputs"]:
        """Returns all outputs; in an incremental evaluation, that of the current site, given the earlier inputs of `y`."""
        if self.raster is not None:
            return self.column(y, self.raster)
        *hidden, last = self.layers
        h = y
        for layer in hidden:
            h = layer(h).relu()
        return last(h) + self.direct(y)

    def column(self, y: Float[Tensor, "batch features"], at: Raster) -> Float[Tensor, "... batch 1"]:
        """Returns the output of the current site, whose degree is its column. The input of the preceding site completes the
        hidden units of that degree: each unit is computed once."""
        if self not in at.memory:
            at.memory[self] = _Units(self, len(y))
        units, column = at.memory[self], at.column
        if column:
            before = self.features - column if self.reverse else column - 1
            units.inputs[before].copy_(y.select(1, before))
        for seen, weights, complete in units.hidden:
            torch.clamp_min(torch.bmm(weights[column], seen), 0, out=complete[column])
        output = torch.bmm(units.output_weights[column], units.seen_by_outputs).mT
        return output if self.beside else output[0]

    def linear(self, layer: int) -> MaskedLinear:
        """Returns one of `layers`."""
        linear = self.layers[layer]
        assert isinstance(linear, MaskedLinear)
        return linear

    def extra_repr(self) -> str:
        order = f"{self.features - 1}..0" if self.reverse else f"0..{self.features - 1}"
        return f"features={self.features}, order={order}"


class _Units:
    """Values of all units of a MADE, and of those beside it, in an incremental evaluation: for each layer [network unit
    batch], zero until known, followed by a constant one whose weights in the next layer are the biases."""

    def __init__(self, made: MADE, batch: int) -> None:
        hidden = range(len(made.layers) - 1)
        weights = [made.together(lambda made, i=i: _with_bias(made.linear(i))) for i in hidden]
        networks, count, _ = weights[0].shape

        def values(units: int) -> Tensor:
            ones = weights[0].new_ones(networks, 1, batch)
            return torch.cat([ones.new_zeros(networks, units, batch), ones], 1)

        def by_degree(units: Tensor, counts: list[int]) -> list[Tensor]:
            return list(units.split(counts[::-1], 1))[::-1] if made.reverse else list(units.split(counts, 1))

        self.seen_by_outputs = values(count + made.features)
        inputs = self.seen_by_outputs[:, count:]
        layers = [inputs, *(values(count) for _ in hidden[1:]), self.seen_by_outputs]
        self.inputs = inputs.unbind(1)
        self.hidden = [
            (
                layers[i],
                by_degree(weights[i], made.hidden_units),
                by_degree(layers[i + 1][:, :count], made.hidden_units),
            )
            for i in hidden
        ]
        self.output_weights = by_degree(made.together(_output_weight), [1] * made.features)


def _mask(before: list[int], after: list[int]) -> Float[Tensor, "after before"]:
    return (torch.tensor(after)[:, None] >= torch.tensor(before)).float()


def _with_bias(layer: MaskedLinear) -> Float[Tensor, "out more"]:
    return torch.cat([layer.weight, layer.bias[:, None]], 1)


def _output_weight(made: MADE) -> Float[Tensor, "out more"]:
    """Weights on the last hidden units, the inputs and the constant 1."""
    last = made.linear(-1)
    return torch.cat([last.weight, made.direct.weight, (last.bias + made.direct.bias)[:, None]], 1)
