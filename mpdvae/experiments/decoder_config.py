"""Configurations of decoders: the networks of p(x|z), their sizes, and the distribution of a pixel.

Each has a `kind`, says whether codes are vectors or maps and which pixels it models, and builds its decoder; torch is
imported only there. To add one, write it in `mpdvae.models.decoders`, define a configuration for it here, and add that to the
union at the end of this file.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mpdvae.distributions.pixel_values import MODELLED, SUITED, SUITED_AUTOREGRESSIVE, PixelDistribution, PixelValues
from mpdvae.experiments.fields import Codes, Config, Depth, Depths, ImageShape, Rate, Sizes, Weight, Width

if TYPE_CHECKING:
    from torch import nn

    from mpdvae.distributions.pixel_laws import PixelLaw

ComponentChoice = Literal["drawn", "most-probable"]


class _Decoder(Config):
    """Fields shared by all decoders."""

    suited: ClassVar[Mapping[PixelValues, PixelDistribution]] = SUITED_AUTOREGRESSIVE
    """The distribution of pixels for each kind of values if none is chosen."""
    pixels: PixelDistribution | None = None
    """Distribution of a pixel, see docs/likelihoods.md; None: one that fits data.binarisation."""
    components: Width = 10
    """Logistic components of each pixel's mixture, with pixels discretised-logistic-mixture."""

    def pixel_distribution(self, values: PixelValues) -> PixelDistribution:
        """Returns the name of the distribution of pixels in a model of images with such values."""
        return self.pixels or self.suited[values]

    def modelled(self, values: PixelValues) -> tuple[PixelValues, ...]:
        """Returns the kinds of values that the distribution of pixels is a likelihood of, in such a model."""
        return MODELLED[self.pixel_distribution(values)]

    def law(self, values: PixelValues, levels: int) -> "PixelLaw":
        """Returns the distribution of pixels in a model of images with such values, of so many levels."""
        from mpdvae.distributions.pixel_laws import pixel_law

        return pixel_law(self.pixel_distribution(values), levels, self.components)

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        """Builds the untrained decoder."""
        raise NotImplementedError


class _IndependentDecoder(_Decoder):
    """A decoder of vectors with independent pixels."""

    codes: ClassVar[Codes] = "vectors"
    suited: ClassVar[Mapping[PixelValues, PixelDistribution]] = SUITED


class _MapDecoder(_Decoder):
    """A decoder of codes that are maps."""

    codes: ClassVar[Codes] = "maps"
    sampled_component: ComponentChoice = "drawn"
    """most-probable: use the likeliest component, as in the released code; these are not samples of the model."""

    def law(self, values: PixelValues, levels: int) -> "PixelLaw":
        from mpdvae.distributions.pixel_laws import pixel_law

        return pixel_law(self.pixel_distribution(values), levels, self.components, self.sampled_component)


class MLPDecoder(_IndependentDecoder):
    """Fully connected decoder, independent pixels."""

    kind: Literal["mlp"] = "mlp"
    hidden_features: Sizes = (500,)
    skip_connections: bool = False
    """Skip-VAE: add z to the input of every layer, not only the first."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.decoders import mlp_decoder

        return mlp_decoder(image_shape, latent_dim, self.hidden_features, self.skip_connections, law)


class ConvNetDecoder(_IndependentDecoder):
    """Transposed convolutions, independent pixels."""

    kind: Literal["convnet"] = "convnet"
    channels: Sizes = (64, 32)
    skip_connections: bool = False
    """Skip-VAE: add z to the input of every layer, not only the first."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.decoders import convnet_decoder

        return convnet_decoder(image_shape, latent_dim, self.channels, self.skip_connections, law)


class ResNetDecoder(_IndependentDecoder):
    """The paper's decoder with independent pixels (ResNet-VAE baseline)."""

    kind: Literal["resnet"] = "resnet"
    channels: Sizes = (64, 64, 32)
    skip_connections: bool = False
    """Skip-VAE: add z to the input of every layer, not only the first."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.decoders import resnet_decoder

        return resnet_decoder(image_shape, latent_dim, self.channels, self.skip_connections, law)


class PixelCNNDecoder(_Decoder):
    """Autoregressive pixels conditioned on z; the kernel sizes limit the receptive field."""

    codes: ClassVar[Codes] = "vectors"
    kind: Literal["pixelcnn"] = "pixelcnn"
    channels: Width = 64
    kernel_sizes: Sizes = (7, 7, 7, 5, 5, 3, 3)
    condition_channels: Width = 4
    skip_connections: bool = False
    """Skip-VAE: add z to the input of every layer, not only the first."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.decoders import pixelcnn_decoder

        return pixelcnn_decoder(
            image_shape,
            latent_dim,
            self.channels,
            self.kernel_sizes,
            self.condition_channels,
            self.skip_connections,
            law,
        )


class InjectiveDecoder(_IndependentDecoder):
    """Parameters of independent pixels that are an injective function of z: no code can be ignored (LIDVAE)."""

    kind: Literal["injective"] = "injective"
    hidden_features: Width = 128
    """Features of a layer of the two input-convex networks whose gradients map z to pixels."""
    hidden_layers: Depth = 2
    """Layers of each."""
    inverse_lipschitz: Weight = 0.0
    """Least factor by which distances between codes grow on the way to the pixels' parameters; 0: injective only."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.injective import injective_decoder

        return injective_decoder(
            image_shape, latent_dim, self.hidden_features, self.hidden_layers, self.inverse_lipschitz, law
        )


class InjectivePixelCNNDecoder(_Decoder):
    """An injective function of z, added to the parameters that a PixelCNN computes from the pixels before."""

    codes: ClassVar[Codes] = "vectors"
    kind: Literal["injective-pixelcnn"] = "injective-pixelcnn"
    channels: Width = 64
    kernel_sizes: Sizes = (7, 7, 7, 5, 5, 3, 3)
    hidden_features: Width = 128
    """Features of a layer of the two input-convex networks whose gradients map z to pixels."""
    hidden_layers: Depth = 2
    """Layers of each."""
    inverse_lipschitz: Weight = 0.0
    """Least factor by which distances between codes grow on the way to the pixels' parameters; 0: injective only."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.injective import injective_pixelcnn_decoder

        return injective_pixelcnn_decoder(
            image_shape,
            latent_dim,
            self.channels,
            self.kernel_sizes,
            self.hidden_features,
            self.hidden_layers,
            self.inverse_lipschitz,
            law,
        )


class ColourResNetDecoder(_MapDecoder):
    """The released code's decoder for colour images with independent pixels, for codes that are maps."""

    kind: Literal["colour-resnet"] = "colour-resnet"
    channels: Width = 48
    blocks: Depths = (3, 2, 2)
    """Residual blocks at each resolution, lowest first."""

    @property
    def doublings(self) -> int:
        return len(self.blocks) - 1

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.decoders import colour_resnet_decoder

        return colour_resnet_decoder(image_shape, latent_dim, self.channels, self.blocks, law)


class PixelCNNPPDecoder(_MapDecoder):
    """PixelCNN++ conditioned on z, for codes that are maps (paper: CIFAR-10)."""

    kind: Literal["pixelcnn++"] = "pixelcnn++"
    channels: Width = 96
    levels: Depth = 3
    blocks: Depth = 6
    """Gated blocks per level and pass."""
    condition_channels: Width = 16
    doublings: Annotated[int, Field(ge=0, le=100)] = 2
    """Upsamplings from the code's maps to the image size: as many as the encoder's halvings."""
    dropout: Rate = 0.5
    activation: Literal["concatenated-elu", "elu"] = "concatenated-elu"

    def build(self, image_shape: ImageShape, latent_dim: int, law: "PixelLaw") -> "nn.Module":
        from mpdvae.models.decoders import pixelcnnpp_decoder

        return pixelcnnpp_decoder(
            image_shape,
            latent_dim,
            self.channels,
            self.levels,
            self.blocks,
            self.condition_channels,
            self.dropout,
            self.activation == "concatenated-elu",
            self.doublings,
            law,
        )


DecoderConfig = (
    MLPDecoder
    | ConvNetDecoder
    | ResNetDecoder
    | PixelCNNDecoder
    | InjectiveDecoder
    | InjectivePixelCNNDecoder
    | ColourResNetDecoder
    | PixelCNNPPDecoder
)
