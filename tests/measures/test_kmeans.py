"""k-means against scikit-learn's in double precision: the same draws, the same clusters."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from mpdvae.measures.representation import kmeans


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)


FEATURES: dict[str, Callable[[], np.ndarray]] = {
    "digits": lambda: load_digits().data.astype(np.float32),
    "noise": lambda: noise(700),
    "double precision": lambda: noise(700).astype(np.float64),
    "far from 0": lambda: noise(700) + np.float32(100),
    "one feature": lambda: noise(300)[:, :1],
}


@pytest.mark.parametrize("clusters", [1, 2, 9, 30])
@pytest.mark.parametrize("features", FEATURES)
def test_clusters_are_those_of_scikit_learn(features: str, clusters: int):
    x = FEATURES[features]()
    oracle = KMeans(clusters, n_init=3, random_state=7).fit(x.astype(np.float64))
    found = kmeans.fit(x, clusters, restarts=3, seed=7)
    assert (found.labels == oracle.labels_).mean() > 0.995
    assert found.inertia == pytest.approx(oracle.inertia_, rel=1e-4)
    new = x[::3] + x[:1] / 10
    assert (found.assign(new) == oracle.predict(new.astype(np.float64))).mean() > 0.99


def test_codes_that_are_far_apart_are_distinguished_at_any_scale():
    x = noise(200)
    x[:60] += 30
    for scale in (1e-8, 1.0, 1e8):
        found = kmeans.fit(x * np.float32(scale), 2, restarts=2, seed=0)
        assert (found.labels[:60] == found.labels[0]).all()
        assert (found.labels[60:] == 1 - found.labels[0]).all()


def test_as_many_clusters_as_codes_have_no_inertia():
    x = noise(12)
    found = kmeans.fit(x, 12, restarts=1, seed=0)
    assert sorted(found.labels.tolist()) == list(range(12))
    assert found.inertia == pytest.approx(0, abs=1e-5)


def test_fewer_distinct_codes_than_clusters_share_some():
    x = np.repeat(noise(4), 10, axis=0)
    found = kmeans.fit(x, 9, restarts=2, seed=0)
    assert found.inertia == pytest.approx(0, abs=1e-4)
    assert all(len(set(found.labels[10 * i : 10 * i + 10].tolist())) == 1 for i in range(4))
    assert len(set(found.labels.tolist())) == 4


def test_a_cluster_that_loses_all_codes_takes_the_farthest():
    """Started at a point that no code is near, as scikit-learn does from the same start."""
    x = noise(300)
    starts = np.concatenate([x[:3], np.full((1, 6), 50, np.float32)])
    data = kmeans._relative(x, np.zeros(6, np.float32))
    labels, inertia, _ = kmeans._iterated(data, starts.astype(np.float64), tolerance=0.0)
    oracle = KMeans(4, init=starts.astype(np.float64), n_init=1, tol=0).fit(x.astype(np.float64))
    assert len(set(labels.tolist())) == 4
    np.testing.assert_array_equal(labels, oracle.labels_)
    assert inertia == pytest.approx(oracle.inertia_, rel=1e-5)


def test_more_restarts_are_never_worse_and_seeds_differ():
    x = FEATURES["digits"]()
    inertias = [kmeans.fit(x, 20, restarts, seed=3).inertia for restarts in (1, 3, 6)]
    assert inertias[0] >= inertias[1] >= inertias[2]
    assert kmeans.fit(x, 20, 1, seed=4).inertia != inertias[0]
    np.testing.assert_array_equal(kmeans.fit(x, 20, 1, seed=3).labels, kmeans.fit(x, 20, 1, seed=3).labels)


def test_of_restarts_that_find_the_same_clusters_the_first_counts(monkeypatch: pytest.MonkeyPatch):
    """Also where another one has, by rounding, less inertia."""
    x = np.repeat(np.float32([[0.0], [10.0]]), 20, axis=0) + noise(40)[:, :1] / 10
    iterated = kmeans._iterated
    calls = []

    def with_rounding(*arguments):
        labels, inertia, centres = iterated(*arguments)
        calls.append(labels)
        return labels, inertia * (1 - 1e-9 * len(calls)), centres

    monkeypatch.setattr(kmeans, "_iterated", with_rounding)
    found = kmeans.fit(x, 2, restarts=6, seed=1)
    assert len({labels[0] for labels in calls}) == 2  # both orders are found
    assert (found.labels == calls[0]).all()
