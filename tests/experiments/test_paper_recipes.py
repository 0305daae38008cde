"""One step of every recipe of scale `paper`, on its real networks: forward, backward, update, evaluation of two images.

Recipes that differ in numbers only (the grid of weights, the data set behind equal networks) are taken once; of those for
colour images with equal networks, the one with all terms.
"""

import pytest
import torch

from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.recipes import all_recipes
from mpdvae.measures.density import estimate
from mpdvae.workflows.matrix_cost import image_shape_of

pytestmark = pytest.mark.slow


def once_each() -> list[Experiment]:
    """One experiment for each set of networks and, on small images, terms."""
    found: dict[tuple, Experiment] = {}
    for e in sorted(all_recipes().values(), key=lambda e: -len(e.objective.build().terms)):
        if e.scale == "paper":
            colour = e.encoder.codes == "maps"
            terms = () if colour else (tuple(e.objective.build().terms), e.objective.free_bits_nats > 0)
            found.setdefault((e.encoder, e.decoder, e.prior, e.latent_dim, e.training.optimizer, terms), e)
    return list(found.values())


def blobs(count: int, shape: tuple[int, int, int], levels: bool) -> torch.Tensor:
    """Images with some structure: coarse noise, enlarged."""
    channel, *size = shape
    smooth = torch.nn.functional.interpolate(torch.rand(count, channel, 4, 4), size, mode="bilinear")
    return (smooth * 255).round() / 127.5 - 1 if levels else (smooth > 0.6).float()


@pytest.mark.parametrize("experiment", once_each(), ids=lambda e: e.name)
def test_one_step(experiment):
    shape = image_shape_of(experiment)
    torch.manual_seed(0)
    images = blobs(2 if shape[0] == 3 else 64, shape, experiment.data.binarisation == "levels")
    vae, x = experiment.build(shape), images[:2]
    vae.initialise(images)
    kind = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}[experiment.training.optimizer]
    optimizer = kind(vae.parameters(), lr=experiment.training.learning_rate, betas=experiment.training.betas)
    before = [p.detach().clone() for p in vae.parameters()]
    loss = experiment.objective.build()(vae.train(), x)
    assert torch.isfinite(loss.total)
    loss.total.backward()
    without = [name for name, p in vae.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    optimizer.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, vae.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    found = estimate(vae, x, samples=2, proposal="encoder")
    assert torch.isfinite(found.log_prob).all()
    assert (found.elbo <= found.log_prob + 1e-6).all()
