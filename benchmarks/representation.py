"""Representation scores of many wide features, such as pixels: our methods against scikit-learn's own.

The images are those of the 8x8 digits, enlarged to 28x28 and made binary by chance, so that nothing is downloaded. Both
methods run in one thread, as in `mpdvae evaluate`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from benchmarks.timing import Curve, Row, pair, peak_bytes, shown, shown_bytes
from mpdvae.measures.representation import kmeans
from mpdvae.measures.representation.classifiers import nearest_neighbours, svms
from mpdvae.measures.representation.labelled import Labelled

TRAIN, TEST = 20_000, 10_000
CLUSTERS, RESTARTS, ROUNDS = 20, 4, 3


def representation() -> tuple[list[Row], list[Curve]]:
    """k-means, nearest neighbours and SVMs, as in scale `minutes`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        rows = _rows()
    torch.set_num_threads(threads)
    return rows, []


def _rows() -> list[Row]:
    data = binary_digits()
    many, some = subsets(10_000), subsets(1_000)
    return [
        _row(
            f"k-means, {TRAIN:,} x 784, K = {CLUSTERS}, {RESTARTS} restarts",
            lambda: KMeans(CLUSTERS, n_init=RESTARTS, random_state=0).fit(data.train_codes).inertia_,  # pyright: ignore[reportArgumentType] - "auto" is the stub's guess
            lambda: kmeans.fit(data.train_codes, CLUSTERS, RESTARTS, seed=0).inertia,
            lambda plain, ours: f"inertia {plain:.6g} and {ours:.6g}",
            "3x",
            _peak(_kmeans),
        ),
        _row(
            f"10-NN, 3 x 10,000 labels of 784 pixels, {TEST:,} tests",
            lambda: plain_accuracies(data, many, lambda: KNeighborsClassifier(10, weights="distance")),
            lambda: [accuracy for (accuracy,) in nearest_neighbours(data, many)],
            _largest_difference,
            "1.5x",
            _peak(_neighbours),
        ),
        _row(
            f"linear and RBF SVM, 3 x 1,000 labels of 784 pixels, {TEST:,} tests",
            lambda: plain_accuracies(data, some, lambda: SVC(kernel="linear"), SVC),
            lambda: [accuracy for both in svms(data, some) for accuracy in both],
            _largest_difference,
            "4x",
            _peak(_svms),
        ),
    ]


def binary_digits() -> Labelled:
    """Training and test images with their labels, the same at every call."""
    grey, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    generator = np.random.default_rng(0)
    chosen = generator.integers(len(grey), size=TRAIN + TEST)
    at = np.arange(28) * 8 // 28
    grey = (grey / 16).reshape(-1, 8, 8)[:, at][:, :, at].reshape(-1, 784).astype(np.float32)
    x = (generator.random((len(chosen), 784), dtype=np.float32) < grey[chosen]).astype(np.float32)
    return Labelled(x[:TRAIN], labels[chosen[:TRAIN]], x[TRAIN:], labels[chosen[TRAIN:]])


def subsets(count: int) -> list[np.ndarray]:
    """Three random subsets of the training rows."""
    return [np.random.default_rng(seed).permutation(TRAIN)[:count] for seed in range(3)]


def plain_accuracies(data: Labelled, chosen: list[np.ndarray], *makers: Callable[[], Any]) -> list[float]:
    """The accuracy on each subset of each classifier, fitted and applied on its own."""
    return [
        float(
            (
                make().fit(data.train_codes[rows], data.train_labels[rows]).predict(data.test_codes) == data.test_labels
            ).mean()
        )
        for rows in chosen
        for make in makers
    ]


def _row(
    what: str,
    plain: Callable[[], Any],
    ours: Callable[[], Any],
    check: Callable[[Any, Any], str],
    target: str,
    memory: str,
) -> Row:
    checked = check(plain(), ours())
    times = pair(plain, ours, ROUNDS)
    return Row(what, shown(times.plain_seconds), shown(times.seconds), round(times.ratio, 2), target, memory, checked)


def _largest_difference(plain: list[float], ours: list[float]) -> str:
    return f"accuracies differ by at most {np.abs(np.subtract(plain, ours)).max():.1g}"


def _peak(prepare: Callable[[], Callable[[], Any]]) -> str:
    return f"{shown_bytes(peak_bytes(prepare))} (ours)"


def _kmeans() -> Callable[[], Any]:
    data = binary_digits()
    return lambda: kmeans.fit(data.train_codes, CLUSTERS, 1, seed=0)


def _neighbours() -> Callable[[], Any]:
    data, many = binary_digits(), subsets(10_000)
    return lambda: nearest_neighbours(data, many)


def _svms() -> Callable[[], Any]:
    data, some = binary_digits(), subsets(1_000)
    return lambda: svms(data, some)
