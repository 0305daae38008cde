"""Measurements at an evaluation point of a training run: density, use of the code, and a verdict on collapse.

The averaged weights are measured in eval mode, on fixed images and with fixed noise, so that consecutive points differ only
by the weights. Nothing here changes the model, its gradients or the caller's generators.

`validate` needs only forward passes and uses all validation images. `probe` needs gradients and uses a fixed random subset
of them. It measures how strongly the terms of the loss pull (`mpdvae.objectives.term_gradients`), how far the encoder lags
(`mpdvae.measures.encoder_lag`), and what the decoder loses when it is given the code of another image
(`mpdvae.measures.code_use`, of which this is the inexpensive part).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.measures import code_diagnostics
from mpdvae.measures.code_use import increase_by_another
from mpdvae.measures.density import evaluating
from mpdvae.measures.encoder_lag import EncoderLag, encoder_lag
from mpdvae.measures.memory_budget import in_pieces
from mpdvae.objectives.term_gradients import gradient_norms
from mpdvae.objectives.terms import ForwardPass, Objective
from mpdvae.seeding import seeded
from mpdvae.system.batch_sharding import divided, own
from mpdvae.vae import VAE

IMAGES_AT_ONCE = 500
GRADIENT_IMAGES = 50
"""Number of images whose gradients are compared and whose codes are exchanged."""
LAG_IMAGES = 16
"""Number of images whose posteriors are refined, which is most of the cost of a probe."""


@dataclass(frozen=True)
class Validation:
    """One evaluation point. Densities are means over images, in nats."""

    negative_elbo_nats: float
    reconstruction_nats: float
    """-E log p(x|z)."""
    kl_nats: float
    active_units: int
    """Latent dimensions whose posterior mean varies over the images (variance > 0.01)."""
    latent_dim: int
    mpd_mean_nats: float
    mpd_std_nats: float
    verdict: str
    idle_units: int
    """Latent dimensions that carry less than 0.01 nats."""
    active_units_by_variance: dict[str, int]
    information_per_dimension_nats: list[float]
    kl_per_dimension_nats: list[float] | None
    """None if the prior does not factorise into Gaussians."""
    mutual_information_nats: float
    mutual_information_ceiling_nats: float
    mutual_information_saturated: bool


@dataclass(frozen=True)
class Probe:
    """Results from gradients and exchanged codes at an evaluation point."""

    gradient_norms: dict[str, float]
    """By term of the loss, and `total`; nats per unit of (m, log s^2)."""
    encoder_lag: EncoderLag
    code_use_nats: float
    """Loss of log p(x|z) if z is that of another image, mean over images; near zero, the decoder could do without z."""


class _PassInPieces(ForwardPass):
    """A forward pass without gradients, in chunks that fit in memory; the noise is drawn for all images together."""

    def _encoded(self) -> Distribution:
        def moments(rows: slice) -> Tensor:
            q = diagonal_normal(self.vae.encoder(self.x[rows]))
            return torch.stack([q.loc, q.scale])

        mean, deviation = in_pieces(moments, len(self.x), axis=1)
        return diagonal_gaussian(mean, deviation)

    def _log_likelihood_of_own(self) -> Tensor:
        def of(rows: slice) -> Tensor:
            return self.vae.decoder(self.own_z[:, rows]).log_prob(self.x[rows])

        return in_pieces(of, len(self.x), axis=1)

    def _kl_of_own(self) -> Tensor:
        q = diagonal_normal(self.own_q)

        def of(rows: slice) -> Tensor:
            part = diagonal_gaussian(q.loc[rows], q.scale[rows])
            return self.vae.kl(part, self.own_z[:, rows], self.estimator)

        return in_pieces(of, len(self.x))


def validate(vae: VAE, x: Float[Tensor, "n channel height width"], samples: int, seed: int) -> Validation:
    """Measures `vae` on `x` with `samples` draws of z per image. Several processes share the images."""
    means, scales, reconstruction, kl = [], [], 0.0, 0.0
    with torch.no_grad(), evaluating(vae), seeded(seed, "validation"):
        for part in x.split(IMAGES_AT_ONCE):
            with divided(len(part)):
                forward = _PassInPieces(vae, own(part), samples)
                q = diagonal_normal(forward.q)
                means.append(q.loc.flatten(1).cpu().double())
                scales.append(q.scale.flatten(1).cpu().double())
                reconstruction += forward.reconstruction.double().sum().item() / len(x)
                kl += forward.kl.double().sum().item() / len(x)
        measured = code_diagnostics.of_posteriors(
            Independent(Normal(torch.cat(means), torch.cat(scales)), 1), vae.prior()
        )
    per_dimension = measured.kl_per_dimension
    return Validation(
        negative_elbo_nats=reconstruction + kl,
        reconstruction_nats=reconstruction,
        kl_nats=kl,
        active_units=measured.active_units,
        latent_dim=measured.latent_dim,
        mpd_mean_nats=measured.mpd_mean,
        mpd_std_nats=measured.mpd_std,
        verdict=measured.verdict,
        idle_units=measured.idle_units,
        active_units_by_variance=measured.active_units_by_variance,
        information_per_dimension_nats=_short(measured.information_per_dimension),
        kl_per_dimension_nats=None if per_dimension is None else _short(per_dimension),
        mutual_information_nats=measured.mutual_information,
        mutual_information_ceiling_nats=measured.mutual_information_ceiling,
        mutual_information_saturated=measured.saturated,
    )


def probe(
    vae: VAE,
    objective: Objective,
    x: Float[Tensor, "n channel height width"],
    step: int,
    lag_images: int = LAG_IMAGES,
    seed: int = 0,
) -> Probe:
    """Measures gradient norms, encoder lag and code use on a random subset of `x`, which is the same at every call with the
    same number of images.

    Arguments:
        vae: the model.
        objective: the objective whose terms are compared, weighted as at `step`.
        x: at least 2 images.
        step: step of the schedules.
        lag_images: number of images for the lag, at least 2, taken from those for the gradients (`GRADIENT_IMAGES`).
        seed: seed of the choice of images and of all noise.

    Raises:
        InputError: there are fewer than two images.
        RunError: a posterior, a gradient or a distortion is not finite; the message names the image.
    """
    if len(x) < 2:
        raise InputError(f"x: expected at least 2 images, got {len(x)}.")
    with seeded(seed, "probed images"):
        chosen = x[torch.randperm(len(x))[:GRADIENT_IMAGES].to(x.device)]
    return Probe(
        gradient_norms=gradient_norms(objective, vae, chosen, step, seed),
        encoder_lag=encoder_lag(vae, chosen[:lag_images], seed=seed),
        code_use_nats=increase_by_another(vae, chosen, seed).mean().item(),
    )


def _short(values: Float[Tensor, " latent"]) -> list[float]:
    """Rounds to six significant digits, because a history contains many such values."""
    return [float(f"{value:.6g}") for value in values.tolist()]
