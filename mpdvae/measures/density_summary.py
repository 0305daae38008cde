"""Summary of a density estimate: means over images with their errors, ready for JSON."""

from typing import Any

import torch

from mpdvae.measures import weight_intervals
from mpdvae.measures.density import DensityEstimate
from mpdvae.measures.importance_weights import MOST_RELIABLE, largest_reliable_shape
from mpdvae.measures.random_subsets import error_of_mean, finite, mean_and_error


def summarise(estimate: DensityEstimate, draws: int = 1, population: int | None = None) -> dict[str, Any]:
    """Returns means over the images, ready for JSON, with units in the keys.

    `standard_error` is that of the mean over images: its standard deviation over sets of as many images. The error due to
    the draw of the importance samples is separate, in `nll_monte_carlo_error_nats`, and, with the bias of the logarithm of a
    mean removed, in `nll_monte_carlo_interval_95_nats`, whose lower end is null if the interval of an image is open. If the
    images are a random subset of a full set, `interval_95_of_full_set` is the interval for the mean over that set; see
    `random_subsets`. Undefined values (an error from one image or one sample, a tail shape from too few
    samples, bits per dimension of a density) are null.

    Arguments:
        estimate: estimate of images, or of several binary draws of them, draw by draw.
        draws: number of draws of each image.
        population: number of images in the full set; default: the images given.
    """
    e, sizes, tailed = estimate, estimate.effective_sample_size, ~estimate.pareto_k.isnan()
    shapes, most = e.pareto_k[tailed], largest_reliable_shape(e.samples_drawn[tailed])
    population = len(e.log_prob) // draws if population is None else population
    drawn = e.samples_drawn.double()
    followed = [i for i, size in enumerate(e.bound_sizes) if size <= e.samples_drawn.min()]
    return {
        "likelihood": "density" if e.is_density else "probability",
        "negative_elbo_nats": mean_and_error(-e.elbo, draws),
        "nll_nats": mean_and_error(-e.log_prob, draws, population, e.standard_error),
        "extrapolated_nll_nats": mean_and_error(-e.extrapolated_log_prob, draws)
        | {
            "monte_carlo_error": finite(error_of_mean(e.extrapolated_standard_error)),
            "method": "jackknife of order 1 in the number of samples (Nowozin 2018)",
        },
        "bound_curve": {
            "samples": [e.bound_sizes[i] for i in followed],
            "nll_nats": [finite(-e.bounds[:, i].mean()) for i in followed],
        },
        "kl_nats": mean_and_error(e.kl, draws),
        "reconstruction_nats": mean_and_error(e.reconstruction, draws),
        "bits_per_dim": None if e.is_density else mean_and_error(e.bits_per_dim, draws),
        "nll_monte_carlo_error_nats": finite(error_of_mean(e.standard_error)),
        "nll_monte_carlo_interval_95_nats": _monte_carlo_interval(e),
        "nll_bias_nats": finite((e.extrapolated_log_prob - e.log_prob).mean()),
        "open_intervals": int(e.interval_upper.isinf().sum()),
        "proposal": e.proposal,
        "decoder_evaluations_per_image": finite(e.decoder_evaluations.double().mean()),
        "samples": e.samples,
        "samples_drawn": {"mean": finite(drawn.mean()), "min": int(drawn.min()), "max": int(drawn.max())},
        "images": len(e.log_prob),
        "effective_sample_size": {"median": finite(sizes.quantile(0.5)), "min": finite(sizes.min())},
        "pareto_k": {
            "median": finite(shapes.quantile(0.5)) if len(shapes) else None,
            "share_above_0.7": finite((shapes > MOST_RELIABLE).double().mean()),
            "threshold": finite(largest_reliable_shape(e.samples)),
            "share_above_threshold": finite((shapes > most).double().mean()),
        },
    } | _of_approximation(e)


def _of_approximation(e: DensityEstimate) -> dict[str, Any]:
    """Returns the errors of an approximate decoder, beside those of Monte Carlo (root mean squares per image, and of the mean
    over images, of which a Monte-Carlo error has a random part and a bias); empty without one."""
    error, shift, squares = e.approximation_error, e.approximation_shift, e.standard_error.square()
    if error.isnan().all():
        return {}
    return {
        "approximation": {
            "error_per_image_nats": finite(error.square().nanmean().sqrt()),
            "monte_carlo_error_per_image_nats": finite(squares.mean().sqrt()),
            "mean_shift_nats": finite(shift.nanmean()),
            "mean_shift_standard_error_nats": finite((shift.var() / len(shift)).sqrt()),
            "mean_monte_carlo_error_nats": finite((squares.mean() / len(squares) + (squares.mean() / 2) ** 2).sqrt()),
        }
    }


def _monte_carlo_interval(e: DensityEstimate) -> list[float | None]:
    """Returns the ends of the interval for the mean NLL of these images; null where it is open."""
    closed = e.interval_upper.isfinite() & e.extrapolated_log_prob.isfinite()
    estimates = torch.where(closed, e.extrapolated_log_prob, e.log_prob)
    lower, upper = weight_intervals.of_mean(estimates, e.interval_lower, e.interval_upper)
    return [finite(-upper), finite(-lower)]
