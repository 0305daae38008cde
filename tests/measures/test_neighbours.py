"""Nearest neighbours in several subsets at once, against scikit-learn's, ties included."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from mpdvae.measures.representation import neighbours
from mpdvae.measures.representation.neighbours import by_products, nearest, votes


def normal(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 20)).astype(np.float32)


def digits(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(load_digits().data.astype(np.float32))[:n]


def binary(n: int, seed: int) -> np.ndarray:
    """Distances are small whole numbers: most tenth neighbours are tied."""
    return (np.random.default_rng(seed).random((n, 12)) < 0.3).astype(np.float32)


FEATURES: dict[str, Callable[[int, int], np.ndarray]] = {
    "normal": normal,
    "digits": digits,
    "binary": binary,
    "double precision": lambda n, seed: normal(n, seed).astype(np.float64),
    "far from 0": lambda n, seed: normal(n, seed) + 1000,
    "tiny, with an outlier": lambda n, seed: np.concatenate([1e-6 * normal(n - 1, seed), 1e3 * normal(1, seed)]),
    "all the same": lambda n, seed: np.ones((n, 5), np.float32),
}
SUBSETS = [np.arange(300), np.random.default_rng(2).permutation(400)[:50], np.arange(399, 389, -1)]


def distances(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.linalg.norm(test[:, None].astype(np.float64) - train.astype(np.float64), axis=2)


@pytest.mark.parametrize("chunk", [2**23, 1500])
@pytest.mark.parametrize("features", FEATURES)
def test_they_are_those_of_all_distances(features: str, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "DISTANCES_AT_ONCE", chunk)
    monkeypatch.setattr(neighbours, "DIFFERENCES_AT_ONCE", 100)
    train, test = FEATURES[features](400, 0), FEATURES[features](70, 1)
    for rows, (position, found) in zip(SUBSETS, by_products(train, test, SUBSETS, 10), strict=True):
        of_all = distances(train[rows], test)
        np.testing.assert_allclose(found, np.sort(of_all, axis=1)[:, :10], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found, np.take_along_axis(of_all, position, axis=1), rtol=1e-6, atol=1e-6)
        assert all(len(set(row)) == 10 for row in position.tolist())


def test_of_equal_distances_the_first_is_the_nearest():
    train, test = binary(400, 0), binary(70, 1)
    for rows, (position, _) in zip(SUBSETS, by_products(train, test, SUBSETS, 10), strict=True):
        squares = np.square(train[rows] - test[:, None]).sum(2)
        np.testing.assert_array_equal(position, np.argsort(squares, axis=1, kind="stable")[:, :10])


def test_the_method_is_a_matter_of_size_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch):
    train, test = normal(400, 0), normal(70, 1)
    called = []
    monkeypatch.setattr(neighbours, "by_products", lambda *arguments: called.append(1) or by_products(*arguments))
    searched = nearest(train, test, SUBSETS, 10)
    assert not called
    monkeypatch.setattr(neighbours, "WIDE", 200)
    for limit in (1, 2):
        with threadpool_limits(limits=limit):
            for one, other in zip(searched, nearest(train, test, SUBSETS, 10), strict=True):
                np.testing.assert_array_equal(one[0], other[0])
                np.testing.assert_allclose(one[1], other[1], rtol=1e-6)
    assert len(called) == 2


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("features", ["normal", "digits", "double precision"])
def test_votes_are_those_of_scikit_learn(features: str, count: int):
    train, test = FEATURES[features](300, 0), FEATURES[features](120, 1)
    test[:5] = train[:5]  # at distance zero
    labels = np.array([-3, 4, 9])[np.random.default_rng(0).integers(3, size=300)]
    oracle = KNeighborsClassifier(count, weights="distance", algorithm="brute").fit(train, labels)
    ((position, found),) = by_products(train, test, [np.arange(300)], count)
    np.testing.assert_array_equal(votes(labels[position], found), oracle.predict(test))


def test_the_smallest_of_equal_votes_wins_and_zeros_outvote_all():
    labels = np.array([[7, 2, 2], [7, 2, 2], [9, 1, 9]])
    apart = np.array([[0.5, 1.0, 1.0], [0.0, 1e-3, 1e-3], [2.0, 1.0, 2.0]])
    assert votes(labels, apart).tolist() == [2, 7, 1]
