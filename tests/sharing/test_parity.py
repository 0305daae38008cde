"""Parity with the authors' released code: the same weights and inputs give the same numbers.

Two proofs. Against the numbers that the released code itself computed (tests/parity/, five models and the loss terms), array
by array in single and double precision; and, for any filling of the weights, against `released.py`, which writes the
released model again as plain functions.

In single precision each stage starts from the recorded codes z, so that an error shows where it is; in double precision
everything follows from images, weights and noise.
"""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from released import (
    MODELS,
    Net,
    Numbers,
    binary_encoder,
    densenet_encoder,
    description,
    filled,
    flow_from_base,
    flow_to_base,
    forward,
    numbers,
    pixelcnn_decoder,
    pixelcnnpp_decoder,
)
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from mpdvae.distributions.logistic_mixture import DiscretisedLogisticMixture
from mpdvae.divergence import mutual_posterior_divergence
from mpdvae.experiments.data_config import Data
from mpdvae.experiments.decoder_config import PixelCNNDecoder, PixelCNNPPDecoder
from mpdvae.experiments.encoder_config import DenseNetEncoder, ResNetEncoder
from mpdvae.experiments.experiment import Experiment, ObjectiveConfig
from mpdvae.experiments.prior_config import FlowPrior, MapFlowPrior
from mpdvae.sharing.released_config import experiment_of
from mpdvae.sharing.released_import import from_official, load_released
from mpdvae.sharing.released_layers import released_layers
from mpdvae.vae import VAE

SAMPLES = 2
PRECISIONS = {"": torch.float32, "f64_": torch.float64}
GIVEN = {"x", "eps", "flow_base", "init_x"}
DEAD = ("decoder.core.core.nins1.0.", "decoder.core.core.nins2.0.")
"""Layers that the released code has and never uses."""
precisions = pytest.mark.parametrize("prefix", PRECISIONS, ids=["single", "double"])


def model(name: str) -> VAE:
    about = description(name)
    return from_official(about["config"], filled(shapes(name), about["gain"], about["phase"]))


def shapes(name: str) -> dict[str, list[int]]:
    about = description(name)
    return about["parameters"] | about["buffers"]


class OnceEach(nn.Module):
    """A decoder that keeps the log-likelihoods it computed: objective, bound and ELBO ask for the same ones."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder, self.known = decoder, []

    def forward(self, z: Tensor) -> "OnceEach":
        self.z = z
        return self

    def log_prob(self, x: Tensor) -> Tensor:
        for z, value in self.known:
            if torch.equal(z, self.z):
                return value
        self.known.append((self.z, self.decoder(self.z).log_prob(x)))
        return self.known[-1][1]


@torch.no_grad()
def computed(vae: VAE, given: Numbers) -> Numbers:
    """Everything that is recorded, by our model; axes [batch samples ...] as there."""
    x, eps = given["x"], given["eps"].transpose(0, 1)
    q = vae.encoder(x)
    single = x.dtype == torch.float32
    z = given["z"].transpose(0, 1) if single else q.mean + eps * q.stddev
    divergence = mutual_posterior_divergence(q)
    found = {
        "mu": q.mean,
        "logvar": 2 * q.stddev.log(),
        "log_pz": vae.prior().log_prob(z).mT,
        "log_qzx": q.log_prob(z).mT,
        "log_px": vae.decoder(z).log_prob(x).mT,
        "kl": vae.kl(q, z),
        "kl_mc": vae.kl(q, z, "generic"),
        "post_kl_mean": divergence.per_dimension,
        "post_kl_std": divergence.std,
        "loss_post_kl_mean": divergence.mean,
        "loss_post_kl_std": divergence.std,
    }
    if "flow_base" in given:
        flow = vae.prior.flow
        found["flow_backward"], found["flow_backward_logdet"] = flow.to_base(z[0])
        found["flow_forward"] = flow.from_base(given["flow_base"])
        found["flow_forward_logdet"] = flow.to_base(found["flow_forward"])[1]
    p = vae.decoder(z[1, 1])
    if x.shape[1] == 1:
        found["logits"] = p.parameters(x[1])[0] if hasattr(p, "parameters") else p.base_dist.logits[0]
    else:
        law = p.law(p.parameters(x[1])) if hasattr(p, "parameters") else p
        found |= {"mix_mu": law.means, "mix_log_scale": law.log_scales, "mix_coeff": law.coefficients}
        found["mix_log_prob"] = law.log_weights
    return found | losses(vae, x, eps)


def losses(vae: VAE, x: Tensor, eps: Tensor) -> Numbers:
    """Training loss and evaluation through the public functions, which draw `eps` as their noise."""
    objective = ObjectiveConfig(diversity_weight=1, smoothness_weight=0.5, samples=SAMPLES).build()
    vae = VAE(vae.encoder, OnceEach(vae.decoder), vae.prior).eval()

    def noise(shape: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        assert tuple(shape) == tuple(eps.shape)
        return eps.to(dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.distributions.normal._standard_normal", noise)
        loss = objective(vae, x)
        elbo, bound = vae.elbo(x, SAMPLES, "generic"), vae.importance_weighted_bound(x, SAMPLES)
    return {
        "z": loss.forward.z.transpose(0, 1),
        "loss": loss.total,
        "loss_recon": loss.forward.reconstruction,
        "loss_kl": loss.forward.kl,
        "loss_term_mean": loss.terms["diversity"],
        "loss_term_std": loss.terms["smoothness"],
        "nll_elbo": -elbo,
        "nll_recon": loss.forward.reconstruction,
        "nll_kl": vae.kl(loss.forward.q, loss.forward.z, "generic"),
        "nll_iw": -bound,
    }


@torch.no_grad()
def initialised(name: str, vae: VAE, given: Numbers, z: Tensor) -> Numbers:
    """The same model after data-dependent initialisation, started from the filled weights; `z` are the codes before it."""
    vae, x, z = copy.deepcopy(vae), given["x"], z.transpose(0, 1)
    vae.initialise(given["init_x"])
    ours = in_released_names(name, vae)
    sums = [ours[tensor].double() for tensor in sorted(ours)]
    q = vae.encoder(x)
    return {
        "init_sum": torch.stack([tensor.sum() for tensor in sums]),
        "init_norm": torch.stack([tensor.square().sum().sqrt() for tensor in sums]),
        "init_mu": q.mean,
        "init_logvar": 2 * q.stddev.log(),
        "init_log_pz": vae.prior().log_prob(z).mT,
        "init_log_px": vae.decoder(z).log_prob(x).mT,
    }


def in_released_names(name: str, vae: VAE) -> Numbers:
    """Our tensors under the released names, directions of masked layers multiplied by their mask."""
    experiment, _ = experiment_of(description(name)["config"])
    tensors = {}
    for released, own in released_layers(experiment):
        layer = vae.get_submodule(own)
        weight = layer.parametrizations.weight
        mask = weight[0].mask
        tensors[f"{released}.weight_g"] = weight.original0
        tensors[f"{released}.weight_v"] = weight.original1 if mask is None else weight.original1 * mask
        tensors[f"{released}.bias"] = layer.bias
    return tensors


SLOW = {"colour_pixelcnnpp": [pytest.mark.slow]}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=SLOW.get(name, [])) for name in MODELS])
def results(request: pytest.FixtureRequest) -> tuple[str, Numbers]:
    """A model's name and all that ours computes, once: single precision, and double precision with a prefix."""
    name = request.param
    vae, recorded = model(name), numbers(name)
    found = {"parameter_count": torch.tensor(sum(p.numel() for p in vae.parameters()))}
    for prefix, dtype in PRECISIONS.items():
        vae, given = vae.to(dtype), {key: value.to(dtype) for key, value in recorded.items()}
        here = computed(vae, given)
        if "init_x" in recorded:
            here |= initialised(name, vae, given, given["z"] if dtype == torch.float32 else here["z"])
        found |= {prefix + key: value for key, value in here.items()}
    return name, found | masks(name, vae)


def masks(name: str, vae: VAE) -> Numbers:
    """Sums of our masks in the order of the released names; reversed flows over maps are turned here, their masks not."""
    experiment, _ = experiment_of(description(name)["config"])
    own = dict(released_layers(experiment))
    sums, positions = [], []
    for buffer in sorted(description(name)["buffers"]):
        released = buffer.removesuffix(".mask")
        mask = vae.get_submodule(own[released]).parametrizations.weight[0].mask
        if ".bwd." in released and mask.ndim == 4:
            mask = mask.flip(-2, -1)
        entries = mask.long().flatten()
        sums.append(entries.sum())
        positions.append((entries * (torch.arange(len(entries)) % 9973)).sum())
    return {"mask_sum": torch.stack(sums), "mask_position_sum": torch.stack(positions)} if sums else {}


def tolerance(array: str, expected: Tensor) -> float:
    """Largest difference allowed: see tests/parity/README.md."""
    if array in {"init_sum", "init_norm"}:
        return {"init_sum": 5e-4, "init_norm": 5e-5}[array]
    relative = 1e-10 if array.startswith("f64_") else 1e-4 if array in {"init_log_pz", "init_log_px"} else 1e-5
    return relative * expected.abs().max().item()


@precisions
def test_recorded_arrays(results, prefix):
    """Every recorded array: posteriors, flow both ways, densities, decoder outputs, divergences, losses, bounds, and what
    data-dependent initialisation makes of them."""
    name, found = results
    expected = {
        array: value
        for array, value in numbers(name).items()
        if array not in GIVEN and not array.startswith(("fill_", "mask_")) and array.startswith("f64_") == bool(prefix)
    }
    assert len(expected) >= 16
    assert {array for array, value in expected.items() if found[array].shape != value.shape} == set()
    differences = {array: (found[array] - value).abs().max().item() for array, value in expected.items()}
    assert {array: d for array, d in differences.items() if not d <= tolerance(array, expected[array])} == {}


def test_masks(results):
    name, found = results
    expected = numbers(name)
    for array in ("mask_sum", "mask_position_sum"):
        assert (array in found) == (array in expected)
        assert array not in found or torch.equal(found[array], expected[array])


def test_parameter_count(results):
    name, found = results
    about = description(name)
    dead = sum(math.prod(shape) for key, shape in about["parameters"].items() if key.startswith(DEAD))
    assert found["parameter_count"].item() == about["parameter_count"] - dead
    assert dead == (37_248 if name == "colour_pixelcnnpp" else 0)


@pytest.mark.parametrize("name", MODELS)
def test_filling(name):
    """Of the test itself: weights are filled as they were when the numbers were recorded."""
    about, expected = description(name), numbers(name)
    values = filled(shapes(name), about["gain"], about["phase"])
    tensors = [values[key].double() for key in sorted(values)]
    sums, norms = (torch.stack([f(t) for t in tensors]) for f in (torch.sum, torch.linalg.vector_norm))
    torch.testing.assert_close(sums, expected["fill_sum"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(norms, expected["fill_norm"], rtol=1e-9, atol=0)


def recorded_terms(prefix: str) -> tuple[Numbers, Numbers]:
    """Arguments of the loss terms in one precision, and what the released code makes of them."""
    recorded = numbers("loss_terms")
    given = {array: value.to(PRECISIONS[prefix]) for array, value in recorded.items()}
    return given, {array: recorded[prefix + array] for array in ("nll", "post_kl_mean", "post_kl_std")}


@precisions
def test_recorded_colour_likelihood(prefix):
    given, expected = recorded_terms(prefix)
    coefficients = given["coeff"].double().atanh().to(given["coeff"])
    groups = [given["log_prob"], *(y.flatten(-4, -3) for y in (given["mean"], given["log_scale"], coefficients))]
    found = -DiscretisedLogisticMixture(torch.cat(groups, -3)).log_prob(given["x"][:, None])
    difference = (found - expected["nll"]).abs().max().item()
    assert difference <= tolerance(f"{prefix}nll", expected["nll"])


@precisions
def test_recorded_divergence(prefix):
    """The released code adds 1e-12 to the variance that it divides by, which moves these hand-made values (log variances
    down to -6) by 4e-10; with the same floor ours are the recorded ones, without it the divergence itself."""
    given, expected = recorded_terms(prefix)
    mu, logvar = given["mu"].double(), given["logvar"].double()

    def by_pairs(floor: float) -> list[Tensor]:
        v, m = logvar.exp(), mu
        kl = 0.5 * ((v[:, None] + (m[:, None] - m).square()) / (v + floor) - logvar[:, None] + logvar - 1)
        pairs = kl[~torch.eye(len(m), dtype=torch.bool)]
        return [pairs.mean(0), pairs.sum(1).std()]

    q = Independent(Normal(given["mu"], (given["logvar"] / 2).exp()), 1)
    for floor, wanted in ((0.0, by_pairs(0)), (1e-12, [expected["post_kl_mean"], expected["post_kl_std"]])):
        found = mutual_posterior_divergence(q, variance_floor=floor)
        for value, right, name in zip(
            (found.per_dimension, found.std), wanted, ("post_kl_mean", "post_kl_std"), strict=True
        ):
            assert (value - right).abs().max().item() <= tolerance(prefix + name, right)


# Any filling


phases = st.floats(0.1, 6.2)
gains = st.floats(0.3, 1.3)
factors = st.floats(0.3, 1.1)
"""Of the recorded gains: beyond them flows stretch without bound and pixels saturate."""


def assert_same(found: Tensor, expected: Tensor, relative: float = 1e-9) -> None:
    assert found.shape == expected.shape
    difference = (found - expected).abs().max().item()
    assert difference <= relative * expected.abs().max().item() + 1e-12


@torch.no_grad()
def assert_whole_model_agrees(name: str, phase: float, factor: float) -> None:
    """Our model and the rewritten released one, in double precision, on one image."""
    about, given = description(name), numbers(name)
    config, gain = about["config"], {part: factor * gain for part, gain in about["gain"].items()}
    state = filled(shapes(name), gain, phase)
    x, eps = given["x"][:1].double(), given["eps"][:1, 0].double()
    expected = forward(config, state, x, eps)
    vae = from_official(config, state).double()
    q = vae.encoder(x)
    z = q.mean + eps * q.stddev
    p = vae.decoder(z)
    base = vae.prior.flow.to_base(z)[0] if hasattr(vae.prior, "flow") else z
    if hasattr(p, "parameters"):
        parameters = p.parameters(x)
    else:
        parameters = p.base_dist.logits if x.shape[1] == 1 else vae.decoder.body(z)
    assert_same(q.mean, expected["mean"])
    assert_same(2 * q.stddev.log(), expected["log_variance"])
    assert_same(base, expected["base"])
    assert_same(vae.prior().log_prob(z), expected["log_prior"])
    assert_same(q.log_prob(z), expected["log_posterior"])
    assert_same(parameters, expected["parameters"])
    # The released code adds 1e-12 to the probabilities of binary pixels.
    assert_same(p.log_prob(x), expected["log_likelihood"], 1e-6 if x.shape[1] == 1 else 1e-9)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "colour_pixelcnnpp"])
@settings(max_examples=3)
@given(phase=phases, factor=factors)
def test_whole_models_agree_for_any_filling(name, phase, factor):
    assert_whole_model_agrees(name, phase, factor)


@pytest.mark.slow
@torch.no_grad()
def test_the_rewritten_code_agrees_with_the_recorded_numbers():
    """Of the tests themselves: `released.py` is the released code, its largest model included."""
    for name in ("binary_small", "colour_pixelcnnpp"):
        about, recorded = description(name), numbers(name)
        state = filled(shapes(name), about["gain"], about["phase"])
        x, eps = recorded["x"][:1].double(), recorded["eps"][:1, 0].double()
        found = forward(about["config"], state, x, eps)
        for ours, array in {"log_prior": "log_pz", "log_posterior": "log_qzx", "log_likelihood": "log_px"}.items():
            assert_same(found[ours], recorded[f"f64_{array}"][:1, 0], 1e-11)
        base = recorded["flow_base"].double()
        if base.ndim == 2:
            assert_same(flow_from_base(Net(state), base)[0], recorded["f64_flow_forward"], 1e-11)


def released_shapes(experiment: Experiment, vae: VAE) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the released code would have for a model of any size, masks included."""
    found = {}
    for released, own in released_layers(experiment):
        layer = vae.get_submodule(own)
        weight = layer.parametrizations.weight
        found[f"{released}.weight_g"] = tuple(weight.original0.shape)
        found[f"{released}.weight_v"] = tuple(weight.original1.shape)
        found[f"{released}.bias"] = tuple(layer.bias.shape)
        if weight[0].mask is not None:
            found[f"{released}.mask"] = tuple(weight.original1.shape)
    return found


def of_any_size(experiment: Experiment, image: tuple[int, int, int], phase: float, gain: float) -> tuple[VAE, Net]:
    """A model of sizes that the released code does not offer, with filled weights: ours, and the rewritten one."""
    parts = {"encoder.core": 1.0, "encoder.prior_flow": 0.2, "decoder": gain}
    state = filled(released_shapes(experiment, experiment.build(image)), parts, phase)
    return load_released(experiment, image, state).double(), Net(state)


def assert_flows_agree(vae: VAE, net: Net, z: Tensor) -> None:
    u, log_det = vae.prior.flow.to_base(z)
    expected_u, expected_log_det = flow_to_base(net, z)
    assert_same(u, expected_u)
    assert_same(log_det, expected_log_det)
    assert_same(vae.prior.flow.from_base(u), flow_from_base(net, u)[0])


@pytest.mark.slow
@torch.no_grad()
@settings(max_examples=8)
@given(
    phase=phases,
    gain=gains,
    levels=st.integers(1, 4),
    doublings=st.integers(0, 3),
    blocks=st.integers(1, 3),
    concatenated=st.booleans(),
    mean_only=st.booleans(),
    hidden_layers=st.integers(0, 2),
)
def test_colour_parts_agree_for_any_filling_and_size(
    phase, gain, levels, doublings, blocks, concatenated, mean_only, hidden_layers
):
    """DenseNet, flow over maps and PixelCNN++, each on inputs of its own."""
    growths, steps = (3, 2, 3, 2)[: doublings + 1], (1, 2, 1, 1)[: doublings + 1]
    experiment = Experiment(
        data=Data(dataset="cifar10", binarisation="levels", evaluation_draws=1),
        latent_dim=8,
        encoder=DenseNetEncoder(growths=growths, steps=steps, features=5),
        prior=MapFlowPrior(blocks=2, hidden_channels=6, hidden_layers=hidden_layers, mean_only=mean_only),
        decoder=PixelCNNPPDecoder(
            channels=4,
            condition_channels=2,
            components=2,
            levels=levels,
            doublings=doublings,
            blocks=blocks,
            activation="concatenated-elu" if concatenated else "elu",
        ),
    )
    vae, net = of_any_size(experiment, (3, 8, 16), phase, gain)
    x = torch.randint(256, (1, 3, 8, 16)).double() / 127.5 - 1
    z = torch.randn(1, 8, 8 >> doublings, 16 >> doublings).double()
    assert_same(vae.encoder.body(x), densenet_encoder(net, x, steps))
    expected = pixelcnnpp_decoder(net, x, z, levels, blocks, "concat_elu" if concatenated else "elu")
    assert_same(vae.decoder(z).parameters(x), expected)
    assert_flows_agree(vae, net, torch.randn(1, 8, 3, 4).double())


@torch.no_grad()
@settings(max_examples=8)
@given(
    phase=phases,
    gain=gains,
    latent_dim=st.integers(1, 6),
    hidden_features=st.integers(1, 20),
    hidden_layers=st.integers(1, 3),
    mean_only=st.booleans(),
    kernels=st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=6),
)
def test_binary_parts_agree_for_any_filling_and_size(
    phase, gain, latent_dim, hidden_features, hidden_layers, mean_only, kernels
):
    """ResNet, flow over vectors and PixelCNN."""
    prior = FlowPrior(blocks=2, hidden_features=hidden_features, hidden_layers=hidden_layers, mean_only=mean_only)
    experiment = Experiment(
        latent_dim=latent_dim,
        encoder=ResNetEncoder(channels=(2, 3, 3), features=5),
        prior=prior,
        decoder=PixelCNNDecoder(channels=4, kernel_sizes=tuple(kernels), condition_channels=2),
    )
    vae, net = of_any_size(experiment, (1, 9, 6), phase, gain)
    x, z = torch.randint(2, (1, 1, 9, 6)).double(), torch.randn(1, latent_dim).double()
    assert_same(vae.encoder.body(x), binary_encoder(net, x))
    assert_same(vae.decoder(z).parameters(x), pixelcnn_decoder(net, x, z, kernels))
    assert_flows_agree(vae, net, z)
