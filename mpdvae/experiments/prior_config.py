"""Configurations of priors: p(z), and the sizes of their networks.

Each has a `kind`, says whether codes are vectors or maps, and builds its prior; torch is imported only there. To add one,
write it in `mpdvae.models.priors`, define a configuration for it here, and add that to the union at the end of this file.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mpdvae.experiments.fields import AtLeastTwo, Codes, Config, Depth, ImageShape, LatentShape, Width

if TYPE_CHECKING:
    from torch import nn


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


class AR1Prior(Config):
    """delta-VAE: codes are sequences correlated in time, posteriors are not: the KL has a floor."""

    codes: ClassVar[Codes | None] = None
    kind: Literal["ar1"] = "ar1"
    correlation: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Correlation alpha of consecutive steps."""
    length: AtLeastTwo | None = None
    """Steps that a vector is split into; None: every element is a step. Maps are read position by position."""

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.priors import AR1Prior

        return AR1Prior(latent_shape, self.correlation, self.length)


class VampPrior(Config):
    """Mixture of the posteriors of learned pseudo-inputs."""

    codes: ClassVar[Codes | None] = None
    kind: Literal["vamp"] = "vamp"
    components: Width = 100

    def build(self, encoder: "nn.Module", image_shape: ImageShape, image_range: tuple[float, float]) -> "nn.Module":
        from mpdvae.models.priors import VampPrior

        return VampPrior(encoder, image_shape, self.components, image_range)


PriorConfig = StandardNormalPrior | FlowPrior | MapFlowPrior | AR1Prior | VampPrior
