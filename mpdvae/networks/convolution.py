r"""Convolutions whose gradients are computed in the faster of two equivalent ways on a CPU.

With output gradient g, input x and weight w of a convolution,

.. math:: \frac{dL}{db_o} = \sum_{n, p} g_{nop}, \qquad
          \frac{dL}{dw_{oik}} = \sum_{n, p} g_{nop} \, x_{ni(p + k)}.

The bias gradient is computed as a separate sum: torch's convolution library takes longer to compute it than the sum, which
a compiler fuses with the preceding operations. In the weight gradient of a 1x1 convolution (k = 0), g and x play the same
role, and the library is faster if the second one has fewer channels: the two are swapped where a layer narrows.

Weights and input have a node of the graph each, so that torch skips the gradients that are not needed, such as those of
weights when a code is refined.

This applies to float32 on a CPU. In bfloat16, and on other devices, torch's own gradients are as fast.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from mpdvae.networks.on_cpu import learning_on_cpu


def convolve(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in rows columns"],
    bias: Float[Tensor, " out"] | None,
    padding: tuple[int, int] = (0, 0),
) -> Float[Tensor, "batch out output_height output_width"]:
    """Computes `torch.nn.functional.conv2d` with stride 1: the same values, and the same gradients up to rounding."""
    if not learning_on_cpu(x) or torch.is_autocast_enabled(x.device.type):
        return conv2d(x, weight, bias, padding=padding)
    y = _OfWeight.apply((x,), weight, bias, padding)
    assert isinstance(y, Tensor)
    if not x.requires_grad:
        return y
    y = _OfInput.apply(y, x, weight, padding)
    assert isinstance(y, Tensor)
    return y


class _OfWeight(torch.autograd.Function):
    """The convolution as a function of its weight and bias. The input is in a tuple, where torch does not see it: this node
    is then skipped where only codes have gradients."""

    @staticmethod
    def forward(
        ctx: Any, inputs: tuple[Tensor], weight: Tensor, bias: Tensor | None, padding: tuple[int, int]
    ) -> Tensor:
        (x,) = inputs
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight) = gradients, ctx.saved_tensors
        _, of_weight, of_bias, _ = ctx.needs_input_grad
        bias_gradient = g.sum((0, 2, 3)) if of_bias else None
        return None, _weight_gradient(g, x, weight, ctx.padding) if of_weight else None, bias_gradient, None


class _OfInput(torch.autograd.Function):
    """Returns the output `y` of the convolution of `x`, as a function of `x` too."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight) = gradients, ctx.saved_tensors
        return g, _gradient(0, g, x, weight, ctx.padding), None, None


def _weight_gradient(g: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    units, inputs, *kernel = weight.shape
    if kernel == [1, 1] and units == 1:
        return (g.flatten() @ x.permute(0, 2, 3, 1).flatten(0, 2)).view_as(weight)
    if kernel == [1, 1] and units < inputs:
        return _gradient(1, x, g, weight.transpose(0, 1), padding).transpose(0, 1)
    return _gradient(1, g, x, weight, padding)


def _gradient(of: int, g: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """The gradient of a convolution's input (0) or weight (1), and of nothing else."""
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, [of == 0, of == 1, False]
    )[of]
