"""What is kept beside weights tells changed code from code whose numbers were rounded elsewhere."""

import copy
import json
from pathlib import Path

import pytest
import torch
import zuko
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.models import StandardNormal
from mpdvae.runs.own_code import NAMES, Answers, answers, check_answers
from mpdvae.seeding import seeded
from mpdvae.system.closed_folder import Inside
from mpdvae.vae import VAE

SHAPE, DIM = (1, 8, 8), 4
EXPERIMENT = Experiment.model_validate({"name": "a", "model": "b", "latent_dim": DIM, "data": {"dataset": "own"}})
WEIGHTS = Inside(Path())


class GaussianNet(nn.Module):
    def __init__(self, size: int, shape: tuple[int, ...], *layers: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.net = nn.Sequential(nn.Flatten(), *layers, nn.LazyLinear(2 * size))

    def forward(self, x: torch.Tensor) -> Independent:
        mean, log_scale = self.net(x).chunk(2, -1)
        law = Normal(mean.unflatten(-1, self.shape), log_scale.exp().unflatten(-1, self.shape), validate_args=False)
        return Independent(law, len(self.shape))


class BernoulliNet(nn.Module):
    def __init__(self, *layers: nn.Module, last: nn.Module | None = None) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers, nn.LazyLinear(64), last or nn.Identity(), nn.Unflatten(-1, SHAPE))

    def forward(self, z: torch.Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.net(z), validate_args=False), 3)


def deep(width: int = 32, depth: int = 12) -> list[nn.Module]:
    return [layer for _ in range(depth) for layer in (nn.LazyLinear(width), nn.ELU())]


MODELS = {
    "linear": lambda: VAE(GaussianNet(DIM, (DIM,)), BernoulliNet(), StandardNormal((DIM,))),
    "deep": lambda: VAE(GaussianNet(DIM, (DIM,), *deep()), BernoulliNet(*deep()), StandardNormal((DIM,))),
    "flow": lambda: VAE(
        GaussianNet(DIM, (DIM,)), BernoulliNet(*deep(depth=2)), zuko.flows.MAF(DIM, transforms=2, hidden_features=(16,))
    ),
    "gaussian": lambda: VAE(GaussianNet(DIM, (DIM,)), GaussianNet(64, SHAPE, *deep(depth=3)), StandardNormal((DIM,))),
}


def made(name: str) -> VAE:
    with seeded("own code", name):
        vae = MODELS[name]()
        vae.decoder(vae.encoder(torch.zeros(2, *SHAPE)).rsample())  # lazy layers get their sizes
    return vae.eval()


def kept(vae: VAE) -> object:
    """As it is read from a file."""
    return json.loads(json.dumps(answers(vae, EXPERIMENT, SHAPE)._asdict()))


def check(given: object, vae: VAE) -> None:
    check_answers(given, vae, EXPERIMENT, SHAPE, WEIGHTS)


def rounded(vae: VAE, key: int) -> VAE:
    """The same model with all weights moved by up to four spacings of float32, as sums in another order would."""
    other = copy.deepcopy(vae)
    with torch.no_grad(), seeded("rounding", key):
        for weight in other.parameters():
            weight.mul_(1 + (torch.rand_like(weight) - 0.5) * 2**-20)
    return other


@pytest.mark.parametrize("name", MODELS)
def test_rounding_is_no_change(name):
    vae = made(name)
    given = kept(vae)
    check(given, vae)
    for key in range(5):
        check(given, rounded(vae, key))


@pytest.mark.parametrize("last", [nn.Tanh(), nn.Softsign(), nn.LeakyReLU(0.9), nn.Softplus()])
@pytest.mark.parametrize("name", ["linear", "deep"])
def test_a_function_behind_small_outputs_is_a_change(name, last):
    """Of a model that was never trained: its outputs are small, where bounded functions are nearly lines."""
    vae = made(name)
    given = kept(vae)
    changed = copy.deepcopy(vae)
    changed.decoder.net[-2] = last
    with pytest.raises(InputError, match="the code of"):
        check(given, changed)


def test_a_change_of_the_prior_and_of_the_encoder_is_told():
    vae = made("linear")
    given = kept(vae)
    for part, name in (("encoder", r"log q\(z\|x\)"), ("prior", r"log p\(z\)")):
        changed = copy.deepcopy(vae)
        if part == "encoder":
            changed.encoder.net[-1].bias.data += 1e-3
        else:
            changed.prior.forward = lambda: Independent(Normal(torch.zeros(DIM), 1.001 * torch.ones(DIM)), 1)
        with pytest.raises(InputError, match=name):
            check(given, changed)


class Steps(nn.Module):
    """A network whose outputs jump: rounding may change them by any amount."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(1e6 * x)


def test_a_network_that_enlarges_rounding_is_given_room_for_it():
    with seeded("chaotic"):
        vae = VAE(GaussianNet(DIM, (DIM,)), BernoulliNet(nn.LazyLinear(16), Steps()), StandardNormal((DIM,)))
        vae.decoder(vae.encoder(torch.zeros(2, *SHAPE)).rsample())
    given = kept(vae.eval())
    for key in range(5):
        check(given, rounded(vae, key))


@pytest.mark.parametrize(
    "given",
    [None, [], [1.0], 3, "a", {}, {"values": 3}, {"values": {NAMES[0]: 3}}, {"device": [], "values": {NAMES[0]: [[{}]]}},
     {"device": "cpu", "values": {NAMES[0]: [[float("nan"), -1.0], ["a", {}]]}}],
)  # fmt: skip
def test_numbers_of_no_form_are_no_numbers(given):
    check(given, made("linear"))


def test_numbers_of_earlier_versions_still_count():
    vae = made("linear")
    first = [row[0].value for row in answers(vae, EXPERIMENT, SHAPE).values.values()]
    check(first, vae)
    check([None, *first[1:]], vae)
    with pytest.raises(InputError, match=r"log q\(z\|x\) of a fixed image and code was"):
        check([first[0] * 1.1, *first[1:]], vae)


def test_another_kind_of_device_has_the_room_of_its_convolutions():
    vae = made("linear")
    given = answers(vae, EXPERIMENT, SHAPE)
    on_gpu = Answers("cuda", given.values)
    vae.decoder.net[-3].bias.data += 5e-3
    check(json.loads(json.dumps(on_gpu._asdict())), vae)
    with pytest.raises(InputError, match="has changed"):
        check(json.loads(json.dumps(given._asdict())), vae)
