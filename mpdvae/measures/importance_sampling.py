"""Draws importance weights log w = log p(x|z) + log p(z) - log r(z), z ~ r(z), for a chunk of images. The proposal r is
q(z|x), or one that is fitted to each image (`fitted_proposal`).

The noise of image i and sample j is a function of (seed, i, j). It is drawn in blocks of `NOISE_BLOCK` samples, each with
its own key, so that an image can stop early, or be measured alone, without changing the draws of the others.

With an `approximate` decoder, which is faster and less precise than that of the model, the first `PAIRED` samples of every
block pass through both, and the others are corrected by them (`calibration`).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from mpdvae.divergence import diagonal_normal
from mpdvae.errors import RunError
from mpdvae.measures.calibration import corrected, offset, remaining_error, shift
from mpdvae.measures.fitted_proposal import (
    FIT_COST,
    GRADIENT_COST,
    FittedProposal,
    Joint,
    fit,
    joint_density,
)
from mpdvae.measures.importance_weights import largest_reliable_shape, pareto_shape, standard_error
from mpdvae.models.acceleration import uncompiled
from mpdvae.seeding import derive_seed
from mpdvae.vae import VAE

NOISE_BLOCK = 64
"""Samples of one image that share a noise key, and number of samples at the first tolerance check. Changing it changes
every estimate within its error bar."""

ProposalName = Literal["encoder", "fitted"]

PAIRED = 4
"""Samples of each block that pass through both decoders if there is an approximate one: their share is the cost, and the
inverse root of their number the error of the correction."""


class Draws(NamedTuple):
    """Log-weights of a chunk of images, and what was measured along with them; float64 on the CPU."""

    log_w: Tensor
    """[samples batch]; nan if not drawn."""
    drawn: Tensor
    """Samples drawn [batch]."""
    elbo: Tensor
    """Mean of log w with r = q [batch]: over these samples, or over the first points of a fit."""
    kl: Tensor
    """[batch], from the draws of `elbo`"""
    reconstruction: Tensor
    """[batch], from the draws of `elbo`"""
    decoder_evaluations: Tensor
    """Evaluations of decoders [batch]: for the fit, the samples, and their pairs."""
    approximation_error: Tensor
    """`calibration.remaining_error` [batch]; nan without an approximate decoder."""
    approximation_shift: Tensor
    """`calibration.shift` [batch]; nan without an approximate decoder."""


class Sampler:
    """Draws importance samples of a chunk of images, `draws` samples of each per decoder pass, and `gradient_draws` points
    of a fit."""

    def __init__(
        self,
        vae: VAE,
        x: Tensor,
        indices: list[int],
        seed: int,
        draws: int,
        report: Callable[[int], None],
        approximate: nn.Module | None = None,
        gradient_draws: int | None = None,
    ) -> None:
        self.vae, self.x, self.indices, self.seed, self.draws, self.report = vae, x, indices, seed, draws, report
        self.approximate = approximate
        self.prior, self.q = vae.prior(), vae.encoder(x)
        self.kl, self.reconstruction = torch.zeros(2, len(x), dtype=torch.float64)
        self.fitted: FittedProposal | None = None
        if gradient_draws is not None:
            self._fit(gradient_draws)

    def draw(self, looks: list[int], tolerance: float | None) -> Draws:
        """Draws up to the last of `looks` samples of each image, fewer if it settles within the tolerance before."""
        raw = torch.full((looks[-1], len(self.x)), math.nan, dtype=torch.float64)
        exact = None if self.approximate is None else raw.clone()
        drawn, active = torch.zeros(len(self.x), dtype=torch.int64), torch.arange(len(self.x))
        for done, look in pairwise([0, *looks]):
            if len(active) == 0:
                break
            for block in range(done, look, NOISE_BLOCK):
                weighed, paired = self._weigh(active, block, look)
                raw[block : block + len(weighed), active] = weighed
                if exact is not None:
                    exact[block : block + len(paired), active] = paired
            drawn[active] = look
            so_far = raw[:look, active] if exact is None else corrected(raw[:look, active], exact[:look, active])
            refuse_broken_weights(so_far, [self.indices[i] for i in active])
            if tolerance is not None:
                settled = is_settled(standard_error(so_far), pareto_shape(so_far), tolerance, look)
                self.report(int(settled.sum()) * (looks[-1] - look))
                active = active[~settled]
        return self._draws(raw, exact, drawn)

    def _fit(self, gradient_draws: int) -> None:
        """Fits a proposal to each image, with the model's decoder; rate and distortion come from its first points."""

        def joint(z: Tensor) -> Joint:
            parts = [joint_density(self.vae, self.x, part) for part in z.split(gradient_draws)]
            self.report(len(self.x) * GRADIENT_COST * len(z))
            return Joint(*(torch.cat(values) for values in zip(*parts, strict=True)))

        with uncompiled():
            self.fitted, points = fit(diagonal_normal(self.q), joint, self.seed, self.indices)
        found = points.joint
        log_w = found.log_likelihood + found.log_prior - _to_float64(self.q.log_prob(points.z))
        refuse_broken_weights(log_w, self.indices)
        self.elbo, self.kl = log_w.mean(0), _to_float64(self.vae.kl(self.q, points.z))
        self.reconstruction = -found.log_likelihood.mean(0)

    def _draws(self, raw: Tensor, exact: Tensor | None, drawn: Tensor) -> Draws:
        unknown = torch.full((len(self.x),), math.nan, dtype=torch.float64)
        log_w = raw if exact is None else corrected(raw, exact)
        errors = (unknown, unknown) if exact is None else (remaining_error(raw, exact), shift(raw, exact))
        cost = drawn if exact is None else drawn + (~exact.isnan()).sum(0)
        if self.fitted is not None:
            return Draws(log_w, drawn, self.elbo, self.kl, self.reconstruction, FIT_COST + cost, *errors)
        moved = 0.0 if exact is None else offset(raw, exact)
        kl, reconstruction = self.kl / drawn, self.reconstruction / drawn - moved
        return Draws(log_w, drawn, log_w.nanmean(0), kl, reconstruction, cost, *errors)

    def _weigh(self, active: Tensor, block: int, end: int) -> tuple[Tensor, Tensor]:
        """Returns log-weights [draws active] of the samples from `block` to the end of that block, or to `end`; and the exact
        ones of the first of them, none without an approximate decoder."""
        x, indices, count = self.x[active], [self.indices[i] for i in active], min(NOISE_BLOCK, end - block)
        propose = self._proposing(active, indices, block)
        noise = _noise(self.seed, indices, block, count, self.q.mean[active])
        decoder = self.vae.decoder if self.approximate is None else self.approximate
        weighed, exact, pairs, at = [], [], 0 if self.approximate is None else PAIRED, 0
        for part in noise.split(self.draws):
            z, log_density = propose(part, at)
            log_likelihood = _to_float64(decoder(z).log_prob(x))
            log_w = log_likelihood + _to_float64(self.prior.log_prob(z)) - log_density
            if self.fitted is None:
                self.kl[active] += _to_float64(self.vae.kl(_of_images(self.q, active), z)) * len(z)
                self.reconstruction[active] -= log_likelihood.sum(0)
            weighed.append(log_w)
            both = z[:pairs]
            if len(both):
                of_model = _to_float64(self.vae.decoder(both).log_prob(x))
                exact.append(log_w[: len(both)] + (of_model - log_likelihood[: len(both)]))
                pairs -= len(both)
            at += len(part)
            self.report(log_w.numel())
        return torch.cat(weighed), torch.cat(exact) if exact else torch.empty(0, len(active))

    def _proposing(
        self, active: Tensor, indices: list[int], block: int
    ) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
        """Returns a function of noise [draws active *latent], and of its position in the block, that gives codes and the log
        density of the proposal."""
        if self.fitted is None:
            q = _of_images(self.q, active)

            def from_encoder(noise: Tensor, _: int) -> tuple[Tensor, Tensor]:
                z = q.mean + q.stddev * noise
                return z, _to_float64(q.log_prob(z))

            return from_encoder
        fitted, uniform = self.fitted.of_images(active), _uniform(self.seed, indices, block)
        return lambda noise, at: fitted.draw(noise, uniform[at : at + len(noise)])


def looks(samples: int, tolerance: float | None) -> list[int]:
    """Returns the sample counts at which an image may stop: with a tolerance 64, 128, 256, ...; always `samples`."""
    doubled = [] if tolerance is None else [NOISE_BLOCK * 2**i for i in range(samples.bit_length())]
    return [*(look for look in doubled if look < samples), samples]


def _of_images(q: Distribution, chosen: Tensor) -> Distribution:
    """Returns the posteriors of the chosen images."""
    normal = diagonal_normal(q)
    return Independent(Normal(normal.loc[chosen], normal.scale[chosen]), len(q.event_shape))


def _noise(seed: int, indices: Sequence[int], block: int, draws: int, like: Tensor) -> Tensor:
    """Draws standard normal noise [draws, *like.shape] on the CPU, so that it is the same for every device."""
    generator = torch.Generator()
    noise = torch.empty(len(like), NOISE_BLOCK, *like.shape[1:])
    for i, one in zip(indices, noise, strict=True):
        generator.manual_seed(derive_seed(seed, "density", i, block))
        one.normal_(generator=generator)
    return noise[:, :draws].transpose(0, 1).to(like)


def _uniform(seed: int, indices: Sequence[int], block: int) -> Tensor:
    """Draws uniform noise [draws, batch] in float64: which component of a mixture each sample of a block comes from."""
    generator = torch.Generator()
    noise = torch.empty(len(indices), NOISE_BLOCK, dtype=torch.float64)
    for i, one in zip(indices, noise, strict=True):
        one.uniform_(generator=generator.manual_seed(derive_seed(seed, "mixture component", i, block)))
    return noise.T


def is_settled(standard_error: Tensor, pareto_k: Tensor, tolerance: float, samples: int | Tensor) -> Tensor:
    """Returns whether the error of each image is within the tolerance and reliable after so many samples."""
    return (standard_error <= tolerance) & ~(pareto_k > largest_reliable_shape(samples))


def refuse_broken_weights(log_w: Tensor, indices: Sequence[int]) -> None:
    """Raises `RunError`, naming the image, for weights [samples batch] that are nan, infinite, or all zero for an image."""
    broken = (log_w.isnan() | log_w.isposinf()).any(0) | log_w.isneginf().all(0)
    if broken.any():
        i = int(broken.nonzero()[0].item())
        raise RunError(
            f"the model gives image {indices[i]} a non-finite importance weight (log w = {log_w[:, i].max().item()}); "
            "check that training did not diverge and that x is in the model's range.",
            topic="not-a-number",
        )


def _to_float64(t: Tensor) -> Tensor:
    return t.cpu().double()
