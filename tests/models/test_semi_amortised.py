"""Semi-amortised inference on a linear-Gaussian model, whose ELBO is quadratic in the mean and whose posterior is known."""

import math
from itertools import pairwise

import pytest
import torch
from constructors import DECODERS, ENCODERS, PRIORS, binary_images, shaken
from linear_gaussian import LinearDecoder, LinearEncoder, log_likelihood
from torch import nn
from torch.distributions import Independent, Normal

from mpdvae.errors import InputError
from mpdvae.models.priors import StandardNormal
from mpdvae.models.semi_amortised import SemiAmortised
from mpdvae.objectives.terms import KL, Objective, reconstruction
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")


class Unlearned(nn.Module):
    """The same posterior for every image."""

    def forward(self, x):
        return Independent(Normal(torch.zeros(len(x), 2), torch.ones(len(x), 2)), 1)


def linear(encoder: nn.Module, steps: int, rate: float = 0.02) -> VAE:
    decoder, prior = LinearDecoder(), StandardNormal((2,)).double()
    return VAE(SemiAmortised(encoder, decoder, prior, steps, rate), decoder, prior).eval()


def exact_elbo(vae: VAE, x: torch.Tensor) -> torch.Tensor:
    """log p(x) - KL(q || p(z|x)), in closed form."""
    q, p = vae.encoder(x), LinearEncoder()(x)
    return log_likelihood(x) - torch.distributions.kl_divergence(q, p)


@pytest.fixture
def images() -> torch.Tensor:
    return 2 * torch.randn(6, 1, 2, 2)


@torch.no_grad()
@pytest.mark.parametrize("encoder", [Unlearned(), LinearEncoder(0.5, 0.6)], ids=["unlearned", "perturbed"])
def test_no_step_lowers_the_elbo(encoder, images):
    bounds = [exact_elbo(linear(encoder, steps), images) for steps in range(1, 12)]
    for before, after in pairwise(bounds):
        assert (after >= before - 1e-9).all()
    assert (bounds[-1] > bounds[0] + 0.01).all()


@torch.no_grad()
def test_many_steps_find_the_posterior(images):
    """The exact mean; the deviation up to what the one pair of draws e, -e makes of E e^2 = 1."""
    vae, p = linear(Unlearned(), 600), LinearEncoder()(images)
    q, noise = vae.encoder(images), vae.encoder._noise(torch.zeros(6, 2))[0]
    torch.testing.assert_close(q.mean, p.mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(q.stddev * noise.abs(), p.stddev, rtol=1e-3, atol=0)


def test_one_step_by_hand(images):
    """From N(0, I): grad m = grad log p(x, z) averaged over z = +-e, whose norm is bounded by 5."""
    vae = linear(Unlearned(), 1, rate=0.1)
    noise = vae.encoder._noise(torch.zeros(6, 2))
    moved = []
    for x in images:
        m, rho = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
        draws = [m + rho.exp() * e for e in noise[:, 0]]
        joint = [vae.decoder(z).log_prob(x) + vae.prior().log_prob(z) for z in draws]
        gradients = torch.autograd.grad((joint[0] + joint[1]) / 2 + rho.sum(), (m, rho))
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
        moved.append(0.1 * min(1.0, 5 / norm) * gradients[0])
    torch.testing.assert_close(vae.encoder(images).mean, torch.stack(moved))


def vae_of(steps: int = 2) -> VAE:
    shape = (1, 5, 4)
    encoder, decoder, prior = ENCODERS["mlp"].build(shape, 3), DECODERS["mlp"].build(shape, 3), PRIORS["flow-affine"](3)
    shaken(VAE(encoder, decoder, prior))
    return VAE(SemiAmortised(encoder, decoder, prior, steps, 0.1), decoder, prior)


def test_training_goes_through_the_refinement():
    """The gradient of the loss in the encoder's output bias is that of finite differences of the whole."""
    vae, x = vae_of(), binary_images(4, 1, 5, 4)
    bias = vae.encoder.encoder.body[-1].bias

    def loss() -> torch.Tensor:
        torch.manual_seed(3)
        return Objective({"reconstruction": reconstruction, "kl": KL()})(vae, x).total

    loss().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    assert bias.grad is not None
    for k in range(3):
        step = torch.zeros_like(bias)
        step[k] = 1e-5
        with torch.no_grad():
            bias.add_(step)
            above = loss().item()
            bias.sub_(2 * step)
            below = loss().item()
            bias.add_(step)
        # The bound on the gradient's norm is taken as a constant: it does not bite here.
        assert bias.grad[k].item() == pytest.approx((above - below) / 2e-5, rel=1e-4)


def test_evaluation_is_deterministic_and_each_image_alone():
    vae, x = vae_of().eval(), binary_images(4, 1, 5, 4)
    with torch.no_grad():
        q = vae.encoder(x)
        assert torch.equal(vae.encode(x), q.mean)
        assert not q.mean.requires_grad
        torch.testing.assert_close(vae.encoder(x[2:3]).mean, q.mean[2:3])
        assert not torch.equal(q.mean, vae.encoder.encoder(x).mean)
    vae.train()
    assert not torch.equal(vae.encoder(x).mean, vae.encoder(x).mean)


def test_its_state_is_that_of_the_encoder():
    vae = vae_of()
    assert {name.split(".")[1] for name in vae.state_dict() if name.startswith("encoder.")} == {"encoder"}
    vae.initialise(binary_images(32, 1, 5, 4))
    assert "SemiAmortised(" in repr(vae)
    assert "steps=2, rate=0.1" in repr(vae)


@pytest.mark.parametrize(("steps", "rate"), [(0, 0.1), (1, 0.0)])
def test_impossible_refinements_are_refused(steps, rate):
    with pytest.raises(InputError, match=f"refinement: expected steps >= 1 and a rate > 0, got {steps} and {rate}"):
        SemiAmortised(Unlearned(), LinearDecoder(), StandardNormal((2,)), steps, rate)
