"""Configurations of the parts of a model: which encoder, decoder and prior, and their sizes.

Each has a `kind`, declares whether codes are vectors or maps and, for decoders, which pixels it models, and builds its part;
torch is imported only there. To add a part, write it, define a configuration for it here, and add that to the union at the
end of this file.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpdvae.distributions.pixel_values import MODELLED, SUITED, SUITED_AUTOREGRESSIVE, PixelDistribution, PixelValues
from mpdvae.experiments.fields import Config, Depth, Depths, ImageShape, Rate, Sizes, Weight, Width
from mpdvae.experiments.posterior_config import AR1Prior, Codes, GaussianHead, HeadConfig, LatentShape, VampPrior

if TYPE_CHECKING:
    from torch import nn

    from mpdvae.distributions.pixel_laws import PixelLaw

ComponentChoice = Literal["drawn", "most-probable"]
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


class StandardNormalPrior(Config):
    """N(0, I) over vectors or maps."""

    codes: ClassVar[Codes | None] = None
    kind: Literal["standard-normal"] = "standard-normal"

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.priors import StandardNormal

        return StandardNormal(latent_shape)


class FlowPrior(Config):
    """Autoregressive flow of dual-order blocks over vectors (VLAE, MAE)."""

    codes: ClassVar[Codes | None] = "vectors"
    kind: Literal["flow"] = "flow"
    blocks: Depth = 4
    hidden_features: Width = 320
    hidden_layers: Depth = 1
    mean_only: bool = False

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.flows import vector_flow
        from mpdvae.models.priors import FlowPrior

        (features,) = latent_shape
        flow = vector_flow(features, self.blocks, self.hidden_features, self.hidden_layers, self.mean_only)
        return FlowPrior(flow, latent_shape)


class MapFlowPrior(Config):
    """Autoregressive flow of dual-order blocks over maps, with masked convolutions (paper: CIFAR-10)."""

    codes: ClassVar[Codes | None] = "maps"
    kind: Literal["map-flow"] = "map-flow"
    blocks: Depth = 4
    hidden_channels: Width = 128
    hidden_layers: Annotated[int, Field(ge=0, le=100)] = 2
    kernel_size: Width = 3
    mean_only: bool = False

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.flows import map_flow
        from mpdvae.models.priors import FlowPrior

        flow = map_flow(
            latent_shape[0], self.blocks, self.hidden_channels, self.hidden_layers, self.kernel_size, self.mean_only
        )
        return FlowPrior(flow, latent_shape)


EncoderConfig = MLPEncoder | ConvNetEncoder | ResNetEncoder | DenseNetEncoder | ColourResNetEncoder
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
PriorConfig = StandardNormalPrior | FlowPrior | MapFlowPrior | AR1Prior | VampPrior
