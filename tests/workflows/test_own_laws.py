"""Distributions of pixels that users return: the values that fit makes of images follow from their support."""

import numpy as np
import pytest
import torch
from torch import distributions as d
from torch import nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    ContinuousBernoulli,
    Distribution,
    Independent,
    Normal,
    Poisson,
    Uniform,
)

import mpdvae
from mpdvae.distributions.levels import LEVEL_IMAGES
from mpdvae.distributions.own_laws import values_within
from mpdvae.distributions.support import check_values, refuse_out_of_range
from mpdvae.errors import InputError
from mpdvae.experiments import own_parts
from mpdvae.experiments.experiment import origin_of
from mpdvae.models import GaussianEncoder, StandardNormal
from mpdvae.workflows.own_models import fit

SHAPE, LATENT = (1, 8, 8), 3
ZERO = torch.zeros(SHAPE)
INTENSITIES = {"binarisation": "intensities", "evaluation_draws": 1}
LEVELS = {"binarisation": "levels", "evaluation_draws": 1}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())


@pytest.mark.parametrize(
    ("law", "values"),
    [
        (Bernoulli(logits=ZERO), ("binary",)),
        (Binomial(1, logits=ZERO), ("binary",)),
        (Binomial(torch.ones(SHAPE), logits=ZERO), ("binary",)),
        (ContinuousBernoulli(logits=ZERO), ("intensities",)),
        (Beta(ZERO + 1, ZERO + 1), ("intensities",)),
        (Uniform(ZERO, ZERO + 1), ("intensities",)),
        (d.Exponential(ZERO + 1), ("intensities",)),
        (Normal(ZERO, ZERO + 1), ("levels", "intensities")),
        (d.Laplace(ZERO, ZERO + 1), ("levels", "intensities")),
        (Uniform(ZERO - 1, ZERO + 1), ("levels", "intensities")),
        (Binomial(255, logits=ZERO), ()),
        (Binomial(ZERO + 255, logits=ZERO), ()),
        (Poisson(ZERO + 1), ()),
        (d.LogNormal(ZERO, ZERO + 1), ()),
    ],
)  # fmt: skip
def test_the_support_tells_the_values(law: Distribution, values: tuple[str, ...]):
    assert values_within(Independent(law, 3).support, SHAPE) == values


def test_the_package_has_the_values_that_it_says():
    assert values_within(LEVEL_IMAGES, SHAPE) == ("levels",)


@pytest.mark.parametrize("law", [Binomial(ZERO.expand(2, 4, *SHAPE) + 2, logits=ZERO), Uniform(ZERO, ZERO + 2.5)])
def test_a_pixel_outside_is_named_whatever_the_limits_depend_on(law: Distribution):
    """Those of a Binomial have the shape of its parameters."""
    x = torch.zeros(4, *SHAPE)
    check_values(Independent(law, 3), x)
    x[2, 0, 1, 1] = 7
    with pytest.raises(InputError, match=r"numbers from 0 to 2.* but image 2 has the value 7"):
        check_values(Independent(law, 3), x)


@pytest.mark.parametrize("law", [ContinuousBernoulli(logits=ZERO), Beta(ZERO + 1, ZERO + 1), Uniform(ZERO, ZERO + 1)])
def test_the_range_of_an_interval_is_that_of_encoded_images(law: Distribution):
    refuse_out_of_range(Independent(law, 3).support, torch.ones(2, *SHAPE))
    with pytest.raises(InputError, match=r"expected pixels from 0 to 1, .* image 1 has the value 2"):
        refuse_out_of_range(Independent(law, 3).support, torch.stack([ZERO, ZERO + 2]))


class Decoder(nn.Module):
    def __init__(self, law) -> None:
        super().__init__()
        self.net, self.law = nn.Sequential(nn.Linear(LATENT, 64), nn.Unflatten(-1, SHAPE)), law

    def forward(self, z: torch.Tensor) -> Independent:
        return Independent(self.law(self.net(z)), 3)


def vae_with(law):
    def made(image_shape, latent_dim):
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent_dim))
        return mpdvae.VAE(GaussianEncoder(body, image_shape), Decoder(law), StandardNormal((latent_dim,)))

    return made


@pytest.mark.parametrize(
    ("law", "images", "values"),
    [
        (lambda h: ContinuousBernoulli(logits=h), None, "intensities"),
        (lambda h: ContinuousBernoulli(logits=h), INTENSITIES, "intensities"),
        (lambda h: Beta(h.exp() + 1, h.exp() + 1), None, "intensities"),
        (lambda h: Normal(h, 1.0), None, "levels"),
        (lambda h: Normal(h, 1.0), LEVELS, "levels"),
        (lambda h: Normal(h, 1.0), INTENSITIES, "intensities"),
    ],
)
def test_a_law_is_fitted_to_the_values_that_it_has(law, images, values, tmp_path):
    x = np.random.default_rng(0).uniform(0.1, 0.9, (60, 8, 8))
    made = fit(vae_with(law), x, images=images, out=tmp_path / "run", latent_dim=LATENT, epochs=1)
    assert origin_of(made).experiment.data.pixel_values == values


def test_one_function_is_fitted_to_each_of_its_values(tmp_path):
    """The second fit finds the function known, with the values of the first."""
    x, made = np.random.default_rng(0).random((60, 8, 8)), vae_with(lambda h: Normal(h, 1.0))
    for name, images in {"levels": None, "intensities": INTENSITIES, "again": LEVELS}.items():
        fit(made, x, images=images, out=tmp_path / name, latent_dim=LATENT, epochs=1)
    assert origin_of(mpdvae.load(tmp_path / "intensities")).experiment.data.pixel_values == "intensities"


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (lambda h: Binomial(255, logits=h), "whole numbers from 0 to 255"),
        (lambda h: Poisson(h.exp()), "whole numbers from 0 on"),
        (lambda h: d.LogNormal(h, 1.0), r"GreaterThan\(lower_bound=0\.0\)"),
    ],
)  # fmt: skip
def test_a_law_of_other_values_is_refused(law, words, tmp_path):
    with pytest.raises(
        InputError, match=rf"^vae: expected a decoder of pixels that are 0 or 1, .* distribution of {words}; "
    ):
        fit(vae_with(law), np.zeros((60, 8, 8)), out=tmp_path / "run", latent_dim=LATENT, epochs=1)
