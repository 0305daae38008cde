"""Likelihoods of a run's images: which images, how many samples, part by part, and the options of the likelihood check.

Images go through `density.estimate` in parts, each of which is stored as soon as it is finished (`resumable_parts`): a
measurement that was killed resumes after the last complete part and ends with the same bytes, given the same machine and
number of threads.

The paper's protocol is a separate setting: all images of the split with all fixed draws (five for binary images), 4,096
importance samples of q(z|x) for each, 512 for colour (Ma, Zhou & Hovy 2019, and their released code).
"""

import csv
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial as partial_of
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mpdvae.data import Protocol, Splits, evaluation_images
from mpdvae.distributions.pixel_values import AS_DENSITY
from mpdvae.errors import InputError
from mpdvae.evaluation.resumable_parts import ResumableParts
from mpdvae.measures import density
from mpdvae.measures.density import DensityEstimate, check_tolerance
from mpdvae.measures.density_summary import summarise
from mpdvae.measures.importance_sampling import ProposalName, is_settled
from mpdvae.measures.importance_weights import largest_reliable_shape
from mpdvae.measures.memory_budget import Budget
from mpdvae.measures.random_subsets import random_subset
from mpdvae.runs.checksums import sha256_of
from mpdvae.runs.environment import source_hash
from mpdvae.runs.run_folder import Run
from mpdvae.system.process_group import take_turns, wait_for_all
from mpdvae.vae import VAE, check_samples

PART_PAIRS = 2**14
"""Number of image-sample pairs in a stored part: some seconds of a small model on a laptop."""
EXPECTED_SAMPLES = 512
"""Samples per image by which parts are sized if a tolerance will end most images early."""
LARGEST_SAMPLES = 4096
"""Default maximum of samples for an image to reach a tolerance; the paper's protocol has the same number."""
REFEREE_STEPS = 100
"""Default annealing steps: minutes for ten images of a small model on a laptop; the gap of the sandwich shows whether more
are needed."""
PAPER_SAMPLES, PAPER_COLOUR_SAMPLES, PAPER_DRAWS = 4096, 512, 5

Watch = Callable[[str, float], None]
"""Progress callback: receives what is measured and the fraction that is done; first the fraction that was done before."""


@dataclass(frozen=True)
class Request:
    """The requested measurement; None: as in the run's experiment."""

    samples: int | None = None
    """Importance samples per image; with a tolerance, the maximum."""
    images: int | None = None
    """Number of random images of the split, one draw of each."""
    tolerance: float | None = None
    """Monte-Carlo standard error in nats at which an image is done."""
    protocol: Literal["paper"] | None = None
    """All images, draws and samples as in the paper, whose proposal is q(z|x)."""
    referee: int | None = None
    """Number of images to check by annealed importance sampling, and as many simulated ones; None: none."""
    referee_steps: int | None = None
    """Annealing steps of the check; None: `REFEREE_STEPS`."""
    proposal: ProposalName | None = None
    """Where importance samples come from."""

    @property
    def annealing_steps(self) -> int:
        return REFEREE_STEPS if self.referee_steps is None else self.referee_steps


@dataclass(frozen=True)
class Measurement:
    """The images that are measured, and the settings."""

    x: Float[Tensor, "n channel height width"]
    indices: Int64[Tensor, " n"]
    """Position of each image in the split; for draw d, plus d times the size of the split."""
    images_of_split: int
    draws: int
    samples: int
    tolerance: float | None
    protocol: str
    """Description in words, of the images alone."""
    split: str
    proposal: ProposalName


def prepare(run: Run, data: Splits, split: str, request: Request) -> Measurement:
    """Returns the measurement that `request` specifies for this run. Raises `InputError` if it is impossible."""
    settings, images, protocol = run.experiment.evaluation, data.part(split), run.experiment.data.protocol()
    if request.protocol == "paper":
        request, protocol, chosen = _as_in_the_paper(request, protocol, data)
    elif request.images is not None:
        chosen = random_subset(request.images, len(images))
    elif settings.density_images is not None:
        chosen = random_subset(min(settings.density_images, len(images)), len(images))
    else:
        chosen = None
    usual = settings.density_samples if request.tolerance is None else max(settings.density_samples, LARGEST_SAMPLES)
    samples = usual if request.samples is None else request.samples
    check_samples(samples)
    check_tolerance(request.tolerance)
    if chosen is not None:
        protocol = replace(protocol, evaluation_draws=1)
    draws = protocol.evaluation_draws
    x, _ = evaluation_images(images, protocol, split, draws, chosen)
    indices = torch.arange(len(x)) if chosen is None else chosen
    _check_referee(request, len(indices) // draws)
    return Measurement(
        x=x,
        indices=indices,
        images_of_split=len(images),
        draws=draws,
        samples=samples,
        tolerance=request.tolerance,
        protocol=protocol.describe(data),
        split=split,
        proposal=settings.density_proposal if request.proposal is None else request.proposal,
    )


def partial_results(
    run: Run, measurement: Measurement, compiled: bool = False, precision: str = "float32"
) -> ResumableParts:
    """Returns the store for the parts of this measurement, with networks that are `compiled` or not, in the requested
    precision. Its key omits the number of threads, which affects only the last digits."""
    m = measurement
    depends_on = {
        "versions": [source_hash(), torch.__version__],
        "device": m.x.device.type,
        "weights": sha256_of(run.folder / "model" / "model.safetensors"),
        "experiment": run.experiment.model_dump(mode="json"),
        "images": hashlib.sha256(m.x.cpu().numpy().tobytes()).hexdigest(),
        "indices": hashlib.sha256(m.indices.numpy().tobytes()).hexdigest(),
        "samples": m.samples,
        "tolerance": m.tolerance,
        "proposal": m.proposal,
        "part_pairs": PART_PAIRS,
        "compiled": compiled,
        "precision": precision,
    }
    return ResumableParts(run.folder / "partial", depends_on, run.check_there)


def measure(
    vae: VAE, measurement: Measurement, partial: ResumableParts, watch: Watch, approximate: nn.Module | None = None
) -> DensityEstimate:
    """Returns the likelihood of every image, measured part by part, with an `approximate` decoder if there is one. Several
    processes share the parts, and each returns the whole result."""
    m, count, budget = measurement, len(measurement.x), Budget()
    expected = m.samples if m.tolerance is None else min(m.samples, EXPECTED_SAMPLES)
    size = max(1, PART_PAIRS // expected)
    starts = range(0, count, size)

    def part(start: int) -> dict[str, Tensor]:
        piece = slice(start, start + size)
        if not partial.has(f"density-{start}"):
            watch("density", start / count)

        def estimate(memory_budget: int) -> dict[str, Tensor]:
            return density.estimate(
                vae,
                m.x[piece],
                m.samples,
                memory_budget,
                tolerance=m.tolerance,
                indices=m.indices[piece].tolist(),
                progress=lambda done, total: watch("density", (start + done / total * len(m.x[piece])) / count),
                approximate=approximate,
                proposal=m.proposal,
            ).tensors()

        compute, forms = partial_of(budget.spend, estimate), density.forms(len(m.x[piece]), m.samples)
        return partial.get(f"density-{start}", compute, forms)

    take_turns(starts, part)
    parts = [part(start) for start in starts]
    wait_for_all()  # parts may be removed only when no process reads them any more
    values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return DensityEstimate(
        **values,
        samples=m.samples,
        data_dimensions=density.data_dimensions(vae, m.x),
        proposal=m.proposal,
        is_density=density.gives_densities(vae),
    )


def summary(measurement: Measurement, estimate: DensityEstimate) -> dict[str, Any]:
    """Returns the content of density.json about the images."""
    m = measurement
    of: dict[str, Any] = {
        "split": m.split,
        "protocol": f"{m.protocol}; {AS_DENSITY}" if estimate.is_density else m.protocol,
        "images_of_split": m.images_of_split,
        "draws": m.draws,
        "tolerance_nats": m.tolerance,
    }
    if m.tolerance is not None:
        settled = is_settled(estimate.standard_error, estimate.pareto_k, m.tolerance, estimate.samples_drawn)
        of["unsettled_images"] = len(settled) - int(settled.sum())
    return of | summarise(estimate, m.draws, m.images_of_split)


def unsettled_in_words(summary: Mapping[str, Any]) -> str:
    """Returns how many images missed the tolerance, and what to do; empty if none did, or if there was no tolerance."""
    if not (count := summary.get("unsettled_images")):
        return ""
    most, samples = largest_reliable_shape(summary["samples"]), summary["samples"]
    return (
        f"{count} of {summary['images']} images: an error above {summary['tolerance_nats']:g} nats, or an unreliable one "
        f"(Pareto k above {most:.2g}), after {samples:,} samples; use more (--samples), or check with --referee."
    )


def precision_in_words(summary: Mapping[str, Any]) -> str:
    """Returns the error of bfloat16 beside that of Monte Carlo; empty for float32."""
    if not (error := summary.get("approximation")):
        return ""
    shown = {name: "unknown" if value is None else f"{value:.2g}" for name, value in error.items()}
    return (
        f"bfloat16: error per image {shown['error_per_image_nats']} nats (Monte Carlo: "
        f"{shown['monte_carlo_error_per_image_nats']}), shift of the mean {shown['mean_shift_nats']} +- "
        f"{shown['mean_shift_standard_error_nats']} (Monte Carlo: {shown['mean_monte_carlo_error_nats']})."
    )


def table(measurement: Measurement, estimate: DensityEstimate) -> str:
    """Returns a CSV table with one line per image and units in the header; cells of unavailable values are empty."""
    columns = {
        "log_prob_nats": estimate.log_prob,
        "standard_error_nats": estimate.standard_error,
        "interval_95_lower_nats": estimate.interval_lower,
        "interval_95_upper_nats": estimate.interval_upper.nan_to_num(math.nan, math.nan),
        "elbo_nats": estimate.elbo,
        "extrapolated_log_prob_nats": estimate.extrapolated_log_prob,
        "kl_nats": estimate.kl,
        "reconstruction_nats": estimate.reconstruction,
        "bits_per_dim": estimate.bits_per_dim,
        "effective_sample_size": estimate.effective_sample_size,
        "pareto_k": estimate.pareto_k,
        "samples": estimate.samples_drawn,
        "decoder_evaluations": estimate.decoder_evaluations,
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "draw", *columns])
    for index, *row in zip(
        measurement.indices.tolist(), *(column.tolist() for column in columns.values()), strict=True
    ):
        draw, image = divmod(index, measurement.images_of_split)
        writer.writerow([image, draw, *("" if math.isnan(value) else repr(value) for value in row)])
    return text.getvalue()


def _as_in_the_paper(request: Request, protocol: Protocol, data: Splits) -> tuple[Request, Protocol, None]:
    """Returns `request` and `protocol` with the paper's samples and draws, and None for all images."""
    if (request.samples, request.images, request.tolerance) != (None, None, None):
        raise InputError(
            "--protocol paper: sets the numbers of samples and images itself; leave out --samples, --images and "
            "--tolerance.",
            topic="unreliable-likelihood",
        )
    samples = PAPER_SAMPLES if protocol.binarises else PAPER_COLOUR_SAMPLES
    several = protocol.binarisation == "dynamic" and not data.binarised
    request = replace(request, samples=samples, proposal=request.proposal or "encoder")
    return request, replace(protocol, evaluation_draws=PAPER_DRAWS if several else 1), None


def _check_referee(request: Request, measured: int) -> None:
    if request.referee is not None and not 1 <= request.referee <= measured:
        raise InputError(
            f"--referee: expected 1 to {measured:,} images, the number that is measured, got {request.referee:,}.",
            topic="unreliable-likelihood",
        )
    check_samples(request.annealing_steps, "--referee-steps")
