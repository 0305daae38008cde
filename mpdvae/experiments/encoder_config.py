"""Configurations of encoders: the networks of q(z|x), and their sizes.

Each has a `kind`, says whether codes are vectors or maps, and builds its encoder; torch is imported only there. To add one,
write it in `mpdvae.models.encoders`, define a configuration for it here, and add that to the union at the end of this file.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpdvae.experiments.fields import Codes, Config, Depths, ImageShape, LatentShape, Sizes, Width
from mpdvae.experiments.head_config import GaussianHead, HeadConfig

if TYPE_CHECKING:
    from torch import nn

Limit = Annotated[float, Field(gt=0)]


class _Encoder(Config):
    """Fields shared by all encoders."""

    head: Annotated[HeadConfig, Field(discriminator="kind")] = GaussianHead()
    refinement_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Semi-amortised inference: gradient steps from the encoder's posterior; 0: none."""
    refinement_rate: Annotated[float, Field(gt=0)] = 0.1
    """Step size of the refinement; the norm of an image's gradient is clipped to 5."""

    def latent_shape(self, image_shape: ImageShape, latent_dim: int) -> LatentShape:
        """Returns the shape of a code; for codes that are maps, `latent_dim` is the number of channels."""
        raise NotImplementedError

    def build_head(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module | None":
        """Builds the module that maps the body's outputs to mean and log variance; None: the outputs are used as these."""
        return self.head.build(self.latent_shape(image_shape, latent_dim))


class _VectorEncoder(_Encoder):
    """An encoder whose codes are vectors."""

    codes: ClassVar[Codes] = "vectors"
    log_variance_limit: Limit | None = None
    """Bound on |log s^2|; None: no bound (released code, binary images)."""

    def latent_shape(self, image_shape: ImageShape, latent_dim: int) -> LatentShape:
        return (latent_dim,)


class _MapEncoder(_Encoder):
    """An encoder whose codes are maps, smaller than the image."""

    codes: ClassVar[Codes] = "maps"
    log_variance_limit: Limit | None = 7.0
    """Bound on |log s^2| (released code, colour images: 7); None: no bound."""

    @property
    def halvings(self) -> int:
        raise NotImplementedError

    def latent_shape(self, image_shape: ImageShape, latent_dim: int) -> LatentShape:
        _, height, width = image_shape
        return latent_dim, height // 2**self.halvings, width // 2**self.halvings


class MLPEncoder(_VectorEncoder):
    """Fully connected encoder."""

    kind: Literal["mlp"] = "mlp"
    hidden_features: Sizes = (500,)

    def build(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module":
        from mpdvae.models.encoders import mlp_encoder

        return mlp_encoder(
            image_shape,
            latent_dim,
            self.hidden_features,
            self.log_variance_limit,
            self.build_head(image_shape, latent_dim),
        )


class ConvNetEncoder(_VectorEncoder):
    """Plain strided convolutions, one per entry of `channels`."""

    kind: Literal["convnet"] = "convnet"
    channels: Sizes = (32, 64)

    def build(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module":
        from mpdvae.models.encoders import convnet_encoder

        return convnet_encoder(
            image_shape, latent_dim, self.channels, self.log_variance_limit, self.build_head(image_shape, latent_dim)
        )


class ResNetEncoder(_VectorEncoder):
    """The paper's encoder for binary images."""

    kind: Literal["resnet"] = "resnet"
    channels: Sizes = (32, 64, 64)
    features: Width = 512

    def build(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module":
        from mpdvae.models.encoders import resnet_encoder

        return resnet_encoder(
            image_shape,
            latent_dim,
            self.channels,
            self.features,
            self.log_variance_limit,
            self.build_head(image_shape, latent_dim),
        )


class DenseNetEncoder(_MapEncoder):
    """The paper's encoder for colour images, with codes that are maps: a dense block at each resolution."""

    kind: Literal["densenet"] = "densenet"
    growths: Sizes = (15, 16, 16)
    """Channels added per step, for each block."""
    steps: Depths = (3, 3, 6)
    """Steps, for each block."""
    features: Width = 96

    @model_validator(mode="after")
    def _one_block_each(self) -> "DenseNetEncoder":
        if len(self.growths) != len(self.steps):
            raise ValueError(
                f"growths and steps: expected equal lengths, got {self.growths} and {self.steps}; give one per block"
            )
        return self

    @property
    def halvings(self) -> int:
        return len(self.growths) - 1

    def build(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module":
        from mpdvae.models.encoders import densenet_encoder

        stages = list(zip(self.growths, self.steps, strict=True))
        return densenet_encoder(
            image_shape,
            latent_dim,
            stages,
            self.features,
            self.log_variance_limit,
            self.build_head(image_shape, latent_dim),
        )


class ColourResNetEncoder(_MapEncoder):
    """The released code's residual encoder for colour images, with codes that are maps."""

    kind: Literal["colour-resnet"] = "colour-resnet"
    channels: Width = 48
    blocks: Depths = (2, 2, 3)
    """Residual blocks at each resolution."""

    @property
    def halvings(self) -> int:
        return len(self.blocks) - 1

    def build(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module":
        from mpdvae.models.encoders import colour_resnet_encoder

        return colour_resnet_encoder(
            image_shape,
            latent_dim,
            self.channels,
            self.blocks,
            self.log_variance_limit,
            self.build_head(image_shape, latent_dim),
        )


EncoderConfig = MLPEncoder | ConvNetEncoder | ResNetEncoder | DenseNetEncoder | ColourResNetEncoder
