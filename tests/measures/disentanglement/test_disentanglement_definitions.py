"""Each measure of disentanglement against its definition, written out with loops, and against cases worked out by hand."""

import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
from factor_tables import mixed, perfect, unrelated

from mpdvae.measures.disentanglement import (
    BinnedInformation,
    Factored,
    Importance,
    information_per_unit,
    measure_explicitness,
    measure_gap,
    measure_importance,
    measure_modularity,
    measure_separability,
)
from mpdvae.measures.disentanglement.modularity import modularity_of


def information(unit: np.ndarray, values: np.ndarray, bins: int) -> float:
    """H(bin) + H(value) - H(bin, value), from counts."""
    edges = np.histogram_bin_edges(unit, bins)[1:-1]
    binned = [sum(z >= edge for edge in edges) for z in unit]

    def entropy(outcomes: list) -> float:
        return -sum(n / len(outcomes) * math.log(n / len(outcomes)) for n in Counter(outcomes).values())

    pairs = list(zip(binned, values.tolist(), strict=True))
    return entropy(binned) + entropy(values.tolist()) - entropy(pairs)


@pytest.mark.parametrize("bins", [20, 7])
@pytest.mark.parametrize("data", [mixed(), unrelated()], ids=["mixed", "unrelated"])
def test_information_mig_and_modularity_agree_with_loops_over_counts(data, bins):
    table = [[information(unit, values, bins) for values in data.factors.T] for unit in data.codes.T]
    np.testing.assert_allclose(information_per_unit(data, bins).information, table, atol=1e-12)
    gaps, modular = [], []
    for k, values in enumerate(data.factors.T):
        best, second = sorted((row[k] for row in table), reverse=True)[:2]
        gaps.append((best - second) / scipy.stats.entropy(np.bincount(values)))
    for row in table:
        top = max(row)
        template = [m if m == top else 0 for m in row]
        deviation = sum((m - t) ** 2 for m, t in zip(row, template, strict=True)) / (top**2 * (len(row) - 1))
        modular.append(1 - deviation)
    assert measure_gap(data, bins).score == pytest.approx(np.mean(gaps))
    assert measure_modularity(data, bins).score == pytest.approx(np.mean(modular))


def test_information_of_independent_units_is_the_stated_bias():
    data = unrelated(units=40, copies=25)
    sizes, n = np.array([2, 4, 5]), len(data.codes)
    uniform = Factored(np.random.default_rng(3).uniform(size=data.codes.shape), data.factors)  # all bins are filled
    found = information_per_unit(uniform).information.mean(0)
    np.testing.assert_allclose(found, 19 * (sizes - 1) / (2 * n), rtol=0.1)


def agreeing(share: float, n: int = 400) -> Factored:
    """Two binary factors; unit 0 agrees with factor 0 in this share of the images, whatever the other; unit 1 is constant."""
    v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * (n // 4))
    wrong = np.arange(n) // 4 >= share * n / 4
    return Factored(np.stack([v[:, 0] ^ wrong, np.zeros(n)], axis=1).astype(float), v)


def test_mig_of_a_unit_that_agrees_in_three_quarters_of_the_images():
    """I = ln 2 - h(1/4) about factor 0, and nothing about factor 1."""
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    found = measure_gap(agreeing(0.75))
    np.testing.assert_allclose(found.per_factor, [1 - h / math.log(2), 0], atol=1e-12)
    assert found.unit[0] == 0
    assert found.score == pytest.approx((1 - h / math.log(2)) / 2)


def test_a_second_unit_that_knows_the_same_takes_the_gap_away():
    data = perfect()
    doubled = Factored(np.column_stack([data.codes, -2 * data.codes[:, 0]]), data.factors)
    np.testing.assert_allclose(measure_gap(doubled).per_factor, [0, 1, 1], atol=1e-12)
    np.testing.assert_allclose(measure_separability(doubled, doubled).per_factor, [0, 3 / 4, 4 / 5], atol=1e-12)
    assert measure_modularity(doubled).score == pytest.approx(1)


def test_modularity_by_hand():
    """Squares 9 and 16: 1 - 9 / 16; a unit that knows one factor: 1; all alike: 0; a constant unit is left out."""
    known = BinnedInformation(np.array([[0.3, 0.4], [0, 0.5], [0.2, 0.2], [0, 0]]), np.ones(2))
    found = modularity_of(known)
    np.testing.assert_allclose(found.per_unit, [1 - 9 / 16, 1, 0, np.nan])
    assert found.score == pytest.approx((1 - 9 / 16 + 1) / 3)
    assert found.to_dict()["per_unit"][3] is None


def of_importance(rows: list[list[float]]) -> Importance:
    factors = len(rows[0])
    return Importance(np.array(rows, float), np.ones(factors), np.ones(factors), (1,) * factors)


def test_disentanglement_and_completeness_by_hand():
    """Unit 0 serves both factors alike, unit 1 one of them, unit 2 none."""
    found = of_importance([[0.5, 0.5], [0.5, 0], [0, 0.5]])
    np.testing.assert_allclose(found.disentanglement_per_unit, [0, 1, 1], atol=1e-12)
    assert found.disentanglement == pytest.approx(0.5)  # weights 1/2, 1/4, 1/4
    np.testing.assert_allclose(found.completeness_per_factor, 1 - math.log(2) / math.log(3))
    assert of_importance([[0, 0], [1, 1]]).disentanglement == pytest.approx(0)
    assert of_importance([[0, 0], [1, 1]]).completeness == pytest.approx(1)
    assert of_importance([[0, 0], [0, 0]]).disentanglement == 0


def test_disentanglement_and_completeness_agree_with_their_definition():
    r = np.random.default_rng(0).uniform(size=(5, 3)) ** 4
    found = of_importance(r.tolist())
    per_unit = [1 - scipy.stats.entropy(row / row.sum(), base=3) for row in r]
    per_factor = [1 - scipy.stats.entropy(column / column.sum(), base=5) for column in r.T]
    assert found.disentanglement == pytest.approx(
        sum(row.sum() * d for row, d in zip(r, per_unit, strict=True)) / r.sum()
    )
    assert found.completeness == pytest.approx(np.mean(per_factor))


def test_importances_find_the_units_that_tell_a_factor():
    """They add up to 1, and those of unit 4, which tells nothing, stay small."""
    found = measure_importance(mixed(0), mixed(1))
    np.testing.assert_allclose(found.importance.sum(0), 1)
    assert found.importance.argmax(0).tolist() == [0, 1, 2]
    assert found.importance[4].max() < 0.1
    assert (found.informativeness_per_factor > found.chance_per_factor + 0.2).all()
    np.testing.assert_allclose(found.chance_per_factor, [1 / 2, 1 / 4, 1 / 5])


def test_predictability_of_an_ordered_factor_is_that_of_a_line():
    """One less the share of the variance that a fitted line leaves."""
    train, test = mixed(0), mixed(1)
    found = measure_separability(train, test, [True] * 3).predictability
    for (j, k), given in np.ndenumerate(found):
        z, v = test.codes[:, j], test.factors[:, k].astype(float)
        rest = v - np.polyval(np.polyfit(z, v, 1), z)
        assert given == pytest.approx(1 - rest.var() / v.var(), abs=1e-9)


def test_predictability_of_two_values_is_nearly_that_of_the_best_threshold():
    """The tree chooses its threshold by Gini impurity; the best one is found by trying all."""
    train = mixed(0)
    found = measure_separability(train, train).predictability[:, 0]
    v = train.factors[:, 0] == 1
    for given, z in zip(found, train.codes.T, strict=True):
        accuracies = [((z > t)[v].mean() + (z <= t)[~v].mean()) / 2 for t in z]
        best = max(max(a, 1 - a) for a in accuracies)
        assert best - 0.03 <= given <= best + 1e-12


def test_predictability_weighs_values_alike_however_rare_they_are():
    """A unit that tells nothing has the accuracy of guessing one of V values, not the share of the most frequent one."""
    v = np.stack([np.arange(1_000) % 10 == 0, np.arange(1_000) % 2], axis=1).astype(int)
    data = Factored(np.stack([v[:, 1], np.zeros(1_000)], axis=1).astype(float), v)
    np.testing.assert_allclose(measure_separability(data, data).predictability[1], [0.5, 0.5])


def test_explicitness_is_the_share_of_pairs_in_the_right_order():
    """Of a unit with values 0..3: all pairs of one value and another at the ends, 2 of 3 in the middle."""
    sizes = (4, 2)
    v = np.array([[a, b] for a in range(sizes[0]) for b in range(sizes[1])] * 50)
    data = Factored(v.astype(float), v)
    np.testing.assert_allclose(measure_explicitness(data, data).per_factor, [(1 + 2 / 3 + 2 / 3 + 1) / 4, 1], atol=1e-9)
    one_hot = Factored(np.column_stack([np.eye(4)[v[:, 0]], v[:, 1]]), v)
    np.testing.assert_allclose(measure_explicitness(one_hot, one_hot).per_factor, [1, 1])
