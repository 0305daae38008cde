"""Drawing images from autoregressive decoders, and codes from flow priors.

Plain and ours draw each pixel by the same function of its parameters and of noise that depends on its position. Whether both
would draw the same image is checked for every pixel at once: the parameters that the whole network gives for the image that
ours drew must give this image again (each pixel then follows from those before it, by induction).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from benchmarks.plain import plain_inverse, plain_pixel, square_kernels
from benchmarks.timing import Curve, Pair, Row, pair, seconds_of, shown
from mpdvae import VAE
from mpdvae.distributions.logistic_mixture import DiscretisedLogisticMixture
from mpdvae.distributions.pixels import AutoregressivePixels
from mpdvae.experiments.recipes import recipe
from mpdvae.models.decoders import AutoregressiveDecoder, pixelcnn_decoder
from mpdvae.models.flows import map_flow, vector_flow
from mpdvae.networks.pixelcnn import PixelCNN
from mpdvae.networks.weight_norm import initialising_by_data
from mpdvae.seeding import seeded

Draw = Callable[[Tensor, int, int], Tensor]
"""From parameters [*batch parameter] of a pixel, its row and its column to its values [*batch channel]."""


@dataclass
class _Law:
    """The law of one pixel, or of all in turn, drawn by `draw`; keeps the parameters that it is given."""

    draw: Draw
    width: int
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, parameters: Tensor) -> "_Law":
        self.seen.append(parameters[..., 0, 0])
        return self

    def sample(self) -> Tensor:
        return self.draw(self.seen[-1], *divmod(len(self.seen) - 1, self.width))[..., None, None]


def bernoulli(uniforms: Tensor) -> Draw:
    """Binary pixels from their logits by `uniforms` [batch height width]."""
    return lambda logits, row, column: (uniforms[:, row, column, None] < logits.sigmoid()).float()


def logistic(parameters: Tensor, row: int, column: int) -> Tensor:
    """Colour pixels from their parameters, by noise that is a function of the position."""
    with seeded(row, column):
        return DiscretisedLogisticMixture(parameters[..., None, None]).sample()[..., 0, 0]


def sampling() -> tuple[list[Row], list[Curve]]:
    rows, curves = [], []
    for size, name in (("small", "vlae-mnist-paper"), ("large", "vlae-large-mnist-paper")):
        vae, to_reach, seconds = initialised(name, (1, 28, 28)), {1: 15, 16: 60, 100: 100}, {}
        for batch, least in to_reach.items():
            draw = bernoulli(torch.rand(batch, 28, 28))
            both, check = _pixels(vae, torch.randn(batch, 32), draw)
            rows.append(_row(f"PixelCNN `{size}`, 28x28, batch {batch}", both, f"{least}x", check))
            seconds[str(batch)] = both.seconds
        curves.append(Curve(f"PixelCNN `{size}`, 28x28", "images", "s", seconds))
    curves.append(Curve("PixelCNN `small`, batch 16", "height = width", "s", _by_size((14, 28, 56))))
    vae = initialised("vlae-cifar10-paper", (3, 32, 32))
    both, check = _pixels(vae, torch.randn(16, 16, 8, 8), logistic)
    rows.append(_row("PixelCNN++ given z, 32x32, batch 16", both, "30x", check))
    return rows, curves


def flows() -> tuple[list[Row], list[Curve]]:
    rows, curves = [], []
    cases = (
        ("vector of 32", partial(vector_flow, 32), (32,), (1, 16, 100), {16: "5x"}),
        ("map of 16x8x8", partial(map_flow, 16), (16, 8, 8), (1, 16), {16: "20x"}),
    )
    for what, build, event, batches, to_reach in cases:
        with seeded("flow"):
            flow = build()
            with initialising_by_data(flow):
                flow.to_base(torch.randn(100, *event))
        seconds = {}
        for batch in batches:
            u = torch.randn(batch, *event)
            plain, ours = plain_inverse(flow, u), flow.from_base(u)
            both = pair(partial(plain_inverse, flow, u), partial(flow.from_base, u), rounds=5)
            check = f"largest difference {(plain - ours).abs().max().item():.0e}"
            rows.append(_row(f"flow prior, {what}, batch {batch}", both, to_reach.get(batch, ""), check))
            seconds[str(batch)] = both.seconds
        curves.append(Curve(f"flow prior, {what}", "codes", "s", seconds))
    return rows, curves


def initialised(name: str, image_shape: tuple[int, int, int]) -> VAE:
    """The model of a recipe with its data-dependent initialisation, on random images."""
    vae = recipe(name).build(image_shape)
    with seeded("images"):
        x = torch.rand(500 if image_shape[0] == 1 else 16, *image_shape)
    vae.initialise((x > 0.8).float() if image_shape[0] == 1 else 2 * x - 1)
    return vae.eval()


def _pixels(vae: VAE, z: Tensor, draw: Draw) -> tuple[Pair, str]:
    """Times of both methods for images given codes `z`, and whether they draw the same."""
    with torch.no_grad():
        p = vae.decoder(z)
    _, height, width = p.event_shape

    def ours() -> tuple[Tensor, _Law]:
        law = _Law(draw, width)
        same = AutoregressivePixels(p.parameters, law, p.batch_shape, p.event_shape, like=z)  # pyright: ignore[reportArgumentType]
        return same.sample(), law

    x, law = ours()
    with square_kernels(vae), torch.no_grad():
        parameters = p.parameters(x)
    error = max((parameters[..., i // width, i % width] - seen).abs().max().item() for i, seen in enumerate(law.seen))
    drawn = [draw(parameters[..., i // width, i % width], i // width, i % width) for i in range(height * width)]
    different = int((torch.stack(drawn, -1).unflatten(-1, (height, width)) != x).sum())

    def plain() -> None:
        with square_kernels(vae):
            plain_pixel(p.parameters, draw, torch.zeros_like(x), height // 2, width // 2)

    def ours_in_its_layout() -> None:
        if isinstance(vae.decoder.network, PixelCNN):  # which the plain method put into torch's default layout
            vae.decoder.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        ours()

    both = pair(plain, ours_in_its_layout, rounds=3, times=height * width)
    return both, f"{different} of {x.numel():,} values differ; parameters differ by at most {error:.0e}"


def _by_size(sizes: tuple[int, ...]) -> dict[str, float]:
    seconds = {}
    for size in sizes:
        decoder: AutoregressiveDecoder = pixelcnn_decoder((1, size, size), 32)
        z = torch.randn(16, 32)
        with torch.no_grad():
            seconds[str(size)] = seconds_of(lambda decoder=decoder, z=z: decoder(z).sample())
    return seconds


def _row(what: str, both: Pair, to_reach: str, check: str) -> Row:
    return Row(what, shown(both.plain_seconds), shown(both.seconds), round(both.ratio, 1), to_reach, check=check)
