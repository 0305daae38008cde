"""Draws importance weights log w = log p(x|z) + log p(z) - log q(z|x), z ~ q(z|x), for a chunk of images.

The noise of image i and sample j is a function of (seed, i, j). It is drawn in blocks of `NOISE_BLOCK` samples, each with
its own key, so that an image can stop early, or be measured alone, without changing the draws of the others.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from mpdvae.divergence import diagonal_normal
from mpdvae.errors import RunError
from mpdvae.measures.importance_weights import RELIABLE, pareto_shape, standard_error
from mpdvae.seeding import derive_seed
from mpdvae.vae import VAE

NOISE_BLOCK = 64
"""Samples of one image that share a noise key, and number of samples at the first tolerance check. Changing it changes
every estimate within its error bar."""


class Sampler:
    """Draws importance samples of a chunk of images, `draws` samples of each per decoder pass."""

    def __init__(
        self, vae: VAE, x: Tensor, indices: list[int], seed: int, draws: int, report: Callable[[int], None]
    ) -> None:
        self.vae, self.x, self.indices, self.seed, self.draws, self.report = vae, x, indices, seed, draws, report
        self.prior, self.q = vae.prior(), vae.encoder(x)
        self.kl, self.reconstruction = torch.zeros(2, len(x), dtype=torch.float64)

    def draw(self, looks: list[int], tolerance: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns log-weights [samples batch], nan if not drawn; and samples drawn, KL and reconstruction, each [batch]."""
        log_w = torch.full((looks[-1], len(self.x)), math.nan, dtype=torch.float64)
        drawn, active = torch.zeros(len(self.x), dtype=torch.int64), torch.arange(len(self.x))
        for done, look in pairwise([0, *looks]):
            if len(active) == 0:
                break
            for block in range(done, look, NOISE_BLOCK):
                log_w[block : min(block + NOISE_BLOCK, look), active] = self._weigh(active, block, look)
            drawn[active] = look
            refuse_broken_weights(log_w[:look, active], [self.indices[i] for i in active])
            if tolerance is not None:
                so_far = log_w[:look, active]
                settled = is_settled(standard_error(so_far), pareto_shape(so_far), tolerance)
                self.report(int(settled.sum()) * (looks[-1] - look))
                active = active[~settled]
        return log_w, drawn, self.kl / drawn, self.reconstruction / drawn

    def _weigh(self, active: Tensor, block: int, end: int) -> Tensor:
        """Returns log-weights [draws active] of the samples from `block` to the end of that block, or to `end`."""
        x, q = self.x[active], _of_images(self.q, active)
        noise = _noise(self.seed, [self.indices[i] for i in active], block, min(NOISE_BLOCK, end - block), q.mean)
        weighed = []
        for part in noise.split(self.draws):
            z = q.mean + q.stddev * part
            log_likelihood = _to_float64(self.vae.decoder(z).log_prob(x))
            log_w = log_likelihood + _to_float64(self.prior.log_prob(z)) - _to_float64(q.log_prob(z))
            self.kl[active] += _to_float64(self.vae.kl(q, z)) * len(z)
            self.reconstruction[active] -= log_likelihood.sum(0)
            weighed.append(log_w)
            self.report(log_w.numel())
        return torch.cat(weighed)


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


def is_settled(standard_error: Tensor, pareto_k: Tensor, tolerance: float) -> Tensor:
    """Returns whether the error of each image is within the tolerance and reliable."""
    return (standard_error <= tolerance) & ~(pareto_k > RELIABLE)


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
