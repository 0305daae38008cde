"""The discretised logistic mixture: against logistic distribution functions of SciPy, normalisation, extremes, samples."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, logistic
from torch import Tensor

from mpdvae.distributions.levels import least_log_scale
from mpdvae.distributions.logistic_mixture import DiscretisedLogisticMixture, parameters_for_each_pixel
from mpdvae.errors import InputError

LEVELS = torch.arange(256).double() / 127.5 - 1
HALF = 1 / 255


def parameters(*shape: int, components: int = 3, log_scale: float = -1.5) -> Tensor:
    """Random parameters [*shape 10n], as [*batch 10n height width] with the last two axes of `shape`."""
    *batch, height, width = shape
    logits, means, scales, coefficients = (
        torch.randn(*batch, components * width_of, height, width).double() for width_of in (1, 3, 3, 3)
    )
    return torch.cat([logits, 0.5 * means, log_scale + 0.5 * scales, coefficients], -3)


def images(*shape: int) -> Tensor:
    """Random levels, a third of them at the edges."""
    levels = torch.randint(-64, 320, shape).clamp(0, 255)
    return levels.double() / 127.5 - 1


def mass(level: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Probability of a level's bin under a logistic, the outermost reaching to infinity; from the nearer tail."""
    below, above = level - HALF, level + HALF
    flip = level > mean
    inside = np.where(
        flip,
        logistic.sf(below, mean, scale) - logistic.sf(above, mean, scale),
        logistic.cdf(above, mean, scale) - logistic.cdf(below, mean, scale),
    )
    outermost = np.where(level > 0, logistic.sf(below, mean, scale), logistic.cdf(above, mean, scale))
    return np.where(np.abs(level) > 1 - HALF, outermost, inside)


def brute_force(parameters: Tensor, x: Tensor) -> np.ndarray:
    """log p(x) of [*batch 10n H W] and [*batch 3 H W], pixel by pixel and component by component."""
    theta, levels = parameters.numpy(), x.numpy()
    n = theta.shape[-3] // 10
    weights = np.exp(theta[..., :n, :, :])
    weights /= weights.sum(-3, keepdims=True)
    total = 0.0
    for c in range(n):
        mean, log_scale, raw = (
            theta[..., n * (1 + 3 * k) + 3 * c : n * (1 + 3 * k) + 3 * c + 3, :, :] for k in range(3)
        )
        scale, (a, b, d) = np.exp(np.maximum(log_scale, -7)), np.moveaxis(np.tanh(raw), -3, 0)
        red, green, blue = np.moveaxis(levels, -3, 0)
        means = np.moveaxis(mean, -3, 0)
        p = mass(red, means[0], scale[..., 0, :, :])
        p = p * mass(green, means[1] + a * red, scale[..., 1, :, :])
        p = p * mass(blue, means[2] + b * red + d * green, scale[..., 2, :, :])
        total = total + weights[..., c, :, :] * p
    return np.log(total).sum((-2, -1))


@pytest.mark.parametrize("components", [1, 2, 5])
def test_log_prob_against_logistic_distribution_functions(components):
    theta, x = parameters(4, 3, 5, components=components), images(4, 3, 3, 5)
    found = DiscretisedLogisticMixture(theta).log_prob(x)
    torch.testing.assert_close(found, torch.from_numpy(brute_force(theta, x)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("level", [-1.0, 1.0])
@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.0, 0.99, 30.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 1.0])
def test_edges_hold_the_whole_tail(level, mean, log_scale):
    """Level 0 is everything below its upper bound, level 255 everything above its lower one; also where it is 1e-1000."""
    theta = torch.tensor([0.0, mean, mean, mean, *3 * [log_scale], 0, 0, 0], dtype=torch.float64)[:, None, None]
    found = DiscretisedLogisticMixture(theta).log_prob(torch.full((3, 1, 1), level).double()).item() / 3
    tail = logistic.logcdf if level < 0 else logistic.logsf
    assert found == pytest.approx(tail(level - level * HALF, mean, np.exp(log_scale)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("mean", [-1.5, -1.0, 0.3, 0.31, 1.0])
@pytest.mark.parametrize(("log_scale", "error"), [(-9.0, 2e-5), (-7.0, 2e-5), (-5.0, 2e-5), (-3.0, 1e-6), (0.0, 1e-9)])
def test_each_channel_sums_to_one(channel, mean, log_scale, error):
    """Over the 256 levels of one channel; the other two are sure to be at level 0. What the `error` allows for: bins of less
    than 1e-5 take the density at their centre."""
    means = [-1e6] * 3
    means[channel] = mean
    theta = torch.tensor([0.0, *means, *3 * [log_scale], 0.3, -0.4, 0.5], dtype=torch.float64)[:, None, None]
    x = torch.full((256, 3, 1, 1), -1.0).double()
    x[:, channel, 0, 0] = LEVELS
    total = DiscretisedLogisticMixture(theta).log_prob(x).exp().sum().item()
    assert total == pytest.approx(1, abs=error)


@pytest.mark.slow
def test_all_16777216_levels_of_a_pixel_sum_to_one_and_samples_follow_them():
    """Every colour of one pixel; then 20,000 draws against the probabilities of 8 x 8 x 8 blocks of colours."""
    p = DiscretisedLogisticMixture(parameters(1, 1, components=2, log_scale=-1.5).float())
    blocks = torch.zeros(8, 8, 8).double()
    levels = LEVELS.float()
    green_and_blue = torch.cartesian_prod(levels, levels)
    for red in range(256):
        colours = torch.cat([levels[red].expand(len(green_and_blue), 1), green_and_blue], 1)
        of_red = p.log_prob(colours[..., None, None]).double().exp().reshape(8, 32, 8, 32)
        blocks[red // 32] += of_red.sum((1, 3))
    assert blocks.sum().item() == pytest.approx(1, abs=1e-5)
    draws = 20_000
    drawn = ((p.sample((draws,))[..., 0, 0] + 1) * 127.5).round().long() // 32
    counts = torch.zeros(8, 8, 8).double()
    counts.index_put_(tuple(drawn.mT), torch.ones(draws).double(), accumulate=True)
    often = blocks * draws > 5
    expected = torch.cat([blocks[often], blocks[~often].sum()[None]])
    found = torch.cat([counts[often], counts[~often].sum()[None]])
    assert chisquare(found.numpy(), (expected / expected.sum() * draws).numpy()).pvalue > 1e-3


def test_samples_of_red_follow_its_probabilities():
    """Chi-square over 32 groups of 8 levels, 20,000 draws."""
    theta = parameters(1, 1, components=4)
    levels = ((DiscretisedLogisticMixture(theta).sample((20_000,))[:, 0, 0, 0] + 1) * 127.5).round().long()
    counts = torch.bincount(levels // 8, minlength=32).numpy()
    values = theta[:, 0, 0].numpy()
    weights = np.exp(values[:4]) / np.exp(values[:4]).sum()
    p = sum(w * mass(LEVELS.numpy(), values[4 + 3 * c], np.exp(values[16 + 3 * c])) for c, w in enumerate(weights))
    expected = p.reshape(32, 8).sum(1) * 20_000
    often = expected > 5
    found = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    assert chisquare(found[wanted > 0], wanted[wanted > 0] * found.sum() / wanted.sum()).pvalue > 1e-3


# Extremes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_parameters_give_finite_values_and_gradients(dtype):
    """Scales from e^-20 to e^10, means far outside, saturated coefficients, weights of 1 and 0."""
    logits = torch.tensor([0.0, -200.0, 50.0])
    cases = torch.cartesian_prod(
        torch.tensor([-1e3, -1.0, 0.0, 0.5, 1e3]),
        torch.tensor([-20.0, -7.0, -6.9, 0.0, 10.0]),
        torch.tensor([-30.0, 0, 30]),
    )
    means, log_scales, coefficients = (column[None].expand(9, -1) for column in cases.unbind(1))
    groups = [logits[:, None].expand(3, len(cases)), means, log_scales, coefficients]
    theta = torch.cat(groups)[:, None].to(dtype).requires_grad_()
    for level in (0, 1, 127, 254, 255):
        x = torch.full((3, 1, len(cases)), level / 127.5 - 1, dtype=dtype)
        log_prob = DiscretisedLogisticMixture(theta).log_prob(x)
        assert log_prob.isfinite().all()
        (gradient,) = torch.autograd.grad(log_prob, theta)
        assert gradient.isfinite().all()
    assert DiscretisedLogisticMixture(theta).sample().isfinite().all()


def test_log_scales_are_at_least_minus_seven():
    theta = parameters(2, 2)
    low, least = theta.clone(), theta.clone()
    low[12:21], least[12:21] = -9.0, -7.0
    x = images(3, 2, 2)
    low.requires_grad_()
    log_prob = DiscretisedLogisticMixture(low).log_prob(x)
    assert torch.equal(log_prob, DiscretisedLogisticMixture(least).log_prob(x))
    (gradient,) = torch.autograd.grad(log_prob, low)
    assert (gradient[12:21] == 0).all()


def test_gradients_agree_with_differences():
    theta, x = parameters(2, 2).requires_grad_(), images(3, 2, 2)
    assert torch.autograd.gradcheck(lambda theta: DiscretisedLogisticMixture(theta).log_prob(x), theta)


# Channels


def of_any(channels: int, components: int, log_scale: float = -1.0) -> Tensor:
    """Random parameters of one pixel, [parameters 1 1]."""
    widths = (1, channels, channels, channels * (channels - 1) // 2)
    logits, means, scales, coefficients = (torch.randn(components * width).double() for width in widths)
    return torch.cat([logits, 0.5 * means, log_scale + 0.5 * scales, coefficients])[:, None, None]


def probability(theta: Tensor, x: list[float], components: int, half: float) -> float:
    """p(x) of one pixel of any number of channels, by SciPy's logistic and loops over components and channels."""
    values, channels, total = theta.flatten().numpy(), len(x), 0.0
    n, pairs = components, channels * (channels - 1) // 2
    weights = np.exp(values[:n]) / np.exp(values[:n]).sum()
    for c in range(n):
        mean, log_scale = (values[n + (k * n + c) * channels :][:channels] for k in range(2))
        log_scale = np.maximum(log_scale, least_log_scale(round(1 / half) + 1))
        coefficients = iter(np.tanh(values[n + 2 * n * channels + c * pairs :][:pairs]))
        p = weights[c]
        for channel, level in enumerate(x):
            m = mean[channel] + sum(next(coefficients) * earlier for earlier in x[:channel])
            below = 0.0 if level < half - 1 else logistic.cdf(level - half, m, np.exp(log_scale[channel]))
            above = 1.0 if level > 1 - half else logistic.cdf(level + half, m, np.exp(log_scale[channel]))
            p *= above - below
        total += p
    return total


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels_and_levels_against_loops(channels, levels):
    for components in (1, 3):
        theta = of_any(channels, components)
        p = DiscretisedLogisticMixture(theta, channels=channels, levels=levels)
        for x in 2 * torch.randint(levels, (4, channels)).double() / (levels - 1) - 1:
            expected = probability(theta, x.tolist(), components, 1 / (levels - 1))
            assert p.log_prob(x[:, None, None]).exp().item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_samples_of_all_channels_together_follow_the_probabilities(channels):
    """Chi-square over all 3^channels pixels of three levels, 20,000 draws."""
    theta = of_any(channels, 2, 0.0)
    p = DiscretisedLogisticMixture(theta, channels=channels, levels=3)
    pixels = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=channels))).double()[..., None, None]
    expected = 20_000 * p.log_prob(pixels).exp()
    digits = (p.sample((20_000,))[..., 0, 0] + 1).round().long()
    found = (digits * 3 ** torch.arange(channels - 1, -1, -1)).sum(-1).bincount(minlength=len(pixels)).double()
    often = expected > 5
    found = np.append(found[often], found[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    assert chisquare(found[wanted > 0], wanted[wanted > 0] * found.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("channels", [1, 2])
def test_the_first_channels_are_those_of_the_colour_law(channels):
    """With the others sure to be at level 0, the law of colours has the same probabilities."""
    theta = of_any(3, 2)
    logits, means, scales, coefficients = theta.split([2, 6, 6, 6])
    means, scales, coefficients = (group.unflatten(0, (2, 3)) for group in (means, scales, coefficients))
    means[:, channels:] = -1e6
    sure = torch.cat([logits, *(group.flatten(0, 1) for group in (means, scales, coefficients))])
    few = [means[:, :channels], scales[:, :channels], coefficients[:, : channels * (channels - 1) // 2]]
    fewer = torch.cat([logits, *(group.flatten(0, 1) for group in few)])
    x = images(50, 3, 1, 1)
    x[:, channels:] = -1
    expected = DiscretisedLogisticMixture(sure).log_prob(x)
    found = DiscretisedLogisticMixture(fewer, channels=channels).log_prob(x[:, :channels])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_without_coefficients_channels_are_independent():
    theta = parameters(2, 3, components=1)
    theta[7:] = 0
    p, x, y = DiscretisedLogisticMixture(theta), images(3, 2, 3), images(3, 2, 3)
    for channel in range(3):
        one, other = x.clone(), y.clone()
        one[channel], other[channel] = y[channel], x[channel]
        torch.testing.assert_close(p.log_prob(one) + p.log_prob(other), p.log_prob(x) + p.log_prob(y))


def test_coefficients_move_the_means_of_later_channels_only():
    """Red has no coefficient, green sees red by the first, blue red by the second and green by the third."""
    theta, x = parameters(1, 1, components=1, log_scale=1.0), images(3, 1, 1)
    x[:] = torch.tensor([0.2, -0.6, 0.4])[:, None, None].mul(127.5).round() / 127.5
    a, b, c = theta[7:, 0, 0].tanh()
    moved = theta.clone()
    moved[7:] = 0
    moved[2] += a * x[0]
    moved[3] += b * x[0] + c * x[1]
    expected = DiscretisedLogisticMixture(moved).log_prob(x)
    torch.testing.assert_close(DiscretisedLogisticMixture(theta).log_prob(x), expected)


# Samples


def of_two(weight: float) -> Tensor:
    """Parameters of two narrow components at -0.5 and 0.5 with the weight of the first, for a map of 100 x 100."""
    logits = torch.tensor([weight, 1 - weight]).log()
    means = torch.tensor([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5])
    theta = torch.cat([logits, means, torch.full((6,), -5.0), torch.zeros(6)]).double()
    return theta[:, None, None].expand(-1, 100, 100)


def test_samples_draw_the_component():
    """51/49: both occur, within 4 standard errors; all channels of a pixel take the same one."""
    x = DiscretisedLogisticMixture(of_two(0.51)).sample()
    first = x < 0
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    assert first[0].double().mean().item() == pytest.approx(0.51, abs=4 * 0.5 / 100)


def test_most_probable_component_is_the_released_codes_way():
    """51/49: always the first, whatever the draw."""
    p = DiscretisedLogisticMixture(of_two(0.51), component="most-probable")
    assert (p.sample((3,)) < 0).all()
    assert torch.equal(p.log_prob(p.mode), DiscretisedLogisticMixture(of_two(0.51)).log_prob(p.mode))
    assert (DiscretisedLogisticMixture(of_two(0.49), "most-probable").sample() > 0).all()


@pytest.mark.parametrize("choice", ["drawn", "most-probable"])
def test_samples_and_mode_are_levels(choice):
    p = DiscretisedLogisticMixture(parameters(5, 8, 8, log_scale=0.0), choice)
    for x in (p.sample((4,)), p.mode):
        levels = (x + 1) * 127.5
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
        assert 0 <= levels.min() <= levels.max() <= 255
    edges = {0, 255} & set(((p.sample() + 1) * 127.5).round().long().unique().tolist())
    assert edges == {0, 255}


def test_mode_is_the_mean_of_the_likeliest_component():
    x = DiscretisedLogisticMixture(of_two(0.4)).mode
    assert (x == round(1.5 * 127.5) / 127.5 - 1).all()


@pytest.mark.parametrize("batch", [(), (4,), (2, 4)], ids=str)
@pytest.mark.parametrize("draws", [(), (3,), (3, 2)], ids=str)
def test_shapes(batch, draws):
    p = DiscretisedLogisticMixture(parameters(*batch, 5, 6))
    assert (p.batch_shape, p.event_shape) == (batch, (3, 5, 6))
    assert p.sample(draws).shape == (*draws, *batch, 3, 5, 6)
    assert p.mode.shape == (*batch, 3, 5, 6)
    assert p.log_prob(p.sample(draws)).shape == (*draws, *batch)
    assert not p.sample().requires_grad


def test_images_broadcast_with_parameters():
    theta, x = parameters(3, 4, 2, 2), images(4, 3, 2, 2)
    found = DiscretisedLogisticMixture(theta).log_prob(x)
    for i in range(3):
        torch.testing.assert_close(found[i], DiscretisedLogisticMixture(theta[i]).log_prob(x))


def test_pixels_are_independent():
    theta, x = parameters(2, 2), images(3, 2, 2)
    alone = [
        DiscretisedLogisticMixture(theta[:, i : i + 1, j : j + 1]).log_prob(x[:, i : i + 1, j : j + 1])
        for i in range(2)
        for j in range(2)
    ]
    torch.testing.assert_close(DiscretisedLogisticMixture(theta).log_prob(x), sum(alone))


def test_refusals():
    assert [parameters_for_each_pixel(10, channels) for channels in (1, 2, 3, 4)] == [30, 60, 100, 150]
    assert parameters_for_each_pixel(10) == 100
    with pytest.raises(InputError, match="expected 10 channels for each component, got 25"):
        DiscretisedLogisticMixture(torch.zeros(25, 2, 2))
    with pytest.raises(InputError, match="expected 3 channels for each component, got 10"):
        DiscretisedLogisticMixture(torch.zeros(10, 2, 2), channels=1)
