"""Scores of one set of features - codes, pixels, principal components - by every classifier and clustering.

A score is `{"mean", "std", "half_width_95", "subsets" or "seeds": [...]}` (see the package docstring), stored under its
measure and its number of labels or clusters: `scores["knn10_accuracy"]["1000"]`. Scores that the data do not allow are
missing, and a sentence in `scores["left_out"]` states why.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mpdvae.errors import InputError
from mpdvae.measures.intervals import estimate
from mpdvae.measures.representation.classifiers import CLASSIFIERS, FAMILIES, SVMS, LabelCount, label_subsets
from mpdvae.measures.representation.clusters import cluster
from mpdvae.measures.representation.labelled import Labelled, check
from mpdvae.measures.tables import Table, array_of
from mpdvae.seeding import derive_seed

CLUSTER_MEASURES = ("kmeans_accuracy", "kmeans_hungarian_accuracy", "kmeans_nmi", "kmeans_ari")
"""In the order of the fields of `Clustering`."""


def evaluate(
    train_codes: Table,
    train_labels: Table,
    test_codes: Table,
    test_labels: Table,
    label_counts: Sequence[LabelCount] = (100, 1_000, 10_000, "all"),
    subsets: int = 5,
    clusters: Sequence[int] = (10, 20, 30),
    cluster_seeds: int = 5,
    cluster_restarts: int = 10,
    svm_labels: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes all scores of the protocol, ready for JSON: accuracies in [0, 1], NMI and ARI. Codes and labels are
    arrays, tensors or lists.

    Arguments:
        train_codes: codes [image latent] that classifiers and clusters are fitted to.
        train_labels: labels of the training codes, as integers [image].
        test_codes: codes that they are scored on.
        test_labels: labels of the test codes.
        label_counts: sizes of the labelled subsets, drawn uniformly without replacement; redrawn if only one class occurs.
        subsets: number of random subsets of each size; with all labels there is only one.
        clusters: values of K.
        cluster_seeds: k-means runs for each K.
        cluster_restarts: starts of each run, of which the best (by inertia) is used.
        svm_labels: maximum number of labels that SVMs are trained on; None: no maximum.
        seed: seed of subsets and k-means.

    Returns:
        `{"knn10_accuracy": {"100": score, ...}, "linear_accuracy", "linear_svm_accuracy", "rbf_svm_accuracy": the same,
        "kmeans_accuracy": {"10": score, ...}, "kmeans_hungarian_accuracy", "kmeans_nmi", "kmeans_ari": the same,
        "left_out": [sentences]}`; see the module docstring. `std` and `half_width_95` are null for one value.

    Raises:
        InputError: for anything but numbers, codes and labels that do not match, non-finite codes, a single class, or counts
            below their minimum.
    """
    data = Labelled(
        array_of(train_codes, "train_codes"),
        array_of(train_labels, "train_labels"),
        array_of(test_codes, "test_codes"),
        array_of(test_labels, "test_labels"),
    )
    check(data)
    _check_counts(label_counts, clusters)
    _check_positive(subsets=subsets, cluster_seeds=cluster_seeds, cluster_restarts=cluster_restarts)
    return merged(
        classifier_scores(data, label_counts, subsets, svm_labels, seed),
        *(cluster_scores(data, k, cluster_seeds, cluster_restarts, seed) for k in clusters),
    )


def classifier_scores(
    data: Labelled, label_counts: Sequence[LabelCount], subsets: int, svm_labels: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Computes the part of `evaluate` that trains on labels: every classifier at every label count."""
    scores: dict[str, Any] = {name: {} for name in CLASSIFIERS}
    left_out: list[str] = []
    for count in label_counts:
        chosen = label_subsets(data.train_labels, count, subsets, seed)
        if isinstance(chosen, str):
            left_out.append(chosen)
            continue
        labels = len(chosen[0])
        too_many = svm_labels is not None and labels > svm_labels
        if too_many:
            left_out.append(
                f"SVMs with {labels:,} labels: their time grows with the square of the number of labels, and at most "
                f"{svm_labels:,} are allowed (evaluation.svm-labels)."
            )
        for family in [family for family in FAMILIES if not (too_many and family is SVMS)]:
            with threadpool_limits(limits=1):  # sums over several threads have no fixed order; equal seeds would differ
                by_subset = family.accuracies(data, chosen)
            for name, accuracies in zip(family.names, zip(*by_subset, strict=True), strict=True):
                scores[name][str(count)] = _spread(list(accuracies), "subsets")
    return scores | {"left_out": left_out}


def cluster_scores(data: Labelled, clusters: int, seeds: int, restarts: int = 10, seed: int = 0) -> dict[str, Any]:
    """Computes the part of `evaluate` with K = `clusters` clusters."""
    n = len(data.train_codes)
    if clusters > n:
        empty: dict[str, Any] = {name: {} for name in CLUSTER_MEASURES}
        return empty | {"left_out": [f"k-means with K = {clusters:,}: there are only {n:,} training codes."]}
    with threadpool_limits(limits=1):
        runs = [cluster(*data, clusters, derive_seed(seed, "k-means", run), restarts) for run in range(seeds)]
    by_measure = zip(CLUSTER_MEASURES, zip(*runs, strict=True), strict=True)
    return {name: {str(clusters): _spread(list(values), "seeds")} for name, values in by_measure} | {"left_out": []}


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Merges the scores of several parts of the protocol, with `left_out` last."""
    whole: dict[str, Any] = {}
    left_out: list[str] = []
    for part in parts:
        left_out += part["left_out"]
        for name, by_count in part.items():
            if name != "left_out":
                whole.setdefault(name, {}).update(by_count)
    return whole | {"left_out": left_out}


def _spread(values: list[float], name: str) -> dict[str, Any]:
    mean = estimate(values)
    return {
        "mean": mean.mean,
        "std": float(np.std(values)) if len(values) > 1 else None,
        "half_width_95": mean.half_width,
        name: values,
    }


def _check_counts(label_counts: Sequence[LabelCount], clusters: Sequence[int]) -> None:
    for count in label_counts:
        if isinstance(count, int) and count < 2:
            raise InputError(f'label_counts: expected numbers of at least 2, or "all", got {count}.')
    for k in clusters:
        if k < 1:
            raise InputError(f"clusters: expected numbers of at least 1, got {k}.")


def _check_positive(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name}: expected at least 1, got {value}.")
