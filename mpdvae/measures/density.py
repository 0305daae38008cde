r"""Density: the log-likelihood of images under a VAE, in nats and bits per dimension, with error bars.

With :math:`z_1 .. z_k \sim q(z|x)` and :math:`\log w_i = \log p(x|z_i) + \log p(z_i) - \log q(z_i|x)`,

.. math:: \mathbb{E} \tfrac1k \sum_i \log w_i \;\le\; \mathbb{E} \log \tfrac1k \sum_i w_i \;\le\; \log p(x),

the evidence lower bound and the importance-weighted bound (Burda, Grosse & Salakhutdinov 2016,
https://arxiv.org/abs/1509.00519). The second holds for samples from any proposal r(z) with weights p(x, z) / r(z). By default
r is fitted to each image (`fitted_proposal`), which gives many times more effective samples than r = q(z|x), the proposal
of the paper. The mean of w is unbiased for p(x), so its logarithm has, by the delta method, the Monte-Carlo standard error
std(w) / (sqrt(k) mean(w)) and a bias of about minus half its square (`importance_weights`), which the jackknife removes. An
error bar is only as good as the tail of the weights; `weight_intervals` gives 95 % intervals that are open where it is too
heavy. `annealed_importance` provides a likelihood check that does not need the encoder.

If the pixels' distribution is a density (`mpdvae.distributions.pixel_values`), so is p(x): its logarithm in nats can be
positive, is comparable only with densities of pixels in the same unit, and has no bits per dimension.

Computation. The encoder sees every image once. Samples pass through the decoder in chunks that fit a given memory budget
(`memory_use`). The noise of image i and sample j is a function of (seed, i, j), so that the budget does not change the
results beyond rounding. Sums are computed in float64. A faster, less precise decoder (bfloat16) can do most of the work;
`calibration` corrects it, and measures what error remains.

With a tolerance, the standard error of an image is checked after 64, 128, 256, ... samples; sampling stops at the first
check at which it is within the tolerance and the tail shape is reliable for that number of samples. Stopping is more likely
while no large weight has been drawn, when both the mean and its error are small: estimates that stop early are too low
rather than too high, by a fraction of their error bar. tests/measures/test_density_laws.py limits the mean of that bias to a
quarter of the tolerance.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mpdvae.data.conditions import split_condition
from mpdvae.distributions.support import tensor_for
from mpdvae.errors import InputError, RunError, refuse_unknown
from mpdvae.measures import weight_intervals
from mpdvae.measures.fitted_proposal import FIT_COST
from mpdvae.measures.importance_sampling import NOISE_BLOCK, Draws, ProposalName, Sampler, looks
from mpdvae.measures.importance_weights import (
    bound_curve,
    effective_sample_size,
    group_sizes,
    jackknife,
    log_mean,
    pareto_shape,
    standard_error,
)
from mpdvae.measures.memory_use import gradient_draws, piece_sizes
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.vae import VAE, check_samples

__all__ = ["DensityEstimate", "estimate", "evaluating", "pareto_shape"]


@dataclass(frozen=True)
class DensityEstimate:
    """One value per image, in nats, float64 on the CPU. The axis of images is called `batch`."""

    log_prob: Float64[Tensor, " batch"]
    """Log of the mean weight log(1/k sum w): a lower bound on log p(x) in expectation, tight as k grows."""
    standard_error: Float64[Tensor, " batch"]
    """Monte-Carlo standard error of `log_prob`; nan for one sample."""
    elbo: Float64[Tensor, " batch"]
    """Mean of log w with samples of q(z|x). With proposal encoder never above `log_prob`; with a fitted one it comes from the
    16 first points of the fit."""
    effective_sample_size: Float64[Tensor, " batch"]
    """(sum w)^2 / sum w^2, from 1 to the number of samples."""
    pareto_k: Float64[Tensor, " batch"]
    """Shape of the weights' tail; above `largest_reliable_shape` `log_prob` and its error are unreliable. For nan see
    `pareto_shape`."""
    kl: Float64[Tensor, " batch"]
    """Rate: KL(q(z|x) || p(z)), in closed form if there is one, otherwise from the same samples."""
    reconstruction: Float64[Tensor, " batch"]
    """Distortion: minus the mean of log p(x|z). `kl + reconstruction` equals `-elbo` up to Monte-Carlo noise."""
    extrapolated_log_prob: Float64[Tensor, " batch"]
    """`log_prob` with its 1/k bias removed by the jackknife (Nowozin 2018): not a bound; nan for one sample. The weights
    must have finite variance: if `pareto_k` is too large, the bias falls more slowly than 1/k, and this is too low, too."""
    extrapolated_standard_error: Float64[Tensor, " batch"]
    """Monte-Carlo standard error of `extrapolated_log_prob`, from its pseudo-values."""
    bounds: Float64[Tensor, "batch sizes"]
    """The importance-weighted bound at each number of samples in `bound_sizes`, from the same weights, averaged over
    disjoint groups; nan beyond the samples drawn."""
    samples_drawn: Int64[Tensor, " batch"]
    """Importance samples k of each image: `samples`, or fewer if a tolerance was met."""
    interval_lower: Float64[Tensor, " batch"]
    """Lower end of the 95 % interval for log p(x), see `weight_intervals`."""
    interval_upper: Float64[Tensor, " batch"]
    """Upper end; infinite where the tail of the weights, or their number, allows none: the interval is open."""
    decoder_evaluations: Int64[Tensor, " batch"]
    """Evaluations of decoders that were spent: for the fit of the proposal, the samples, and the correction."""
    approximation_error: Float64[Tensor, " batch"]
    """Standard error of `log_prob` due to an approximate decoder, see `calibration`; nan without one."""
    approximation_shift: Float64[Tensor, " batch"]
    """Estimate of the part of that error whose mean over images is not 0; nan without an approximate decoder."""
    samples: int
    """Maximum number of importance samples per image."""
    data_dimensions: int
    """Values per image: channel * height * width."""
    proposal: ProposalName = "encoder"
    """The proposal that the samples come from."""
    is_density: bool = False
    """Whether p(x) is a density of continuous pixels, instead of a probability."""

    @property
    def bits_per_dim(self) -> Float64[Tensor, " batch"]:
        """Upper bound on -log2 p(x) per value of the image; nan for a density, which is no number of bits."""
        if self.is_density:
            return torch.full_like(self.log_prob, math.nan)
        return -self.log_prob / (self.data_dimensions * math.log(2))

    @property
    def bound_sizes(self) -> list[int]:
        """1, 2, 4, ... and `samples`."""
        return group_sizes(self.samples)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the fields that have a value per image, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}


def forms(images: int, samples: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Returns shape and dtype of each tensor of an estimate of `images` images with at most `samples` samples each."""
    of_all = {"samples", "data_dimensions", "proposal", "is_density"}
    names = [f.name for f in fields(DensityEstimate) if f.name not in of_all]
    whole = {"samples_drawn", "decoder_evaluations"}
    values = {name: ((images,), torch.int64 if name in whole else torch.float64) for name in names}
    return values | {"bounds": ((images, len(group_sizes(samples))), torch.float64)}


def estimate(
    vae: VAE,
    x: Float[Tensor, "batch channel height width"],
    samples: int,
    memory_budget: int = 2**30,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    tolerance: float | None = None,
    indices: Sequence[int] | None = None,
    approximate: nn.Module | None = None,
    proposal: ProposalName = "fitted",
) -> DensityEstimate:
    """Estimates the log-likelihood of each image, with its uncertainty. On Linux, the process from then on keeps the memory
    that it frees (`mpdvae.system.allocator`).

    Arguments:
        vae: the model; measured in evaluation mode, its mode is restored afterwards.
        x: images in the value range of the model.
        samples: importance samples k per image; with a tolerance, the maximum.
        memory_budget: bytes of tensors that may be held beyond the model and `x`.
        seed: seed of the posterior samples. The same seed gives the same results, whatever the budget.
        progress: called after every decoder pass with the number of decoder evaluations done (or skipped) and the total.
        tolerance: standard error of `log_prob` in nats at which sampling stops; None: all samples are drawn. There are at
            most 1 + log2(samples / 64) checks; the module docstring describes their effect on the estimate.
        indices: the index of each image in its data set; the noise is a function of it, so that an image's estimate does
            not depend on the other images, and errors name it. Default: 0, 1, 2, ...
        proposal: fitted: samples come from a mixture that is fitted to each image with `FIT_COST` further evaluations of the
            model's decoder, which must be differentiable in z; encoder: from q(z|x), as in the paper.
        approximate: a decoder that computes nearly what the model's does, but faster, for all samples; a sixteenth of them
            passes through the model's, too, and corrects the others. None: the model's alone.

    Raises:
        InputError: for no images of the model's shape, no samples, a non-finite pixel, a tolerance that is not positive, a
            budget that is too small, or a posterior that is not a diagonal Gaussian.
        RunError: if the model gives a non-finite weight; names the image.
    """
    x = tensor_for(vae, x, getattr(vae.origin, "input_shape", None))
    indices = range(len(x)) if indices is None else indices
    _check(x, samples, tolerance, indices)
    if proposal not in (known := list(get_args(ProposalName))):
        refuse_unknown("proposal", proposal, known)
    vae.check_images(x, indices)
    pieces: list[tuple[Tensor, ...]] = []
    done, fitted = 0, proposal == "fitted"
    total = len(x) * (samples + (FIT_COST if fitted else 0))

    def report(evaluations: int) -> None:
        nonlocal done
        done += evaluations
        if progress:
            progress(done, total)

    keep_freed_memory()  # chunks are freed and allocated over and over
    fast = nullcontext() if approximate is None else evaluating(approximate)
    with torch.no_grad(), evaluating(vae), fast, parametrize.cached():  # normalises the weights only once
        images, draws = piece_sizes(vae, x, samples, memory_budget, NOISE_BLOCK, approximate is not None, fitted)
        points = gradient_draws(vae, x[:images], memory_budget) if fitted else None
        for start in range(0, len(x), images):
            piece = slice(start, start + images)
            sampler = Sampler(vae, x[piece], list(indices[piece]), seed, draws, report, approximate, points)
            pieces.append(_statistics(sampler.draw(looks(samples, tolerance), tolerance), samples))
    values = (torch.cat(field) for field in zip(*pieces, strict=True))
    return DensityEstimate(
        *values,
        samples=samples,
        data_dimensions=data_dimensions(vae, x),
        proposal=proposal,
        is_density=gives_densities(vae),
    )


def data_dimensions(vae: VAE, x: Float[Tensor, "batch channel height width"]) -> int:
    """Returns the number of values of an image, without its condition."""
    return split_condition(x[0], vae.condition).images.numel()


def gives_densities(vae: VAE) -> bool:
    """Returns whether the likelihoods of a model are densities: its decoder states a support, which is continuous."""
    support = getattr(vae.decoder, "support", None)
    return support is not None and not support.is_discrete


estimate_density = estimate
"""Name of `estimate` in `mpdvae.measures`."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context in which `module` and all its submodules are in evaluation mode; each one's mode is restored afterwards.

    torch's `ValueError` for invalid distribution parameters (such as a nan mean) becomes a `RunError`.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise RunError(
            "the model gives no valid distribution; check that training did not diverge.", topic="not-a-number"
        ) from error
    finally:
        for part, mode in modes.items():
            part.training = mode


def _statistics(draws: Draws, samples: int) -> tuple[Tensor, ...]:
    """Returns the fields of a `DensityEstimate`, in order."""
    log_w, drawn = draws.log_w, draws.drawn
    groups = [(int(k), (drawn == k).nonzero().flatten()) for k in drawn.unique()]
    parts = [_of_weights(log_w[:k, images], len(group_sizes(samples))) for k, images in groups]
    order = torch.cat([images for _, images in groups]).argsort()
    bound, error, size, shape, limit, limit_error, curve, lower, upper = (
        torch.cat(field)[order] for field in zip(*parts, strict=True)
    )
    of_weights = bound, error, draws.elbo, size, shape, draws.kl, draws.reconstruction, limit, limit_error, curve, drawn
    return *of_weights, lower, upper, draws.decoder_evaluations, draws.approximation_error, draws.approximation_shift


def _of_weights(log_w: Tensor, sizes: int) -> tuple[Tensor, ...]:
    curve = bound_curve(log_w)
    padded = torch.nn.functional.pad(curve, (0, sizes - curve.shape[1]), value=math.nan)
    moments = log_mean(log_w), standard_error(log_w), effective_sample_size(log_w)
    return *moments, pareto_shape(log_w), *jackknife(log_w), padded, *weight_intervals.interval(log_w)


def _check(x: Tensor, samples: int, tolerance: float | None, indices: Sequence[int]) -> None:
    check_samples(samples)
    check_tolerance(tolerance)
    check_images(x, indices)


def check_images(x: Tensor, indices: Sequence[int]) -> None:
    """Raises `InputError` unless `x` holds images with finite pixels, as many as `indices`."""
    if x.ndim != 4 or len(x) == 0:
        raise InputError(f"x: expected images [batch channel height width], at least one, got shape {tuple(x.shape)}.")
    if len(indices) != len(x):
        raise InputError(f"indices: expected one for each of the {len(x)} images, got {len(indices)}.")
    broken = (~x.isfinite()).flatten(1).any(1).nonzero()
    if len(broken):
        raise InputError(
            f"x: image {indices[int(broken[0].item())]} has a non-finite pixel; remove or replace it.",
            topic="not-a-number",
        )


def check_tolerance(tolerance: float | None) -> None:
    """Raises `InputError` unless the tolerance is None or a positive number of nats."""
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise InputError(f"tolerance: expected a number of nats > 0, got {tolerance}.", topic="unreliable-likelihood")
