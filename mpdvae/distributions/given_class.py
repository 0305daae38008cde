r"""Distributions of an image given its class, on labelled images (`mpdvae.data.labelled`).

.. math:: \log p(x \mid z, y)

is what `GivenClass.log_prob` returns: the class is given, it is not modelled, and costs nothing.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from mpdvae.data.labelled import split_labels, with_labels


class LabelledSupport(constraints.Constraint):
    """Images in the support of a distribution, with the number of one of the classes in the last channel.

    Arguments:
        images: support of the images.
        classes: number of classes.
    """

    event_dim = 3

    def __init__(self, images: constraints.Constraint, classes: int) -> None:
        self.images, self.classes = images, classes

    @property
    def is_discrete(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether images have probabilities, instead of densities."""
        return self.images.is_discrete

    def check(self, value: Tensor) -> Tensor:
        inside = self.images.check(value[..., :-1, :, :])
        for _ in range(3 - self.images.event_dim):
            inside = inside.all(-1)
        labels = value[..., -1, :, :]
        is_class = (
            (labels >= 0) & (labels < self.classes) & (labels == labels.round()) & (labels == labels[..., :1, :1])
        )
        return inside & is_class.flatten(-2).all(-1)


class GivenClass(Distribution):
    """p(x|z, y) for codes z, as a distribution of labelled images.

    Images that are drawn have the given classes, or else classes that are drawn, all alike.

    Arguments:
        decode: (codes [*batch latent...], classes [*batch]) -> p(x|z, y).
        z: the codes.
        batch_shape: their leading axes.
        image_shape: (channel, height, width) without the class.
        classes: number of classes.
        support: labelled images that have a probability; None: not known.
        labels: class of each image that is drawn; None: drawn.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires

    def __init__(
        self,
        decode: Callable[[Tensor, Tensor], Distribution],
        z: Tensor,
        batch_shape: Size,
        image_shape: tuple[int, int, int],
        classes: int,
        support: constraints.Constraint | None,
        labels: Int64[Tensor, "*batch"] | None = None,
    ) -> None:
        channel, height, width = image_shape
        super().__init__(batch_shape, Size((channel + 1, height, width)), validate_args=False)
        self.decode, self.z, self.image_shape, self.classes, self.labels = decode, z, image_shape, classes, labels
        self._support = support

    @property
    def support(self) -> constraints.Constraint:
        if self._support is None:
            raise NotImplementedError
        return self._support

    def given(self, labels: Int64[Tensor, "..."]) -> "GivenClass":
        """Returns the same distribution with the class of each image given."""
        labels = labels.to(self.z.device).expand(self.batch_shape)
        return GivenClass(self.decode, self.z, self.batch_shape, self.image_shape, self.classes, self._support, labels)

    def log_prob(self, value: Float[Tensor, "*image_batch channel height width"]) -> Float[Tensor, "*batch"]:
        images, labels = split_labels(value)
        return self._of(labels.expand(torch.broadcast_shapes(labels.shape, self.batch_shape))).log_prob(images)

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:
        labels = self._chosen(Size())
        return with_labels(self._of(labels).mean, labels)

    @property
    def mode(self) -> Float[Tensor, "*batch channel height width"]:
        labels = self._chosen(Size())
        return with_labels(self._of(labels).mode, labels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*batch channel height width"]:
        labels = self._chosen(Size(sample_shape))
        return with_labels(self._of(labels).sample(), labels)

    def _of(self, labels: Tensor) -> Distribution:
        """Returns p(x|z, y) for classes [*more *batch]."""
        return self.decode(self.z.expand(*labels.shape, *self.z.shape[len(self.batch_shape) :]), labels)

    def _chosen(self, sample_shape: Size) -> Tensor:
        shape = sample_shape + self.batch_shape
        return (
            torch.randint(self.classes, shape, device=self.z.device)
            if self.labels is None
            else self.labels.expand(shape)
        )
