r"""Use of the code: how much the decoder loses when it is given another code.

A decoder that models pixels from pixels may ignore z however much the encoder puts into it. The distortion of an image,
:math:`-\log p(x|z)` in nats, shows this by its increase when z is replaced:

    own        z ~ q(z|x), of the image itself
    another    the code of another image: images are arranged in a random cycle and each takes its predecessor's code
    prior      z ~ p(z)
    mean       one code for all images: the mean over images of the posterior means

A decoder that ignores z has the same distortion with all four. Then single dimensions of the own code are replaced:

    swapped    z_k of the predecessor: what z_k alone contributes, with a value that occurs
    averaged   the mean over images of m_k: the same with a value that may never occur, but without noise

The increases of the dimensions need not add up: dimensions may be redundant, or informative only together. If codes are
maps, a dimension is a channel at all its positions. Permuting an input is a standard measure of its importance (Breiman
2001, https://doi.org/10.1023/A:1010933404324); for codes see He et al., ICLR 2019, https://arxiv.org/abs/1901.05534.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Independent

from mpdvae.distributions.support import floating
from mpdvae.errors import InputError
from mpdvae.measures.density import evaluating
from mpdvae.measures.finite import refuse_not_finite
from mpdvae.measures.memory_budget import in_pieces
from mpdvae.measures.representation import posteriors
from mpdvae.seeding import seeded
from mpdvae.vae import VAE


@dataclass(frozen=True)
class CodeUse:
    """Distortions -log p(x|z) as in the module docstring, in nats, float64 on the CPU; increases are relative to `own`,
    with the same draw of z."""

    own: Float64[Tensor, " images"]
    another: Float64[Tensor, " images"]
    prior: Float64[Tensor, " images"]
    mean: Float64[Tensor, " images"]
    swapped_increase: Float64[Tensor, "dimension images"]
    averaged_increase: Float64[Tensor, "dimension images"]

    def to_dict(self) -> dict[str, Any]:
        """Returns means over the images with their standard errors, for JSON, with units in the keys."""
        return {
            "images": len(self.own),
            "distortion_nats": {
                "own": _mean_and_error(self.own),
                "another": _mean_and_error(self.another),
                "prior": _mean_and_error(self.prior),
                "mean": _mean_and_error(self.mean),
            },
            "increase_nats": {
                "another": _mean_and_error(self.another - self.own),
                "prior": _mean_and_error(self.prior - self.own),
                "mean": _mean_and_error(self.mean - self.own),
            },
            "increase_per_dimension_nats": {
                "swapped": [_mean_and_error(row) for row in self.swapped_increase],
                "averaged": [_mean_and_error(row) for row in self.averaged_increase],
            },
        }


def measure(vae: VAE, x: Float[Tensor, "images channel height width"], seed: int = 0, batch_size: int = 100) -> CodeUse:
    """Measures how much the decoder uses the codes of these images.

    Arguments:
        vae: the model; used in evaluation mode, its mode is restored afterwards.
        x: at least 2 images in the value range of the model. Each passes through the decoder four times, plus twice per
            dimension.
        seed: seed of the draws of z and of the cycle of images.
        batch_size: images per decoder pass; does not change the results beyond rounding.

    Raises:
        InputError: for fewer than two images, a batch size below one, or a posterior that is not a diagonal Gaussian.
        RunError: for a posterior or a distortion that is not finite; names the image.
    """
    _check_images(x)
    q = posteriors(vae, x, batch_size)
    with torch.no_grad(), evaluating(vae), seeded(seed, "use of the code"):
        prior = vae.prior()
        z, another = _own_and_another(q, x, prior.event_shape)
        from_prior = prior.sample((len(x),))
        mean = q.mean.mean(0).to(x).reshape(prior.event_shape).expand_as(z)

        def distortion(codes: Tensor) -> Tensor:
            return _distortion(vae, x, codes, batch_size)

        own = distortion(z)
        return CodeUse(
            own=own,
            another=distortion(another),
            prior=distortion(from_prior),
            mean=distortion(mean),
            swapped_increase=torch.stack([distortion(_with(z, k, another)) - own for k in range(z.shape[1])]),
            averaged_increase=torch.stack([distortion(_with(z, k, mean)) - own for k in range(z.shape[1])]),
        )


measure_code_use = measure
"""Name of `measure` in `mpdvae.measures`."""


def increase_by_another(
    vae: VAE, x: Float[Tensor, "images channel height width"], seed: int = 0, batch_size: int = 100
) -> Float64[Tensor, " images"]:
    """Returns `another - own` of `measure` with the same arguments, in two decoder passes; raises the same errors."""
    _check_images(x)
    q = posteriors(vae, x, batch_size)
    with torch.no_grad(), evaluating(vae), seeded(seed, "use of the code"):
        z, another = _own_and_another(q, x, vae.prior().event_shape)
        return _distortion(vae, x, another, batch_size) - _distortion(vae, x, z, batch_size)


def _check_images(x: Tensor) -> None:
    if floating(x).ndim != 4 or len(x) < 2:
        raise InputError(f"x: expected images [images channel height width], at least 2, got shape {tuple(x.shape)}.")


def _own_and_another(q: Independent, x: Tensor, latent_shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Draws z from q(z|x); returns it and, for each image, the draw of its predecessor in a random cycle."""
    order = torch.randperm(len(x))
    z = (q.mean + q.stddev * torch.randn_like(q.mean)).to(x).unflatten(1, latent_shape)
    another = torch.empty_like(z)
    another[order] = z[order.roll(1)]
    return z, another


def _with(z: Tensor, dimension: int, other: Tensor) -> Tensor:
    """Returns `z` with one dimension (for maps, one channel) taken from `other`."""
    changed = z.clone()
    changed[:, dimension] = other[:, dimension]
    return changed


def _distortion(vae: VAE, x: Tensor, z: Tensor, batch_size: int) -> Tensor:
    def of(rows: slice) -> Tensor:
        return -vae.decoder(z[rows]).log_prob(x[rows]).cpu().double()

    values = in_pieces(of, len(x), batch_size)
    refuse_not_finite("distortion", values)
    return values


def _mean_and_error(values: Tensor) -> dict[str, float]:
    return {"mean": values.mean().item(), "standard_error": values.std().item() / math.sqrt(len(values))}
