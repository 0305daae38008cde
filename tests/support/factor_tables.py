"""Tables of factors of variation for tests, and codes of which the scores are known."""

import itertools

import numpy as np

from mpdvae.measures.disentanglement import Factored

SIZES = (2, 4, 5)


def balanced(sizes: tuple[int, ...] = SIZES, copies: int = 15, seed: int = 0) -> np.ndarray:
    """Every combination of values equally often, in random order: factors are independent to the last digit."""
    table = np.array(list(itertools.product(*map(range, sizes))) * copies)
    return np.random.default_rng(seed).permutation(table)


def standardised(table: np.ndarray) -> np.ndarray:
    return (table - table.mean(0)) / table.std(0)


def perfect(seed: int = 0) -> Factored:
    """One unit for each factor."""
    table = balanced(seed=seed)
    return Factored(standardised(table), table)


def noisy(seed: int, axes: np.ndarray) -> Factored:
    """One unit for each factor, with a little noise, in other orthogonal axes."""
    data = perfect(seed)
    noise = 0.1 * np.random.default_rng([3, seed]).normal(size=data.codes.shape)
    return Factored((data.codes + noise) @ axes, data.factors)


def mixed(seed: int = 0) -> Factored:
    """Five noisy units, some of which tell several factors and one of which tells none."""
    table = balanced(seed=seed)
    weights = np.array([[1, 0, 0.3, 0, 0], [0, 1, 0, 0.8, 0], [0, 0.2, 1, 0.5, 0]])
    noise = np.random.default_rng([1, seed]).normal(size=(len(table), 5))
    return Factored(standardised(table) @ weights + 0.4 * noise, table)


def unrelated(seed: int = 0, units: int = 4, copies: int = 15) -> Factored:
    """Codes that are independent of the factors."""
    table = balanced(copies=copies, seed=seed)
    return Factored(np.random.default_rng([2, seed]).normal(size=(len(table), units)), table)
