"""Representation: what the codes of images know about their labels.

The protocol of MAE (Ma, Zhou & Hovy, ICLR 2019, https://arxiv.org/abs/1901.01498), as its released evaluation code has
it:

- the code of an image is the mean of its posterior (the authors average 50 posterior samples: `posterior_samples`; they
  threshold grey levels at 0.5 first, which is for the caller to do);
- k-nearest neighbours: 10 neighbours, weighted by inverse distance;
- a linear classifier;
- both trained on 100, 1,000, 10,000 and all labels, the former on several random subsets;
- k-means with K = 10, 20, 30 (k-means++, 10 restarts), fitted on all training codes without labels; a cluster takes the
  majority label of its training codes.

Every score is the share of *test* images that get their true label. Spread is the population standard deviation over
subsets (or k-means seeds), as the authors give it: noise of the evaluation, not of training.

One thing differs. The authors' linear probe is SGD whose "best" weights are a live reference that restores nothing, and
whose step size goes on falling because a counter is never reset. Here it is logistic regression on standardised codes
(L2 penalty, C = 1, L-BFGS), which has one optimum and no schedule; it ends after 200 iterations at the latest.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.distributions import Independent, Normal

from mpdvae.density import evaluating
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError, RunError
from mpdvae.seeding import derive_seed
from mpdvae.vae import VAE

NEIGHBOURS = 10
"""Neighbours of the k-NN classifier (all labelled codes, where those are fewer)."""

SUBSET_ATTEMPTS = 1000
"""Random subsets that are drawn before giving up on one with two classes."""

LabelCount = int | Literal["all"]


def codes(
    vae: VAE,
    x: Float[Tensor, "n channel height width"],
    batch_size: int = 500,
    posterior_samples: int | None = None,
    seed: int = 0,
) -> Float32[np.ndarray, "n latent"]:
    """The code of each image: its posterior mean, flattened.

    Arguments:
        vae: the model; used in evaluation mode and left in the mode it came in.
        x: images in the range that the model was made for.
        batch_size: images that the encoder sees at a time; changes nothing beyond rounding.
        posterior_samples: average this many samples of the posterior instead (the authors: 50). The average of S
            samples of N(m, s^2) has the law N(m, s^2 / S), from which it is drawn.
        seed: of those samples.

    Raises:
        InputError: for no images, a batch size or a sample count below one.
        RunError: for a posterior that is not finite; names the image.
    """
    if posterior_samples is not None and posterior_samples < 1:
        raise InputError(f"posterior_samples: expected at least 1 (or None for the mean), got {posterior_samples}.")
    q = posteriors(vae, x, batch_size)
    z = q.mean
    if posterior_samples is not None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "codes"))
        z = z + q.stddev * torch.randn(z.shape, generator=generator) / posterior_samples**0.5
    return z.float().numpy()


def posteriors(vae: VAE, x: Float[Tensor, "n channel height width"], batch_size: int = 500) -> Independent:
    """q(z|x) of all images: diagonal Gaussian, batch shape [n], event shape [latent] (flattened), float64 on the CPU.

    Raises:
        InputError: for no images, a batch size below one, or a posterior that is not a diagonal Gaussian.
        RunError: for a posterior that is not finite; names the image.
    """
    if x.ndim != 4 or len(x) == 0:
        raise InputError(f"x: expected images [n channel height width], at least one, got shape {tuple(x.shape)}.")
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}.")
    with torch.no_grad(), evaluating(vae):
        parts = [diagonal_normal(vae.encoder(batch)) for batch in x.split(batch_size)]
    mean = torch.cat([part.loc.flatten(1).cpu().double() for part in parts])
    stddev = torch.cat([part.scale.flatten(1).cpu().double() for part in parts])
    broken = (~(mean.isfinite() & stddev.isfinite() & (stddev > 0))).any(1).nonzero()
    if len(broken):
        raise RunError(
            f"the posterior of image {broken[0].item()} is not finite ({len(broken):,} of {len(x):,} are not); "
            "check that training did not diverge and that x is in the model's range."
        )
    return Independent(Normal(mean, stddev), 1)


def evaluate(
    train_codes: Float[np.ndarray, "_train _latent"],
    train_labels: Integer[np.ndarray, " _train"],
    test_codes: Float[np.ndarray, "_test _latent"],
    test_labels: Integer[np.ndarray, " _test"],
    label_counts: Sequence[LabelCount] = (100, 1_000, 10_000, "all"),
    subsets: int = 5,
    clusters: Sequence[int] = (10, 20, 30),
    cluster_seeds: int = 5,
    cluster_restarts: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Test accuracies in [0, 1] of the three classifiers, ready for JSON.

    Arguments:
        train_codes, train_labels: what classifiers and clusters are fitted on.
        test_codes, test_labels: what they are scored on.
        label_counts: sizes of the labelled subsets, drawn uniformly without replacement, again where one class came.
        subsets: random subsets of each size; all labels make one.
        clusters: values of K.
        cluster_seeds: k-means runs for each K.
        cluster_restarts: starts of each run, the best of which (by inertia) counts.
        seed: of subsets and k-means.

    Returns:
        `{"knn10_accuracy": {"100": {"mean", "std", "subsets": [...]}, ...}, "linear_accuracy": the same,
        "kmeans_accuracy": {"10": {"mean", "std", "seeds": [...]}, ...}, "left_out": [sentences]}`. `std` is null for
        one value. A count or K that the data cannot give is missing, and a sentence in `left_out` says why.

    Raises:
        InputError: for codes and labels that do not fit together, codes that are not finite, a single class, or counts
            below their minimum.
    """
    _check_data(train_codes, train_labels, test_codes, test_labels)
    _check_counts(label_counts, clusters)
    _check_positive(subsets=subsets, cluster_seeds=cluster_seeds, cluster_restarts=cluster_restarts)
    left_out: list[str] = []
    knn: dict[str, Any] = {}
    linear: dict[str, Any] = {}
    for count in label_counts:
        chosen = _subsets(train_labels, count, subsets, seed, left_out)
        for scores, make in ((knn, _nearest_neighbours), (linear, _linear_probe)) if chosen else ():
            accuracies = [
                _accuracy(make(len(rows)), train_codes[rows], train_labels[rows], test_codes, test_labels)
                for rows in chosen
            ]
            scores[str(count)] = _spread(accuracies, "subsets")
    kmeans: dict[str, Any] = {}
    for k in clusters:
        if k > len(train_codes):
            left_out.append(f"k-means with K = {k:,}: there are only {len(train_codes):,} training codes.")
            continue
        accuracies = [
            cluster_accuracy(
                train_codes,
                train_labels,
                test_codes,
                test_labels,
                k,
                derive_seed(seed, "k-means", run),
                cluster_restarts,
            )
            for run in range(cluster_seeds)
        ]
        kmeans[str(k)] = _spread(accuracies, "seeds")
    return {"knn10_accuracy": knn, "linear_accuracy": linear, "kmeans_accuracy": kmeans, "left_out": left_out}


def cluster_accuracy(
    train_codes: Float[np.ndarray, "_train _latent"],
    train_labels: Integer[np.ndarray, " _train"],
    test_codes: Float[np.ndarray, "_test _latent"],
    test_labels: Integer[np.ndarray, " _test"],
    clusters: int,
    seed: int,
    restarts: int = 10,
) -> float:
    """Share of test codes whose cluster's majority training label is their own.

    Ties go to the smallest label. One thread, since sums over threads come in no fixed order: equal seeds would differ.
    """
    kmeans = KMeans(clusters, init="k-means++", n_init=restarts, max_iter=300, tol=1e-4, random_state=seed % 2**32)  # pyright: ignore[reportArgumentType] - "auto" is the stub's guess
    with _quiet(), threadpool_limits(limits=1):
        train_clusters = kmeans.fit_predict(train_codes)
        test_clusters = kmeans.predict(test_codes)
    classes, label_index = np.unique(train_labels, return_inverse=True)
    votes = np.zeros((clusters, len(classes)), dtype=np.int64)
    np.add.at(votes, (train_clusters, label_index), 1)
    predicted = classes[votes.argmax(1)][test_clusters]
    return float((predicted == test_labels).mean())


def _nearest_neighbours(labels: int) -> KNeighborsClassifier:
    return KNeighborsClassifier(min(NEIGHBOURS, labels), weights="distance", algorithm="brute")


def _linear_probe(labels: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))


def _accuracy(classifier: Any, train_codes: Any, train_labels: Any, test_codes: Any, test_labels: Any) -> float:
    with _quiet():
        classifier.fit(train_codes, train_labels)
        return float((classifier.predict(test_codes) == test_labels).mean())


def _subsets(labels: np.ndarray, count: LabelCount, subsets: int, seed: int, left_out: list[str]) -> list[np.ndarray]:
    """Rows of each subset; none, with a sentence in `left_out`, where the data cannot give it."""
    n = len(labels)
    if count == "all" or count == n:
        return [np.arange(n)]
    if count > n:
        left_out.append(f"classifiers with {count:,} labels: there are only {n:,} training labels.")
        return []
    chosen = []
    for subset in range(subsets):
        generator = np.random.default_rng(derive_seed(seed, "labels", count, subset))
        attempts = (generator.permutation(n)[:count] for _ in range(SUBSET_ATTEMPTS))
        rows = next((rows for rows in attempts if len(np.unique(labels[rows])) > 1), None)
        if rows is None:
            left_out.append(
                f"classifiers with {count:,} labels: {SUBSET_ATTEMPTS:,} random subsets held a single class."
            )
            return []
        chosen.append(rows)
    return chosen


def _spread(accuracies: list[float], name: str) -> dict[str, Any]:
    return {
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies)) if len(accuracies) > 1 else None,
        name: accuracies,
    }


def _quiet() -> warnings.catch_warnings:
    """Silences a fit that ends at its iteration limit and k-means on fewer distinct codes than clusters."""
    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)


def _check_data(
    train_codes: np.ndarray, train_labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray
) -> None:
    for name, z, labels in (("train", train_codes, train_labels), ("test", test_codes, test_labels)):
        if len(z) == 0:
            raise InputError(f"{name}_codes: expected at least one code, got none.")
        if len(z) != len(labels):
            raise InputError(f"{name}_labels: expected one for each of {len(z):,} codes, got {len(labels):,}.")
        _refuse_broken_codes(f"{name}_codes", z)
    if train_codes.shape[1] != test_codes.shape[1]:
        raise InputError(
            f"test_codes: expected {train_codes.shape[1]} dimensions as in train_codes, got {test_codes.shape[1]}."
        )
    classes = np.unique(train_labels)
    if len(classes) < 2:
        raise InputError(f"train_labels: expected at least 2 classes, got only the label {classes[0]}.")


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


def _refuse_broken_codes(name: str, z: np.ndarray) -> None:
    broken = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if len(broken):
        raise InputError(
            f"{name}: the code of image {broken[0]} is not finite ({len(broken):,} of {len(z):,} are not)."
        )
