r"""Convolutions whose gradients go the quicker of two equal ways on a processor.

With output gradient g, input x and weight w of a convolution,

.. math:: \frac{dL}{db_o} = \sum_{n, p} g_{nop}, \qquad
          \frac{dL}{dw_{oik}} = \sum_{n, p} g_{nop} \, x_{ni(p + k)}.

The bias's gradient is a sum of its own here: torch's library for convolutions takes longer over it than over the sum, which a
compiler merges with what comes before. In the weight's gradient of a 1x1 convolution (k = 0) g and x are alike, and the
library is quicker where the second has fewer channels, as long as they fill a vector register: they change places where a
layer narrows.

This is done where `torch.compile` compiles for a processor. Elsewhere torch leaves out gradients that nobody asks for, such
as those of weights when a code is refined, which a function with a gradient of its own cannot.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

REGISTER = 16
"""Numbers (float32) in the vector registers that are wide."""


def convolve(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in rows columns"],
    bias: Float[Tensor, " out"] | None,
    padding: tuple[int, int] = (0, 0),
) -> Float[Tensor, "batch out output_height output_width"]:
    """`torch.nn.functional.conv2d` with stride 1; the same values, and the same gradients up to rounding."""
    by_torch = not torch.compiler.is_compiling() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if by_torch or not torch.is_grad_enabled():
        return conv2d(x, weight, bias, padding=padding)
    y = _Convolution.apply(x, weight, bias, padding)
    assert isinstance(y, Tensor)
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight), wanted = gradients, ctx.saved_tensors, ctx.needs_input_grad
        bias_gradient = g.sum((0, 2, 3)) if wanted[2] else None
        units, inputs, *kernel = weight.shape
        if kernel != [1, 1] or not REGISTER <= units < inputs:
            return *_gradients(g, x, weight, ctx.padding, wanted[0], wanted[1]), bias_gradient, None
        x_gradient, _ = _gradients(g, x, weight, ctx.padding, wanted[0], False)
        _, weight_gradient = _gradients(x, g, weight.transpose(0, 1), ctx.padding, False, wanted[1])
        return x_gradient, None if weight_gradient is None else weight_gradient.transpose(0, 1), bias_gradient, None


def _gradients(
    g: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], of_x: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Of a convolution's input and weight; None for what is not wanted."""
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, [of_x, of_weight, False]
    )[:2]
