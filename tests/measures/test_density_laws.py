"""Laws of likelihood estimates, on every model of known_models.py, whose likelihood is known."""

from functools import cache

import pytest
import torch
from known_models import Known, every_model, images, known, linear_gaussian

from mpdvae.measures.density import DensityEstimate, estimate
from mpdvae.measures.importance_sampling import NOISE_BLOCK, ProposalName
from mpdvae.measures.importance_weights import largest_reliable_shape

SAMPLES = 128
REPEATS = 50
"""Estimates of each image, with noise of their own."""


@cache
def repeated(
    name: str, samples: int, tolerance: float | None = None, proposal: ProposalName = "encoder"
) -> tuple[Known, DensityEstimate, torch.Tensor]:
    """The model, `REPEATS` estimates of each of its images, and the true value beside each estimate."""
    model = known(name)
    x = model.x.repeat(REPEATS, 1, 1, 1)
    e = estimate(model.vae, x, samples, tolerance=tolerance, proposal=proposal)
    return model, e, model.log_prob.detach().repeat(REPEATS)


def over_repeats(values: torch.Tensor) -> tuple[float, float]:
    """Mean over images of the mean over repeats, and its standard error from the spread over repeats."""
    means = values.unflatten(0, (REPEATS, -1)).mean(1)
    return means.mean().item(), means.std().item() / REPEATS**0.5


both_proposals = pytest.mark.parametrize("proposal", ["encoder", "fitted"])


@every_model
@both_proposals
def test_weights_are_unbiased(name, proposal):
    _, e, true = repeated(name, SAMPLES, proposal=proposal)
    mean, error = over_repeats((e.log_prob - true).exp())
    assert abs(mean - 1) < 4 * error


@every_model
def test_bounds_rise_with_the_samples_towards_the_truth(name):
    _, e, true = repeated(name, SAMPLES)
    assert e.bound_sizes == [1, 2, 4, 8, 16, 32, 64, 128]
    torch.testing.assert_close(e.bounds[:, 0], e.elbo)
    torch.testing.assert_close(e.bounds[:, -1], e.log_prob)
    bounds = e.bounds.mean(0)
    assert (bounds.diff() > 0).all()
    above, error = over_repeats(e.log_prob - true)
    assert above < 3 * error


@every_model
def test_the_jackknife_takes_bias_away(name):
    _, e, true = repeated(name, 8)
    bias, error = over_repeats(e.extrapolated_log_prob - true)
    assert bias == pytest.approx(0, abs=max(3 * error, abs(over_repeats(e.log_prob - true)[0]) / 3))


@every_model
@pytest.mark.parametrize("value", ["log_prob", "extrapolated_log_prob"])
def test_intervals_cover_as_often_as_they_say(name, value):
    _, e, true = repeated(name, SAMPLES)
    error = {"log_prob": e.standard_error, "extrapolated_log_prob": e.extrapolated_standard_error}[value]
    covered = ((getattr(e, value) - true).abs() < 1.96 * error).double().mean()
    assert 0.91 < covered < 0.98


TOLERANCE = 0.1


@every_model
@both_proposals
def test_sampling_ends_when_the_error_is_small_enough(name, proposal):
    _, e, true = repeated(name, 500, TOLERANCE, proposal)
    trusted = (e.pareto_k <= largest_reliable_shape(e.samples_drawn)) | e.pareto_k.isnan()
    assert (((e.standard_error <= TOLERANCE) & trusted) | (e.samples_drawn == 500)).all()
    assert set(e.samples_drawn.tolist()) <= {64, 128, 256, 500}
    assert e.samples_drawn.double().mean() < 400
    bias, error = over_repeats(e.log_prob - true)
    assert -TOLERANCE / 4 < bias < 3 * error
    covered = ((e.log_prob - true).abs() < 1.96 * e.standard_error).double().mean()
    assert covered > 0.9


def test_an_image_that_ended_early_is_what_fewer_samples_give():
    model, e, _ = repeated("binary", 500, TOLERANCE)
    for drawn in e.samples_drawn.unique().tolist():
        chosen = (e.samples_drawn == drawn).nonzero().flatten()[:5]
        x = model.x.repeat(REPEATS, 1, 1, 1)[chosen]
        alone = estimate(model.vae, x, drawn, indices=chosen.tolist(), proposal="encoder")
        for field, value in alone.tensors().items():
            ended = getattr(e, field)[chosen]
            ended = ended[:, : value.shape[1]] if field == "bounds" and drawn < 500 else ended
            torch.testing.assert_close(ended, value, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_an_exact_posterior_needs_one_block():
    vae, law = linear_gaussian()
    progress: list[tuple[int, int]] = []
    e = estimate(
        vae,
        images(law, 5),
        10_000,
        tolerance=1e-6,
        progress=lambda *call: progress.append(call),
        proposal="encoder",
    )
    assert e.samples_drawn.tolist() == [NOISE_BLOCK] * 5
    assert progress[-1] == (50_000, 50_000)


def test_the_budget_moves_nothing_when_images_end_early():
    vae, law = linear_gaussian(widened=1.5)
    x = images(law, 20)
    whole = estimate(vae, x, 600, tolerance=0.05)
    parts = estimate(vae, x, 600, tolerance=0.05, memory_budget=400_000)
    for field, value in whole.tensors().items():
        torch.testing.assert_close(getattr(parts, field), value, rtol=1e-9, atol=1e-9, equal_nan=True)
    some = estimate(vae, x[[7, 3]], 600, tolerance=0.05, indices=[7, 3])
    torch.testing.assert_close(some.log_prob, whole.log_prob[[7, 3]])
