r"""Gradients of input-convex networks: maps that never bring two points closer together than a given factor.

An input-convex network (Amos, Xu & Kolter, ICML 2017, https://arxiv.org/abs/1609.07152)

.. math:: a_0 = A_0 z + b_0, \qquad a_l = P_l \, s(a_{l-1}) + A_l z + b_l, \qquad \varphi(z) = p^T s(a_L), \qquad P_l, p > 0,

with the softplus s, is convex in z: sums with positive weights, and convex increasing functions, of convex functions are
convex. By Brenier's theorem, gradients of convex functions are the optimal transport maps. Adding a quadratic makes the
potential strongly convex, and its gradient

.. math:: f(z) = (c + e^t) z + \nabla \varphi(z) + b, \qquad
          \langle f(z) - f(z'), z - z' \rangle \ge (c + e^t) \lVert z - z' \rVert^2,

strongly monotone, so that by the Cauchy-Schwarz inequality :math:`\lVert f(z) - f(z') \rVert \ge c \lVert z - z' \rVert`: its
*expansion* is at least c, which is given, and above it by the learned e^t. For any c >= 0, f is a bijection.

The gradient has a formula, which is evaluated in place of automatic differentiation. With :math:`s' = \sigma` the sigmoid,

.. math:: d_L = p \odot \sigma(a_L), \qquad d_{l-1} = P_l^T d_l \odot \sigma(a_{l-1}), \qquad
          \nabla \varphi = \sum_l A_l^T d_l .

It therefore has gradients itself, and runs without them, compiled, and in other precisions like any network.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear as apply
from torch.nn.functional import softplus

from mpdvae.errors import InputError
from mpdvae.networks.blocks import linear


class ConvexPotential(nn.Module):
    """The input-convex network phi, and its gradient.

    Arguments:
        features: length of z.
        hidden_features: length of every a_l.
        hidden_layers: L + 1, at least 1.
    """

    def __init__(self, features: int, hidden_features: int, hidden_layers: int = 2) -> None:
        super().__init__()
        if min(hidden_features, hidden_layers) < 1:
            raise InputError(
                "convex potential: expected at least one hidden layer of at least one feature, got "
                f"{hidden_layers} of {hidden_features}."
            )
        self.of_input = nn.ModuleList(linear(features, hidden_features) for _ in range(hidden_layers))
        square = hidden_features, hidden_features
        self.between = nn.ParameterList(_raw(1 / hidden_features, square) for _ in range(hidden_layers - 1))
        self.last = _raw(1 / math.sqrt(hidden_features), (hidden_features,))

    def forward(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """Returns phi(z)."""
        return softplus(self._hidden(z)[-1]) @ softplus(self.last)

    def gradient(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """Returns the gradient of phi at z."""
        hidden = self._hidden(z)
        arriving, total = softplus(self.last), torch.zeros_like(z)
        for level in reversed(range(len(hidden))):
            arriving = arriving * hidden[level].sigmoid()
            total = total + apply(arriving, self._of_input(level).weight.mT)
            if level:
                arriving = apply(arriving, softplus(self.between[level - 1]).mT)
        return total

    def _hidden(self, z: Tensor) -> list[Float[Tensor, "batch hidden"]]:
        """Returns a_0, ..., a_L."""
        hidden = [self._of_input(0)(z)]
        for level, raw in enumerate(self.between, 1):
            hidden.append(apply(softplus(hidden[-1]), softplus(raw)) + self._of_input(level)(z))
        return hidden

    def _of_input(self, level: int) -> nn.Linear:
        layer = self.of_input[level]
        assert isinstance(layer, nn.Linear)
        return layer


class ExpansiveMap(nn.Module):
    """The gradient f of a strongly convex potential.

    Arguments:
        features: length of z and of f(z).
        hidden_features, hidden_layers: of the potential, see `ConvexPotential`.
        expansion: c >= 0, below which no distance is multiplied.
    """

    def __init__(self, features: int, hidden_features: int, hidden_layers: int = 2, expansion: float = 0.0) -> None:
        super().__init__()
        if not 0 <= expansion < math.inf:
            raise InputError(f"expansion: expected a number >= 0, got {expansion}.")
        self.expansion = expansion
        self.potential = ConvexPotential(features, hidden_features, hidden_layers)
        self.log_slope = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        return (self.expansion + self.log_slope.exp()) * z + self.potential.gradient(z) + self.bias

    def extra_repr(self) -> str:
        return f"expansion={self.expansion:g}"


def _raw(value: float, shape: tuple[int, ...]) -> nn.Parameter:
    """Returns a parameter whose softplus is about `value`, each number a little different."""
    raw = math.log(math.expm1(value))
    return nn.Parameter(raw + 0.1 * torch.randn(shape))
