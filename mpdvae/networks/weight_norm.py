r"""Weight normalisation, and its data-dependent initialisation in one pass.

A normalised layer writes its weight as gain times direction, per output unit,

.. math:: w = g \frac{v}{\lVert v \rVert}                \text{(plain)}, \qquad
          w = e^{g} \frac{m \odot v}{\lVert m \odot v \rVert + 10^{-8}} \text{(masked by } m\text{)},

with v ~ N(0, 0.05^2) at the start. Masked layers store the *logarithm* of the gain, as the released code of MAE does: an
average of their weights over time is then geometric in the gain.

If v has one number per unit (a 1x1 layer of one input), v / ||v|| is its sign, and its gradient is 0. Computed as
elsewhere, that gradient would be rounding error, which Adam, dividing by its size, turns into full steps, until signs flip.
A plain gain can reach the other sign without help; in masked layers, where the gain is e^g > 0, the floor under the norm
leaves such a v a gradient.

Initialisation: during one forward pass on data, each layer in turn is rescaled so that each output unit has mean 0 and
standard deviation `init_scale` over the batch and all positions; the next layer sees the rescaled output.

Salimans & Kingma, "Weight Normalization", NeurIPS 2016, https://arxiv.org/abs/1602.07868.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

Layer = TypeVar("Layer", bound=nn.Module)

DIRECTION_STD = 0.05
MASKED_NORM_FLOOR = 1e-8
STD_FLOOR = 1e-6


class WeightNorm(nn.Module):
    """The parametrisation (gain, direction) -> weight of one layer; `layer.parametrizations.weight[0]`.

    Arguments:
        output_axis: axis of the output units (1 for transposed convolutions, else 0).
        mask: 0 where a weight must stay 0, of the weight's shape; None for a plain layer.
        init_scale: standard deviation of the outputs after data-dependent initialisation.
    """

    def __init__(self, output_axis: int = 0, mask: Tensor | None = None, init_scale: float = 1.0) -> None:
        super().__init__()
        self.output_axis = output_axis
        self.init_scale = init_scale
        self.register_buffer("mask", mask, persistent=False)
        self.mask: Tensor | None

    def forward(self, gain: Tensor, direction: Tensor) -> Tensor:
        if direction.dtype == torch.float16:  # in which the floor is 0, and the norm of a unit that sees nothing, too
            return self(gain.float(), direction.float()).half()
        if self.mask is None:
            one_number = direction.numel() == gain.numel()
            return direction.sign() * gain if one_number else direction * (gain / self._norm(direction))
        masked = direction * self.mask
        return masked * (gain.exp() / (self._norm(masked) + MASKED_NORM_FLOOR))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gain and direction that produce `weight`."""
        if self.mask is None:
            return self._norm(weight), weight.clone()
        return (self._norm(weight * self.mask) + MASKED_NORM_FLOOR).log(), weight.clone()

    def rescale(self, gain: Tensor, factor: Tensor) -> None:
        """Multiplies the weights of each output unit by `factor` [units], in place."""
        shape = [1] * gain.ndim
        shape[self.output_axis] = -1
        if self.mask is None:
            gain.mul_(factor.view(shape))
        else:
            gain.add_(factor.log().view(shape))

    def _norm(self, direction: Tensor) -> Tensor:
        return torch.linalg.vector_norm(
            direction, dim=[d for d in range(direction.ndim) if d != self.output_axis], keepdim=True
        )

    def extra_repr(self) -> str:
        return f"{'masked, ' if self.mask is not None else ''}init_scale={self.init_scale:g}"


def weight_norm(layer: Layer, mask: Tensor | None = None, init_scale: float = 1.0) -> Layer:
    """Normalises the weight of `layer` (with `weight` and `bias`), and returns it: v ~ N(0, 0.05^2), g = ||v||, bias 0."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    nn.init.normal_(weight, std=DIRECTION_STD)
    nn.init.zeros_(bias)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    parametrize.register_parametrization(layer, "weight", WeightNorm(int(transposed), mask, init_scale))
    return layer


@contextmanager
def initialising_by_data(module: nn.Module) -> Iterator[None]:
    """Makes the first forward pass through each weight-normalised layer of `module` set its gain and bias from the data."""
    hooks: dict[nn.Module, RemovableHandle] = {}

    def rescale_once(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hooks.pop(layer).remove()
        return _rescale_to_unit_outputs(layer, inputs, output)

    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            hooks[layer] = layer.register_forward_hook(rescale_once)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)
        for hook in hooks.values():
            hook.remove()


@torch.no_grad()
def _rescale_to_unit_outputs(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Forward hook: rescales gain and bias by the statistics of `output` [batch units ...], then reruns the layer."""
    weight = layer.get_submodule("parametrizations.weight")
    norm = weight.get_submodule("0")
    assert isinstance(norm, WeightNorm)
    axes = [d for d in range(output.ndim) if d != 1]
    mean, std = output.mean(axes), output.std(axes)
    # A unit that sees nothing (the first output of a MADE) has no variance: it is treated as having unit variance.
    std = torch.where(std == 0, torch.ones_like(std), std)
    factor = norm.init_scale / (std + STD_FLOOR)
    norm.rescale(weight.get_parameter("original0"), factor)
    bias = layer.get_parameter("bias")
    bias.copy_((bias - mean) * factor)
    return layer.forward(*inputs)
