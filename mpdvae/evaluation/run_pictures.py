"""Pictures of a trained model: samples, reconstructions and interpolations of a run, and the codes of walks through the
latent space.

The noise is seeded by the name of the picture, not by the run, so that the pictures of two models differ by the models.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.evaluation import image_grids, interpolation
from mpdvae.measures import code_diagnostics, representation
from mpdvae.measures.memory_budget import drawn_in_pieces, in_pieces
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.system.atomic_files import write_atomically
from mpdvae.vae import VAE

COLUMNS = 10
SAMPLE_ROWS = 4
INTERPOLATIONS = 4


def draw_pictures(run: Run, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
    """Writes samples, reconstructions and interpolations to figures/. All images of each are decoded together."""
    with torch.no_grad(), seeded("pictures"):
        chosen = x[torch.randperm(len(x))[:COLUMNS].to(x.device)]
        codes = vae.prior().sample((SAMPLE_ROWS * COLUMNS,))
    between, own = interpolations(vae, chosen), vae.told_of(chosen)
    starts = None if own is None else own[: 2 * len(between)][0::2].repeat_interleave(COLUMNS, 0)
    grids = {
        "samples": image_grids.in_rows(_drawn(vae, codes, "samples"), COLUMNS),
        "reconstructions": torch.stack([chosen, _drawn(vae, _encoded(vae, chosen), "reconstructions", own)]),
        "interpolations": _drawn(vae, between.flatten(0, 1), "interpolations", starts).unflatten(0, between.shape[:2]),
    }
    for name, images in grids.items():
        write_atomically(run.folder / "figures" / f"{name}.png", image_grids.png(run.experiment.data.shown(images)))


def interpolations(
    vae: VAE, x: Float[Tensor, "n channel height width"], columns: int = COLUMNS
) -> Float[Tensor, "walk column *latent"]:
    """Returns codes on straight lines between the posterior means of consecutive pairs of images."""
    z = _encoded(vae, x[: 2 * min(INTERPOLATIONS, len(x) // 2)])
    return interpolation.linear(z[0::2], z[1::2], columns).transpose(0, 1)


def traversal(
    vae: VAE, x: Float[Tensor, "n channel height width"], dimensions: int, columns: int, reach: float = 3.0
) -> Float[Tensor, "dimension column *latent"]:
    """Returns codes around that of the first image. Each row moves along one of the most informative dimensions, by `reach`
    standard deviations of the codes of `x` to either side."""
    q = representation.posteriors(vae, x)
    information = code_diagnostics.information_per_dimension(q)
    if not 1 <= dimensions <= information.numel():
        raise InputError(f"--dimensions: expected 1 to {information.numel()} latent dimensions, got {dimensions}.")
    means = q.mean.flatten(1)
    spread = (means.var(0) + q.variance.flatten(1).mean(0)).sqrt()
    if columns < 1:
        raise InputError(f"--columns: expected a number >= 1, got {columns}.")
    steps = torch.linspace(-reach, reach, columns)
    walk = means[0].to(x.dtype).repeat(dimensions, columns, 1)
    for row, k in enumerate(information.argsort(descending=True)[:dimensions].tolist()):
        walk[row, :, k] = means[:, k].mean() + steps * spread[k]
    return walk.unflatten(-1, vae.encode(x[:1]).shape[1:]).to(x.device)


def _encoded(vae: VAE, x: Tensor) -> Tensor:
    """Returns the posterior mean of each image, computed in chunks that fit in memory."""
    return in_pieces(lambda rows: vae.encode(x[rows]), len(x))


def _drawn(vae: VAE, z: Tensor, name: str, told: Tensor | None = None) -> Tensor:
    """Draws an image for each code, in chunks that fit in memory; `name` is a key of the noise, `told` the condition that
    a conditional model gives them."""

    def part(rows: slice) -> Tensor:
        return vae.decode_told(z[rows], None if told is None else told[rows], greedy=False)

    return drawn_in_pieces(part, len(z), "pictures", name)
