"""A trial of parts that users write, on a few images and before anything is written: what training would fail at, after
minutes and with a traceback of torch, is one sentence at the start.

    shapes     encoder, prior and decoder return distributions of the batch and event shapes of `mpdvae.vae.VAE`
    posterior  a diagonal Gaussian, which the divergence, the bounds on the information, the proposals of likelihoods and
               what is measured while training are formulas of
    terms      each term of the user's is one finite number, at the first step of the run and at its end
    step       the loss of the run is a finite number, and has a gradient
    measures   what an evaluation point measures can be measured

The weights of the trial are thrown away.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

import mpdvae
from mpdvae.data import Splits, training_batch
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.own_part_configs import OwnRegulariser
from mpdvae.models.conditional import WIDTH, ConditionalDecoder, ConditionalEncoder
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.objectives.step_rules import trainable
from mpdvae.objectives.terms import Loss, Objective
from mpdvae.seeding import seeded
from mpdvae.training.learner_state import initialise
from mpdvae.training.validation import probe, validate
from mpdvae.vae import VAE

IMAGES = 3
SAMPLES = 2
PRIOR_EXAMPLE = "Independent(Normal(mean, scale), 1)"
PIXELS_EXAMPLE = "Independent(Bernoulli(logits=x), 3)"
TOLD = f", {WIDTH} {{}} more than {{}} have, which say what the model is told,"
SHAPES = "mpdvae.VAE says which shapes the parts take and return"

Result = TypeVar("Result")


def has_own_parts(experiment: Experiment) -> bool:
    """Returns whether a part of the model, or a term of its loss, is a user's."""
    return bool(experiment.own_parts or experiment.objective.own_terms)


def try_parts(experiment: Experiment, data: Splits) -> None:
    """Passes a few training images through the model, its loss and what is measured while training.

    Raises:
        InputError: names the part that fails, what was expected, and what it returned.
    """
    vae = copy.deepcopy(experiment.build(data.image_shape)).to(data.train.device)
    indices = torch.arange(min(IMAGES, len(data.train)))
    x = training_batch(data.train, indices, experiment.data.protocol(), experiment.seed, 0)
    with seeded(experiment.seed, "trial of parts"):
        check_prior(vae)
        _check_encoder(vae, x)
        check_decoder(vae, (x.shape[1], x.shape[2], x.shape[3]))
        initialise(vae, experiment, data)
        forward = ForwardPass(vae, x, experiment.objective.samples, estimator=experiment.objective.estimator)
        for part in experiment.objective.own_terms:
            _check_term(part, forward, experiment.training.steps)
        objective = replace(experiment.objective.build(), images_at_once=experiment.training.images_at_once)
        _check_step(vae, objective, x)
        _tried(
            "vae", lambda: (validate(vae, x, SAMPLES, seed=0), probe(vae, objective, x, 0)), "what is measured of it"
        )


def check_prior(vae: VAE) -> None:
    """Raises `InputError` unless the prior returns one distribution of codes."""
    p = _tried("prior", vae.prior, "calling it")
    _check_distribution(p, "prior", (), tuple(getattr(p, "batch_shape", ())) + tuple(getattr(p, "event_shape", ())))


def check_decoder(vae: VAE, image_shape: tuple[int, int, int]) -> None:
    """Raises `InputError` unless the decoder returns distributions of such images, for codes of the prior with two leading
    axes."""
    with torch.no_grad():
        z = vae.prior().sample((SAMPLES, IMAGES))
        decoder, told = vae.decoder, ""
        if isinstance(decoder, ConditionalDecoder):
            about = z.new_zeros(SAMPLES, IMAGES, WIDTH, *decoder.latent_shape[1:])
            z, told = torch.cat([z, about], 2), TOLD.format("numbers", "codes")
            decoder, image_shape = decoder.decoder, decoder.image_shape
        p = _tried("decoder", lambda: decoder(z), f"decoding codes of shape {tuple(z.shape)}{told}")
    _check_distribution(p, "decoder", (SAMPLES, IMAGES), image_shape)


def _check_encoder(vae: VAE, x: Tensor) -> None:
    shape, told = list(x.shape), ""
    if isinstance(vae.encoder, ConditionalEncoder):
        shape[1], told = shape[1] - vae.condition.channels + WIDTH, TOLD.format("channels", "images")
    with torch.no_grad():
        q = _tried("encoder", lambda: vae.encoder(x), f"encoding images of shape {tuple(shape)}{told}")
    shape = vae.latent_shape
    found = tuple(getattr(q, "batch_shape", ())) + tuple(getattr(q, "event_shape", ()))
    if isinstance(q, Distribution) and found[:1] == (len(x),) and found[1:] != shape:
        raise InputError(
            f"encoder and prior: expected distributions of codes of one shape, got {found[1:]} of the encoder and {shape} of "
            "the prior; make latent_dim or the sizes of their layers alike.",
            topic="own-parts",
        )
    _check_distribution(q, "encoder", (len(x),), shape)
    try:
        diagonal_normal(q)
    except InputError:
        raise InputError(
            f"encoder: expected a diagonal Gaussian, {PRIOR_EXAMPLE}, got {_named(q)}: what is measured while training and "
            "afterwards - the divergence between posteriors, information, likelihoods - has formulas for these alone; return "
            "one, or train the model with a loop of your own, in which mpdvae.VAE takes any distribution.",
            topic="own-parts",
        ) from None


def _check_distribution(p: Any, part: str, batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    """Raises `InputError` unless `p`, which `part` returned, has these shapes."""
    pixels = part == "decoder"
    if not hasattr(p, "log_prob"):
        raise InputError(
            f"{part}: expected a module that returns a torch distribution, such as "
            f"{PIXELS_EXAMPLE if pixels else PRIOR_EXAMPLE}, got a {type(p).__name__}.",
            topic="own-parts",
        )
    if not isinstance(p, Distribution):
        return  # anything with a log-probability is a decoder of pixels; its shape shows in the loss
    found = tuple(p.batch_shape), tuple(p.event_shape)
    if found == (batch, event):
        return
    whole = sum(found, ())
    if whole == (*batch, *event):
        advice = f"return torch.distributions.Independent(p, {len(event) - len(found[1])})"
        advice = advice if len(event) > len(found[1]) else "leave some axes out of Independent"
    elif pixels and torch.Size(whole).numel() == torch.Size((*batch, *event)).numel():
        advice = f"give its parameters the shape of images, such as by nn.Unflatten(-1, {event})"
    else:
        advice = f"it must keep the leading axes {batch} of what it is given"
    raise InputError(
        f"{part}: expected a distribution of batch shape {batch} and event shape {event}, got {_named(p)} of batch shape "
        f"{found[0]} and event shape {found[1]}; {advice}.",
        topic="own-parts",
    )


def _check_term(part: OwnRegulariser, forward: ForwardPass, steps: int) -> None:
    """Raises `InputError` unless a term of the user's is one finite number, at the first step and after the last one."""
    term = part.build()
    for step in (0, steps):
        what = f"the term {part.kind} of {len(forward.x)} images at step {step}"
        value: Any = _tried(
            "objective", partial(term, forward, step), what, "mpdvae.objectives.ForwardPass says what it has"
        )
        if found := _unlike_a_term(value):
            raise InputError(
                f"objective: expected {what} to be a tensor of one finite number, its mean over the images in nats, got "
                f"{found}; see {part.defined_in}.",
                topic="own-parts",
            )


def _unlike_a_term(value: Any) -> str:
    """Returns what `value` is, in words; empty if it is a tensor of one finite number."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.shape != ():
        return f"one of shape {tuple(value.shape)}"
    if not value.is_floating_point():
        return f"one of {value.dtype}"
    return "" if value.isfinite() else str(value.item())


def _check_step(vae: VAE, objective: Objective, x: Tensor) -> None:
    """Raises `InputError` unless the loss of the images is a finite number with a gradient."""
    loss: Loss = _tried("objective", lambda: objective(vae, x, 0), f"the loss of images of shape {tuple(x.shape)}")
    for name, term in loss.terms.items():
        if not term.isfinite().all():
            raise InputError(
                f"objective: the term {name} of the first {len(x)} training images is {term.item()} before any training; "
                "check that the distributions of encoder, decoder and prior have finite log-probabilities, also of black and "
                "white pixels.",
                topic="own-parts",
            )
    if not (moving := trainable(vae)):
        raise InputError(
            "vae: expected parameters to train, got a model whose parameters are all frozen.", topic="own-parts"
        )
    _tried("objective", lambda: loss.forward.backward(loss.total, moving), "the gradient of the loss")


def _tried(part: str, attempt: Callable[[], Result], what: str, see: str = SHAPES) -> Result:
    """Returns what code of the user returns. Raises `InputError`, which ends with what to `see`, in place of whatever it
    raises."""
    try:
        return attempt()
    except InputError:
        raise
    except Exception as error:  # of any kind: the code is the user's
        raise InputError(
            f"{part}: {what} failed{_line_of(error)} ({type(error).__name__}: {error}); {see}.",
            topic="own-parts",
        ) from error


def _line_of(error: BaseException) -> str:
    """Returns where in code that is neither torch's nor of this package an error arose; empty if it did not."""
    ours = tuple(str(Path(module.__file__ or "").parent) for module in (torch, mpdvae))
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f" at {Path(frames[-1].filename).name}, line {frames[-1].lineno}," if frames else ""


def _named(p: Distribution) -> str:
    """Returns the family of a distribution: Laplace, also of Independent(Laplace)."""
    base = getattr(p, "base_dist", None)
    return type(p).__name__ if base is None else f"{type(p).__name__}({type(base).__name__})"
