"""Error of log-likelihoods against decoder evaluations: q(z|x), a widened q, the proposal fitted to each image, and annealed
importance sampling."""

from torch import Tensor, nn
from torch.distributions import Distribution

from benchmarks.likelihood import test_digits
from benchmarks.timing import Curve, Row
from mpdvae import VAE, load
from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.measures import annealed_importance, density
from mpdvae.measures.annealing_chains import PILOT_CHAINS
from mpdvae.measures.density import DensityEstimate
from mpdvae.measures.fitted_proposal import FIT_COST, GRADIENT_COST

MODEL = "mae-mnist"
IMAGES, REFERENCE_SAMPLES = 16, 4096
EVALUATIONS = (192, 256, 512)
"""Decoder evaluations per image; the smallest leaves 64 samples after a fit."""
WIDTH = 1.15
CHAINS, LEAPFROG_STEPS = 2, 2


class Widened(nn.Module):
    """An encoder whose standard deviations are multiplied by `WIDTH`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Distribution:
        q = self.encoder(x)
        return diagonal_gaussian(q.mean, WIDTH * q.stddev)


def error() -> tuple[list[Row], list[Curve]]:
    """The reference is the fitted proposal with many samples and noise of its own; errors are root mean squares over
    images."""
    vae, x = load(MODEL), test_digits(IMAGES)
    reference = density.estimate(vae, x, REFERENCE_SAMPLES, seed=1).log_prob
    widened = VAE(Widened(vae.encoder), vae.decoder, vae.prior)

    def rms(found: Tensor) -> float:
        return (found - reference).square().mean().sqrt().item()

    encoder = {n: density.estimate(vae, x, n, proposal="encoder") for n in EVALUATIONS}
    wide = {n: density.estimate(widened, x, n, proposal="encoder") for n in EVALUATIONS}
    fitted = {n: density.estimate(vae, x, n - FIT_COST) for n in EVALUATIONS}
    annealed = {
        n: annealed_importance.estimate(vae, x, CHAINS, _steps(n), LEAPFROG_STEPS).log_prob for n in EVALUATIONS
    }
    errors = {
        "proposal q(z|x)": {n: rms(e.log_prob) for n, e in encoder.items()},
        f"q widened {WIDTH:g} times": {n: rms(e.log_prob) for n, e in wide.items()},
        "fitted proposal": {n: rms(e.log_prob) for n, e in fitted.items()},
        "annealed importance sampling": {n: rms(found) for n, found in annealed.items()},
    }
    curves = [
        Curve(f"error of log p(x), {name}", "decoder evaluations", "nats", {str(n): e for n, e in by.items()})
        for name, by in errors.items()
    ]
    return [_row(encoder[256], fitted[256])], curves


def _steps(evaluations: int) -> int:
    """Returns the annealing steps that so many decoder evaluations pay for: of chains and pilot, with gradients."""
    each = (CHAINS + PILOT_CHAINS) * (LEAPFROG_STEPS + 1) * GRADIENT_COST
    return max(1, evaluations // each)


def _row(encoder: DensityEstimate, fitted: DensityEstimate) -> Row:
    sizes = [e.effective_sample_size.median().item() for e in (encoder, fitted)]
    open_intervals = [e.interval_upper.isinf().sum().item() for e in (encoder, fitted)]
    return Row(
        "likelihoods, 256 decoder evaluations: median effective samples",
        f"{sizes[0]:.1f} (q)",
        f"{sizes[1]:.1f} (fitted)",
        round(sizes[1] / sizes[0], 1),
        "5x",
        check=f"open intervals: {open_intervals[1]} of {IMAGES} images (q: {open_intervals[0]})",
    )
