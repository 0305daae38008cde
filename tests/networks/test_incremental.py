"""The law of incremental evaluation: at every position what a causal network answers is what it computes on whole maps."""

from collections.abc import Callable

import pytest
import torch
from constructors import by_name, shaken
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpdvae.errors import InputError
from mpdvae.models.flows import AutoregressiveStep, map_flow, vector_flow
from mpdvae.networks.blocks import PointwiseConv2d
from mpdvae.networks.incremental import incremental
from mpdvae.networks.made import MADE
from mpdvae.networks.made2d import MADE2d
from mpdvae.networks.masked import CausalConv2d, ConditionedCausalConv2d

CHANNELS = 3
SIZES = [(1, 1), (1, 5), (5, 1), (3, 5)]


class Conditioned(nn.Module):
    """The first layer of a PixelCNN under a fixed condition of any size."""

    def __init__(self, images: tuple[int, ...], conditions: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = ConditionedCausalConv2d(CHANNELS, 2, 4, 5)
        self.images, self.conditions = images, conditions

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        maps = torch.linspace(-1, 1, 2 * size.numel()).reshape(2, *size).expand(*self.conditions, 2, *size)
        y = self.layer(x.reshape(*self.images, CHANNELS, *size), maps)
        return y.flatten(0, -4)


SEEING_BEFORE: dict[str, Callable[[], nn.Module]] = {
    **{f"mask-A-{k}": lambda k=k: CausalConv2d(CHANNELS, 4, k, "A") for k in (1, 3, 7)},
    "conditioned": lambda: Conditioned((4,), (4,)),
    "conditioned-as-one": lambda: Conditioned((4,), ()),
    "conditioned-in-pairs": lambda: Conditioned((2, 2), (3, 1, 2)),
    **{f"made2d-{n}": lambda n=n: MADE2d(CHANNELS, 5, n) for n in (0, 1, 2)},
    "made2d-wide": lambda: MADE2d(CHANNELS, 5, 1, kernel_size=5),
    "made2d-blind": lambda: MADE2d(CHANNELS, 5, 1, kernel_size=1),
}
"""What is given whole maps, of which it sees what is before a position."""

SEEING_ITSELF: dict[str, Callable[[], nn.Module]] = {
    **{f"mask-B-{k}": lambda k=k: CausalConv2d(CHANNELS, 4, k, "B") for k in (1, 3, 7)},
    "pointwise": lambda: PointwiseConv2d(CHANNELS, 4),
    "chain": lambda: nn.Sequential(CausalConv2d(CHANNELS, 4, 3, "B"), nn.ELU(), PointwiseConv2d(4, 2)),
}
"""What is given one position after the other, and sees that too."""

MADES: dict[str, Callable[[int], nn.Module]] = {
    f"{'reversed' if reverse else 'made'}-{hidden}x{layers}": lambda n, h=hidden, k=layers, r=reverse: MADE(n, h, k, r)
    for hidden in (1, 7, 40)
    for layers in (1, 2, 3)
    for reverse in (False, True)
}

sizes = pytest.mark.parametrize(("height", "width"), SIZES)
alone_or_beside = pytest.mark.parametrize("count", [1, 2, 3])
pytestmark = pytest.mark.usefixtures("float64")


def networks_of(build: Callable[[], nn.Module], count: int) -> list[nn.Module]:
    return [shaken(build()) for _ in range(count)]


def expected_of(networks: list[nn.Module], inputs: list[Tensor]) -> Tensor:
    """[network batch ...]; of a network alone [batch ...]."""
    whole = torch.stack([network(x) for network, x in zip(networks, inputs, strict=True)])
    return whole if len(networks) > 1 else whole[0]


def known_before(x: Tensor, row: int, column: int) -> Tensor:
    """`x`, with nan from this position on."""
    later = torch.arange(x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:]) >= row * x.shape[-1] + column
    return x.masked_fill(later, torch.nan)


@sizes
@pytest.mark.parametrize(
    ("build", "count"),
    [
        pytest.param(build, count, id=f"{name}-{count}")
        for name, build in SEEING_BEFORE.items()
        for count in ([1] if name.startswith("conditioned") else [1, 2, 3])
    ],
)
@torch.no_grad()
def test_incremental_equals_full_from_what_was_before(build, count, height, width):
    networks, x = networks_of(build, count), torch.randn(4, CHANNELS, height, width)
    expected = expected_of(networks, [x] * count)
    with incremental(networks[0], height, width, beside=networks[1:]) as at:
        for _ in at.visit():
            answer = networks[0](known_before(x, at.row, at.column))
            torch.testing.assert_close(answer, expected[..., at.row, at.column, None, None])


@sizes
@alone_or_beside
@pytest.mark.parametrize("build", by_name(SEEING_ITSELF))
@torch.no_grad()
def test_incremental_equals_full_position_by_position(build, count, height, width):
    networks = networks_of(build, count)
    inputs = list(torch.randn(count, 4, CHANNELS, height, width))
    expected = expected_of(networks, inputs)
    given = torch.stack(inputs) if count > 1 else inputs[0]
    with incremental(networks[0], height, width, beside=networks[1:]) as at:
        for _ in at.visit():
            position = (..., slice(at.row, at.row + 1), slice(at.column, at.column + 1))
            torch.testing.assert_close(networks[0](given[position]), expected[position])


@alone_or_beside
@pytest.mark.parametrize("features", [1, 2, 6])
@pytest.mark.parametrize("build", by_name(MADES))
@torch.no_grad()
def test_incremental_equals_full_for_mades(build, features, count):
    networks, y = networks_of(lambda: build(features), count), torch.randn(4, features)
    expected = expected_of(networks, [y] * count)
    order = range(features)[::-1] if networks[0].reverse else range(features)
    unknown = torch.ones(features, dtype=torch.bool)
    with incremental(networks[0], 1, features, beside=networks[1:]) as at:
        for _, o in zip(at.visit(), order, strict=True):
            answer = networks[0](y.masked_fill(unknown, torch.nan))
            torch.testing.assert_close(answer, expected[..., o, None])
            unknown[o] = False


@pytest.mark.parametrize("build", by_name({**SEEING_BEFORE, **SEEING_ITSELF}))
def test_networks_are_left_as_they_were(build):
    """Also when something fails inside; and nothing is remembered from one evaluation for the next."""
    network, x = shaken(build()), torch.randn(4, CHANNELS, 3, 5)
    before = network(x)
    with pytest.raises(ZeroDivisionError), incremental(network, 3, 5):
        raise ZeroDivisionError
    assert torch.equal(network(x), before)
    assert network(x).requires_grad


def test_visiting_goes_row_by_row():
    with incremental(nn.Identity(), 2, 3) as at:
        seen = [(at.row, at.column, at.previous) for _ in at.visit()]
    assert [position[:2] for position in seen] == [(i, j) for i in range(2) for j in range(3)]
    assert [position[2] for position in seen] == [None, *(position[:2] for position in seen[:-1])]


def multiplications(run: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("flow", "shape"),
    [
        pytest.param(lambda: vector_flow(16, 1, 48), (16,), id="vector"),
        pytest.param(lambda: vector_flow(16, 1, 48, mean_only=True), (16,), id="vector-mean-only"),
        pytest.param(lambda: vector_flow(16, 1, 48, hidden_layers=3), (16,), id="deep"),
        pytest.param(lambda: map_flow(4, 1, 8), (4, 6, 6), id="map"),
        pytest.param(lambda: map_flow(4, 1, 8, kernel_size=7, mean_only=True), (4, 6, 6), id="map-wide"),
    ],
)
def test_inverting_multiplies_about_as_often_as_one_pass(flow, shape):
    """And not as often as one pass for each site. A MADE's biases count, and what convolutions mask does not."""
    flow, u = flow(), torch.randn(3, *shape)
    once = multiplications(lambda: flow.to_base(u))
    assert 0.5 * once < multiplications(lambda: flow.from_base(u)) < 1.1 * once


@pytest.mark.parametrize(
    ("mean", "log_variance", "message"),
    [
        (lambda: MADE(3, 4), lambda: MADE(3, 5), "the same architecture"),
        (lambda: MADE(3, 4), lambda: MADE(3, 4, reverse=True), "the same architecture"),
        (lambda: nn.Linear(3, 3), lambda: nn.Linear(3, 3), r"in causal layers, got others: \['weight', 'bias'\]"),
    ],
)
def test_networks_that_cannot_be_evaluated_as_one_are_refused(mean, log_variance, message):
    with pytest.raises(InputError, match=message):
        AutoregressiveStep(mean(), log_variance())
