"""What a matrix costs, counted without running it."""

import time

import pytest
from command_line import call

from mpdvae.experiments.decoder_config import PixelCNNDecoder, PixelCNNPPDecoder
from mpdvae.experiments.encoder_config import ConvNetEncoder, DenseNetEncoder
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.prior_config import FlowPrior, MapFlowPrior
from mpdvae.experiments.recipes import all_recipes, matrix, recipe
from mpdvae.workflows import matrix_cost as room
from mpdvae.workflows.matrix_cost import count_operations, plan

BINARY = Experiment(
    data={"dataset": "digits"},
    latent_dim=3,
    encoder=ConvNetEncoder(channels=(4,)),
    decoder=PixelCNNDecoder(channels=4, kernel_sizes=(3, 3), condition_channels=2),
    prior=FlowPrior(blocks=1, hidden_features=8),
    training={"batch_size": 5},
)
COLOUR = Experiment(
    data={"dataset": "cifar10", "binarisation": "levels", "evaluation_draws": 1},
    latent_dim=4,
    encoder=DenseNetEncoder(growths=(2, 2), steps=(1, 1), features=8),
    decoder=PixelCNNPPDecoder(channels=8, levels=1, blocks=1, doublings=1, components=2),
    prior=MapFlowPrior(blocks=1, hidden_channels=8, hidden_layers=1),
    training={"batch_size": 3},
)
SMALL = {
    **{name: e for name, e in all_recipes().items() if e.scale == "smoke" and "grid" not in e.model},
    "several samples": with_changes(BINARY, objective__samples=3),
    "refined posteriors": with_changes(BINARY, encoder__refinement_steps=2),
    "colour": COLOUR,
}


@pytest.mark.parametrize("experiment", SMALL.values(), ids=list(SMALL))
def test_counting_without_computing_gives_the_count_of_the_computation(experiment):
    assert count_operations(experiment) == count_operations(experiment, "cpu")


def test_a_matrix_product_is_counted_by_hand():
    """A decoder of one layer after an encoder of one layer: 64 -> 2 x 3, 3 -> 64 numbers for each of 5 images. Backward takes
    two products for one of forward, but for the images, which need no gradient."""
    sizes = {"hidden_features": (7,)}
    e = with_changes(
        BINARY,
        encoder={"kind": "mlp", **sizes},
        decoder={"kind": "mlp", **sizes},
        prior={"kind": "standard-normal"},
    )
    first, others = 64 * 7, 7 * 2 * 3 + 3 * 7 + 7 * 64
    assert count_operations(e).multiply_adds == 5 * (2 * first + 3 * others)


def test_the_count_is_proportional_to_the_batch():
    once, twice = (count_operations(with_changes(BINARY, training__batch_size=b)) for b in (50, 100))
    assert twice.multiply_adds == 2 * once.multiply_adds
    assert twice.parameters == once.parameters


def test_equal_networks_are_counted_once(monkeypatch):
    counted = []
    monkeypatch.setattr(room, "count_operations", lambda e: counted.append(e.name) or room.Operations(1, 2))
    plans = plan(matrix("paper", ("mnist", "omniglot-burda-lying", "cifar10")))
    of = ["vae-{}-paper", "vae-pixelcnn-{}-paper", "vlae-{}-paper"]
    assert counted == [name.format(data) for data in ("mnist", "cifar10") for name in of]
    assert len(plans) == 18
    assert all(p.hours is None for p in plans)


def test_gpu_hours_follow_the_formula():
    e = recipe("mae-mnist-paper")
    p = room.Plan(e, room.Operations(parameters=1, multiply_adds=2_500_000), step_seconds=3.6)
    assert p.gpu_hours == pytest.approx(580_000 * 2.5e6 / 2.5e12 / 3600)
    assert p.hours == pytest.approx(580.0)


@pytest.mark.slow
def test_the_largest_network_is_counted_in_seconds_of_work():
    """It has 48 million weights, and a step of it takes a CPU most of a minute."""
    started = time.process_time()
    found = count_operations(recipe("mae-cifar10-paper"))
    assert time.process_time() - started < 60
    assert found.parameters == 48_364_918


def test_a_dry_run_says_what_the_matrix_costs(capsys):
    code, out, _ = call(capsys, "reproduce", "--scale", "smoke", "--dry-run", "--seeds", "2")
    assert code == 0
    assert "2 seeds: 12 runs." in out
    assert "GPU-hours of training" in out
    assert "On this machine" not in out


def test_timing_is_asked_for(capsys, monkeypatch):
    monkeypatch.setattr("mpdvae.experiments.recipes.matrix", lambda scale, datasets: [recipe("vae-digits-smoke")])
    code, out, _ = call(capsys, "reproduce", "--scale", "smoke", "--dry-run", "--timed")
    assert code == 0
    assert "s / step" in out
    assert "On this machine: about" in out


def test_timing_without_a_dry_run_is_refused(capsys):
    code, _, err = call(capsys, "reproduce", "--scale", "smoke", "--timed")
    assert code == 2
    assert "--timed" in err
