"""Measuring a trained run: what is written, that it is the same again, and what is refused or left out."""

import json
import shlex

import pytest
import torch
from PIL import Image
from small_runs import digits, files, results, tiny, trained

import mpdvae
from mpdvae.data import Images, Splits
from mpdvae.errors import InputError
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.evaluation.run_pictures import interpolations, traversal
from mpdvae.experiments.data_config import Data
from mpdvae.models.decoders import pixelcnnpp_decoder
from mpdvae.models.encoders import densenet_encoder
from mpdvae.models.priors import StandardNormal
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json
from mpdvae.vae import VAE
from mpdvae.workflows.job import check_fit, check_same_data, complete, load_data


def test_results_say_what_they_are_results_of(finished):
    density, diagnostics, scores, codes = (
        read_json(finished / f"{name}.json") for name in ("density", "diagnostics", "representation", "codes")
    )
    for result in (density, diagnostics, scores):
        assert result["split"] == "test"
        assert shlex.split(result["command"]) == shlex.split(
            f"mpdvae evaluate {finished} --samples 4 --split test --proposal fitted"
        )
    of_data = read_json(finished / "manifest.json")["data"]["protocol"]
    assert density["protocol"] == of_data.replace("5 fixed test draws", "1 fixed test draw")
    assert (density["images"], density["samples"], density["images_of_split"]) == (10, 4, 300)
    assert {"knn10_accuracy", "linear_accuracy", "kmeans_accuracy", "left_out"} <= scores.keys()
    assert scores["knn10_accuracy"].keys() == {"100"}
    assert scores["kmeans_accuracy"].keys() == {"3"}
    assert {
        "mutual_information_nats",
        "mutual_information_ceiling_nats",
        "active_units",
        "verdict",
    } <= diagnostics.keys()
    assert (diagnostics["images"], diagnostics["latent_dim"]) == (300, 8)
    assert codes.keys() == {"x", "y", "labels", "explained_variance"}
    assert len(codes["x"]) == len(codes["y"]) == len(codes["labels"]) == 300
    assert codes["explained_variance"][0] >= codes["explained_variance"][1] > 0


def test_evaluating_again_gives_the_same_bytes(own_copy, finished):
    evaluate(Run(own_copy), digits())
    here = {name: content.replace(str(own_copy).encode(), b"DIR") for name, content in results(own_copy).items()}
    there = {name: content.replace(str(finished).encode(), b"DIR") for name, content in results(finished).items()}
    assert here == there


def test_other_samples_and_another_split(own_copy):
    evaluate(Run(own_copy), digits(), samples=2, split="validation")
    density = read_json(own_copy / "density-validation.json")
    assert (density["samples"], density["split"], density["images_of_split"]) == (2, "validation", 200)
    assert density["command"].endswith("--samples 2 --split validation --proposal fitted")


@pytest.mark.slow
def test_a_command_with_spaces_in_the_folder_can_be_pasted(tmp_path):
    run = trained(tmp_path / "two words", tiny("vae-digits-smoke"))
    evaluate(run, digits())
    assert shlex.split(read_json(run.path / "density.json")["command"])[2] == str(run.path)


def test_the_figures(finished):
    def size(name: str) -> tuple[int, int]:
        with Image.open(finished / "figures" / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            return picture.size

    factor = 900 // (10 * 9 + 1)
    assert size("samples.png") == ((10 * 9 + 1) * factor, (4 * 9 + 1) * factor)
    assert size("reconstructions.png") == ((10 * 9 + 1) * factor, (2 * 9 + 1) * factor)
    assert size("interpolations.png") == ((10 * 9 + 1) * factor, (4 * 9 + 1) * factor)


def test_pictures_can_be_left_out(tmp_path):
    run = trained(tmp_path / "run", tiny("vae-digits-smoke", evaluation__pictures=False))
    evaluate(run, digits())
    assert not (run.path / "figures").exists()
    assert run.status == "finished"


def test_an_unknown_split_is_refused(own_copy):
    before = files(own_copy)
    with pytest.raises(InputError, match=r"--split: expected one of train, validation, test, got 'tset'"):
        evaluate(Run(own_copy), digits(), split="tset")
    assert files(own_copy) == before


def test_no_samples_are_refused(own_copy):
    with pytest.raises(InputError, match=r"samples: expected a number >= 1, got 0"):
        evaluate(Run(own_copy), digits(), samples=0)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no model\.safetensors; has the run reached its first evaluation point"):
        evaluate(Run.create(tmp_path / "run", tiny()), digits())


# -- walks through the codes -------------------------------------------------------------------------------------------


@pytest.fixture
def vae(finished):
    return mpdvae.load(finished)


X = torch.rand(30, 1, 8, 8).round()


def test_interpolations_begin_and_end_at_codes(vae):
    walks = interpolations(vae, X, columns=5)
    z = vae.encode(X)
    assert walks.shape == (4, 5, 8)
    for walk in range(4):
        torch.testing.assert_close(walks[walk, 0], z[2 * walk])
        torch.testing.assert_close(walks[walk, 4], z[2 * walk + 1])
        torch.testing.assert_close(walks[walk, 2], (z[2 * walk] + z[2 * walk + 1]) / 2)
    assert interpolations(vae, X[:3]).shape == (1, 10, 8)


def test_each_row_of_a_traversal_changes_one_dimension(vae):
    walk = traversal(vae, X, dimensions=5, columns=7)
    assert walk.shape == (5, 7, 8)
    changing = [(row - row[:1]).abs().sum(0).nonzero().flatten().tolist() for row in walk]
    assert all(len(dimensions) == 1 for dimensions in changing)
    assert len({dimensions[0] for dimensions in changing}) == 5
    code = vae.encode(X[:1])[0]
    for row, (k,) in zip(walk, changing, strict=True):
        others = [d for d in range(8) if d != k]
        torch.testing.assert_close(row[:, others].float(), code[others].expand(7, -1))
        assert (row[:, k].diff() > 0).all()


@pytest.mark.parametrize(
    ("dimensions", "columns", "message"),
    [
        (0, 3, r"--dimensions: expected 1 to 8 latent dimensions, got 0"),
        (9, 3, r"--dimensions: expected 1 to 8 latent dimensions, got 9"),
        (1, 0, r"--columns: expected a number >= 1, got 0"),
    ],
)
def test_traversals_that_there_are_not(vae, dimensions, columns, message):
    with pytest.raises(InputError, match=message):
        traversal(vae, X, dimensions, columns)


# -- own data ----------------------------------------------------------------------------------------------------------


def own(n: int, labels: bool | int = True) -> Splits:
    """`n` training images, 4 for validation and 4 for test; labels of this many classes (True: 3)."""
    pixels = (torch.rand(n + 8, 1, 8, 8) * 255).byte()
    classes = torch.arange(n + 8) % (3 if labels is True else labels) if labels else None
    images = Images(pixels, classes)
    parts = [images.take(torch.arange(start, end)) for start, end in ((0, n), (n, n + 4), (n + 4, n + 8))]
    return Splits.of("own", "own data", *parts)


@pytest.mark.parametrize("labels", [False, 1], ids=["no labels", "one class"])
def test_without_labels_of_two_classes_scores_are_left_out_and_it_is_said(tmp_path, labels):
    run, said = Run.create(tmp_path / "run", tiny()), []
    complete(run, own(30, labels), "mpdvae train", say=said.append)
    assert not (run.path / "representation.json").exists()
    assert any("no labels" in line and "left out" in line for line in said)
    assert (read_json(run.path / "codes.json")["labels"] is None) == (labels is False)
    assert run.status == "finished"


@pytest.mark.slow
def test_few_images_leave_out_what_they_cannot_give(tmp_path):
    run = Run.create(tmp_path / "run", tiny(evaluation__label_counts=(10, 100), evaluation__clusters=(3, 50)))
    complete(run, own(30), "mpdvae train")
    scores = read_json(run.path / "representation.json")
    assert (scores["knn10_accuracy"].keys(), scores["kmeans_accuracy"].keys()) == ({"10"}, {"3"})
    assert len(scores["left_out"]) == 2


def test_what_cannot_be_measured_is_refused_before_training():
    data = own(30)
    check_fit(tiny(), data)
    few = Splits.of("own", "own data", data.train, data.validation, data.test.take(torch.arange(1)))
    with pytest.raises(InputError, match=r"own data: expected at least 2 test images, .* got 1; give more images"):
        check_fit(tiny(), few)
    with pytest.raises(InputError, match="batch_size is 20, but there are only 19 training images"):
        check_fit(tiny(), own(19))


def test_results_of_other_data_are_not_mixed_in(own_copy):
    check_same_data(Run(own_copy), digits())
    with pytest.raises(InputError, match=r"was made on other data \(scikit-learn digits 8x8.*put the former data back"):
        check_same_data(Run(own_copy), own(30))
    with pytest.raises(InputError, match="was made on other data"):
        complete(Run(own_copy), load_data(tiny(data__split_seed=3)), "mpdvae resume")


def test_a_run_trained_from_python_can_be_completed(tmp_path):
    """`train` alone notes no data in the manifest; completing the run does, and results are whole."""
    run = trained(tmp_path / "run", tiny())
    complete(run, digits(), "mpdvae resume")
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["data"]["sha256"] == digits().sha256


def test_codes_that_are_maps_are_walked_through_and_shown_in_their_range():
    encoder = densenet_encoder((3, 8, 8), 4, ((2, 1), (2, 1)))
    decoder = pixelcnnpp_decoder((3, 8, 8), 4, 4, levels=2, blocks=1, condition_channels=2, doublings=1)
    vae = VAE(encoder, decoder, StandardNormal((4, 4, 4)))
    x = torch.randint(256, (6, 3, 8, 8)) / 127.5 - 1
    vae.initialise(x)
    walk = traversal(vae.eval(), x, dimensions=2, columns=3)
    assert walk.shape == (2, 3, 4, 4, 4)
    data = Data(dataset="cifar10", binarisation="levels", evaluation_draws=1)
    shown = data.shown(vae.decode(walk))
    assert shown.shape == (2, 3, 3, 8, 8)
    assert 0 <= shown.min() <= shown.max() <= 1
    assert torch.equal(data.shown(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(Data().shown(torch.tensor([0.0, 1.0])), torch.tensor([0.0, 1.0]))
