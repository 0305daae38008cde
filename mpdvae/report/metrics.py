r"""The numbers of a run by name, each with its label, unit and number of digits.

Names are those of results.json: `nll_nats`, `kl_nats`, ... and, for accuracies, the measure and its number of labels or
clusters, as in `knn10_accuracy/1000`. A measure with `/largest` stands for the largest count that was measured.

`diversity_share` is the diversity penalty of the whole evaluation set divided by that of a collapsed model, K ln 2:

.. math:: \frac{1}{K \ln 2} \sum_k \log(1 + e^{-\overline{KL}_k}), \qquad 1 \text{ at collapse}, \; \to 0 \text{ when
          every dimension's mean divergence } \overline{KL}_k \text{ is large.}
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mpdvae.measures.intervals import Estimate, estimate
from mpdvae.report.collect import Run, Variant
from mpdvae.report.schema import Accuracy, Disentanglement, MeanAndError, Referee


@dataclass(frozen=True)
class Metric:
    """How a number is displayed."""

    name: str
    label: str
    unit: str
    digits: int


FIXED = [
    Metric("negative_elbo_nats", "Negative ELBO", "nats", 2),
    Metric("nll_nats", "NLL, importance-weighted", "nats", 2),
    Metric("nll_monte_carlo_error_nats", "NLL: Monte-Carlo error", "nats", 3),
    Metric("nll_standard_error_nats", "NLL: standard error over images", "nats", 2),
    Metric("kl_nats", "KL from prior (rate)", "nats", 2),
    Metric("reconstruction_nats", "Reconstruction (distortion)", "nats", 2),
    Metric("bits_per_dim", "NLL", "bits/dim", 4),
    Metric("referee_annealed_nll_nats", "Real images: NLL, annealed", "nats", 2),
    Metric("referee_weighted_nll_nats", "Real images: NLL, importance-weighted", "nats", 2),
    Metric("referee_simulated_nll_at_least_nats", "Simulated images: NLL, lower bound", "nats", 2),
    Metric("referee_simulated_weighted_nll_nats", "Simulated images: NLL, importance-weighted", "nats", 2),
    Metric("referee_simulated_nll_at_most_nats", "Simulated images: NLL, upper bound", "nats", 2),
    Metric("mutual_information_nats", "Mutual information, lower bound", "nats", 2),
    Metric("mutual_information_upper_nats", "Mutual information, upper bound", "nats", 2),
    Metric("aggregate_kl_nats", "KL of the aggregate posterior from the prior", "nats", 2),
    Metric("dimension_wise_kl_nats", "Dimension-wise KL from the prior, summed", "nats", 2),
    Metric("total_correlation_nats", "Total correlation", "nats", 2),
    Metric("identity_residual", "MPD − mutual − lautum information", "standard errors", 1),
    Metric("another_code_nats", "Distortion increase: another image's code", "nats", 2),
    Metric("prior_code_nats", "Distortion increase: code from the prior", "nats", 2),
    Metric("mean_code_nats", "Distortion increase: mean code", "nats", 2),
    Metric("used_dimensions", "Dimensions whose swap costs at least 0.01 nats", "", 1),
    Metric("active_units", "Active units", "", 1),
    Metric("mpd_mean_nats", "MPD, mean over pairs", "nats", 1),
    Metric("mpd_std_nats", "MPD, spread over pairs", "nats", 1),
    Metric("diversity_share", "Diversity penalty (1: collapsed)", "", 3),
    Metric("pareto_share", "Images with unreliable weights (Pareto k)", "", 3),
    Metric("mig", "MIG", "", 3),
    Metric("dci_disentanglement", "DCI: disentanglement", "", 3),
    Metric("dci_completeness", "DCI: completeness", "", 3),
    Metric("dci_informativeness", "DCI: informativeness", "", 3),
    Metric("sap", "SAP", "", 3),
    Metric("modularity", "Modularity", "", 3),
    Metric("explicitness", "Explicitness (chance: 0.5)", "", 3),
]

MEASURES = {
    "knn10_accuracy": ("10-NN", "labels"),
    "linear_accuracy": ("Linear", "labels"),
    "linear_svm_accuracy": ("Linear SVM", "labels"),
    "rbf_svm_accuracy": ("RBF SVM", "labels"),
    "kmeans_accuracy": ("k-means", "K"),
    "kmeans_hungarian_accuracy": ("k-means, one class per cluster", "K"),
    "kmeans_nmi": ("k-means, NMI", "K"),
    "kmeans_ari": ("k-means, ARI", "K"),
}
USED_NATS = 0.01
"""Minimum increase in distortion for which the decoder is considered to use a dimension."""


def diversity_share(run: Run) -> float | None:
    """Returns the diversity share (see the module docstring); None if the divergence per dimension is not recorded."""
    divergences = run.diagnostics.mpd_per_dimension_nats
    if not divergences or any(value is None for value in divergences):
        return None
    penalty = sum(math.log1p(math.exp(-max(value, 0.0))) for value in divergences if value is not None)
    return penalty / (len(divergences) * math.log(2))


def _of_referee(read: Callable[[Referee], MeanAndError]) -> Callable[[Run], float | None]:
    """Returns a reader of one mean of the likelihood check; None for a run without that check."""
    return lambda run: None if run.density.referee is None else read(run.density.referee).mean


def mutual_information_lower(run: Run) -> float | None:
    """Returns the lower bound from the draws of the upper one, so that they do not cross; without one, that of the
    diagnostics."""
    if run.information is None:
        return run.diagnostics.mutual_information_nats
    return run.information.mutual_information.lower_bound.nats


def used_dimensions(run: Run) -> float | None:
    """Counts the dimensions whose swap with another image's code raises the distortion by at least `USED_NATS`."""
    if run.code_use is None:
        return None
    swapped = run.code_use.increase_per_dimension_nats.swapped
    return float(sum(increase.mean is not None and increase.mean >= USED_NATS for increase in swapped))


def _of_factors(read: Callable[[Disentanglement], float | None]) -> Callable[[Run], float | None]:
    """Returns a reader of one measure of disentanglement; None for a run on data whose factors are not known."""
    return lambda run: None if run.disentanglement is None else read(run.disentanglement)


_VALUES: dict[str, Callable[[Run], float | None]] = {
    "negative_elbo_nats": lambda run: run.density.negative_elbo_nats.mean,
    "nll_nats": lambda run: run.density.nll_nats.mean,
    "nll_monte_carlo_error_nats": lambda run: run.density.nll_monte_carlo_error_nats,
    "nll_standard_error_nats": lambda run: run.density.nll_nats.standard_error,
    "kl_nats": lambda run: run.density.kl_nats.mean,
    "reconstruction_nats": lambda run: (
        run.density.reconstruction_nats.mean if run.density.reconstruction_nats else None
    ),
    "bits_per_dim": lambda run: run.density.bits_per_dim.mean if run.density.bits_per_dim else None,
    "referee_annealed_nll_nats": _of_referee(lambda referee: referee.of_split.annealed),
    "referee_weighted_nll_nats": _of_referee(lambda referee: referee.of_split.weighted),
    "referee_simulated_nll_at_least_nats": _of_referee(lambda referee: referee.simulated.at_least),
    "referee_simulated_weighted_nll_nats": _of_referee(lambda referee: referee.simulated.weighted),
    "referee_simulated_nll_at_most_nats": _of_referee(lambda referee: referee.simulated.at_most),
    "mutual_information_nats": mutual_information_lower,
    "mutual_information_upper_nats": lambda run: (
        run.information.mutual_information.upper_bound.nats if run.information else None
    ),
    "aggregate_kl_nats": lambda run: run.information.aggregate_kl.nats if run.information else None,
    "dimension_wise_kl_nats": lambda run: (
        run.information.dimension_wise_kl.nats if run.information and run.information.dimension_wise_kl else None
    ),
    "total_correlation_nats": lambda run: run.information.total_correlation.nats if run.information else None,
    "identity_residual": lambda run: run.information.identity_residual_in_standard_errors if run.information else None,
    "another_code_nats": lambda run: run.code_use.increase_nats.another.mean if run.code_use else None,
    "prior_code_nats": lambda run: run.code_use.increase_nats.prior.mean if run.code_use else None,
    "mean_code_nats": lambda run: run.code_use.increase_nats.mean.mean if run.code_use else None,
    "used_dimensions": used_dimensions,
    "active_units": lambda run: run.diagnostics.active_units,
    "mpd_mean_nats": lambda run: run.diagnostics.mpd_mean_nats,
    "mpd_std_nats": lambda run: run.diagnostics.mpd_std_nats,
    "diversity_share": diversity_share,
    "pareto_share": lambda run: run.density.pareto_k.share_above,
    "mig": _of_factors(lambda found: found.mig.score),
    "dci_disentanglement": _of_factors(lambda found: found.dci.disentanglement),
    "dci_completeness": _of_factors(lambda found: found.dci.completeness),
    "dci_informativeness": _of_factors(lambda found: found.dci.informativeness),
    "sap": _of_factors(lambda found: found.sap.score),
    "modularity": _of_factors(lambda found: found.modularity.score),
    "explicitness": _of_factors(lambda found: found.explicitness.score),
}


def value(run: Run, name: str) -> float | None:
    """Returns one number of a run; None if it was not measured or is not finite."""
    if "/" not in name:
        return _VALUES[name](run)
    measure, count = name.split("/")
    accuracy = _accuracies(run, measure).get(count)
    return None if accuracy is None else accuracy.mean


def values(variant: Variant, name: str) -> dict[int, float]:
    """Returns a metric by seed, for the runs that have it."""
    found = {run.seed: value(run, name) for run in variant.runs}
    return {seed: number for seed, number in found.items() if number is not None}


def over_seeds(variant: Variant, name: str) -> Estimate | None:
    """Returns mean and interval over the seeds that have the metric; None if no seed has it."""
    numbers = values(variant, name)
    return estimate(list(numbers.values())) if numbers else None


def counts(runs: Iterable[Run], measure: str) -> list[str]:
    """Returns the numbers of labels or clusters at which any run was measured, ascending; "all" comes last."""
    found = {count for run in runs for count in _accuracies(run, measure)}
    return sorted(found, key=lambda count: (float(count) if count.isdecimal() else math.inf, count))


def accuracy_metrics(runs: Iterable[Run]) -> list[Metric]:
    """Returns one metric for each measure and count in these runs."""
    runs = list(runs)
    return [accuracy_metric(measure, count) for measure in MEASURES for count in counts(runs, measure)]


def accuracy_metric(measure: str, count: str) -> Metric:
    title, noun = MEASURES[measure]
    number = f"{int(count):,}" if count.isdecimal() else count
    label = f"{title}, K = {number}" if noun == "K" else f"{title}, {number} labels"
    if count == "largest":
        label = f"{title} accuracy"
    return Metric(f"{measure}/{count}", label, "", 3)


def all_metrics(runs: Iterable[Run]) -> list[Metric]:
    """Returns all metrics that results.json contains for these runs."""
    return FIXED + accuracy_metrics(runs)


def metric(name: str) -> Metric:
    """Returns the metric of this name."""
    if "/" in name:
        return accuracy_metric(*name.split("/"))
    return next(metric for metric in FIXED if metric.name == name)


def resolve(name: str, variants: Iterable[Variant]) -> str | None:
    """Resolves `measure/largest` to the largest count at which all these variants were measured; None if there is none."""
    if not name.endswith("/largest"):
        return name
    measure = name.removesuffix("/largest")
    common = [set(counts(variant.runs, measure)) for variant in variants]
    shared = set.intersection(*common) if common else set()
    ordered = [count for count in counts((run for v in variants for run in v.runs), measure) if count in shared]
    return f"{measure}/{ordered[-1]}" if ordered else None


def _accuracies(run: Run, measure: str) -> dict[str, Accuracy]:
    return {} if run.representation is None else getattr(run.representation, measure)
