r"""Density: the log-likelihood of images under a VAE, in nats and bits per dimension, with error bars.

With :math:`z_1 .. z_k \sim q(z|x)` and :math:`\log w_i = \log p(x|z_i) + \log p(z_i) - \log q(z_i|x)`,

.. math:: \mathbb{E} \tfrac1k \sum_i \log w_i \;\le\; \mathbb{E} \log \tfrac1k \sum_i w_i \;\le\; \log p(x),

the evidence lower bound and the importance-weighted bound (Burda, Grosse & Salakhutdinov 2016,
https://arxiv.org/abs/1509.00519). The mean of w is unbiased for p(x), so its logarithm has, by the delta method, the
Monte-Carlo standard error std(w) / (sqrt(k) mean(w)) and a bias of about minus half its square.

An error bar is only as good as the weights' tail. The shape k-hat of a generalised Pareto law fitted to the largest
weights (Zhang & Stephens 2009, https://doi.org/10.1198/tech.2009.08017) says how good: above 0.7 neither the bound nor
its error bar can be relied on (Vehtari, Simpson, Gelman, Yao & Gabry 2024, https://arxiv.org/abs/1507.02646).

How it runs. The encoder sees every image once. Samples pass through the decoder in pieces that fit a stated memory
budget: the bytes that one image x sample needs are measured by a trial. The noise of image i and sample j is a
function of (seed, i, j), so that the budget changes no number beyond rounding. Sums are taken in float64.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import finalize

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError, RunError
from mpdvae.seeding import derive_seed
from mpdvae.vae import VAE, check_samples

NOISE_BLOCK = 64
"""Samples of one image that share a key of the noise. Changing it changes every estimate within its error bar."""

TRIAL = 8
"""Images, or samples of one image, in the trial that measures memory."""

CPU_PIECE = 2**25
"""Bytes of a piece on the CPU, whatever the budget: larger ones fall out of its caches (measured: 40 % slower)."""


@dataclass(frozen=True)
class DensityEstimate:
    """One value for each image, in nats and float64 on the CPU. The data axis is called `batch`."""

    log_prob: Float64[Tensor, " batch"]
    """Importance-weighted bound log(1/k sum w): a lower bound on log p(x) in expectation, tight as k grows."""
    standard_error: Float64[Tensor, " batch"]
    """Monte-Carlo standard error of `log_prob`; nan for one sample."""
    elbo: Float64[Tensor, " batch"]
    """Mean of log w. Never above `log_prob`."""
    effective_sample_size: Float64[Tensor, " batch"]
    """(sum w)^2 / sum w^2, from 1 to the number of samples."""
    pareto_k: Float64[Tensor, " batch"]
    """Shape of the weights' tail; above 0.7 `log_prob` and its error are unreliable; nan: see `pareto_shape`."""
    kl: Float64[Tensor, " batch"]
    """Rate: KL(q(z|x) || p(z)), in closed form where there is one, else by the same samples."""
    reconstruction: Float64[Tensor, " batch"]
    """Distortion: minus the mean of log p(x|z). `kl + reconstruction` is `-elbo`, but for Monte-Carlo noise."""
    samples: int
    """Importance samples k for each image."""
    data_dimensions: int
    """Numbers in one image: channel * height * width."""

    @property
    def bits_per_dim(self) -> Float64[Tensor, " batch"]:
        """Upper bound on -log2 p(x) for each number in the image."""
        return -self.log_prob / (self.data_dimensions * math.log(2))


def estimate(
    vae: VAE,
    x: Float[Tensor, "batch channel height width"],
    samples: int,
    memory_budget: int = 2**30,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DensityEstimate:
    """The log-likelihood of each image, with its uncertainty.

    Arguments:
        vae: the model; measured in evaluation mode and left in the mode it came in.
        x: images in the range that the model was made for.
        samples: importance samples k for each image.
        memory_budget: bytes of tensors that may be held beyond the model and `x`.
        seed: of the posterior samples. The same seed gives the same numbers, whatever the budget.
        progress: called after every decoder pass with the number of image x sample pairs done and to do.

    Raises:
        InputError: for no images, no samples, a pixel that is not finite, a budget that is too small, or a posterior
            that is not a diagonal Gaussian.
        RunError: when the model gives a weight that is not a finite number; names the image.
    """
    _check(x, samples)
    pieces: list[tuple[Tensor, ...]] = []

    def report(done: int) -> None:
        if progress:
            progress(done, len(x) * samples)

    with torch.no_grad(), evaluating(vae):
        images, draws = _piece_sizes(vae, x, samples, memory_budget)
        for start in range(0, len(x), images):
            log_w, *terms = _weigh(vae, x[start : start + images], start, samples, draws, seed, report)
            _refuse_broken_weights(log_w, start)
            pieces.append((*_statistics(log_w), *terms))  # in the order of the fields
    fields = (torch.cat(field) for field in zip(*pieces, strict=True))
    return DensityEstimate(*fields, samples=samples, data_dimensions=x[0].numel())


def summarise(estimate: DensityEstimate) -> dict[str, Any]:
    """Means over the images, ready for JSON, with units in the keys.

    `standard_error` is that of the mean over images: how far another set of as many images would move it. What another
    draw of the posterior samples would do is apart, in `nll_monte_carlo_error_nats`. What cannot be had (an error from
    one image or one sample, a tail shape from too few samples) is null.
    """
    e, sizes, shapes = estimate, estimate.effective_sample_size, estimate.pareto_k[~estimate.pareto_k.isnan()]
    return {
        "negative_elbo_nats": _mean_and_error(-e.elbo),
        "nll_nats": _mean_and_error(-e.log_prob),
        "kl_nats": _mean_and_error(e.kl),
        "reconstruction_nats": _mean_and_error(e.reconstruction),
        "bits_per_dim": _mean_and_error(e.bits_per_dim),
        "nll_monte_carlo_error_nats": _finite(e.standard_error.square().sum().sqrt() / len(e.log_prob)),
        "samples": e.samples,
        "images": len(e.log_prob),
        "effective_sample_size": {"median": _finite(sizes.quantile(0.5)), "min": _finite(sizes.min())},
        "pareto_k": {
            "median": _finite(shapes.quantile(0.5)) if len(shapes) else None,
            "share_above_0.7": _finite((shapes > 0.7).double().mean()),
        },
    }


def pareto_shape(log_weights: Float64[Tensor, "samples batch"]) -> Float64[Tensor, " batch"]:
    """Shape k-hat of a generalised Pareto law fitted to the largest weights of each image.

    The tail is the M = ceil(min(samples / 5, 3 sqrt(samples))) largest weights, each less the next one below the tail.
    The estimate is the average over the grid of Zhang & Stephens (2009) by profile likelihood, drawn towards 0.5 as if
    by ten further observations (Vehtari et al. 2024). Weights with shape k-hat have moments of orders up to 1 / k-hat.

    Returns:
        nan where M < 5 (fewer than 21 samples) or all tail weights are equal (an exact posterior: there is no tail);
        inf where the tail spans more orders of magnitude than float64 holds.
    """
    samples, images = log_weights.shape
    tail = math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    if tail < 5:
        return log_weights.new_full((images,), math.nan)
    largest = log_weights.mT.topk(tail + 1, dim=1).values.flip(1)
    w = (largest - largest[:, -1:]).exp()
    x = w[:, 1:] - w[:, :1]  # exceedances [images tail], ascending
    x_quarter, x_max = x[:, math.floor(tail / 4 + 0.5) - 1, None], x[:, -1:]
    m = 30 + math.floor(math.sqrt(tail))
    j = torch.arange(1, m + 1, dtype=x.dtype, device=x.device)
    b = 1 / x_max + (1 - (m / (j - 0.5)).sqrt()) / (3 * x_quarter)  # theta of Zhang & Stephens [images grid]
    k = torch.log1p(-b[:, :, None] * x[:, None, :]).mean(-1)
    log_likelihood = tail * ((-b / k).log() - k - 1)
    b_hat = (torch.softmax(log_likelihood, dim=1) * b).sum(1, keepdim=True)
    k_hat = (torch.log1p(-b_hat * x).sum(1) + 10 * 0.5) / (tail + 10)
    lost = torch.where(x_max.squeeze(1) > 0, math.inf, math.nan).to(x.dtype)
    return torch.where(x_quarter.squeeze(1) > 0, k_hat, lost)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, `module` and all its parts are in evaluation mode; afterwards each is in the mode that it came in.

    What torch says of parameters that make no distribution (a mean that is nan) becomes a `RunError`.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise RunError("the model makes no valid distribution; check that training did not diverge") from error
    finally:
        for part, mode in modes.items():
            part.training = mode


def _weigh(
    vae: VAE, x: Tensor, first: int, samples: int, draws: int, seed: int, report: Callable[[int], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-weights [samples batch], KL [batch] and reconstruction [batch]; `first` is the index of the first image."""
    q, prior = vae.encoder(x), vae.prior()
    mean, stddev = diagonal_normal(q).loc, diagonal_normal(q).scale
    log_w = torch.empty(samples, len(x), dtype=torch.float64)
    kl, reconstruction = torch.zeros(2, len(x), dtype=torch.float64)
    for block in range(0, samples, NOISE_BLOCK):
        noise = _noise(seed, first, block, min(NOISE_BLOCK, samples - block), mean)
        for offset in range(0, len(noise), draws):
            z = mean + stddev * noise[offset : offset + draws]
            log_likelihood = _to_float64(vae.decoder(z).log_prob(x))
            at = block + offset
            log_w[at : at + len(z)] = log_likelihood + _to_float64(prior.log_prob(z)) - _to_float64(q.log_prob(z))
            kl += _to_float64(vae.kl(q, z)) * (len(z) / samples)
            reconstruction -= log_likelihood.sum(0) / samples
            report(first * samples + (at + len(z)) * len(x))
    return log_w, kl, reconstruction


def _noise(seed: int, first: int, block: int, draws: int, like: Tensor) -> Tensor:
    """Standard normal noise [draws, *like.shape]; drawn on the CPU, so that every device gets the same."""
    generator = torch.Generator()
    noise = torch.empty(len(like), NOISE_BLOCK, *like.shape[1:])
    for i, one in enumerate(noise):
        generator.manual_seed(derive_seed(seed, "density", first + i, block))
        one.normal_(generator=generator)
    return noise[:, :draws].transpose(0, 1).to(like)


def _statistics(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Bound, its standard error, ELBO, effective sample size and tail shape, each [batch], from [samples batch]."""
    largest, samples = log_w.amax(0), len(log_w)
    w = (log_w - largest).exp()
    mean, variance = w.mean(0), w.var(0, correction=0)
    standard_error = (variance / (samples - 1)).sqrt() / mean if samples > 1 else torch.full_like(mean, math.nan)
    effective_sample_size = w.sum(0).square() / w.square().sum(0)
    return largest + mean.log(), standard_error, log_w.mean(0), effective_sample_size, pareto_shape(log_w)


def _piece_sizes(vae: VAE, x: Tensor, samples: int, memory_budget: int) -> tuple[int, int]:
    """How many images, and how many samples of each, go through the decoder at a time.

    The bytes for n items are the largest of some increasing straight lines in n (weights computed on the way count in
    their intercepts), so the bytes for one item, measured at n = `TRIAL`, are an upper bound for larger n. What a
    kernel uses inside itself is not seen: half of the budget is left to it.
    """
    with _LiveBytes() as encoding:
        mean = vae.encoder(x[:TRIAL]).mean[:1]
    z = mean.expand(TRIAL, *mean.shape).clone()
    with _LiveBytes() as decoding:
        _ = vae.decoder(z).log_prob(x[:1]), vae.prior().log_prob(z)
    draws = min(samples, NOISE_BLOCK)
    noise, statistics = 3 * NOISE_BLOCK * mean.nbytes, 64 * samples + 1536 * math.ceil(3 * math.sqrt(samples))
    image = encoding.peak // min(TRIAL, len(x)) + noise + statistics
    pair = decoding.peak // TRIAL
    usable = memory_budget // 2
    if x.device.type == "cpu":
        usable = min(usable, max(CPU_PIECE, image + pair))
    if usable < image + pair:
        raise InputError(
            f"memory_budget: one image with {samples:,} samples needs {2 * (image + pair):,} bytes, "
            f"got {memory_budget:,}; raise the budget or take fewer samples."
        )
    images = usable // (image + draws * pair)
    return (min(images, len(x)), draws) if images else (1, (usable - image) // pair)


class _LiveBytes(TorchDispatchMode):
    """Measures the most bytes of tensors, made inside, that lived at one time."""

    now = peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch's compiler, which has no part here, is imported: a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        made = {s._cdata: s for s in (t.untyped_storage() for t in tree_leaves(out) if isinstance(t, Tensor))}
        for key in made.keys() - given:  # neither a view nor work in place
            self._add(made[key].nbytes())
            finalize(made[key], self._add, -made[key].nbytes())
        return out

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def _check(x: Tensor, samples: int) -> None:
    check_samples(samples)
    if x.ndim != 4 or len(x) == 0:
        raise InputError(f"x: expected images [batch channel height width], at least one, got shape {tuple(x.shape)}.")
    broken = (~x.isfinite()).flatten(1).any(1).nonzero()
    if len(broken):
        raise InputError(f"x: image {broken[0].item()} has a pixel that is not a finite number.")


def _refuse_broken_weights(log_w: Tensor, first: int) -> None:
    broken = (log_w.isnan() | log_w.isposinf()).any(0) | log_w.isneginf().all(0)
    if broken.any():
        i = int(broken.nonzero()[0].item())
        raise RunError(
            f"the model gives image {first + i} an importance weight that is not a finite number (log w = "
            f"{log_w[:, i].max().item()}); check that training did not diverge and that x is in the model's range."
        )


def _to_float64(t: Tensor) -> Tensor:
    return t.cpu().double()


def _mean_and_error(values: Tensor) -> dict[str, float | None]:
    error = (values.var(correction=0) / (len(values) - 1)).sqrt()  # 0 / 0 for one image
    return {"mean": _finite(values.mean()), "standard_error": _finite(error)}


def _finite(value: Tensor) -> float | None:
    return value.item() if value.isfinite() else None
