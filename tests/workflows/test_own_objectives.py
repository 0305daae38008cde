"""Objectives in Python: terms that are functions train, resume and are measured like those of the package."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import asked_for, call
from torch import nn

import mpdvae
from mpdvae.divergence import smoothness_term
from mpdvae.errors import InputError
from mpdvae.experiments import own_parts
from mpdvae.experiments.experiment import from_json
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.models import GaussianEncoder, StandardNormal, mlp_decoder
from mpdvae.objectives import (
    GECO,
    KL,
    Diversity,
    Linear,
    Objective,
    Smoothness,
    importance_weighted,
    reconstruction,
)
from mpdvae.runs.run_folder import Run
from mpdvae.training import loop
from mpdvae.vae import VAE
from mpdvae.workflows.own_models import fit

TRAINING = {"epochs": 2, "batch_size": 20, "latent_dim": 3}


def small(image_shape, latent_dim):
    encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent_dim)), image_shape)
    return VAE(encoder, mlp_decoder(image_shape, latent_dim, (5,)), StandardNormal((latent_dim,)))


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    monkeypatch.setenv(own_parts.PATHS, "")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((120, 8, 8))


# -- terms that equal those of the package -------------------------------------------------------------------------------


def own_kl(forward, step):
    return forward.kl.mean()


def own_warmed_up_kl(forward, step):
    return min(1.0, step / 8) * forward.kl.mean()


def own_smoothness(forward):
    return smoothness_term(forward.own_q, 0.5)


def own_reconstruction(forward):
    return -forward.log_likelihood.mean(0).mean()


def own_bound(forward, step):
    return math.log(3) - forward.log_weights.logsumexp(0).mean()


ELBO = {"reconstruction": reconstruction, "kl": KL()}
EQUALS = {
    "kl": (Objective({"reconstruction": reconstruction, "kl": own_kl}), None),
    "scheduled kl": (
        Objective({"reconstruction": reconstruction, "kl": own_warmed_up_kl}),
        Objective({"reconstruction": reconstruction, "kl": KL(Linear(8))}),
    ),
    "reconstruction": (Objective({"mine": own_reconstruction, "kl": KL()}), None),
    "added": (own_smoothness, Objective(ELBO | {"smoothness": Smoothness(0.5)})),
    "with fields": ({"regulariser": own_smoothness, "samples": 2}, {"smoothness_weight": 0.5, "samples": 2}),
    "of the package alone": (Smoothness(0.5), {"smoothness_weight": 0.5}),
    "bound": (Objective({"mine": own_bound}, samples=3), {"importance_weighted": True, "samples": 3}),
    "several": (
        Objective({"reconstruction": own_reconstruction, "kl": own_kl, "smooth": own_smoothness}),
        {"smoothness_weight": 0.5},
    ),
}


@pytest.mark.parametrize(("mine", "same"), EQUALS.values(), ids=EQUALS)
def test_a_term_that_equals_one_of_the_package_trains_the_same_weights(mine, same, images, tmp_path):
    one, other = (
        fit(small, images, objective, out=tmp_path / name, **TRAINING).state_dict()
        for name, objective in (("mine", mine), ("same", same))
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_terms_are_columns_of_the_learning_curves(images, tmp_path):
    objective = Objective({"rec": reconstruction, "smooth": own_smoothness, "diverse": Diversity(0.1), "b": own_kl})
    fit(small, images, objective, out=tmp_path / "run", **TRAINING)
    entry = Run(tmp_path / "run").history[-1]
    names = {"reconstruction", "diversity", "own-smoothness", "own-kl"}
    assert entry["terms_nats"].keys() == names
    assert entry["gradient_norms"].keys() == names | {"total"}
    recorded = json.loads((tmp_path / "run" / "experiment.json").read_text())["objective"]
    assert recorded["elbo_terms"] == "reconstruction"
    assert recorded["regulariser"] == {"kind": "own-smoothness", "defined_in": f"{__name__}.own_smoothness"}
    assert [part["kind"] for part in recorded["further_regularisers"]] == ["own-kl"]


def weighted(forward, step, *, weight: float = 0.5, over: str = "total"):
    return smoothness_term(forward.own_q, weight, over)


def test_options_of_a_term_are_recorded(images, tmp_path):
    made = fit(small, images, partial(weighted, over="dimensions"), out=tmp_path / "run", **TRAINING)
    recorded = json.loads((tmp_path / "run" / "experiment.json").read_text())["objective"]["regulariser"]
    assert (recorded["weight"], recorded["over"]) == (0.5, "dimensions")
    same = fit(small, images, Smoothness(0.5, "dimensions"), out=tmp_path / "same", **TRAINING)
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    with pytest.raises(InputError, match=r"objective\.regulariser\.weigth: there is no such field"):
        fit(small, images, partial(weighted, weigth=1.0), out=tmp_path / "other", **TRAINING)


def test_a_registered_regulariser_is_given_as_its_function(images, tmp_path):
    @mpdvae.part("regulariser")
    def sparse(*, weight: float = 0.1):
        return lambda forward, step: weight * forward.q.mean.abs().sum(-1).mean()

    fit(small, images, partial(sparse, weight=0.2), out=tmp_path / "run", **TRAINING)
    recorded = json.loads((tmp_path / "run" / "experiment.json").read_text())["objective"]["regulariser"]
    assert (recorded["kind"], recorded["weight"]) == ("sparse", 0.2)


# -- stopping, resuming, other processes ---------------------------------------------------------------------------------


OBJECTIVES = {
    "function": own_smoothness,
    "lambda": lambda forward: 0.1 * forward.q.mean.square().mean(),
    "several": Objective(
        {"r": own_reconstruction, "kl": KL(weight := GECO(30.0)), "s": own_smoothness}, adaptive=weight
    ),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_stopped_run_ends_with_the_same_bytes(objective, images, tmp_path, monkeypatch):
    """Stopped before its third step, which is before any checkpoint, and again before its eighth."""

    def run(name: str) -> VAE:
        return fit(small, images, objective, out=tmp_path / name, **TRAINING)

    run("whole")
    original = loop.training_step
    for stop in (2, 7):

        def stopping(learner, data, stop=stop):
            if learner.progress.step == stop:
                raise KeyboardInterrupt
            return original(learner, data)

        monkeypatch.setattr(loop, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("parts")
    monkeypatch.setattr(loop, "training_step", original)
    run("parts")
    for name in ("model/model.safetensors", "experiment.json", "history.jsonl"):
        one, other = (tmp_path / run / name for run in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes(), name


def powered(power):
    """A term called `changing`, whose power is in no option."""

    def changing(forward):
        return 0.01 * forward.q.mean.abs().pow(power).mean()

    return changing


@pytest.mark.parametrize("finished", [True, False])
def test_a_term_that_has_changed_is_told_from_the_one_that_was_trained(finished, images, tmp_path, monkeypatch):
    original = loop.training_step

    def stopping(learner, data):
        if learner.progress.step == 7:  # after the first evaluation point
            raise KeyboardInterrupt
        return original(learner, data)

    if finished:
        fit(small, images, powered(1), out=tmp_path / "run", **TRAINING)
    else:
        monkeypatch.setattr(loop, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            fit(small, images, powered(1), out=tmp_path / "run", **TRAINING)
        monkeypatch.setattr(loop, "training_step", original)
    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    with pytest.raises(
        InputError, match=r"the code of the term changing \(.*\) has changed since these weights were saved"
    ):
        fit(small, images, powered(2), out=tmp_path / "run", **TRAINING)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    assert mpdvae.load(tmp_path / "run").latent_shape == (3,)  # the model is what it was
    fit(small, images, powered(1), out=tmp_path / "run", **TRAINING)


FILE = """
import mpdvae
from mpdvae.models import GaussianEncoder, StandardNormal, mlp_decoder
from mpdvae.objectives import KL, Objective, reconstruction
from torch import nn

def filed_model(image_shape, latent_dim):
    encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent_dim)), image_shape)
    return mpdvae.VAE(encoder, mlp_decoder(image_shape, latent_dim, (4,)), StandardNormal((latent_dim,)))

def filed_term(forward, *, weight: float = 0.1):
    return weight * forward.q.mean.abs().sum(-1).mean()

def filed_kl(forward, step):
    return 0.5 * forward.kl.mean()

if __name__ == "__main__":
    terms = {"reconstruction": reconstruction, "kl": TERM, "mine": filed_term}
    mpdvae.fit(filed_model, "digits", Objective(terms), out="run", epochs=1, latent_dim=3)
"""


def test_other_processes_find_terms_in_their_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE.replace("TERM", "filed_kl"))
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    options = ["--samples", "3", "--images", "4"]
    code, _, err = call(capsys, "report", "run", "--out", "report.html")
    assert code == 0, err
    for words in (
        ["evaluate", "run", *options],
        ["diagnose", "run"],
        ["sample", "run", "--out", "x.png"],
        ["resume", "run"],
    ):
        code, _, err = call(capsys, *words, "--parts", "mine.py")
        assert code == 0, err
    Path("changed.py").write_text(FILE.replace("TERM", "filed_kl").replace(".abs()", ".square()"))
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    monkeypatch.setenv(own_parts.PATHS, "")
    Path("mine.py").write_text(Path("changed.py").read_text())
    code, _, err = call(capsys, "evaluate", "run", *options, "--parts", "mine.py")
    assert code == 2
    assert "the code of the term filed-term (mine.filed_term) has changed" in err
    sys.modules.pop("mine", None)


def test_a_term_without_a_name_is_told_where_it_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE.replace("TERM", "lambda forward: forward.kl.mean()"))
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code, _, err = call(capsys, "sample", "run", "--out", "x.png", "--parts", "mine.py")
    assert code == 0, err
    code, _, err = call(capsys, "evaluate", "run", "--parts", "mine.py")
    assert code == 2
    assert (
        "regulariser: the kind term (mine.<lambda>) is not one of the package's and not known here; it has no name"
        in err
    )
    sys.modules.pop("mine", None)


# -- what cannot be trained ----------------------------------------------------------------------------------------------


def failing(forward):
    raise KeyError("of my own")


def of_each_image(forward):
    return forward.kl


def of_steps(forward, step):
    return [forward.kl.mean(), forward.kl.mean()][step]


def no_number(forward):
    return forward.kl.mean() / 0 - forward.kl.mean() / 0


def whole_number(forward):
    return torch.tensor(3)


def item(forward):
    return forward.kl.mean().item()


def untyped(forward, weight=0.1):
    return weight * forward.kl.mean()


def kl(forward):
    return forward.kl.mean()


def factory():
    return own_kl


class Term:
    def __call__(self, forward, step):
        return forward.kl.mean()


WRONG = {
    "exception": (
        failing,
        r"^objective: the term failing of 3 images at step 0 failed at test_own_objectives\.py, line \d+, "
        r"\(KeyError: 'of my own'\); mpdvae\.objectives\.ForwardPass says what it has\.",
    ),
    "exception at the end": (of_steps, r"^objective: the term of-steps of 3 images at step 8 failed at test_own_obj"),
    "shape": (
        of_each_image,
        r"^objective: expected the term of-each-image of 3 images at step 0 to be a tensor of one finite number, its mean "
        r"over the images in nats, got one of shape \(3,\); see test_own_objectives\.of_each_image\.",
    ),
    "not finite": (no_number, r"of one finite number, .*, got nan;"),
    "of integers": (whole_number, r"of one finite number, .*, got one of torch\.int64;"),
    "of Python": (item, r"of one finite number, .*, got a float;"),
    "None": (lambda forward: None, r"^objective: expected the term term .*, got a NoneType;"),
    "option without type": (untyped, r"^untyped: cannot make an option of its parameter weight=0\.1;"),
    "name of the package's": (kl, r"^kl: the package has a regulariser of this name"),
    "function of nothing": (
        factory,
        r"^objective: expected factory to be a term, a function of \(forward\) or \(forward, s",
    ),
    "object": (
        Term(),
        r"^objective: expected a term of your own to be a function \(def\), got a Term; write one, with",
    ),
    "partial by position": (
        partial(own_kl, 1),
        r"^objective: expected a term of your own to be a function \(def\), got own_kl",
    ),
    "number": (3, r"^objective: expected weights of terms, such as .*, or a term of your own, got a int\."),
    "list": ([own_kl], r"got a list\."),
    "dictionary of terms": (
        {"kl": own_kl},
        r"got a dictionary with the term kl; put it in mpdvae\.objectives\.Objective",
    ),
    "twice": (
        Objective(ELBO | {"a": own_smoothness, "b": own_smoothness}),
        r"^objective: further_regularisers: two terms are called own-smoothness",
    ),
    "package's twice": (Objective(ELBO | {"again": KL()}), r"each term of the package once, got KL twice"),
    "reconstruction twice": (Objective(ELBO | {"again": reconstruction}), r"once, got reconstruction twice"),
    "no reconstruction": (
        Objective({"kl": KL()}),
        r"elbo_terms: kl leaves out the reconstruction, and no term of your own",
    ),
    "own schedule": (
        Objective({"reconstruction": reconstruction, "kl": KL(lambda step: 0.5)}),
        r"^objective: expected a weight of the KL from mpdvae\.objectives \(Linear, Cyclical \.\.\.\), got <lambda>;",
    ),
    "adaptive": (Objective({"reconstruction": reconstruction, "kl": KL(GECO(3.0))}), r"adaptive=weight\)"),
    "no noise": (
        Objective(ELBO, noise=False),
        r"^objective: noise=False makes an autoencoder, .* reconstruction and kl;",
    ),
    "pieces": (Objective(ELBO, images_at_once=5), r"^objective: images_at_once is a setting of training"),
    "two bounds": (
        Objective(ELBO | {"iw": importance_weighted}, samples=2),
        r"^objective: importance_weighted takes the place of reconstruction and KL, got reconstruction too",
    ),
}


@pytest.mark.parametrize(("objective", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_trained_is_a_sentence_before_anything_is_written(objective, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(small, images, objective, out=tmp_path / "run", **TRAINING)
    assert not (tmp_path / "run").exists()


def test_an_experiment_with_terms_survives_json(images, tmp_path):
    fit(small, images, Objective(ELBO | {"a": own_kl, "b": own_smoothness}), out=tmp_path / "run", **TRAINING)
    text = (tmp_path / "run" / "experiment.json").read_text()
    assert from_json(text, "x").to_json() == text
    own_parts._KNOWN.members.clear()
    unknown = from_json(text, "x")
    assert json.loads(unknown.to_json()) == json.loads(text)
    assert [part.kind for part in unknown.objective.own_terms] == ["own-kl", "own-smoothness"]
    assert "further_regularisers" not in ObjectiveConfig().model_dump()


def test_the_command_line_trains_all_terms_of_a_recorded_experiment(images, tmp_path, monkeypatch):
    """Also those for which it has no option."""
    fit(small, images, Objective(ELBO | {"a": own_kl, "b": own_smoothness}), out=tmp_path / "run", **TRAINING)
    path = tmp_path / "run" / "experiment.json"
    asked = asked_for(monkeypatch, path, "--out", tmp_path / "again", "--objective.mmd-weight", "2")
    assert [part.kind for part in asked.objective.own_terms] == ["own-kl", "own-smoothness"]
    assert asked.objective.mmd_weight == 2.0
