r"""ELU, the activation of all convolutional networks here, with the gradient computed from its output.

.. math:: y = x \ (x > 0), \quad e^x - 1 \ (x \le 0); \qquad \frac{dy}{dx} = 1 \ (y > 0), \quad y + 1 \ (y \le 0).

The layer after an activation keeps y for its weights' gradient anyway, so x need not be kept, and the backward pass
computes no exponential.

Clevert, Unterthiner & Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units (ELUs)", ICLR 2016,
https://arxiv.org/abs/1511.07289.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def elu(x: Tensor) -> Tensor:
    """Applies ELU to each element, with the same values and gradients as torch's."""
    y = _ELU.apply(x)
    assert isinstance(y, Tensor)
    return y


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = functional.elu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.elu_backward(*gradients, 1.0, 1.0, 1.0, True, y)
