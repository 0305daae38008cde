"""Encoder lag and gradient norms, against a linear-Gaussian model whose best Gaussian posterior is known, and autograd."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.nn.functional import elu

from mpdvae.divergence import diversity_term, smoothness_term
from mpdvae.errors import InputError, RunError
from mpdvae.measures.code_use import increase_by_another
from mpdvae.measures.encoder_lag import encoder_lag
from mpdvae.models.priors import StandardNormal
from mpdvae.objectives import term_gradients
from mpdvae.objectives.term_gradients import gradient_norms
from mpdvae.objectives.terms import KL, Diversity, Objective, Smoothness, reconstruction
from mpdvae.seeding import seeded
from mpdvae.training.validation import probe
from mpdvae.vae import VAE

NOISE, LATENT, PIXELS = 0.8, 3, 6

pytestmark = pytest.mark.usefixtures("float64")


class Encoder(nn.Module):
    """The best diagonal Gaussian for the decoder W z + noise, moved by `shift` and widened by `widen`.

    The exact posterior is N(P^-1 W^T x / noise^2, P^-1) with P = I + W^T W / noise^2; the ELBO is best at its mean and at
    the variances 1 / P_kk.
    """

    def __init__(self, weight: Tensor, shift: float, widen: float) -> None:
        super().__init__()
        self.weight, self.shift, self.widen = nn.Parameter(weight), shift, widen
        self.precision = nn.Parameter(torch.eye(LATENT) + weight.mT @ weight / NOISE**2)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.linalg.solve(self.precision, (x.flatten(1) @ self.weight).mT / NOISE**2).mT
        deviation = self.precision.diagonal().rsqrt()
        return mean + self.shift * deviation, (self.widen * deviation).expand_as(mean)

    def forward(self, x: Tensor) -> Distribution:
        return Independent(Normal(*self.moments(x)), 1)

    def gap(self) -> float:
        """ELBO of the best diagonal Gaussian minus that of the encoder's, in nats: KL of q to the exact posterior, over
        its least value."""
        a, w2 = self.shift * self.precision.diagonal().rsqrt(), self.widen**2
        return (0.5 * (a @ self.precision @ a) + 0.5 * LATENT * (w2 - 1 - math.log(w2))).item()


class Decoder(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Distribution:
        return Independent(Normal((z @ self.weight.mT).unflatten(-1, (1, 1, PIXELS)), NOISE), 3)


def linear_gaussian(shift: float = 0.0, widen: float = 1.0, use: float = 1.0) -> VAE:
    with seeded("linear-Gaussian"):
        weight = use * torch.randn(PIXELS, LATENT)
    return VAE(Encoder(weight.clone(), shift, widen), Decoder(weight.clone()), StandardNormal((LATENT,)))


def images(count: int = 40) -> Tensor:
    with seeded("images"):
        return torch.randn(count, 1, 1, PIXELS)


# -- lag ---------------------------------------------------------------------------------------------------------------


def test_there_is_no_lag_at_the_best_posterior():
    lag = encoder_lag(linear_gaussian(), images(), steps=30, pairs=50)
    assert lag.gain_nats == pytest.approx(0, abs=0.05)  # the steps follow noise
    assert lag.moved_nats < 0.05


@pytest.mark.parametrize(("shift", "widen"), [(1.0, 1.0), (0.0, 2.0), (0.0, 0.4), (-0.7, 1.5)])
def test_enough_steps_find_the_whole_gap(shift, widen):
    vae = linear_gaussian(shift, widen)
    gap = vae.encoder.gap()
    lag = encoder_lag(vae, images(), steps=150, pairs=300)
    assert gap > 0.4
    assert lag.gain_nats == pytest.approx(gap, rel=0.03, abs=3 * lag.gain_standard_error_nats)


def test_the_gap_of_the_oracle_is_the_difference_of_elbos():
    x = images()
    with seeded("elbos"):
        elbos = [linear_gaussian(*moved).elbo(x, 20_000).mean().item() for moved in ((0.0, 1.0), (-0.7, 1.5))]
    assert elbos[0] - elbos[1] == pytest.approx(linear_gaussian(-0.7, 1.5).encoder.gap(), abs=0.05)


def test_few_steps_find_most_of_it_and_never_more():
    vae, gains = linear_gaussian(1.0, 1.5), []
    for steps in (1, 3, 10):
        gains.append(encoder_lag(vae, images(), steps, pairs=100).gain_nats)
    assert 0 < gains[0] < gains[1] < gains[2] < vae.encoder.gap()
    assert gains[2] > 0.8 * vae.encoder.gap()


def test_a_step_is_at_most_one_standard_deviation():
    far = linear_gaussian(shift=1e4)
    assert encoder_lag(far, images(), steps=1).moved_nats == pytest.approx(0.5, rel=0.01)  # half the square of the step


def test_measuring_leaves_no_trace():
    vae = linear_gaussian(1.0).train()
    vae.encoder.eval()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    state = torch.get_rng_state()
    objective = Objective({"reconstruction": reconstruction, "kl": KL()})
    first = probe(vae, objective, images(), step=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert vae.training
    assert not vae.encoder.training
    torch.rand(3)
    assert probe(vae, objective, images(), step=3) == first


# -- gradients ---------------------------------------------------------------------------------------------------------


def root_mean_square(per_image: Tensor) -> float:
    return per_image.square().sum(1).mean().sqrt().item()


def test_norms_of_known_gradients(monkeypatch):
    """Of the KL to N(0, I): (m, (s^2 - 1) / 2). Of the reconstruction, in expectation: W^T (W m - x) / noise^2 and
    s^2 diag(W^T W) / (2 noise^2)."""
    monkeypatch.setattr(term_gradients, "DRAWS", 100)
    vae, x = linear_gaussian(0.5, 0.7), images()
    norms = gradient_norms(Objective({"reconstruction": reconstruction, "kl": KL()}), vae, x)
    mean, deviation = (moment.detach() for moment in vae.encoder.moments(x))
    weight = vae.decoder.weight.detach()
    by_kl = torch.cat([mean, (deviation.square() - 1) / 2], 1)
    residual = mean @ weight.mT - x.flatten(1)
    by_variance = deviation.square() * weight.square().sum(0) / (2 * NOISE**2)
    by_reconstruction = torch.cat([residual @ weight / NOISE**2, by_variance], 1)
    assert norms["kl"] == pytest.approx(root_mean_square(by_kl))
    assert norms["reconstruction"] == pytest.approx(root_mean_square(by_reconstruction), rel=0.02)
    assert norms["total"] == pytest.approx(root_mean_square(by_kl + by_reconstruction), rel=0.05)


def test_the_estimate_has_no_bias_from_the_noise_of_z():
    vae, x = linear_gaussian(0.5, 0.7), images(400)
    mean, deviation = (moment.detach() for moment in vae.encoder.moments(x))
    weight = vae.decoder.weight.detach()
    by_mean = (mean @ weight.mT - x.flatten(1)) @ weight / NOISE**2
    by_variance = deviation.square() * weight.square().sum(0) / (2 * NOISE**2)
    expected = root_mean_square(torch.cat([by_mean, by_variance], 1)) ** 2
    objective = Objective({"reconstruction": reconstruction})
    squares = torch.tensor([gradient_norms(objective, vae, x, seed=seed)["reconstruction"] ** 2 for seed in range(30)])
    assert squares.mean().item() == pytest.approx(expected, abs=4 * squares.std().item() / 30**0.5)


def test_terms_of_whole_batches_against_autograd():
    vae, x = linear_gaussian(0.3, 0.9), images(12)
    mean, log_variance = (t.detach().requires_grad_() for t in (vae.encoder.moments(x)[0], torch.randn(12, LATENT)))

    class Read(nn.Module):
        def forward(self, x: Tensor) -> Distribution:
            return Independent(Normal(mean * 1, torch.exp(log_variance / 2)), 1)

    vae.encoder = Read()
    terms = {"kl": KL(), "diversity": Diversity(1.3), "smoothness": Smoothness(0.4)}
    norms = gradient_norms(Objective({"reconstruction": reconstruction, **terms}), vae, x)
    q = vae.encoder(x)
    by_hand = {
        "kl": kl_divergence(q, vae.prior()).mean(),
        "diversity": diversity_term(q, 1.3),
        "smoothness": smoothness_term(q, 0.4),
    }
    for name, term in by_hand.items():
        found = torch.autograd.grad(term, [mean, log_variance], retain_graph=True)
        assert norms[name] == pytest.approx(root_mean_square(12 * torch.cat(found, 1))), name


def test_an_encoder_of_fixed_variance_feels_no_pull_on_it():
    vae, x = linear_gaussian(0.3, 0.7), images()
    vae.encoder.precision.requires_grad_(False)
    norms = gradient_norms(Objective({"kl": KL()}), vae, x)
    assert norms["kl"] == pytest.approx(root_mean_square(vae.encoder.moments(x)[0].detach()))


def test_schedules_count_and_what_does_not_depend_on_the_code_pulls_nothing():
    vae, x = linear_gaussian(0.3), images()
    growing = Objective({"reconstruction": reconstruction, "kl": KL(weight=lambda step: step / 10)})
    norms = [gradient_norms(growing, vae, x, step)["kl"] for step in (0, 5, 10)]
    assert norms == pytest.approx([0, norms[2] / 2, norms[2]])
    floored = Objective({"kl": KL(free_bits_nats=1e6), "constant": lambda forward, step: torch.tensor(3.0)})
    assert gradient_norms(floored, vae, x) == {"kl": 0, "constant": 0, "total": 0}
    without_noise = gradient_norms(Objective({"reconstruction": reconstruction}, noise=False), vae, x)
    assert without_noise["reconstruction"] == without_noise["total"] > 0


# -- use of the code ---------------------------------------------------------------------------------------------------


def test_a_decoder_without_z_loses_nothing_by_a_wrong_code():
    assert increase_by_another(linear_gaussian(use=0.0), images()).abs().max() == 0


def test_what_a_wrong_code_costs():
    """E |x - W z'|^2 - |x - W z|^2 over 2 noise^2: the variances of z and z' cancel."""
    vae, x = linear_gaussian(), images(2000)
    mean = vae.encoder.moments(x)[0].detach() @ vae.decoder.weight.detach().mT
    squares = [(x.flatten(1) - of).square().sum(1) for of in (mean.roll(-1, 0), mean)]
    expected = (squares[0] - squares[1]).mean().item() / (2 * NOISE**2)
    assert increase_by_another(vae, x).mean().item() == pytest.approx(expected, rel=0.05)


# -- bad input ---------------------------------------------------------------------------------------------------------


class ELUDecoder(Decoder):
    """Not a number for one image's code only."""

    def forward(self, z: Tensor) -> Distribution:
        spoilt = torch.where(torch.arange(z.shape[-2]) == 4, math.nan, 1.0)
        mean = elu(z @ self.weight.mT) * spoilt[:, None]
        return Independent(Normal(mean.unflatten(-1, (1, 1, PIXELS)), NOISE, validate_args=False), 3)


def test_bad_input_gets_a_sentence():
    vae, x = linear_gaussian(), images()
    objective = Objective({"reconstruction": reconstruction, "kl": KL()})
    for measure in (encoder_lag, lambda vae, x: gradient_norms(objective, vae, x)):
        with pytest.raises(InputError, match=r"x: expected images .* at least 2, got shape \(1, 1, 1, 6\)"):
            measure(vae, x[:1])
    with pytest.raises(InputError, match="x: expected at least 2 images, got 1"):
        probe(vae, objective, x[:1], step=0)
    with pytest.raises(InputError, match="steps: expected a number >= 1, got 0"):
        encoder_lag(vae, x, steps=0)
    with pytest.raises(InputError, match="pairs: expected a number >= 1, got 0"):
        encoder_lag(vae, x, pairs=0)
    vae.decoder = ELUDecoder(vae.decoder.weight.detach())
    with pytest.raises(RunError, match=r"the refined posterior of image 4 is not finite \(1 of 40 are not\)"):
        encoder_lag(vae, x)
    with pytest.raises(RunError, match=r"the reconstruction gradient of image 4 is not finite \(1 of 40 are not\)"):
        gradient_norms(objective, vae, x)
