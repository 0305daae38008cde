"""The threshold of the linear theory against the optimum of a linear VAE, which gradient descent finds."""

import math

import pytest
import torch
from torch import Tensor
from unchecked_types import sentences

from mpdvae.distributions.pixel_laws import bernoulli_pixels, gaussian_pixels
from mpdvae.errors import InputError
from mpdvae.measures.linear_threshold import MOST_IMAGES, linear_collapse_threshold, measure_linear_threshold, spectrum
from mpdvae.models.decoders import mlp_decoder, pixelcnn_decoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, UNITS = (1, 2, 3), 4
EIGENVALUES = torch.tensor([4.0, 1.5, 0.6, 0.3, 0.1, 0.05], dtype=torch.float64)


def images(count: int = 50) -> Tensor:
    """Images whose covariance has exactly the eigenvalues `EIGENVALUES`, around a mean that is not zero."""
    noise = torch.randn(count, len(EIGENVALUES))
    noise = noise - noise.mean(0)
    white = torch.linalg.svd(noise, full_matrices=False)[0] * math.sqrt(count)
    turned = torch.linalg.qr(torch.randn(len(EIGENVALUES), len(EIGENVALUES)))[0]
    return (white * EIGENVALUES.sqrt() @ turned.mT + torch.linspace(-1, 1, 6)).unflatten(1, SHAPE)


class LinearVAE:
    """decoder N(W z + b, sigma^2), encoder N(V (x - b), s^2), b the mean of the data; its loss is exact."""

    def __init__(self, x: Tensor, variance: float | None, beta: float) -> None:
        flat = x.flatten(1) - x.flatten(1).mean(0)
        self.covariance, self.beta = flat.mT @ flat / len(x), beta
        self.w = (0.3 * torch.randn(len(EIGENVALUES), UNITS)).requires_grad_()
        self.v = (0.3 * torch.randn(UNITS, len(EIGENVALUES))).requires_grad_()
        self.log_s = torch.zeros(UNITS).requires_grad_()
        self.log_variance = torch.tensor(0.0 if variance is None else math.log(variance))
        self.parameters = [self.w, self.v, self.log_s]
        if variance is None:
            self.parameters.append(self.log_variance.requires_grad_())

    def kl(self) -> Tensor:
        """Mean KL of each unit, in nats."""
        means = (self.v @ self.covariance @ self.v.mT).diagonal()
        return ((2 * self.log_s).exp() + means - 1 - 2 * self.log_s) / 2

    def loss(self) -> Tensor:
        """-E log p(x|z) + beta KL, in nats."""
        missing = torch.eye(len(EIGENVALUES)) - self.w @ self.v
        error = (missing @ self.covariance @ missing.mT).trace() + (
            (2 * self.log_s).exp() * self.w.square().sum(0)
        ).sum()
        noise = self.log_variance + math.log(2 * math.pi)
        return (error * (-self.log_variance).exp() + len(EIGENVALUES) * noise) / 2 + self.beta * self.kl().sum()

    def descend(self) -> None:
        optimizer = torch.optim.LBFGS(self.parameters, max_iter=4_000, tolerance_grad=1e-10, tolerance_change=1e-14,
                                      history_size=20, line_search_fn="strong_wolfe")  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss

        optimizer.step(closure)


@pytest.mark.parametrize(
    ("variance", "beta", "above"), [(0.2, 1.0, 4), (0.4, 1.0, 3), (0.4, 2.0, 2), (1.0, 2.0, 1), (2.5, 2.0, 0)]
)
def test_the_optimum_of_a_linear_vae_collapses_where_the_threshold_says(variance, beta, above):
    """Gradient descent ends at probabilistic PCA: as many units carry information, each as much as is foretold."""
    x = images()
    found, vae = linear_collapse_threshold(x, variance, beta), LinearVAE(x, variance, beta)
    vae.descend()
    assert found.directions_above == above
    expected = found.rate_per_direction_nats[:UNITS]
    torch.testing.assert_close(vae.kl().sort(descending=True).values, expected, rtol=0, atol=1e-4)
    strengths = torch.linalg.svdvals(vae.w.detach()).square()
    torch.testing.assert_close(strengths, (EIGENVALUES[:UNITS] - found.threshold).clamp_min(0), rtol=0, atol=1e-3)
    assert found.to_dict(UNITS)["linear_rate_nats"] == pytest.approx(vae.kl().sum().item(), abs=1e-3)
    assert found.to_dict(1)["linear_rate_nats"] == pytest.approx(expected[0].item())


def test_a_learned_variance_falls_below_what_is_coded():
    """To the mean of the eigenvalues that the units leave out: none of them collapses, unlike with a variance of 1."""
    x = images()
    vae = LinearVAE(x, None, 1.0)
    vae.descend()
    variance = vae.log_variance.exp().item()
    assert variance == pytest.approx(EIGENVALUES[UNITS:].mean().item(), rel=1e-4)
    assert linear_collapse_threshold(x, variance).directions_above >= UNITS
    assert linear_collapse_threshold(x, 1.0).directions_above == 2
    assert (vae.kl() > 0.1).all()


@pytest.mark.parametrize("count", [4, 7, 50])
def test_the_spectrum_is_that_of_the_covariance(count):
    x = torch.randn(count, *SHAPE)
    expected = torch.linalg.eigvalsh(torch.cov(x.flatten(1).mT, correction=0)).flip(0)
    found = spectrum(x)
    assert len(found) == min(count, 6)
    torch.testing.assert_close(found, expected[: len(found)].clamp_min(0), rtol=1e-9, atol=1e-12)


def model(law=gaussian_pixels, decoder=mlp_decoder) -> VAE:
    return VAE(mlp_encoder(SHAPE, 2), decoder(SHAPE, 2, law=law), StandardNormal((2,)))


def test_the_variance_is_that_of_the_models_pixels():
    vae, x = model(), images()
    with torch.no_grad():
        vae.decoder.shared.fill_(-0.1)
    sigma = vae.decoder(torch.randn(2)).base_dist.scale
    found = measure_linear_threshold(vae, x, beta=0.5)
    assert found is not None
    assert found.threshold == pytest.approx(0.5 * sigma.square().max().item())
    torch.testing.assert_close(found.eigenvalues, EIGENVALUES)
    again = measure_linear_threshold(vae, images(MOST_IMAGES + 1)[:, :, :1])
    assert again is not None
    assert len(again.eigenvalues) == 3


@pytest.mark.parametrize(
    "vae",
    [
        lambda: model(bernoulli_pixels),
        lambda: model(decoder=lambda s, n, law: pixelcnn_decoder(s, n, 4, (3,), law=law)),
    ],
)
def test_other_pixels_have_no_threshold(vae):
    """Pixels of other distributions, and Gaussian ones that depend on each other."""
    assert measure_linear_threshold(vae(), images()) is None


def test_one_image_has_no_covariance():
    with pytest.raises(InputError, match=r"at least 2 for a covariance, got shape \(1, 1, 2, 3\)"):
        spectrum(torch.zeros(1, *SHAPE))


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["decoder_variance", "beta"])
def test_noise_and_weight_are_above_zero(name, wrong):
    with pytest.raises(InputError, match=f"{name}: expected a number > 0, got {wrong}"):
        linear_collapse_threshold(torch.zeros(2, *SHAPE), **{"decoder_variance": 1.0, "beta": 1.0, name: wrong})


OTHER_FORMS = {
    "array": Tensor.numpy,
    "array in another order": lambda x: x.numpy()[:, ::-1].astype(">f8")[:, ::-1],
    "lists": Tensor.tolist,
    "flat rows": lambda x: x.flatten(1),
    "with gradients": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_images_in_other_forms_have_the_same_spectrum(form):
    x = images()
    found = linear_collapse_threshold(OTHER_FORMS[form](x), 0.5)
    torch.testing.assert_close(found.eigenvalues, linear_collapse_threshold(x, 0.5).eigenvalues)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_images_that_are_not_finite_have_no_spectrum(wrong):
    x = images()
    x[7, 0, 1, 2] = wrong
    for given in (x, x.numpy()):
        with pytest.raises(
            InputError, match=r"x: expected finite pixels, but image 7 has others \(1 of 50 images do\)"
        ):
            linear_collapse_threshold(given, 0.5)


def test_what_are_no_images_or_no_numbers_is_refused():
    head = "from mpdvae.measures import linear_collapse_threshold as threshold"
    no_images = [
        "np.array([['a', 'b']] * 2)",
        "[[1.0], [1.0, 2.0]]",
        "['a', 'b']",
        "torch.ones(2, 3) * 1j",
        "None",
        "1.0",
    ]
    for case, said in sentences(head, ["threshold(given, 1.0)"], no_images).items():
        assert said.startswith("x: expected "), case
    for case, said in sentences(head, ["threshold(np.eye(3), given)"], ["'a'", "None", "[1.0]", "1j"]).items():
        assert said.startswith("decoder_variance: expected a number > 0, got "), case
