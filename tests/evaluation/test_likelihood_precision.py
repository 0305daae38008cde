"""The precision of likelihoods: when bfloat16 is taken, that a choice is kept and repeated, and what is recorded."""

import math
from dataclasses import replace

import pytest
import torch
from command_line import call
from known_models import images, linear_gaussian
from small_runs import digits
from torch import Tensor, nn
from torch.distributions import Distribution

import mpdvae
from mpdvae.errors import InputError
from mpdvae.evaluation import likelihood_precision
from mpdvae.evaluation.likelihood_precision import Choice, Errors, bfloat16_decoder, choose, compared, decided
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.evaluation.run_likelihood import (
    Measurement,
    Request,
    measure,
    partial_results,
    precision_in_words,
    prepare,
    summary,
)
from mpdvae.measures.density import estimate
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json
from mpdvae.vae import VAE
from mpdvae.workflows.verification import measurements

TRIALS = likelihood_precision._Trials
timed = TRIALS._timed


class Tilted(nn.Module):
    """A decoder whose log-likelihoods are wrong by a multiple of themselves, and by noise that is a function of z."""

    def __init__(self, decoder: nn.Module, tilt: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        self.decoder, self.tilt, self.noise = decoder, tilt, noise

    def forward(self, z: Tensor) -> Distribution:
        p = self.decoder(z)
        right = p.log_prob
        p.log_prob = lambda x: right(x) * (1 + self.tilt) + self.noise * (1e4 * z.sum(-1)).sin()
        return p


def measurement(count: int = 2_000, samples: int = 256) -> tuple[VAE, Measurement]:
    vae, law = linear_gaussian(widened=1.6, shifted=0.3)
    x = images(law, count)
    return vae, Measurement(x, torch.arange(count), count, 1, samples, None, "linear-Gaussian", "test", "encoder")


def speed_up(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Makes the other decoder appear this many times as fast."""

    def fake(self, start, approximate=None):
        return (1.0 if approximate is None else 1 / factor), timed(self, start, approximate)[1]

    monkeypatch.setattr(TRIALS, "_timed", fake)
    monkeypatch.setattr(likelihood_precision, "COMPILE_SECONDS", math.inf)  # pays back never


# -- what is chosen ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "factor", "chosen", "reason"),
    [
        ({}, 2.0, "bfloat16", "below a tenth"),
        ({"noise": 0.001}, 2.0, "bfloat16", "below a tenth"),
        ({}, 1.05, "float32", "not faster"),
        ({"noise": 3.0}, 2.0, "float32", "not shown"),
        ({"tilt": 0.1}, 100.0, "float32", "not shown"),
        ({"noise": math.nan}, 100.0, "float32", "non-finite"),
    ],
)
def test_a_decoder_with_a_large_error_is_never_taken(monkeypatch, error, factor, chosen, reason):
    vae, m = measurement()
    speed_up(monkeypatch, factor)
    choice = choose(vae, m, quicker=lambda vae: Tilted(vae.decoder, **error))
    assert choice.precision == chosen
    assert reason in choice.reason
    assert choice.in_words().startswith(f"likelihoods in {chosen} (")
    assert not choice.compile
    assert Choice.from_dict(choice.to_dict()) == choice


def test_a_systematic_error_that_is_small_for_each_image_is_refused():
    """Over many images random errors average out, and it does not."""
    small = Errors(64, 0.01, 0.2, 0.0001, 0.0001, 0.02)
    assert small.small
    for errors in (replace(small, mean=0.01), replace(small, mean=-0.01), replace(small, per_image=0.05)):
        assert not errors.small
        assert errors.large
    uncertain = replace(small, mean_standard_error=0.002)
    assert not uncertain.small
    assert not uncertain.large
    broken = replace(small, mean=math.nan)
    assert broken.large
    assert not broken.small


def test_a_short_run_is_not_measured(monkeypatch):
    monkeypatch.setattr(TRIALS, "_timed", None)
    vae, m = measurement(count=100)
    assert choose(vae, m).precision == "float32"
    assert choose(vae, m, compiled=True).compile


def test_errors_of_a_pilot_are_those_of_both_estimates():
    vae, m = measurement(count=50)
    decoder = Tilted(vae.decoder, noise=0.2)
    exact, rough = estimate(vae, m.x, 64), estimate(vae, m.x, 64, approximate=decoder)
    errors = compared(exact, rough, images=200, samples=256)
    difference = rough.log_prob - exact.log_prob
    assert errors.per_image == pytest.approx(difference.square().mean().sqrt().item())
    assert errors.mean == pytest.approx(difference.mean().item())
    assert errors.mean_standard_error == pytest.approx(difference.std().item() / 50**0.5)
    variance = exact.standard_error.square().mean().item() / 4
    assert errors.mean_monte_carlo == pytest.approx(((variance / 200) + (variance / 2) ** 2) ** 0.5)


# -- that it is kept and repeated --------------------------------------------------------------------------------------


def test_a_choice_is_made_once(own_copy, monkeypatch):
    run, vae, asked = Run(own_copy), mpdvae.load(own_copy), []
    m = prepare(run, digits(), "test", Request())
    kept = partial_results(run, m, precision="auto")

    def made(*_: object) -> Choice:
        asked.append(1)
        return Choice("bfloat16", False, "stand-in", {"float32": 1.0}, Errors(1, 0.1, 0.2, 0.3, 0.4, 0.5))

    monkeypatch.setattr(likelihood_precision, "choose", made)
    first = decided(vae, m, kept, "auto", False)
    assert decided(vae, m, partial_results(run, m, precision="auto"), "auto", False) == first
    assert (first.precision, len(asked)) == ("bfloat16", 1)
    assert decided(vae, m, kept, "float32", True) == Choice("float32", True, "as requested")
    assert len({partial_results(run, m, precision=p).folder for p in ("float32", "bfloat16", "auto")}) == 3


def test_what_auto_chose_is_recorded_and_measured_again(own_copy, monkeypatch):
    monkeypatch.setattr(likelihood_precision, "choose", lambda *_: Choice("bfloat16", False, "stand-in"))
    said: list[str] = []
    evaluate(Run(own_copy), digits(), precision="auto", say=said.append)
    assert "likelihoods in bfloat16 (stand-in)" in said
    found = read_json(own_copy / "density.json")
    assert found["command"].endswith("--samples 4 --split test --proposal fitted --precision bfloat16")
    assert Run(own_copy).manifest["likelihood_precision"]["precision"] == "bfloat16"
    assert not (own_copy / "partial").exists()
    (options,) = measurements(own_copy)
    assert options == {"samples": 4, "split": "test", "proposal": "fitted", "precision": "bfloat16"}
    monkeypatch.setattr(likelihood_precision, "choose", None)
    evaluate(Run(own_copy), digits(), **options)
    assert read_json(own_copy / "density.json") == found


def test_the_error_of_bfloat16_is_recorded_and_printed(own_copy, capsys):
    run = Run(own_copy)
    code, out, _ = call(capsys, "evaluate", own_copy, "--precision", "bfloat16", "--samples", "100")
    assert code == 0
    found = read_json(own_copy / "density.json")
    assert precision_in_words(found) in " ".join(out.split())
    m, vae = prepare(run, digits(), "test", Request(samples=100)), mpdvae.load(own_copy)
    kept = partial_results(run, m)
    rough = measure(vae, m, kept, lambda *_: None, bfloat16_decoder(vae))
    assert summary(m, rough)["approximation"] == found["approximation"]
    exact = estimate(vae, m.x, 100, indices=m.indices.tolist())
    difference = (rough.log_prob - exact.log_prob).square().mean().sqrt().item()
    assert 0 < difference < 0.1 * exact.standard_error.square().mean().sqrt().item()
    assert precision_in_words(read_json(own_copy / "density.json") | {"approximation": None}) == ""


def test_float32_is_what_it_was(own_copy):
    before = (own_copy / "density.json").read_bytes(), (own_copy / "density.csv").read_bytes()
    evaluate(Run(own_copy), digits(), precision="float32")
    assert (own_copy / "density.csv").read_bytes() == before[1]
    found = read_json(own_copy / "density.json")
    assert "precision" not in found["command"]
    assert "approximation" not in found


def test_an_unknown_precision_is_refused(own_copy, capsys):
    with pytest.raises(InputError, match=r"--precision: expected float32, bfloat16, auto, got 'half'"):
        evaluate(Run(own_copy), digits(), precision="half")
    code, _, err = call(capsys, "evaluate", own_copy, "--precision", "half")
    assert code == 2
    assert "Traceback" not in err
    assert "half" in err
