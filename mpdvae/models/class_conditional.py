r"""Conditional VAEs: an encoder, a decoder and a prior that are told the class y of an image.

.. math:: p(x|y) = \int p(x|z, y)\, p(z|y)\, dz, \qquad q(z|x, y), \qquad \mathrm{ELBO} = \mathrm{E}_q \log p(x|z, y)
          - \mathrm{KL}(q(z|x, y) \,\Vert\, p(z|y)) \le \log p(x|y)

The prior of a class is the prior e ~ p(e) of any other model, scaled and shifted by learned numbers of the class,

.. math:: z = m_y + s_y \odot e, \qquad s_y = \exp(l_y),

N(m_y, diag s_y^2) for a standard normal e. Everything is stated in terms of e: the encoder gives q(e|x, y), the prior is
p(e), and the decoder turns e to z first. Densities, divergences and mutual information are the same in either form, as the
map is invertible; the code e is what z says beyond the class. m and l start at 0.

The class reaches the encoder's body as `WIDTH` learned numbers, in constant maps beside the image's channels, and the decoder
as others beside the code.

Sohn, Lee & Yan, "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015,
https://papers.nips.cc/paper/5775 (equation 4); Kingma et al., "Semi-supervised Learning with Deep Generative Models",
NeurIPS 2014, https://arxiv.org/abs/1406.5298 (model M2, whose prior has no class).
"""

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from mpdvae.data.labelled import split_labels
from mpdvae.distributions.given_class import GivenClass, LabelledSupport
from mpdvae.models.encoders import ImageShape

WIDTH = 24
"""Learned numbers that describe a class."""


class ClassConditionalEncoder(nn.Module):
    """q(e|x, y).

    Arguments:
        encoder: images with `WIDTH` channels more -> q(e|x, y).
        classes: number of classes.
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder, self.embedding = encoder, nn.Embedding(classes, WIDTH)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Distribution:
        images, labels = split_labels(x)
        told = self.embedding(labels)[..., None, None].expand(*labels.shape, WIDTH, *images.shape[-2:])
        return self.encoder(torch.cat([images, told], -3))


class ClassConditionalDecoder(nn.Module):
    """p(x|e, y), a distribution of labelled images.

    Arguments:
        decoder: codes with `WIDTH` numbers, or maps, more -> p(x|z, y).
        classes: number of classes.
        latent_shape: shape of a code e.
        image_shape: (channel, height, width) without the class.
    """

    def __init__(
        self, decoder: nn.Module, classes: int, latent_shape: tuple[int, ...], image_shape: ImageShape
    ) -> None:
        super().__init__()
        self.decoder, self.classes, self.latent_shape, self.image_shape = decoder, classes, latent_shape, image_shape
        self.embedding = nn.Embedding(classes, WIDTH)
        self.shift = nn.Parameter(torch.zeros(classes, latent_shape[0]))
        self.log_scale = nn.Parameter(torch.zeros(classes, latent_shape[0]))

    @property
    def support(self) -> constraints.Constraint | None:
        """Labelled images that have a probability, whatever the code; None if the decoder within does not state it."""
        images = getattr(self.decoder, "support", None)
        return None if images is None else LabelledSupport(images, self.classes)

    def forward(self, e: Float[Tensor, "..."]) -> Distribution:
        batch_shape = Size(e.shape[: e.ndim - len(self.latent_shape)])
        return GivenClass(self._decoded, e, batch_shape, self.image_shape, self.classes, self.support)

    def _decoded(self, e: Tensor, labels: Tensor) -> Distribution:
        def told(numbers: Tensor) -> Tensor:
            """[*batch number] as numbers, or maps, of a code."""
            return numbers.view(*numbers.shape, *[1] * (len(self.latent_shape) - 1))

        z = told(self.shift[labels]) + told(self.log_scale[labels]).exp() * e
        about_class = told(self.embedding(labels)).expand(*labels.shape, WIDTH, *self.latent_shape[1:])
        return self.decoder(torch.cat([z, about_class], -len(self.latent_shape)))
