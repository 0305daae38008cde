"""Classifiers that share their work against scikit-learn's, one by one."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from mpdvae.measures.representation import classifiers
from mpdvae.measures.representation.classifiers import logistic_regression, nearest_neighbours, svms
from mpdvae.measures.representation.labelled import Labelled


def digits(kind: str) -> Labelled:
    x, labels = load_digits(return_X_y=True)
    x = {"grey": x / 16, "binary": x > 7, "one feature": x[:, 20:21]}[kind].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    return Labelled(*(part[order[rows]] for rows in (slice(900), slice(900, None)) for part in (x, labels)))


def one_by_one(data: Labelled, subsets: list[np.ndarray], *makers) -> list[tuple[float, ...]]:
    def score(classifier, rows: np.ndarray) -> float:
        predicted = classifier.fit(data.train_codes[rows], data.train_labels[rows]).predict(data.test_codes)
        return float((predicted == data.test_labels).mean())

    return [tuple(score(make(), rows) for make in makers) for rows in subsets]


SUBSETS = [np.arange(40), np.random.default_rng(1).permutation(900)[:300], np.arange(900)]


@pytest.mark.parametrize("at_once", [1000, 64])
@pytest.mark.parametrize("kind", ["grey", "binary", "one feature"])
def test_svms(kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch):
    data = digits(kind)
    expected = one_by_one(data, SUBSETS, lambda: SVC(kernel="linear"), lambda: SVC(kernel="rbf"))
    monkeypatch.setattr(classifiers, "TESTED_AT_ONCE", at_once)
    np.testing.assert_allclose(svms(data, SUBSETS), expected, atol=1.5 / len(data.test_labels))
    monkeypatch.setattr(classifiers, "GRAM_LABELS", 100)  # larger subsets: scikit-learn computes the kernel
    np.testing.assert_allclose(svms(data, SUBSETS), expected, atol=1.5 / len(data.test_labels))


def test_svms_of_codes_that_are_all_the_same():
    data = Labelled(np.ones((30, 2), np.float32), np.arange(30) % 3, np.ones((9, 2), np.float32), np.zeros(9, int))
    assert svms(data, [np.arange(30)]) == one_by_one(data, [np.arange(30)], lambda: SVC(kernel="linear"), SVC)


@pytest.mark.parametrize("count", [10, 3])
def test_nearest_neighbours(count: int):
    data, subsets = digits("grey"), [*SUBSETS, np.arange(count)]
    neighbours = min(10, count)
    expected = one_by_one(data, subsets, lambda: KNeighborsClassifier(neighbours, weights="distance"))
    assert nearest_neighbours(data, subsets) == expected


@pytest.mark.parametrize("kind", ["grey", "one feature"])
def test_logistic_regression_converges(kind: str):
    """The gradient of the penalised mean loss vanishes, and Newton's method gives the same probabilities."""
    data = digits(kind)
    fitted = logistic_regression(data.train_codes, data.train_labels)
    z = fitted[:-1].transform(data.train_codes).astype(np.float64)
    truth = np.eye(10)[data.train_labels]
    weights = fitted[-1].coef_
    gradient = (fitted.predict_proba(data.train_codes) - truth).T @ z / len(z) + weights / len(z)
    assert np.abs(gradient).max() <= 1.1e-5
    newton = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(z, data.train_labels)
    np.testing.assert_allclose(fitted.predict_proba(data.train_codes), newton.predict_proba(z), atol=2e-3)
