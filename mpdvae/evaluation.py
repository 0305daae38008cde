"""Measures a trained run: density, diagnostics, information, use of the code, representation, a map of the codes and
pictures, as files in its folder.

Everything is measured with the averaged weights on fixed binary draws of the images, and every file names the command
that makes it again. Noise of the evaluation depends on no run's seed, so that models are compared on the same draws.
"""

import shlex
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae import code_use, density, diagnostics, information, pictures, representation, scoring
from mpdvae.data import Images, Protocol, Splits, evaluation_images
from mpdvae.errors import InputError
from mpdvae.runs import Run, load, write_atomically, write_json
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

MAP_CODES = 2_000
"""Test codes on the map."""
PICTURE_COLUMNS = 10
SAMPLE_ROWS = 4
INTERPOLATIONS = 4

Say = Callable[[str], None]
SPLITS = ("train", "validation", "test")


def evaluate(
    run: Run, data: Splits, samples: int | None = None, split: str = "test", say: Say = lambda _: None
) -> None:
    """Writes density.json, diagnostics.json, information.json, code_use.json, representation.json, codes.json and figures/
    of `run`.

    Arguments:
        run: with a trained model.
        data: of the run's experiment.
        samples: importance samples per image; None: as the experiment says.
        split: the images that density and diagnostics are measured on.
        say: told what comes next.

    Raises:
        InputError: no model in the folder, an unknown split, or data that it cannot take.
    """
    if split not in SPLITS:
        raise InputError(f"--split: expected one of {', '.join(SPLITS)}, got {split!r}.")
    started = time.perf_counter()
    vae, e = load(run.path), run.experiment
    protocol = e.data.protocol()
    samples = e.evaluation.density_samples if samples is None else samples
    command = ["mpdvae", "evaluate", str(run.path), "--samples", str(samples), "--split", split]
    again = {"command": shlex.join(command)}

    say("density")
    write_json(run.path / "density.json", _density(vae, run, data, protocol, split, samples) | again)
    say("diagnostics")
    x, labels = evaluation_images(_images(data, split), protocol, split, draws=1)
    write_json(run.path / "diagnostics.json", diagnostics.measure(vae, x).to_dict() | {"split": split} | again)
    say("information and use of the code")
    write_json(run.path / "information.json", _information(vae, run, x) | {"split": split} | again)
    write_json(run.path / "code_use.json", _code_use(vae, run, x) | {"split": split} | again)
    codes = scoring.codes(vae, e, _images(data, split), split)
    write_json(run.path / "codes.json", _map(codes, labels))
    reason = scoring.unscored_because(data, _images(data, split))
    say(reason or "representation")
    if not reason:
        scores = scoring.score(vae, e, data, _images(data, split), split, codes)
        write_json(run.path / "representation.json", scores | {"split": split} | again)
    if e.evaluation.pictures:
        say("pictures")
        draw_pictures(run, vae, x)
    seconds = round(time.perf_counter() - started, 1)
    run.note(status="finished", evaluation_seconds=seconds)


def draw_pictures(run: Run, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
    """Samples, reconstructions and interpolations, in figures/. All images of a kind are decoded in one call."""
    figures = run.path / "figures"
    columns = PICTURE_COLUMNS
    with seeded("pictures"):
        chosen = x[torch.randperm(len(x))[:columns].to(x.device)]
        samples = vae.sample(SAMPLE_ROWS * columns)
        reconstructions = vae.reconstruct(chosen, greedy=False)
        walks = vae.decode(interpolations(vae, chosen), greedy=False)
    grids = {
        "samples": pictures.in_rows(samples, columns),
        "reconstructions": torch.stack([chosen, reconstructions]),
        "interpolations": walks,
    }
    for name, images in grids.items():
        write_atomically(figures / f"{name}.png", pictures.png(run.experiment.data.shown(images)))


def interpolations(
    vae: VAE, x: Float[Tensor, "n channel height width"], columns: int = PICTURE_COLUMNS
) -> Float[Tensor, "walk column *latent"]:
    """Codes on straight lines between the posterior means of consecutive pairs of images."""
    z = vae.encode(x)
    z = z[: 2 * min(INTERPOLATIONS, len(z) // 2)]
    start, end = z[0::2, None], z[1::2, None]
    t = torch.linspace(0, 1, columns, device=z.device).reshape(1, columns, *[1] * (z.ndim - 1))
    return start + t * (end - start)


def _images(data: Splits, split: str) -> Images:
    return {"train": data.train, "validation": data.validation, "test": data.test}[split]


def _density(vae: VAE, run: Run, data: Splits, protocol: Protocol, split: str, samples: int) -> dict[str, Any]:
    images, wanted = _images(data, split), run.experiment.evaluation.density_images
    x, _ = evaluation_images(images, protocol, split, draws=None if wanted is None else 1)
    if wanted is not None and wanted < len(x):
        # A random subset, the same for all runs; never a prefix, which may be sorted by class.
        with seeded("density images"):
            x = x[torch.randperm(len(x))[:wanted].to(x.device)]
    estimate = density.estimate(vae, x, samples)
    of = {"split": split, "protocol": protocol.describe(data), "images_of_split": len(images)}
    return of | density.summarise(estimate)


def _information(vae: VAE, run: Run, x: Tensor) -> dict[str, Any]:
    q = representation.posteriors(vae, x)
    with torch.no_grad(), density.evaluating(vae):
        return information.measure(q, vae.prior(), run.experiment.evaluation.information_samples).to_dict()


def _code_use(vae: VAE, run: Run, x: Tensor) -> dict[str, Any]:
    wanted = run.experiment.evaluation.code_use_images
    with seeded("use of the code"):
        chosen = x[torch.randperm(len(x))[:wanted].to(x.device)]
    return code_use.measure(vae, chosen).to_dict() | {"images_of_split": len(x)}


def _map(codes: np.ndarray, labels: Tensor | None) -> dict[str, Any]:
    """The first two principal components of a random subset of codes."""
    from sklearn.decomposition import PCA

    chosen = np.random.default_rng(0).permutation(len(codes))[:MAP_CODES]
    components = min(2, codes.shape[1])
    pca = PCA(components, svd_solver="full").fit(codes)
    points = np.zeros((len(chosen), 2))
    points[:, :components] = pca.transform(codes[chosen])
    explained = [*pca.explained_variance_ratio_.tolist(), 0.0][:2]
    return {
        "x": points[:, 0].round(4).tolist(),
        "y": points[:, 1].round(4).tolist(),
        "labels": None if labels is None else labels.cpu().numpy()[chosen].tolist(),
        "explained_variance": [0.0 if np.isnan(share) else share for share in explained],
    }


def traversal(
    vae: VAE, x: Float[Tensor, "n channel height width"], dimensions: int, columns: int, reach: float = 3.0
) -> Float[Tensor, "dimension column *latent"]:
    """Codes around that of the first image, each row along one of the most informative dimensions, `reach` standard
    deviations of the codes of `x` to either side."""
    q = representation.posteriors(vae, x)
    information = diagnostics.information_per_dimension(q)
    if not 1 <= dimensions <= information.numel():
        raise InputError(f"--dimensions: expected 1 to {information.numel()} latent dimensions, got {dimensions}.")
    means = q.mean.flatten(1)
    spread = (means.var(0) + q.variance.flatten(1).mean(0)).sqrt()
    steps = torch.linspace(-reach, reach, columns, device=x.device)
    if columns < 1:
        raise InputError(f"--columns: expected a number >= 1, got {columns}.")
    walk = means[0].to(x.dtype).repeat(dimensions, columns, 1)
    for row, k in enumerate(information.argsort(descending=True)[:dimensions].tolist()):
        walk[row, :, k] = means[:, k].mean() + steps * spread[k]
    return walk.unflatten(-1, vae.encode(x[:1]).shape[1:])
