r"""Latent reconstruction: a code that is decoded and encoded again should come back.

With :math:`\hat x(z)` the mean image of p(x|z) and m(x) the mean of q(z|x), the term is

.. math:: w \, E_x E_{q(z|x)} \lVert z - m(\hat x(z)) \rVert^2 .

If it vanishes, :math:`m \circ \hat x` is the identity, so that :math:`\hat x` is injective: no two codes have the same
image, and none can be ignored. Any decoder can be trained with it, in contrast to those that are injective by construction.
Where the decoder ignores z and q(z|x) is N(0, I), its least value is w times the number of latent dimensions, at m = 0. Half
the square is -log N(z; m, I) up to a constant: w = 1/2 is in nats.

Pixels that depend on each other have no mean image given z alone. For them :math:`\hat x_i(z) = E[x_i | x_{<i}, z]`, where
:math:`x_{<i}` are pixels of the image that z is a code of. Given this image, the same argument holds: the encoder can read
m(x) off the pixels of x, but not the noise of z, which only the decoder's use of z can carry.

Gradients reach the encoder in both of its passes, and the decoder. Heads that normalise over the batch would mix decoded
images into its statistics, and a posterior that is refined on its own image has no image here: both are rejected.

The idea is the latent reconstruction loss of Song, Kim & Lee, "Toward Architecture-Agnostic Local Control of Posterior
Collapse in VAEs", 2025, https://arxiv.org/abs/2508.12530. The squared norm, the mean image and the conditional means of
autoregressive pixels are the choices made here.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.objectives.terms import check_weight
from mpdvae.system.batch_sharding import gathered


@dataclass(frozen=True)
class LatentReconstruction:
    """weight * E ||z - m(image of z)||^2, summed over the dimensions of z."""

    weight: float

    def __post_init__(self) -> None:
        check_weight("latent_reconstruction_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        z, image = forward.own_z, _mean_image(forward)
        again = forward.vae.encoder(image.flatten(0, 1)).mean
        squares = (z - again.view_as(z)).square().flatten(2).sum(2)
        return self.weight * gathered(squares, axis=1).mean()


def _mean_image(forward: ForwardPass) -> Float[Tensor, "samples own channel height width"]:
    if forward.vae.condition.channels:
        raise InputError(
            "latent_reconstruction_weight: decoded images have no condition, which this model is told; use a model "
            "that is not, or a weight of 0."
        )
    try:
        return forward.own_pixels.mean
    except NotImplementedError:
        kind = type(forward.own_pixels).__name__
        raise InputError(
            f"latent_reconstruction_weight: needs the mean of p(x|z), which {kind} has no formula for; choose another "
            "distribution of pixels, or a weight of 0."
        ) from None
