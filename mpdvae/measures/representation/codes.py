"""From images to features: codes, posteriors, and principal components of pixels.

The code of an image is the mean of its posterior, or the average of S posterior samples (released code of MAE: S = 50),
which scatters around it with variance s^2 / S.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.distributions import Independent, Normal

from mpdvae.distributions.support import floating
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.measures.density import evaluating
from mpdvae.measures.finite import not_finite, refuse_not_finite
from mpdvae.measures.memory_budget import in_pieces
from mpdvae.seeding import derive_seed
from mpdvae.vae import VAE


def codes(
    vae: VAE,
    x: Float[Tensor, "n channel height width"],
    batch_size: int = 500,
    posterior_samples: int | None = None,
    seed: int = 0,
) -> Float32[np.ndarray, "n latent"]:
    """Returns the code of each image: its posterior mean, flattened.

    Arguments:
        vae: the model; used in evaluation mode, its mode is restored afterwards.
        x: images in the value range of the model.
        batch_size: images per encoder pass; does not change the results beyond rounding.
        posterior_samples: average this many posterior samples instead (the authors: 50). The average of S samples of
            N(m, s^2) has the distribution N(m, s^2 / S), from which it is drawn directly.
        seed: seed of those samples.

    Raises:
        InputError: for no images, a batch size or a sample count below one.
        RunError: for a posterior that is not finite; names the image.
    """
    if posterior_samples is not None and posterior_samples < 1:
        raise InputError(f"posterior_samples: expected at least 1 (or None for the mean), got {posterior_samples}.")
    return codes_of(posteriors(vae, x, batch_size), posterior_samples, seed)


def codes_of(q: Independent, posterior_samples: int | None = None, seed: int = 0) -> Float32[np.ndarray, "n latent"]:
    """Returns the codes that `codes` computes, from the images' `posteriors`."""
    z = q.mean
    if posterior_samples is not None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "codes"))
        z = z + q.stddev * torch.randn(z.shape, generator=generator) / posterior_samples**0.5
    return z.float().numpy()


def posteriors(vae: VAE, x: Float[Tensor, "n channel height width"], batch_size: int = 500) -> Independent:
    """Returns q(z|x): diagonal Gaussian, batch shape [n], event shape [latent] (flattened), float64 on the CPU.

    Raises:
        InputError: for no images, a batch size below one, or a posterior that is not a diagonal Gaussian.
        RunError: for a posterior that is not finite; names the image.
    """
    if floating(x).ndim != 4 or len(x) == 0:
        raise InputError(f"x: expected images [n channel height width], at least one, got shape {tuple(x.shape)}.")
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}.")

    def moments(rows: slice) -> Tensor:
        part = _posterior(vae, x[rows], rows.start)
        return torch.stack([part.loc.flatten(1), part.scale.flatten(1)]).cpu().double()

    with torch.no_grad(), evaluating(vae):
        mean, stddev = in_pieces(moments, len(x), batch_size, axis=1)
    refuse_not_finite("posterior", mean + stddev.log())  # a standard deviation of zero has no finite logarithm
    return Independent(Normal(mean, stddev), 1)


def _posterior(vae: VAE, x: Tensor, first: int) -> Normal:
    """Returns the posterior of a batch whose first image has the index `first`. torch rejects nan parameters with a
    `ValueError` for the whole batch; the affected image is then found one by one."""
    try:
        return diagonal_normal(vae.encoder(x))
    except InputError:
        raise
    except ValueError as error:
        if len(x) > 1:
            for i in range(len(x)):
                _posterior(vae, x[i : i + 1], first + i)
        raise not_finite("posterior", first) from error


def principal_components(
    train: Float[np.ndarray, "_train _features"], test: Float[np.ndarray, "_test _features"], dimensions: int
) -> tuple[Float[np.ndarray, "_train _components"], Float[np.ndarray, "_test _components"]]:
    """Projects both sets on the first principal components of the training features: `dimensions`, or as many as exist."""
    with threadpool_limits(limits=1):  # sums over several threads have no fixed order
        pca = PCA(min(dimensions, *train.shape), svd_solver="covariance_eigh").fit(train)
        return pca.transform(train), pca.transform(test)
