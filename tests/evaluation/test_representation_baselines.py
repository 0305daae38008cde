"""Scores of a run and of what they are compared with: the same images, the same numbers whether kept or computed."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from small_runs import digits, tiny

from mpdvae.data import Images, Splits, evaluation_images
from mpdvae.errors import RunError
from mpdvae.evaluation import representation_baselines
from mpdvae.evaluation.result_cache import shared
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.measures import representation
from mpdvae.measures.representation.scores import CLUSTER_MEASURES
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json
from mpdvae.training.learner_state import initialise

BASELINES = ["raw_pixels", "pca", "untrained_encoder"]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what runs share."""
    monkeypatch.setenv("MPDVAE_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "baselines"


def scores_of(run: Path) -> dict:
    e, data, vae = Run(run).experiment, digits(), load(run)
    return representation_baselines.score(
        vae, e, data, data.test, "test", representation_baselines.codes(vae, e, data.test, "test")
    )


# -- what is scored ----------------------------------------------------------------------------------------------------


def test_every_score_has_its_baselines(finished: Path):
    scores = read_json(finished / "representation.json")
    assert list(scores["baselines"]) == BASELINES
    measures = [*representation.CLASSIFIERS, *CLUSTER_MEASURES]
    for baseline in scores["baselines"].values():
        assert {m: list(baseline[m]) for m in measures} == {m: list(scores[m]) for m in measures}
    dimensions = [scores["baselines"][name]["dimensions"] for name in BASELINES]
    assert [scores["dimensions"], *dimensions] == [8, 64, 8, 8]


def test_baselines_are_scores_of_features_anyone_can_make(finished: Path):
    """Raw pixels, their components and an untrained model, scored by hand on the same images."""
    data, e = digits(), tiny()
    train, labels = evaluation_images(data.train, e.data.protocol(), "train", draws=1)
    test, test_labels = evaluation_images(data.test, e.data.protocol(), "test", draws=1)
    assert labels is not None
    assert test_labels is not None
    chosen = np.random.default_rng(0).permutation(len(train))[:200]
    vae = e.build(data.image_shape)
    initialise(vae, e, data)
    pixels, test_pixels = train.flatten(1).numpy()[chosen], test.flatten(1).numpy()
    features = [
        (pixels, test_pixels),
        representation.principal_components(pixels, test_pixels, 8),
        (vae.encode(train[chosen]).numpy(), vae.encode(test).numpy()),
    ]
    settings = {"label_counts": (100,), "subsets": 1, "clusters": (3,), "svm_labels": 1000}
    found = read_json(finished / "representation.json")["baselines"]
    for name, (z, test_z) in zip(BASELINES, features, strict=True):
        by_hand = representation.evaluate(z, labels.numpy()[chosen], test_z, test_labels.numpy(), **settings)
        for measure, by_count in by_hand.items():
            if measure in found[name] and measure != "left_out":
                means = {count: score["mean"] for count, score in by_count.items()}
                assert means == pytest.approx({c: s["mean"] for c, s in found[name][measure].items()}, abs=0.02)


def test_the_untrained_encoder_depends_on_no_decoder_and_is_that_of_step_zero():
    """Models of one seed share it, which is why it is computed once for all of them."""
    data = digits()
    first, other = tiny("mae-digits-smoke"), tiny("vae-digits-smoke")
    models = [e.build(data.image_shape) for e in (first, other)]
    for vae, e in zip(models, (first, other), strict=True):
        initialise(vae, e, data)
    for name, tensor in models[0].encoder.state_dict().items():
        assert torch.equal(tensor, models[1].encoder.state_dict()[name])
    assert representation_baselines._encoder_key(first) == representation_baselines._encoder_key(other)
    assert representation_baselines._encoder_key(first) != representation_baselines._encoder_key(tiny(seed=1))


def test_refined_codes_of_the_untrained_encoder_depend_on_the_decoder_too():
    steps = {"encoder__refinement_steps": 2}
    first, other = tiny("vae-pixelcnn-digits-smoke", **steps), tiny("vae-digits-smoke", **steps)
    assert first.encoder == other.encoder
    assert representation_baselines._encoder_key(first) != representation_baselines._encoder_key(other)


def test_baselines_can_be_left_out(own_copy: Path, kept: Path):
    experiment = json.loads((own_copy / "experiment.json").read_text())
    experiment["evaluation"]["baselines"] = False
    (own_copy / "experiment.json").write_text(json.dumps(experiment))
    assert scores_of(own_copy)["baselines"] == {}
    assert not kept.exists()


@pytest.mark.parametrize("missing", ["train", "test"])
def test_without_labels_there_is_a_reason(missing: str):
    data = digits()
    bare = Images(getattr(data, missing).pixels)
    parts = {"train": data.train, "test": data.test} | {missing: bare}
    unlabelled = Splits.of("own", "own data", parts["train"], data.validation, parts["test"])
    reason = "no labels: representation scores are left out"
    assert representation_baselines.unscored_because(unlabelled, unlabelled.test) == reason
    assert representation_baselines.unscored_because(data, data.test) == ""


def test_weights_that_are_no_numbers_are_reported_with_the_image(own_copy: Path):
    vae = load(own_copy)
    with torch.no_grad():
        next(vae.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="the posterior of image 0 is not finite"):
        representation_baselines.codes(vae, tiny(), digits().test, "test")


@pytest.mark.parametrize("given", ["drawn", "thresholded"])
def test_codes_from_known_posteriors_are_the_same(own_copy: Path, given: str):
    e, images, vae = tiny(evaluation__code_input=given, evaluation__code_samples=3), digits().test, load(own_copy)
    q = representation.posteriors(vae, evaluation_images(images, e.data.protocol(), "test", draws=1)[0])
    known = representation_baselines.codes(vae, e, images, "test", q)
    np.testing.assert_array_equal(known, representation_baselines.codes(vae, e, images, "test"))


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_kept_and_computed_scores_are_the_same(finished: Path, kept: Path, monkeypatch: pytest.MonkeyPatch):
    computed = scores_of(finished)
    files = {path: path.read_bytes() for path in kept.glob("*.json")}
    assert len(files) == len(BASELINES) * 2
    with monkeypatch.context() as patch:
        patch.setattr(representation_baselines, "_raw_pixels", lambda x: pytest.fail("computed again"))
        patch.setattr(representation_baselines, "_untrained_codes", lambda e, data, x: pytest.fail("computed again"))
        assert scores_of(finished) == computed == {**scores_of(finished)}
    assert computed["baselines"] == read_json(finished / "representation.json")["baselines"]


def test_other_settings_are_other_scores(own_copy: Path, kept: Path):
    evaluate(Run(own_copy), digits())
    before = len(list(kept.glob("*.json")))
    evaluate(Run(own_copy), digits(), split="validation")
    assert len(list(kept.glob("*.json"))) == 2 * before


def test_damaged_results_are_computed_again(tmp_path: Path):
    calls = []
    wanted = {"a": ({"k": 1}, lambda: calls.append(1) or {"value": 0.1})}
    assert shared(tmp_path, wanted) == shared(tmp_path, wanted) == {"a": {"value": 0.1}}
    assert len(calls) == 1
    (file,) = tmp_path.glob("*.json")
    for damage in ("{", "[]", json.dumps({"key": {"k": 2}, "result": {}})):
        file.write_text(damage)
        assert shared(tmp_path, wanted) == {"a": {"value": 0.1}}
    assert len(calls) == 4


def test_a_folder_that_cannot_be_written_to_costs_no_result(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    assert shared(tmp_path / "file" / "folder", {"a": ({}, lambda: {"value": 1})}) == {"a": {"value": 1}}


def test_what_another_process_is_at_comes_last(tmp_path: Path):
    """It is waited for, and then taken as the other left it."""
    order = []

    def compute(name: str) -> dict:
        order.append(name)
        return {"value": name}

    wanted = {name: ({"name": name}, lambda name=name: compute(name)) for name in "abc"}
    shared(tmp_path, {"a": wanted["a"]})
    (file,) = tmp_path.glob("*.json")
    content = file.read_text()
    file.unlink()
    order.clear()
    held = threading.Event()

    def other() -> None:
        with FileLock(file.with_suffix(".lock")):
            held.set()
            while len(order) < 2:
                time.sleep(0.005)
            file.write_text(content)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    found = shared(tmp_path, wanted)
    thread.join()
    assert order == ["b", "c"]
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == {"value": "a"}
