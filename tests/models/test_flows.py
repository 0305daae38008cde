"""Autoregressive flows: against zuko, against autograd's Jacobian, inverted, and composed by hand."""

import runpy
from pathlib import Path

import pytest
import torch
from constructors import FLOWS, MAP_FLOWS, by_name, shaken
from torch.distributions import AffineTransform
from zuko.transforms import AutoregressiveTransform, DependentTransform

from mpdvae.errors import InputError
from mpdvae.models.flows import AutoregressiveStep, map_flow, map_step, vector_flow, vector_step
from mpdvae.networks.made import MADE
from mpdvae.networks.weight_norm import initialising_by_data

FEATURES = 5
PLAIN = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "plain.py"))
flows = pytest.mark.parametrize("build", by_name(FLOWS))
batches = pytest.mark.parametrize("batch", [0, 1, 33])
precisions = pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
both_orders = pytest.mark.parametrize("reverse", [False, True])


def jacobians(function, z: torch.Tensor) -> torch.Tensor:
    """d function(z)_o / d z_j for each row of z, [batch o j]."""
    return torch.stack([torch.autograd.functional.jacobian(function, row) for row in z])


def zuko_step(step: AutoregressiveStep) -> AutoregressiveTransform:
    """The same step by zuko's transform, with our networks as its conditioner."""

    def affine(z):
        log_scale = torch.zeros_like(z) if step.log_variance is None else step.log_variance(z) / 2
        return DependentTransform(AffineTransform(step.mean(z), log_scale.exp()), 1)

    return AutoregressiveTransform(affine, passes=FEATURES)


@pytest.mark.usefixtures("float64")
@both_orders
@pytest.mark.parametrize("mean_only", [False, True])
@pytest.mark.parametrize("leading", [(), (4,), (2, 4)], ids=str)
def test_step_agrees_with_zuko(reverse, mean_only, leading):
    step = shaken(vector_step(FEATURES, 12, reverse=reverse, mean_only=mean_only))
    oracle, z = zuko_step(step), torch.randn(*leading, FEATURES)
    u, log_det = step.to_base(z)
    expected_u, expected_log_det = oracle.call_and_ladj(z)
    torch.testing.assert_close(u, expected_u)
    torch.testing.assert_close(log_det, expected_log_det)
    torch.testing.assert_close(step.from_base(u), oracle.inv(u))
    torch.testing.assert_close(step.from_base(u), z)


@pytest.mark.usefixtures("float64")
@both_orders
@pytest.mark.parametrize("hidden_layers", [1, 2])
@pytest.mark.parametrize("hidden_features", [3, 7, 50])
def test_made_is_strictly_autoregressive(reverse, hidden_layers, hidden_features):
    """Output o depends on each input before o and on no other; the first output depends on nothing."""
    made = shaken(MADE(FEATURES, hidden_features, hidden_layers, reverse))
    depends = (jacobians(made, torch.randn(8, FEATURES)) != 0).any(0)
    before = torch.ones(FEATURES, FEATURES, dtype=torch.bool).tril(-1)
    assert torch.equal(depends, before.mT if reverse else before)


@both_orders
@pytest.mark.parametrize(
    ("hidden_features", "inputs_seen"),
    [(8, [1, 1, 2, 2, 3, 3, 4, 4]), (7, [1, 2, 2, 3, 3, 4, 4]), (3, [2, 3, 4])],
)
def test_made_spreads_its_hidden_units_evenly(hidden_features, inputs_seen, reverse):
    """Unit i (from 1) of h sees the first ceil(i (n-1) / h) inputs; output o sees the units that see at most o of them."""
    into, out = (layer.parametrizations.weight[0].mask for layer in MADE(5, hidden_features, reverse=reverse).layers)
    if reverse:
        into, out = into.flip(0, 1), out.flip(0, 1)
    assert into.tolist() == [[float(j < seen) for j in range(5)] for seen in inputs_seen]
    assert out.tolist() == [[float(seen <= o) for seen in inputs_seen] for o in range(5)]


def test_made_of_one_feature_is_a_constant():
    made = shaken(MADE(1, 4))
    assert torch.equal(made(torch.randn(6, 1)), made(torch.zeros(1)).expand(6, 1))


@pytest.mark.usefixtures("float64")
@flows
def test_log_determinant_agrees_with_the_jacobian(build):
    flow, z = shaken(build(FEATURES)), torch.randn(6, FEATURES)
    _, log_det = flow.to_base(z)
    sign, expected = torch.linalg.slogdet(jacobians(lambda row: flow.to_base(row)[0], z))
    assert (sign == 1).all()
    torch.testing.assert_close(log_det, expected, rtol=1e-9, atol=1e-9)


def test_mean_only_preserves_volume_and_affine_does_not():
    z = torch.randn(6, FEATURES)
    assert (shaken(FLOWS["mean-only"](FEATURES)).to_base(z)[1] == 0).all()
    assert (shaken(FLOWS["affine"](FEATURES)).to_base(z)[1] != 0).all()


@flows
@torch.no_grad()
def test_inverse_in_single_precision(build):
    flow, z = shaken(build(FEATURES)), torch.randn(100, FEATURES)
    u, _ = flow.to_base(z)
    assert (u - z).abs().mean() > 0.1
    assert (flow.from_base(u) - z).abs().max() < 1e-5
    assert (flow.to_base(flow.from_base(z))[0] - z).abs().max() < 1e-5


@precisions
@batches
@pytest.mark.parametrize("features", [1, 2, 7])
@flows
def test_inverse_is_that_of_the_plain_method(build, features, batch, dtype, atol):
    """A full pass for each number of each step."""
    flow, u = shaken(build(features)).to(dtype), torch.randn(batch, features, dtype=dtype)
    torch.testing.assert_close(flow.from_base(u), PLAIN["plain_inverse"](flow, u), rtol=0, atol=atol)


@precisions
def test_inverse_of_the_papers_prior_is_that_of_the_plain_method(dtype, atol):
    flow, u = vector_flow(32, blocks=1).to(dtype), torch.randn(16, 32, dtype=dtype)
    torch.testing.assert_close(flow.from_base(u), PLAIN["plain_inverse"](flow, u), rtol=0, atol=atol)


@torch.no_grad()
def test_inverse_of_the_papers_prior():
    flow, z = vector_flow(32, blocks=4, hidden_features=320), torch.randn(20, 32)
    u, _ = flow.to_base(z)
    assert (flow.from_base(u) - z).abs().max() < 1e-5


@pytest.mark.usefixtures("float64")
def test_a_dual_block_goes_backwards_first():
    """Density direction: for each block the step in order n-1..0, then that in order 0..n-1; log-determinants add up."""
    flow, z = shaken(vector_flow(FEATURES, blocks=2, hidden_features=9)), torch.randn(3, FEATURES)
    assert [step.reverse for step in flow.steps] == [True, False, True, False]
    u, log_det = z, torch.zeros(3)
    for step in flow.steps:
        half = step.log_variance(u) / 2
        u, log_det = step.mean(u) + u * half.exp(), log_det + half.sum(1)
    torch.testing.assert_close(flow.to_base(z), (u, log_det))
    first = jacobians(lambda row: flow.steps[0].to_base(row)[0], z)
    assert (first.tril(-1) == 0).all()
    assert (first.triu(1) != 0).any()


@pytest.mark.usefixtures("float64")
@flows
def test_data_dependent_initialisation_starts_near_the_identity(build):
    """Every network of the flow then gives outputs of mean 0 and deviation 0.1 * sqrt(2): hidden path plus direct path."""
    flow, z = build(FEATURES), 3 + 2 * torch.randn(500, FEATURES)
    with initialising_by_data(flow), torch.no_grad():
        flow.to_base(z)
    first = flow.steps[0]
    for network in (first.mean, first.log_variance):
        if network is not None:
            for path in (network.direct(z), network(z) - network.direct(z)):
                torch.testing.assert_close(path.mean(0), torch.zeros(FEATURES), rtol=0, atol=1e-9)
                seeing, blind = path.std(0)[:-1], path.std(0)[-1]  # in order n-1..0 the last output sees nothing
                torch.testing.assert_close(seeing, torch.full_like(seeing, 0.1), rtol=1e-3, atol=0)
                assert blind < 1e-12


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vector_flow(3, blocks=0), "blocks: expected at least one dual block, got 0"),
        (lambda: vector_flow(0), r"expected numbers >= 1, got 0, 320, 1"),
        (lambda: MADE(3, 0), r"expected numbers >= 1, got 3, 0, 1"),
        (lambda: MADE(3, 4, hidden_layers=0), r"expected numbers >= 1, got 3, 4, 0"),
    ],
)
def test_empty_networks_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


# Flows over maps

CHANNELS, HEIGHT, WIDTH = 2, 3, 4
map_flows = pytest.mark.parametrize("build", by_name(MAP_FLOWS))


def map_jacobian(function, z: torch.Tensor) -> torch.Tensor:
    """d function(z) / dz of one code with numbers ordered position by position, [position channel position channel]."""
    J = torch.autograd.functional.jacobian(function, z)
    return J.flatten(4, 5).flatten(1, 2).permute(1, 0, 3, 2)


@pytest.mark.usefixtures("float64")
@both_orders
@pytest.mark.parametrize(("hidden_layers", "kernel_size"), [(0, 3), (1, 3), (2, 3), (1, 5), (1, 1)])
def test_map_step_is_triangular_over_positions(reverse, hidden_layers, kernel_size):
    """Position o depends on positions before it, all channels of them, and on its own value channel by channel: the channels
    of a position are conditionally independent. In reversed order "before" means after."""
    step = shaken(map_step(CHANNELS, 5, hidden_layers, kernel_size, reverse))
    networks = (step.mean, step.log_variance)
    J = map_jacobian(lambda z: step.to_base(z)[0], torch.randn(CHANNELS, HEIGHT, WIDTH))
    positions = HEIGHT * WIDTH
    own = J.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    assert (own == torch.diag_embed(own.diagonal(dim1=1, dim2=2))).all()
    assert (own.diagonal(dim1=1, dim2=2) > 0).all()
    depends = (J != 0).any(1).any(-1)
    before = torch.ones(positions, positions, dtype=torch.bool).tril(-1)
    before = before.mT if reverse else before
    strictly = depends & ~torch.eye(positions, dtype=torch.bool)
    assert not (strictly & ~before).any()
    if kernel_size > 1:
        neighbours = [(o, o - 1) for o in range(positions) if o % WIDTH]
        seen = [J[i, :, o] if reverse else J[o, :, i] for o, i in neighbours]
        assert all((block != 0).all() for block in seen)  # every channel sees every channel
    for network in networks:
        assert network is not None
        of_network = map_jacobian(lambda y, network=network: network(y[None])[0], torch.randn(CHANNELS, HEIGHT, WIDTH))
        reached = (of_network != 0).any(1).any(-1)
        assert not (reached & ~torch.ones_like(reached).tril(-1)).any()


@pytest.mark.usefixtures("float64")
@map_flows
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
def test_map_flow_log_determinant_and_inverse(build, leading):
    flow, z = shaken(build(CHANNELS)), torch.randn(*leading, CHANNELS, HEIGHT, WIDTH)
    u, log_det = flow.to_base(z)
    assert (u.shape, log_det.shape) == (z.shape, leading)
    expected = []
    for code in z.reshape(-1, CHANNELS, HEIGHT, WIDTH):
        J = torch.autograd.functional.jacobian(lambda code: flow.to_base(code)[0].flatten(), code).flatten(1)
        sign, value = torch.linalg.slogdet(J)
        assert sign == 1
        expected.append(value)
    torch.testing.assert_close(log_det, torch.stack(expected).reshape(leading), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.from_base(u), z)
    torch.testing.assert_close(flow.to_base(flow.from_base(z))[0], z)


@precisions
@batches
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (4, 1), (3, 5)])
@map_flows
def test_inverse_over_maps_is_that_of_the_plain_method(build, height, width, batch, dtype, atol):
    """A full pass for each position of each step."""
    flow, u = shaken(build(CHANNELS)).to(dtype), torch.randn(batch, CHANNELS, height, width, dtype=dtype)
    torch.testing.assert_close(flow.from_base(u), PLAIN["plain_inverse"](flow, u), rtol=0, atol=atol)


@torch.no_grad()
def test_inverse_of_the_papers_prior_over_maps():
    flow, z = map_flow(16), torch.randn(4, 16, 8, 8)
    with initialising_by_data(flow):
        flow.to_base(z)
    u, _ = flow.to_base(z)
    assert (flow.from_base(u) - z).abs().max() < 1e-4


@pytest.mark.usefixtures("float64")
def test_reversed_map_step_is_a_step_on_turned_maps():
    step, turned = map_step(CHANNELS, 5, reverse=True), map_step(CHANNELS, 5, reverse=False)
    shaken(step)
    turned.load_state_dict(step.state_dict())
    z = torch.randn(2, CHANNELS, HEIGHT, WIDTH)
    (u, log_det), (turned_u, turned_log_det) = step.to_base(z), turned.to_base(z.flip(-2, -1))
    torch.testing.assert_close(u, turned_u.flip(-2, -1))
    torch.testing.assert_close(log_det, turned_log_det)


@pytest.mark.usefixtures("float64")
@map_flows
def test_data_dependent_initialisation_of_map_flows(build):
    """Every layer at a tenth of the usual scale, all blocks in the direction of densities."""
    flow, z = build(CHANNELS), 3 + 2 * torch.randn(50, CHANNELS, HEIGHT, WIDTH)
    with initialising_by_data(flow), torch.no_grad():
        flow.to_base(z)
    first = flow.steps[0]
    turned = z.flip(-2, -1)
    for network in (first.mean, first.log_variance):
        if network is not None:
            for path in (network.direct(turned), network(turned) - network.direct(turned)):
                torch.testing.assert_close(path.mean((0, 2, 3)), torch.zeros(CHANNELS), rtol=0, atol=1e-9)
                torch.testing.assert_close(path.std((0, 2, 3)), torch.full((CHANNELS,), 0.1), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: map_flow(2, blocks=0), "blocks: expected at least one dual block, got 0"),
        (lambda: map_flow(0), r"expected numbers >= 1, and hidden_layers >= 0, got 0, 128, 2"),
        (lambda: map_flow(2, hidden_layers=-1), r"got 2, 128, -1"),
        (lambda: map_flow(2, kernel_size=4), "needs an odd size, got 4"),
    ],
)
def test_empty_map_networks_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
