r"""Decoders that are injective in the code by construction, so that no code can be ignored.

.. math:: f(z) = f_2(B f_1(z)), \qquad \lVert f(z) - f(z') \rVert \ge L \lVert z - z' \rVert,

with gradients of strongly convex networks :math:`f_1, f_2` (`mpdvae.networks.convex`), each with an expansion of at least
:math:`\sqrt L`, and an isometry B to maps of the image's size (`mpdvae.networks.cosines`). f(z) are the parameters of the
pixels before their law maps them to probabilities (logits of binary pixels, means of Gaussian ones), so that two codes never
give the same distribution: the latent variable is identifiable (LIDVAE: Wang, Blei & Cunningham, NeurIPS 2021,
https://arxiv.org/abs/2301.00537). L = 0 guarantees no more than that; the expansion is then learned and can come close to
zero. L > 0 is a constraint on the inverse of the decoder, which also bounds how much alike the distributions of two codes
can be (Kinoshita, Oono, Fukumizu, Yoshida & Maeda, ICML 2023, https://arxiv.org/abs/2304.12770).

*Independent pixels*: the parameters of the pixels are f(z).

*Autoregressive pixels*: the parameters are :math:`g_i(x_{<i}) + f(z)_i`, with a PixelCNN g that does not see z. For a given
image they differ between two codes as f does, so that both properties are kept. A PixelCNN that sees the maps f(z) could
ignore them. Since g is computed once for each image, however many codes are tried, likelihoods are cheap.

Softplus units and a fixed B of smooth cosines are the choices made here: the papers use leaky units, and a full-rank B.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.distributions.pixel_laws import PixelLaw, bernoulli_pixels
from mpdvae.errors import InputError
from mpdvae.models.decoders import AutoregressiveDecoder, IndependentDecoder
from mpdvae.models.encoders import ImageShape, check_latent_dim
from mpdvae.networks.convex import ExpansiveMap
from mpdvae.networks.cosines import SmoothIsometry
from mpdvae.networks.incremental import CausalLayer
from mpdvae.networks.pixelcnn import PAPER_SMALL, PixelCNN


def injective_maps(
    latent_dim: int, shape: ImageShape, hidden_features: int, hidden_layers: int, inverse_lipschitz: float
) -> nn.Sequential:
    """Returns f: codes [batch latent] -> maps [batch *shape].

    Arguments:
        latent_dim: length of a code, at most the number of elements of the maps.
        shape: (map, height, width).
        hidden_features, hidden_layers: of both convex networks.
        inverse_lipschitz: L, >= 0.
    """
    check_latent_dim(latent_dim)
    if not 0 <= inverse_lipschitz < math.inf:
        raise InputError(f"inverse_lipschitz: expected a number >= 0, got {inverse_lipschitz}.")
    each = math.sqrt(inverse_lipschitz)
    return nn.Sequential(
        ExpansiveMap(latent_dim, hidden_features, hidden_layers, each),
        SmoothIsometry(latent_dim, shape),
        ExpansiveMap(math.prod(shape), hidden_features, hidden_layers, each),
        nn.Unflatten(1, shape),
    )


class OffsetPixelCNN(CausalLayer):
    """g(x) + maps: a PixelCNN of the image alone, to whose parameters the given maps are added.

    Arguments:
        pixelcnn: with one map of condition, which is 1 everywhere: by it, pixels can tell where the image ends.
    """

    def __init__(self, pixelcnn: PixelCNN) -> None:
        super().__init__()
        self.pixelcnn = pixelcnn

    def forward(
        self, x: Float[Tensor, "*#batch image height width"], maps: Float[Tensor, "*#batch parameter height width"]
    ) -> Float[Tensor, "*batch parameter rows columns"]:
        everywhere = maps.new_ones(1, *maps.shape[-2:])
        return self.pixelcnn(x, everywhere) + self.present_column(self.present_row(maps))


def injective_decoder(
    image_shape: ImageShape,
    latent_dim: int,
    hidden_features: int = 128,
    hidden_layers: int = 2,
    inverse_lipschitz: float = 0.0,
    law: PixelLaw = bernoulli_pixels,
) -> IndependentDecoder:
    """Builds an injective decoder with independent pixels, for images of any size and number of channels.

    Arguments:
        image_shape: (channel, height, width), of at least as many numbers as a code.
        latent_dim: length of a code.
        hidden_features, hidden_layers: of both convex networks.
        inverse_lipschitz: L, the least factor by which distances between codes grow; 0: injective only.
        law: distribution of the pixels given their parameters.
    """
    shape = (law.maps(image_shape[0]), *image_shape[1:])
    return IndependentDecoder(injective_maps(latent_dim, shape, hidden_features, hidden_layers, inverse_lipschitz), law)


def injective_pixelcnn_decoder(
    image_shape: ImageShape,
    latent_dim: int,
    channels: int = 64,
    kernel_sizes: Sequence[int] = PAPER_SMALL,
    hidden_features: int = 128,
    hidden_layers: int = 2,
    inverse_lipschitz: float = 0.0,
    law: PixelLaw = bernoulli_pixels,
) -> AutoregressiveDecoder:
    """Builds an injective decoder with autoregressive pixels; arguments as of `injective_decoder`, `channels` and
    `kernel_sizes` as of `pixelcnn_decoder`."""
    maps = law.maps(image_shape[0])
    to_maps = injective_maps(latent_dim, (maps, *image_shape[1:]), hidden_features, hidden_layers, inverse_lipschitz)
    network = OffsetPixelCNN(PixelCNN(1, channels, kernel_sizes, False, image_shape[0], maps))
    return AutoregressiveDecoder(to_maps, network, law, image_shape)
