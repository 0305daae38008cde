r"""Chooses how the likelihoods of a run are computed, by measurement: `mpdvae evaluate --precision auto`.

*bfloat16* decodes all samples with the decoder's networks in bfloat16, and corrects them by a sixteenth in float32
(`measures.calibration`). Encoder, prior, log q(z|x), log p(x|z) given the networks' outputs, and all sums are as in float32.
*Compiled* means `torch.compile`. Both are faster on some machines and models, and slower on others.

A pilot measures images of the run in float32 and in bfloat16, with the same noise, and compares them per image:
D = log p-hat in bfloat16 minus log p-hat in float32. bfloat16 is taken if it is faster and

.. math:: \sqrt{\operatorname{mean} D^2} \le \tfrac1{10} \operatorname{median} s,
   \qquad |\bar D| + 2 \operatorname{se}(\bar D) \le \tfrac1{10} \Bigl( \tfrac{1}{N} \operatorname{mean} s_k^2
          + \bigl( \tfrac12 \operatorname{mean} s_k^2 \bigr)^2 \Bigr)^{1/2},

where s is the Monte-Carlo standard error of an image in the pilot and s_k that with all k samples, of N images. The first
condition is about one image. The second is about the mean over images, in which random errors average out and systematic
ones do not: the upper limit of the systematic error of bfloat16 must be below a tenth of the Monte-Carlo error of that mean,
random (first term) and systematic (second term: minus half the squared error is the bias of a logarithm of a mean). s_k is
s scaled by the root of the numbers of samples, which is too small, hence strict, for heavy-tailed weights.

The pilot doubles until the conditions hold, or certainly do not, or it would cost more than `PILOT_SHARE` of the run: then
float32 stays. A run that is too short for a pilot, or to pay back compiling, is not measured.

A choice is kept beside the stored parts of the run's likelihoods, so that a measurement that was killed resumes with it.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mpdvae.errors import InputError, RunError
from mpdvae.evaluation.resumable_parts import CHOICE, ResumableParts
from mpdvae.evaluation.run_likelihood import EXPECTED_SAMPLES, Measurement
from mpdvae.measures import density
from mpdvae.measures.density import DensityEstimate
from mpdvae.measures.random_subsets import random_subset
from mpdvae.models.acceleration import compile_networks, run_in_bfloat16
from mpdvae.runs.records import PrecisionChoice, check
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.process_group import is_first, wait_for_all
from mpdvae.vae import VAE

Precision = Literal["float32", "bfloat16"]
Requested = Literal["float32", "bfloat16", "auto"]

TENTH = 0.1
"""Largest error of bfloat16 relative to the Monte-Carlo error."""
PILOT_IMAGES, PILOT_SAMPLES = 8, 256
"""Images of a round of the pilot, and at most so many samples of each."""
FEWEST_IMAGES = 16
"""Images after which the pilot may be decided."""
PILOT_SHARE = 0.05
"""Largest share of the run's samples that the pilot may take, in each precision."""
PILOT_SECONDS = 240.0
"""Seconds after which the pilot does not double any more: other processes of the run wait for it."""
COMPILE_SECONDS, HOPED_SPEEDUP = 60.0, 2.0
"""Assumed time to compile, before it is measured, and assumed upper bound on the speed-up."""
LEAST_SPEEDUP = 1.1
"""bfloat16, or compiling, is taken only if it is faster by this factor."""


@dataclass(frozen=True)
class Errors:
    """Errors of bfloat16 in a pilot, beside those of Monte Carlo; in nats."""

    images: int
    per_image: float
    """Root mean square of D."""
    per_image_monte_carlo: float
    """Median standard error of an image, with the pilot's samples."""
    mean: float
    """Mean of D over the images."""
    mean_standard_error: float
    mean_monte_carlo: float
    """Monte-Carlo error of the mean over all images of the run, with all samples: random and systematic."""

    @property
    def small(self) -> bool:
        """Whether both are shown to be below a tenth of Monte Carlo's. False for non-finite errors."""
        upper = abs(self.mean) + 2 * self.mean_standard_error
        return self.per_image <= TENTH * self.per_image_monte_carlo and upper <= TENTH * self.mean_monte_carlo

    @property
    def large(self) -> bool:
        """Whether more images would hardly make them small. True for non-finite errors."""
        lower = abs(self.mean) - 2 * self.mean_standard_error
        per_image = self.per_image <= 1.5 * TENTH * self.per_image_monte_carlo
        return not (per_image and lower <= TENTH * self.mean_monte_carlo)


@dataclass(frozen=True)
class Choice:
    """How likelihoods are computed, why, and what was measured."""

    precision: Precision
    compile: bool
    reason: str
    evaluations_per_second: dict[str, float] = field(default_factory=dict)
    """Image-sample pairs per second, by variant."""
    errors: Errors | None = None

    def in_words(self) -> str:
        """Describes the choice in one line."""
        speeds = ", ".join(f"{name} {rate:.3g}" for name, rate in self.evaluations_per_second.items())
        measured = f"; decoder evaluations per second: {speeds}" if speeds else ""
        return f"likelihoods in {_name(self.precision, self.compile)} ({self.reason}){measured}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Choice":
        errors = Errors(**content["errors"]) if content["errors"] else None
        values: dict[str, Any] = {**content, "errors": errors}
        return cls(**values)


def decided(vae: VAE, measurement: Measurement, kept: ResumableParts, requested: str, compiled: bool) -> Choice:
    """Returns how to compute `measurement`: as requested; for auto, as recorded in `kept`, or as chosen and recorded there
    now. All processes of a group call it together and return the choice of the first.

    Raises `InputError` for an unknown precision.
    """
    if requested not in get_args(Requested):
        raise InputError(f"--precision: expected {', '.join(get_args(Requested))}, got {requested!r}.", topic="options")
    if requested != "auto":
        return Choice("bfloat16" if requested == "bfloat16" else "float32", compiled, "as requested")
    path = kept.folder / CHOICE
    if is_first() and not path.is_file():
        choice = choose(vae, measurement, compiled)
        kept.check()
        write_json(path, choice.to_dict())
    wait_for_all()
    return Choice.from_dict(check(PrecisionChoice, read_json(path), str(path), "delete it to choose again"))


def bfloat16_decoder(vae: VAE) -> nn.Module:
    """Returns a copy of the model's decoder whose networks run in bfloat16; not compiled."""
    copy = deepcopy(vae.decoder)
    run_in_bfloat16(copy)
    return copy


def compared(exact: DensityEstimate, approximate: DensityEstimate, images: int, samples: int) -> Errors:
    """Returns the errors of `approximate`, an estimate of the same images with the same noise as `exact`, for a run of
    `images` images with `samples` samples each."""
    difference = approximate.log_prob - exact.log_prob
    scaled = exact.standard_error.square().mean().item() * exact.samples / samples
    return Errors(
        images=len(difference),
        per_image=difference.square().mean().sqrt().item(),
        per_image_monte_carlo=exact.standard_error.median().item(),
        mean=difference.mean().item(),
        mean_standard_error=(difference.var() / len(difference)).sqrt().item(),
        mean_monte_carlo=math.hypot(math.sqrt(scaled / images), scaled / 2),
    )


def choose(
    vae: VAE, measurement: Measurement, compiled: bool = False, quicker: Callable[[VAE], nn.Module] = bfloat16_decoder
) -> Choice:
    """Chooses how to compute `measurement`, with this process's threads. `vae` is not changed.

    Arguments:
        compiled: whether networks are compiled in any case.
        quicker: returns the decoder that is faster, and less precise.
    """
    return _Trials(deepcopy(vae), measurement, quicker).choice(compiled)


class _Trials:
    """Measures parts of a run in several ways."""

    def __init__(self, vae: VAE, measurement: Measurement, quicker: Callable[[VAE], nn.Module]) -> None:
        m = measurement
        self.vae, self.m, self.quicker = vae, m, quicker
        self.samples = m.samples if m.tolerance is None else min(m.samples, EXPECTED_SAMPLES)
        self.pairs = len(m.x) * self.samples
        self.pilot_samples = min(self.samples, PILOT_SAMPLES)
        self.most_images = min(len(m.x), int(PILOT_SHARE * self.pairs / self.pilot_samples))
        self.order = random_subset(len(m.x), len(m.x))
        self.rates: dict[str, float] = {}

    def choice(self, compiled: bool) -> Choice:
        if self.most_images < FEWEST_IMAGES or self.samples < 2:
            return Choice("float32", compiled, "too few samples for a pilot to pay back")
        compiled = self._compiled(compiled)
        decoder = self.quicker(self.vae)
        if compiled:
            compile_networks(decoder)
        try:
            return self._pilot(decoder, compiled)
        except RunError:  # float32 was measured before
            return Choice("float32", compiled, "bfloat16 gives a non-finite importance weight", self.rates)

    def _compiled(self, asked: bool) -> bool:
        """Compiles the model if that is asked for, or if it pays back; returns whether it is compiled."""
        self._timed(0)
        seconds = self._timed(0)[0]
        in_run = seconds * self.pairs / self._pairs_of_round()
        self._note("float32", seconds)
        if not asked and in_run * (1 - 1 / HOPED_SPEEDUP) < 2 * COMPILE_SECONDS:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reported when the run's own model is compiled
            faster = deepcopy(self.vae)
            if not compile_networks(faster):
                return False
        plain, self.vae = self.vae, faster
        first = self._timed(0)[0]
        again = min(self._timed(0)[0] for _ in range(3))
        self._note("float32 compiled", again)
        pays_back = first + in_run * again / seconds < in_run and again * LEAST_SPEEDUP < seconds
        if not asked and not pays_back:
            self.vae = plain
        return asked or pays_back

    def _pilot(self, decoder: nn.Module, compiled: bool) -> Choice:
        """Measures images in both precisions until their difference is known to be small, or not."""
        rounds, name, decide_at, errors = [], _name("bfloat16", compiled), FEWEST_IMAGES, None
        started, _ = time.perf_counter(), self._timed(0, decoder)  # compiles, and fills caches
        for start in range(0, self.most_images - PILOT_IMAGES + 1, PILOT_IMAGES):
            (seconds, exact), (fast_seconds, approximate) = self._timed(start), self._timed(start, decoder)
            rounds.append((seconds / fast_seconds, exact, approximate))
            self._note(_name("float32", compiled), seconds)
            self._note(name, fast_seconds)
            if start + PILOT_IMAGES < decide_at:
                continue
            decide_at *= 2
            exact, approximate = _joined([e for _, e, _ in rounds]), _joined([a for *_, a in rounds])
            errors = compared(exact, approximate, len(self.m.x), self.samples)
            if sorted(ratio for ratio, *_ in rounds)[len(rounds) // 2] < LEAST_SPEEDUP:
                return Choice("float32", compiled, "bfloat16 is not faster", self.rates, errors)
            if errors.small:
                return Choice("bfloat16", compiled, _found(errors, "below"), self.rates, errors)
            if errors.large or time.perf_counter() - started > PILOT_SECONDS / 2:
                break
        assert errors is not None
        return Choice("float32", compiled, _found(errors, "not shown to be below"), self.rates, errors)

    def _timed(self, start: int, approximate: nn.Module | None = None) -> tuple[float, DensityEstimate]:
        """Returns the seconds for the images from `start`, and their estimate."""
        of = self.order[start : start + PILOT_IMAGES]
        started = time.perf_counter()
        estimate = density.estimate(
            self.vae,
            self.m.x[of.to(self.m.x.device)],
            self.pilot_samples,
            indices=self.m.indices[of].tolist(),
            approximate=approximate,
            proposal=self.m.proposal,
        )
        return time.perf_counter() - started, estimate

    def _pairs_of_round(self) -> int:
        return PILOT_IMAGES * self.pilot_samples

    def _note(self, name: str, seconds: float) -> None:
        self.rates[name] = max(self.rates.get(name, 0.0), self._pairs_of_round() / seconds)


def _joined(estimates: Sequence[DensityEstimate]) -> DensityEstimate:
    of_all = [estimate.tensors() for estimate in estimates]
    values: dict[str, Tensor] = {name: torch.cat([one[name] for one in of_all]) for name in of_all[0]}
    return replace(estimates[0], **values)


def _name(precision: str, compiled: bool) -> str:
    return f"{precision}{' compiled' if compiled else ''}"


def _found(e: Errors, verdict: str) -> str:
    return (
        f"error of bfloat16 {verdict} a tenth of the Monte-Carlo error: per image {e.per_image:.2g} of "
        f"{e.per_image_monte_carlo:.2g} nats, mean {e.mean:.2g} +- {e.mean_standard_error:.1g} of {e.mean_monte_carlo:.2g}"
    )
