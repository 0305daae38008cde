r"""k-means: greedy k-means++ seeding, Lloyd's iterations, and the best of several restarts.

    seeding     a centre is drawn with probability proportional to D^2, the squared distance to the nearest earlier centre;
                of 2 + log K candidates the one that lowers the sum of D^2 most is taken (Arthur & Vassilvitskii, SODA 2007,
                https://dl.acm.org/doi/10.5555/1283383.1283494, section 4)
    iterations  codes are assigned to the nearest centre, centres move to the mean of their codes (Lloyd 1982), until no
                assignment changes or the squared moves of the centres add up to at most 1e-4 of the mean variance

These are the definitions of scikit-learn's `KMeans`, and so are the random draws, a cluster that loses all its codes (it
moves to the code that is farthest from its centre), and the result, up to rounding. Only the cost differs:

- all restarts are seeded together, so that a pass over the codes serves all their candidates;
- a distance is computed only if it may matter: by the triangle inequality, a centre that moved by s is at most s nearer
  than it was, and a code that is still nearer to its own centre keeps it (Elkan, ICML 2003,
  https://cdn.aaai.org/ICML/2003/ICML03-022.pdf, the bounds between codes and centres);
- sums of codes are corrected for those that change the cluster, instead of summed again.

Distances are float32 and relative to the mean code, sums float64.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

MAX_ITERATIONS = 300
TOLERANCE = 1e-4
"""Sum of the squared moves of the centres that ends the iterations, in units of the mean variance of the features."""
ROWS_AT_ONCE = 512
"""Codes that are gathered together: they stay in the processor's cache."""


class KMeans(NamedTuple):
    """Fitted centres."""

    labels: Int64[np.ndarray, " n"]
    """Cluster of each code that the centres were fitted to."""
    inertia: float
    """Sum of squared distances to the centres."""
    centres: Float64[np.ndarray, "clusters latent"]
    """Relative to `origin`."""
    origin: Float[np.ndarray, " latent"]

    def assign(self, codes: Float[np.ndarray, "m latent"]) -> Int64[np.ndarray, " m"]:
        """Returns the cluster whose centre is nearest, for each code."""
        return _squared_distances(_relative(codes, self.origin), self.centres).argmin(0)


def fit(codes: Float[np.ndarray, "n latent"], clusters: int, restarts: int, seed: int) -> KMeans:
    """Returns the clustering of least inertia of `restarts` starts; 1 <= `clusters` <= n. Of starts that find the same
    clusters, the first counts: their inertias differ in last digits, which depend on the processor, and the order of the
    clusters would too."""
    origin = codes.mean(0, dtype=np.float64).astype(codes.dtype)
    data = _relative(codes, origin)
    tolerance = TOLERANCE * float(data[:, -2].sum(dtype=np.float64)) / codes.size
    starts = _seeds(data, clusters, restarts, np.random.RandomState(seed % 2**32))
    fitted = (_iterated(data, data[chosen, :-2].astype(np.float64), tolerance) for chosen in starts)
    best = next(fitted)
    for found in fitted:
        if found[1] < best[1] and not _same_clusters(found[0], best[0]):
            best = found
    labels, inertia, centres = best
    return KMeans(labels, inertia, centres, origin)


def _same_clusters(one: np.ndarray, other: np.ndarray) -> bool:
    """Returns whether two labellings differ at most in the names of their clusters."""
    pairs = np.unique(np.stack([one, other]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(other))


def _relative(codes: np.ndarray, origin: np.ndarray) -> Float32[np.ndarray, "n columns"]:
    """Returns x, the codes relative to `origin`, with two more columns: |x|^2 and 1."""
    data = np.ones((len(codes), codes.shape[1] + 2), np.float32)
    x = np.subtract(codes, origin, out=data[:, :-2], casting="same_kind")
    np.einsum("nd,nd->n", x, x, out=data[:, -2])
    return data


def _squared_distances(data: np.ndarray, centres: np.ndarray) -> Float32[np.ndarray, "clusters n"]:
    """Returns |x|^2 - 2 c.x + |c|^2 of all codes, never negative."""
    distances = _multipliers(centres) @ data.T
    return np.maximum(distances, 0, out=distances)


def _multipliers(centres: np.ndarray) -> Float32[np.ndarray, "clusters columns"]:
    """Returns the matrix whose product with the rows of `_relative` is their squared distances."""
    squares = np.einsum("kd,kd->k", centres, centres)[:, None]
    return np.concatenate([-2 * centres, np.ones_like(squares), squares], axis=1).astype(np.float32)


def _gathered(data: np.ndarray, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields chunks of `rows` and their codes, in a buffer that the next chunk overwrites."""
    room = np.empty((min(len(rows), ROWS_AT_ONCE), data.shape[1]), data.dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        yield part, np.take(data, rows[part], axis=0, out=room[: len(rows[part])], mode="clip")


def _seeds(
    data: np.ndarray, clusters: int, restarts: int, random: np.random.RandomState
) -> Int64[np.ndarray, "restarts clusters"]:
    """Returns the codes at which the centres of each restart begin. Draws are made in the order of scikit-learn."""
    n, candidates, start = len(data), 2 + int(np.log(clusters)), np.arange(restarts)
    uniform = np.full(n, 1 / n)
    draws = [(random.choice(n, p=uniform), random.uniform(size=(clusters - 1, candidates))) for _ in start]
    chosen = np.empty((restarts, clusters), dtype=np.int64)
    chosen[:, 0] = [first for first, _ in draws]
    nearest = _squared_distances(data, data[chosen[:, 0], :-2])
    for k in range(1, clusters):
        mass = nearest.cumsum(1, dtype=np.float64)
        drawn = [np.searchsorted(mass[r], draws[r][1][k - 1] * mass[r, -1]) for r in start]
        tried = np.minimum(np.stack(drawn), n - 1)
        distances = _squared_distances(data, data[tried.ravel(), :-2]).reshape(restarts, candidates, n)
        np.minimum(distances, nearest[:, None], out=distances)
        best = distances.sum(2, dtype=np.float64).argmin(1)
        nearest, chosen[:, k] = distances[start, best], tried[start, best]
    return chosen


def _iterated(data: np.ndarray, centres: np.ndarray, tolerance: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Moves the centres until they rest; returns labels, inertia and centres."""
    labels = np.full(len(data), -1)
    sums = np.zeros(centres.shape)
    own = np.full(len(data), np.inf, np.float32)  # upper bound on the distance to the own centre
    others = np.zeros(
        (len(centres), len(data)), np.float32
    )  # lower bounds on those to the other centres; own: infinite
    for _ in range(MAX_ITERATIONS):
        rows = np.flatnonzero(others.min(0) <= own)
        nearest = _measure(data, centres, rows, own, others)
        moved = labels[rows] != nearest
        if not moved.any():
            break
        _correct(sums, data, rows[moved], labels[rows[moved]], nearest[moved])
        labels[rows] = nearest
        before, centres = centres, _means(data, labels, sums, centres)
        moves = np.linalg.norm(centres - before, axis=1)
        if moves @ moves <= tolerance:
            break
        others -= moves.astype(np.float32)[:, None]
        own += moves.astype(np.float32)[labels]
    distances = _squared_distances(data, centres)
    return distances.argmin(0), float(distances.min(0).sum(dtype=np.float64)), centres


def _measure(
    data: np.ndarray, centres: np.ndarray, rows: np.ndarray, own: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Returns the nearest centre of the codes `rows`, and sets their bounds to the distances."""
    if len(rows) == len(data):
        distances = _squared_distances(data, centres)
    else:
        multipliers, distances = _multipliers(centres), np.empty((len(centres), len(rows)), np.float32)
        for part, x in _gathered(data, rows):
            distances[:, part] = multipliers @ x.T
        np.maximum(distances, 0, out=distances)
    np.sqrt(distances, out=distances)
    nearest, column = distances.argmin(0), np.arange(len(rows))
    own[rows] = distances[nearest, column]
    distances[nearest, column] = np.inf
    others[:, rows] = distances
    return nearest


def _correct(sums: np.ndarray, data: np.ndarray, rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
    """Moves the codes `rows` from the sums of their `old` clusters (-1: none) to those of the `new` ones."""
    for part, x in _gathered(data, rows):
        column, signs = np.arange(len(x)), np.zeros((len(sums), len(x)), np.float32)
        had = old[part] >= 0
        signs[old[part][had], column[had]] = -1
        signs[new[part], column] = 1
        sums += signs @ x[:, :-2]


def _means(data: np.ndarray, labels: np.ndarray, sums: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the mean of the codes of each cluster. A cluster without any moves to a code far from its centre, which no
    longer counts for its own cluster."""
    counts = np.bincount(labels, minlength=len(sums))
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        sums = sums.copy()
        away = _squared_distances(data, centres)[labels, np.arange(len(labels))]
        far = np.argpartition(away, -len(empty))[: -len(empty) - 1 : -1]
        for cluster, row in zip(empty, far, strict=True):
            sums[labels[row]] -= data[row, :-2]
            counts[labels[row]] -= 1
            sums[cluster], counts[cluster] = data[row, :-2], 1
    return sums / np.maximum(counts, 1)[:, None]
