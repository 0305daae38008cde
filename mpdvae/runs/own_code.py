"""Whether code of the user's - parts of a model, terms of its loss - still computes what it did when the weights were saved.

A run folder holds weights and the name of the function that builds their network, not the network: code of the user's that
has changed since gives another model of the same name, silently wherever the shapes still match. Therefore three numbers are
kept beside the weights, for fixed images x and fixed codes z of growing spread, as a bounded function differs from a line
only where its input is large:

    log q(z|x)   log p(z)   log p(x|z)

Of each term of the user's, the values at the first step and at the end are kept, of fixed images. They are computed again
where training goes on and where the run is measured, not where a model is only used. Noise differs between CPU and GPU: the
values are compared on the kind of device that they were computed on.

Processors round differently, and networks enlarge these differences. By how much is measured: beside each number b stands
the distance m that it moves if its input moves by 1e-5 of itself, some hundred times the spacing of float32. Another CPU may
give a number that differs by 1e-4 (1 + |b|) + 10 m; a GPU, whose convolutions may round to 10 bits, by 1e-2 |b| + 1e-3.
A change that matters for none of these inputs, such as a bound that no output reaches, is not seen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import ImageShape
from mpdvae.experiments.own_part_configs import OwnRegulariser
from mpdvae.system.closed_folder import Inside

if TYPE_CHECKING:
    import torch

    from mpdvae.vae import VAE

NAMES = ("log q(z|x)", "log p(z)", "log p(x|z)")
SPREADS = (1.0, 4.0, 16.0)
"""Standard deviations of the fixed codes."""
STEP = 1e-5
"""Relative change of the input that shows how much a number depends on rounding."""
CPU_TOLERANCE, MOVES = 1e-4, 10
"""Tolerated difference between two CPUs: relative, and in multiples of the effect of `STEP`."""
TOLERANCE = 1e-2
"""Tolerated relative difference if a device is no CPU, and from numbers of earlier versions."""
LEAST_NATS = 1e-3
"""Difference that is tolerated beside it."""
SAMPLES = 2
"""Draws of z per image in the values of terms."""
IMAGES = 4
"""Number of images whose terms are kept: terms may compare images."""


class Answer(NamedTuple):
    """A number that code of the user's computed."""

    value: float | None
    """In nats; None: it is not finite, or could not be computed."""
    moved: float | None
    """Distance by which it moves with a relative change `STEP` of the input; None: not known."""


class Answers(NamedTuple):
    """The numbers that are kept beside weights."""

    device: str
    """Kind of device that computed them; empty: not known."""
    values: Mapping[str, Sequence[Answer]]
    """By name, or by kind of term."""


def answers(vae: "VAE", experiment: Experiment, image_shape: ImageShape) -> Answers:
    """Returns the three numbers of the model in eval mode, for each of `SPREADS`."""
    import torch

    from mpdvae.seeding import seeded

    training = vae.training
    vae.eval()
    try:
        with torch.no_grad(), seeded("code of own parts"):
            device = next(iter(vae.parameters()), torch.empty(0)).device
            rows = []
            for spread in SPREADS:
                x = _image(vae, experiment, image_shape).to(device)
                z = (spread * torch.randn((1, *vae.latent_shape), dtype=torch.float32)).to(device)
                rows.append(list(map(_answer, _numbers(vae, x, z), _numbers(vae, x, z, STEP))))
        return Answers(device.type, dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True)))
    finally:
        vae.train(training)


def _numbers(vae: "VAE", x: "torch.Tensor", z: "torch.Tensor", step: float = 0.0) -> list[float]:
    """Returns the three numbers with the inputs of all networks moved by `step`; the image that is scored stays."""
    z = z * (1 - step)
    parts = vae.encoder(x * (1 - step)).log_prob(z), vae.prior().log_prob(z), vae.decoder(z).log_prob(x)
    return [float(part.sum()) for part in parts]


def _answer(value: float, beside: float) -> Answer:
    return Answer(value, abs(value - beside)) if math.isfinite(value - beside) else Answer(None, None)


def check_answers(given: Any, vae: "VAE", experiment: Experiment, image_shape: ImageShape, weights: Inside) -> None:
    """Raises `InputError` if the model gives other answers than those that were `given` with the file `weights`. Files of
    earlier versions have one number of each name, or none."""
    single = isinstance(given, list) and len(given) == len(NAMES)
    kept = _read({"device": "", "values": {name: [given[i]] for i, name in enumerate(NAMES)}} if single else given)
    if kept is None:
        return
    found = answers(vae, experiment, image_shape)
    for name in NAMES:
        if change := _change(kept, found, name):
            parts = " or ".join(sorted({f"{part.kind} ({part.defined_in})" for part in experiment.own_parts}))
            raise InputError(
                f"{weights}: the code of {parts} has changed since these weights were saved: {name} of a fixed image and "
                f"code {change}; take the code as it was, or train in another folder.",
                topic="own-parts",
            )


def term_answers(vae: "VAE", experiment: Experiment, image_shape: ImageShape) -> Answers:
    """Returns the values of each term of the user's by kind, at the first step and at the end, of the model in eval mode."""
    import torch

    from mpdvae.models.acceleration import uncompiled
    from mpdvae.seeding import seeded

    training, device = vae.training, next(vae.parameters()).device
    vae.eval()
    try:
        with uncompiled(), torch.enable_grad(), seeded("code of own terms"):
            x = _image(vae, experiment, image_shape, IMAGES).to(device)
            steps = (0, experiment.training.steps)
            values = {
                part.kind: [_term_answer(part, vae, x, step) for step in steps]
                for part in experiment.objective.own_terms
            }
        return Answers(device.type, values)
    finally:
        vae.train(training)


def _term_answer(part: OwnRegulariser, vae: "VAE", x: "torch.Tensor", step: int) -> Answer:
    import torch

    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # both are given the same noise
        beside = _term(part, vae, x * (1 - STEP), step)
    value = _term(part, vae, x, step)
    return Answer(value, None if value is None or beside is None else abs(value - beside))


def _term(part: OwnRegulariser, vae: "VAE", x: "torch.Tensor", step: int) -> float | None:
    from mpdvae.objectives.terms import Objective

    try:
        loss = Objective({part.kind: part.build()}, SAMPLES)(vae, x, step)
        return loss.total.item() if loss.total.isfinite() else None
    except Exception:  # of any kind: the code is the user's, and these images are not
        return None


def check_term_answers(
    given: Any, vae: "VAE", experiment: Experiment, image_shape: ImageShape, weights: Inside
) -> None:
    """Raises `InputError` if a term of the user's has other values than those that were `given` with the file `weights`.
    Files of earlier versions have values alone, or none."""
    kept = _read(given)
    if kept is None:
        return
    found = term_answers(vae, experiment, image_shape)
    for part in experiment.objective.own_terms:
        if kept.device == found.device and (change := _change(kept, found, part.kind)):
            raise InputError(
                f"{weights}: the code of the term {part.kind} ({part.defined_in}) has changed since these weights were "
                f"saved: its value for fixed images {change}; take the code as it was, or train in another folder.",
                topic="own-parts",
            )


def _read(given: Any) -> Answers | None:
    """Returns the numbers that were `given` with weights; None if there are none of this form. A number may stand alone, as
    in files of earlier versions."""
    if not isinstance(given, dict) or not isinstance(values := given.get("values"), dict):
        return None
    rows = {name: [_read_one(one) for one in row] for name, row in values.items() if isinstance(row, list)}
    return Answers(str(given.get("device")), rows)


def _read_one(given: Any) -> Answer:
    value, moved = given if isinstance(given, list) and len(given) == 2 else (given, None)
    return Answer(*(one if type(one) is float and math.isfinite(one) else None for one in (value, moved)))


def _change(kept: Answers, found: Answers, name: str) -> str | None:
    """Returns how a number has changed, in words; None if none has by more than rounding explains."""
    on_cpus = kept.device == found.device == "cpu"
    for before, now in zip(kept.values.get(name, ()), found.values[name], strict=False):
        if before.value is None or now.value is None:
            continue
        if on_cpus and before.moved is not None:
            tolerated = CPU_TOLERANCE * (1.0 + abs(before.value)) + MOVES * before.moved
        else:
            tolerated = TOLERANCE * abs(before.value) + LEAST_NATS
        if abs(before.value - now.value) > tolerated:
            return f"was {before.value:.6g} and is {now.value:.6g}"
    return None


def _image(vae: "VAE", experiment: Experiment, image_shape: ImageShape, count: int = 1) -> "torch.Tensor":
    """Returns noise of two values, with a condition if the model is told one: black and white, or, as the law of intensities
    may have no density at their ends, their quartiles."""
    import torch

    from mpdvae.data.conditions import with_condition

    dark, bright = (0.25, 0.75) if experiment.data.pixel_values == "intensities" else experiment.data.image_range
    x = torch.where(torch.rand((count, *image_shape)) < 0.5, dark, bright).float()
    return with_condition(x, torch.zeros(count, vae.condition.channels)) if vae.condition.channels else x
