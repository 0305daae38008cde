"""Laws that hold for all measures of disentanglement: what is perfect, what is invariant, what is refused."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from factor_tables import SIZES, mixed, noisy, perfect, unrelated

from mpdvae.errors import InputError
from mpdvae.measures import Disentanglement, measure_disentanglement
from mpdvae.measures.disentanglement import (
    Factored,
    measure_explicitness,
    measure_gap,
    measure_importance,
    measure_modularity,
    measure_separability,
)

Change = Callable[[Factored], Factored]


def scores(train: Factored, test: Factored, **options) -> dict[str, float]:
    found: Disentanglement = measure_disentanglement(*train, *test, **options)
    return {
        "mig": found.mig.score,
        "disentanglement": found.dci.disentanglement,
        "completeness": found.dci.completeness,
        "informativeness": found.dci.informativeness,
        "sap": found.sap.score,
        "modularity": found.modularity.score,
        "explicitness": found.explicitness.score,
    }


@pytest.fixture(scope="module")
def of_mixed() -> dict[str, float]:
    return scores(mixed(0), mixed(1))


def test_one_unit_for_each_factor_is_perfect():
    """Up to the part that guessing has in the accuracies of SAP, and to linear classifiers that miss values in the middle."""
    found = scores(perfect(0), perfect(1))
    highest = dict.fromkeys(found, 1.0)
    highest["sap"] = np.mean([1 - 1 / values for values in SIZES])
    middle = [np.mean([max(k, values - 1 - k) / (values - 1) for k in range(values)]) for values in SIZES]
    highest["explicitness"] = np.mean(middle)
    assert found == pytest.approx(highest, abs=0.005)


def test_sap_of_ordered_factors_is_one_for_perfect_codes():
    assert scores(perfect(0), perfect(1), ordered=[True] * 3)["sap"] == pytest.approx(1)


def test_a_rotation_loses_what_depends_on_axes_and_keeps_what_does_not():
    reflected = np.eye(3) - 2 / 3
    straight, turned = (scores(noisy(0, axes), noisy(1, axes)) for axes in (np.eye(3), reflected))
    for name in ("mig", "disentanglement", "completeness", "sap"):
        assert turned[name] < 0.6 * straight[name], name
    assert turned["modularity"] < straight["modularity"] - 0.05
    assert turned["explicitness"] == pytest.approx(straight["explicitness"], abs=0.02)
    assert turned["informativeness"] > 0.8


def test_codes_that_tell_nothing_have_the_scores_of_chance():
    found = scores(unrelated(0, copies=40), unrelated(1, copies=40))
    chance = np.mean([1 / values for values in SIZES])
    for name, expected in (("mig", 0), ("sap", 0), ("explicitness", 0.5), ("informativeness", chance)):
        assert found[name] == pytest.approx(expected, abs=0.04), name
    for name in ("disentanglement", "completeness"):
        assert 0 <= found[name] < 0.1, name


def in_other_units(data: Factored) -> Factored:
    return Factored(data.codes * [3, 0.25, 10, 1, 7] + [1, -2, 0, 5, 100], data.factors)


def in_another_order(data: Factored) -> Factored:
    return Factored(data.codes[:, [3, 0, 4, 2, 1]], data.factors)


def with_factors_in_another_order(data: Factored) -> Factored:
    return Factored(data.codes, data.factors[:, [2, 0, 1]])


def with_values_under_other_numbers(data: Factored) -> Factored:
    names = [[7, -3], [2, 9, 0, 4], [3, 1, 4, 0, 2]]
    columns = [np.array(number)[values] for number, values in zip(names, data.factors.T, strict=True)]
    return Factored(data.codes, np.stack(columns, axis=1))


@pytest.mark.parametrize(
    "change",
    [in_other_units, in_another_order, with_factors_in_another_order, with_values_under_other_numbers],
    ids=lambda change: change.__name__,
)
def test_scores_do_not_depend_on(change: Change, of_mixed):
    """Ties between units are broken by their order, which changes the scores of DCI a little."""
    found = scores(change(mixed(0)), change(mixed(1)))
    for name in found:
        tolerance = 0.02 if name in ("disentanglement", "completeness", "informativeness") else 1e-6
        assert found[name] == pytest.approx(of_mixed[name], abs=tolerance), name


def test_a_constant_unit_changes_no_score_of_the_others(of_mixed):
    def with_constant(data: Factored) -> Factored:
        return Factored(np.column_stack([data.codes, np.full(len(data.codes), 0.1)]), data.factors)

    found = scores(with_constant(mixed(0)), with_constant(mixed(1)))
    for name in ("mig", "sap", "modularity", "explicitness", "disentanglement"):
        assert found[name] == pytest.approx(of_mixed[name], abs=0.01), name


def test_units_that_are_all_constant_tell_nothing():
    nothing = [Factored(np.ones((len(data.codes), 3)), data.factors) for data in (perfect(0), perfect(1))]
    found = scores(*nothing)
    for name in ("mig", "sap", "modularity", "disentanglement", "completeness"):
        assert found[name] == pytest.approx(0), name
    assert found["explicitness"] == 0.5


def test_the_same_seed_gives_the_same_numbers_ready_for_json():
    first, again = (measure_disentanglement(*mixed(0), *mixed(1), names=["a", "b", "c"]).to_dict() for _ in range(2))
    assert json.loads(json.dumps(first, allow_nan=False)) == first == again
    assert list(first["mig"]["per_factor"]) == first["factors"] == ["a", "b", "c"]


def with_code(value: float) -> Change:
    def change(data: Factored) -> Factored:
        codes = data.codes.copy()
        codes[4, 1] = value
        return Factored(codes, data.factors)

    return change


def with_column(value: int) -> Change:
    def change(data: Factored) -> Factored:
        factors = data.factors.copy()
        factors[:, 1] = value
        return Factored(data.codes, factors)

    return change


REFUSED: dict[str, tuple[Change, Change, str]] = {
    "lengths": (
        lambda d: Factored(d.codes, d.factors[1:]),
        lambda d: d,
        r"train_factors: expected a row for each of 600 codes, at least one, got 599\.",
    ),
    "none": (lambda d: Factored(d.codes[:0], d.factors[:0]), lambda d: d, "at least one, got 0"),
    "NaN": (lambda d: d, with_code(np.nan), r"test_codes: the code of image 4 is not finite .*\(1 of 600 are not\)"),
    "infinite": (with_code(-np.inf), lambda d: d, "train_codes: the code of image 4 is not finite"),
    "too large": (with_code(1e39), lambda d: d, "not finite in single precision"),
    "one value": (with_column(3), lambda d: d, "at least 2 values of each factor, got only 3 in column 1"),
    "one unit": (lambda d: Factored(d.codes[:, :1], d.factors), lambda d: d, r"at least 2 units, got shape \(600, 1\)"),
    "one factor": (
        lambda d: Factored(d.codes, d.factors[:, :1]),
        lambda d: d,
        r"at least 2 factors, got shape \(600, 1\)",
    ),
    "no integers": (
        lambda d: Factored(d.codes, d.factors.astype(float)),
        lambda d: d,
        "train_factors: expected the numbers of values, as integers, got float64",
    ),
    "other units": (
        lambda d: d,
        lambda d: Factored(d.codes[:, :2], d.factors),
        "test_codes: expected 3 columns as in the training set, got 2",
    ),
    "other factors": (
        lambda d: d,
        lambda d: Factored(d.codes, d.factors[:, :2]),
        "test_factors: expected 3 columns as in the training set, got 2",
    ),
    "a new value": (
        lambda d: d,
        lambda d: Factored(d.codes, d.factors + (d.factors == 4)),
        "expected the values of the training set in column 2, but 4 is in one of them only",
    ),
    "too few": (
        lambda d: d,
        lambda d: Factored(d.codes[:200], d.factors[:200]),
        r"expected at least 238 images to estimate .* the 5 values of factor 2 with 20 bins, got 200; give more images",
    ),
}


OTHER_FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "tensors": torch.from_numpy,
    "tensors with gradients": lambda x: torch.tensor(x, requires_grad=x.dtype.kind == "f"),
    "lists": np.ndarray.tolist,
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_tensors_and_lists_are_measured_as_arrays_are(form):
    train, test = perfect(0), perfect(1)
    in_form = [Factored(*map(OTHER_FORMS[form], data)) for data in (train, test)]
    assert scores(*in_form) == scores(train, test)
    assert measure_gap(in_form[1]).score == measure_gap(test).score
    assert measure_modularity(in_form[1]).score == measure_modularity(test).score
    for measure in (measure_importance, measure_separability, measure_explicitness):
        np.testing.assert_equal(vars_of(measure(*in_form)), vars_of(measure(train, test)))


def vars_of(result: Any) -> dict[str, Any]:
    """The fields of a result."""
    return result._asdict() if hasattr(result, "_asdict") else vars(result)


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_codes_that_are_not_finite_are_refused_in_every_form(form):
    codes, factors = perfect(0)
    codes[7, 1] = np.nan
    with pytest.raises(InputError, match="train_codes: the code of image 7 is not finite"):
        measure_disentanglement(OTHER_FORMS[form](codes), factors, *perfect(1))


@pytest.mark.parametrize("given", [[[1.0], [1.0, 2.0]], [["a", "b"]], np.array([[1j, 2j]]), torch.ones(2, 2) * 1j])
def test_what_are_no_numbers_is_refused(given):
    for place, name in enumerate(("train_codes", "train_factors", "test_codes", "test_factors")):
        arguments = [*perfect(0), *perfect(1)]
        arguments[place] = given
        with pytest.raises(
            InputError, match=f"{name}: expected numbers, as an array, a tensor or lists of one length, got "
        ):
            measure_disentanglement(*arguments)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_measured_is_refused(what):
    train, test, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        measure_disentanglement(*train(perfect(0)), *test(perfect(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a", "b"]}, "names: expected one for each of 3 factors, got 2"),
        ({"names": ["a", "b", "a"]}, "names: expected different names, got a, b, a"),
        ({"ordered": [True]}, "ordered: expected one for each of 3 factors, got 1"),
        ({"bins": 1}, "bins: expected at least 2, got 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        measure_disentanglement(*perfect(0), *perfect(1), **options)
