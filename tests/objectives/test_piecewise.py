"""Batches piece by piece: the loss and the gradient of the whole batch, in the memory of a piece."""

from dataclasses import replace

import pytest
import torch
from constructors import shaken
from small_runs import digits, files, interrupted, results, tiny, trained

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.objectives.terms import Objective
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

KINDS = {
    "mae": ("mae-digits-smoke", {}),
    "vae": ("vae-digits-smoke", {}),
    "several draws": ("mae-digits-smoke", {"objective__samples": 3}),
    "importance-weighted": ("vae-digits-smoke", {"objective__importance_weighted": True, "objective__samples": 4}),
    "mmd": ("info-vae-digits-smoke", {}),
    "total correlation": ("beta-tc-vae-digits-smoke", {}),
    "density gap": ("density-gap-digits-smoke", {}),
    "free bits": ("free-bits-digits-smoke", {}),
    "vampprior": ("vampprior-digits-smoke", {}),
    "delta": ("delta-vae-digits-smoke", {}),
    "classes": ("mae-digits-smoke", {"data__condition_classes": 10}),
}


def made(kind: str) -> tuple[Experiment, VAE, torch.Tensor]:
    from mpdvae.data import training_batch

    name, changes = KINDS[kind]
    experiment = tiny(name, **changes)
    vae = shaken(experiment.build((1, 8, 8)), 0.05).double()
    x = training_batch(digits().train, torch.arange(11), experiment.data.protocol(), 0, 0).double()
    return experiment, vae, x


def step(objective: Objective, vae: VAE, x: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    """Returns the loss, and its gradient in every parameter."""
    moving = [p for p in vae.parameters() if p.requires_grad]
    vae.zero_grad(set_to_none=True)
    with seeded("step"):
        loss = objective(vae, x, 3)
        loss.forward.backward(loss.total, moving)
    return loss.total.item(), [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in moving]


@pytest.mark.parametrize("images_at_once", [1, 4, 11, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_the_whole_batch(kind, images_at_once):
    experiment, vae, x = made(kind)
    objective = experiment.objective.build()
    loss, gradient = step(objective, vae, x)
    same, by_pieces = step(replace(objective, images_at_once=images_at_once), vae, x)
    assert same == pytest.approx(loss, rel=1e-10)
    assert max(g.abs().max().item() for g in gradient) > 1e-3
    for one, other in zip(gradient, by_pieces, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-9)


def test_networks_with_noise_of_their_own_draw_it_once():
    """Dropout: the gradient is that of the loss, with the same units left out in both passes of a piece."""
    experiment, vae, x = made("vae")
    vae.decoder.body.insert(0, torch.nn.Dropout(0.5))
    objective = replace(experiment.objective.build(), images_at_once=4)
    moving = list(vae.parameters())
    loss, gradient = step(objective, vae, x)
    with torch.no_grad():
        largest = max(range(len(moving)), key=lambda i: gradient[i].abs().max().item())
        index = gradient[largest].abs().argmax()
        losses = []
        for change in (1e-5, -1e-5):
            moving[largest].view(-1)[index] += change
            losses.append(step_value(objective, vae, x))
            moving[largest].view(-1)[index] -= change
    assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(gradient[largest].view(-1)[index].item(), rel=1e-4)
    assert loss == pytest.approx(sum(losses) / 2, rel=1e-6)


def step_value(objective: Objective, vae: VAE, x: torch.Tensor) -> float:
    with torch.enable_grad(), seeded("step"):
        return objective(vae, x, 3).total.item()


def test_a_run_by_pieces_is_that_of_whole_batches_but_for_rounding_and_resumes_to_the_byte(tmp_path):
    whole = trained(tmp_path / "whole", tiny())
    pieces = tiny(training__images_at_once=7)
    run = trained(tmp_path / "pieces", pieces)
    for one, other in zip(whole.history, run.history, strict=True):
        assert other["loss_nats"] == pytest.approx(one["loss_nats"], rel=1e-5)
        assert other["negative_elbo_nats"] == pytest.approx(one["negative_elbo_nats"], rel=1e-5)
    assert results(interrupted(tmp_path / "resumed", pieces, 2, 5).path) == results(run.path)
    assert "images_at_once" not in (tmp_path / "whole" / "experiment.json").read_text()
    assert files(tmp_path / "pieces").keys() == files(tmp_path / "whole").keys()


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        ("bn-vae-digits-smoke", "encoder.head batch-norm, which needs the statistics of a whole batch"),
        ("du-vae-digits-smoke", "encoder.head du"),
        ("semi-amortised-digits-smoke", "encoder.refinement_steps"),
        ("latent-reconstruction-digits-smoke", "objective.latent_reconstruction_weight"),
    ],
)
def test_what_needs_the_whole_batch_is_refused(recipe, what):
    with pytest.raises(InputError, match=f"training.images_at_once: does not go with {what}"):
        tiny(recipe, training__images_at_once=7)
