"""A table of models whose encoder or decoder is exported to ONNX, for testing laws."""

from dataclasses import replace

import torch
from constructors import DECODERS, ENCODERS, HEADED_ENCODERS, MAP_DECODERS, MAP_ENCODERS, Images, shaken
from small_runs import tiny

from mpdvae.data.conditions import Condition, with_condition
from mpdvae.distributions.pixel_laws import pixel_law
from mpdvae.distributions.pixel_values import MODELLED
from mpdvae.models.decoders import mlp_decoder
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE

LATENT_DIM = 4

GRAPHS = {
    **{f"encoder {name}": ("encoder", ENCODERS[name]) for name in ("mlp", "convnet-2", "resnet-3")},
    **{f"encoder {name}": ("encoder", images) for name, images in HEADED_ENCODERS.items()},
    "encoder of maps": ("encoder", MAP_ENCODERS["densenet-3"][1]),
    **{f"decoder {name}": ("decoder", DECODERS[name]) for name in ("mlp", "convnet-2", "resnet-3", "convnet-skip")},
    "decoder of colour": ("decoder", MAP_DECODERS["colour-resnet-3"][1]),
    **{
        f"decoder {law} {shape[0]}": (
            "decoder",
            Images(lambda s, n, law=law: mlp_decoder(s, n, (7,), law=pixel_law(law, 16, 2)), (shape,)),
        )
        for law in MODELLED
        for shape in ((1, 3, 2), (2, 3, 2))
    },
}

SHAPE = (2, 4, 6)
CONDITIONAL = {
    f"{part} given {told}": (part, condition)
    for part in ("encoder", "decoder")
    for told, condition in {
        "classes": Condition(classes=3),
        "covariates": Condition(covariates=2),
        "both": Condition(3, 1),
    }.items()
}


def conditional_model(condition: Condition) -> VAE:
    """Returns a model of images of `SHAPE` that has kept the covariates of some, with weights that are not their initial
    ones."""
    told = {"data__condition_classes": condition.classes, "data__condition_covariates": condition.covariates}
    levels = {"data__binarisation": "levels", "data__evaluation_draws": 1}
    torch.manual_seed(0)
    vae = shaken(tiny("vae-digits-smoke", data__dataset="own", **told, **levels).build(SHAPE), 0.1).eval()
    columns = [torch.randint(condition.classes, (9, 1)).float()] if condition.classes else []
    columns += [1950 + 40 * torch.rand(9, condition.covariates)] if condition.covariates else []
    vae.origin = replace(vae.origin, class_names=("cat", "dog", "owl")) if condition.classes else vae.origin
    vae.keep_conditions(with_condition(torch.rand(9, *SHAPE), torch.cat(columns, 1)))
    return vae


def model_of(name: str) -> tuple[str, VAE]:
    """Returns the part to export, and a model that has it; its other part is arbitrary."""
    if name in CONDITIONAL:
        return CONDITIONAL[name][0], conditional_model(CONDITIONAL[name][1])
    part, images = GRAPHS[name]
    torch.manual_seed(0)
    shape = images.takes[-1]
    built = shaken(images.build(shape, LATENT_DIM), 0.1).eval()
    maps = (LATENT_DIM, *(size // 4 for size in shape[1:])) if name.split()[-1] in ("maps", "colour") else (LATENT_DIM,)
    other = torch.nn.Linear(1, 1)
    parts = (built, other) if part == "encoder" else (other, built)
    return part, VAE(*parts, StandardNormal(maps))
