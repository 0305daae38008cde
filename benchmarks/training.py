"""A training step and an evaluation point of the paper's 28x28 MAE, and how long the command line takes to start.

The step is what the loop does: forward pass, all terms of the loss, backward pass, clipping, Adam. *Required operations* are
two for each weight that is not masked, at each position, once forward and twice backward; their rate is set beside that of
a product of two large matrices on the same machine.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.plain import square_kernels
from benchmarks.sampling import initialised
from benchmarks.timing import Curve, Row, apart, pair_apart, seconds_of, shown, shown_bytes
from mpdvae import VAE
from mpdvae.experiments.recipes import recipe
from mpdvae.measures.memory_use import LiveBytes
from mpdvae.models.acceleration import compile_networks
from mpdvae.seeding import seeded
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.training.learner_state import optimizer_of
from mpdvae.training.validation import probe, validate

MODEL, BATCH = "mae-mnist-paper", 100
TO_REACH = {"uncompiled": "1.8x", "compiled": "2.1x"}
EVALUATION, EVALUATED = "mae-mnist-days", 200
"""Recipe whose evaluation points are timed, and number of validation images in the measurement."""
VALIDATED = 10_000
"""Validation images of the recipe: all 2,000, with five draws each."""
CONVOLUTIONS = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def training() -> tuple[list[Row], list[Curve]]:
    needed, peak = needed_operations(_model(), _images(BATCH)), matrix_rate()
    rows, curves = [], []
    for what, to_reach in TO_REACH.items():
        if what == "compiled" and not compile_networks(_model()):
            continue
        both = pair_apart(_plain_step, partial(_own_step, what == "compiled"), rounds=9)
        plain_rate, rate = (f"{BATCH / seconds:.0f} images/s" for seconds in (both.plain_seconds, both.seconds))
        share = (
            f"required operations at {needed / both.seconds / 1e9:.0f} GFLOP/s, {needed / both.seconds / peak:.0%} of "
            f"the {peak / 1e9:.0f} GFLOP/s of large matrix products; "
            f"page faults: {both.faults:,} (plain: {both.plain_faults:,})"
        )
        rows.append(
            Row(f"training step, batch {BATCH}, {what}", plain_rate, rate, round(both.ratio, 2), to_reach, "", share)
        )
    rows.append(_evaluation_row())
    curves.append(Curve("training step", "images", "s", apart(_growth)))
    return rows, curves


def _evaluation_row() -> Row:
    """The share of an evaluation point in training, for the recipe's numbers of steps, images and draws: scaled up from
    `EVALUATED` images, since the time is proportional to them, and from one training step."""
    t = recipe(EVALUATION).training
    images = t.validation_images or VALIDATED
    step, fixed, each, memory = apart(_evaluation_point)
    training, point = t.evaluate_every * step, fixed + images * each
    what = (
        f"evaluation point, share of the training between two points: {images:,} images, {t.validation_samples} draws, "
        f"{t.evaluate_every} steps"
    )
    ours = f"{point / training:.0%} ({shown(point)} of {shown(training)})"
    return Row(what, "", ours, None, "10%", shown_bytes(memory), "")


def start_up() -> tuple[list[Row], list[Curve]]:
    commands = {
        "`mpdvae --help`": ([sys.executable, "-m", "mpdvae.commands.cli", "--help"], "0.7 s"),
        "`import mpdvae`": ([sys.executable, "-c", "import mpdvae"], "2 s"),
    }
    rows = []
    for what, (command, to_reach) in commands.items():
        run = partial(subprocess.run, command, check=True, capture_output=True)
        rows.append(Row(what, "", shown(_median(run, rounds=7)), None, to_reach))
    return rows, []


def needed_operations(vae: VAE, x: Tensor) -> float:
    """Floating-point operations that a training step cannot do without in linear layers and convolutions."""
    found: list[float] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight") if "weight" in dict(layer.named_parameters()) else layer.weight
        assert isinstance(weight, Tensor)
        axis = 1 if not isinstance(layer, nn.Linear) else -1
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        found.append(2 * int((weight != 0).sum()) * places.numel() / places.shape[axis])

    hooks = [layer.register_forward_hook(count) for layer in vae.modules() if isinstance(layer, CONVOLUTIONS)]
    with torch.no_grad():
        z = vae.encoder(x).rsample()
        vae.prior().log_prob(z), vae.decoder(z).log_prob(x)
    for hook in hooks:
        hook.remove()
    return 3 * sum(found)


def matrix_rate(size: int = 2048) -> float:
    """Operations per second of a product of two square matrices in float32: the best of twenty."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds_of(lambda: torch.mm(a, b)) for _ in range(20))


def _model() -> VAE:
    return initialised(MODEL, (1, 28, 28)).train()


def _parts() -> tuple[VAE, torch.optim.Optimizer]:
    """Steps of length 0 cost what others do; longer ones, on noise, may lead where a number is none."""
    vae = _model()
    return vae, optimizer_of(recipe(MODEL).training, vae, learning_rate=0.0)


def _images(count: int) -> Tensor:
    with seeded("binary images"):
        return (torch.rand(count, 1, 28, 28) < 0.2).float()


def _step(vae: VAE, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    loss = OBJECTIVE(vae, x, 0)
    optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
    optimizer.step()


def _plain_step() -> Callable[[], None]:
    """With full square kernels, in the layout and with the activations that torch has by default."""
    vae, optimizer = _parts()

    def step() -> None:
        with square_kernels(vae):
            _step(vae, optimizer, _images(BATCH))

    return step


def _own_step(compiled: bool) -> Callable[[], None]:
    """As the loop takes it."""
    keep_freed_memory()
    vae, optimizer = _parts()
    if compiled:
        compile_networks(vae)
    return partial(_step, vae, optimizer, _images(BATCH))


def _growth() -> dict[str, float]:
    """Seconds by size of the batch."""
    keep_freed_memory()
    vae, optimizer = _parts()
    return {str(n): _median(partial(_step, vae, optimizer, _images(n))) for n in (25, 50, 100, 200)}


def _evaluation_point() -> tuple[float, float, float, int]:
    """Seconds of a training step, of the probe, and of validation per image; peak bytes of tensors of both."""
    keep_freed_memory()
    vae, optimizer = _parts()
    x, samples = _images(EVALUATED), recipe(EVALUATION).training.validation_samples
    step = _median(partial(_step, vae, optimizer, _images(BATCH)))
    fixed = _median(partial(probe, vae, OBJECTIVE, x, 0), rounds=3)
    each = _median(partial(validate, vae, x, samples, 0), rounds=3) / len(x)
    with LiveBytes() as live:
        validate(vae, x, samples, 0), probe(vae, OBJECTIVE, x, 0)
    return step, fixed, each, live.peak


def _median(function: Callable[[], object], rounds: int = 5) -> float:
    function()
    return statistics.median(seconds_of(function) for _ in range(rounds))


OBJECTIVE = recipe(MODEL).objective.build()
