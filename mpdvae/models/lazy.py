"""Lazy layers, such as `nn.LazyLinear`, get their sizes and weights when a model is built, not when it is first used: until
then they have no weights to count, to average or to save."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpdvae.errors import InputError
from mpdvae.vae import VAE


def materialise(vae: VAE, input_shape: tuple[int, int, int]) -> None:
    """Passes black images through `vae` if it has lazy layers, whose weights are then drawn from torch's generator. Its
    running statistics and modes stay as they were.

    Arguments:
        vae: the model.
        input_shape: (channel, height, width) of its images.

    Raises:
        InputError: if the pass fails, or does not reach a lazy layer.
    """
    waiting = lazy_weights(vae)
    if not waiting:
        return
    modes = {part: part.training for part in vae.modules()}
    vae.eval()
    try:
        with torch.no_grad():
            vae.encoder(torch.zeros(2, *input_shape))
            vae.decoder(vae.prior().sample((1, 2)))
    except Exception as error:  # of any kind: the code is the user's
        raise InputError(
            f"{waiting[0]}: a lazy layer gets its size from a pass of 2 images of shape {tuple(input_shape)} and codes of "
            f"shape [1, 2, *latent], which failed ({type(error).__name__}: {error}); mend the parts, or give the layer its "
            "size.",
            topic="own-parts",
        ) from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    if left := lazy_weights(vae):
        raise InputError(
            f"{left[0]}: a lazy layer gets its size from a pass of images through the encoder and of codes through the "
            "decoder, which did not reach it; give it its size, or leave it out.",
            topic="own-parts",
        )


def lazy_weights(model: nn.Module) -> list[str]:
    """Returns the names of the weights that have no size yet."""
    named: list[tuple[str, Tensor]] = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, tensor in named if is_lazy(tensor)]
