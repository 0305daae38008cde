"""Laws of every distribution of pixels in the table: normalisation, means, samples, gradients at the edges, support."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, logistic, norm, truncexpon
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from mpdvae.distributions.continuous_bernoulli import SERIES, ContinuousBernoulliPixels
from mpdvae.distributions.discretised_logistic import GREATEST_LOG_SCALE, SUMMED_LEVELS, DiscretisedLogistic
from mpdvae.distributions.gaussian import LEAST_LOG_SIGMA, GaussianPixels
from mpdvae.distributions.levels import LEVELS, half_bin, least_log_scale, level_images, level_index, level_value
from mpdvae.distributions.pixel_laws import (
    PixelLaw,
    bernoulli_pixels,
    categorical_pixels,
    continuous_bernoulli_pixels,
    discretised_logistic_pixels,
    gaussian_pixels,
    logistic_mixture_pixels,
    logistic_pixels,
    pixel_law,
)
from mpdvae.distributions.pixel_values import MODELLED, SUITED, SUITED_AUTOREGRESSIVE, PixelValues
from mpdvae.distributions.support import check_values
from mpdvae.errors import InputError


def all_levels(levels: int) -> Tensor:
    return level_value(torch.arange(levels).double(), levels)


VALUES: dict[PixelValues, Tensor] = {
    "binary": torch.tensor([0.0, 1.0]).double(),
    "levels": all_levels(256),
    "intensities": torch.linspace(0, 1, 8, dtype=torch.float64),
}
EXTREME = (-1e3, -30.0, -7.0, -1.0, 0.0, 0.5, 1.0, 7.0, 30.0, 1e3)


@dataclass(frozen=True)
class Nodes:
    """Values of a pixel, and the weight of each in a sum or an integral over all values."""

    values: Tensor
    weights: Tensor


def counted(values: Tensor) -> Callable[[Distribution], Nodes]:
    return lambda p: Nodes(values, torch.ones_like(values))


def unit_interval(p: Distribution) -> Nodes:
    """Gauss and Legendre's quadrature on [0, 1]."""
    values, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(200))
    return Nodes((values + 1) / 2, weights / 2)


def around_the_mean(p: Distribution) -> Nodes:
    """The trapezoidal rule, which is exact to rounding for a Gaussian."""
    assert isinstance(p, GaussianPixels)
    sigma = p.log_sigma.exp().item()
    steps = torch.linspace(-12, 12, 481, dtype=torch.float64)
    return Nodes(p.mean.item() + sigma * steps, torch.full_like(steps, sigma / 20))


def truncated_exponential(logit: float) -> Callable[[np.ndarray], np.ndarray]:
    """SciPy's distribution function of a continuous Bernoulli."""
    falling = truncexpon(b=abs(logit), scale=1 / abs(logit))
    return falling.cdf if logit < 0 else lambda x: falling.sf(1 - x)


def soft_sigma(raw: float) -> float:
    return np.exp(LEAST_LOG_SIGMA + np.logaddexp(0, raw - LEAST_LOG_SIGMA))


@dataclass(frozen=True)
class Case:
    """A law for grey pixels, and what is known of it from elsewhere."""

    law: PixelLaw
    nodes: Callable[[Distribution], Nodes]
    distribution_function: Callable[..., Callable] | None = None
    """Of a density, given its parameters."""
    error: float = 1e-9
    """Allowed in the sum of probabilities."""
    is_mixture: bool = False
    """Whether its mean has no formula, and its mode is that of the likeliest component (`test_logistic_mixture`)."""

    def __call__(self, parameters: Tensor) -> Distribution:
        return self.law(parameters)

    @property
    def parameters(self) -> int:
        return self.law.maps(1) + self.law.shared


GREY = {
    "bernoulli": Case(bernoulli_pixels, counted(VALUES["binary"])),
    "discretised-logistic": Case(discretised_logistic_pixels, counted(VALUES["levels"])),
    "discretised-logistic-of-16": Case(logistic_pixels(16), counted(all_levels(16))),
    "discretised-logistic-mixture": Case(logistic_mixture_pixels(1), counted(VALUES["levels"]), None, 2e-5, True),
    "discretised-logistic-mixture-of-16": Case(
        logistic_mixture_pixels(1, "drawn", 16), counted(all_levels(16)), None, 2e-5, True
    ),
    "categorical-of-3": Case(categorical_pixels(3), counted(all_levels(3))),
    "gaussian": Case(gaussian_pixels, around_the_mean, lambda mean, raw: norm(mean, soft_sigma(raw)).cdf),
    "continuous-bernoulli": Case(continuous_bernoulli_pixels, unit_interval, truncated_exponential),
}
laws = pytest.mark.parametrize("law", [pytest.param(case, id=name) for name, case in GREY.items()])


@dataclass(frozen=True)
class OfImages:
    law: PixelLaw
    values: tuple[PixelValues, ...]
    channels: tuple[int, ...] = (1, 2, 3, 4)


OF_IMAGES = pytest.mark.parametrize(
    "case",
    [pytest.param(OfImages(pixel_law(name, components=2), values), id=name) for name, values in MODELLED.items()],
)


def one_pixel(law: PixelLaw | Case, *parameters: float) -> Distribution:
    return law(torch.tensor(parameters, dtype=torch.float64)[:, None, None])


def settings(law: Case, count: int = 12) -> Tensor:
    """Parameters of a grey pixel, [count maps], some of them far out."""
    moderate = torch.randn(count, law.parameters, dtype=torch.float64)
    far = torch.cartesian_prod(*[torch.tensor([-7.0, -1.0, 0.3, 3.0]).double()] * law.parameters)
    return torch.cat([moderate, far.view(-1, law.parameters)])


def probabilities(law: Case, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a pixel and their probabilities, or densities times weights of quadrature."""
    p = one_pixel(law, *parameters.tolist())
    nodes = law.nodes(p)
    return nodes.values, p.log_prob(nodes.values[:, None, None, None]).exp() * nodes.weights


@laws
def test_probabilities_sum_to_one(law):
    for parameters in settings(law):
        assert probabilities(law, parameters)[1].sum().item() == pytest.approx(1, abs=law.error)


@laws
def test_the_mean_is_that_of_the_probabilities(law):
    for parameters in settings(law):
        values, p = probabilities(law, parameters)
        found = one_pixel(law, *parameters.tolist())
        if law.is_mixture:
            with pytest.raises(NotImplementedError):
                _ = found.mean
        else:
            assert found.mean.item() == pytest.approx((values * p).sum().item(), abs=1e-9)


with_a_mean = pytest.mark.parametrize(
    "law", [pytest.param(case, id=name) for name, case in GREY.items() if not case.is_mixture]
)


@with_a_mean
def test_gradients_of_the_mean_equal_differences(law):
    for parameters in torch.randn(3, law.parameters, dtype=torch.float64):
        raw = parameters[:, None, None].requires_grad_()
        assert torch.autograd.gradcheck(lambda raw: law(raw).mean, raw)


@with_a_mean
def test_the_mode_has_the_highest_probability(law):
    for parameters in settings(law):
        p = one_pixel(law, *parameters.tolist())
        values = law.nodes(p).values[:, None, None, None]
        assert p.log_prob(p.mode).item() >= p.log_prob(values).max().item() - 1e-12


@laws
def test_samples_follow_the_probabilities(law):
    """20,000 draws: chi-square with values expected less than five times taken together; for a density, Kolmogorov and
    Smirnov's test against SciPy's distribution function."""
    for parameters in settings(law, 2)[[0, 1, -1, 4 if law.parameters > 1 else -2]]:
        drawn = one_pixel(law, *parameters.tolist()).sample((20_000,)).flatten()
        assert law.law.support.check(drawn[:, None, None, None]).all()
        if law.distribution_function is not None:
            assert kstest(drawn.numpy(), law.distribution_function(*parameters.tolist())).pvalue > 1e-3
            continue
        values, p = probabilities(law, parameters)
        counts = (drawn[:, None] - values).abs().argmin(1).bincount(minlength=len(values)).double()
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


@laws
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_whatever_the_parameters(law, dtype):
    grid = torch.cartesian_prod(*[torch.tensor(EXTREME)] * law.parameters).view(-1, law.parameters)
    theta = grid.mT[:, :, None].to(dtype).requires_grad_()
    values = law.nodes(one_pixel(law, *[0.0] * law.parameters)).values
    for value in values[[0, 1, -2, -1]]:
        log_prob = law(theta).log_prob(torch.full((1, len(grid), 1), value.item(), dtype=dtype))
        assert log_prob.isfinite().all()
        assert log_prob <= law.error or not law.law.support.is_discrete
        (gradient,) = torch.autograd.grad(log_prob, theta)
        assert gradient.isfinite().all()
    p = law(theta)
    assert law.law.support.check(p.sample()).all()
    assert law.law.support.check(p.mode.nan_to_num(1.0)).all()  # NaN: both values of a Bernoulli
    if not law.is_mixture:
        assert p.mean.isfinite().all()
        (gradient,) = torch.autograd.grad(p.mean.sum(), theta)
        assert gradient.isfinite().all()


@laws
def test_gradients_equal_differences(law):
    """At values inside and at both ends; both sides of a bin's mass of 1e-5, of the series around logit 0, and far out."""
    values = law.nodes(one_pixel(law, *[0.0] * law.parameters)).values
    for parameters in [*settings(law, 6)[:6], *(0.05 * settings(law, 2)[:2])]:
        for value in values[[0, len(values) // 3, -1]]:
            theta = parameters[:, None, None].clone().requires_grad_()
            assert torch.autograd.gradcheck(lambda theta, x=value: law(theta).log_prob(x.view(1, 1, 1)), theta)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "law", [logistic_mixture_pixels(2, levels=4), logistic_pixels(4), categorical_pixels(4), bernoulli_pixels]
)
def test_probabilities_of_all_values_of_all_channels_sum_to_one(law, channels):
    values = VALUES["binary"] if law == bernoulli_pixels else all_levels(4)
    pixels = torch.tensor(list(product(values.tolist(), repeat=channels))).double()[..., None, None]
    for _ in range(5):
        p = law(2 * torch.randn(law.maps(channels), 1, 1).double())
        assert p.log_prob(pixels).exp().sum().item() == pytest.approx(1, abs=2e-5)


@OF_IMAGES
def test_shapes_and_independence_of_pixels(case):
    for channels in case.channels:
        theta = torch.randn(4, case.law.maps(channels) + case.law.shared, 2, 3).double()
        p = case.law(theta)
        assert (p.batch_shape, p.event_shape) == ((4,), (channels, 2, 3))
        x = p.sample((5,))
        assert x.shape == (5, 4, channels, 2, 3)
        assert not x.requires_grad
        assert p.mode.shape == (4, channels, 2, 3)
        alone = sum(
            case.law(theta[..., i : i + 1, j : j + 1]).log_prob(x[..., i : i + 1, j : j + 1])
            for i in range(2)
            for j in range(3)
        )
        torch.testing.assert_close(p.log_prob(x), alone)
        torch.testing.assert_close(p.log_prob(x[0, 0]), torch.stack([case.law(t).log_prob(x[0, 0]) for t in theta]))


@OF_IMAGES
def test_the_support_holds_the_values_that_are_stated_and_no_others(case):
    """Real numbers hold all kinds, and 0 and 1 are intensities, too."""
    p = case.law(torch.randn(case.law.maps(3) + case.law.shared, 1, 1))
    held = {*case.values, *(VALUES if case.law == gaussian_pixels else ())}
    held |= {"binary"} if "intensities" in held else set()
    for kind, values in VALUES.items():
        images = values[:, None, None, None].expand(-1, 3, 1, 1)
        assert torch.equal(p.support.check(images), case.law.support.check(images))
        assert case.law.support.check(images).all() == (kind in held)
    for wrong in (torch.nan, torch.inf, -torch.inf):
        assert not case.law.support.check(torch.full((3, 1, 1), wrong))
    assert case.law.support.check(p.sample())


def test_every_kind_of_values_has_laws_and_supports_tell_densities_from_probabilities():
    for suited in (SUITED, SUITED_AUTOREGRESSIVE):
        assert set(suited) == set(VALUES)
        assert all(values in MODELLED[name] for values, name in suited.items())
    assert [name for name in MODELLED if not pixel_law(name).support.is_discrete] == [
        "gaussian",
        "continuous-bernoulli",
    ]


def test_laws_of_the_same_distribution_are_equal():
    for name in MODELLED:
        assert pixel_law(name) == pixel_law(name)
        assert pixel_law(name) != pixel_law("bernoulli") or name == "bernoulli"
    assert pixel_law("discretised-logistic") == discretised_logistic_pixels
    assert pixel_law("categorical", 16) != pixel_law("categorical", 32)
    assert pixel_law("discretised-logistic-mixture", components=3) == logistic_mixture_pixels(3)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "name": (lambda: pixel_law("gausian"), "unknown distribution of pixels 'gausian': did you mean 'gaussian'"),
    "one level": (lambda: categorical_pixels(1), "expected 2 to 65,536 levels, got 1"),
    "too many levels": (lambda: logistic_pixels(2**17), "expected 2 to 65,536 levels, got 131072"),
    "maps of a categorical": (lambda: categorical_pixels(4)(torch.zeros(7, 1, 1)), "expected 4 logits .* got 7 maps"),
    "maps of a gaussian": (lambda: gaussian_pixels(torch.zeros(1, 1, 1)), "a mean for each channel and one log sigma"),
    "maps of logistics": (lambda: DiscretisedLogistic(torch.zeros(3, 2, 2)), "a mean and a log-scale .* got 3 maps"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()


# -- 16 bits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [logistic_pixels(2**16), logistic_mixture_pixels(2, "drawn", 2**16)])
@pytest.mark.parametrize("log_scale", [-12.0, -8.0, -4.0, 0.0])
def test_levels_of_16_bits_sum_to_one_and_follow_the_logistic(law, log_scale):
    values = all_levels(2**16)
    weights = [0.3, -0.3] if law.maps(1) > 2 else []
    n = max(1, len(weights))
    theta = torch.tensor([*weights, *[0.1, -0.6][:n], *[log_scale] * n], dtype=torch.float64)[:, None, None]
    p = law(theta).log_prob(values[:, None, None, None]).exp()
    assert p.sum().item() == pytest.approx(1, abs=2e-5)
    shares = torch.tensor(weights).double().softmax(0) if weights else torch.ones(1)
    bound = values[values < 0.05][-1].item() + half_bin(2**16)
    below = sum(w * logistic.cdf(bound, m, np.exp(log_scale)) for w, m in zip(shares, [0.1, -0.6], strict=False))
    assert p[values < bound].sum().item() == pytest.approx(float(below), abs=3e-5)
    assert level_images(2**16).check(law(theta).sample((100,))).all()


@pytest.mark.parametrize("levels", [2, 16, 256, 4096, 2**16])
def test_levels_survive_single_precision(levels):
    values = all_levels(levels)
    single = values.float()[:, None, None, None]
    assert level_images(levels).check(single).all()
    assert torch.equal(level_index(single, levels).flatten(), torch.arange(levels).float())
    assert not level_images(levels).check(single[:-1] + 0.5 / (levels - 1)).any()


@pytest.mark.parametrize("levels", [SUMMED_LEVELS, 2 * SUMMED_LEVELS])
def test_the_mean_of_many_levels_is_at_most_half_a_bin_off(levels):
    law = Case(logistic_pixels(levels), counted(all_levels(levels)))
    for parameters in torch.tensor([[0.1, -12.0], [0.9999, -9.0], [-1.2, -7.0], [0.3, -2.0], [0.5, 2.0]]).double():
        values, p = probabilities(law, parameters)
        found = one_pixel(law, *parameters.tolist()).mean.item()
        exact = levels <= SUMMED_LEVELS
        assert found == pytest.approx((values * p).sum().item(), abs=1e-9 if exact else 1 / levels)


# -- densities ---------------------------------------------------------------------------------------------------------


def test_one_sigma_is_shared_by_all_pixels_and_stays_above_its_limit():
    p = GaussianPixels(torch.tensor([0.2, -1.0, -1e3])[:, None, None].expand(-1, 2, 2).contiguous())
    assert p.log_sigma.unique().item() == LEAST_LOG_SIGMA
    assert (p.event_shape, p.log_sigma.shape) == ((2, 2, 2), (1, 2, 2))
    expected = Independent(Normal(p.mean, np.exp(LEAST_LOG_SIGMA)), 3)
    x = torch.rand(5, 2, 2, 2)
    torch.testing.assert_close(p.log_prob(x), expected.log_prob(x))


def test_at_the_best_sigma_its_square_is_the_mean_squared_error():
    x, mean, raw = torch.randn(50, 1, 4, 4).double(), torch.zeros(1, 4, 4).double(), torch.zeros(1).double()
    law = gaussian_pixels
    for _ in range(200):
        raw.requires_grad_()
        (gradient,) = torch.autograd.grad(law.with_shared(raw)(mean).log_prob(x).mean(), raw)
        raw = (raw + 0.02 * gradient).detach()
    sigma = law.with_shared(raw)(mean).log_sigma.exp()  # pyright: ignore[reportAttributeAccessIssue]
    assert sigma.square().unique().item() == pytest.approx(x.square().mean().item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [0.0, 1e-8, 1e-3, 5e-3, 0.0999, 0.1001, 1.0, 16.0, 30.0, 200.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_continuous_bernoulli_is_exact_near_logit_0_and_far_from_it(logit, sign, dtype):
    """Against 40 digits; torch's own is wrong by 0.6 nats at logit 30 in single precision."""
    mp = pytest.importorskip("mpmath")
    with mp.workdps(40):
        t = mp.mpf(float(torch.tensor(sign * logit, dtype=dtype)))
        partition = mp.log(mp.expm1(t) / t) if t else mp.mpf(0)
        mean = 1 / (1 - mp.exp(-t)) - 1 / t if t else mp.mpf("0.5")
        log_prob, slope = float(t * mp.mpf("0.25") - partition), float(mp.mpf("0.25") - mean)
    theta = torch.tensor(sign * logit, dtype=dtype).view(1, 1, 1).requires_grad_()
    p = ContinuousBernoulliPixels(theta)
    found = p.log_prob(torch.full((1, 1, 1), 0.25, dtype=dtype))
    (gradient,) = torch.autograd.grad(found, theta)
    close = 1e-6 if dtype == torch.float32 else 1e-12
    assert found.item() == pytest.approx(log_prob, rel=close, abs=close)
    assert gradient.item() == pytest.approx(slope, abs=2 * close / SERIES)
    assert p.mean.item() == pytest.approx(float(mean), abs=2 * close / SERIES)


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
    p = probabilities(GREY["discretised-logistic"], torch.tensor([mean, log_scale], dtype=torch.float64))[1]
    expected = mass(mean, np.exp(log_scale))
    assert p.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("levels", [16, 256, 2**16])
def test_log_scales_are_limited(levels):
    """From below by the scale, in bins, that PixelCNN++ chose for 256 levels."""
    assert least_log_scale(256) == -7
    for limit, beyond in zip((least_log_scale(levels), GREATEST_LOG_SCALE), (-19.0, 9.0), strict=True):
        theta = torch.tensor([0.1, beyond])[:, None, None]
        assert DiscretisedLogistic(theta, levels).log_scale.item() == pytest.approx(limit)
    at_a_level = level_value(torch.tensor(levels / 2).double(), levels).item()
    nearest = DiscretisedLogistic(torch.tensor([at_a_level, -99.0]).double().view(2, 1, 1), levels)
    assert nearest.log_prob(nearest.mode).exp().item() == pytest.approx(0.973, abs=0.01)


# -- values outside the support ----------------------------------------------------------------------------------------


def spoilt(value: float) -> Tensor:
    x = torch.zeros(5, 1, 2, 2)
    x[3, 0, 1, 0] = value
    return x


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan")])
def test_a_grey_pixel_is_no_value_of_a_binary_one(value):
    p = bernoulli_pixels(torch.zeros(1, 2, 2))
    check_values(p, torch.ones(5, 1, 2, 2))
    with pytest.raises(InputError, match=rf"expected images of 0 and 1, .* but image 3 has the value {value:.4g}, "):
        check_values(p, spoilt(value))
    with pytest.raises(InputError, match="but image 70 has the value"):
        check_values(p, spoilt(value), [40, 50, 60, 70, 80])


@pytest.mark.parametrize("value", [0.5, -1.01, 1.0 + 2 / 255, 0.0, float("nan")])
def test_between_the_levels_there_is_no_probability(value):
    p = discretised_logistic_pixels(torch.zeros(2, 2, 2))
    x = torch.full((5, 1, 2, 2), 1 / 255)
    check_values(p, x)
    check_values(p, (torch.arange(256) / 127.5 - 1)[:, None, None, None].expand(-1, 1, 2, 2))
    x[3, 0, 1, 0] = value
    with pytest.raises(InputError, match=r"expected images of the 256 levels .* but image 3 has the value"):
        check_values(p, x)


@pytest.mark.parametrize("value", [-1e-6, 1.001, float("nan")])
def test_beyond_0_and_1_there_is_no_density(value):
    p = continuous_bernoulli_pixels(torch.zeros(1, 2, 2))
    check_values(p, torch.rand(5, 1, 2, 2))
    with pytest.raises(InputError, match=r"expected images of numbers from 0 to 1, .* but image 3 has the value"):
        check_values(p, spoilt(value))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_gaussian_takes_all_finite_numbers(value):
    p = gaussian_pixels(torch.zeros(2, 2, 2))
    check_values(p, 100 * torch.randn(5, 1, 2, 2))
    with pytest.raises(InputError, match=r"expected images of finite numbers, .* but image 3 has the value"):
        check_values(p, spoilt(value))


def test_what_states_no_support_is_not_checked():
    class Silent(Distribution):
        pass

    check_values(Silent(validate_args=False), spoilt(0.5))


def test_levels_are_as_many_as_their_module_says():
    assert len(VALUES["levels"]) == LEVELS
