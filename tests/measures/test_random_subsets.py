"""Random subsets of images: which they are, and whether their intervals hold the mean over the full set."""

import pytest
import torch
from scipy import stats

from mpdvae.errors import InputError
from mpdvae.measures.random_subsets import error_of_mean, mean_and_error, random_subset


def test_a_subset_is_random_and_begins_a_larger_one():
    ten, hundred = random_subset(10, 1000), random_subset(100, 1000)
    assert torch.equal(hundred[:10], ten)
    assert len(hundred.unique()) == 100
    assert hundred.double().mean().item() == pytest.approx(500, abs=120)
    assert not torch.equal(ten.sort().values, torch.arange(10))
    assert torch.equal(random_subset(7, 7).sort().values, torch.arange(7))


@pytest.mark.parametrize("form", [torch.Tensor.numpy, torch.Tensor.tolist])
def test_the_mean_of_arrays_and_lists_is_that_of_tensors(form):
    values, noise = torch.rand(2, 6, dtype=torch.float64)
    assert mean_and_error(form(values), 2, 10, form(noise)) == mean_and_error(values, 2, 10, noise)


@pytest.mark.parametrize("count", [0, -1, 8])
def test_more_images_than_there_are_are_refused(count):
    with pytest.raises(InputError, match=rf"images: expected a number from 1 to 7, .* got {count}"):
        random_subset(count, 7)


@pytest.mark.parametrize("n", [5, 40, 60])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_intervals_hold_the_mean_of_the_full_set(n, noise):
    """A set of 60 images; subsets of them, each value with noise of its own. With all images only the noise is left."""
    population = torch.randn(60, dtype=torch.float64) * 2 + 90
    held = []
    for _ in range(1500):
        chosen = torch.randperm(60)[:n]
        values = population[chosen] + noise * torch.randn(n, dtype=torch.float64)
        errors = torch.full((n,), noise, dtype=torch.float64)
        low, high = mean_and_error(values, population=60, noise=errors)["interval_95_of_full_set"]
        held.append(low - 1e-9 <= population.mean().item() <= high + 1e-9)
    share = sum(held) / len(held)
    assert share == 1 if n == 60 and noise == 0 else 0.93 < share < 0.98


def test_without_a_full_set_it_is_students_interval():
    values = torch.randn(12, dtype=torch.float64)
    found = mean_and_error(values, population=10**9)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert found["interval_95_of_full_set"] == pytest.approx(expected, rel=1e-6)
    assert found["standard_error"] == pytest.approx(stats.sem(values))


def test_draws_of_one_image_are_no_images():
    values = torch.randn(12, dtype=torch.float64)
    once, five = mean_and_error(values), mean_and_error(values.repeat(5), draws=5)
    assert five["mean"] == pytest.approx(once["mean"])
    assert five["standard_error"] == pytest.approx(once["standard_error"])


def test_what_one_image_cannot_give_is_null():
    one = torch.tensor([3.0], dtype=torch.float64)
    assert mean_and_error(one) == {"mean": 3.0, "standard_error": None}
    assert mean_and_error(one, population=2)["interval_95_of_full_set"] is None
    assert mean_and_error(one, population=1)["interval_95_of_full_set"] == [3.0, 3.0]


def test_the_error_of_a_mean():
    assert error_of_mean(torch.tensor([3.0, 4.0], dtype=torch.float64)).item() == pytest.approx(2.5)
