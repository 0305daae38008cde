r"""ELU, the activation of all convolutional networks here, with the gradient computed from its output.

.. math:: y = x \ (x > 0), \quad e^x - 1 \ (x \le 0); \qquad \frac{dy}{dx} = 1 \ (y > 0), \quad y + 1 \ (y \le 0).

The layer after an activation keeps y for its weights' gradient anyway, so x need not be kept, and the backward pass
computes no exponential.

On a CPU, training computes :math:`y = \max(x, \min(1, e^x) - 1)`, because torch's ELU evaluates the slow function `expm1`.
Both are equal up to the spacing of numbers just below 1: relative to that, not to y, they agree near 0.

Clevert, Unterthiner & Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units (ELUs)", ICLR 2016,
https://arxiv.org/abs/1511.07289.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mpdvae.networks.on_cpu import learning_on_cpu


def elu(x: Tensor) -> Tensor:
    """Applies ELU to each element, with the same values and gradients as torch's, up to rounding."""
    y = _ELU.apply(x, _is_quick_for(x))
    assert isinstance(y, Tensor)
    return y


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quick: bool) -> Tensor:
        y = _quick_elu(x) if quick else functional.elu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.elu_backward(*gradients, 1.0, 1.0, 1.0, True, y), None


def _is_quick_for(x: Tensor) -> bool:
    """Whether three passes over memory take less time than `expm1`: not where single positions are drawn, nor compiled."""
    return learning_on_cpu(x) and not torch.compiler.is_compiling()


def _quick_elu(x: Tensor) -> Tensor:
    one = x.new_ones(()).expand_as(x)
    slope = torch.ops.aten.elu_backward(one, 1.0, 1.0, 1.0, False, x)  # the derivative, min(1, e^x)
    return torch.maximum(x, slope.sub_(1), out=slope)
