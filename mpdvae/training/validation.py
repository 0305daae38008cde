"""Measurements at an evaluation point of a training run: density, use of the code, and a verdict on collapse.

The averaged weights are measured in eval mode, on fixed images and with fixed noise, so that consecutive points differ only
by the weights. Nothing here changes the model, its gradients or the caller's generators.

`validate` needs only forward passes and uses all validation images, in chunks that fit a memory budget: an image with all
its draws of z passes through encoder, decoder and prior once, as a row of a chunk. Noise is drawn for `IMAGES_AT_ONCE`
images together, so that the budget does not change the results beyond rounding. Compiled networks run compiled; all chunks
then have one size, because torch compiles once for each.

`probe` needs gradients and uses a fixed random subset of the images. It runs uncompiled, because compiling its few passes of
several sizes would take longer than they do. It measures how strongly the terms of the loss pull
(`mpdvae.objectives.term_gradients`), how far the encoder lags (`mpdvae.measures.encoder_lag`), and what the decoder loses
when it is given the code of another image (`mpdvae.measures.code_use`, of which this is the inexpensive part).
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.utils import parametrize

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError, RunError
from mpdvae.measures import code_diagnostics, collapse
from mpdvae.measures.code_use import increase_by_another
from mpdvae.measures.density import evaluating
from mpdvae.measures.encoder_lag import EncoderLag, encoder_lag
from mpdvae.measures.memory_budget import in_pieces, is_out_of_memory
from mpdvae.measures.memory_use import piece_sizes
from mpdvae.models.acceleration import is_compiled, uncompiled
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.objectives.term_gradients import gradient_norms
from mpdvae.objectives.terms import Objective
from mpdvae.seeding import seeded
from mpdvae.system.batch_sharding import divided, own
from mpdvae.system.devices import to_float64
from mpdvae.vae import VAE

IMAGES_AT_ONCE = 500
"""Number of images whose noise is drawn together: with another number, each would get other noise."""
MEMORY_BUDGET = 2**30
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
    """Collapse verdict without the use of the code by the decoder, which a `Probe` measures: see `measured_together`."""
    idle_units: int
    """Latent dimensions that carry less than 0.01 nats."""
    active_units_by_variance: dict[str, int]
    information_per_dimension_nats: list[float]
    kl_per_dimension_nats: list[float] | None
    """None if the prior does not factorise into Gaussians."""
    mutual_information_nats: float
    """Lower bound, at most the logarithm of the number of images."""
    mutual_information_ceiling_nats: float
    mutual_information_saturated: bool
    mutual_information_upper_nats: float
    """Upper bound from the same draws."""


@dataclass(frozen=True)
class Probe:
    """Results from gradients and exchanged codes at an evaluation point."""

    gradient_norms: dict[str, float]
    """By term of the loss, and `total`; nats per unit of (m, log s^2)."""
    encoder_lag: EncoderLag
    code_use_nats: float
    """Loss of log p(x|z) if z is that of another image, mean over images; near zero, the decoder could do without z."""


class _PassInPieces(ForwardPass):
    """A forward pass without gradients, in chunks of `images` images and `draws` of their samples; the noise is drawn for all
    images together. If `alike`, all chunks have the same number of images."""

    def __init__(self, vae: VAE, x: Tensor, samples: int, images: int, draws: int, alike: bool) -> None:
        self.images, self.draws, self.alike = images, draws, alike
        super().__init__(vae, x, samples)

    def _in_pieces(self, compute: Callable[[slice], Tensor], axis: int) -> Tensor:
        return in_pieces(compute, len(self.x), self.images, axis, self.alike)

    def _encoded(self) -> Distribution:
        def moments(rows: slice) -> Tensor:
            q = diagonal_normal(self.vae.encoder(self.x[rows]))
            return torch.stack([q.loc, q.scale])

        mean, deviation = self._in_pieces(moments, axis=1)
        return diagonal_gaussian(mean, deviation)

    def _log_likelihood_of_own(self) -> Tensor:
        def of(rows: slice) -> Tensor:
            parts = self.own_z[:, rows].split(self.draws)
            return torch.cat([self.vae.decoder(z).log_prob(self.x[rows]) for z in parts])

        return self._in_pieces(of, axis=1)

    def _kl_of_own(self) -> Tensor:
        q, prior = diagonal_normal(self.own_q), self.vae.prior()

        def of(rows: slice) -> Tensor:
            part = diagonal_gaussian(q.loc[rows], q.scale[rows])
            return self.vae.kl(part, self.own_z[:, rows], self.estimator, prior)

        return self._in_pieces(of, axis=0)


def validate(
    vae: VAE, x: Float[Tensor, "n channel height width"], samples: int, seed: int, memory_budget: int = MEMORY_BUDGET
) -> Validation:
    """Measures `vae` on `x` with `samples` draws of z per image. Several processes share the images.

    Arguments:
        vae: the model; used in evaluation mode, its mode is restored afterwards.
        x: at least 2 images.
        samples: draws of z per image.
        seed: seed of these draws.
        memory_budget: bytes of tensors that the networks may hold beyond the model and `x`. Chunks use a part of it, see
            `mpdvae.measures.memory_use`. If it is too small for one image with one draw, these pass alone.

    Raises:
        InputError: there are fewer than two images.
        RunError: the model gives no valid distribution.
    """
    means, scales, reconstruction, kl = [], [], 0.0, 0.0
    compiled = is_compiled(vae)
    # Compiled code contains the normalisation of the weights, and would be compiled again for weights that are cached.
    with torch.no_grad(), evaluating(vae), nullcontext() if compiled else parametrize.cached():
        images, draws = _chunk(vae, x, samples, memory_budget)
        with seeded(seed, "validation"):
            for part in x.split(IMAGES_AT_ONCE):
                with divided(len(part)):
                    forward = _PassInPieces(vae, own(part), samples, images, draws, compiled)
                    q = diagonal_normal(forward.q)
                    means.append(q.loc.flatten(1).cpu().double())
                    scales.append(q.scale.flatten(1).cpu().double())
                    reconstruction += to_float64(forward.reconstruction).sum().item() / len(x)
                    kl += to_float64(forward.kl).sum().item() / len(x)
        measured = code_diagnostics.of_posteriors(
            Independent(Normal(torch.cat(means), torch.cat(scales)), 1), vae.prior()
        )
    if not measured.information_per_dimension.isfinite().all():
        raise RunError("the information per dimension is not finite; check that training did not diverge.")
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
        mutual_information_nats=measured.bracket.lower.nats,
        mutual_information_ceiling_nats=measured.bracket.ceiling,
        mutual_information_saturated=measured.bracket.saturated,
        mutual_information_upper_nats=measured.bracket.upper.nats,
    )


def measured_together(validation: Validation, probe: Probe) -> dict[str, Any]:
    """Returns the fields of both, with the collapse verdict that follows from both."""
    v = validation
    judged = collapse.judge(
        v.idle_units,
        v.latent_dim,
        v.mutual_information_nats,
        v.mutual_information_ceiling_nats,
        probe.code_use_nats,
    )
    return asdict(v) | asdict(probe) | {"verdict": judged.sentence}


def _chunk(vae: VAE, x: Tensor, samples: int, memory_budget: int) -> tuple[int, int]:
    """Returns the number of images in a chunk, and of draws of each; all, if there is not even the memory to find out: then
    chunks halve until they fit (`in_pieces`)."""
    try:
        return piece_sizes(vae, x, samples, memory_budget, samples)
    except InputError:
        return 1, 1
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return len(x), samples


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
    with uncompiled():
        return Probe(
            gradient_norms=gradient_norms(objective, vae, chosen, step, seed),
            encoder_lag=encoder_lag(vae, chosen[:lag_images], seed=seed),
            code_use_nats=increase_by_another(vae, chosen, seed).mean().item(),
        )


def _short(values: Float[Tensor, " latent"]) -> list[float]:
    """Rounds to six significant digits, because a history contains many such values."""
    return [float(f"{value:.6g}") for value in values.tolist()]
