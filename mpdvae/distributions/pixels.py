r"""Images drawn pixel by pixel in raster order, with any distribution of a pixel given its parameters.

.. math:: \log p(x) = \sum_i \log p(x_i \mid \theta_i(x_{<i})).

`AutoregressivePixels` hides the drawing procedure behind `sample`. Likelihoods are computed from logits, never from
probabilities. van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016,
https://arxiv.org/abs/1601.06759.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from mpdvae.distributions.pixel_laws import PixelLaw
from mpdvae.errors import InputError

AtPixel = Callable[[Tensor, int, int], Float[Tensor, "*batch parameter"]]
"""Maps an image whose pixels before (i, j) are known, i, and j to the parameters at (i, j)."""


_LISTENER: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


@contextmanager
def watching_draws(listener: Callable[[float], None]) -> Iterator[None]:
    """Inside the context, calls `listener` after each drawn row of pixels with the fraction of rows drawn so far."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@runtime_checkable
class PixelParameters(Protocol):
    """The network behind autoregressive pixels."""

    def __call__(
        self, x: Float[Tensor, "*#batch channel height width"]
    ) -> Float[Tensor, "*batch parameter height width"]:
        """Returns the parameters of all pixels, each from the pixels before it."""
        ...

    def pixel_by_pixel(self) -> AbstractContextManager[AtPixel]:
        """Context that yields the parameters of single pixels, to be requested in raster order; the fast way to draw."""
        ...


class AutoregressivePixels(Distribution):
    """Images [channel height width] in which the distribution of pixel i depends on the pixels before i in raster order.

    Arguments:
        parameters: for images with any leading axes that broadcast with `batch_shape`.
        law: distribution of the pixels given their parameters; all channels of a position are drawn at once.
        batch_shape: shape of the condition.
        event_shape: (channel, height, width).
        like: a tensor with the dtype and device of the samples.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(
        self,
        parameters: PixelParameters,
        law: PixelLaw,
        batch_shape: Size,
        event_shape: tuple[int, int, int],
        like: Tensor,
    ) -> None:
        self.parameters, self.law, self.like = parameters, law, like
        super().__init__(batch_shape, Size(event_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return self.law.support

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """Returns log p(x) in nats; the leading axes of `value` broadcast with the batch shape."""
        return self.given(value).log_prob(value)

    def given(self, value: Float[Tensor, "*#batch channel height width"]) -> Distribution:
        """Returns the distribution of images in which each pixel has its distribution given the pixels of `value` before
        it; of `value` itself, it gives the same log-probability."""
        if value.shape[-3:] != self.event_shape:
            raise InputError(f"value: expected images of shape {tuple(self.event_shape)}, got {tuple(value.shape)}.")
        return self.law(self.parameters(value))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws images pixel by pixel: [*sample_shape, *batch, channel, height, width]."""
        return self._draw(self._extended_shape(Size(sample_shape)), lambda law: law.sample())

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "..."]:
        """Greedy decoding: each pixel takes the mode of its distribution, given the pixels chosen this way before it."""
        return self._draw(self._extended_shape(), lambda law: law.mode.nan_to_num(1.0))  # NaN: 0 and 1 equally likely

    def _draw(self, shape: Size, choose: Callable[[Distribution], Tensor]) -> Tensor:
        x, tell = torch.zeros(shape, dtype=self.like.dtype, device=self.like.device), _LISTENER.get()
        with self.parameters.pixel_by_pixel() as parameters_at:
            for i in range(shape[-2]):
                for j in range(shape[-1]):
                    x[..., i, j] = choose(self.law(parameters_at(x, i, j)[..., None, None]))[..., 0, 0]
                if tell:
                    tell((i + 1) / shape[-2])
        return x
