"""Models that are passed on: what a saved one says and holds, the hub's idiom, the first format, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import tiny

import mpdvae
from mpdvae.errors import InputError, RunError
from mpdvae.experiments.experiment import Origin, with_changes
from mpdvae.runs.model_card import Results, model_card
from mpdvae.sharing import pretrained

IMAGE_SHAPE = (1, 8, 8)
FIRST_FORMAT = Path(__file__).parents[1] / "formats" / "model-1"
"""A model folder as mpdvae 0.1.0 wrote it: never written anew."""

SHARED = [*pretrained.FILES, pretrained.CONFIG]


def a_model() -> mpdvae.VAE:
    return tiny("vae-digits-smoke").build(IMAGE_SHAPE).eval()


def same(one: mpdvae.VAE, other: mpdvae.VAE) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def front_matter(card: str) -> dict:
    """The metadata in front of a card, each line of which is a name and JSON."""
    _, front, _ = card.split("---\n", 2)
    return {name: json.loads(value) for name, value in (line.split(": ", 1) for line in front.splitlines())}


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_the_model_loaded(tmp_path):
    vae = a_model()
    vae.save_pretrained(tmp_path / "model", licence="apache-2.0")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(SHARED)
    loaded = mpdvae.load(tmp_path / "model")
    assert same(loaded, vae)
    assert not loaded.training
    loaded.save_pretrained(tmp_path / "again", licence="apache-2.0")
    for name in SHARED:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_a_shared_model_does_not_tell_where_its_images_were(tmp_path):
    vae = a_model()
    experiment, path = vae.origin.experiment, tmp_path / "of-somebody" / "pictures"
    own = with_changes(experiment, data__dataset="own", data__path=path)
    vae.origin = Origin(own, vae.origin.image_shape)
    vae.save_pretrained(tmp_path / "model")
    for name in SHARED:
        assert b"of-somebody" not in (tmp_path / "model" / name).read_bytes()
    assert mpdvae.load(tmp_path / "model").origin.experiment.data.path == Path("pictures")
    assert "--data.path FOLDER" in (tmp_path / "model" / "README.md").read_text()


def test_the_card_of_a_measured_run_tells_its_numbers(finished, tmp_path):
    mpdvae.load(finished).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    density = json.loads((finished / "density.json").read_text())
    metadata = front_matter(card)
    (result,) = metadata["model-index"][0]["results"]
    metrics = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert metrics["nll_nats"] == density["nll_nats"]["mean"]
    assert {"kl_nats", "mutual_information_nats", "active_units", "knn10_accuracy_100"} <= metrics.keys()
    assert result["dataset"]["split"] == "test"
    assert f"| {density['nll_nats']['mean']:.5g} |" in card
    for said in ("dynamic binarisation", "SHA-256", "10 images, 4 importance samples each", "Data: ", "mpdvae train "):
        assert said in card


def test_a_card_leaves_out_what_is_not_known():
    experiment = tiny("vae-digits-smoke")
    card = model_card(experiment, IMAGE_SHAPE)
    assert {"model-index", "license"} & front_matter(card).keys() == set()
    assert "## Evaluation" not in card
    assert "Weights: not stated." in card
    assert front_matter(model_card(experiment, IMAGE_SHAPE, licence="mit"))["license"] == "mit"
    unknown = Results(density={"images": 1, "samples": 1, "nll_nats": {"mean": None}})
    assert "nll" not in model_card(experiment, IMAGE_SHAPE, unknown)


def test_the_front_of_a_card_is_the_hub_s(finished, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    mpdvae.load(finished).save_pretrained(tmp_path / "model", licence="mit")
    data = hub.ModelCard.load(tmp_path / "model" / "README.md").data
    assert data.license == "mit"
    assert data.library_name == "mpdvae"
    assert {"nll_nats", "kl_nats"} <= {result.metric_type for result in data.eval_results}


def test_the_first_format_is_still_read():
    vae = mpdvae.load(FIRST_FORMAT)
    expected = json.loads((FIRST_FORMAT / "expected.json").read_text())
    x = torch.tensor(expected["images"])
    torch.testing.assert_close(vae.encode(x), torch.tensor(expected["codes"]))
    torch.testing.assert_close(vae.decode(vae.encode(x)), torch.tensor(expected["reconstructions"]))


def test_a_model_put_together_by_hand_says_what_is_missing(tmp_path):
    made = a_model()
    vae = mpdvae.VAE(made.encoder, made.decoder, made.prior)
    for share in (lambda: vae.save_pretrained(tmp_path / "model"), lambda: vae.push_to_hub("me/model")):
        with pytest.raises(InputError, match=r"vae: its configuration is unknown.*or set vae\.origin"):
            share()
    assert not (tmp_path / "model").exists()
    vae.origin = made.origin
    vae.save_pretrained(tmp_path / "model")
    assert same(mpdvae.load(tmp_path / "model"), made)


def test_the_model_class_loads_what_the_package_loads(tmp_path):
    vae = a_model()
    vae.save_pretrained(tmp_path / "model", license="mit")
    assert same(mpdvae.VAE.from_pretrained(tmp_path / "model"), vae)
    assert same(mpdvae.VAE.from_pretrained("mae-mnist"), mpdvae.load("mae-mnist"))
    assert same(mpdvae.load(os.fsencode(tmp_path / "model")), vae)
    assert front_matter((tmp_path / "model" / "README.md").read_text())["license"] == "mit"


def test_a_licence_may_be_spelt_in_two_ways_and_given_once(tmp_path):
    a_model().save_pretrained(tmp_path / "same", licence="mit", license="mit")
    with pytest.raises(InputError, match=r"licence: expected one value, got both 'mit' and 'cc0-1.0'"):
        a_model().save_pretrained(tmp_path / "model", licence="mit", license="cc0-1.0")
    assert not (tmp_path / "model").exists()


def test_a_summary_says_what_the_model_is(tmp_path):
    a_model().save_pretrained(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert about["library_name"] == "mpdvae"
    assert (about["image_shape"], about["pixel_values"]) == ([1, 8, 8], "binary")
    (tmp_path / "model" / "config.json").unlink()  # as earlier versions wrote it
    assert same(mpdvae.load(tmp_path / "model"), a_model())


@pytest.mark.parametrize("source", ["mae-mnist", FIRST_FORMAT, str(FIRST_FORMAT)])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(source):
    with pytest.raises(InputError, match=r"revision: only models on the hub have one, but .*; leave it out"):
        mpdvae.load(source, revision="v1")


def test_results_of_no_run_are_refused(tmp_path):
    with pytest.raises(InputError, match="results: expected the folder of an evaluated run"):
        a_model().save_pretrained(tmp_path / "model", results=tmp_path)


def test_without_the_hub_s_client_a_sentence_says_how_to_get_it(tmp_path):
    code = """
import sys
sys.modules["huggingface_hub"] = None
import mpdvae
try:
    mpdvae.load("owner/name")
except mpdvae.InputError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said.startswith(
        "owner/name: no such folder here, and loading from the hub needs the hub's client: pip install"
    )
    assert "'mpdvae[hub]'" in said


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine that the client talks to, with a cache of its own."""
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    from hub_stand_in import serving
    from huggingface_hub import constants

    with serving() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the client reads it once, maybe within another test
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub


def offline(monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_goes_to_the_hub_and_comes_back(hub, tmp_path):
    vae = a_model()
    address = vae.push_to_hub("someone/digits", licence="mit", token="stand-in")
    assert address.startswith(f"{hub.address}/someone/digits/commit/")
    files = hub.repositories["someone/digits"]
    assert sorted(files) == sorted(SHARED)
    assert 'mpdvae.load("someone/digits")' in files["README.md"].decode()
    assert same(mpdvae.load("someone/digits"), vae)
    assert same(mpdvae.load(f"someone/digits@{hub.commit_of('someone/digits')}"), vae)


def test_the_cache_is_where_it_is_asked_for(hub, tmp_path):
    vae = mpdvae.load("mae-mnist")
    vae.push_to_hub("someone/digits", token="stand-in")
    assert same(mpdvae.VAE.from_pretrained("someone/digits", cache_dir=tmp_path / "cache"), vae)
    assert list((tmp_path / "cache").rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device_map": "auto"}, r"device_map: there is no such argument, got 'auto'; .* use \.to\('cuda'\)"),
        ({"torch_dtype": torch.bfloat16}, r"torch_dtype: .* got torch\.bfloat16; .* use \.to\(torch\.bfloat16\)"),
        ({"trust_remote_code": True}, r"trust_remote_code: .* expected revision, token or cache_dir, so leave it out"),
    ],
)
def test_arguments_of_other_libraries_are_answered(given, message):
    for load in (mpdvae.load, mpdvae.VAE.from_pretrained):
        with pytest.raises(InputError, match=message):
            load("mae-mnist", **given)


def test_a_revision_and_a_token_are_given_as_the_hub_s_users_give_them(hub):
    vae = a_model()
    vae.push_to_hub("someone/digits", license="mit", token="stand-in")
    commit = hub.commit_of("someone/digits")
    assert 'license: "mit"' in hub.repositories["someone/digits"]["README.md"].decode()
    assert same(mpdvae.VAE.from_pretrained("someone/digits", revision=commit, token="mine"), vae)
    assert any(request.endswith("config.json") for request in hub.requests)  # by which the hub counts downloads
    assert hub.tokens[-1] == "Bearer mine"
    with pytest.raises(InputError, match=r"someone/digits@v9: .* no such branch, tag or commit"):
        mpdvae.load("someone/digits", revision="v9")
    with pytest.raises(InputError, match="expected one value, got both 'v1' and 'v2'"):
        mpdvae.load("someone/digits@v1", revision="v2")


def test_nothing_but_the_model_s_files_is_downloaded(hub):
    a_model().push_to_hub("someone/digits", token="stand-in")
    hub.repositories["someone/digits"] |= {"weights.pkl": b"no", "code.py": b"no"}
    mpdvae.load("someone/digits")
    fetched = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
    assert fetched == set(SHARED)


def test_a_cached_model_needs_no_connection(hub, monkeypatch):
    vae = a_model()
    vae.push_to_hub("someone/digits", token="stand-in")
    mpdvae.load("someone/digits")
    offline(monkeypatch)
    before = len(hub.requests)
    assert same(mpdvae.load("someone/digits"), vae)
    assert len(hub.requests) == before
    with pytest.raises(
        RunError, match=r"someone/else: no such folder here, and the hub cannot be reached \(or HF_HUB_"
    ):
        mpdvae.load("someone/else")
    with pytest.raises(RunError, match="someone/digits: the hub is not contacted while HF_HUB_OFFLINE is set"):
        vae.push_to_hub("someone/digits", token="stand-in")


def test_a_folder_wins(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vae = a_model()
    vae.save_pretrained("someone/digits")
    assert same(mpdvae.load("someone/digits"), vae)
    with pytest.raises(InputError, match="nobody/nothing: no such folder; give the folder of a run or of a model"):
        mpdvae.load(Path("nobody/nothing"))
    assert hub.requests == []


def test_what_the_hub_does_not_have_is_said(hub):
    with pytest.raises(InputError, match="nobody/nothing: no such folder here, and no such model on the hub"):
        mpdvae.load("nobody/nothing")
    a_model().push_to_hub("someone/digits", token="stand-in")
    with pytest.raises(
        InputError, match="someone/digits@v9: no such folder here, and the hub has this model, but no such branch"
    ):
        mpdvae.load("someone/digits@v9")


def test_a_hub_that_is_not_there_is_said(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="someone/digits: no such folder here, and the hub cannot be reached"):
        mpdvae.load("someone/digits")


@pytest.mark.parametrize("name", ["digits", "a/b/c", "someone/digits@main", "-a/--b"])
def test_names_that_are_none_are_refused(hub, name):
    with pytest.raises(InputError, match=r"repo_id: expected owner/name|not a valid name of a model on the hub"):
        a_model().push_to_hub(name, token="stand-in")
    assert hub.repositories == {}
