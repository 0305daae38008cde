"""Step rules: which parts move when, how long the encoder catches up, and when it no longer lags."""

import pytest
import torch
from small_runs import initial_weights, interrupted, part, tiny, trained
from torch.distributions import Independent, Normal

from mpdvae.errors import InputError
from mpdvae.objectives import step_rules
from mpdvae.objectives.step_rules import Joint, Lagging
from mpdvae.runs.run_folder import Run
from mpdvae.training import loop

LAGGING = {"kind": "lagging", "encoder_steps": 3, "check_every": 1, "patience": 1}


def caught_up(losses: list[float], **settings) -> int:
    """Encoder steps that are made, where they have these losses."""
    made = []

    def encoder_step(number: int) -> float:
        made.append(number)
        return losses[number]

    Lagging(**settings).catch_up(encoder_step)
    assert made == list(range(len(made)))
    return len(made)


@pytest.mark.parametrize(
    ("losses", "settings", "expected"),
    [
        ([9, 8, 7, 6, 5], {"encoder_steps": 5, "check_every": 1}, 5),
        ([9, 8, 8, 7, 6], {"encoder_steps": 5, "check_every": 1}, 3),
        ([9, 8, 7, 10, 6], {"encoder_steps": 5, "check_every": 2}, 4),
        ([9, 9, 8, 9, 7, 6, 8], {"encoder_steps": 7, "check_every": 2}, 7),
        ([1, 2, 3, 4], {"encoder_steps": 4, "check_every": 10}, 4),
    ],
)
def test_the_encoder_catches_up_until_its_loss_no_longer_falls(losses, settings, expected):
    assert caught_up([float(loss) for loss in losses], **settings) == expected


def test_the_defaults_are_those_of_the_paper():
    assert caught_up([-float(k) for k in range(200)]) == 100
    assert caught_up([0.0] * 200) == 20


def test_it_goes_on_until_the_mutual_information_has_failed_to_rise(monkeypatch):
    informations = iter([1.0, 2.0, 1.5, 2.5, 2.5, 9.9])
    monkeypatch.setattr(step_rules, "posteriors", lambda vae, x: Independent(Normal(torch.zeros(2), torch.ones(2)), 1))
    monkeypatch.setattr(step_rules, "mutual_information", lambda q: (next(informations), 0.0))
    rule, vae, aggressive = Lagging(patience=2), tiny().build((1, 8, 8)), []
    for _ in range(6):
        rule.evaluated(vae, torch.zeros(2, 1, 8, 8))
        aggressive.append(bool(rule.state["aggressive"]))
    assert aggressive == [True, True, True, True, False, False]
    assert rule.state["best_mutual_information_nats"] == 2.5
    assert next(informations) == 9.9  # no longer measured
    rule.catch_up(lambda number: pytest.fail("the encoder no longer lags"))
    assert rule.moving(vae) == list(vae.parameters())


def test_a_joint_step_moves_everything():
    vae = tiny().build((1, 8, 8))
    Joint().catch_up(lambda number: pytest.fail("nothing to catch up"))
    assert Joint().moving(vae) == list(vae.parameters())
    assert Joint().state == {}


def test_encoder_steps_leave_decoder_and_prior_and_decoder_steps_leave_the_encoder(tmp_path, monkeypatch):
    """The weights before and after each update of a run of two steps."""
    moved, update = [], loop._update

    def noting(loss, moving, optimizer, clip_norm):
        everything = [p for group in optimizer.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in everything]
        norm = update(loss, moving, optimizer, clip_norm)
        chosen = {id(p) for p in moving}
        changed = [not torch.equal(a, b) for a, b in zip(before, everything, strict=True)]
        assert not any(c for c, p in zip(changed, everything, strict=True) if id(p) not in chosen)
        assert any(c for c, p in zip(changed, everything, strict=True) if id(p) in chosen)
        moved.append(len(moving))
        return norm

    monkeypatch.setattr(loop, "_update", noting)
    experiment = tiny(training__inference=LAGGING, training__steps=2, training__evaluate_every=2)
    trained(tmp_path / "run", experiment)
    vae = experiment.build((1, 8, 8))
    encoder, all_parts = (sum(1 for _ in module.parameters()) for module in (vae.encoder, vae))
    assert {encoder, all_parts - encoder} == set(moved)
    assert moved.count(all_parts - encoder) == 2
    assert 4 <= moved.count(encoder) <= 6


def test_batches_of_the_encoder_are_fresh(tmp_path, monkeypatch):
    seen, batch = [], loop.training_batch

    def noting(images, indices, protocol, seed, step):
        seen.append(tuple(indices.tolist()))
        return batch(images, indices, protocol, seed, step)

    monkeypatch.setattr(loop, "training_batch", noting)
    trained(tmp_path / "run", tiny(training__inference=LAGGING, training__steps=2))
    assert len(seen) == len(set(seen)) >= 6


@pytest.mark.parametrize(
    "changes",
    [
        {"training__inference": LAGGING},
        {"objective__kl_weight": {"kind": "soft-free-bits", "target_nats": 5.0}},
        {"objective__kl_weight": {"kind": "geco", "goal_nats": 20.0}},
        {"prior": {"kind": "standard-normal"}, "encoder__head": {"kind": "batch-norm"}},
    ],
    ids=str,
)
def test_what_changes_besides_weights_survives_an_interruption(tmp_path, changes):
    experiment = tiny(**changes)
    whole, again = trained(tmp_path / "whole", experiment), interrupted(tmp_path / "run", experiment, 4)
    for folder in ("checkpoints/step-00000006.json", "model/model.safetensors", "history.jsonl"):
        assert (whole.path / folder).read_bytes() == (again.path / folder).read_bytes()
    checkpoint = Run(whole.path).load_checkpoint()
    assert checkpoint is not None
    state = checkpoint[1]["objective"] | checkpoint[1]["inference"]
    assert bool(state) == ("encoder__head" not in changes)


def test_running_statistics_are_averaged_and_saved(tmp_path):
    experiment = tiny(
        prior={"kind": "standard-normal"},
        encoder__head={"kind": "batch-norm"},
        training__steps=3,
        training__evaluate_every=1,
        training__averaging=0.7,
    )
    name, expected = "encoder.head.norm.running_mean", torch.zeros(8)
    assert name not in initial_weights(experiment)  # a buffer; zero at the start

    def watch(done, entry):
        nonlocal expected
        run = Run(tmp_path / "run")
        expected = 0.7 * expected + 0.3 * part(run, "model/")[name]
        torch.testing.assert_close(part(run, "average/module.")[name], expected)

    run = trained(tmp_path / "run", experiment, watch)
    assert expected.abs().min() > 0
    from mpdvae import load

    vae = load(run.path)
    assert not vae.encoder.head.norm.training
    assert vae.encoder.head.norm.running_mean.abs().min() > 0


@pytest.mark.parametrize("settings", [{"encoder_steps": 0}, {"check_every": 0}, {"patience": 0}])
def test_impossible_rules_are_refused(settings):
    with pytest.raises(InputError, match="lagging inference: expected encoder_steps, check_every and patience >= 1"):
        Lagging(**settings)
