"""The classifiers of the protocol, and the label subsets that they are trained on.

    10-NN         10 nearest neighbours by Euclidean distance, weighted by its inverse
    linear        logistic regression on standardised codes: L2 penalty, C = 1, L-BFGS to convergence (a gradient of at
                  most 1e-5 in every coordinate of the mean loss; codes take some 50 iterations, raw pixels some 350)
    linear SVM    one against one, hinge loss, C = 1, codes not standardised
    RBF SVM       the same with kernel exp(-gamma |z - z'|^2), gamma = 1 / (dimensions x variance of the codes)

The last three are scikit-learn's. Classifiers that share most of their work make one family: neighbours in several subsets
come from the same distances (neighbours.py), both SVMs from the same inner products. The time of an SVM grows with the
square of the number of labels, that of the others linearly.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mpdvae.measures.representation.labelled import Labelled
from mpdvae.measures.representation.neighbours import nearest, votes
from mpdvae.seeding import derive_seed

NEIGHBOURS = 10
"""Neighbours of the k-NN classifier (or all labelled codes, if fewer)."""

SUBSET_ATTEMPTS = 1000
"""Maximum number of attempts to draw a random subset with at least two classes."""

GRAM_LABELS = 10_000
"""Maximum number of labels whose inner products are held at once: 800 MB."""

TESTED_AT_ONCE = 1_000
"""Test codes whose kernel with all training codes is held at once."""

LOGISTIC_GRADIENT = 1e-5
"""Largest gradient of the mean loss, in any coordinate, at which logistic regression has converged. At 1e-3, accuracies on
raw pixels were off by 0.008."""

LOGISTIC_ITERATIONS = 5_000
"""Maximum number of L-BFGS iterations."""

LabelCount = int | Literal["all"]
"""How many labelled codes a classifier is trained on."""


class Family(NamedTuple):
    """Classifiers that are trained and tested together."""

    names: tuple[str, ...]
    """Score names."""
    accuracies: Callable[[Labelled, Sequence[np.ndarray]], list[tuple[float, ...]]]
    """From data and subsets of the training rows: for each subset the fraction of test codes that is classified correctly,
    by each of `names`."""


def nearest_neighbours(data: Labelled, subsets: Sequence[np.ndarray]) -> list[tuple[float]]:
    """Scores 10-NN."""
    neighbours = min(NEIGHBOURS, *(len(rows) for rows in subsets))
    found = nearest(data.train_codes, data.test_codes, subsets, neighbours)
    return [
        (_accuracy(votes(data.train_labels[rows][position], distances), data),)
        for rows, (position, distances) in zip(subsets, found, strict=True)
    ]


def linear_probe(data: Labelled, subsets: Sequence[np.ndarray]) -> list[tuple[float]]:
    """Scores logistic regression."""
    fitted = (logistic_regression(data.train_codes[rows], data.train_labels[rows]) for rows in subsets)
    return [(_accuracy(classifier.predict(data.test_codes), data),) for classifier in fitted]


def logistic_regression(codes: Float[np.ndarray, "_n _latent"], labels: Integer[np.ndarray, " _n"]) -> Pipeline:
    """Fits the linear classifier to convergence.

    Features without a finite optimum within `LOGISTIC_ITERATIONS` (a code so wide that it overflows) end there, silently:
    the accuracy is that of the classifier reached.
    """
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=LOGISTIC_ITERATIONS, tol=LOGISTIC_GRADIENT)
    )
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return classifier.fit(codes, labels)


def svms(data: Labelled, subsets: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Scores the linear and the RBF SVM."""
    return [
        _svms_from_products(data, rows) if len(rows) <= GRAM_LABELS else _svms_from_codes(data, rows)
        for rows in subsets
    ]


FAMILIES = (
    Family(("knn10_accuracy",), nearest_neighbours),
    Family(("linear_accuracy",), linear_probe),
    Family(("linear_svm_accuracy", "rbf_svm_accuracy"), svms),
)

CLASSIFIERS = tuple(name for family in FAMILIES for name in family.names)
"""The names of all scores."""

SVMS = FAMILIES[-1]


def label_subsets(labels: np.ndarray, count: LabelCount, subsets: int, seed: int) -> list[np.ndarray] | str:
    """Returns the rows of each random subset, drawn without replacement; or a sentence that states why there is none.

    A subset with a single class is redrawn. Subset k does not depend on the number of subsets.
    """
    n = len(labels)
    if count == "all" or count == n:
        return [np.arange(n)]
    if count > n:
        return f"classifiers with {count:,} labels: there are only {n:,} training labels."
    chosen = []
    for subset in range(subsets):
        generator = np.random.default_rng(derive_seed(seed, "labels", count, subset))
        attempts = (generator.permutation(n)[:count] for _ in range(SUBSET_ATTEMPTS))
        rows = next((rows for rows in attempts if len(np.unique(labels[rows])) > 1), None)
        if rows is None:
            return f"classifiers with {count:,} labels: {SUBSET_ATTEMPTS:,} random subsets had only a single class."
        chosen.append(rows)
    return chosen


def _accuracy(predicted: np.ndarray, data: Labelled) -> float:
    return float((predicted == data.test_labels).mean())


def _svms_from_codes(data: Labelled, rows: np.ndarray) -> tuple[float, float]:
    def score(classifier: SVC) -> float:
        classifier.fit(data.train_codes[rows], data.train_labels[rows])
        return _accuracy(classifier.predict(data.test_codes), data)

    return score(SVC(kernel="linear")), score(SVC(kernel="rbf", gamma="scale"))


def _svms_from_products(data: Labelled, rows: np.ndarray) -> tuple[float, float]:
    """Computes all inner products of codes once, by matrix products."""
    z, labels = data.train_codes[rows].astype(np.float64), data.train_labels[rows]
    spread = z.var()
    gamma = 1 / (z.shape[1] * spread) if spread > 0 else 1.0  # scikit-learn's "scale"
    squares = np.einsum("nd,nd->n", z, z)
    products = z @ z.T
    linear = SVC(kernel="precomputed").fit(products, labels)
    rbf = SVC(kernel="precomputed").fit(_rbf(products, squares, squares, gamma), labels)
    right = np.zeros(2)
    for start in range(0, len(data.test_codes), TESTED_AT_ONCE):
        part = slice(start, start + TESTED_AT_ONCE)
        tested, truth = data.test_codes[part].astype(np.float64), data.test_labels[part]
        products = tested @ z.T
        right[0] += (linear.predict(products) == truth).sum()
        kernel = _rbf(products, np.einsum("nd,nd->n", tested, tested), squares, gamma)
        right[1] += (rbf.predict(kernel) == truth).sum()
    linear_accuracy, rbf_accuracy = right / len(data.test_codes)
    return float(linear_accuracy), float(rbf_accuracy)


def _rbf(products: np.ndarray, squares: np.ndarray, other_squares: np.ndarray, gamma: float) -> np.ndarray:
    """Turns inner products into exp(-gamma |z - z'|^2), in place."""
    products *= -2
    products += squares[:, None]
    products += other_squares
    np.maximum(products, 0, out=products)
    products *= -gamma
    return np.exp(products, out=products)
