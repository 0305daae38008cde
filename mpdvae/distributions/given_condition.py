r"""Distributions of an image given its condition c, its class or covariates, on conditioned images
(`mpdvae.data.conditions`).

.. math:: \log p(x \mid z, c)

is what `GivenCondition.log_prob` returns: the condition is given, it is not modelled, and costs nothing.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from mpdvae.data.conditions import Condition, split_condition, with_condition


class ConditionedSupport(constraints.Constraint):
    """Images in the support of a distribution, with what a model is told of them in the last channels: the number of one of
    the classes, and covariates.

    Arguments:
        images: support of the images.
        condition: what is told.
    """

    event_dim = 3

    def __init__(self, images: constraints.Constraint, condition: Condition) -> None:
        self.images, self.condition = images, condition

    @property
    def is_discrete(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether images have probabilities, instead of densities."""
        return self.images.is_discrete

    def check(self, value: Tensor) -> Tensor:
        images, told = split_condition(value, self.condition)
        inside = self.images.check(images)
        for _ in range(3 - self.images.event_dim):
            inside = inside.all(-1)
        planes = value[..., -self.condition.channels :, :, :]
        fit = (planes == told[..., None, None]).flatten(-3).all(-1) & told.isfinite().all(-1)
        if self.condition.classes:
            label = told[..., 0]
            fit = fit & (label >= 0) & (label < self.condition.classes) & (label == label.round())
        return inside & fit


class GivenCondition(Distribution):
    """p(x|z, c) for codes z, as a distribution of conditioned images.

    Images that are drawn have the given conditions, or else conditions that are drawn.

    Arguments:
        decode: (codes [*batch latent...], conditions [*batch number]) -> p(x|z, c).
        z: the codes.
        batch_shape: their leading axes.
        image_shape: (channel, height, width) without the condition.
        condition: what is told of each image.
        support: conditioned images that have a probability; None: not known.
        draw: shape [*batch] -> conditions [*batch number].
        told: condition of each image that is drawn; None: drawn.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires

    def __init__(
        self,
        decode: Callable[[Tensor, Tensor], Distribution],
        z: Tensor,
        batch_shape: Size,
        image_shape: tuple[int, int, int],
        condition: Condition,
        support: constraints.Constraint | None,
        draw: Callable[[Size], Tensor],
        told: Float[Tensor, "*batch number"] | None = None,
    ) -> None:
        channel, height, width = image_shape
        super().__init__(batch_shape, Size((channel + condition.channels, height, width)), validate_args=False)
        self.decode, self.z, self.image_shape, self.condition = decode, z, image_shape, condition
        self.draw, self.told = draw, told
        self._support = support

    @property
    def support(self) -> constraints.Constraint:
        if self._support is None:
            raise NotImplementedError
        return self._support

    def given(self, told: Float[Tensor, "*some_batch number"]) -> "GivenCondition":
        """Returns the same distribution with the condition of each image given."""
        told = told.to(self.z.device).expand(*self.batch_shape, told.shape[-1])
        return GivenCondition(
            self.decode, self.z, self.batch_shape, self.image_shape, self.condition, self._support, self.draw, told
        )

    def log_prob(self, value: Float[Tensor, "*image_batch channel height width"]) -> Float[Tensor, "*batch"]:
        images, told = split_condition(value, self.condition)
        shape = torch.broadcast_shapes(told.shape[:-1], self.batch_shape)
        return self._of(told.expand(*shape, told.shape[-1])).log_prob(images)

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:
        told = self._chosen(Size())
        return with_condition(self._of(told).mean, told)

    @property
    def mode(self) -> Float[Tensor, "*batch channel height width"]:
        told = self._chosen(Size())
        return with_condition(self._of(told).mode, told)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*batch channel height width"]:
        told = self._chosen(Size(sample_shape))
        return with_condition(self._of(told).sample(), told)

    def _of(self, told: Tensor) -> Distribution:
        """Returns p(x|z, c) for conditions [*more *batch number]."""
        return self.decode(self.z.expand(*told.shape[:-1], *self.z.shape[len(self.batch_shape) :]), told)

    def _chosen(self, sample_shape: Size) -> Tensor:
        shape = sample_shape + self.batch_shape
        return self.draw(shape) if self.told is None else self.told.expand(*shape, self.told.shape[-1])
