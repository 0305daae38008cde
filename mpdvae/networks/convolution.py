r"""Convolutions whose gradients are computed in the faster of two equivalent ways on a CPU.

With output gradient g, input x and weight w of a convolution,

.. math:: \frac{dL}{db_o} = \sum_{n, p} g_{nop}, \qquad
          \frac{dL}{dw_{oik}} = \sum_{n, p} g_{nop} \, x_{ni(p + k)}.

The bias gradient is computed as a separate sum: torch's convolution library takes longer to compute it than the sum, which
a compiler fuses with the preceding operations. In the weight gradient of a 1x1 convolution (k = 0), g and x play the same
role, and the library is faster if the second one has fewer channels, as long as they fill a vector register: the two are
swapped where a layer narrows.

This applies where `torch.compile` compiles for a CPU. Elsewhere torch skips gradients that are not needed, such as those of
weights when a code is refined, which a custom autograd function cannot do.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

REGISTER = 16
"""Number of float32 values in a wide vector register."""


def convolve(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in rows columns"],
    bias: Float[Tensor, " out"] | None,
    padding: tuple[int, int] = (0, 0),
) -> Float[Tensor, "batch out output_height output_width"]:
    """Computes `torch.nn.functional.conv2d` with stride 1: the same values, and the same gradients up to rounding."""
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
    """Gradients of a convolution's input and weight; None for each that is not wanted."""
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, [of_x, of_weight, False]
    )[:2]
