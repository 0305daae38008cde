"""Diagnoses what happened to the code of a run, from its records: findings in words, their causes, and what to try.

    diagnose(experiment, history, diagnostics) -> Diagnosis

reads no model and no data set. Fields that a run did not record, because it has not got that far or was made by an earlier
version, are reported as unknown; nothing is guessed. The modules that measure the quantities explain their meaning:
information, active units and mutual information in `mpdvae.measures.code_diagnostics`, gradients in
`mpdvae.objectives.term_gradients`, lag in `mpdvae.measures.encoder_lag`, code use in `mpdvae.measures.code_use`, the noise of
Gaussian pixels in `mpdvae.measures.linear_threshold`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from mpdvae.evaluation.advice import Advice, advise, first_to_try
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.remedies import CAUSES, Cause, as_options
from mpdvae.measures import collapse
from mpdvae.measures.collapse import COLLAPSE_NATS

LAG_NATS = 1.0
"""Lag above which the encoder is reported to be behind, if the lag also exceeds twice its standard error."""
CODE_USE_NATS = collapse.WEAK_NATS
"""Code use below which the decoder is reported to do almost without z."""
FALLING_NATS = 0.4
"""Fall of the negative ELBO over the last quarter of training above which a longer training is advised: the smallest
difference in likelihood that matters (`mpdvae.report.claims`)."""
ANNEALED = 0.5
"""Fraction of the learning rate that is left at the end below which a schedule is said to anneal it."""
TOTAL = "total"
"""Key of the norm of the sum of all terms in the gradient norms."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One sentence about one matter."""

    matter: str
    sentence: str


@dataclass(frozen=True)
class Diagnosis:
    """What is known about the code of a run."""

    verdict: str
    """Verdict with the step at which it became true."""
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    """Quantities that the run did not record."""
    images: str
    """Of which images the findings are, if the verdict is of others; otherwise empty."""
    causes: tuple[Cause, ...]
    """Causes of the collapse, in the order of `CAUSES`; empty without a collapse."""
    advice: tuple[Advice, ...]
    """Remedies that suit the run, in the order in which to try them; those against its causes first."""
    longer: tuple[str, ...]
    """Options for a longer training, if the loss still fell at the end; otherwise empty."""
    information_per_dimension_nats: tuple[float, ...]
    """Empty if unknown."""


def diagnose(experiment: Experiment, history: Sequence[Record], diagnostics: Record | None) -> Diagnosis | None:
    """Returns the diagnosis of one run; None if nothing has been measured yet.

    Arguments:
        experiment: experiment of the run.
        history: entries of history.jsonl.
        diagnostics: content of diagnostics.json if the run is finished; it overrides the last entry of the history.
    """
    newest = {**(history[-1] if history else {}), **(diagnostics or {})}
    if not newest:
        return None
    parts = {
        "information per dimension": _units(newest, history),
        "mutual information": _information(newest),
        "active units over thresholds": _active(newest),
        "gradient norms": _terms(newest, history),
        "encoder lag": _encoder(newest, history),
        "use of the code by the decoder": _decoder(newest),
    }
    causes = _causes(newest)
    return Diagnosis(
        verdict=verdict(history, newest),
        findings=tuple(
            part for part in (*parts.values(), _threshold(newest), _training(experiment, history)) if part is not None
        ),
        unknown=tuple(name for name, part in parts.items() if part is None),
        images=str((diagnostics or {}).get("split", "")) if history else "",
        causes=causes,
        advice=first_to_try(advise(experiment), causes),
        longer=_longer(experiment, history),
        information_per_dimension_nats=tuple(map(float, newest.get("information_per_dimension_nats") or ())),
    )


def verdict(history: Sequence[Record], otherwise: Record) -> str:
    """Returns the newest verdict of a history with the step at which it became true; without a history, that of
    `otherwise`."""
    if not history:
        return collapse.sentence(otherwise.get("verdict", "not known"), None)
    step = history[-1].get("verdict_since_step")
    return collapse.sentence(history[-1]["verdict"], step, first=step == history[0]["step"])


def _units(newest: Record, history: Sequence[Record]) -> Finding | None:
    information = newest.get("information_per_dimension_nats")
    if information is None:
        return None
    idle = [k for k, nats in enumerate(information) if nats < COLLAPSE_NATS]
    units, most = len(information), max(information)
    sentence = f"the {units} units carry at most {sum(information):z.2f} nats in all, one at most {most:z.3g}"
    if not idle:
        return Finding("units", sentence + "; none is idle")
    sentence += f"; {len(idle)} {'is' if len(idle) == 1 else 'are'} idle ({_ranges(idle)})"
    carried = [(nats, step, k) for k in idle for step, nats in _course(history, k) if nats >= COLLAPSE_NATS]
    if carried:
        lost, last, (nats, step, k) = len({k for _, _, k in carried}), max(step for _, step, _ in carried), max(carried)
        sentence += f", of which {lost} carried more before, the last until step {last}"
        sentence += f" (the most: unit {k}, {nats:z.3g} nats at step {step})"
    elif history and "information_per_dimension_nats" in history[0]:
        sentence += ", and never carried more at any evaluation point"
    return Finding("units", sentence)


def _information(newest: Record) -> Finding | None:
    nats, ceiling = newest.get("mutual_information_nats"), newest.get("mutual_information_ceiling_nats")
    if nats is None or ceiling is None:
        return None
    sentence = f"image and code share at least {nats:z.2f} nats, of the {ceiling:z.2f} that so many images can show"
    if newest.get("mutual_information_saturated"):
        sentence += " (saturated: it may be far more)"
    if newest.get("mutual_information_upper_nats") is not None:
        sentence += f", and at most {newest['mutual_information_upper_nats']:z.2f}"
    if newest.get("mpd_mean_nats") is not None:
        sentence += (
            f"; posteriors of two images are {newest['mpd_mean_nats']:z.1f} ± {newest['mpd_std_nats']:z.1f} nats apart"
        )
    return Finding("information", sentence)


def _active(newest: Record) -> Finding | None:
    counts = newest.get("active_units_by_variance")
    if counts is None:
        return None
    shown = ", ".join(f"{count} above {threshold}" for threshold, count in counts.items())
    return Finding("active units", f"by the variance of the posterior mean: {shown}")


def _terms(newest: Record, history: Sequence[Record]) -> Finding | None:
    norms = newest.get("gradient_norms")
    if norms is None:
        return None
    # Norms are unbiased estimates, clipped at 0: there is less than their noise.
    told = {name: f"{norm:.3g}" if norm > 0 else "too little to tell" for name, norm in norms.items()}
    shown = ", ".join(f"{name} {norm}" for name, norm in told.items() if name != TOTAL)
    sentence = f"an image's (m, log s^2) is pulled by {shown}; by all together {told[TOTAL]}"
    others = _strongest_other(norms)
    if "reconstruction" not in norms or others is None:
        return Finding("gradients", sentence)
    if norms["reconstruction"] >= norms[others]:
        return Finding("gradients", f"{sentence}: the reconstruction pulls hardest")
    step = _since_outweighed(history)
    return Finding(
        "gradients",
        f"{sentence}: {others} outweighs the reconstruction" + ("" if step is None else f", since step {step}"),
    )


def _encoder(newest: Record, history: Sequence[Record]) -> Finding | None:
    lag = newest.get("encoder_lag")
    if lag is None:
        return None
    gain, error = lag["gain_nats"], lag["gain_standard_error_nats"]
    sentence = (
        f"{lag['steps']} gradient steps on the posteriors of {lag['images']} images gain {gain:z.2f} ± {error:z.2f} nats "
        f"of ELBO: the encoder {'lags behind' if _lags(newest) else 'keeps up with'} the decoder"
    )
    course = [(entry["encoder_lag"]["gain_nats"], entry["step"]) for entry in history if "encoder_lag" in entry]
    if course and max(course)[0] > gain:
        sentence += f" (the most was {max(course)[0]:z.2f} nats, at step {max(course)[1]})"
    return Finding("encoder", sentence)


def _decoder(newest: Record) -> Finding | None:
    nats = newest.get("code_use_nats")
    if nats is None:
        return None
    words = "the decoder could almost do without z" if nats < CODE_USE_NATS else "the decoder uses z"
    return Finding("decoder", f"given the code of another image, it loses {nats:z.2f} nats of log p(x|z): {words}")


def _threshold(newest: Record) -> Finding | None:
    """Compares the noise of Gaussian pixels with the spectrum of the images; None for other pixels."""
    linear = newest.get("linear_threshold")
    if linear is None:
        return None
    above, units = linear["directions_above"], linear["units"]
    sentence = (
        f"{above} {'direction of the images has' if above == 1 else 'directions of the images have'} more variance (at most "
        f"{linear['largest_eigenvalue']:z.3g}) than beta sigma^2 = {linear['threshold']:z.3g}: "
    )
    if not above:
        return Finding("noise", sentence + "a linear decoder would collapse, too, however it is trained")
    idle = f"and leave {units - above} of {units} idle" if above < units else f"with all {units} units"
    return Finding("noise", f"{sentence}a linear decoder would code {linear['linear_rate_nats']:z.1f} nats {idle}")


def _training(experiment: Experiment, history: Sequence[Record]) -> Finding | None:
    """Says how the negative ELBO changed over the last quarter of a training that is over."""
    fall = fall_at_the_end(experiment, history)
    if fall is None:
        return None
    if fall > FALLING_NATS:
        return Finding(
            "training", f"the negative ELBO fell by {fall:z.2f} nats in the last quarter: it was not over yet"
        )
    moved = f"fell by {fall:z.2f}" if fall >= 0 else f"rose by {-fall:z.2f}"
    return Finding("training", f"the negative ELBO {moved} nats in the last quarter")


def _longer(experiment: Experiment, history: Sequence[Record]) -> tuple[str, ...]:
    fall, steps = fall_at_the_end(experiment, history), experiment.training.steps
    if fall is None or fall <= FALLING_NATS:
        return ()
    options: dict[str, float] = {"training__steps": 2 * steps}
    if experiment.training.decay_per_step**steps < ANNEALED:  # the same rate at the end
        options["training__decay_per_step"] = round(math.sqrt(experiment.training.decay_per_step), 8)
    return tuple(as_options(options))


def fall_at_the_end(experiment: Experiment, history: Sequence[Record]) -> float | None:
    """Returns by how much the negative ELBO fell over the last quarter of the steps, on validation images; None before the
    end, and with a single evaluation point. Between two points it is taken to fall evenly."""
    steps = experiment.training.steps
    points = [(entry["step"], entry["negative_elbo_nats"]) for entry in history if "negative_elbo_nats" in entry]
    if len(points) < 2 or points[-1][0] < steps:
        return None
    at, nats = zip(*points, strict=True)
    return float(np.interp(0.75 * steps, at, nats) - nats[-1])


def _causes(newest: Record) -> tuple[Cause, ...]:
    """An encoder that lags costs likelihood; it is a cause of collapse only where there is one."""
    lacks, unused = _lacks_information(newest), newest.get("code_use_nats", CODE_USE_NATS) < CODE_USE_NATS
    found: dict[Cause, bool] = {
        "decoder": unused,
        "encoder": (lacks or unused) and "encoder_lag" in newest and _lags(newest),
        "price": lacks,
    }
    return tuple(cause for cause in CAUSES if found[cause])


def _lacks_information(newest: Record) -> bool:
    """Returns whether the verdict follows from the information of the code or from its units; without a recorded mutual
    information, whether any unit is idle."""
    units = newest.get("information_per_dimension_nats") or ()
    idle = sum(nats < COLLAPSE_NATS for nats in units)
    nats, ceiling = newest.get("mutual_information_nats"), newest.get("mutual_information_ceiling_nats")
    if nats is None or ceiling is None:
        return idle > 0
    return collapse.judge(idle, len(units), float(nats), float(ceiling)).reason is not None


def _lags(entry: Record) -> bool:
    lag = entry["encoder_lag"]
    return lag["gain_nats"] > max(LAG_NATS, 2 * lag["gain_standard_error_nats"])


def _course(history: Sequence[Record], unit: int) -> list[tuple[int, float]]:
    """Returns (step, nats) of one unit at the evaluation points that recorded it."""
    key = "information_per_dimension_nats"
    return [(entry["step"], entry[key][unit]) for entry in history if key in entry]


def _strongest_other(norms: Record) -> str | None:
    """Returns the term other than the reconstruction that pulls hardest."""
    others = [name for name in norms if name not in ("reconstruction", TOTAL)]
    return max(others, key=lambda name: norms[name], default=None)


def _since_outweighed(history: Sequence[Record]) -> int | None:
    """Returns the step since which some term has outweighed the reconstruction at every evaluation point."""
    first = None
    for entry in reversed(history):
        norms = entry.get("gradient_norms")
        other = None if norms is None else _strongest_other(norms)
        if norms is None or other is None or norms.get("reconstruction", math.inf) >= norms[other]:
            break
        first = entry["step"]
    return first


def _ranges(numbers: Sequence[int]) -> str:
    """Returns sorted numbers as ranges: 0-3, 7, 9-12."""
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ends)
