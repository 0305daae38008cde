"""Decoders with independent pixels of 256 levels, and the check of images against a decoder's support, from Python."""

from functools import partial

import pytest
import torch
from constructors import ANY_SIZE, DECODERS, LEVEL_DECODERS, MAP_DECODERS, colour_images, shaken, with_shapes
from torch import nn

from mpdvae.distributions.pixel_laws import gaussian_pixels
from mpdvae.errors import InputError
from mpdvae.measures import density
from mpdvae.measures.annealed_importance import estimate_by_annealing
from mpdvae.models.decoders import mlp_decoder, pixelcnn_decoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE

LATENT = 3
level_decoders = pytest.mark.parametrize(("build", "shape"), with_shapes(LEVEL_DECODERS))


@level_decoders
def test_shapes_gradients_and_precision(build, shape):
    decoder = shaken(build(shape, LATENT), 0.1)
    z, x = torch.randn(2, 5, LATENT, requires_grad=True), colour_images(5, *shape)
    p = decoder(z)
    assert (p.batch_shape, p.event_shape) == ((2, 5), shape)
    assert p.support.check(p.sample()).all()
    assert p.mean.shape == (2, 5, *shape)
    p.log_prob(x).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in decoder.parameters())
    decoder, z = decoder.double(), z.detach().double()
    log_prob = decoder(z).log_prob(x.double())
    torch.testing.assert_close(decoder(z[1, 4]).log_prob(x[4].double()), log_prob[1, 4])


def test_the_default_is_the_decoder_of_binary_pixels_as_before():
    assert {decoder.build((1, 8, 8), LATENT).support for decoder in DECODERS.values()} == {
        DECODERS["mlp"].build((1, 8, 8), LATENT).support
    }
    for _, images in MAP_DECODERS.values():
        decoder = images.build(images.takes[0], 4)
        assert decoder.support.check(colour_images(1, *images.takes[0])).all()


@pytest.mark.parametrize(
    "build", [partial(mlp_decoder, hidden_features=(16,)), partial(pixelcnn_decoder, channels=4, kernel_sizes=(3, 3))]
)
def test_the_shared_sigma_is_one_parameter_which_training_lowers_on_easy_images(build):
    """One picture in many strengths, which a code can hold: sigma follows the error down, to near the noise of 0.1."""
    vae = model(build((1, 5, 4), LATENT, law=gaussian_pixels))
    strengths, noise = torch.linspace(-1, 1, 64).view(-1, 1, 1, 1), 0.1 * torch.randn(64, 1, 5, 4)
    x = strengths * torch.linspace(-1, 1, 20).view(1, 5, 4) + noise
    assert [tuple(p.shape) for name, p in vae.named_parameters() if name == "decoder.shared"] == [(1,)]
    vae.initialise(x)
    optimizer, losses = torch.optim.Adam(vae.parameters(), lr=1e-2), []
    for _ in range(250):
        optimizer.zero_grad()
        losses.append(-vae.elbo(x).mean())
        losses[-1].backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        p = vae.decoder.law_now(torch.zeros(1, 5, 4))
    assert 0.05 < p.log_sigma.exp().max() < 0.3
    assert losses[-1] < losses[0] - 20


def test_decoders_of_other_laws_have_the_weights_that_they_had():
    for build in (mlp_decoder, pixelcnn_decoder):
        assert not any("shared" in name for name in build((1, 5, 4), LATENT).state_dict())


def model(decoder: nn.Module, shape: tuple[int, int, int] = (1, 5, 4)) -> VAE:
    return VAE(mlp_encoder(shape, LATENT, (7,)), decoder, StandardNormal((LATENT,)))


def wrong(vae: VAE, shape: tuple[int, int, int] = (1, 5, 4)) -> torch.Tensor:
    """Five images of ones, of which image 3 has a pixel that neither kind of values knows."""
    x = torch.ones(5, *shape)
    x[3, 0, 2, 1] = 0.3
    return x


USES = {
    "elbo": lambda vae, x: vae.elbo(x),
    "log_weights": lambda vae, x: vae.log_weights(x, 2),
    "importance_weighted_bound": lambda vae, x: vae.importance_weighted_bound(x, 2),
    "initialise": lambda vae, x: vae.initialise(x),
    "check_images": lambda vae, x: vae.check_images(x),
    "density.estimate": lambda vae, x: density.estimate(vae, x, 2),
    "estimate_by_annealing": lambda vae, x: estimate_by_annealing(vae, x, chains=1, steps=1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize(
    "images",
    [DECODERS["mlp"], DECODERS["pixelcnn-one-layer"], LEVEL_DECODERS["mlp"]],
    ids=["mlp", "pixelcnn", "levels"],
)
def test_every_likelihood_names_the_image_that_has_none(use, images):
    vae = model(images.build((1, 5, 4), LATENT))
    use(vae, torch.ones(5, 1, 5, 4))
    with pytest.raises(InputError, match=r"but image 3 has the value 0\.3, for which log p\(x\|z\) would be no likeli"):
        use(vae, wrong(vae))


def test_the_index_in_the_data_set_is_named():
    vae = model(DECODERS["mlp"].build((1, 5, 4), LATENT))
    with pytest.raises(InputError, match="but image 70 has the value"):
        density.estimate(vae, wrong(vae), 2, indices=[40, 50, 60, 70, 80])


def test_a_decoder_of_ones_own_without_a_support_is_not_checked_before_torch_does():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = DECODERS["mlp"].build(ANY_SIZE[1], LATENT)

        def forward(self, z: torch.Tensor):
            return self.decoder(z)

    vae = model(Own(), ANY_SIZE[1])
    vae.check_images(wrong(vae))
    with pytest.raises(InputError, match="image 3 has the value"):
        vae.elbo(wrong(vae))
