"""PixelCNN++: causality over pixels and channels, how far it sees, what conditions it, sizes, dropout, and its colour model
as a whole."""

from functools import cache, partial

import pytest
import torch
from constructors import parameters_of, shaken
from torch import Tensor, nn
from torch.distributions import Distribution

from mpdvae.distributions.pixel_laws import logistic_mixture_pixels
from mpdvae.distributions.pixels import AutoregressivePixels
from mpdvae.errors import InputError
from mpdvae.models.decoders import AutoregressiveDecoder, pixelcnnpp_decoder
from mpdvae.models.encoders import densenet_encoder
from mpdvae.models.flows import map_flow
from mpdvae.networks.pixelcnnpp import PixelCNNPP

pytestmark = pytest.mark.usefixtures("float64")

CONDITION, OUT = 2, 5
SIZES = {1: (5, 3), 2: (4, 6), 3: (8, 4), 4: (8, 8)}
"""Levels, and a size that they divide."""
levels = pytest.mark.parametrize("levels", SIZES)
concatenated = pytest.mark.parametrize("concatenated", [True, False], ids=["concatenated-elu", "elu"])


def network(levels: int, concatenated: bool = True, blocks: int = 1, dropout: float = 0.0) -> PixelCNNPP:
    return shaken(PixelCNNPP(CONDITION, OUT, 3, levels, blocks, dropout, concatenated), 0.1).eval()


def given(levels: int, *batch: int) -> tuple[Tensor, Tensor]:
    """Images and maps for a network of so many levels."""
    return torch.rand(*batch, 3, *SIZES[levels]) * 2 - 1, torch.randn(*batch, CONDITION, *SIZES[levels])


def dependence(function, x: Tensor) -> Tensor:
    """Whether any channel of the output at position o depends on any channel of `x` at position i: [o i]."""
    out = function(x)
    mixed = (out * torch.randn(len(out), 1, 1)).sum(0).flatten()
    rows = [(torch.autograd.grad(value, x, retain_graph=True)[0] != 0).any(0).flatten() for value in mixed]
    return torch.stack(rows)


# Causality


@levels
@concatenated
def test_parameters_depend_on_every_earlier_pixel_and_no_other(levels, concatenated):
    """The whole Jacobian over positions, all channels of a position together: strictly lower triangular in raster order, and
    without the blind spots of a masked PixelCNN."""
    x, h = given(levels)
    net = network(levels, concatenated, blocks=3)
    depends = dependence(lambda x: net(x, h), x.requires_grad_())
    before = torch.ones_like(depends).tril(-1)
    assert not (depends & ~before).any()
    if levels >= 3:  # smaller networks have a limited field
        assert torch.equal(depends, before)


@pytest.mark.parametrize(("row", "column"), [(31, 31), (16, 16), (5, 20)])
def test_the_papers_depth_sees_all_earlier_pixels(row, column):
    """3 levels of 6 blocks on 32x32: 1023 of 1023 earlier pixels, 528 of 528, 180 of 180."""
    net = shaken(PixelCNNPP(CONDITION, OUT, 2), 0.1).eval()
    x = (torch.rand(3, 32, 32) * 2 - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x, torch.randn(CONDITION, 32, 32))[:, row, column].sum(), x)
    seen = (gradient != 0).any(0).flatten()
    before = row * 32 + column
    assert before in {1023, 528, 180}
    assert seen[:before].all()
    assert not seen[before:].any()


def terms(p: AutoregressivePixels, x: Tensor) -> Tensor:
    """log p(red | before), log p(green | before), log p(blue | before) of each position, [position 3]: later channels are
    summed out over their 256 levels."""
    grid = (torch.arange(256) / 127.5 - 1).to(x)
    pairs = torch.cartesian_prod(grid, grid)
    found = []
    for theta, (red, green, blue) in zip(p.parameters(x).flatten(1).mT, x.flatten(1).mT, strict=True):
        law = p.law(theta[:, None, None])

        def log_prob(*channels: Tensor, law: Distribution = law) -> Tensor:
            return law.log_prob(torch.stack(torch.broadcast_tensors(*channels), -1)[..., None, None]).flatten()

        of_red = log_prob(red, *pairs.mT).logsumexp(0)
        of_two = log_prob(red, green, grid).logsumexp(0)
        found.append(torch.stack([of_red, of_two - of_red, log_prob(red, green, blue)[0] - of_two]))
    return torch.stack(found)


def test_channels_are_causal():
    """Jacobian of log p(x_i,c | before) by all inputs of a 2x2 image, 12 x 12 in the order pixel by pixel, red, green, blue:
    lower triangular, and every channel matters to its own term and to those of the channels after it."""
    decoder = pixelcnnpp_decoder((3, 2, 2), 2, 3, 2, 1, 2, 0.0, doublings=1, law=logistic_mixture_pixels(2))
    p, x = shaken(decoder, 0.1).eval()(torch.randn(2, 1, 1)), torch.randint(20, 236, (3, 2, 2)) / 127.5 - 1
    torch.testing.assert_close(terms(p, x).sum(), p.log_prob(x))
    J = torch.autograd.functional.jacobian(lambda x: terms(p, x), x)
    J = J.flatten(3).transpose(2, 3).reshape(12, 12)  # [position channel] by [position channel]
    scale = J.abs().max()
    assert J.triu(1).abs().max() < 1e-9 * scale  # sums over levels leave rounding
    for pixel in range(4):
        own = J[3 * pixel : 3 * pixel + 3, 3 * pixel : 3 * pixel + 3]
        assert (own[*torch.tril_indices(3, 3)].abs() > 1e-6 * scale).all()
    assert (J[9:, :9].abs() > 0).any(0).all()


# The condition


@levels
@concatenated
def test_condition_reaches_all_pixels_from_before_and_after(levels, concatenated):
    x, h = given(levels)
    net = network(levels, concatenated)
    depends = dependence(lambda h: net(x, h), h.requires_grad_())
    pixels = len(depends)
    assert depends.diagonal().all()
    for position in range(pixels):
        assert position == 0 or depends[:position, position].any()
        assert position == pixels - 1 or depends[position + 1 :, position].any()


@levels
def test_leading_axes_broadcast_as_if_repeated(levels):
    net = network(levels)
    x, _ = given(levels, 3)
    _, h = given(levels, 2, 1)
    found = net(x, h)
    repeated = net(x.expand(2, 3, *x.shape[1:]), h.expand(2, 3, *h.shape[2:]))
    torch.testing.assert_close(found, repeated, rtol=0, atol=0)
    assert found.shape == (2, 3, OUT, *SIZES[levels])
    torch.testing.assert_close(found[1, 2], net(x[2], h[1, 0]))


# Training


@levels
@concatenated
def test_gradients_reach_every_parameter(levels, concatenated):
    net = shaken(PixelCNNPP(CONDITION, OUT, 3, levels, 2, 0.0, concatenated), 0.1)
    out = net(*given(levels, 2))
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_is_active_in_training_only():
    net, (x, h) = network(3, dropout=0.5), given(3)
    assert torch.equal(net(x, h), net(x, h))
    net.train()
    assert not torch.equal(net(x, h), net(x, h))
    assert all(part.p == 0.5 for part in net.modules() if isinstance(part, nn.Dropout))
    assert sum(isinstance(part, nn.Dropout) for part in net.modules()) == 6
    without = network(3)
    without.load_state_dict(net.state_dict())
    torch.testing.assert_close(without(x, h), net.eval()(x, h))


# Drawing


@levels
@concatenated
@torch.no_grad()
def test_pixel_by_pixel_as_all_at_once(levels, concatenated):
    """What a draw computes, position after position, are the parameters of the whole image."""
    height, width = SIZES[levels]
    z = torch.randn(2, 8, height, width)
    decoder = pixelcnnpp_decoder((3, height, width), 8, 3, levels, 2, CONDITION, 0.5, concatenated, doublings=0)
    p = shaken(decoder, 0.1).eval()(z)
    x = p.sample()
    whole = p.parameters(x)
    with p.parameters.pixel_by_pixel() as at:
        known = torch.zeros_like(x)
        for i in range(height):
            for j in range(width):
                torch.testing.assert_close(at(known, i, j), whole[..., i, j])
                known[..., i, j] = x[..., i, j]


# Sizes


@levels
def test_sizes_that_do_not_divide_are_refused(levels):
    factor = 2 ** (levels - 1)
    build = partial(pixelcnnpp_decoder, latent_channels=8, channels=3, levels=levels, blocks=1, doublings=levels - 1)
    assert isinstance(build((3, 2 * factor, factor)), AutoregressiveDecoder)
    if levels > 1:
        message = (
            f"PixelCNN.. decoder with {levels - 1} halvings .* divisible by {factor}, got {2 * factor}x{factor + 1}"
        )
        with pytest.raises(InputError, match=message):
            build((3, 2 * factor, factor + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 8, 8), 6), "divisible by 4, as they are halved 2 times on the way .*, got 6"),
        (((3, 8, 8), 0), "latent_dim: expected a number >= 1, got 0"),
        (((3, 8, 8), 4, 0), "channels, levels, blocks: expected numbers >= 1, got 0, 3, 6"),
        (((3, 8, 8), 4, 3, 3, 0), "channels, levels, blocks: expected numbers >= 1, got 3, 3, 0"),
    ],
)
def test_impossible_decoders_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        pixelcnnpp_decoder(*arguments)


# Parameter counts of the paper's networks (method.md, sections 8.2 and 8.3), without the released code's unused layers

CIFAR, LSUN = (3, 32, 32), (3, 64, 64)
STAGES_OF_64 = ((15, 3), (16, 3), (16, 3), (16, 3))


@cache
def small_decoder() -> AutoregressiveDecoder:
    return pixelcnnpp_decoder(CIFAR, 16)


def large_decoder() -> AutoregressiveDecoder:
    return pixelcnnpp_decoder(LSUN, 32, 64, 4, 4, 16, 0.5, False, 3, logistic_mixture_pixels(5))


COUNTS = {
    "encoder": (lambda: [densenet_encoder(CIFAR, 16)], 302_614),
    "prior": (lambda: [map_flow(16)], 5_358_592),
    "a network of the prior": (lambda: [map_flow(16).steps[0].mean], 334_912),
    "decoder": (lambda: [small_decoder()], 42_740_960 - 37_248),
    "maps from z": (lambda: [small_decoder().to_maps], 1_168 + 296 + 96),
    "start": (lambda: [small_decoder().network.start], 3_744),
    "block of the largest size": (lambda: [small_decoder().network.up[0][0]], 1_117_440),
    "block of the middle size": (lambda: [small_decoder().network.up[1][0]], 1_145_088),
    "block of the smallest size": (lambda: [small_decoder().network.up[2][0]], 1_200_384),
    "strided pair": (lambda: [small_decoder().network.halvings[0]], 92_544),
    "h between sizes": (
        lambda: [small_decoder().network.h_halvings, small_decoder().network.h_doublings],
        23_232 + 23_136,
    ),
    "head": (lambda: [small_decoder().network.widen, small_decoder().network.parameters_of_pixels], 9_408 + 9_800),
    "encoder of 64x64": (lambda: [densenet_encoder(LSUN, 32, STAGES_OF_64)], 492_662),
    "prior of 64x64": (lambda: [map_flow(32, hidden_layers=1)], 3_696_640),
    "decoder of 64x64": (large_decoder, 9_506_556 - 8_448),
}


@pytest.mark.parametrize(("parts", "count"), COUNTS.values(), ids=COUNTS)
def test_parameter_counts_of_the_paper(parts, count):
    torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        found = parts()
    assert parameters_of(found if isinstance(found, list) else [found]) == count
