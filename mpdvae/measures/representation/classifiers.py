"""The classifiers of the protocol, from scikit-learn, and the label subsets that they are trained on.

    10-NN         10 nearest neighbours by Euclidean distance, weighted by its inverse
    linear        logistic regression on standardised codes: L2 penalty, C = 1, L-BFGS, at most 200 iterations
    linear SVM    one against one, hinge loss, C = 1, codes not standardised
    RBF SVM       the same with kernel exp(-gamma |z - z'|^2), gamma = 1 / (dimensions x variance of the codes)

The time of an SVM grows with the square of the number of labels, that of the others linearly.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mpdvae.seeding import derive_seed

NEIGHBOURS = 10
"""Neighbours of the k-NN classifier (or all labelled codes, if fewer)."""

SUBSET_ATTEMPTS = 1000
"""Maximum number of attempts to draw a random subset with at least two classes."""

LabelCount = int | Literal["all"]

CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "knn10_accuracy": lambda labels: KNeighborsClassifier(
        min(NEIGHBOURS, labels), weights="distance", algorithm="brute"
    ),
    "linear_accuracy": lambda labels: make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3)),
    "linear_svm_accuracy": lambda labels: SVC(kernel="linear"),
    "rbf_svm_accuracy": lambda labels: SVC(kernel="rbf", gamma="scale"),
}
"""For each score name, a function from the number of labels to an untrained classifier."""

SVMS = frozenset({"linear_svm_accuracy", "rbf_svm_accuracy"})


def accuracy(
    classifier: Any, train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """Fits `classifier` to the training codes and returns the fraction of test codes classified correctly. A fit that ends
    at its iteration limit gives no warning."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        classifier.fit(train, train_labels)
        return float((classifier.predict(test) == test_labels).mean())


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
