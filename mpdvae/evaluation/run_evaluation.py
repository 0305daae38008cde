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
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.distributions import Independent

from mpdvae.data import Splits, evaluation_images
from mpdvae.evaluation import disentanglement, representation_baselines
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
from mpdvae.evaluation.run_pictures import draw_pictures
from mpdvae.measures import code_diagnostics, code_use, density, information, representation
from mpdvae.measures.importance_sampling import ProposalName
from mpdvae.measures.linear_threshold import measure_linear_threshold
from mpdvae.measures.memory_budget import shortage_told
from mpdvae.models.acceleration import compile_networks
from mpdvae.report import schema
from mpdvae.runs.checksums import recording
from mpdvae.runs.model_folder import check_terms, load
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
    check_terms(run.path, vae)
    measurement = prepare(run, data, split, request)
    requested = settings.density_precision if precision is None else precision
    kept = partial_results(run, measurement, compiled, requested)
    choice = decided(vae, measurement, kept, requested, compiled)
    options = _options(request, measurement, choice, settings.density_precision)
    call = _Call(run, data, split, vae, encodable(shlex.join(["mpdvae", "evaluate", str(run.path), *options])), say)
    say("density")
    if requested == "auto":
        say(choice.in_words())
    estimate = measure(vae, measurement, kept, watch, _approximation(vae, choice))
    if not is_first():
        return  # the rest takes one process little time
    if requested == "auto":
        run.note(likelihood_precision=choice.to_dict())
    likelihoods = summary(measurement, estimate) | ({"compiled": True} if choice.compile else {})
    if request.referee is not None:
        say("referee")
        likelihoods["referee"] = judge(vae, measurement, estimate, request, kept, watch)
    call.write("density.json", [schema.Density], likelihoods)
    write_atomically(call.path("density.csv"), table(measurement, estimate))
    x, labels = evaluation_images(data.part(split), run.experiment.data.protocol(), split, draws=1)
    q = representation.posteriors(vae, x)
    _write_diagnostics(call, x, q)
    _write_scores(call, labels, representation_baselines.codes(vae, run.experiment, data.part(split), split, q))
    if split == "test" and settings.pictures:
        say("pictures")
        draw_pictures(run, vae, x)
        say("map and walks")
        explore(run, vae, x, labels, call.repeats)
    kept.remove()


@dataclass(frozen=True)
class _Call:
    """What the measurements of one call share."""

    run: Run
    data: Splits
    split: str
    vae: VAE
    command: str
    """The command that recreates the results."""
    say: Say

    @property
    def repeats(self) -> dict[str, Any]:
        """The entry of a result that says how to recreate it."""
        return {"command": self.command}

    def path(self, name: str) -> Inside:
        """Returns the path of the result `name`, which names the split unless that is test: density-train.json."""
        self.run.check_there()
        stem, _, kind = name.partition(".")
        return self.run.folder / (name if self.split == "test" else f"{stem}-{self.split}.{kind}")

    def write(self, name: str, schemas: list[type[BaseModel]], content: dict[str, Any]) -> None:
        """Writes a result, and the command that recreates it, checked by `schemas`."""
        schema.write(schemas, self.path(name), content | self.repeats)


def _approximation(vae: VAE, choice: Choice) -> nn.Module | None:
    """Returns the decoder in bfloat16 if the likelihoods use one; compiles both decoders if they are to be."""
    approximate = bfloat16_decoder(vae) if choice.precision == "bfloat16" else None
    if choice.compile and compile_networks(vae) and approximate is not None:
        compile_networks(approximate)
    return approximate


def _write_diagnostics(call: _Call, x: Tensor, q: Independent) -> None:
    """Writes diagnostics.json, information.json and code_use.json of the images `x`, whose posteriors are `q`."""
    run, vae = call.run, call.vae
    origin = {"split": call.split, "method": INFORMATION_METHOD}
    call.say("diagnostics")
    probed = _probed(vae, run, x) | _linear_threshold(vae, run, x)
    informed = _information(vae, run, q)
    call.write("diagnostics.json", [schema.Diagnostics, Probed], _diagnostics(vae, q, informed, probed) | origin)
    call.say("information and use of the code")
    call.write("information.json", [schema.Information], informed.to_dict() | origin)
    call.write("code_use.json", [schema.CodeUse], _code_use(vae, run, x) | {"split": call.split})


def _write_scores(call: _Call, labels: Tensor | None, codes: np.ndarray) -> None:
    """Writes codes.json, and representation.json and disentanglement.json where the data have labels and factors."""
    experiment, data, split = call.run.experiment, call.data, call.split
    chosen = data.part(split)
    schema.write([schema.Codes], call.path("codes.json"), _map(codes, labels))
    reason = representation_baselines.unscored_because(data, chosen)
    call.say(reason or "representation")
    if not reason:
        scores = representation_baselines.score(call.vae, experiment, data, chosen, split, codes)
        origin = {"split": split, "method": REPRESENTATION_METHOD}
        call.write("representation.json", [schema.Representation], scores | origin)
    if not data.factors:
        return
    call.say("disentanglement")
    found = disentanglement.score(call.vae, experiment, data, chosen, codes)
    if isinstance(found, str):
        call.say(found)
    else:
        call.write("disentanglement.json", [schema.Disentanglement], found | {"split": split})


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
