r"""k nearest neighbours by Euclidean distance, among several subsets of the training codes at once.

scikit-learn finds the neighbours of narrow codes. For many wide ones, such as pixels, most of its time goes into a matrix
product in double precision for each subset. Here a single product in float32 serves all subsets: it gives
|x|^2 - 2 x.y + |y|^2, with codes relative to their mean. In K dimensions, with unit roundoff u, the error is at most

    b = 2 (K + 6) u (|x| + |y|)^2

(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), in whatever order sums are computed. Hence a
code whose approximate distance exceeds the k-th smallest one by more than 2 b is none of the nearest k. Only the others,
few more than k, are measured exactly: in double precision, from differences. An upper limit on the k-th smallest distance
is found quickly as the k-th smallest of the minima of disjoint groups.

Of training codes at the same distance the first in the subset is the nearest; scikit-learn's choice is arbitrary. If training
codes are so much alike that many remain for the exact comparison, scikit-learn searches, too.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Integer
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

WIDE = 2**21
"""Labels times dimensions from which one product for all subsets is faster (about half of scikit-learn's time for 10,000
labels of 784 pixels)."""
DISTANCES_AT_ONCE = 2**23
"""Approximate distances that are held at once: 32 MB."""
DIFFERENCES_AT_ONCE = 2**18
GROUP = 8
"""Distances of which the minimum is taken."""
CANDIDATES = 16
"""Mean number of exact distances for each neighbour, above which scikit-learn searches."""

Nearest = tuple[Int64[np.ndarray, "_test neighbours"], Float64[np.ndarray, "_test neighbours"]]
"""Positions in a subset, nearest first, and distances."""


def nearest(
    train: Float[np.ndarray, "_train latent"],
    test: Float[np.ndarray, "_test latent"],
    subsets: Sequence[Integer[np.ndarray, " _labels"]],
    neighbours: int,
) -> list[Nearest]:
    """Returns for each subset of rows of `train` the nearest of its codes to each code of `test`. Each subset has at least
    `neighbours` rows."""
    if min(len(rows) for rows in subsets) * train.shape[1] < WIDE:
        return [_searched(train[rows], test, neighbours) for rows in subsets]
    return by_products(train, test, subsets, neighbours)


def by_products(
    train: Float[np.ndarray, "_train latent"],
    test: Float[np.ndarray, "_test latent"],
    subsets: Sequence[Integer[np.ndarray, " _labels"]],
    neighbours: int,
) -> list[Nearest]:
    """Returns the same as `nearest`, by the method for many wide codes."""
    used = np.unique(np.concatenate(subsets))
    places = [_places(rows, used) for rows in subsets]
    found: list[list[Nearest]] = [[] for _ in subsets]
    for rows, distances, slack in _approximate(train[used], test):
        for of, subset, place in zip(found, subsets, places, strict=True):
            row, column = _candidates(distances, slack, place, neighbours)
            if len(row) > CANDIDATES * neighbours * len(distances):
                of.append(_searched(train[subset], test[rows], neighbours))
            else:
                of.append(_exact(train, subset, test[rows], row, place[column], neighbours))
    return [_joined(of) for of in found]


def votes(
    labels: Integer[np.ndarray, "_test neighbours"], distances: Float64[np.ndarray, "_test neighbours"]
) -> Integer[np.ndarray, " _test"]:
    """Returns the label with the largest sum of inverse distances; the smallest of those that are equal. Neighbours at
    distance zero outvote all others."""
    at_zero = distances == 0
    weights = np.where(at_zero.any(1, keepdims=True), at_zero, 1 / np.where(at_zero, 1, distances))
    classes, index = np.unique(labels, return_inverse=True)
    cell = np.arange(len(labels))[:, None] * len(classes) + index.reshape(labels.shape)
    sums = np.bincount(cell.ravel(), weights.ravel(), minlength=len(labels) * len(classes))
    return classes[sums.reshape(len(labels), len(classes)).argmax(1)]


def _places(subset: np.ndarray, used: np.ndarray) -> Int64[np.ndarray, " _used"]:
    """Returns the position in `subset` of each row in `used`; -1: it is not there."""
    places = np.full(len(used), -1)
    places[np.searchsorted(used, subset)] = np.arange(len(subset))
    return places


def _approximate(codes: np.ndarray, test: np.ndarray) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yields chunks of test codes: their rows, approximate squared distances to all `codes` (in a buffer that the next chunk
    overwrites), and twice the error bound."""
    centre = codes.mean(0, dtype=np.float64).astype(codes.dtype)
    y, y_squares = _centred(codes, centre)
    size = max(1, DISTANCES_AT_ONCE // len(codes))
    room = torch.empty(min(size, len(test)), len(codes))
    for start in range(0, len(test), size):
        rows = slice(start, min(start + size, len(test)))
        x, x_squares = _centred(test[rows], centre)
        distances = torch.addmm(y_squares, x, y.T, alpha=-2, out=room[: len(x)]).add_(x_squares[:, None])
        largest = (x_squares.sqrt() + y_squares.max().sqrt()).square()
        yield rows, distances, 2 * (x.shape[1] + 6) * torch.finfo(x.dtype).eps * largest


def _centred(codes: np.ndarray, centre: np.ndarray) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy((codes - centre).astype(np.float32, copy=False))
    return x, x.square().sum(1)


def _candidates(distances: Tensor, slack: Tensor, place: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of the distances that may belong to the nearest neighbours in a subset; rows ascend."""
    columns = distances.shape[1]
    of_subset = distances + torch.from_numpy(np.where(place < 0, np.inf, 0).astype(np.float32))
    groups = max(neighbours, columns // GROUP)
    whole = of_subset[:, : columns // groups * groups]
    minima = whole.unflatten(1, (-1, groups)).amin(1)
    limit = minima.topk(neighbours, dim=1, largest=False).values.amax(1) + slack
    limit = limit.clamp_max(
        torch.finfo(limit.dtype).max
    )  # infinite if groups without any code of the subset are among them
    return np.divmod(np.flatnonzero((of_subset <= limit[:, None]).numpy()), columns)


def _exact(
    train: np.ndarray, subset: np.ndarray, test: np.ndarray, row: np.ndarray, position: np.ndarray, neighbours: int
) -> Nearest:
    """Returns the nearest of the candidates: `train[subset[position]]` for `test[row]`."""
    squares = np.empty(len(row))
    size = max(1, DIFFERENCES_AT_ONCE // train.shape[1])
    for start in range(0, len(row), size):
        part = slice(start, start + size)
        difference = np.subtract(train[subset[position[part]]], test[row[part]], dtype=np.float64)
        squares[part] = np.einsum("nd,nd->n", difference, difference)
    order = np.lexsort((position, squares, row))
    first = np.searchsorted(row, np.arange(len(test)))
    chosen = order[first[:, None] + np.arange(neighbours)]
    return position[chosen], np.sqrt(squares[chosen])


def _searched(codes: np.ndarray, test: np.ndarray, neighbours: int) -> Nearest:
    distances, position = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(codes).kneighbors(test)
    return position, distances.astype(np.float64)


def _joined(parts: Sequence[Nearest]) -> Nearest:
    position, distances = zip(*parts, strict=True)
    return np.concatenate(position), np.concatenate(distances)
