"""Kinds of parts by options: what the command line asks for is in the experiment, with the defaults of that kind."""

import pytest
import tyro
from command_line import asked_for, call
from small_runs import tiny

from mpdvae.commands.kind_options import kinds_beside, with_kinds
from mpdvae.errors import InputError
from mpdvae.experiments.encoder_config import MLPEncoder
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.head_config import DeltaHead
from mpdvae.experiments.kl_weight_config import GECOWeight, LinearWeight
from mpdvae.experiments.prior_config import FlowPrior, StandardNormalPrior, VampPrior
from mpdvae.experiments.recipes import recipe
from mpdvae.experiments.training_config import LaggingInference

VAE = "vae-digits-smoke"


def asked(*arguments: str) -> Experiment:
    return with_kinds(recipe(VAE), arguments)


def test_without_kinds_nothing_changes():
    assert asked() == recipe(VAE)
    assert asked("--prior.components", "3", "--seed", "5") == recipe(VAE)
    assert asked("--encoder.kind", "convnet") == recipe(VAE)  # with the sizes of the recipe


def test_a_kind_comes_with_its_defaults():
    assert asked("--prior.kind", "vamp").prior == VampPrior()
    assert asked("--encoder.kind=mlp").encoder == MLPEncoder()
    assert asked("--training.inference.kind", "lagging").training.inference == LaggingInference()
    assert asked("--prior.kind", "vamp", "--prior.kind", "standard-normal").prior == StandardNormalPrior()


def test_kinds_within_kinds_in_any_order_and_spelling():
    changed = asked("--encoder.head.kind", "delta", "--encoder.kind", "mlp", "--objective.kl_weight.kind", "geco")
    assert changed.encoder == MLPEncoder(head=DeltaHead())
    assert isinstance(changed.objective.kl_weight, GECOWeight)
    assert changed.data == recipe(VAE).data


def test_what_has_no_default_is_still_to_be_given():
    weight = asked("--objective.kl-weight.kind", "linear").objective.kl_weight
    assert isinstance(weight, LinearWeight)
    assert weight.warm_up_steps is tyro.MISSING
    assert weight.start == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prior.kind", "vemp"), "unknown kind of prior 'vemp': did you mean 'vamp'"),
        (
            ("--encoder.head.kind", "x"),
            "unknown kind of encoder.head 'x': expected one of: gaussian, delta, batch-norm, du",
        ),
    ],
)
def test_an_unknown_kind_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        asked(*arguments)


def test_all_kinds_of_a_union():
    assert kinds_beside(FlowPrior) == ("standard-normal", "flow", "map-flow", "ar1", "vamp")
    assert kinds_beside(DeltaHead) == ("gaussian", "delta", "batch-norm", "du")
    assert kinds_beside(LinearWeight) == ("constant", "linear", "cyclical", "soft-free-bits", "geco")
    assert kinds_beside(LaggingInference) == ("joint", "lagging")
    assert kinds_beside(Experiment) == ()


def test_a_kind_and_its_fields_from_the_command_line(tmp_path, monkeypatch):
    made = asked_for(
        monkeypatch, VAE, "--out", tmp_path / "run", "--prior.components", "7", "--prior.kind", "vamp",
        "--objective.kl-weight.kind", "linear", "--objective.kl-weight.warm-up-steps", "9",
    )  # fmt: skip
    weight = {"kind": "linear", "warm_up_steps": 9}
    assert made == with_changes(recipe(VAE), prior={"kind": "vamp", "components": 7}, objective__kl_weight=weight)


def test_an_experiment_file_can_change_its_kinds(tmp_path, monkeypatch):
    (tmp_path / "mine.json").write_text(tiny().to_json())
    arguments = (tmp_path / "mine.json", "--out", tmp_path / "run", "--prior.kind", "standard-normal")
    assert asked_for(monkeypatch, *arguments) == with_changes(tiny(), prior={"kind": "standard-normal"})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--objective.kl-weight.kind", "linear"), "--objective.kl-weight.warm-up-steps"),
        (("--prior.kind",), "--prior.kind: expected a value, got none"),
        (("--prior.kind", "ar1", "--latent-dim", "1"), "an AR(1) prior needs a sequence of at least 2 steps, got 1"),
        (("--prior.kind", "flow", "--encoder.head.kind", "delta"), "encoder.head: delta bounds the KL to N(0, I) only"),
        (("--prior.kind", "map-flow"), "prior: map-flow takes codes that are maps, but encoder convnet makes vectors"),
        (("--prior.components", "3"), "--prior.components"),
    ],
)
def test_mistakes_are_told(capsys, tmp_path, option, message):
    code, _, err = call(capsys, "train", VAE, "--out", tmp_path / "new", *option)
    assert code == 2
    assert message in err
    assert not (tmp_path / "new").exists()


def test_the_help_lists_the_kinds(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = call(capsys, "train", VAE, "--prior.kind", "vamp", "--help-all")
    words = " ".join(out.replace("│", " ").split())
    assert code == 0
    assert "--prior.kind {standard-normal,flow,map-flow,ar1,vamp} (default: vamp)" in words
    assert "--prior.components INT (default: 100)" in words
