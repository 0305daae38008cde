"""Whole models that are told a condition: their function builds each part, as wide as the condition makes it.

    encoder    of images with `WIDTH` channels more         build((channel + WIDTH, height, width), latent_dim).encoder
    decoder    of codes with `WIDTH` numbers, or maps, more  build(image_shape, latent_dim + WIDTH).decoder
    prior      as it is                                      build(image_shape, latent_dim).prior

This needs an encoder that follows `image_shape`, a decoder that follows `latent_dim`, and parts that do not share weights,
since they come from three models. See `mpdvae.models.conditional`.
"""

from collections.abc import Callable
from itertools import combinations

from mpdvae.data.conditions import Condition
from mpdvae.errors import InputError
from mpdvae.models.conditional import WIDTH, ConditionalDecoder, ConditionalEncoder
from mpdvae.models.encoders import ImageShape
from mpdvae.models.priors import VampPrior
from mpdvae.vae import VAE

Build = Callable[[ImageShape, int], VAE]
"""A function of (image_shape, latent_dim)."""


def conditioned(build: Build, condition: Condition, image_shape: ImageShape, latent_dim: int, name: str) -> VAE:
    """Returns the model that `build` makes, told a condition.

    Arguments:
        build: makes the model; called three times.
        condition: what is told of each image.
        image_shape: (channel, height, width) without the condition.
        latent_dim: as for `build`.
        name: of the model, in errors.

    Raises:
        InputError: if the parts depend on each other, or `build` fails for one that is wider.
    """
    vae = build(image_shape, latent_dim)
    _check_apart(vae, condition, name)
    channel, height, width = image_shape
    encoder = _wider(build, (channel + WIDTH, height, width), latent_dim, name).encoder
    decoder = _wider(build, image_shape, latent_dim + WIDTH, name).decoder
    return VAE(
        ConditionalEncoder(encoder, condition),
        ConditionalDecoder(decoder, condition, vae.latent_shape, image_shape),
        vae.prior,
    )


def _check_apart(vae: VAE, condition: Condition, name: str) -> None:
    """Raises `InputError` for parts that cannot come from different models."""
    parts = {part: set(map(id, module.parameters())) for part, module in vae.named_children()}
    reasons = [f"{one} and {other} share weights" for one, other in combinations(parts, 2) if parts[one] & parts[other]]
    reasons += ["its prior, a VampPrior, passes images without a condition through the encoder"] * isinstance(
        vae.prior, VampPrior
    )
    if reasons:
        raise InputError(
            f"{name}: expected parts that can be built apart for a model that is told {condition.in_words}, but "
            f"{reasons[0]}; give each part its own weights, or leave the condition out.",
            topic="conditional",
        )


def _wider(build: Build, image_shape: ImageShape, latent_dim: int, name: str) -> VAE:
    try:
        return build(image_shape, latent_dim)
    except InputError:
        raise
    except Exception as error:  # of any kind: the code is the user's
        raise InputError(
            f"{name}: a model that is told a condition has {WIDTH} channels more in its encoder and {WIDTH} numbers more in "
            f"its decoder's codes, but its function failed for image_shape {image_shape} and latent_dim {latent_dim} "
            f"({type(error).__name__}: {error}); build the parts from these, or leave the condition out.",
            topic="conditional",
        ) from error
