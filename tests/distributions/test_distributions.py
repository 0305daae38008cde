"""Distributions over images, exhaustively on 2x2: probabilities, samples and greedy decoding of every decoder."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from constructors import (
    AUTOREGRESSIVE_DECODERS,
    DECODERS,
    all_binary_images,
    binary_images,
    colour_images,
    shaken,
    with_shapes,
)
from scipy.stats import chisquare
from torch import nn
from torch.distributions import Bernoulli, Independent

from mpdvae.distributions.pixel_laws import bernoulli_pixels
from mpdvae.distributions.pixels import AutoregressivePixels, watching_draws
from mpdvae.errors import InputError
from mpdvae.models.decoders import pixelcnn_decoder

pytestmark = pytest.mark.usefixtures("float64")

LATENT = 3
two_by_two = pytest.mark.parametrize(("build", "shape"), with_shapes(DECODERS, (1, 2, 2)))


def probabilities(decoder: nn.Module, z: torch.Tensor) -> torch.Tensor:
    """Of all 16 images, [16], for one code [latent]; or [16 batch] for codes [batch latent]."""
    images = all_binary_images(2, 2)
    return decoder(z).log_prob(images if z.ndim == 1 else images[:, None]).exp()


def test_all_binary_images_are_16_different_ones():
    images = all_binary_images(2, 2)
    assert images.shape == (16, 1, 2, 2)
    assert len(images.unique(dim=0)) == 16
    assert images[1].flatten().tolist() == [0, 0, 0, 1]


@two_by_two
def test_probabilities_sum_to_one(build, shape):
    p = probabilities(shaken(build(shape, LATENT), by=1.0), 2 * torch.randn(5, LATENT)).detach()
    torch.testing.assert_close(p.sum(0), torch.ones(5))
    assert (p.std(0) > 0.005).all()  # far from uniform


@two_by_two
def test_sample_frequencies_follow_the_probabilities(build, shape):
    """Chi-square over 16 images, 4,000 samples for each of two codes; a right sampler fails once in 10,000 seeds."""
    decoder, z = shaken(build(shape, LATENT), by=1.0), 2 * torch.randn(2, LATENT)
    bit_values = torch.tensor([8, 4, 2, 1])
    samples = decoder(z).sample((4000,)).reshape(4000, 2, 4).long() @ bit_values
    expected = 4000 * probabilities(decoder, z).detach()
    for code in range(2):
        counts = samples[:, code].bincount(minlength=16).double()
        rare = expected[:, code] < 5  # lumped together, as the test needs
        merge = lambda v, rare=rare: [*v[~rare].tolist(), v[rare].sum().item() + 1e-9]  # noqa: E731
        assert chisquare(merge(counts), merge(expected[:, code])).pvalue > 1e-4


@pytest.mark.parametrize(("build", "shape"), [p for p in with_shapes(DECODERS, (1, 2, 2)) if "pixelcnn" in p.id])
def test_mode_is_greedy(build, shape):
    """Pixel after pixel the more probable value given those before, by sums over the images that continue the prefix."""
    decoder, z = shaken(build(shape, LATENT), by=1.0), 2 * torch.randn(6, LATENT)
    images, p = all_binary_images(2, 2).reshape(16, 4), probabilities(decoder, z)
    for code in range(6):
        possible = torch.ones(16, dtype=torch.bool)
        for pixel in range(4):
            one = images[:, pixel] == 1
            likelier = p[possible & one, code].sum() > p[possible & ~one, code].sum()
            possible &= one if likelier else ~one
        assert torch.equal(decoder(z).mode[code].flatten(), images[possible][0])


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize(("build", "shape"), [p for p in with_shapes(DECODERS) if "pixelcnn" in p.id])
def test_pixel_by_pixel_agrees_with_whole_images(build, shape, leading):
    """The fast way to draw gives the logits of the forward pass, for several images a code, and leaves no trace."""
    p = shaken(build(shape, LATENT), by=1.0)(2 * torch.randn(*leading, LATENT))
    x = binary_images(4, *leading, *shape)
    whole = p.parameters(x)
    with p.parameters.pixel_by_pixel() as logits_at:
        columns = [logits_at(x, row, column) for row in range(shape[1]) for column in range(shape[2])]
    torch.testing.assert_close(torch.stack(columns, -1).unflatten(-1, shape[1:]), whole)
    torch.testing.assert_close(p.parameters(x), whole, rtol=0, atol=0)


@pytest.mark.parametrize(("build", "shape"), [p for p in with_shapes(DECODERS, (1, 5, 4)) if "pixelcnn" in p.id])
def test_drawing_looks_at_no_pixel_to_come(build, shape):
    p = shaken(build(shape, LATENT), by=1.0)(torch.randn(LATENT))
    x = binary_images(*shape)
    with p.parameters.pixel_by_pixel() as logits_at:
        known = [logits_at(x, row, column) for row in range(5) for column in range(4)]
    with p.parameters.pixel_by_pixel() as logits_at:
        drawn = torch.full_like(x, torch.nan)
        for pixel, expected in enumerate(known):
            row, column = divmod(pixel, 4)
            torch.testing.assert_close(logits_at(drawn, row, column), expected)
            drawn[..., row, column] = x[..., row, column]


@pytest.mark.parametrize(("build", "shape"), with_shapes(AUTOREGRESSIVE_DECODERS))
def test_pixels_of_other_laws_and_channels_are_drawn_from_those_before_alone(build, shape):
    """Position by position as all at once; the parameters of a pixel do not depend on any of its channels or a later one."""
    decoder = shaken(build(shape, LATENT), by=0.3)
    p, x = decoder(torch.randn(2, LATENT)), colour_images(2, *shape)
    whole = p.parameters(x)
    with p.parameters.pixel_by_pixel() as at:
        known = torch.full_like(x, torch.nan)
        for pixel in range(shape[1] * shape[2]):
            row, column = divmod(pixel, shape[2])
            torch.testing.assert_close(at(known, row, column), whole[..., row, column])
            known[..., row, column] = x[..., row, column]
    assert decoder.support.check(p.sample()).all()
    assert decoder.support.check(p.mode).all()
    p.log_prob(x).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in decoder.parameters())


class Logits:
    """A function from images to the logits of all pixels, which knows no fast way to those of one."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.function = function

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)

    @contextmanager
    def pixel_by_pixel(self) -> Iterator[Callable[[torch.Tensor, int, int], torch.Tensor]]:
        yield lambda x, row, column: self(x)[..., row, column]


def chain(logit_of_previous: float, batch: int = 1) -> AutoregressivePixels:
    """1x3 images whose pixel i has the logit a * (2 x_(i-1) - 1), a = +-`logit_of_previous` by condition; the first 0."""
    strength = torch.tensor([logit_of_previous, -logit_of_previous])[:batch].reshape(batch, 1, 1, 1)

    def logits(x):
        previous = 2 * x[..., :-1] - 1
        return torch.cat([torch.zeros_like(x[..., :1]), previous], -1) * strength

    return AutoregressivePixels(Logits(logits), bernoulli_pixels, torch.Size([batch]), (1, 1, 3), like=strength)


def test_log_prob_of_a_chain_by_hand():
    p = chain(math.log(3))  # a pixel repeats the one before with probability 3/4
    for pixels, probability in [((1, 1, 1), 9 / 32), ((1, 0, 0), 3 / 32), ((0, 1, 0), 1 / 32)]:
        x = torch.tensor(pixels).double().reshape(1, 1, 1, 3)
        assert p.log_prob(x).exp().item() == pytest.approx(probability, rel=1e-12)


def test_samples_use_the_pixels_before_and_the_own_condition():
    x = chain(50.0, batch=2).sample((200,))
    assert x.shape == (200, 2, 1, 1, 3)
    repeating, alternating = x[:, 0, 0, 0], x[:, 1, 0, 0]
    assert (repeating == repeating[:, :1]).all()
    assert (alternating[:, 0] == alternating[:, 2]).all()
    assert (alternating[:, 0] != alternating[:, 1]).all()
    assert 0.35 < x[..., 0].mean() < 0.65


def test_likelihood_of_saturated_pixels_comes_from_logits():
    """At a logit of 800 the probability is 1 in floating point; log(1 - p) must be -800 all the same."""
    p = AutoregressivePixels(
        Logits(lambda x: x * 0 + 800), bernoulli_pixels, torch.Size(), (1, 1, 1), like=torch.zeros(())
    )
    assert p.log_prob(torch.zeros(1, 1, 1)).item() == pytest.approx(-800)
    assert p.log_prob(torch.ones(1, 1, 1)).item() == pytest.approx(0)


def test_without_dependence_it_is_a_product_of_bernoullis():
    logits = torch.randn(4, 1, 2, 3)
    ours = AutoregressivePixels(
        Logits(lambda x: logits + 0 * x), bernoulli_pixels, torch.Size([4]), (1, 2, 3), like=logits
    )
    theirs = Independent(Bernoulli(logits=logits), 3)
    x = theirs.sample((7,))
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    assert torch.equal(ours.mode, (logits > 0).double())


def test_other_images_are_refused():
    p = pixelcnn_decoder((1, 4, 5), LATENT, 4, (3,))(torch.zeros(LATENT))
    with pytest.raises(InputError, match=r"expected images of shape \(1, 4, 5\), got \(1, 5, 4\)"):
        p.log_prob(torch.zeros(1, 5, 4))


def test_drawing_tells_how_far_it_is():
    shares, p = [], pixelcnn_decoder((1, 4, 3), LATENT, 4, (3,), 2)(torch.zeros(LATENT))
    with watching_draws(shares.append):
        p.sample()
    assert shares == [0.25, 0.5, 0.75, 1.0]
    p.sample()
    assert len(shares) == 4
