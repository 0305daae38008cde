"""The parts of a score's noise, on data made of known ones."""

import numpy as np
import pytest

from mpdvae.report.noise import Noise, noise

SEEDS, LUCK, REST = 0.02, 0.01, 0.005


def made(runs: int, subsets: int, generator: np.random.Generator) -> np.ndarray:
    """Scores with the three effects of the model."""
    seed = SEEDS * generator.normal(size=(runs, 1))
    luck = LUCK * generator.normal(size=(1, subsets))
    return 0.9 + seed + luck + REST * generator.normal(size=(runs, subsets))


def test_components_are_estimated_without_bias():
    """Mean of the squares over many matrices of three runs and five subsets."""
    generator = np.random.default_rng(0)
    found = [noise(made(3, 5, generator).tolist()) for _ in range(4000)]
    squares = np.array([[n.subsets**2, n.seeds**2, n.both**2] for n in found])
    expected = np.array([LUCK**2 + REST**2, SEEDS**2, SEEDS**2 + LUCK**2 + REST**2])
    np.testing.assert_allclose(squares.mean(0), expected, rtol=0.06)


def test_many_runs_and_subsets_show_their_components():
    found = noise(made(300, 200, np.random.default_rng(1)).tolist())
    assert found.seeds == pytest.approx(SEEDS, rel=0.15)
    assert found.subsets == pytest.approx(np.hypot(LUCK, REST), rel=0.15)


def test_luck_common_to_all_runs_is_no_noise_of_seeds():
    found = noise([[0.1, 0.9, 0.4]] * 4)
    assert found.seeds == pytest.approx(0, abs=1e-12)
    assert found.subsets == pytest.approx(np.std([0.1, 0.9, 0.4], ddof=1))


def test_seeds_alone():
    found = noise([[0.5, 0.5], [0.7, 0.7], [0.9, 0.9]])
    assert (found.subsets, found.seeds, found.both) == pytest.approx((0, 0.2, 0.2))


def test_a_negative_estimate_is_zero():
    assert noise([[0.0, 1.0], [1.0, 0.0]]).seeds == 0


def test_what_one_run_or_one_subset_cannot_tell():
    one_run, one_subset = noise([[0.5, 0.7]]), noise([[0.5], [0.7]])
    assert one_run.subsets == one_subset.seeds == pytest.approx(np.sqrt(0.02))
    assert one_run.seeds is one_run.both is one_subset.subsets is one_subset.both is None
    assert noise([[0.5]]) == Noise(None, None, None)
    with pytest.raises(ValueError, match="expected the same number of subsets for each run, got 1 and 2"):
        noise([[0.5], [0.7, 0.8]])
