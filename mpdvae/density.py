"""Likelihoods of images, at the address that they were documented at: see `mpdvae.measures.density`."""

from mpdvae.measures.density import DensityEstimate, estimate

__all__ = ["DensityEstimate", "estimate"]
