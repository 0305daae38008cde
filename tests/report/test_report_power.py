"""Power: against simulated matrices, and monotone in what costs."""

import math

import numpy as np
import pytest
from report_folders import add_per_image, make_matrix

from mpdvae.measures.crossed_effects import student_quantile
from mpdvae.report.claims import CLAIMS, Condition
from mpdvae.report.collect import collect
from mpdvae.report.pilots import PILOTS
from mpdvae.report.power import Noise, key_of, noises_of, plan, power, seeds_needed

NOISE = Noise((0.15, 0.15), 1.0, 0.02, 0.5)


def simulated(condition: Condition, noise: Noise, seeds: int, images: int, true: float, repeats: int = 4000) -> float:
    random = np.random.default_rng(seeds)
    of_run = [math.sqrt(s**2 + noise.rest**2 / images) for s in noise.seeds]
    runs = [s * random.normal(size=(repeats, seeds)) for s in of_run]
    of_images = noise.images * random.normal(size=(repeats, images))
    means = runs[0].mean(1) - runs[1].mean(1) + of_images.mean(1) + noise.fixed * random.normal(size=repeats) + true
    terms = [(r.var(1, ddof=1) / seeds, seeds - 1) for r in runs]
    terms += [(of_images.var(1, ddof=1) / images, images - 1)]
    variance = sum(v for v, _ in terms) + noise.fixed**2
    degrees = variance**2 / sum(v**2 / d for v, d in terms)
    half = np.array([student_quantile(0.95, float(d)) for d in degrees]) * np.sqrt(variance)
    start, end = condition.region
    return float(np.mean((start < means - half) & (means + half < end)))


@pytest.mark.parametrize(
    ("relation", "true"), [("lower", -0.4), ("higher", 0.4), ("not worse", 0.0), ("equivalent", 0.0)]
)
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_is_the_frequency_of_confirmation(relation, true: float, seeds: int) -> None:
    condition = Condition(relation, "nll_nats", "a", "b", 0.4)
    assert power(condition, NOISE, seeds, 100) == pytest.approx(
        simulated(condition, NOISE, seeds, 100, true), abs=0.045
    )


def test_more_seeds_more_images_and_larger_differences_have_more_power() -> None:
    condition = Condition("lower", "nll_nats", "a", "b", 0.3)
    by_seeds = [power(condition, NOISE, n, 100) for n in range(2, 30)]
    assert by_seeds == sorted(by_seeds)
    assert power(condition, NOISE, 5, 1000) > power(condition, NOISE, 5, 50)
    assert power(Condition("lower", "nll_nats", "a", "b", 0.6), NOISE, 5, 100) > by_seeds[3]
    assert power(condition, NOISE, 5, 100, 0.01) < by_seeds[3]
    assert power(Condition("lower", "nll_nats", "a", "b", 1e3), NOISE, 5, 100) == 1.0
    assert power(condition, NOISE, 1, 100) == 0.0


def test_the_seeds_needed_are_the_fewest_that_suffice() -> None:
    condition = Condition("lower", "nll_nats", "a", "b", 0.3)
    needed = seeds_needed(condition, NOISE, 400)
    assert needed is not None
    assert power(condition, NOISE, needed, 400) >= 0.8 > power(condition, NOISE, needed - 1, 400)
    assert seeds_needed(Condition("lower", "nll_nats", "a", "b", 0.1), NOISE, 400) is None


def test_every_condition_that_scale_minutes_tests_has_a_pilot() -> None:
    known = PILOTS["mnist", "minutes"]
    tested = [c for claim in CLAIMS if claim.applies_to("mnist") for c in claim.conditions]
    assert {key_of(c) for c in tested} == set(known)
    assert len(plan(known, "mnist", 5, 200)) == len(tested)


def test_a_matrix_is_its_own_pilot(tmp_path) -> None:
    folders = make_matrix(tmp_path, seeds=4, pictures=False)
    for folder in folders:
        add_per_image(folder, 2.0)
    study = collect(folders).studies[0]
    found = noises_of(study)[("nll_nats", "mae", "vlae")]
    assert found.images * math.sqrt(60 / study.setting.images) == pytest.approx(2 * math.sqrt(2), rel=0.35)
    assert all(0.05 < s < 0.5 for s in found.seeds)
    assert found.rest == pytest.approx(0.3, rel=0.2)
    error, _ = found.error(4, study.setting.images)
    assert error > 0
