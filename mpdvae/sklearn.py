"""The scikit-learn estimator, at the address that scikit-learn's users look for: see `mpdvae.workflows.estimator`."""

from mpdvae.workflows.estimator import MPDVAE

__all__ = ["MPDVAE"]
