"""Layers that see only what comes before: causal convolutions in raster order, and masked linear layers.

A causal convolution with a 5x5 kernel sees, around the centre (`.` = not seen):

    mask A                   mask B
    # # # # #                # # # # #
    # # # # #                # # # # #
    # # . . .                # # # . .
    . . . . .                . . . . .
    . . . . .                . . . . .

Mask A is for the first layer, which must not see the pixel it predicts. Weights have the full square shape, so that their
number matches the literature; the rows below the centre are cut off before any computation.

van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016, https://arxiv.org/abs/1601.06759.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from mpdvae.errors import InputError
from mpdvae.networks.batching import over_leading
from mpdvae.networks.convolution import convolve
from mpdvae.networks.incremental import CausalLayer, Raster
from mpdvae.networks.neighbours import Neighbours
from mpdvae.networks.weight_norm import weight_norm

MaskType = Literal["A", "B"]

FEW_CHANNELS = 8
"""A convolution of fewer input channels leaves most of a vector register empty."""


def causal_mask(weight: Float[Tensor, "out in size size"], mask_type: MaskType) -> Float[Tensor, "out in size size"]:
    """Returns 1 where a raster-order causal convolution may look, else 0; mask B allows the centre, mask A does not."""
    size = weight.shape[-1]
    mask = torch.zeros_like(weight)
    mask[..., : size // 2, :] = 1
    mask[..., size // 2, : size // 2 + (mask_type == "B")] = 1
    return mask


def check_odd(kernel_size: int) -> None:
    """Raises `InputError` unless a causal kernel of this size has a centre."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size: a causal convolution needs an odd size, got {kernel_size}.")


class CausalConv2d(CausalLayer, nn.Conv2d):
    """Weight-normalised convolution that keeps height and width, in which all channels see only earlier positions (and,
    with mask B, the position itself)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, mask_type: MaskType, init_scale: float = 1.0
    ) -> None:
        check_odd(kernel_size)
        super().__init__(in_channels, out_channels, kernel_size)
        weight_norm(self, causal_mask(self.weight, mask_type), init_scale)
        self.mask_type = mask_type

    def forward(self, x: Float[Tensor, "*batch in height width"]) -> Float[Tensor, "... out rows columns"]:
        if self.raster is not None:
            return self.column(x, self.raster)
        return _causal_conv2d(x, self.weight, self.bias)

    def column(self, x: Float[Tensor, "*batch in rows columns"], at: Raster) -> Float[Tensor, "... out 1 1"]:
        """Returns the output at the current position, given the input there and the earlier inputs. With mask A, which does
        not look at the current position, `x` is the whole maps, of which the earlier positions are known."""
        if self not in at.memory:
            above = self.together(lambda layer: _above(layer.weight))
            left = self.together(lambda layer: _left(layer.weight, centre=layer.mask_type == "B"))
            at.memory[self] = Neighbours(
                above, left, self.together(lambda layer: layer.get_parameter("bias")), x.shape[-4], at.width
            )
        near = at.memory[self]
        if self.mask_type == "A":
            near.add_previous(x, at)
        if at.column == 0:
            near.begin_row()
        if self.mask_type == "B":
            near.add(at.column, x)
        return near.sums(at.column)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mask {self.mask_type}"


class ConditionedCausalConv2d(CausalLayer, nn.Conv2d):
    """The first layer of a conditional PixelCNN: mask A over the image, the full square over the maps of the condition.

    One weight over the concatenation [image, condition], normalised as one, is evaluated in two parts: the image's part
    once per image and the condition's once per condition, however the two are paired by broadcasting.
    """

    def __init__(self, image_channels: int, condition_channels: int, out_channels: int, kernel_size: int) -> None:
        check_odd(kernel_size)
        super().__init__(image_channels + condition_channels, out_channels, kernel_size)
        mask = torch.ones_like(self.weight)
        mask[:, :image_channels] = causal_mask(self.weight[:, :image_channels], "A")
        weight_norm(self, mask)
        self.image_channels = image_channels

    def forward(
        self, x: Float[Tensor, "*#batch image height width"], condition: Float[Tensor, "*#batch maps height width"]
    ) -> Float[Tensor, "*batch out rows columns"]:
        if self.raster is not None:
            return self.column(x, condition, self.raster)
        # With equal numbers of axes, the gradient of a single condition per image needs no sum over them.
        x = x[(None,) * (condition.ndim - x.ndim)]
        seen = over_leading(lambda x: _causal_conv2d(x, self.weight[:, : self.image_channels], None), x, 3)
        return seen + self._told(condition)

    def column(self, x: Tensor, condition: Tensor, at: Raster) -> Float[Tensor, "*batch out 1 1"]:
        """Returns the output at the current position of image `x`, given its earlier pixels; evaluates `condition` once."""
        images = math.prod(x.shape[:-3])
        if self not in at.memory:
            weight = self.weight[:, : self.image_channels]
            no_bias = weight.new_zeros(1, self.out_channels)
            near = Neighbours(_above(weight)[None], _left(weight, centre=False)[None], no_bias, images, at.width)
            at.memory[self] = near, self._told(condition)
        near, told = at.memory[self]
        near.add_previous(x.reshape(images, *x.shape[-3:]), at)
        if at.column == 0:
            near.begin_row()
        seen = near.sums(at.column).reshape(*x.shape[:-3], -1, 1, 1)
        return seen + told[..., at.row : at.row + 1, at.column : at.column + 1]

    def _told(self, condition: Tensor) -> Tensor:
        """The condition's contribution to every position, bias included; future positions of the condition are seen."""
        return over_leading(lambda c: _square_conv2d(c, self.weight[:, self.image_channels :], self.bias), condition, 3)


def _above(weight: Float[Tensor, "out in size size"]) -> Float[Tensor, "row column in out"]:
    """The weights of a causal convolution on the rows above the centre."""
    return weight[:, :, : weight.shape[-1] // 2].permute(2, 3, 1, 0)


def _left(weight: Float[Tensor, "out in size size"], centre: bool) -> Float[Tensor, "tap in out"]:
    """The weights of a causal convolution on the centre's row."""
    reach = weight.shape[-1] // 2
    return weight[:, :, reach, : reach + centre].permute(2, 1, 0)


def _causal_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    reach = weight.shape[-1] // 2
    return _conv2d(pad(x, (0, 0, reach, 0)), weight[:, :, : reach + 1], bias, (0, reach))


def _square_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    reach = weight.shape[-1] // 2
    return _conv2d(x, weight, bias, (reach, reach))


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """A convolution that keeps the width. A CPU multiplies about sixteen channels at once: if there are few, the kernel's
    columns become channels, of maps that are shifted by them, so that only the rows of the kernel remain."""
    if weight.shape[1] >= FEW_CHANNELS:
        return convolve(x, weight, bias, padding)
    rows, columns = padding
    shifted = pad(x, (columns, columns)).unfold(-1, x.shape[-1], 1)  # [batch in height column width]
    maps = shifted.permute(0, 3, 1, 2, 4).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return convolve(maps, weight.permute(0, 3, 1, 2).flatten(1, 2)[..., None], bias, (rows, 0))


class MaskedLinear(nn.Linear):
    """Weight-normalised linear layer whose weights are 0 where `mask` [out in] is 0."""

    def __init__(self, mask: Float[Tensor, "out in"], init_scale: float = 1.0) -> None:
        out_features, in_features = mask.shape
        super().__init__(in_features, out_features)
        weight_norm(self, mask.to(self.weight.dtype), init_scale)
