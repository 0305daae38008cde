"""What training would fail at is a sentence before anything is written; what only looks unusual trains."""

import numpy as np
import pytest
import torch
import zuko
from torch import nn
from torch.distributions import Bernoulli, Beta, Independent, Laplace, MultivariateNormal, Normal

import mpdvae
from mpdvae.errors import InputError
from mpdvae.experiments import own_parts
from mpdvae.models import GaussianEncoder, StandardNormal
from mpdvae.objectives import KL, Objective, reconstruction
from mpdvae.runs.run_folder import Run
from mpdvae.training import validation
from mpdvae.training.loop import train
from mpdvae.workflows.job import check_fit
from mpdvae.workflows.own_models import fit

SHAPE, LATENT = (1, 8, 8), 3


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((60, 8, 8))


class Returning(nn.Module):
    """A network whose output becomes a distribution, or whatever is to be returned."""

    def __init__(self, net: nn.Module, make) -> None:
        super().__init__()
        self.net, self.make = net, make

    def forward(self, x: torch.Tensor):
        return self.make(self.net(x))


class Calling(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self):
        return self.make()


def gaussian(h):
    mean, log_variance = h.chunk(2, -1)
    return Independent(Normal(mean, (log_variance / 2).exp()), 1)


def encoder(make=gaussian, numbers: int = 2 * LATENT) -> nn.Module:
    return Returning(nn.Sequential(nn.Flatten(), nn.Linear(64, numbers)), make)


def pixels(h):
    return Independent(Bernoulli(logits=h), 3)


def decoder(make=pixels, size: int = LATENT) -> nn.Module:
    return Returning(nn.Sequential(nn.Linear(size, 64), nn.Unflatten(-1, SHAPE)), make)


def prior(make=None, size: int = LATENT) -> nn.Module:
    return Calling(make or (lambda: Independent(Normal(torch.zeros(size), torch.ones(size)), 1)))


def model(**parts: nn.Module) -> mpdvae.VAE:
    return mpdvae.VAE(**({"encoder": encoder(), "decoder": decoder(), "prior": prior()} | parts))


class Flow(nn.Module):
    """A normalising flow given the image."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = zuko.flows.MAF(LATENT, 64, transforms=1, hidden_features=(8,))

    def forward(self, x: torch.Tensor):
        return self.flow(x.flatten(1))


def laplace(h):
    mean, log_scale = h.chunk(2, -1)
    return Independent(Laplace(mean, log_scale.exp()), 1)


def full_covariance(h):
    return MultivariateNormal(h[..., :LATENT], torch.eye(LATENT).expand(len(h), LATENT, LATENT))


def unwrapped(h):
    return Normal(h[..., :LATENT], 1.0)


def broken(h):
    raise KeyError("of my own")


MISTAKES = {
    "encoder of Laplace": (
        lambda: model(encoder=encoder(laplace)),
        r"^encoder: expected a diagonal Gaussian, .*got Independent\(Laplace\): what is measured",
    ),
    "encoder of full covariance": (
        lambda: model(encoder=encoder(full_covariance)),
        r"^encoder: expected a diagonal Gaussian, .*got MultivariateNormal: ",
    ),
    "encoder that is a flow": (
        lambda: model(encoder=Flow()),
        r"^encoder: expected a diagonal Gaussian, .*got NormalizingFlow",
    ),
    "encoder without Independent": (
        lambda: model(encoder=encoder(unwrapped)),
        r"^encoder: expected a distribution of batch shape \(3,\) and event shape \(3,\), got Normal of batch shape \(3, 3\) "
        r"and event shape \(\); return torch\.distributions\.Independent\(p, 1\)\.",
    ),
    "encoder of a tensor": (lambda: model(encoder=encoder(lambda h: h)), r"^encoder: expected .* got a Tensor\."),
    "encoder that fails": (
        lambda: model(encoder=encoder(broken)),
        r"^encoder: encoding images of shape \(3, 1, 8, 8\) failed at test_part_trial\.py, line \d+, "
        r"\(KeyError: 'of my own'\)",
    ),
    "encoder of other images": (
        lambda: model(encoder=Returning(nn.Sequential(nn.Flatten(), nn.Linear(49, 6)), gaussian)),
        r"^encoder: encoding images of shape \(3, 1, 8, 8\) failed.*cannot be multiplied",
    ),
    "decoder without Independent": (
        lambda: model(decoder=decoder(lambda h: Bernoulli(logits=h))),
        r"^decoder: expected a distribution of batch shape \(2, 3\) and event shape \(1, 8, 8\), got Bernoulli of batch "
        r"shape \(2, 3, 1, 8, 8\) and event shape \(\); return torch\.distributions\.Independent\(p, 3\)\.",
    ),
    "decoder with one Independent too few": (
        lambda: model(decoder=decoder(lambda h: Independent(Bernoulli(logits=h), 2))),
        r"^decoder: .*return torch\.distributions\.Independent\(p, 1\)\.",
    ),
    "decoder with one Independent too many": (
        lambda: model(decoder=decoder(lambda h: Independent(Bernoulli(logits=h), 4))),
        r"^decoder: .*leave some axes out of Independent",
    ),
    "decoder of a tensor": (
        lambda: model(decoder=decoder(lambda h: h)),
        r"^decoder: expected a module that returns a torch distribution, such as Independent\(Bernoulli.*got a Tensor\.",
    ),
    "decoder of flat images": (
        lambda: model(decoder=decoder(lambda h: Independent(Bernoulli(logits=h.flatten(-3)), 1))),
        r"^decoder: .*of batch shape \(2, 3\) and event shape \(64,\); .*nn\.Unflatten\(-1, \(1, 8, 8\)\)",
    ),
    "decoder without leading axes": (
        lambda: model(decoder=decoder(lambda h: pixels(h.flatten(0, -4)))),
        r"^decoder: .*keep the leading axes \(2, 3\)|^decoder: .*nn\.Unflatten",
    ),
    "decoder of other codes": (
        lambda: model(decoder=Returning(nn.Linear(5, 64), pixels)),
        r"^decoder: decoding codes of shape \(2, 3, 3\) failed .*cannot be multiplied",
    ),
    "prior without Independent": (
        lambda: model(prior=prior(lambda: Normal(torch.zeros(LATENT), 1.0))),
        r"^prior: expected a distribution of batch shape \(\) and event shape \(3,\), got Normal of batch shape \(3,\) and "
        r"event shape \(\); return torch\.distributions\.Independent\(p, 1\)\.",
    ),
    "prior of a tensor": (lambda: model(prior=prior(lambda: torch.zeros(LATENT))), r"^prior: expected .* got a Tensor\."),
    "prior of another size": (
        lambda: model(prior=prior(size=4), decoder=decoder(size=4)),
        r"^encoder and prior: .*got \(3,\) of the encoder and \(4,\) of the prior",
    ),
    "no gradient": (
        lambda: model(encoder=encoder(lambda h: gaussian(h.detach())), decoder=decoder(lambda h: pixels(h.detach()))),
        r"^objective: the gradient of the loss failed",
    ),
    "lazy layer out of reach": (
        lambda: model(encoder=nn.ModuleDict({"net": nn.LazyLinear(3)})),
        r"^encoder\.net\.weight: a lazy layer gets its size",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_before_anything_is_written(make, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(make, images, out=tmp_path / "run", latent_dim=LATENT, epochs=1)
    assert not (tmp_path / "run").exists()


def test_a_density_that_is_infinite_at_black_is_told(images, tmp_path):
    images[:, 0] = 0
    beta = decoder(lambda h: Independent(Beta(h.exp() + 2, h.exp() + 2, validate_args=False), 3))
    with pytest.raises(
        InputError,
        match=r"^objective: the term reconstruction of the first 3 training images is inf before any training",
    ):
        fit(lambda: model(decoder=beta), images, out=tmp_path / "run", latent_dim=LATENT, epochs=1)


def test_the_command_line_tries_parts_too(images, tmp_path):
    """Of a part that is registered, with the package's others."""

    @mpdvae.part("decoder")
    def flat_pixels(image_shape, latent_dim):
        return decoder(lambda h: Bernoulli(logits=h))

    fields = {"latent_dim": LATENT, "encoder": {"kind": "mlp"}, "decoder": {"kind": "flat-pixels"}}
    experiment = mpdvae.experiments.Experiment.model_validate(
        fields | {"prior": {"kind": "standard-normal"}, "training": {"batch_size": 20}}
    )
    data = mpdvae.data.own.split_own({"all": mpdvae.data.Images(torch.zeros(120, 1, 8, 8).byte())}, "x", "x", None, 0)
    with pytest.raises(InputError, match=r"^decoder: .*Independent\(p, 3\)"):
        check_fit(experiment, data)


@pytest.mark.parametrize("make", [laplace, full_covariance, None], ids=["Laplace", "full covariance", "flow"])
def test_a_loop_of_your_own_takes_any_posterior(make, images):
    """As the refusal says."""
    vae = model(encoder=Flow() if make is None else encoder(make))
    x = torch.bernoulli(torch.from_numpy(images).float()[:, None])
    objective, optimizer = Objective({"reconstruction": reconstruction, "kl": KL()}), torch.optim.Adam(vae.parameters())
    losses = []
    for step in range(60):
        loss = objective(vae, x, step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_posterior_without_a_mean_is_told():
    with pytest.raises(InputError, match=r"^x: the posterior NormalizingFlow has no mean"):
        model(encoder=Flow()).encode(torch.zeros(2, *SHAPE))


def test_what_an_evaluation_point_cannot_measure_is_not_called_a_loss_that_is_not_finite(images, tmp_path, monkeypatch):
    fit(lambda: model(), images, out=tmp_path / "run", latent_dim=LATENT, epochs=1)
    run = Run(tmp_path / "run")

    def refusing(*_, **__):
        raise InputError("q: not of this family.")

    monkeypatch.setattr("mpdvae.training.loop.validate", refusing)
    data = mpdvae.data.own.split_own({"all": mpdvae.data.Images(torch.zeros(60, 1, 8, 8).byte())}, "x", "x", None, 0)
    again = Run.create(tmp_path / "again", run.experiment)
    with pytest.raises(InputError, match="q: not of this family"):
        train(again, data)


def test_a_posterior_that_is_no_number_is_still_one(monkeypatch, images):
    """The information per dimension is then no number, which is no fault of an argument."""
    monkeypatch.setattr(validation.code_diagnostics, "of_posteriors", lambda *_, **__: NoNumbers())
    with pytest.raises(mpdvae.RunError, match="information per dimension is not finite"):
        validation.validate(model(), torch.bernoulli(torch.rand(4, *SHAPE)), 1, 0)


class NoNumbers:
    information_per_dimension = torch.tensor([0.1, float("nan")])


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(7), nn.LazyBatchNorm1d(), nn.SiLU(), nn.LazyLinear(2 * LATENT)
        )

    def forward(self, x: torch.Tensor):
        return gaussian(self.net(x))


def test_lazy_layers_get_their_sizes_when_the_model_is_built(images, tmp_path):
    """As a function of the seed: resuming builds the same."""

    def lazy(image_shape, latent_dim):
        return model(encoder=Lazy())

    torch.manual_seed(1)
    one = fit(lazy, images, out=tmp_path / "one", latent_dim=LATENT, epochs=1)
    torch.manual_seed(2)
    other = fit(lazy, images, out=tmp_path / "other", latent_dim=LATENT, epochs=1)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert one.encoder.net[1].in_features == 64


def test_a_ready_made_model_has_its_sizes(images, tmp_path):
    """It cannot be copied before, and is left as it is."""
    ready = model(encoder=Lazy())
    with pytest.raises(
        InputError, match=r"got a lazy layer, encoder\.net\.1\.weight; pass images through the model before"
    ):
        fit(ready, images, out=tmp_path / "run", latent_dim=LATENT, epochs=1)
    ready.encoder(torch.zeros(2, *SHAPE))
    assert fit(ready, images, out=tmp_path / "run", latent_dim=LATENT, epochs=1).encoder.net[1].in_features == 64


def test_weights_that_parts_share_are_saved(images, tmp_path):
    """The decoder's matrix is that of the encoder, and stays so in the loaded model."""

    def tied(image_shape, latent_dim):
        body = nn.Linear(64, 2 * latent_dim)
        return mpdvae.VAE(
            GaussianEncoder(nn.Sequential(nn.Flatten(), body), image_shape),
            Transposed(body),
            StandardNormal((latent_dim,)),
        )

    made = fit(tied, images, out=tmp_path / "run", latent_dim=LATENT, epochs=2)
    loaded = mpdvae.load(tmp_path / "run")
    assert loaded.decoder.body.weight is loaded.encoder.body[1].weight
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


class Transposed(nn.Module):
    def __init__(self, body: nn.Linear) -> None:
        super().__init__()
        self.body = body

    def forward(self, z: torch.Tensor):
        return pixels((z @ self.body.weight[:LATENT]).unflatten(-1, SHAPE))
