"""The fastest variant that agrees is taken, and a run does not notice that steps were timed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from command_line import call
from small_runs import TINY_OPTIONS, digits, files, results, tiny, trained

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import recipe
from mpdvae.runs.records import Manifest, check
from mpdvae.runs.run_folder import Run
from mpdvae.system import process_group
from mpdvae.training.fastest_step import (
    TOLERANCE,
    VARIANTS,
    Choice,
    LearnerSteps,
    Untried,
    Variant,
    fastest,
    is_undecided,
    kept_in,
    with_variant,
)
from mpdvae.training.nonfinite_recovery import NotFinite
from mpdvae.workflows import precision_choice
from mpdvae.workflows.precision_choice import decided, noted

RECIPE = "mae-digits-smoke"
FLOAT32, BFLOAT16, FLOAT32_COMPILED, BFLOAT16_COMPILED = (variant.name for variant in VARIANTS)
LONG = 1_000_000
"""Steps of a run that pays back compiling."""
CHOICE = Choice("bfloat16", False, {FLOAT32: 0.2, BFLOAT16: 0.1}, {FLOAT32_COMPILED: "not tried"})


class Fake:
    """Steps whose seconds and losses are given, by the name of the variant."""

    def __init__(self, seconds: dict[str, float], losses: dict[str, float] | None = None, compiling: float = 0.0):
        self.seconds, self.losses, self.compiling = seconds, losses or {}, compiling
        self.tried: list[str] = []
        self.taken: dict[str, int] = {}

    def __call__(self, experiment: Experiment, data: object) -> "FakeSteps":
        t = experiment.training
        assert t.precision != "auto"
        self.tried.append(Variant(t.precision, t.compile).name)
        return FakeSteps(self, self.tried[-1])


class FakeSteps:
    def __init__(self, of: Fake, name: str) -> None:
        self.of, self.name = of, name

    def loss(self) -> tuple[float, float]:
        return self.of.compiling if "compiled" in self.name else 0.0, self.of.losses.get(self.name, 100.0)

    def take(self, count: int) -> tuple[float, float]:
        self.of.taken[self.name] = self.of.taken.get(self.name, 0) + count
        return count * self.of.seconds[self.name], 100.0


def chosen(fake, run_steps: int = LONG, **more) -> Choice:
    return fastest(tiny(training__precision="auto"), digits(), run_steps=run_steps, steps_of=fake, **more)


def seconds(*of_each: float) -> dict[str, float]:
    return dict(zip((variant.name for variant in VARIANTS), of_each, strict=True))


# -- the choice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", VARIANTS)
def test_the_fastest_is_taken(fast):
    times = seconds(0.12, 0.11, 0.12, 0.11) | {fast.name: 0.1}
    choice = chosen(Fake(times))
    assert choice.variant == fast
    assert choice.step_seconds == pytest.approx(times)
    assert choice.left_out == {}


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 100 * (1 + 2 * TOLERANCE), -100.0, 0.0])
def test_a_wrong_loss_is_never_taken_however_fast(loss):
    fake = Fake(seconds(0.1, 1e-6, 0.1, 1e-6), {BFLOAT16: loss, BFLOAT16_COMPILED: loss})
    choice = chosen(fake)
    assert choice.precision == "float32"
    assert choice.left_out[BFLOAT16].startswith("left out: its loss is ")
    assert BFLOAT16 not in choice.step_seconds


def test_a_loss_within_the_tolerance_is_taken():
    assert chosen(Fake(seconds(0.1, 0.05, 0.1, 0.1), {BFLOAT16: 100 * (1 + 0.9 * TOLERANCE)})).precision == "bfloat16"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (NotFinite("a step"), "left out: its loss is not finite"),
        (RuntimeError("no such kernel"), "left out: it fails with RuntimeError"),
        (Untried("torch.compile does not work here"), "not tried: torch.compile does not work here"),
    ],
)
def test_a_variant_that_fails_is_left_out(error, why):
    fake = Fake(seconds(0.1, 0.05, 0.1, 0.1))

    def failing(experiment, data):
        if experiment.training.precision == "bfloat16":
            raise error
        return fake(experiment, data)

    choice = chosen(failing)
    assert choice.variant == VARIANTS[0]
    assert choice.left_out[BFLOAT16] == why


def test_a_reference_that_fails_is_told():
    def failing(experiment, data):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        chosen(failing)


def test_without_a_finite_reference_nothing_agrees():
    choice = chosen(Fake(seconds(0.1, 0.05, 0.1, 0.1), {FLOAT32: float("inf")}))
    assert choice.variant == VARIANTS[0]
    assert choice.step_seconds == {}


def test_a_short_run_is_not_compiled():
    fake = Fake(seconds(0.1, 0.1, 0.001, 0.001))
    choice = chosen(fake, run_steps=100)
    assert fake.tried == [FLOAT32, BFLOAT16]
    assert choice.left_out[FLOAT32_COMPILED] == "not tried: could not pay back compiling it"


def test_compiling_must_pay_back_within_the_run():
    """10,000 steps save 100 seconds."""
    times = seconds(0.1, 0.2, 0.09, 0.2)
    assert chosen(Fake(times, compiling=90.0), run_steps=10_000).variant == Variant("float32", True)
    assert chosen(Fake(times, compiling=110.0), run_steps=10_000).variant == Variant("float32", False)


def test_a_slow_variant_is_abandoned():
    fake = Fake(seconds(0.1, 1.0, 0.1, 1.0))
    choice = chosen(fake)
    assert choice.left_out[BFLOAT16] == "abandoned after 3 steps"
    assert fake.taken[BFLOAT16] == 2 + 3
    assert BFLOAT16_COMPILED not in fake.tried  # not even twice as fast would be enough


def test_variants_that_the_experiment_refuses_are_not_tried():
    fake = Fake(seconds(0.1, 0.1, 0.1, 0.1))
    experiment = tiny(encoder__refinement_steps=2, training__precision="auto")
    fastest(experiment, digits(), run_steps=LONG, steps_of=fake)
    assert fake.tried == [FLOAT32, BFLOAT16]


def test_only_given_variants_are_tried_besides_the_reference():
    fake = Fake(seconds(0.1, 0.01, 0.1, 0.1))
    assert chosen(fake, variants=[VARIANTS[2]]).variant != VARIANTS[1]
    assert fake.tried == [FLOAT32, FLOAT32_COMPILED]


def test_the_first_process_decides(monkeypatch):
    """All times and losses are those of the first process, whatever they are here."""
    monkeypatch.setattr("mpdvae.training.fastest_step.of_first", lambda value: 1.0)
    choice = chosen(Fake(seconds(0.1, 0.01, 0.1, 0.1), {FLOAT32: 5.0}), run_steps=1)
    assert choice.variant == VARIANTS[0]
    assert set(choice.step_seconds.values()) == {1.0}
    assert process_group.of_first(3.5) == 3.5  # alone


def test_a_choice_in_words_is_a_line():
    line = "seconds per training step: float32 0.2 s, bfloat16 0.1 s, float32 compiled (not tried); taken: bfloat16"
    assert CHOICE.in_words() == line


# -- real steps --------------------------------------------------------------------------------------------------------


def test_real_steps_of_a_recipe():
    """In both precisions, within the tolerance; nothing else draws differently afterwards."""
    before = torch.get_rng_state()
    choice = fastest(with_changes(recipe(RECIPE), training__precision="auto"), digits())
    assert torch.equal(torch.get_rng_state(), before)
    assert set(choice.step_seconds) == {FLOAT32, BFLOAT16}
    assert all(value > 0 for value in choice.step_seconds.values())
    assert not any("loss" in why for why in choice.left_out.values())


def test_the_loss_is_that_of_the_first_step():
    steps = LearnerSteps(tiny(), digits())
    assert steps.loss()[1] == steps.loss()[1] == steps.take(1)[1]
    assert LearnerSteps(tiny(), digits()).take(3)[1] == steps.take(2)[1]


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(Untried, match=r"torch\.compile does not work here"):
        LearnerSteps(tiny(training__compile=True), digits())


def test_a_run_does_not_notice_the_timing(tmp_path):
    experiment = tiny(training__precision="auto")
    ready, choice = decided(tmp_path / "auto", experiment, digits)
    assert choice is not None
    trained(tmp_path / "auto", ready)
    given = {"training__precision": choice.precision, "training__compile": choice.compile}
    trained(tmp_path / "given", tiny(**given))
    assert results(tmp_path / "auto") == results(tmp_path / "given")


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def timed(monkeypatch) -> list[Experiment]:
    """Nothing is timed; the experiments that would be."""
    asked: list[Experiment] = []

    def choose(experiment, data, *rest):
        asked.append(experiment)
        return CHOICE

    monkeypatch.setattr(precision_choice, "fastest", choose)
    return asked


def test_the_same_command_again_takes_the_choice_of_the_folder(tmp_path, capsys, timed):
    out = tmp_path / "run"
    command = ("train", RECIPE, *TINY_OPTIONS, "--training.precision", "auto", "--out", out)
    code, told, err = call(capsys, *command)
    assert (code, err) == (0, "")
    assert CHOICE.in_words() in told.splitlines()
    assert '"auto"' not in (out / "experiment.json").read_text()
    assert '"auto"' not in (out / "model" / "experiment.json").read_text()
    run = Run(out)
    assert (run.experiment, run.status) == (tiny(training__precision="bfloat16"), "finished")
    assert run.manifest["fastest_step"] == json.loads(json.dumps(asdict(CHOICE)))
    before = files(out)
    assert call(capsys, *command)[0] == 0
    assert call(capsys, "resume", out)[0] == 0
    assert files(out) == before
    assert len(timed) == 1


def test_a_folder_of_another_run_is_refused_before_anything_is_timed(tmp_path, capsys, timed):
    Run.create(tmp_path, tiny(latent_dim=3))
    command = ("train", RECIPE, *TINY_OPTIONS, "--training.precision", "auto", "--out", tmp_path)
    code, _, err = call(capsys, *command)
    assert code == 2
    assert "already holds another run (it differs in latent_dim)" in err
    assert timed == []


def test_a_folder_keeps_what_was_given_explicitly(tmp_path):
    undecided = tiny(training__precision="auto")
    assert is_undecided(undecided)
    assert kept_in(tmp_path, undecided) is None
    for variant in VARIANTS:
        Run.create(tmp_path / variant.name, with_variant(tiny(), variant))
        assert kept_in(tmp_path / variant.name, undecided) == with_variant(tiny(), variant)
        assert decided(tmp_path / variant.name, undecided, digits)[1] is None


def test_a_run_folder_never_holds_auto(tmp_path):
    with pytest.raises(
        InputError, match=r"training\.precision: expected float32 or bfloat16 in a run folder, got auto"
    ):
        Run.create(tmp_path / "new", tiny(training__precision="auto"))
    assert not (tmp_path / "new").exists()


def test_the_manifest_is_checked(tmp_path):
    run = noted(Run.create(tmp_path, tiny()), CHOICE)
    assert check(Manifest, {}, "manifest.json", "advice") == {}
    with pytest.raises(InputError, match="is damaged"):
        check(Manifest, run.manifest | {"fastest_step": {"precision": 1}}, "manifest.json", "advice")
    assert noted(run, None).manifest["fastest_step"]["precision"] == "bfloat16"
    assert replace(CHOICE, compile=True).variant == Variant("bfloat16", True)


def test_a_decided_experiment_is_left_as_it_is(tmp_path):
    assert decided(Path(tmp_path), tiny(), digits) == (tiny(), None)
