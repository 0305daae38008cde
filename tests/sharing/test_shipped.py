"""The trained models that come with the package: each is whole, small, measured as its card says, and found by its name."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import call

import mpdvae
from mpdvae.commands.explorer_model import live
from mpdvae.commands.model_images import model_images
from mpdvae.data import evaluation_images
from mpdvae.errors import InputError
from mpdvae.evaluation.example_images import Examples, read_examples
from mpdvae.experiments.experiment import origin_of
from mpdvae.experiments.recipes import all_recipes
from mpdvae.measures import density
from mpdvae.runs.model_card import CLASSIFIERS, CODE_MEASURES, MEASURES
from mpdvae.runs.model_folder import model_experiment
from mpdvae.runs.run_folder import Run
from mpdvae.sharing import shipped, trained_models
from mpdvae.sharing.pretrained import FILES
from mpdvae.system.closed_folder import Inside
from mpdvae.workflows.job import data_of

NAMES = trained_models()
LARGEST_TOTAL = 12_000_000
"""Bytes of all models."""
RECOMPUTED = 3
"""Images whose log-likelihood is computed again in a quick test."""
TO_FOUR_DIGITS = 1e-4

each = pytest.mark.parametrize("name", NAMES)


def examples_of(name: str) -> tuple[mpdvae.VAE, Examples]:
    vae = mpdvae.load(name)
    examples = read_examples(Inside(shipped.folder_of(name)), origin_of(vae))
    assert examples is not None
    return vae, examples


def log_prob_again(name: str, images: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(x) of the first images, computed from the weights and as it was measured."""
    vae, examples = examples_of(name)
    measured = torch.tensor(examples.log_prob_nats[:images], dtype=torch.float64)
    record = shipped.recorded(shipped.folder_of(name))
    assert record is not None
    samples, tolerance = record.density["samples"], record.density.get("tolerance_nats")
    count = len(measured)
    found = density.estimate(
        vae,
        examples.x[:count],
        samples,
        tolerance=tolerance,
        indices=examples.indices[:count],
        proposal=record.density.get("proposal", "encoder"),
    ).log_prob
    return found, measured


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, no data sets, and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPDVAE_DATA", str(tmp_path / "no-data"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


# -- what is in the package --------------------------------------------------------------------------------------------


def test_there_are_models_and_they_are_small():
    assert "mae-mnist" in NAMES
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()) <= LARGEST_TOTAL


def test_names_are_no_recipes_and_no_addresses():
    assert set(NAMES) & all_recipes().keys() == set()
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in NAMES)


def test_nothing_is_read_before_it_is_asked_for():
    code = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event in ("open", "os.listdir") else None)
import mpdvae, mpdvae.sharing
mpdvae.load
print([path for path in opened if "sharing/trained" in path], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


@each
def test_a_folder_has_these_files_and_no_paths_of_a_machine(name):
    folder = shipped.folder_of(name)
    assert {path.name for path in folder.iterdir()} == {*FILES, "results.json", "images.json", "images.png"}
    for path in folder.glob("*.json"):
        assert not re.search(r"\"/|~/|[A-Z]:\\\\|\bcommand\b", path.read_text()), path
    assert not re.search(r"(?<![\w/:.])/(home|root|tmp|work|Users)\b", (folder / "README.md").read_text())


@each
def test_a_model_loads_and_draws_finite_images(name):
    vae = mpdvae.load(name)
    x, (lowest, highest) = vae.sample(2), origin_of(vae).experiment.data.image_range
    assert not vae.training
    assert x.shape == (2, *origin_of(vae).image_shape)
    assert torch.isfinite(x).all()
    assert lowest <= x.min() <= x.max() <= highest


# -- what the cards say ------------------------------------------------------------------------------------------------


@each
def test_a_card_tells_the_recorded_numbers_and_their_protocol(name):
    folder = shipped.folder_of(name)
    record, card = shipped.recorded(folder), (folder / "README.md").read_text()
    assert record is not None
    (line,) = re.findall(r"^model-index: (.*)$", card, flags=re.M)
    (result,) = json.loads(line)[0]["results"]
    told = {metric["type"]: metric["value"] for metric in result["metrics"]}
    recorded = {key: record.density[key]["mean"] for key in MEASURES}
    recorded |= {key: record.diagnostics[key] for key in CODE_MEASURES if key in record.diagnostics}
    for key in CLASSIFIERS:
        recorded |= {f"{key}_{count}": score["mean"] for count, score in record.representation.get(key, {}).items()}
    assert told == recorded
    assert f"| {told['nll_nats']:.5g} | {record.density['nll_nats']['standard_error']:.4g} |" in card
    measured = f"{record.density['images']:,} images, {record.density['samples']:,} importance samples each. Protocol: "
    assert measured + record.density["protocol"] in card
    assert f'mpdvae.load("{name}")' in card
    assert model_experiment(folder).seed == 0


@each
def test_the_weights_give_the_recorded_log_likelihoods(name):
    found, measured = log_prob_again(name, RECOMPUTED)
    assert len(found) == RECOMPUTED
    torch.testing.assert_close(found, measured, rtol=TO_FOUR_DIGITS, atol=0)


@pytest.mark.slow
@each
def test_the_weights_give_the_likelihood_of_the_card(name):
    """From the weights and the images beside them; where these are not test images, or not all, of those there are."""
    found, measured = log_prob_again(name, None)
    torch.testing.assert_close(found.mean(), measured.mean(), rtol=TO_FOUR_DIGITS, atol=0)
    torch.testing.assert_close(found, measured, rtol=10 * TO_FOUR_DIGITS, atol=0)


@each
def test_the_recorded_log_likelihoods_are_those_of_the_card(name):
    _, examples = examples_of(name)
    record = shipped.recorded(shipped.folder_of(name))
    assert record is not None
    if examples.drawn:
        pytest.skip("the licence of the data does not allow test images in the package")
    if len(examples.log_prob_nats) < record.density["images"]:
        pytest.skip("the card's number is about more images than there are beside it")
    assert -sum(examples.log_prob_nats) / len(examples.log_prob_nats) == pytest.approx(
        record.density["nll_nats"]["mean"]
    )


@each
def test_the_images_are_those_of_the_test_set(name):
    _, examples = examples_of(name)
    if examples.drawn:
        pytest.skip("the licence of the data does not allow test images in the package")
    run = Run(shipped.folder_of(name))
    try:
        data = data_of(run)
    except InputError as error:
        pytest.skip(str(error))
    record = shipped.recorded(run.path)
    assert record is not None
    assert record.manifest["data"]["sha256"] == data.sha256
    x, labels = evaluation_images(data.test, run.experiment.data.protocol(), "test", draws=1)
    assert torch.equal(examples.x, x[examples.indices])
    assert labels is None or (
        examples.known.labels is not None and torch.equal(examples.known.labels, labels[examples.indices])
    )


# -- by name -----------------------------------------------------------------------------------------------------------


@each
def test_commands_take_the_name_without_data_and_network(name, alone, capsys):
    for command in ("sample --count 4", "reconstruct --count 2", "traverse --dimensions 2 --columns 3"):
        verb, *options = command.split()
        assert call(capsys, verb, name, *options, "--out", alone / f"{verb}.png")[0] == 0
        assert (alone / f"{verb}.png").stat().st_size > 200


@each
def test_a_model_is_explored_without_data_and_network(name, alone):
    vae = mpdvae.load(name)
    shown = live(origin_of(vae).experiment, vae, *model_images(shipped.located(name), vae, None))
    assert len(shown.x) == len(shown.labels) == len(shown.places) >= 50
    assert shown.images(shown.mixed(0, 1, 2), 2).startswith(b"\x89PNG")


def test_the_list_has_a_line_for_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    code, out, err = call(capsys, "models")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split()[:2] == ["name", "data"]
    assert [line.split()[0] for line in lines[: len(NAMES)]] == NAMES
    for name, line in zip(NAMES, lines, strict=False):
        record = shipped.recorded(shipped.folder_of(name))
        assert record is not None
        nll, size = record.density["nll_nats"], sum(p.stat().st_size for p in shipped.folder_of(name).iterdir())
        assert f"{nll['mean']:,.2f} ({nll['standard_error']:.2f})" in line
        assert f"{size:,}" in line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "mae-mnits",
            r"mae-mnits: expected the folder of a run or of a model, .*mae-mnist.*; did you mean .*mae-mnist",
        ),
        ("qqqq", r"qqqq: expected .*\(.*mae-mnist.*\); give one of these names, or a folder\."),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(given, said, alone):
    with pytest.raises(InputError, match=said):
        mpdvae.load(given)
    for path in (Path(given), Path("mae-mnist"), "./mae-mnist"):
        with pytest.raises(InputError, match="no such folder; give the folder of a run or of a model"):
            mpdvae.load(path)


def test_a_folder_takes_precedence(finished, alone):
    assert mpdvae.load("mae-mnist").sample(1).shape == (1, 1, 28, 28)
    shutil.copytree(finished, alone / "mae-mnist")
    assert mpdvae.load("mae-mnist").sample(1).shape == (1, 1, 8, 8)
    assert shipped.located("mae-mnist") == Path("mae-mnist")


def test_a_model_that_is_passed_on_keeps_its_numbers(alone):
    mpdvae.load("mae-mnist").save_pretrained("mine")
    card, own = ((folder / "README.md").read_text() for folder in (Path("mine"), shipped.folder_of("mae-mnist")))
    table = re.compile(r"^\| .*\|$", flags=re.M)
    assert table.findall(card) == table.findall(own) != []


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model `broken`, to be damaged."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "trained")
    return Path(
        shutil.copytree(Path(shipped.__file__).parent / "trained" / "mae-mnist", tmp_path / "trained" / "broken")
    )


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("model.safetensors", "sample broken --out x.png --count 1"),
        ("experiment.json", "sample broken --out x.png --count 1"),
        ("images.json", "reconstruct broken --out x.png --count 1"),
        ("images.png", "reconstruct broken --out x.png --count 1"),
        ("results.json", "models"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(damaged, file, command, capsys, alone):
    for content in (b"", b"[1]", b'{"density": {"images": "x"}}', b"\x89PNG\r\n\x1a\n" + bytes(99)):
        (damaged / file).write_bytes(content)
        code, _, err = call(capsys, *command.split())
        assert (code, err.count("\n")) == (2, 1), err
        assert file in err


def test_images_of_another_size_are_refused(damaged):
    about = json.loads((damaged / "images.json").read_text())
    for change in ({"columns": 24}, {"labels": [1]}, {"log_prob_nats": [0.0] * 501}, {"indices": []}):
        (damaged / "images.json").write_text(json.dumps(about | change))
        with pytest.raises(InputError, match=r"images\.(png|json) is broken"):
            read_examples(Inside(damaged), origin_of(mpdvae.load("broken")))


def test_a_package_of_links_is_read(tmp_path, monkeypatch):
    """As some installers lay it out: each file is a link to the same file in a cache."""
    name = trained_models()[0]
    shutil.copytree(shipped.FOLDER / name, tmp_path / "cache" / name)
    (tmp_path / "trained" / name).mkdir(parents=True)
    for path in (tmp_path / "cache" / name).iterdir():
        (tmp_path / "trained" / name / path.name).symlink_to(path)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "trained")
    assert shipped.described(name)["name"] == name
    assert mpdvae.load(name).origin.run == tmp_path / "cache" / name
