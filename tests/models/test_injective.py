"""Injective decoders: two codes never have the same pixels, and stay apart by the factor that was asked for."""

import pytest
import torch
from constructors import all_binary_images, binary_images, shaken

from mpdvae.distributions.pixel_laws import gaussian_pixels
from mpdvae.errors import InputError
from mpdvae.models.decoders import AutoregressiveDecoder
from mpdvae.models.injective import OffsetPixelCNN, injective_decoder, injective_pixelcnn_decoder
from mpdvae.networks.incremental import incremental
from mpdvae.networks.pixelcnn import PixelCNN

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, LATENT, PAIRS = (1, 5, 4), 3, 100


def independent(inverse_lipschitz: float):
    decoder = shaken(injective_decoder(SHAPE, LATENT, 6, 2, inverse_lipschitz))
    return decoder, lambda z, x: decoder(z).base_dist.logits.flatten(1)


def autoregressive(inverse_lipschitz: float):
    decoder = shaken(injective_pixelcnn_decoder(SHAPE, LATENT, 4, (5, 3), 6, 2, inverse_lipschitz))
    return decoder, lambda z, x: decoder(z).given(x).base_dist.logits.flatten(1)


families = pytest.mark.parametrize("family", [independent, autoregressive])


@pytest.mark.parametrize("inverse_lipschitz", [0.0, 0.3, 2.0])
@families
def test_logits_of_two_codes_are_apart_by_the_factor(family, inverse_lipschitz):
    """|logits(z) - logits(z')| >= L |z - z'| for all pixels before, near and far; > 0 whatever L."""
    _, logits = family(inverse_lipschitz)
    x = binary_images(PAIRS, *SHAPE)
    for distance in (1e-3, 1.0, 30.0):
        z = torch.randn(PAIRS, LATENT)
        other = z + distance * torch.randn(PAIRS, LATENT)
        apart, moved = (z - other).norm(dim=1), (logits(z, x) - logits(other, x)).norm(dim=1)
        assert (moved >= inverse_lipschitz * apart * (1 - 1e-6)).all()
        assert (moved > 0).all()


@families
def test_two_codes_have_different_distributions(family):
    """Of all 16 images of 2x2 pixels: the code is identifiable from the probabilities."""
    shape = (1, 2, 2)
    decoder = shaken(
        injective_decoder(shape, LATENT, 6)
        if family is independent
        else injective_pixelcnn_decoder(shape, LATENT, 4, (3,), 6)
    )
    z = torch.randn(2, LATENT)
    log_probs = decoder(z[:, None]).log_prob(all_binary_images(2, 2))
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(2))
    assert (log_probs[0] - log_probs[1]).abs().max() > 1e-3


def test_a_code_of_as_many_numbers_as_pixels_is_taken_and_of_more_refused():
    injective_decoder((1, 2, 2), 4, 3)
    for build in (injective_decoder, injective_pixelcnn_decoder):
        with pytest.raises(InputError, match="a code of 5 numbers cannot be told from maps of 4"):
            build((1, 2, 2), 5)
        with pytest.raises(InputError, match=r"inverse_lipschitz: expected a number >= 0, got -1\.0"):
            build((1, 2, 2), 2, inverse_lipschitz=-1.0)


def test_the_constraint_is_on_what_a_gaussian_decoder_calls_means():
    decoder = shaken(injective_decoder(SHAPE, LATENT, 6, 2, 2.0, gaussian_pixels))
    z, other = torch.randn(2, PAIRS, LATENT)
    means = [decoder(code).mean.flatten(1) for code in (z, other)]
    assert ((means[0] - means[1]).norm(dim=1) >= 2 * (z - other).norm(dim=1) * (1 - 1e-9)).all()


def test_the_pixelcnn_does_not_see_the_code():
    """It is computed once per image, however many codes there are."""
    decoder, x = shaken(injective_pixelcnn_decoder(SHAPE, LATENT, 4, (5, 3), 6)), binary_images(2, *SHAPE)
    assert isinstance(decoder, AutoregressiveDecoder)
    shapes = []
    decoder.network.pixelcnn.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    decoder(torch.randn(7, 2, LATENT)).log_prob(x)
    assert shapes == [(2, *SHAPE)]


@pytest.mark.parametrize("leading", [(4,), (2, 4)])
@torch.no_grad()
def test_pixel_by_pixel_it_computes_the_same(leading):
    network = shaken(OffsetPixelCNN(PixelCNN(1, 4, (5, 3))))
    x, maps = binary_images(4, *SHAPE), torch.randn(*leading, *SHAPE)
    expected = network(x, maps)
    with incremental(network, *SHAPE[1:]) as at:
        for _ in at.visit():
            answer = network(x, maps)
            torch.testing.assert_close(answer, expected[..., at.row, at.column, None, None])
