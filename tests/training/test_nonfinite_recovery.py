"""Numbers that are none cost a step; many in a row send the run back with a smaller learning rate, twice; all of this is
counted, and the same however often the run is interrupted on its way."""

import json

import pytest
import torch
from small_runs import digits, results, tiny, trained

from mpdvae.errors import RunError
from mpdvae.runs.run_folder import Run
from mpdvae.system.signals import Stop, Stopped
from mpdvae.training import loop
from mpdvae.training.loop import train
from mpdvae.training.nonfinite_recovery import NotFinite

NINE = {"training__steps": 9}
TWO = NINE | {"training__recovery": {"skipped_in_a_row": 2}}


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Training images of these steps are no numbers."""
    batch = loop.training_batch

    def poisoned(images, indices, protocol, seed, step):
        return batch(images, indices, protocol, seed, step) * (torch.nan if step in steps else 1)

    monkeypatch.setattr(loop, "training_batch", poisoned)


def fragile(monkeypatch: pytest.MonkeyPatch, *steps: int, above: float = 0.0) -> None:
    """These steps meet a number that is none where the learning rate is above that."""
    make = loop.training_step

    def step(learner, data):
        if learner.progress.step in steps and learner.learning_rate > above:
            raise NotFinite("kl is nan")
        return make(learner, data)

    monkeypatch.setattr(loop, "training_step", step)


def weights(run: Run) -> dict[str, torch.Tensor]:
    """All that the newest checkpoint has but its sums."""
    found = run.load_checkpoint()
    assert found is not None
    return {name: tensor for name, tensor in found[0].items() if not name.startswith("tally/")}


# -- one step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder__head": {"kind": "batch-norm"}},
        {"objective__kl_weight": {"kind": "geco", "goal_nats": 20.0}},
        {"training__optimizer": "adamax"},
        {"training__inference": {"kind": "lagging", "encoder_steps": 2, "check_every": 1}},
    ],
    ids=str,
)
def test_a_poisoned_batch_moves_nothing(tmp_path, monkeypatch, changes):
    """Lagging inference draws images of its own before: there the encoder has moved, and only what follows is skipped."""
    poison(monkeypatch, 3)
    experiment = tiny(training__steps=4, training__evaluate_every=1, **changes)
    seen = []
    run = trained(tmp_path / "run", experiment, lambda done, entry: seen.append(weights(Run(tmp_path / "run"))))
    before, after = seen[2], seen[3]
    assert all(tensor.isfinite().all() for tensor in after.values())
    if "training__inference" not in changes:
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert [entry["skipped_steps"] for entry in run.history] == [0, 0, 0, 1]
    assert run.history[-1]["loss_nats"] is None
    assert run.manifest["skipped_steps"] == 1


def test_the_steps_around_a_poisoned_batch_are_made(tmp_path, monkeypatch):
    poison(monkeypatch, 1, 4)
    run = trained(tmp_path / "run", tiny(**NINE, training__decay_per_step=0.9))
    assert [entry["skipped_steps"] for entry in run.history] == [1, 1, 0]
    assert [entry["rollbacks"] for entry in run.history] == [0, 0, 0]
    assert all(entry["loss_nats"] > 0 for entry in run.history)
    assert run.history[-1]["learning_rate"] == pytest.approx(4e-3 * 0.9**9)  # the schedule goes by steps


def test_a_gradient_that_is_no_number_moves_nothing(tmp_path, monkeypatch):
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def infinite_once(moving, bound):
        calls.append(bound)
        return torch.tensor(torch.inf) if len(calls) == 2 else clip(moving, bound)

    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", infinite_once)
    run = trained(tmp_path / "run", tiny(training__steps=3))
    assert run.history[-1]["skipped_steps"] == 1


# -- going back --------------------------------------------------------------------------------------------------------


def test_many_in_a_row_send_the_run_back_with_a_smaller_rate(tmp_path, monkeypatch):
    fragile(monkeypatch, 4, 5, above=3e-3)
    run, said = Run.create(tmp_path / "run", tiny(**TWO, training__decay_per_step=1.0)), []
    train(run, digits(), say=said.append)
    words = "from step 6 back to step 3, learning rate 0.002 (kl is nan)"
    assert said == [f"training: {words}"]
    assert run.manifest["rollbacks"] == [words]
    assert [entry["step"] for entry in run.history] == [3, 6, 9]
    assert [entry["rollbacks"] for entry in run.history] == [0, 1, 1]
    assert [entry["learning_rate"] for entry in run.history] == [4e-3, 2e-3, 2e-3]
    assert run.manifest["skipped_steps"] == 0  # on the way that counts


def test_before_the_first_checkpoint_it_goes_back_to_the_start(tmp_path, monkeypatch):
    fragile(monkeypatch, 0, 1, above=3e-3)
    run = trained(tmp_path / "run", tiny(**TWO))
    assert run.manifest["rollbacks"] == ["from step 2 back to step 0, learning rate 0.002 (kl is nan)"]
    other = trained(tmp_path / "other", tiny(**TWO, training__learning_rate=2e-3))
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(run).items())


def test_a_second_return_to_one_checkpoint_has_a_smaller_rate_still(tmp_path, monkeypatch):
    fragile(monkeypatch, 4, 5, above=1.5e-3)
    run = trained(tmp_path / "run", tiny(**TWO, training__decay_per_step=1.0))
    assert [line.split(" (")[0].split(", ")[1] for line in run.manifest["rollbacks"]] == [
        "learning rate 0.002",
        "learning rate 0.001",
    ]
    assert run.history[-1]["learning_rate"] == 1e-3


@pytest.mark.parametrize("rollbacks", [0, 1, 2])
def test_after_the_last_return_the_run_ends_with_a_diagnosis(tmp_path, monkeypatch, rollbacks):
    fragile(monkeypatch, 4, 5)
    changes = {"training__recovery": {"skipped_in_a_row": 2, "rollbacks": rollbacks}}
    with pytest.raises(RunError, match=r"no longer a finite number at step 4: kl is nan, 2 steps in a row") as failure:
        trained(tmp_path / "run", tiny(**NINE | changes))
    assert str(failure.value).count("from step 6 back to step 3") == rollbacks
    assert "smaller training.learning-rate" in str(failure.value)
    found = Run(tmp_path / "run").load_checkpoint(passing=False)
    assert found is not None
    assert found[1]["step"] == 3


def test_a_return_leads_past_checkpoints_of_steps_that_were_skipped(tmp_path, monkeypatch):
    """Evaluated in the middle of a row: that is no place to go back to."""
    fragile(monkeypatch, 2, 3, 4, above=3e-3)
    changes = {"training__recovery": {"skipped_in_a_row": 3}, "training__evaluate_every": 2}
    run = trained(tmp_path / "run", tiny(**changes))
    assert run.manifest["rollbacks"][0].startswith("from step 5 back to step 2")
    assert {path.name for path in (run.path / "checkpoints").glob("*.json")} == {
        "step-00000004.json",
        "step-00000006.json",
    }


@pytest.mark.parametrize("stops", [(4,), (5,), (2, 5), (7,), (4, 6, 8)], ids=str)
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.slow
def test_interrupted_on_its_way_the_run_makes_the_same_returns(tmp_path, monkeypatch, stops, killed):
    fragile(monkeypatch, 1, above=0.0)
    fragile(monkeypatch, 4, 5, above=3e-3)
    intact = trained(tmp_path / "intact", tiny(**TWO))
    for at in stops:
        stop = Stop()

        def watch(done, entry, at=at, stop=stop):
            if done == at and killed:
                raise KeyboardInterrupt
            stop.asked_by = "SIGTERM" if done == at else stop.asked_by

        with pytest.raises(KeyboardInterrupt if killed else Stopped):
            train(Run.create(tmp_path / "run", tiny(**TWO)), digits(), watch, stop=stop)
    run = trained(tmp_path / "run", tiny(**TWO))
    assert results(run.path) == results(intact.path)
    assert run.manifest["rollbacks"] == intact.manifest["rollbacks"]


# -- for real ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [30.0, 1e6])
def test_a_rate_that_is_far_too_large_goes_back_twice_and_is_told(tmp_path, rate):
    with pytest.raises(
        RunError, match=r"after 2 rollbacks \(from step .*train again with a smaller training\.learning-rate"
    ):
        trained(
            tmp_path / "run", tiny(**NINE, training__learning_rate=rate, training__recovery={"skipped_in_a_row": 2})
        )


def test_configurations_and_checkpoints_of_before_are_taken_up(tmp_path):
    """They say nothing of recovery, and their checkpoints nothing of what was skipped."""
    run = trained(tmp_path / "run", tiny(training__steps=3))
    tree = json.loads((run.path / "experiment.json").read_text())
    del tree["training"]["recovery"]
    (run.path / "experiment.json").write_text(json.dumps(tree))
    path = run.path / "checkpoints" / "step-00000003.json"
    state = json.loads(path.read_text())
    for name in ("skipped", "skipped_in_a_row", "rollbacks", "tally", "state_sha256"):
        del state[name]
    del state["experiment"]["training"]["recovery"]
    path.write_text(json.dumps(state))
    found = Run(run.path).load_checkpoint()
    assert found is not None
    train(Run(run.path), digits())
