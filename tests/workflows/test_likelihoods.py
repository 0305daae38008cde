"""Every distribution of pixels from the command line: made-up pictures are trained on, measured and drawn, and a density is
called one wherever its number stands."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from small_runs import TINY_OPTIONS

import mpdvae
from mpdvae.distributions.pixel_values import AS_DENSITY, MODELLED
from mpdvae.report.collect import collect
from mpdvae.report.tables import table

MAPS = {
    "pixelcnn++": "--encoder.kind colour-resnet --encoder.channels 4 --encoder.blocks 1 1 --decoder.kind pixelcnn++ "
    "--decoder.channels 4 --decoder.levels 2 --decoder.blocks 1 --decoder.doublings 1 --decoder.condition-channels 2",
    "colour-resnet": "--encoder.kind colour-resnet --encoder.channels 4 --encoder.blocks 1 1 --decoder.kind colour-resnet "
    "--decoder.channels 4 --decoder.blocks 1 1",
}
DECODERS = MAPS | {
    "mlp": "--decoder.kind mlp --decoder.hidden-features 8",
    "convnet": "--decoder.kind convnet --decoder.channels 8 4",
    "pixelcnn": "--decoder.kind pixelcnn --decoder.channels 4 --decoder.kernel-sizes 3 3",
}


@dataclass(frozen=True)
class Case:
    pixels: str
    binarisation: str
    decoder: str
    channels: int
    levels: int = 256
    slow: bool = False

    @property
    def name(self) -> str:
        return f"{self.pixels}-{self.decoder}-{self.channels}"


CASES = [
    Case("bernoulli", "dynamic", "pixelcnn++", 1, slow=True),
    Case("discretised-logistic", "levels", "pixelcnn", 1, slow=True),
    Case("discretised-logistic-mixture", "levels", "pixelcnn", 1),
    Case("discretised-logistic-mixture", "levels", "pixelcnn++", 1, slow=True),
    Case("discretised-logistic-mixture", "levels", "pixelcnn++", 3, levels=32, slow=True),
    Case("discretised-logistic-mixture", "levels", "colour-resnet", 1, slow=True),
    Case("categorical", "levels", "convnet", 3, levels=16),
    Case("categorical", "levels", "pixelcnn", 1, levels=8, slow=True),
    Case("gaussian", "levels", "convnet", 3),
    Case("gaussian", "intensities", "pixelcnn", 1, slow=True),
    Case("continuous-bernoulli", "intensities", "mlp", 1),
    Case("continuous-bernoulli", "intensities", "colour-resnet", 3, slow=True),
]


def pictures(path: Path, channels: int) -> Path:
    """Writes discs of random places and shades, with some noise."""
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[:8, :8]
    centre, shade = draws.uniform(2, 6, (2, 120, 1, 1, 1)), draws.uniform(80, 250, (120, channels, 1, 1))
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 5
    x = inside * shade + draws.uniform(0, 5, (120, channels, 8, 8))
    np.savez(path, x_train=x[:100].astype(np.uint8).squeeze(), x_test=x[100:].astype(np.uint8).squeeze())
    return path


def on_all(cases: list[Case]) -> list:
    return [pytest.param(case, id=case.name, marks=pytest.mark.slow if case.slow else ()) for case in cases]


@pytest.mark.parametrize("case", on_all(CASES))
def test_a_law_is_trained_measured_and_drawn(case, tmp_path, capsys):
    data = pictures(tmp_path / "pictures.npz", case.channels)
    out, levels = tmp_path / "run", ["--data.levels", case.levels] if case.levels != 256 else []
    options = f"--data.dataset own --data.path {data} --data.binarisation {case.binarisation} --data.evaluation-draws 1"
    law = ["--decoder.pixels", case.pixels, "--decoder.components", 2]
    arguments = [
        *options.split(),
        *levels,
        *DECODERS[case.decoder].split(),
        *law,
        *TINY_OPTIONS,
        "--evaluation.no-pictures",
    ]
    code, shown, error = call(capsys, "train", "vae-digits-smoke", *arguments, "--out", out)
    assert code == 0, error
    vae, density = mpdvae.load(out), AS_DENSITY in " ".join(shown.split())
    vae.save_pretrained(tmp_path / "shared")
    _is_measured(case, out, (tmp_path / "shared" / "README.md").read_text())
    lowest, highest = (-1, 1) if case.binarisation == "levels" else (0, 1)
    for x in (vae.sample(4), vae.decode(torch.randn(3, *vae.latent_shape))):
        assert x.shape[1:] == (case.channels, 8, 8)
        assert x.isfinite().all()
        assert case.pixels == "gaussian" or lowest <= x.min() <= x.max() <= highest
    assert density == (case.pixels in ("gaussian", "continuous-bernoulli"))
    assert call(capsys, "sample", out, "--count", 4, "--out", tmp_path / "x.png")[0] == 0


def _is_measured(case: Case, out: Path, card: str) -> None:
    """Finite likelihoods; those of a density have its name in the protocol, and no bits per dimension anywhere."""
    density = json.loads((out / "density.json").read_text())
    rows = list(csv.DictReader((out / "density.csv").read_text().splitlines()))
    (study,) = collect([out]).studies
    units = {row.unit for section in table(study).sections for row in section.rows}
    assert all(math.isfinite(density[name]["mean"]) for name in ("nll_nats", "negative_elbo_nats", "kl_nats"))
    if case.pixels in ("gaussian", "continuous-bernoulli"):
        assert density["likelihood"] == "density"
        assert density["protocol"].endswith(f"; {AS_DENSITY}")
        assert density["bits_per_dim"] is None
        assert {row["bits_per_dim"] for row in rows} == {""}
        assert "bits/dim" not in units
        assert "Bits per dimension" not in card
        assert AS_DENSITY in card
        return
    assert density["likelihood"] == "probability"
    assert f"{case.levels} levels" in density["protocol"] or case.pixels == "bernoulli"
    assert density["nll_nats"]["mean"] > 0
    dimensions = 64 * case.channels
    assert density["bits_per_dim"]["mean"] == pytest.approx(density["nll_nats"]["mean"] / dimensions / math.log(2))
    assert "bits/dim" in units
    assert AS_DENSITY not in card


def test_every_law_is_among_them():
    assert {case.pixels for case in CASES} == set(MODELLED)
