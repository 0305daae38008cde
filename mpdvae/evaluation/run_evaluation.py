"""Measures a trained run and writes files to its folder: density, diagnostics, information, use of the code,
representation, disentanglement, a map of the codes, and pictures.

Everything is measured with the averaged weights on fixed binary draws of the images, and every file records the command
that recreates it. The noise of the evaluation does not depend on a run's seed, so that models are compared on the same
draws.
"""

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from mpdvae.data import Splits, evaluation_images
from mpdvae.errors import InputError
from mpdvae.evaluation import disentanglement, image_grids, interpolation, representation_baselines
from mpdvae.evaluation.exploration import explore
from mpdvae.evaluation.likelihood_check import judge
from mpdvae.evaluation.likelihood_precision import Choice, bfloat16_decoder, decided
from mpdvae.evaluation.run_likelihood import (
    Measurement,
    Request,
    Watch,
    measure,
    partial_results,
    prepare,
    summary,
    table,
)
from mpdvae.measures import code_diagnostics, code_use, density, information, representation
from mpdvae.measures.importance_sampling import ProposalName
from mpdvae.measures.linear_threshold import measure_linear_threshold
from mpdvae.measures.memory_budget import drawn_in_pieces, in_pieces, shortage_told
from mpdvae.models.acceleration import compile_networks
from mpdvae.report import schema
from mpdvae.runs.checksums import recording
from mpdvae.runs.model_folder import load
from mpdvae.runs.records import Probed
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.system.process_group import is_first
from mpdvae.system.untrusted_text import encodable
from mpdvae.training.validation import probe
from mpdvae.vae import VAE

MAP_CODES = 2_000
"""Number of test codes on the map."""
LAG_IMAGES = 32
"""Number of test images whose posteriors are refined: more than at an evaluation point, so that the error is small."""
PICTURE_COLUMNS = 10
SAMPLE_ROWS = 4
INTERPOLATIONS = 4
INFORMATION_METHOD = 2
"""2: both bounds on the mutual information from the same draws; 1: each from draws of its own."""
REPRESENTATION_METHOD = 2
"""2: logistic regression runs to convergence; 1: it stopped at a hundred times the gradient."""

Say = Callable[[str], None]


@recording
def evaluate(
    run: Run,
    data: Splits,
    samples: int | None = None,
    split: str = "test",
    say: Say = lambda _: None,
    *,
    images: int | None = None,
    tolerance: float | None = None,
    protocol: Literal["paper"] | None = None,
    referee_images: int | None = None,
    referee_steps: int | None = None,
    compiled: bool = False,
    precision: str | None = None,
    proposal: ProposalName | None = None,
    watch: Watch = lambda _, __: None,
) -> None:
    """Writes density.json, density.csv, diagnostics.json, information.json, code_use.json, representation.json, codes.json,
    explore.json and figures/ of `run`, and disentanglement.json if the factors of variation of `data` are known.

    Results for another split than test have their own names, such as density-train.json. If a call is killed, a call with
    the same arguments resumes the likelihoods where they stopped. Several processes share the likelihoods; the first does
    the rest, while the others return.

    Arguments:
        run: run with a trained model.
        data: data of the run's experiment.
        samples: importance samples per image, the maximum if there is a tolerance; None: as in the experiment.
        split: split on which density and diagnostics are measured.
        say: callback that receives the name of the next measurement.
        images: number of random images of the split for the likelihoods; None: as in the experiment.
        tolerance: Monte-Carlo standard error in nats at which the likelihood of an image is accurate enough.
        protocol: "paper" measures likelihoods as the paper does, see `run_likelihood`.
        referee_images: number of images to check by annealed importance sampling; None: none.
        referee_steps: annealing steps of the check; None: 100.
        compiled: whether networks are compiled for the likelihoods; the last digits depend on it.
        precision: float32, bfloat16 or auto for the decoder in the likelihoods, see `likelihood_precision`; None: as in the
            experiment. The manifest records what auto measured, density.json the command that repeats its choice.
        proposal: fitted or encoder, where importance samples come from; None: as in the experiment, or the protocol.
        watch: progress callback of the likelihoods.

    Raises:
        InputError: the folder has no model, the split is unknown, the model cannot take the data, or a number is invalid.
    """
    started = time.perf_counter()
    request = Request(samples, images, tolerance, protocol, referee_images, referee_steps, proposal)
    with shortage_told(say):
        _evaluate(run, data, request, split, say, compiled, precision, watch)
    if split == "test" and is_first():  # recorded last: if the process is killed before, the run is measured again
        run.note(status="finished", evaluation_seconds=round(time.perf_counter() - started, 1))


def _evaluate(
    run: Run,
    data: Splits,
    request: Request,
    split: str,
    say: Say,
    compiled: bool,
    precision: str | None,
    watch: Watch,
) -> None:
    vae, settings = load(run.path).to(data.test.device), run.experiment.evaluation
    measurement = prepare(run, data, split, request)
    requested = settings.density_precision if precision is None else precision
    kept = partial_results(run, measurement, compiled, requested)
    choice = decided(vae, measurement, kept, requested, compiled)
    options = _options(request, measurement, choice, settings.density_precision)
    again = {"command": encodable(shlex.join(["mpdvae", "evaluate", str(run.path), *options]))}

    def path(name: str) -> Inside:
        run.check_there()
        stem, _, kind = name.partition(".")
        return run.folder / (name if split == "test" else f"{stem}-{split}.{kind}")

    say("density")
    if requested == "auto":
        say(choice.in_words())
    approximate = bfloat16_decoder(vae) if choice.precision == "bfloat16" else None
    if choice.compile and compile_networks(vae) and approximate is not None:
        compile_networks(approximate)
    estimate = measure(vae, measurement, kept, watch, approximate)
    if not is_first():
        return  # the rest takes one process little time
    if requested == "auto":
        run.note(likelihood_precision=choice.to_dict())
    likelihoods = summary(measurement, estimate)
    if request.referee is not None:
        say("referee")
        likelihoods["referee"] = judge(vae, measurement, estimate, request, kept, watch)
    schema.write(
        [schema.Density], path("density.json"), likelihoods | ({"compiled": True} if choice.compile else {}) | again
    )
    write_atomically(path("density.csv"), table(measurement, estimate))
    say("diagnostics")
    chosen = data.part(split)
    x, labels = evaluation_images(chosen, run.experiment.data.protocol(), split, draws=1)
    probed = _probed(vae, run, x) | _linear_threshold(vae, run, x)
    q = representation.posteriors(vae, x)
    informed = _information(vae, run, q)
    diagnosed = _diagnostics(vae, q, informed, probed)
    origin = {"split": split, "method": INFORMATION_METHOD}
    schema.write([schema.Diagnostics, Probed], path("diagnostics.json"), diagnosed | origin | again)
    say("information and use of the code")
    schema.write([schema.Information], path("information.json"), informed.to_dict() | origin | again)
    schema.write([schema.CodeUse], path("code_use.json"), _code_use(vae, run, x) | {"split": split} | again)
    codes = representation_baselines.codes(vae, run.experiment, chosen, split, q)
    schema.write([schema.Codes], path("codes.json"), _map(codes, labels))
    reason = representation_baselines.unscored_because(data, chosen)
    say(reason or "representation")
    if not reason:
        scores = representation_baselines.score(vae, run.experiment, data, chosen, split, codes)
        found = scores | {"split": split, "method": REPRESENTATION_METHOD}
        schema.write([schema.Representation], path("representation.json"), found | again)
    if data.factors:
        say("disentanglement")
        found = disentanglement.score(vae, run.experiment, data, chosen, codes)
        if isinstance(found, str):
            say(found)
        else:
            schema.write([schema.Disentanglement], path("disentanglement.json"), found | {"split": split} | again)
    if split == "test" and settings.pictures:
        say("pictures")
        draw_pictures(run, vae, x)
        say("map and walks")
        explore(run, vae, x, labels, again)
    kept.remove()


def _options(request: Request, measurement: Measurement, choice: Choice, usual_precision: str) -> list[str]:
    """Returns the options of `mpdvae evaluate` that repeat this measurement, even if the experiment's defaults change."""
    given = {
        "samples": measurement.samples if request.protocol is None else None,
        "images": request.images,
        "tolerance": request.tolerance,
        "protocol": request.protocol,
        "split": measurement.split,
        "referee": request.referee,
        "referee-steps": None if request.referee is None else request.annealing_steps,
        "proposal": measurement.proposal,
        "precision": None if choice.precision == usual_precision == "float32" else choice.precision,
    }
    words = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    return [*words, *(["--compiled"] if choice.compile else [])]


def draw_pictures(run: Run, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
    """Writes samples, reconstructions and interpolations to figures/. All images of each are decoded together."""
    figures = run.folder / "figures"
    columns = PICTURE_COLUMNS
    with torch.no_grad(), seeded("pictures"):
        chosen = x[torch.randperm(len(x))[:columns].to(x.device)]
        codes = vae.prior().sample((SAMPLE_ROWS * columns,))
    between, own = interpolations(vae, chosen), vae.labels_of(chosen)
    starts = None if own is None else own[: 2 * len(between)][0::2].repeat_interleave(columns)
    grids = {
        "samples": image_grids.in_rows(_drawn(vae, codes, "samples"), columns),
        "reconstructions": torch.stack([chosen, _drawn(vae, _encoded(vae, chosen), "reconstructions", own)]),
        "interpolations": _drawn(vae, between.flatten(0, 1), "interpolations", starts).unflatten(0, between.shape[:2]),
    }
    for name, images in grids.items():
        write_atomically(figures / f"{name}.png", image_grids.png(run.experiment.data.shown(images)))


def interpolations(
    vae: VAE, x: Float[Tensor, "n channel height width"], columns: int = PICTURE_COLUMNS
) -> Float[Tensor, "walk column *latent"]:
    """Returns codes on straight lines between the posterior means of consecutive pairs of images."""
    z = _encoded(vae, x[: 2 * min(INTERPOLATIONS, len(x) // 2)])
    return interpolation.linear(z[0::2], z[1::2], columns).transpose(0, 1)


def _encoded(vae: VAE, x: Tensor) -> Tensor:
    """Returns the posterior mean of each image, computed in chunks that fit in memory."""
    return in_pieces(lambda rows: vae.encode(x[rows]), len(x))


def _drawn(vae: VAE, z: Tensor, name: str, labels: Tensor | None = None) -> Tensor:
    """Draws an image for each code, in chunks that fit in memory; `name` is a key of the noise, `labels` the classes that a
    conditional model gives them."""

    def part(rows: slice) -> Tensor:
        return vae.decode(z[rows], greedy=False, labels=None if labels is None else labels[rows])

    return drawn_in_pieces(part, len(z), "pictures", name)


def _information(vae: VAE, run: Run, q: Independent) -> information.Information:
    device = next(vae.parameters()).device
    with torch.no_grad(), density.evaluating(vae):
        return information.measure(q, vae.prior(), run.experiment.evaluation.information_samples, device=device)


def _code_use(vae: VAE, run: Run, x: Tensor) -> dict[str, Any]:
    wanted = run.experiment.evaluation.code_use_images
    with seeded("use of the code"):
        chosen = x[torch.randperm(len(x))[:wanted].to(x.device)]
    return code_use.measure(vae, chosen).to_dict() | {"images_of_split": len(x)}


def _diagnostics(vae: VAE, q: Independent, informed: information.Information, probed: dict[str, Any]) -> dict[str, Any]:
    """Returns the diagnostics with the bounds on the mutual information of information.json, and the collapse verdict that
    follows from them and from the decoder's use of the code."""
    with torch.no_grad():
        found = code_diagnostics.of_posteriors(q, vae.prior(), mutual_information=informed.mutual_information)
    return found.to_dict() | probed | {"verdict": found.judged(probed["code_use_nats"]).sentence}


def _probed(vae: VAE, run: Run, x: Tensor) -> dict[str, Any]:
    """Measures gradients, lag and code use of some of the images `x`, with the objective as at the end of training."""
    e = run.experiment
    return asdict(probe(vae, e.objective.build(), x, e.training.steps, LAG_IMAGES))


def _linear_threshold(vae: VAE, run: Run, x: Tensor) -> dict[str, Any]:
    """Returns the collapse threshold of the linear theory where it applies: Gaussian pixels, and a KL with a fixed weight."""
    beta = run.experiment.objective.last_kl_weight
    found = measure_linear_threshold(vae, x, beta) if beta else None
    return {} if found is None else {"linear_threshold": found.to_dict(math.prod(vae.latent_shape))}


def _map(codes: np.ndarray, labels: Tensor | None) -> dict[str, Any]:
    """Returns the first two principal components of a random subset of codes."""
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
