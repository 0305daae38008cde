"""The released code of MAE, reimplemented from a description as plain functions of a state dict.

It shares only torch's convolutions with the package, so that the two can be compared for any weights. Weights are not
stored but *filled*, by a rule that depends on names and shapes alone (see `filled`).

Notation: `net(name)` is a weight-normalised layer of the state dict, used as `net("encoder.core.linear.linear", x)`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, elu, linear, logsigmoid, pad, softplus

PARITY = Path(__file__).parent / "parity"
MODELS = ("binary_small", "binary_large", "binary_resnet", "colour_resnet", "colour_pixelcnnpp")
KERNELS = {"small": [7, 7, 7, 5, 5, 3, 3], "large": [7] * 5 + [5] * 4 + [3] * 4}

Shapes = Mapping[str, Sequence[int]]
Numbers = dict[str, Tensor]


def description(name: str) -> dict[str, Any]:
    """Returns the configuration, names and shapes, phase and gains of a recorded model."""
    return json.loads((PARITY / f"{name}.json").read_text())


def numbers(name: str) -> Numbers:
    """Returns the values that the released code computed."""
    with np.load(PARITY / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def filled(shapes: Shapes, gains: Mapping[str, float], phase: float) -> Numbers:
    """Returns a value for every parameter in `shapes`; masks (".mask") are named there, but get no value.

    For parameter k in alphabetical order and element i in C order, s = sin(0.37 i + 0.01 (i^2 mod 10007) + phase k + 0.11).
    Directions and biases are 0.05 s. Gains are G (1 + 0.1 s) or, where stored as a logarithm (masked layers), ln G + 0.1 s,
    with G the gain of the part whose name is the prefix.
    """
    names = sorted(name for name in shapes if not name.endswith(".mask"))
    values = {}
    for k, name in enumerate(names):
        i = np.arange(math.prod(shapes[name]), dtype=np.int64)
        s = np.sin(0.37 * i + 0.01 * ((i * i) % 10007) + phase * k + 0.11)
        layer, _, kind = name.rpartition(".")
        (gain,) = [gain for part, gain in gains.items() if name.startswith(part + ".")]
        if kind != "weight_g":
            value = 0.05 * s
        elif f"{layer}.mask" in shapes:
            value = np.log(gain) + 0.1 * s
        else:
            value = gain * (1 + 0.1 * s)
        values[name] = torch.from_numpy(value.astype(np.float32)).reshape(tuple(shapes[name]))
    return values


# Layers


class Net:
    """The layers of a state dict, in float64."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def tensors(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        g, v, b = (self.state[f"{name}.{kind}"] for kind in ("weight_g", "weight_v", "bias"))
        return g, v, b

    def weight(self, name: str, units: int = 0) -> tuple[Tensor, Tensor]:
        g, v, b = self.tensors(name)
        norm = v.square().sum([axis for axis in range(v.ndim) if axis != units], keepdim=True).sqrt()
        return g * v / norm, b

    def masked(self, name: str, mask: Tensor) -> tuple[Tensor, Tensor]:
        g, v, b = self.tensors(name)
        v = v * mask
        return g.exp() * v / (v.square().sum(list(range(1, v.ndim)), keepdim=True).sqrt() + 1e-8), b

    def linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, *self.weight(name))

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        w, b = self.weight(name)
        return conv2d(x, w, b, stride, w.shape[-1] // 2 if padding is None else padding)

    def deconv(self, name: str, x: Tensor, stride: int = 1, extra: int = 0, padding: int | None = None) -> Tensor:
        w, b = self.weight(name, units=1)
        return conv_transpose2d(x, w, b, stride, w.shape[-1] // 2 if padding is None else padding, extra)


def raster_mask(v: Tensor, kind: str, order: str = "A") -> Tensor:
    """Masks the positions before the centre in raster order (mask A), also the centre (mask B); reversed for order B."""
    size = v.shape[-1]
    position = torch.arange(size * size).reshape(size, size)
    mask = (position < size * size // 2 + (kind == "B")).double()
    return (mask if order == "A" else mask.flip(0, 1)).expand_as(v)


# Encoders


def down_block(net: Net, name: str, x: Tensor, stride: int) -> Tensor:
    shortcut = f"{name}.downsample.conv"
    y = net.conv(f"{name}.conv2.conv", elu(net.conv(f"{name}.conv1.conv", x, stride)))
    return elu(y + (net.conv(shortcut, x, stride) if f"{shortcut}.bias" in net.state else x))


def binary_encoder(net: Net, x: Tensor) -> Tensor:
    for i in range(3):
        x = down_block(net, f"encoder.core.main.0.main.{i}", x, 2)
    x = elu(net.conv("encoder.core.main.1.conv", x, padding=0))
    return net.linear("encoder.core.linear.linear", x.flatten(1))


def colour_resnet_encoder(net: Net, x: Tensor) -> Tensor:
    core = "encoder.core.main"
    for first, blocks in ((0, 2), (3, 2), (6, 3)):
        for i in range(blocks):
            x = down_block(net, f"{core}.{first}.main.{i}", x, 1)
        x = elu(net.conv(f"{core}.{first + 1}.conv", x, 1 if first == 6 else 2))
    return net.conv(f"{core}.9.conv", x)


def densenet_encoder(net: Net, x: Tensor, steps: Sequence[int]) -> Tensor:
    core = "encoder.core.main"
    for level, count in enumerate(steps):
        for step in range(count):
            block = f"{core}.{3 * level}.main.block{step}.main"
            x = elu(torch.cat([x, net.conv(f"{block}.2.conv", elu(net.conv(f"{block}.0.conv", x)))], 1))
        x = elu(net.conv(f"{core}.{3 * level + 1}.conv", x, 1 if level == len(steps) - 1 else 2))
    return net.conv(f"{core}.{3 * len(steps)}.conv", x)


# Flows


def made(net: Net, name: str, y: Tensor, order: str) -> Tensor:
    n, hidden = y.shape[-1], net.state[f"{name}.input_layer.bias"].shape[0]
    inputs, outputs = torch.arange(1, n + 1), torch.arange(n)
    units = torch.tensor([math.ceil((i + 1) * (n - 1) / hidden) for i in range(hidden)])

    def layer(part: str, y: Tensor, before: Tensor, after: Tensor) -> Tensor:
        mask = (after[:, None] >= before).double()
        return linear(y, *net.masked(f"{name}.{part}", mask if order == "A" else mask.flip(0, 1)))

    h, i = layer("input_layer", y, inputs, units).relu(), 0
    while f"{name}.hidden_layers.{i}.bias" in net.state:
        h, i = layer(f"hidden_layers.{i}", h, units, units).relu(), i + 1
    return layer("output_layer", h, units, outputs) + layer("direct_connect", y, inputs, outputs)


def made2d(net: Net, name: str, y: Tensor, order: str) -> Tensor:
    def layer(part: str, y: Tensor, kind: str) -> Tensor:
        mask = raster_mask(net.tensors(f"{name}.{part}")[1], kind, order)
        return conv2d(y, *net.masked(f"{name}.{part}", mask), padding=mask.shape[-1] // 2)

    h, i = layer("top_layer", y, "A").relu(), 0
    while f"{name}.hidden_layers.{i}.bias" in net.state:
        h, i = (layer(f"hidden_layers.{i}", h, "B") + h).relu(), i + 1
    return layer("output_layer", h, "B") + layer("direct_connect", y, "A")


def flow_steps(net: Net) -> list[tuple[str, str]]:
    """Returns (name, order) of each step, in the density direction."""
    blocks = {int(name.split(".")[3]) for name in net.state if name.startswith("encoder.prior_flow.blocks.")}
    return [
        (f"encoder.prior_flow.blocks.{block}.{side}", order)
        for block in sorted(blocks)
        for side, order in (("bwd", "B"), ("fwd", "A"))
    ]


def mean_and_half_log_variance(net: Net, name: str, y: Tensor, order: str) -> tuple[Tensor, Tensor]:
    network = made2d if y.ndim == 4 else made
    mean = network(net, f"{name}.mu", y, order)
    if f"{name}.logvar.direct_connect.bias" not in net.state:
        return mean, torch.zeros_like(y)
    return mean, network(net, f"{name}.logvar", y, order) / 2


def flow_to_base(net: Net, z: Tensor) -> tuple[Tensor, Tensor]:
    """Returns u and log |du/dz| for codes [batch, ...]."""
    log_det = z.new_zeros(len(z))
    for name, order in flow_steps(net):
        mean, half = mean_and_half_log_variance(net, name, z, order)
        z, log_det = mean + z * half.exp(), log_det + half.flatten(1).sum(1)
    return z, log_det


def flow_from_base(net: Net, u: Tensor) -> tuple[Tensor, Tensor]:
    """Returns z, computed site by site, and log |du/dz| as in the other direction."""
    log_det = u.new_zeros(len(u))
    for name, order in reversed(flow_steps(net)):
        sites = [(i,) for i in range(u.shape[1])]
        if u.ndim == 4:
            sites = [(slice(None), i, j) for i in range(u.shape[2]) for j in range(u.shape[3])]
        z, half = torch.zeros_like(u), torch.zeros_like(u)
        for site in sites if order == "A" else sites[::-1]:
            at = (slice(None), *site)
            mean, half = mean_and_half_log_variance(net, name, z, order)
            z[at] = (u[at] - mean[at]) / (half[at].exp() + 1e-12)
        u, log_det = z, log_det + half.flatten(1).sum(1)
    return u, log_det


# Decoders: map images and codes with one batch axis to the parameters of the pixels


def binary_resnet_decoder(net: Net, x: Tensor, z: Tensor) -> Tensor:
    y = elu(net.deconv("decoder.core.0.deconv", z[..., None, None], padding=0))
    for i, extra in enumerate((0, 1, 1)):
        y = up_block(net, f"decoder.core.2.main.{i}", y, 2, extra)
    return y


def up_block(net: Net, name: str, x: Tensor, stride: int, extra: int) -> Tensor:
    a, shortcut = elu(x), f"{name}.downsample.deconv"
    y = net.deconv(f"{name}.deconv2.deconv", elu(net.deconv(f"{name}.deconv1.deconv", a, stride, extra)))
    return y + (net.deconv(shortcut, a, stride, extra) if f"{shortcut}.bias" in net.state else a)


def colour_resnet_decoder(net: Net, x: Tensor, z: Tensor) -> Tensor:
    y = z
    for first, blocks in ((0, 3), (3, 2), (6, 2)):
        y = elu(net.deconv(f"decoder.core.{first}.deconv", y, 2 if first else 1, 1 if first else 0))
        for i in range(blocks):
            y = up_block(net, f"decoder.core.{first + 2}.main.{i}", y, 1, 0)
    return net.conv("decoder.core.9.conv", y)


def pixelcnn_decoder(net: Net, x: Tensor, z: Tensor, kernels: Sequence[int]) -> Tensor:
    body = "decoder.core.0"
    maps = elu(net.linear("decoder.z_transform.0.linear", z)).reshape(len(z), -1, *x.shape[-2:])
    seen = torch.cat([x, maps], 1)
    first = f"{body}.main.0.main.0"
    v = net.tensors(first)[1]
    mask = torch.cat([raster_mask(v[:, :1], "A"), torch.ones_like(v[:, 1:])], 1)

    def block(name: str, x: Tensor) -> Tensor:
        causal = net.masked(f"{name}.main.2", raster_mask(net.tensors(f"{name}.main.2")[1], "B"))
        inner = elu(conv2d(elu(net.conv(f"{name}.main.0.conv", x)), *causal, padding=causal[0].shape[-1] // 2))
        return elu(x + net.conv(f"{name}.main.4.conv", inner))

    def skip(o: list[Tensor]) -> Tensor:
        return o[-1] if len(o) < 3 else o[-1] + block(f"{body}.direct_connects.{len(o) - 3}", o[-3])

    o = [elu(conv2d(seen, *net.masked(first, mask), padding=kernels[0] // 2))]
    for i in range(1, len(kernels)):
        o.append(block(f"{body}.main.{i}", skip(o)))
    return net.conv("decoder.core.3.conv", elu(net.conv("decoder.core.1.conv", skip(o))))


def pixelcnnpp_decoder(net: Net, x: Tensor, z: Tensor, levels: int, blocks: int, activation: str) -> Tensor:
    core = "decoder.core.core"

    def act(x: Tensor) -> Tensor:
        return elu(torch.cat([x, -x], 1)) if activation == "concat_elu" else elu(x)

    def shifted(name: str, x: Tensor, right: bool, stride: int = 1) -> Tensor:
        w, b = net.weight(f"{name}.conv")
        rows, columns = w.shape[-2:]
        sides = (columns - 1, 0) if right else ((columns - 1) // 2,) * 2
        return conv2d(pad(x, (*sides, rows - 1, 0)), w, b, stride)

    def unshifted(name: str, x: Tensor, right: bool) -> Tensor:
        w, b = net.weight(f"{name}.deconv", units=1)
        rows, columns = w.shape[-2:]
        y = conv_transpose2d(x, w, b, 2, output_padding=1)
        y = y[:, :, : y.shape[2] - (rows - 1)]
        side = (columns - 1) // 2
        return y[..., : y.shape[3] - (columns - 1)] if right else y[..., side : y.shape[3] - side]

    def shift(x: Tensor, down: int, right: int) -> Tensor:
        moved = torch.zeros_like(x)
        moved[:, :, down:, right:] = x[:, :, : x.shape[2] - down, : x.shape[3] - right]
        return moved

    def gate(x: Tensor) -> Tensor:
        a, b = x.split(x.shape[1] // 2, 1)
        return a * b.sigmoid()

    def gated(name: str, v: Tensor, r: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        hc = net.conv(f"{name}.h_conv2.conv", act(net.conv(f"{name}.h_conv1.conv", act(h))))
        c = shifted(f"{name}.down_conv2", act(shifted(f"{name}.down_conv1", act(v), False)), False)
        v = v + gate(shifted(f"{name}.down_conv3", act(c), False) + hc)
        c = shifted(f"{name}.down_right_conv2", act(shifted(f"{name}.down_right_conv1", act(r), True)), True)
        c = c + net.conv(f"{name}.nin.conv", act(v))
        return v, r + gate(shifted(f"{name}.down_right_conv3", act(c), True) + hc)

    h, i = z, 0
    while f"decoder.core.z_transform.level{i}.deconv.bias" in net.state:
        h, i = elu(net.deconv(f"decoder.core.z_transform.level{i}.deconv", h, 2, 1)), i + 1
    h = net.conv("decoder.core.z_transform.h_level.conv", h)
    start = f"{core}.up_layers.0"
    v = shift(shifted(f"{start}.down_conv1", x, False), 1, 0)
    r = shift(shifted(f"{start}.down_conv2", x, False), 1, 0) + shift(
        shifted(f"{start}.down_right_conv", x, True), 0, 1
    )
    stack, layers = [], levels * (blocks + 1) - 1
    for i in range(1, layers + 1):
        name = f"{core}.up_layers.{i}"
        if i % (blocks + 1):
            v, r = gated(name, v, r, h)
        else:
            v, r = shifted(f"{name}.down_conv", v, False, 2), shifted(f"{name}.down_right_conv", r, True, 2)
            h = net.conv(f"{core}.up_hs.{i}.conv.conv", h, 2)
        stack.append((v, r))
    for i in range(layers):
        name, (u_v, u_r) = f"{core}.down_layers.{i}", stack.pop()
        if i == 0:
            v, r = u_v, u_r
        else:
            v = v + net.conv(f"{core}.nins1.{i}.nin.conv", act(u_v))
            r = r + net.conv(f"{core}.nins2.{i}.nin.conv", act(u_r))
        if (i + 1) % (blocks + 1):
            v, r = gated(name, v, r, h)
        else:
            v, r = unshifted(f"{name}.down_deconv", v, False), unshifted(f"{name}.down_right_deconv", r, True)
            h = net.deconv(f"{core}.down_hs.{i}.deconv.deconv", h, 2, 1)
    return net.conv("decoder.core.output.3.conv", elu(net.conv("decoder.core.output.1.conv", elu(r))))


# Log-densities


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    p = logits.sigmoid()
    return (x * (p + 1e-12).log() + (1 - x) * (1 - p + 1e-12).log()).flatten(1).sum(1)


def log_mixture(parameters: Tensor, x: Tensor) -> Tensor:
    """Returns log p(x) for parameters [batch 10n H W] and images [batch 3 H W], one mixture component after the other."""
    n = parameters.shape[1] // 10
    log_weight = parameters[:, :n].log_softmax(1)
    groups = [parameters[:, n * (1 + 3 * k) : n * (4 + 3 * k)] for k in range(3)]
    total = []
    for mixture in range(n):
        m, log_s, c = (group[:, 3 * mixture : 3 * mixture + 3].unbind(1) for group in groups)
        c = [value.tanh() for value in c]
        red, green, blue = x.unbind(1)
        means = [m[0], m[1] + c[0] * red, m[2] + c[1] * red + c[2] * green]
        of_colours = map(_log_bin, (red, green, blue), means, [value.clamp(min=-7) for value in log_s])
        total.append(log_weight[:, mixture] + sum(of_colours))
    return torch.stack(total).logsumexp(0).flatten(1).sum(1)


def _log_bin(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    d, s = 1 / 255, (-log_scale).exp()
    plus, minus, t = s * (x - mean + d), s * (x - mean - d), s * (x - mean)
    delta = plus.sigmoid() - minus.sigmoid()
    density = t - log_scale - 2 * softplus(t) + math.log(2 * d)
    inside = torch.where(delta > 1e-5, delta.clamp(min=1e-12).log(), density)
    return torch.where(x < -1 + d, logsigmoid(plus), torch.where(x > 1 - d, logsigmoid(-minus), inside))


def log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


# The whole model


def forward(config: Mapping[str, Any], state: Mapping[str, Tensor], x: Tensor, eps: Tensor) -> Numbers:
    """Returns what a released model computes from images [batch ...] and noise [batch *latent], in float64."""
    net, decoder = Net(state), config["decoder"]
    encoders = {
        "resnet_binary_28x28": binary_encoder,
        "resnet_color_32x32": colour_resnet_encoder,
        "densenet_color_32x32": partial(densenet_encoder, steps=(3, 3, 6)),
        "densenet_color_64x64": partial(densenet_encoder, steps=(3, 3, 3, 3)),
    }
    mean, log_variance = encoders[config["encoder"]["core"]["type"]](net, x).chunk(2, 1)
    if x.shape[1] == 3:
        log_variance = log_variance.clamp(-7, 7)
    z = mean + eps * (log_variance / 2).exp()
    u, log_det = flow_to_base(net, z) if config["encoder"].get("prior_flow") else (z, 0.0)
    decoders = {
        "pixelcnn_binary_28x28": lambda: pixelcnn_decoder(net, x, z, KERNELS[decoder["mode"]]),
        "resnet_binary_28x28": lambda: binary_resnet_decoder(net, x, z),
        "resnet_color_32x32": lambda: colour_resnet_decoder(net, x, z),
        "pixelcnn++_color_32x32": lambda: pixelcnnpp_decoder(net, x, z, 3, 6, decoder["activation"]),
        "pixelcnn++_color_64x64": lambda: pixelcnnpp_decoder(net, x, z, 4, 4, decoder["activation"]),
    }
    parameters = decoders[decoder["type"]]()
    spread = (z - mean).square() / (log_variance.exp() + 1e-12)
    return {
        "mean": mean,
        "log_variance": log_variance,
        "z": z,
        "base": u,
        "log_prior": log_normal(u) + log_det,
        "log_posterior": -0.5 * (log_variance + spread + math.log(2 * math.pi)).flatten(1).sum(1),
        "parameters": parameters,
        "log_likelihood": (log_bernoulli if x.shape[1] == 1 else log_mixture)(parameters, x),
    }
