"""A table of models whose encoder or decoder is exported to ONNX, for testing laws."""

import torch
from constructors import DECODERS, ENCODERS, HEADED_ENCODERS, MAP_DECODERS, MAP_ENCODERS, Images, shaken

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


def model_of(name: str) -> tuple[str, VAE]:
    """Returns the part to export, and a model that has it; its other part is arbitrary."""
    part, images = GRAPHS[name]
    torch.manual_seed(0)
    shape = images.takes[-1]
    built = shaken(images.build(shape, LATENT_DIM), 0.1).eval()
    maps = (LATENT_DIM, *(size // 4 for size in shape[1:])) if name.split()[-1] in ("maps", "colour") else (LATENT_DIM,)
    other = torch.nn.Linear(1, 1)
    parts = (built, other) if part == "encoder" else (other, built)
    return part, VAE(*parts, StandardNormal(maps))
