"""Networks: weight normalisation by formula, causality by the full Jacobian, wiring by a second implementation, counts."""

import pytest
import torch
from constructors import (
    DECODERS,
    ENCODERS,
    MAP_DECODERS,
    MAP_ENCODERS,
    PRIORS,
    binary_images,
    by_name,
    colour_images,
    parameters_of,
    shaken,
    with_maps,
    with_shapes,
)
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, elu
from torch.nn.utils import parametrize

from mpdvae.errors import InputError
from mpdvae.models.decoders import pixelcnn_decoder, resnet_decoder
from mpdvae.models.encoders import resnet_encoder
from mpdvae.models.flows import vector_flow
from mpdvae.models.priors import FlowPrior
from mpdvae.networks import activations, convolution
from mpdvae.networks.blocks import DownBlock, PointwiseConv2d, UpBlock
from mpdvae.networks.blocks import conv2d as normalised_conv2d
from mpdvae.networks.convolution import convolve
from mpdvae.networks.made import MADE
from mpdvae.networks.masked import (
    FEW_CHANNELS,
    CausalConv2d,
    ConditionedCausalConv2d,
    MaskedLinear,
    causal_mask,
)
from mpdvae.networks.pixelcnn import PAPER_LARGE, PAPER_SMALL, BottleneckBlock, PixelCNN
from mpdvae.networks.weight_norm import WeightNorm, initialising_by_data, weight_norm

pytestmark = pytest.mark.usefixtures("float64")

KERNELS = [(1,), (3,), (5, 3), (3, 3, 3), (3, 5, 1, 3), (3, 3, 3, 3, 3, 3)]
kernels = pytest.mark.parametrize("kernel_sizes", KERNELS, ids=str)


# Weight normalisation


@pytest.mark.parametrize(
    ("layer", "units"),
    [(nn.Linear(4, 3), 0), (nn.Conv2d(4, 3, 5), 0), (nn.ConvTranspose2d(4, 3, 5, stride=2), 1)],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else None,
)
def test_plain_weight_norm(layer, units):
    """w = g v / ||v||, a norm for each output unit over all other axes: 0, 2, 3 in a transposed convolution."""
    layer = shaken(weight_norm(layer).double())
    gain, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    assert gain.shape == tuple(3 if axis == units else 1 for axis in range(direction.ndim))
    for unit in range(3):
        v, w = direction.select(units, unit), layer.weight.select(units, unit)
        torch.testing.assert_close(w, gain.flatten()[unit] * v / v.square().sum().sqrt())


def test_masked_weight_norm():
    """w = exp(g) m v / (||m v|| + 1e-8); a unit that sees nothing has weight 0."""
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    layer = shaken(MaskedLinear(mask))
    gain, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    for unit in range(3):
        v = direction[unit] * mask[unit]
        torch.testing.assert_close(layer.weight[unit], gain[unit].exp() * v / (v.square().sum().sqrt() + 1e-8))
    assert (layer.weight[2] == 0).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_weight_norm_starts_at_the_drawn_weight(transposed):
    """v ~ N(0, 0.05^2), g = ||v|| and bias 0: the weight is v."""
    layer = weight_norm(nn.ConvTranspose2d(40, 30, 5) if transposed else nn.Conv2d(40, 30, 5))
    direction = layer.parametrizations.weight.original1
    torch.testing.assert_close(layer.weight, direction)
    assert direction.std().item() == pytest.approx(0.05, rel=0.03)
    assert (layer.bias == 0).all()


def test_masked_weight_norm_starts_at_the_drawn_weight():
    layer = CausalConv2d(3, 4, 5, "B")
    direction = layer.parametrizations.weight.original1
    torch.testing.assert_close(layer.weight, direction * causal_mask(direction, "B"))


def outputs_of_normalised_layers(module: nn.Module, run) -> list[tuple[nn.Module, torch.Tensor]]:
    """(layer, its output) for every weight-normalised layer, while `run()` runs."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: seen.append((layer, output)))
        for layer in module.modules()
        if parametrize.is_parametrized(layer, "weight")
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen


def assert_initialised(module: nn.Module, run) -> None:
    with initialising_by_data(module):
        run()
    seen = outputs_of_normalised_layers(module, run)
    assert len(seen) == sum(isinstance(part, WeightNorm) for part in module.modules()) > 0
    for layer, output in seen:
        axes = [axis for axis in range(output.ndim) if axis != 1]
        mean, std = output.mean(axes), output.std(axes)
        target = layer.parametrizations.weight[0].init_scale
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
        sees_nothing = layer.weight.flatten(1).eq(0).all(1) if isinstance(layer, MaskedLinear) else std < 0
        torch.testing.assert_close(std, torch.where(sees_nothing, 0, target).to(std), rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize(("build", "shape"), with_shapes(ENCODERS))
def test_initialisation_by_data_of_encoders(build, shape):
    encoder, x = build(shape, 3), torch.rand(40, *shape)
    assert_initialised(encoder, lambda: encoder(x))
    assert encoder(x).mean.std(0).mean().item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(("build", "shape"), with_shapes(DECODERS))
def test_initialisation_by_data_of_decoders(build, shape):
    decoder, z, x = build(shape, 3), torch.randn(40, 3), binary_images(40, *shape)
    assert_initialised(decoder, lambda: decoder(z).log_prob(x))


@pytest.mark.parametrize("build", [case for case in by_name(PRIORS) if "flow" in str(case.id)])
def test_initialisation_by_data_of_priors(build):
    prior, z = build(3), 2 + 3 * torch.randn(300, 3)
    assert_initialised(prior, lambda: prior().log_prob(z))


@pytest.mark.parametrize(("build", "shape", "code"), with_maps(MAP_ENCODERS))
def test_initialisation_by_data_of_map_encoders(build, shape, code):
    encoder, x = build(), torch.rand(40, *shape) * 2 - 1
    assert_initialised(encoder, lambda: encoder(x))
    assert encoder(x).mean.std((0, 2, 3)).mean().item() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize(("build", "shape", "code"), with_maps(MAP_DECODERS))
def test_initialisation_by_data_of_map_decoders(build, shape, code):
    decoder, z, x = build().eval(), torch.randn(40, *code), colour_images(40, *shape)
    assert_initialised(decoder, lambda: decoder(z).log_prob(x))


def test_initialisation_leaves_mode_and_hooks_as_they_were():
    network = nn.Sequential(normalised_conv2d(1, 2, 3), nn.Dropout(0.5)).train()
    with initialising_by_data(network):
        assert not network.training
        network(torch.randn(4, 1, 5, 5))
    before = network[0].weight.clone()
    network(10 * torch.randn(4, 1, 5, 5))
    assert network.training
    assert torch.equal(network[0].weight, before)


# Causal convolutions


def test_causal_masks():
    before = [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    after = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    weight = torch.randn(2, 3, 5, 5)
    for mask_type, middle in {"A": [1, 1, 0, 0, 0], "B": [1, 1, 1, 0, 0]}.items():
        mask = torch.tensor([*before, middle, *after]).double()
        assert torch.equal(causal_mask(weight, mask_type), mask.expand_as(weight))


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("channels", [2, FEW_CHANNELS])
def test_causal_convolution_is_a_convolution_with_masked_weights(mask_type, size, channels):
    layer, x = shaken(CausalConv2d(channels, 3, size, mask_type)), torch.randn(4, channels, 5, 6)
    weight = layer.weight * causal_mask(layer.weight, mask_type)
    torch.testing.assert_close(layer(x), conv2d(x, weight, layer.bias, padding=size // 2))


@pytest.mark.parametrize(
    ("images", "conditions"),
    [((), ()), ((3,), (3,)), ((3,), (2, 3)), ((2, 3), (3,)), ((4, 1), (3,)), ((), (3,)), ((2, 3), ())],
)
def test_conditioned_convolution_pairs_images_with_conditions(images, conditions):
    """As if images and conditions were repeated and concatenated: image masked, condition seen whole."""
    layer = shaken(ConditionedCausalConv2d(1, 2, 3, 5))
    x, condition = torch.randn(*images, 1, 4, 5), torch.randn(*conditions, 2, 4, 5)
    paired = torch.broadcast_shapes(images, conditions)
    both = torch.cat([x.expand(*paired, 1, 4, 5), condition.expand(*paired, 2, 4, 5)], -3)
    mask = torch.cat([causal_mask(layer.weight[:, :1], "A"), torch.ones_like(layer.weight[:, 1:])], 1)
    expected = conv2d(both.reshape(-1, 3, 4, 5), layer.weight * mask, layer.bias, padding=2)
    torch.testing.assert_close(layer(x, condition), expected.reshape(*paired, 3, 4, 5))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_pointwise_convolution_in_each_memory_layout(layout):
    """The same values, gradients and layout as torch's convolution."""
    layer, x = shaken(PointwiseConv2d(3, 4)), torch.randn(2, 3, 5, 6).to(memory_format=layout).requires_grad_()
    weight, bias = layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_()
    ours, theirs = layer(x), conv2d(x, weight, bias)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous(memory_format=layout)
    direction = torch.randn_like(theirs)
    with parametrize.cached():
        ours_by = torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), direction)
    theirs_by = torch.autograd.grad(theirs, (x, weight, bias), direction)
    for one, other in zip(ours_by, theirs_by, strict=True):
        torch.testing.assert_close(one, other)


def test_pointwise_convolution_keeps_low_precision():
    layer, x = PointwiseConv2d(3, 4).float(), torch.randn(2, 3, 5, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.to(memory_format=torch.channels_last)).dtype == torch.bfloat16


def test_direction_of_one_number_stays():
    """Its gradient is 0 exactly, not rounding errors that an optimiser divides by their size."""
    layer = PointwiseConv2d(1, 64).float()
    gain, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    torch.testing.assert_close(layer.weight, gain * direction.sign())
    layer(torch.randn(3, 1, 5, 5, dtype=torch.float32)).square().sum().backward()
    assert direction.grad.eq(0).all()
    assert gain.grad.ne(0).all()


def test_elu_and_its_derivatives():
    """Value, first and second derivative are torch's, at zero too, though computed from the output."""
    x = torch.tensor([-40.0, -2.0, -1e-9, 0.0, 1e-9, 3.0], dtype=torch.float64, requires_grad=True)

    def derivatives(function):
        y = function(x)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y, first, *torch.autograd.grad(first.sum(), x)

    torch.testing.assert_close(derivatives(activations.elu), derivatives(elu), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(
    ("dtype", "spacing"), [(torch.float64, 2**-53), (torch.float32, 2**-24), (torch.bfloat16, 2**-8)], ids=str
)
@pytest.mark.parametrize("learning", [True, False], ids=["training", "evaluation"])
def test_elu_is_rounded_no_more_than_a_number_below_one(dtype, spacing, learning):
    """Over the whole range, and for non-finite values; in evaluation, torch's own values."""
    x = torch.cat([torch.linspace(-20, 5, 4000), torch.tensor([0.0, torch.inf, -torch.inf, torch.nan])]).to(dtype)
    with torch.set_grad_enabled(learning):
        y = activations.elu(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, elu(x), rtol=0, atol=spacing if learning else 0, equal_nan=True)


def test_elu_keeps_the_memory_layout():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert activations.elu(x).stride() == x.stride()


@pytest.mark.parametrize("wanted", [("x", "weight", "bias"), ("x",), ("weight",), ("bias",), ("weight", "bias")])
@pytest.mark.parametrize(
    ("inputs", "units", "kernel", "padding"),
    [(2, 4, (1, 1), (0, 0)), (4, 2, (1, 1), (0, 0)), (4, 1, (1, 1), (0, 0)), (3, 2, (2, 3), (0, 1))],
)
def test_convolution_and_its_derivatives(inputs, units, kernel, padding, wanted):
    """Value, first and second derivatives are torch's, whichever of them are asked for."""
    given = {
        "x": torch.randn(2, inputs, 5, 6, dtype=torch.float64),
        "weight": torch.randn(units, inputs, *kernel, dtype=torch.float64),
        "bias": torch.randn(units, dtype=torch.float64),
    }
    asked = [given[name].requires_grad_() for name in wanted]

    def derivatives(function):
        y = function(*given.values(), padding)
        first = torch.autograd.grad(y.sin().sum(), asked, create_graph=True)
        return y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), asked)

    expected = derivatives(lambda x, weight, bias, padding: conv2d(x, weight, bias, padding=padding))
    torch.testing.assert_close(derivatives(convolve), expected, rtol=1e-12, atol=1e-12)


def test_a_convolution_computes_only_the_gradients_that_are_asked_for(monkeypatch):
    """Refining a code needs no gradients of weights; nor does an image need one."""
    computed = []
    gradient = convolution._gradient
    monkeypatch.setattr(convolution, "_gradient", lambda of, *rest: computed.append(of) or gradient(of, *rest))
    layers = [PointwiseConv2d(2, 3), PointwiseConv2d(3, 2)]
    x = torch.randn(4, 2, 5, 6, requires_grad=True)

    def loss(x):
        return layers[1](layers[0](x)).square().sum()

    torch.autograd.grad(loss(x), x)
    assert computed == [0, 0]
    loss(x.detach()).backward()
    assert sorted(computed[2:]) == [0, 1, 1]


# PixelCNN


def jacobian(function, x: torch.Tensor, outputs: int) -> torch.Tensor:
    """d function(x) / d x as a matrix, [outputs, all of x]."""
    return torch.autograd.functional.jacobian(function, x).reshape(outputs, -1)


@kernels
def test_pixelcnn_is_strictly_causal(kernel_sizes):
    """20 x 20 Jacobian of the logits of a 5x4 image: strictly lower triangular in raster order."""
    network = shaken(PixelCNN(2, 4, kernel_sizes))
    maps = torch.randn(2, 5, 4)
    J = jacobian(lambda x: network(x, maps), torch.rand(1, 5, 4), 20)
    assert (J.triu() == 0).all()
    sees_its_left_neighbour = [J[i, i - 1] != 0 for i in range(20) if i % 4]
    assert all(sees_its_left_neighbour) == (kernel_sizes[0] > 1)


@kernels
def test_receptive_field_is_kept_and_reached(kernel_sizes):
    network = shaken(PixelCNN(2, 4, kernel_sizes))
    reach = network.receptive_field
    assert reach == sum((k - 1) // 2 for k in kernel_sizes)
    size, centre = 2 * reach + 5, reach + 2
    x = torch.rand(1, size, size, requires_grad=True)
    logit = network(x, torch.randn(2, size, size))[0, centre, centre]
    (gradient,) = torch.autograd.grad(logit, x)
    rows, columns = gradient[0].nonzero().unbind(1)
    if reach == 0:
        assert not rows.numel()
        return
    assert rows.min() == centre - reach
    assert rows.max() == centre
    assert columns.min() == centre - reach
    # To the right it sees only on rows above, one layer's reach further for each kernel that reaches up at all.
    assert columns.max() == centre + reach


@pytest.mark.parametrize("kernel_sizes", [k for k in KERNELS if k[0] > 1], ids=str)
def test_condition_is_seen_from_before_and_after(kernel_sizes):
    network, x = shaken(PixelCNN(2, 4, kernel_sizes)), torch.rand(1, 5, 4)
    J = torch.autograd.functional.jacobian(lambda maps: network(x, maps), torch.randn(2, 5, 4)).reshape(20, 2, 20)
    for position in range(20):
        assert (J[position, :, position] != 0).all()
        assert position == 0 or (J[:position, :, position] != 0).any(0).all()
        assert position == 19 or (J[position + 1 :, :, position] != 0).any(0).all()


@pytest.mark.parametrize("kernel_sizes", [*KERNELS, PAPER_SMALL], ids=str)
def test_pixelcnn_wiring(kernel_sizes):
    """Again, as the authors' code is described: o_i from o_(i-1) + D_(i-3)(o_(i-3)), and once more at the end."""
    network, x, maps = shaken(PixelCNN(2, 4, kernel_sizes)), torch.rand(3, 1, 6, 5), torch.randn(3, 2, 6, 5)

    def conv(layer, x):
        return conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def block(layers, x):
        return elu(x + conv(layers.widen, elu(conv(layers.causal, elu(conv(layers.narrow, x))))))

    layers = len(kernel_sizes)
    assert [b.causal.weight.shape[-1] for b in network.blocks] == list(kernel_sizes[1:])
    assert [d.causal.weight.shape[-1] for d in network.skips] == [kernel_sizes[j + 1] for j in range(layers - 2)]
    o = [elu(conv(network.first, torch.cat([x, maps], 1)))]
    for i in range(1, layers):
        o.append(block(network.blocks[i - 1], o[i - 1] + block(network.skips[i - 3], o[i - 3]) if i >= 3 else o[i - 1]))
    last = o[layers - 1] + block(network.skips[layers - 3], o[layers - 3]) if layers >= 3 else o[layers - 1]
    expected = conv(network.logits, elu(conv(network.widen, last)))
    torch.testing.assert_close(network(x, maps), expected)


def test_paper_networks_see_as_far_as_described():
    assert PixelCNN(4, 4, PAPER_SMALL).receptive_field == 15
    assert PixelCNN(4, 4, PAPER_LARGE).receptive_field == 27


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PixelCNN(2, 5, (3,)), "needs an even number >= 2, got 5"),
        (lambda: PixelCNN(2, 0, (3,)), "needs an even number >= 2, got 0"),
        (lambda: PixelCNN(2, 4, ()), "expected at least one odd number"),
        (lambda: PixelCNN(2, 4, (4,)), "needs an odd size, got 4"),
        (lambda: PixelCNN(2, 4, (3, 2)), "needs an odd size, got 2"),
        (lambda: CausalConv2d(1, 1, -1, "A"), "needs an odd size, got -1"),
    ],
)
def test_impossible_pixelcnns_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


# Residual blocks


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [2, 3])
def test_down_block(stride, channels):
    """ELU( conv3x3(ELU(conv3x3_stride(x))) + shortcut(x) )"""
    block, x = shaken(DownBlock(2, channels, stride)), torch.randn(4, 2, 7, 6)
    assert isinstance(block.shortcut, nn.Identity) == (stride == 1 and channels == 2)
    inner = elu(conv2d(x, block.first.weight, block.first.bias, stride, padding=1))
    shortcut = (
        x if isinstance(block.shortcut, nn.Identity) else conv2d(x, block.shortcut.weight, block.shortcut.bias, stride)
    )
    expected = elu(conv2d(inner, block.second.weight, block.second.bias, padding=1) + shortcut)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("target", [(4, 3), (7, 6), (8, 5)])
@pytest.mark.parametrize("channels", [2, 3])
def test_up_block(target, channels):
    """a = ELU(x); deconv3x3(ELU(deconv3x3_stride(a))) + shortcut(a): the shortcut starts from a, nothing after the sum."""
    block, x = shaken(UpBlock(2, channels, (4, 3), target)), torch.randn(5, 2, 4, 3)
    assert isinstance(block.shortcut, nn.Identity) == (target == (4, 3) and channels == 2)
    stride = 1 if target == (4, 3) else 2
    extra = (0, 0) if stride == 1 else (target[0] - 7, target[1] - 5)
    a = elu(x)
    inner = elu(conv_transpose2d(a, block.first.weight, block.first.bias, stride, 1, extra))
    shortcut = a
    if not isinstance(block.shortcut, nn.Identity):
        shortcut = conv_transpose2d(a, block.shortcut.weight, block.shortcut.bias, stride, 0, extra)
    expected = conv_transpose2d(inner, block.second.weight, block.second.bias, padding=1) + shortcut
    torch.testing.assert_close(block(x), expected)
    assert block(x).shape == (5, channels, *target)


# The numbers of parameters of the paper's networks (method.md, section 8.1)

BINARY = (1, 28, 28)
COUNTS = {
    "resnet encoder": (lambda: [resnet_encoder(BINARY, 32)], 703_872),
    "its first block": (lambda: [resnet_encoder(BINARY, 32).body[0]], 9_728),
    "its second block": (lambda: [resnet_encoder(BINARY, 32).body[1]], 57_728),
    "its third block": (lambda: [resnet_encoder(BINARY, 32).body[2]], 78_208),
    "its convolution over all": (lambda: [resnet_encoder(BINARY, 32).body[3]], 525_312),
    "its linear layer": (lambda: [resnet_encoder(BINARY, 32).body[-1]], 32_896),
    "prior": (lambda: [FlowPrior(vector_flow(32, 4, 320), (32,))], 356_352),
    "input layer of a MADE": (lambda: [MADE(32, 320).layers[0]], 10_880),
    "output layer of a MADE": (lambda: [MADE(32, 320).layers[1]], 10_304),
    "direct layer of a MADE": (lambda: [MADE(32, 320).direct], 1_088),
    "small PixelCNN decoder": (lambda: [pixelcnn_decoder(BINARY, 32)], 505_346),
    "its maps": (lambda: [pixelcnn_decoder(BINARY, 32).to_maps], 106_624),
    "its mask-A layer": (lambda: [PixelCNN(4).first], 15_808),
    "its last two layers": (lambda: [PixelCNN(4).widen, PixelCNN(4).logits], 4_224 + 66),
    "block of kernel 7": (lambda: [BottleneckBlock(64, 7)], 54_528),
    "block of kernel 5": (lambda: [BottleneckBlock(64, 5)], 29_952),
    "block of kernel 3": (lambda: [BottleneckBlock(64, 3)], 13_568),
    "large PixelCNN decoder": (lambda: [pixelcnn_decoder(BINARY, 32, kernel_sizes=PAPER_LARGE)], 897_538),
    "blocks of the large PixelCNN": (
        lambda: [PixelCNN(4, 64, PAPER_LARGE).blocks, PixelCNN(4, 64, PAPER_LARGE).skips],
        786_624 - 15_808,
    ),
    "resnet decoder": (lambda: [resnet_decoder(BINARY, 32)], 141_327),
    "its start": (lambda: [resnet_decoder(BINARY, 32).body[1]], 32_896),
    "its first up block": (lambda: [resnet_decoder(BINARY, 32).body[3]], 78_208),
    "its second up block": (lambda: [resnet_decoder(BINARY, 32).body[4]], 29_888),
    "its third up block": (lambda: [resnet_decoder(BINARY, 32).body[5]], 335),
}


@pytest.mark.parametrize(("parts", "count"), COUNTS.values(), ids=COUNTS)
def test_parameter_counts_of_the_paper(parts, count):
    assert parameters_of(parts()) == count
