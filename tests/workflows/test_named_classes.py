"""Classes by name where a user meets them: in Python, in commands, in copies of a model."""

import csv
import re

import numpy as np
import pytest
import torch
from command_line import call
from pets import NAMES, pets, trained_on_pets
from small_runs import tiny

import mpdvae
from mpdvae.commands.explorer_model import live
from mpdvae.commands.model_images import model_images
from mpdvae.data.conditions import split_labels
from mpdvae.errors import InputError
from mpdvae.evaluation.image_codes import encode_images
from mpdvae.seeding import seeded


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a trained run that is told one of the classes cat, dog and owl."""
    return trained_on_pets(tmp_path_factory.mktemp("pets"))


@pytest.fixture(scope="module")
def vae(run):
    return mpdvae.load(run)


def seeded_result(call):
    with seeded(0, "named classes"):
        return call()


X = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
TAKES_LABELS = {
    "sample": lambda vae, labels: vae.sample(3, labels),
    "decode": lambda vae, labels: vae.decode(torch.zeros(3, vae.latent_dim), labels=labels),
    "preprocess": lambda vae, labels: vae.preprocess(X, labels=labels),
    "encode_images": lambda vae, labels: torch.from_numpy(encode_images(vae, X, 2, labels=labels).mean),
}
each = pytest.mark.parametrize("function", TAKES_LABELS.values(), ids=TAKES_LABELS)


@each
@pytest.mark.parametrize(("names", "numbers"), [("owl", 2), (["owl", "cat", "cat"], [2, 0, 0])])
def test_labels_by_name_are_those_of_the_same_numbers(vae, function, names, numbers):
    by_name, by_number = (seeded_result(lambda labels=labels: function(vae, labels)) for labels in (names, numbers))
    assert torch.equal(by_name, by_number)


@each
def test_a_name_that_is_none_is_refused_with_the_one_that_was_meant(vae, function):
    with pytest.raises(InputError, match=r"labels: .* \(cat, dog and owl\), got 'owll'; did you mean 'owl'\?"):
        function(vae, "owll")


def test_the_names_stay_with_the_model(run, vae, tmp_path):
    assert vae.class_names == NAMES
    vae.save_pretrained(tmp_path / "model")
    for again in (mpdvae.load(tmp_path / "model"), mpdvae.VAE.from_pretrained(tmp_path / "model")):
        assert again.class_names == NAMES
        assert split_labels(again.sample(2, labels=["dog", "cat"])).labels.tolist() == [1, 0]
        again.save_pretrained(tmp_path / "copy")
    assert mpdvae.load(tmp_path / "copy").class_names == NAMES


def test_names_that_are_not_known_are_none(finished):
    assert tiny().build((1, 8, 8)).class_names == mpdvae.load(finished).class_names == ()
    assert mpdvae.VAE(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity()).class_names == ()
    with pytest.raises(InputError, match="labels: this model is not conditioned on classes"):
        mpdvae.load(finished).sample(2, labels="owl")


def written(capsys, path, *command):
    code, _, said = call(capsys, *command, "--out", path)
    assert code == 0, said
    return path.read_bytes()


def test_commands_take_the_name_or_the_number(run, tmp_path, capsys):
    for command in (
        ("sample", run, "--count", "4"),
        ("encode", run, pets(tmp_path / "pets") / "cat", "--samples", "2"),
    ):
        path = tmp_path / ("x.png" if command[0] == "sample" else "x.csv")
        by_name, by_number, other = (written(capsys, path, *command, "--label", label) for label in ("owl", "2", "cat"))
        assert by_name == by_number != other
        path.unlink()
        code, _, said = call(capsys, *command, "--label", "owll", "--out", path)
        assert code == 2
        assert "got 'owll'; did you mean 'owl'?" in " ".join(said.split())
        assert not path.exists()


@pytest.mark.parametrize(("count", "said"), [(6, "cat, dog and owl"), (3, "cat, dog and owl"), (2, "cat and dog")])
def test_a_picture_whose_columns_are_classes_says_which(run, tmp_path, capsys, count, said):
    code, out, _ = call(capsys, "sample", run, "--count", str(count), "--out", tmp_path / "x.png")
    assert code == 0
    assert f"The columns, from the left, are the classes {said}." in out
    assert "The columns" not in call(capsys, "sample", run, "--label", "owl", "--out", tmp_path / "x.png")[1]


def test_a_class_that_is_called_by_a_numeral_is_meant_by_it(tmp_path, capsys):
    run = trained_on_pets(tmp_path, ("3", "7", "None"))
    pictures, path = tmp_path / "pictures" / "3", tmp_path / "c.csv"
    for name in ("3", "7", "None"):
        written(capsys, path, "encode", run, pictures, "--samples", "2", "--label", name)
        assert {row["class"] for row in csv.DictReader(path.read_text().splitlines())} == {name}
    code, _, said = call(capsys, "encode", run, pictures, "--label", "1", "--out", path)
    assert code == 2
    assert "(3, 7 and None), got '1'; give one of these." in " ".join(said.split())


def test_the_explorer_calls_an_image_by_the_name_of_its_class(run, vae):
    x, labels = model_images(run, vae, None)
    shown = live(vae.origin.experiment, vae, x, labels)
    assert [NAMES[number] for number in shown.classes] == shown.labels
    assert {shown.called(i) for i in range(len(x))} <= {f"class {name}" for name in NAMES}
    nameless = live(vae.origin.experiment, vae, x, None)
    assert (nameless.classes, nameless.called(1)) == (None, "image 1")


def used(card):
    """What the example code of a card leaves behind."""
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    left: dict[str, object] = {}
    exec(code, left)
    return left


def test_a_card_names_the_classes_and_its_code_draws_images_of_one(run, vae, tmp_path):
    assert "it is told one of 3 classes (cat, dog and owl)." in (run / "model" / "README.md").read_text()
    vae.save_pretrained(tmp_path / "model", source=str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text()
    assert "it is told one of 3 classes (cat, dog and owl)." in card
    assert 'labels="cat"' in card
    left = used(card)
    assert left["images"].shape == (16, 1, 8, 8)
    assert (left["told"] == 0).all()


@pytest.mark.parametrize("told", [{"classes": 3}, {"covariates": 2}, {"classes": 3, "covariates": 2}, {}])
def test_the_code_of_a_card_runs_whatever_a_model_is_told(told, tmp_path):
    options = {f"data__condition_{what}": count for what, count in told.items()}
    made = tiny("vae-digits-smoke", **options).build((1, 8, 8))
    made.save_pretrained(tmp_path / "model", source=str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text()
    assert used(card)["images"].shape == (16, 1, 8, 8)
    assert ("It is conditional" in card) is bool(told)
