"""Whether code of the user's - parts of a model, terms of its loss - still computes what it did when the weights were saved.

A run folder holds weights and the name of the function that builds their network, not the network: code of the user's that
has changed since gives another model of the same name, silently wherever the shapes still match. Therefore three numbers are
kept beside the weights, for one fixed image x and one fixed code z:

    log q(z|x)   log p(z)   log p(x|z)

They are computed again when the weights are loaded. They may differ in their last digits from one processor to another.

Of each term of the user's, the values at the first step and at the end are kept, of fixed images. They are computed again
where training goes on and where the run is measured, not where a model is only used. Noise differs between CPU and GPU: the
values are compared on the kind of device that they were computed on.
"""

import math
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import ImageShape
from mpdvae.experiments.own_part_configs import OwnRegulariser
from mpdvae.system.closed_folder import Inside

if TYPE_CHECKING:
    import torch

    from mpdvae.vae import VAE

NAMES = ("log q(z|x)", "log p(z)", "log p(x|z)")
SAMPLES = 2
"""Draws of z per image in these values."""
TOLERANCE = 1e-2
"""Relative difference that processors and precisions may cause. A change of the code that moves no number by more is not
seen: a bounded function behind the last layer of a decoder whose outputs are still small moved them by 0.03%."""
LEAST_NATS = 1e-3
"""Difference between two values of a term that is always taken for rounding."""
IMAGES = 4
"""Number of images whose terms are kept: terms may compare images."""


def answers(vae: "VAE", experiment: Experiment, image_shape: ImageShape) -> list[float | None]:
    """Returns the three numbers, of the model in eval mode; None for one that is not finite."""
    import torch

    from mpdvae.seeding import seeded

    training = vae.training
    vae.eval()
    try:
        with torch.no_grad(), seeded("code of own parts"):
            x, z = _image(vae, experiment, image_shape), torch.randn((1, *vae.latent_shape), dtype=torch.float32)
            at = next(iter(vae.parameters()), x)
            x, z = x.to(at.device), z.to(at.device)
            parts = vae.encoder(x).log_prob(z), vae.prior().log_prob(z), vae.decoder(z).log_prob(x)
            numbers = [float(part.sum()) for part in parts]
            return [number if math.isfinite(number) else None for number in numbers]
    finally:
        vae.train(training)


def check_answers(given: Any, vae: "VAE", experiment: Experiment, image_shape: ImageShape, weights: Inside) -> None:
    """Raises `InputError` if the model gives other answers than those that were `given` with the file `weights`. Files of
    earlier versions have none."""
    if not isinstance(given, list) or len(given) != len(NAMES):
        return
    for name, before, now in zip(NAMES, given, answers(vae, experiment, image_shape), strict=True):
        if type(before) is float and now is not None and abs(before - now) > TOLERANCE * max(1.0, abs(before)):
            parts = " or ".join(sorted({f"{part.kind} ({part.defined_in})" for part in experiment.own_parts}))
            raise InputError(
                f"{weights}: the code of {parts} has changed since these weights were saved: {name} of a fixed image and "
                f"code was {before:.6g} and is {now:.6g}; take the code as it was, or train in another folder.",
                topic="own-parts",
            )


def term_answers(vae: "VAE", experiment: Experiment, image_shape: ImageShape) -> dict[str, Any]:
    """Returns the values of each term of the user's by kind, and the kind of `device`, of the model in eval mode; None for a
    value that is not finite or cannot be computed."""
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
                part.kind: [_value(part, vae, x, step) for step in steps] for part in experiment.objective.own_terms
            }
        return {"device": device.type, "values": values}
    finally:
        vae.train(training)


def _value(part: OwnRegulariser, vae: "VAE", x: "torch.Tensor", step: int) -> float | None:
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
    Files of earlier versions have none."""
    if not isinstance(given, dict) or not isinstance(given.get("values"), dict):
        return
    found = term_answers(vae, experiment, image_shape)
    if given.get("device") != found["device"]:
        return
    for part in experiment.objective.own_terms:
        before = given["values"].get(part.kind)
        for old, new in zip(before if isinstance(before, list) else [], found["values"][part.kind], strict=False):
            if type(old) is float and new is not None and abs(old - new) > LEAST_NATS + TOLERANCE * abs(old):
                raise InputError(
                    f"{weights}: the code of the term {part.kind} ({part.defined_in}) has changed since these weights were "
                    f"saved: its value for fixed images was {old:.6g} and is {new:.6g}; take the code as it was, or train in "
                    "another folder.",
                    topic="own-parts",
                )


def _image(vae: "VAE", experiment: Experiment, image_shape: ImageShape, count: int = 1) -> "torch.Tensor":
    """Returns noise of two values, with a condition if the model is told one: black and white, or, as the law of intensities
    may have no density at their ends, their quartiles."""
    import torch

    from mpdvae.data.conditions import with_condition

    dark, bright = (0.25, 0.75) if experiment.data.pixel_values == "intensities" else experiment.data.image_range
    x = torch.where(torch.rand((count, *image_shape)) < 0.5, dark, bright).float()
    return with_condition(x, torch.zeros(count, vae.condition.channels)) if vae.condition.channels else x
