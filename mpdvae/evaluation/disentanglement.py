"""disentanglement.json: whether single units of a run's codes stand for single factors of variation.

For data whose factors are known, such as `sprites`. Predictors are trained on codes of training images, at most
`evaluation.representation_images` of them; everything else is measured on the evaluated images. The measures are defined in
`mpdvae.measures.disentanglement`.
"""

from typing import Any

import numpy as np

from mpdvae.data import Images, Splits
from mpdvae.errors import InputError
from mpdvae.evaluation.representation_baselines import chosen_training_images, code_images
from mpdvae.experiments.experiment import Experiment
from mpdvae.measures import representation
from mpdvae.measures.disentanglement import measure
from mpdvae.vae import VAE


def score(vae: VAE, e: Experiment, data: Splits, tested: Images, test_codes: np.ndarray) -> dict[str, Any] | str:
    """Returns the content of disentanglement.json, or a sentence that says why there is none.

    Arguments:
        vae: trained model.
        e: experiment that trained it.
        data: data with known factors, whose training images the predictors learn from.
        tested: images that are measured.
        test_codes: `representation_baselines.codes` of `tested`.
    """
    assert data.train.factors is not None
    assert tested.factors is not None
    chosen = chosen_training_images(e, data.train)
    x = code_images(e, data.train, "train", chosen)
    codes = representation.codes(vae, x, posterior_samples=e.evaluation.code_samples)
    factors = data.train.factors if chosen is None else data.train.factors[chosen.to(data.train.factors.device)]
    try:
        found = measure(
            codes,
            factors.cpu().numpy(),
            test_codes,
            tested.factors.cpu().numpy(),
            names=[factor.name for factor in data.factors],
            ordered=[factor.ordered for factor in data.factors],
        )
    except InputError as error:  # codes are finite, so that this can only say that they are too few or too narrow
        return f"disentanglement is left out: {error}"
    return found.to_dict()
