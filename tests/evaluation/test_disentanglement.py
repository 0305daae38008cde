"""A run on data with known factors is measured for disentanglement: of its codes, as the measures say, or with a reason."""

import itertools

import numpy as np
import pytest
import torch
from small_runs import tiny

from mpdvae.data import Factor, Images, Splits
from mpdvae.evaluation import representation_baselines
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.measures import measure_disentanglement
from mpdvae.report.schema import Disentanglement, read
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json
from mpdvae.workflows.job import complete

FACTORS = (
    Factor("row", ("0", "2", "4", "6"), ordered=True),
    Factor("column", ("0", "2", "4", "6"), ordered=True),
    Factor("shade", ("grey", "white"), ordered=False),
)


def squares(copies: int) -> Images:
    """Squares of 2x2 pixels on 8x8: all places and shades, equally often."""
    table = np.array(list(itertools.product(range(4), range(4), range(2))) * copies)
    pixels = np.zeros((len(table), 1, 8, 8), np.uint8)
    for image, (row, column, shade) in zip(pixels[:, 0], table, strict=True):
        image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = (128, 255)[shade]
    return Images(torch.from_numpy(pixels), torch.from_numpy(table[:, 2]), torch.from_numpy(table))


def data(tested: int) -> Splits:
    return Splits.of("squares", "squares", squares(10), squares(1), squares(tested), factors=FACTORS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("factors") / "run", tiny(evaluation__baselines=False))
    complete(run, data(8), "mpdvae train")
    return run


def test_a_run_is_measured_on_its_codes(run):
    found = read_json(run.folder / "disentanglement.json")
    e, vae, splits = run.experiment, load(run.path), data(8)
    chosen = np.random.default_rng(0).permutation(320)[:200]  # evaluation.representation_images
    train = splits.train.take(torch.from_numpy(chosen))
    train_codes = representation_baselines.codes(vae, e, splits.train, "train")[chosen]
    test_codes = representation_baselines.codes(vae, e, splits.test, "test")
    assert train.factors is not None
    assert splits.test.factors is not None
    expected = measure_disentanglement(
        train_codes,
        train.factors.numpy(),
        test_codes,
        splits.test.factors.numpy(),
        ["row", "column", "shade"],
        [True, True, False],
    ).to_dict()
    assert {name: found[name] for name in ("factors", "train_images", "test_images")} == {
        "factors": ["row", "column", "shade"],
        "train_images": 200,
        "test_images": 256,
    }
    for name in ("mig", "sap", "modularity", "explicitness"):
        assert found[name]["score"] == pytest.approx(expected[name]["score"], abs=1e-3), name
    assert found["split"] == "test"
    assert found["command"].startswith("mpdvae evaluate")
    assert read(Disentanglement, run.folder / "disentanglement.json", "").mig.score == found["mig"]["score"]


def test_too_few_images_leave_it_out_and_it_is_said(run):
    said = []
    evaluate(run, data(2), split="validation", say=said.append)
    assert not (run.path / "disentanglement-validation.json").exists()
    (reason,) = [line for line in said if line.startswith("disentanglement is left out")]
    assert "expected at least 206 images" in reason
