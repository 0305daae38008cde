"""Configurations of parts that keep a code informative by construction: encoder heads, priors that no posterior can match,
and posterior refinement. Members of the unions in `mpdvae.experiments.model_config`; the theory is in
`mpdvae.models.posterior_heads`, `mpdvae.distributions.gaussian_ar1`, `mpdvae.models.priors` and
`mpdvae.models.semi_amortised`.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mpdvae.experiments.fields import AtLeastTwo, Config, ImageShape, Rate, Width

if TYPE_CHECKING:
    from torch import nn

Codes = Literal["vectors", "maps"]
LatentShape = tuple[int, ...]
Positive = Annotated[float, Field(gt=0)]


class GaussianHead(Config):
    """The body's outputs are mean and log variance."""

    kind: Literal["gaussian"] = "gaussian"

    def build(self, latent_shape: LatentShape) -> "nn.Module | None":
        return None


class DeltaHead(Config):
    """delta-VAE: every image's KL to N(0, I) is at least `rate_nats`."""

    kind: Literal["delta"] = "delta"
    rate_nats: Positive = 5.0
    """Committed rate, divided equally among the dimensions of the code."""

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.posterior_heads import DeltaHead

        return DeltaHead(self.rate_nats, latent_shape)


class BatchNormHead(Config):
    """BN-VAE: batch normalisation of the means with a fixed scale and a learned shift."""

    kind: Literal["batch-norm"] = "batch-norm"
    scale: Positive = 0.5
    """Standard deviation of the posterior means over images, in each dimension."""

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.posterior_heads import BatchNormHead

        return BatchNormHead(latent_shape[0], self.scale)


class DUHead(Config):
    """DU-VAE: batch normalisation of the means with learned scales, and dropout on the variances."""

    kind: Literal["du"] = "du"
    scale: Positive = 0.5
    """Root mean square over dimensions of the standard deviation of the posterior means."""
    dropout: Rate = 0.2
    """Fraction of variances set to their floor during training."""
    floor: Positive = 1.0
    """a: variances are at least a / (2 pi e), the entropy of each dimension at least log(a) / 2."""

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        from mpdvae.models.posterior_heads import DUHead

        return DUHead(latent_shape[0], self.scale, self.dropout, self.floor)


HeadConfig = GaussianHead | DeltaHead | BatchNormHead | DUHead
BY_BATCH = ("batch-norm", "du")
"""Kinds of heads that normalise over the batch."""


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
