"""Configurations of encoder heads, which turn the outputs of an encoder's network into mean and log variance, and may keep
the code informative by construction. The theory is in `mpdvae.models.posterior_heads`.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mpdvae.experiments.fields import Config, LatentShape, Rate

if TYPE_CHECKING:
    from torch import nn

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
