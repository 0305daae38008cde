"""The training loop: a run is a function of its configuration, however often it is interrupted, and does what it says."""

import json
import math
from dataclasses import replace

import pytest
import torch
from small_runs import digits, initial_weights, interrupted, part, results, tiny, trained
from torch import optim

import mpdvae
from mpdvae.errors import InputError, RunError
from mpdvae.runs.run_folder import Run
from mpdvae.training import loop
from mpdvae.training.learner_state import Learner, Progress
from mpdvae.training.loop import train
from mpdvae.training.validation import Validation, validate

NINE = {"training__steps": 9}
STILL = {"training__learning_rate": 1e-30, "training__evaluate_every": 1}
"""Weights that do not move, seen after each step."""


def standing_still(vae, x, samples, seed) -> Validation:
    """Instead of `validate`: an evaluation that never gets better."""
    return replace(validate(vae, x, samples, seed), negative_elbo_nats=50.0)


# -- a function of the configuration -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return results(trained(tmp_path_factory.mktemp("whole") / "run", tiny(**NINE)).path)


def test_the_same_seed_gives_the_same_bytes(uninterrupted, tmp_path):
    torch.manual_seed(99)  # the ambient generator has no say
    torch.rand(5)
    assert results(trained(tmp_path / "again", tiny(**NINE)).path) == uninterrupted


def test_another_seed_gives_another_model(uninterrupted, tmp_path):
    other = results(trained(tmp_path / "other", tiny(**NINE, seed=1)).path)
    assert other["model/model.safetensors"] != uninterrupted["model/model.safetensors"]
    assert other["history.jsonl"] != uninterrupted["history.jsonl"]


@pytest.mark.parametrize("steps", [(1,), (3,), (4,), (8,), (9,), (2, 5, 7)], ids=str)
def test_a_resumed_run_ends_with_the_same_bytes(uninterrupted, tmp_path, steps):
    assert results(interrupted(tmp_path / "run", tiny(**NINE), *steps).path) == uninterrupted


@pytest.mark.parametrize(
    "changes",
    [
        {"training__optimizer": "adamax", "training__decay_per_step": 0.9, "training__averaging_warm_up": True},
        {"objective": {"autoencoder": True}},
        {"data__binarisation": "static", "data__evaluation_draws": 1},
        {"data__flip": True, "data__shift": 1},
        {"prior": {"kind": "standard-normal"}, "objective__samples": 2, "training__clip_norm": None},
    ],
    ids=str,
)
def test_resuming_holds_for_other_configurations(tmp_path, changes):
    experiment = tiny(**changes)
    whole = results(trained(tmp_path / "whole", experiment).path)
    assert results(interrupted(tmp_path / "run", experiment, 4).path) == whole


@pytest.mark.parametrize(
    "changes", [{}, {"objective__kl_weight": {"kind": "geco", "goal_nats": 20.0}}], ids=["fixed", "adaptive"]
)
def test_a_checkpoint_of_before_there_was_anything_adaptive_is_taken_up(tmp_path, changes):
    """What it lacks is as at the start, so that where nothing adapts the run ends with the same bytes."""
    experiment, folder = tiny(**changes), tmp_path / "run"
    whole = trained(tmp_path / "whole", experiment)

    def stop(done: int, entry) -> None:
        if done == 3:
            (path,) = (folder / "checkpoints").glob("*.json")
            state = json.loads(path.read_text())
            del state["objective"], state["inference"], state["state_sha256"]
            path.write_text(json.dumps(state))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(folder, experiment, stop)
    again, last = trained(folder, experiment), "checkpoints/step-00000006.safetensors"
    assert ((again.path / last).read_bytes() == (whole.path / last).read_bytes()) == (not changes)


def test_an_interruption_while_a_checkpoint_is_written_costs_nothing(uninterrupted, tmp_path, monkeypatch):
    save = Run.save_checkpoint

    def fail_at_six(run, step, *rest):
        if step == 6:
            raise KeyboardInterrupt
        save(run, step, *rest)

    monkeypatch.setattr(Run, "save_checkpoint", fail_at_six)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", tiny(**NINE))
    monkeypatch.setattr(Run, "save_checkpoint", save)
    assert [entry["step"] for entry in Run(tmp_path / "run").history] == [3, 6]
    assert results(trained(tmp_path / "run", tiny(**NINE)).path) == uninterrupted


def test_a_damaged_checkpoint_costs_its_steps_only(uninterrupted, tmp_path):
    run = trained(tmp_path / "run", tiny(**NINE))
    (run.path / "checkpoints" / "step-00000009.safetensors").write_bytes(b"")
    assert results(trained(tmp_path / "run", tiny(**NINE)).path) == uninterrupted


def test_a_finished_training_is_not_done_again(tmp_path):
    run = trained(tmp_path / "run", tiny(training__steps=3))
    train(run, digits(), watch=lambda done, entry: pytest.fail("a step was made"))
    assert run.status == "trained"


# -- history -----------------------------------------------------------------------------------------------------------


def test_the_history_says_what_was_measured(tmp_path):
    run = trained(tmp_path / "run", tiny(training__steps=7, training__decay_per_step=0.9))
    assert [entry["step"] for entry in run.history] == [3, 6, 7]
    for entry in run.history:
        assert entry["loss_nats"] == pytest.approx(sum(entry["terms_nats"].values()))
        assert entry["terms_nats"].keys() == {"reconstruction", "kl", "diversity", "smoothness"}
        assert entry["negative_elbo_nats"] == pytest.approx(entry["reconstruction_nats"] + entry["kl_nats"])
        assert entry["learning_rate"] == pytest.approx(4e-3 * 0.9 ** entry["step"])
        assert entry["epoch"] == pytest.approx(entry["step"] / (1297 // 20), abs=1e-6)
        assert 0 <= entry["active_units"] <= entry["latent_dim"] == 8
        assert "units carry" in entry["verdict"]


def test_terms_are_means_over_the_steps_since_the_last_entry(tmp_path):
    def of(folder: str, every: int) -> list[float]:
        run = trained(tmp_path / folder, tiny(**STILL | {"training__evaluate_every": every}))
        return [entry["terms_nats"]["reconstruction"] for entry in run.history]

    each, thirds = of("each", 1), of("thirds", 3)
    assert thirds == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3])


# -- what a step does --------------------------------------------------------------------------------------------------


def test_weights_are_initialised_by_data_before_the_first_step(tmp_path):
    experiment = tiny(**STILL, training__steps=1)
    weights = part(trained(tmp_path / "run", experiment), "model/")
    drawn = experiment.build((1, 8, 8))
    for name, initial in initial_weights(experiment).items():
        assert torch.allclose(weights[name], initial), name
    assert not all(torch.allclose(weights[name], parameter) for name, parameter in drawn.named_parameters())


@pytest.mark.parametrize(
    ("warm_up", "decays"),
    [(False, [0.7, 0.7, 0.7, 0.7]), (True, [2 / 11, 3 / 12, 0.3, 0.3])],
    ids=["fixed", "warm-up"],
)
def test_averaged_weights_are_the_moving_average_of_the_weights(tmp_path, warm_up, decays):
    changes = {"training__averaging": 0.3 if warm_up else 0.7, "training__averaging_warm_up": warm_up}
    experiment = tiny(training__steps=4, training__evaluate_every=1, **changes)
    expected, seen = initial_weights(experiment), []

    def watch(done, entry):
        run = Run(tmp_path / "run")
        weights, averages = part(run, "model/"), part(run, "average/module.")
        decay = decays[done - 1]
        for name in expected:
            expected[name] = decay * expected[name] + (1 - decay) * weights[name]
            torch.testing.assert_close(averages[name], expected[name])
        seen.append(done)

    trained(tmp_path / "run", experiment, watch)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("bound", [0.01, None])
def test_the_gradient_is_clipped(tmp_path, monkeypatch, bound):
    norms, step = [], optim.Adam.step

    def noting(self, *arguments):
        squares = [p.grad.square().sum() for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack(squares).sum().sqrt().item())
        return step(self, *arguments)

    monkeypatch.setattr(optim.Adam, "step", noting)
    trained(tmp_path / "run", tiny(training__clip_norm=bound))
    assert len(norms) == 6
    if bound is None:
        assert min(norms) > 1
    else:
        assert norms == pytest.approx([bound] * 6, rel=1e-3)


def kl_terms(folder, weight) -> list[float]:
    run = trained(folder, tiny(**STILL, objective={"kl_weight": weight}))
    return [entry["terms_nats"]["kl"] for entry in run.history]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ({"kind": "constant", "value": 0.25}, [0.25] * 6),
        ({"kind": "linear", "warm_up_steps": 6}, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),
        ({"kind": "linear", "warm_up_steps": 2, "start": 0.5}, [0.5, 0.75, 1, 1, 1, 1]),
        ({"kind": "cyclical", "total_steps": 6, "cycles": 2}, [0, 2 / 3, 1, 0, 2 / 3, 1]),
    ],
    ids=str,
)
def test_the_schedule_of_the_kl_reaches_the_loss(tmp_path, weight, expected):
    raw = kl_terms(tmp_path / "raw", {"kind": "constant", "value": 1.0})
    assert kl_terms(tmp_path / "run", weight) == pytest.approx([w * kl for w, kl in zip(expected, raw, strict=True)])


def test_an_autoencoder_learns_to_reconstruct(tmp_path):
    run = trained(tmp_path / "run", tiny("vae-digits-smoke", objective={"autoencoder": True}, training__steps=30))
    assert {tuple(entry["terms_nats"]) for entry in run.history} == {("reconstruction",)}
    assert run.history[-1]["loss_nats"] < run.history[0]["loss_nats"] - 5


def test_training_makes_the_model_better(tmp_path):
    run = trained(tmp_path / "run", tiny("vae-digits-smoke", training__steps=30))
    assert run.history[-1]["negative_elbo_nats"] < run.history[0]["negative_elbo_nats"] - 5


# -- plateaus, selection, the end --------------------------------------------------------------------------------------


def evaluations_without_progress(count: int, **changes) -> tuple[list[tuple[float, bool]], Progress]:
    """(learning rate, whether the optimiser is a fresh one) after each of `count`, and the progress at the end."""
    experiment = tiny("vae-digits-smoke", training__learning_rate=1.0, **changes)
    learner, seen = Learner.start(experiment, digits()), []
    for _ in range(count):
        former = learner.optimizer
        assert not learner.judge(float("inf"))
        seen.append((learner.learning_rate, learner.optimizer is not former))
    return seen, learner.progress


def plateau(patience: int, limit: int = 3, factor: float = 0.5) -> dict:
    return {"training__plateau": {"patience": patience, "limit": limit, "factor": factor}}


def test_the_rate_is_halved_at_the_first_evaluation_after_patience_is_used_up():
    seen, progress = evaluations_without_progress(6, **plateau(2))
    assert seen == [(1.0, False), (1.0, False), (0.5, True), (0.5, False), (0.5, False), (0.25, True)]
    assert (progress.plateaus, progress.evaluations_without_progress, progress.stopped) == (2, 0, "")


def test_the_last_plateau_stops_training():
    for before in (5, 8):
        assert evaluations_without_progress(before, **plateau(2))[1].stopped == ""
    _, progress = evaluations_without_progress(9, **plateau(2))
    assert progress.stopped == "validation stood still 3 times"


def test_a_rate_below_the_least_stops_training_even_when_it_makes_progress(tmp_path):
    run = trained(tmp_path, tiny(training__steps=9, training__evaluate_every=1, training__decay_per_step=0.3))
    assert run.manifest["stopped"] == "the learning rate fell below 0.05 of the first"
    assert run.history[-1]["step"] == 3  # 0.3^2 = 0.09, 0.3^3 = 0.027


def test_the_moments_may_be_kept_at_a_plateau():
    seen, _ = evaluations_without_progress(3, training__plateau={"patience": 1, "fresh_optimizer": False})
    assert seen == [(1.0, False), (0.5, False), (0.5, False)]


def test_without_plateau_training_goes_on():
    seen, progress = evaluations_without_progress(9, training__plateau=None)
    assert set(seen) == {(1.0, False)}
    assert progress.stopped == ""


STOPPING = {**plateau(1, limit=2), "training__steps": 9, "training__evaluate_every": 1, "training__decay_per_step": 1.0}


@pytest.mark.parametrize("stop", [None, 2, 3, 4, 5])
def test_a_run_that_stands_still_ends_early_however_often_it_is_interrupted(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(loop, "validate", standing_still)
    whole = trained(tmp_path / "whole", tiny(**STOPPING))
    assert [entry["step"] for entry in whole.history] == [1, 2, 3, 4, 5]
    assert [entry["learning_rate"] for entry in whole.history] == [4e-3, 4e-3, 4e-3, 2e-3, 2e-3]
    assert whole.manifest["stopped"] == "validation stood still 2 times"
    if stop:
        assert results(interrupted(tmp_path / "run", tiny(**STOPPING), stop).path) == results(whole.path)


def test_the_best_model_is_kept_and_returned(tmp_path, monkeypatch):
    """Validation gets worse after the first evaluation: its model stays."""
    monkeypatch.setattr(loop, "validate", standing_still)
    first = trained(tmp_path / "first", tiny(training__steps=3))
    run = Run.create(tmp_path / "run", tiny(training__steps=6))
    returned = train(run, digits())
    assert not returned.training
    for vae in (returned, mpdvae.load(run.path)):
        for name, parameter in mpdvae.load(first.path).named_parameters():
            assert torch.equal(parameter, vae.get_parameter(name)), name


# -- failures ----------------------------------------------------------------------------------------------------------


AT_ONCE = {"training__recovery": {"skipped_in_a_row": 1, "rollbacks": 0}}
"""Training ends at the first number that is none; test_recovery.py has what else may be done about it."""


def diverging_norm(call: int):
    """Instead of torch's clipping: the gradient's norm is no number at that call."""
    calls = []

    def clip(parameters, bound):
        calls.append(bound)
        return torch.tensor(math.nan if len(calls) == call else 1.0)

    return clip


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_its_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", diverging_norm(call=5))
    with pytest.raises(RunError, match=r"no longer a finite number at step 4: .*smaller training\.learning-rate"):
        trained(tmp_path / "run", tiny(**AT_ONCE))
    run = Run(tmp_path / "run")
    found = run.load_checkpoint()
    assert found is not None
    assert found[1]["step"] == 3
    assert [entry["step"] for entry in run.history] == [3]
    assert run.status == "training"


@pytest.mark.parametrize("name", ["vae-digits-smoke", "mae-digits-smoke"])
@pytest.mark.parametrize("rate", [10.0, 1e3, 1e6])
@pytest.mark.parametrize("every", [1, 3])
def test_too_large_a_rate_is_told_in_one_sentence(tmp_path, name, rate, every):
    with pytest.raises(RunError, match=r"^training: .* train again with a smaller training\.learning-rate") as failure:
        trained(tmp_path / "run", tiny(name, training__learning_rate=rate, training__evaluate_every=every, **AT_ONCE))
    assert "\n" not in str(failure.value)


def test_a_measure_that_is_no_number_ends_the_run(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        return replace(validate(*arguments, **options), information_per_dimension_nats=[1.0, math.nan])

    monkeypatch.setattr(loop, "validate", broken)
    with pytest.raises(RunError, match="no longer a finite number at step 3"):
        trained(tmp_path / "run", tiny())


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="batch_size is 2000, but there are only 1297 training images"):
        trained(tmp_path / "run", tiny(training__batch_size=2000))
