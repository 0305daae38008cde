"""Laws of every distribution of pixels in the table: normalisation, means, samples, gradients at the edges, support."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, logistic
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from mpdvae.distributions.discretised_logistic import LOG_SCALES, DiscretisedLogistic
from mpdvae.distributions.levels import LEVELS
from mpdvae.distributions.pixel_laws import INDEPENDENT_PIXELS, PixelLaw, logistic_mixture_pixels
from mpdvae.distributions.pixel_values import MODELLED, SUITED, PixelValues
from mpdvae.distributions.support import check_values
from mpdvae.errors import InputError

VALUES: dict[PixelValues, Tensor] = {
    "binary": torch.tensor([0.0, 1.0]).double(),
    "levels": torch.arange(256).double() / 127.5 - 1,
}
EXTREME = (-1e3, -30.0, -7.0, -1.0, 0.0, 0.5, 1.0, 7.0, 30.0, 1e3)

law = pytest.mark.parametrize("law", [pytest.param(law, id=name) for name, law in INDEPENDENT_PIXELS.items()])


@dataclass(frozen=True)
class Case:
    law: PixelLaw
    values: PixelValues
    channels: tuple[int, ...]


CASES = [
    *(pytest.param(Case(law, MODELLED[name], (1, 2, 3)), id=name) for name, law in INDEPENDENT_PIXELS.items()),
    pytest.param(Case(logistic_mixture_pixels(2), "levels", (3,)), id="discretised-logistic-mixture"),
]
case = pytest.mark.parametrize("case", CASES)


def values_of(law: PixelLaw) -> Tensor:
    """All values of a pixel in the law's support, and those of the other kinds outside it."""
    inside = [v for v in VALUES.values() if law.support.check(v[:, None, None, None]).all()]
    assert len(inside) == 1
    return inside[0]


def one_pixel(law: PixelLaw, *parameters: float) -> Distribution:
    return law(torch.tensor(parameters, dtype=torch.float64)[:, None, None])


def settings(law: PixelLaw, count: int = 12) -> Tensor:
    """Parameters of a grey pixel, [count maps], some of them far out."""
    moderate = torch.randn(count, law.maps(1), dtype=torch.float64)
    far = torch.cartesian_prod(*[torch.tensor([-7.0, -1.0, 0.3, 3.0]).double()] * law.maps(1)).view(-1, law.maps(1))
    return torch.cat([moderate, far])


def probabilities(law: PixelLaw, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """All values of a pixel and their probabilities."""
    values = values_of(law)
    return values, one_pixel(law, *parameters.tolist()).log_prob(values[:, None, None, None]).exp()


@law
def test_probabilities_sum_to_one(law):
    for parameters in settings(law):
        assert probabilities(law, parameters)[1].sum().item() == pytest.approx(1, abs=1e-9)


@law
def test_the_mean_is_that_of_the_probabilities(law):
    for parameters in settings(law):
        values, p = probabilities(law, parameters)
        assert one_pixel(law, *parameters.tolist()).mean.item() == pytest.approx((values * p).sum().item(), abs=1e-9)


@law
def test_samples_follow_the_probabilities(law):
    """Chi-square, 20,000 draws, values expected less than five times taken together."""
    for parameters in settings(law, 2)[[0, 1, -1, 4 if law.maps(1) > 1 else -2]]:
        values, p = probabilities(law, parameters)
        drawn = one_pixel(law, *parameters.tolist()).sample((20_000,)).flatten()
        counts = (drawn[:, None] - values).abs().argmin(1).bincount(minlength=len(values)).double()
        assert law.support.check(drawn[:, None, None, None]).all()
        expected = p * len(drawn)
        often = expected > 5
        found = np.append(counts[often], counts[~often].sum())
        wanted = np.append(expected[often], expected[~often].sum())
        if often.all():
            found, wanted = found[:-1], wanted[:-1]
        if len(wanted) > 1 and wanted[-1] > 1e-3:
            assert chisquare(found, wanted * found.sum() / wanted.sum()).pvalue > 1e-3
        else:
            np.testing.assert_allclose(found, wanted, atol=5)


@law
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_whatever_the_parameters(law, dtype):
    grid = torch.cartesian_prod(*[torch.tensor(EXTREME)] * law.maps(1)).view(-1, law.maps(1))
    theta = grid.mT[:, :, None].to(dtype).requires_grad_()
    for value in values_of(law)[[0, 1, -2, -1]]:
        log_prob = law(theta).log_prob(torch.full((1, len(grid), 1), value.item(), dtype=dtype))
        assert log_prob.isfinite().all()
        assert log_prob <= 0
        (gradient,) = torch.autograd.grad(log_prob, theta)
        assert gradient.isfinite().all()
    assert law.support.check(law(theta).sample()).all()


@case
def test_shapes_and_independence_of_pixels(case):
    for channels in case.channels:
        theta = torch.randn(4, case.law.maps(channels), 2, 3).double()
        p = case.law(theta)
        assert (p.batch_shape, p.event_shape) == ((4,), (channels, 2, 3))
        x = p.sample((5,))
        assert x.shape == (5, 4, channels, 2, 3)
        assert not x.requires_grad
        alone = sum(
            case.law(theta[..., i : i + 1, j : j + 1]).log_prob(x[..., i : i + 1, j : j + 1])
            for i in range(2)
            for j in range(3)
        )
        torch.testing.assert_close(p.log_prob(x), alone)


@case
def test_the_support_is_the_values_that_are_stated(case):
    p = case.law(torch.randn(case.law.maps(3), 1, 1))
    assert p.support is not None
    for kind, values in VALUES.items():
        images = values[:, None, None, None].expand(-1, 3, 1, 1)
        assert case.law.support.check(images).all() == p.support.check(images).all() == (kind == case.values)
    assert not case.law.support.check(torch.full((3, 1, 1), torch.nan))
    assert case.law.support.check(p.sample())


def test_every_kind_of_values_has_a_law_that_suits_it():
    assert set(INDEPENDENT_PIXELS) | {"discretised-logistic-mixture"} == set(MODELLED)
    assert {kind: MODELLED[name] for kind, name in SUITED.items()} == {kind: kind for kind in VALUES}


# -- discretised logistic ----------------------------------------------------------------------------------------------


def mass(mean: float, scale: float) -> np.ndarray:
    """Probabilities of the 256 levels by SciPy's logistic, each from the nearer tail."""
    bounds = np.concatenate([[-np.inf], np.arange(1, 256) / 127.5 - 1 - 1 / 255, [np.inf]])
    below, above = bounds[:-1], bounds[1:]
    from_above = logistic.sf(below, mean, scale) - logistic.sf(above, mean, scale)
    from_below = logistic.cdf(above, mean, scale) - logistic.cdf(below, mean, scale)
    return np.where(below > mean, from_above, from_below)


@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.003, 0.9, 1.2])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0, 2.0, 7.0])
def test_probabilities_are_masses_of_bins(mean, log_scale):
    p = probabilities(INDEPENDENT_PIXELS["discretised-logistic"], torch.tensor([mean, log_scale], dtype=torch.float64))[
        1
    ]
    expected = mass(mean, np.exp(log_scale))
    assert p.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_gradients_agree_with_differences():
    theta = torch.randn(4, 2, 2).double().requires_grad_()
    x = torch.tensor([[[-1.0, 1.0], [1 / 255, -1 / 255]]] * 2).double()
    assert torch.autograd.gradcheck(lambda theta: DiscretisedLogistic(theta).log_prob(x), theta)


def test_log_scales_are_limited():
    for limit, beyond in zip(LOG_SCALES, (-9.0, 9.0), strict=True):
        theta = torch.tensor([0.1, beyond])[:, None, None]
        assert DiscretisedLogistic(theta).log_scale.item() == limit


def test_an_odd_number_of_maps_is_refused():
    with pytest.raises(InputError, match="expected a mean and a log-scale for each channel, got 3 maps"):
        DiscretisedLogistic(torch.zeros(3, 2, 2))


# -- values outside the support ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outside:
    images: Callable[[], Tensor]
    message: str


def spoilt(value: float) -> Tensor:
    x = torch.zeros(5, 1, 2, 2)
    x[3, 0, 1, 0] = value
    return x


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan")])
def test_a_grey_pixel_is_no_value_of_a_binary_one(value):
    p = INDEPENDENT_PIXELS["bernoulli"](torch.zeros(1, 2, 2))
    check_values(p, torch.ones(5, 1, 2, 2))
    with pytest.raises(InputError, match=rf"expected images of 0 and 1, .* but image 3 has the value {value:.4g}, "):
        check_values(p, spoilt(value))
    with pytest.raises(InputError, match="but image 70 has the value"):
        check_values(p, spoilt(value), [40, 50, 60, 70, 80])


@pytest.mark.parametrize("value", [0.5, -1.01, 1.0 + 2 / 255, 0.0, float("nan")])
def test_between_the_levels_there_is_no_probability(value):
    p = INDEPENDENT_PIXELS["discretised-logistic"](torch.zeros(2, 2, 2))
    x = torch.full((5, 1, 2, 2), 1 / 255)
    check_values(p, x)
    check_values(p, (torch.arange(256) / 127.5 - 1)[:, None, None, None].expand(-1, 1, 2, 2))
    x[3, 0, 1, 0] = value
    with pytest.raises(InputError, match=r"expected images of the 256 levels .* but image 3 has the value"):
        check_values(p, x)


def test_what_states_no_support_is_not_checked_and_gaussians_take_all_numbers():
    class Silent(Distribution):
        pass

    check_values(Silent(validate_args=False), spoilt(0.5))
    check_values(Independent(Normal(torch.zeros(1, 2, 2), 1.0), 3), spoilt(0.5))


def test_levels_are_as_many_as_their_module_says():
    assert len(VALUES["levels"]) == LEVELS
