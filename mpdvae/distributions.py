r"""Laws that torch lacks.

`AutoregressivePixels`: binary images drawn pixel by pixel in raster order,

.. math:: \log p(x) = \sum_i \log \mathrm{Bernoulli}(x_i \mid \mathrm{logit}_i(x_{<i})).

`FlowTransformed`: z with u = f(z), u ~ base,

.. math:: \log p(z) = \log p_{base}(f(z)) + \log |\det \partial f / \partial z|.

Both hide how a sample is made behind `sample`. Likelihoods come from logits, never from probabilities.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import binary_cross_entropy_with_logits

from mpdvae.errors import InputError

Images = Float[Tensor, "*batch channel height width"]
AtPixel = Callable[[Tensor, int, int], Float[Tensor, "*batch channel"]]
"""From an image whose pixels before (i, j) are known, and i, j, to the logits at (i, j)."""


@runtime_checkable
class PixelLogits(Protocol):
    """The network behind autoregressive pixels."""

    def __call__(self, x: Images) -> Images:
        """The logits of all pixels, each from the pixels before it."""
        ...

    def pixel_by_pixel(self) -> AbstractContextManager[AtPixel]:
        """Inside, logits of single pixels, asked for in raster order; the fast way to draw."""
        ...


class AutoregressivePixels(Distribution):
    """Binary images [channel height width] whose pixel i is Bernoulli with a logit that depends on the pixels before i.

    Arguments:
        logits: for images with any leading axes that broadcast with `batch_shape`.
        batch_shape: shape of the condition.
        event_shape: (channel, height, width); pixels come in raster order, all channels of a position at once.
        like: a tensor of the dtype and device of samples.
    """

    arg_constraints = {}  # noqa: RUF012 - the name and form that torch asks for
    support = constraints.independent(constraints.boolean, 3)
    has_rsample = False

    def __init__(self, logits: PixelLogits, batch_shape: Size, event_shape: tuple[int, int, int], like: Tensor) -> None:
        self.logits = logits
        self.like = like
        super().__init__(batch_shape, Size(event_shape), validate_args=False)

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """log p(x) in nats; the leading axes of `value` broadcast with the batch shape."""
        if value.shape[-3:] != self.event_shape:
            raise InputError(f"value: expected images of shape {tuple(self.event_shape)}, got {tuple(value.shape)}.")
        logits = self.logits(value)
        log_prob = -binary_cross_entropy_with_logits(logits, value.expand_as(logits), reduction="none")
        return log_prob.sum((-3, -2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Images drawn pixel by pixel: [*sample_shape, *batch, channel, height, width]."""
        shape = self._extended_shape(Size(sample_shape))
        uniforms = torch.rand(shape, dtype=self.like.dtype, device=self.like.device)
        return self._draw(shape, lambda i, j, logits: (uniforms[..., i, j] < logits.sigmoid()).to(uniforms.dtype))

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "..."]:
        """Greedy decoding: each pixel takes its more probable value, given the pixels so chosen before it."""
        shape = self._extended_shape()
        return self._draw(shape, lambda i, j, logits: (logits > 0).to(self.like.dtype))

    def _draw(self, shape: Size, choose: Callable[[int, int, Tensor], Tensor]) -> Tensor:
        x = torch.zeros(shape, dtype=self.like.dtype, device=self.like.device)
        with self.logits.pixel_by_pixel() as logits_at:
            for i in range(shape[-2]):
                for j in range(shape[-1]):
                    x[..., i, j] = choose(i, j, logits_at(x, i, j))
        return x


@runtime_checkable
class Flow(Protocol):
    """An invertible map between latent codes z and base noise u."""

    def to_base(
        self, z: Float[Tensor, "*batch latent"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, " *batch"]]:
        """u = f(z), and log |det du/dz|."""
        ...

    def from_base(self, u: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """z with f(z) = u."""
        ...


class FlowTransformed(Distribution):
    """z such that `flow.to_base(z)` follows `base`: cheap densities, samples by inversion."""

    arg_constraints = {}  # noqa: RUF012 - the name and form that torch asks for
    has_rsample = False

    def __init__(self, base: Distribution, flow: Flow) -> None:
        self.base, self.flow = base, flow
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return self.base.support

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, " *batch"]:
        """log p(z) in nats."""
        u, log_det = self.flow.to_base(value)
        return self.base.log_prob(u) + log_det

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "*batch latent"]:
        """Codes made from base noise by the inverse of the flow."""
        return self.flow.from_base(self.base.sample(Size(sample_shape)))
