"""representation.json: the scores of a run's codes, with those of the baselines that codes must beat.

    raw pixels           the images that codes are computed from, as numbers
    PCA                  their first principal components, as many as a code has dimensions
    untrained encoder    codes of the run's encoder before its first step: same architecture, seed and data-dependent
                         initialisation. Random convolutional features are not a weak baseline (Saxe et al., ICML 2011)

All are scored on the same images, labels, subsets and k-means seeds as the codes. The first two do not depend on the run,
the last only on its seed and encoder. They are therefore computed once for all runs and cached in the data folder, under
the hash of everything that they depend on, including the code that computes them. Cached and recomputed scores are the
same.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Independent

from mpdvae.data import Images, Splits, data_dir, evaluation_images
from mpdvae.data.protocols import conditioned
from mpdvae.evaluation.result_cache import shared
from mpdvae.experiments.evaluation_config import Evaluation
from mpdvae.experiments.experiment import Experiment
from mpdvae.measures import representation
from mpdvae.measures.representation import Labelled
from mpdvae.runs.environment import source_hash
from mpdvae.training.learner_state import initialise
from mpdvae.vae import VAE

MOST_SCORED, FEWEST_SCORED = 1 << 24, 1_000
"""Values, and number, of the training images that classifiers learn from, where the images are too many for the memory and
their number is not given."""
GREY_HALF = 128
"""Lowest grey level of 0..255 that counts as ink if images are thresholded at one half."""
LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch")
"""Libraries whose versions are part of the cache key."""


class Scored(NamedTuple):
    """The images of a run on which scores are computed."""

    train: Float[Tensor, "_train channel height width"]
    train_labels: np.ndarray
    test: Float[Tensor, "_test channel height width"]
    test_labels: np.ndarray

    def labelled(self, train: np.ndarray, test: np.ndarray) -> Labelled:
        """Returns features of these images with their labels."""
        return Labelled(train, self.train_labels, test, self.test_labels)


class Features(NamedTuple):
    """Features that codes are compared with."""

    key: dict[str, Any]
    """Part of the cache key: what the features depend on besides data and protocol."""
    dimensions: int
    labelled: Callable[[], Labelled]
    """Computes the features, called when they are needed."""


def code_images(
    e: Experiment, images: Images, split: str, chosen: Tensor | None = None
) -> Float[Tensor, "n channel height width"]:
    """Returns what codes of `images`, all or those with the indices `chosen`, are computed from: a fixed draw, grey levels
    thresholded at one half, or levels."""
    if _thresholded(e):
        taken = images if chosen is None else images.take(chosen)
        return conditioned((taken.pixels >= GREY_HALF).float(), taken.known, e.data.protocol())
    return evaluation_images(images, e.data.protocol(), split, draws=1, chosen=chosen)[0]


def _thresholded(e: Experiment) -> bool:
    return e.evaluation.code_input == "thresholded" and e.data.protocol().binarises


def unscored_because(data: Splits, tested: Images) -> str:
    """Returns the reason why there can be no scores; empty if there can be."""
    labels = data.train.labels
    if labels is None or tested.labels is None:
        return "no labels: representation scores are left out"
    if len(labels.unique()) < 2:
        return "no labels of at least two classes: representation scores are left out"
    return ""


def codes(vae: VAE, e: Experiment, images: Images, split: str, of_draw: Independent | None = None) -> np.ndarray:
    """Returns codes of all `images`, the part `split` of the data, as the experiment specifies; [n latent]. `of_draw` are the
    posteriors of the first fixed draw of these images, if they are known."""
    if of_draw is not None and not _thresholded(e):
        return representation.codes_of(of_draw, e.evaluation.code_samples)
    return representation.codes(vae, code_images(e, images, split), posterior_samples=e.evaluation.code_samples)


def score(vae: VAE, e: Experiment, data: Splits, tested: Images, split: str, test_codes: np.ndarray) -> dict[str, Any]:
    """Returns the content of representation.json.

    Arguments:
        vae: trained model.
        e: experiment that trained it.
        data: data whose training images and labels the classifiers learn from.
        tested: images with labels that are scored, the part `split` of the data.
        test_codes: `codes` of `tested`.
    """
    x = _scored(e, data, tested, split)
    z = representation.codes(vae, x.train, posterior_samples=e.evaluation.code_samples)
    own = representation.evaluate(*x.labelled(z, test_codes), **_settings(e.evaluation))
    return own | {
        "dimensions": z.shape[1],
        "baselines": _baselines(e, data, split, x) if e.evaluation.baselines else {},
    }


def chosen_training_images(e: Experiment, train: Images) -> Int64[Tensor, " chosen"] | None:
    """Returns the indices of the training images whose codes predictors learn from; None: all. They are a random subset, the
    same for all runs; never a prefix, which may be sorted by class."""
    wanted = e.evaluation.representation_images
    if wanted is None and not train.in_memory:
        wanted = max(FEWEST_SCORED, MOST_SCORED // int(np.prod(train.image_shape)))
    if wanted is None or wanted >= len(train):
        return None
    return torch.from_numpy(np.random.default_rng(0).permutation(len(train))[:wanted])


def _scored(e: Experiment, data: Splits, tested: Images, split: str) -> Scored:
    assert data.train.labels is not None
    assert tested.labels is not None
    labels, chosen = data.train.labels.cpu(), chosen_training_images(e, data.train)
    train = code_images(e, data.train, "train", chosen)
    train_labels = (labels if chosen is None else labels[chosen]).numpy()
    return Scored(train, train_labels, code_images(e, tested, split), tested.labels.cpu().numpy())


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "label_counts": [*evaluation.label_counts, *(["all"] if evaluation.all_labels else [])],
        "subsets": evaluation.label_subsets,
        "clusters": list(evaluation.clusters),
        "cluster_seeds": evaluation.cluster_seeds,
        "cluster_restarts": evaluation.cluster_restarts,
        "svm_labels": evaluation.svm_labels,
    }


def _baselines(e: Experiment, data: Splits, split: str, x: Scored) -> dict[str, Any]:
    """Returns the scores of each baseline and its number of dimensions."""
    pixels = e.data.without_condition(x.train[0]).numel()
    dimensions = int(np.prod(e.encoder.latent_shape(data.image_shape, e.latent_dim)))
    components = min(dimensions, pixels, len(x.train))
    features = {
        "raw_pixels": Features({}, pixels, cache(partial(_raw_pixels, e, x))),
        "pca": Features({"components": components}, components, cache(partial(_components, e, x, components))),
        "untrained_encoder": Features(_encoder_key(e), dimensions, cache(partial(_untrained_codes, e, data, x))),
    }
    common = _common_key(e, data, split)
    pieces = {
        f"{name}/{piece}": (common | {"features": name, "scores": piece} | of.key, compute)
        for name, of in features.items()
        for piece, compute in _pieces(e.evaluation, of.labelled).items()
    }
    found = shared(data_dir() / "baselines", pieces)
    return {
        name: representation.merged(*(scores for piece, scores in found.items() if piece.startswith(f"{name}/")))
        | {"dimensions": of.dimensions}
        for name, of in features.items()
    }


def _pieces(evaluation: Evaluation, labelled: Callable[[], Labelled]) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Returns the protocol in parts that several processes can share."""
    s = _settings(evaluation)

    def classifiers() -> dict[str, Any]:
        return representation.classifier_scores(labelled(), s["label_counts"], s["subsets"], s["svm_labels"])

    def clusters(k: int) -> dict[str, Any]:
        return representation.cluster_scores(labelled(), k, s["cluster_seeds"], s["cluster_restarts"])

    return {"classifiers": classifiers} | {f"K = {k}": partial(clusters, k) for k in s["clusters"]}


def _raw_pixels(e: Experiment, x: Scored) -> Labelled:
    return x.labelled(*(e.data.without_condition(images).flatten(1).cpu().numpy() for images in (x.train, x.test)))


def _components(e: Experiment, x: Scored, components: int) -> Labelled:
    raw = _raw_pixels(e, x)
    return x.labelled(*representation.principal_components(raw.train_codes, raw.test_codes, components))


def _untrained_codes(e: Experiment, data: Splits, x: Scored) -> Labelled:
    vae = e.build(data.image_shape).to(x.train.device)
    initialise(vae, e, data)
    samples = e.evaluation.code_samples
    return x.labelled(*(representation.codes(vae, images, posterior_samples=samples) for images in (x.train, x.test)))


def _encoder_key(e: Experiment) -> dict[str, Any]:
    """Returns what codes of the untrained encoder depend on; refined codes depend on the other parts, too."""
    others = ("decoder", "prior") if e.encoder.refinement_steps else ()
    return {name: getattr(e, name).model_dump(mode="json") for name in others} | {
        "encoder": e.encoder.model_dump(mode="json"),
        "latent_dim": e.latent_dim,
        "seed": e.seed,
        "initial_images": e.training.initial_images,
        "code_samples": e.evaluation.code_samples,
    }


def _common_key(e: Experiment, data: Splits, split: str) -> dict[str, Any]:
    return {
        "data": data.sha256,
        "protocol": e.data.protocol().describe(data),
        "split": split,
        "code_input": e.evaluation.code_input,
        "representation_images": e.evaluation.representation_images,
        "settings": _settings(e.evaluation),
        "source": source_hash(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
