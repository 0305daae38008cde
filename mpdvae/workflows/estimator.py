"""MAE and its relatives as a scikit-learn estimator: arrays of images in; codes, likelihoods and images out.

    codes = MPDVAE(latent_dim=16, random_state=0).fit(X).transform(X)

A thin front of the project: `fit` puts an `Experiment` together and calls the one training loop in a run folder, a
temporary one unless it is named; `score_samples` is `mpdvae.measures.density.estimate`.

X is images [n height width], [n channel height width] or [n height width channel], or flat rows with `image_shape`; what
comes back (samples, decoded images) has the form that `fit` was given. Grey images are modelled as black and white, as the
paper does: in training a pixel is white with the probability of its grey level, drawn anew at every visit; otherwise one draw
counts, which depends on the image alone. `X > 0.5` does the same without chance. Colour images have 256 levels.

The contract: https://scikit-learn.org/stable/developers/develop.html; its checks run in tests/workflows/test_estimator.py.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, no_type_check

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from mpdvae.data import Images, Splits, images_by_content, split_train_validation, steps_per_epoch
from mpdvae.data.arrays import channels_first, grey_levels
from mpdvae.data.layout import axes_of_image, in_range, in_unit_range, with_axes
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, in_words
from mpdvae.experiments.fields import Config
from mpdvae.experiments.presets import part, short_training
from mpdvae.measures import density
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.training.loop import Watch, train
from mpdvae.vae import VAE, check_samples
from mpdvae.workflows.job import check_device, check_fit, describe_run
from mpdvae.workflows.progress_display import Watcher

FEWEST_IMAGES = 4
"""Two to train on and two to validate on: divergences are between pairs."""
IMAGES_AT_ONCE = 500
DRAWS = 8
"""Images drawn for one code, where the mean of its images has no formula."""
PARAMETERS = {"training.steps": "max_iter", "training.": "", "objective.": ""}
"""What fields of an experiment are called here."""


class MPDVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """A variational autoencoder with mutual posterior-divergence regularisation (Ma, Zhou & Hovy, ICLR 2019).

    Both weights 0 are the model without the regulariser: `decoder="convnet", prior="standard-normal"` is then a plain VAE,
    `decoder="pixelcnn", prior="flow"` a Variational Lossy Autoencoder.

    Arguments:
        latent_dim: numbers of a code; of colour images, channels of the maps that a code is.
        diversity_weight: the paper's eta: makes posteriors differ in every latent dimension.
        smoothness_weight: the paper's gamma: makes the pairwise divergences alike.
        decoder: "pixelcnn", "convnet" or "mlp" (independent pixels), or a configuration of `mpdvae.experiments.model_config`.
        encoder: "convnet" or "mlp", or a configuration.
        prior: "flow" or "standard-normal", or a configuration.
        image_shape: of flat rows: (height, width), (channel, height, width) or (height, width, channel); one may be -1.
        value_range: numbers that are black and white (of colour: none and all of a colour). Booleans, and bytes (uint8, 0 to
            255), have their own.
        max_iter: epochs at the most; a longer run also lets the learning rate fall more slowly.
        batch_size: images of a step; all of them where there are fewer.
        learning_rate: of Adam, at first; it falls to a tenth by the last of `max_iter` epochs.
        validation_fraction: of the images, set aside to stop by and to select the weights by.
        n_iter_no_change: epochs without a better validation ELBO after which training stops, rounded up to evaluation
            points: one each epoch, or each 50 steps where that leaves ten of them; None: never.
        importance_samples: of the likelihood of an image.
        device: where to train and compute: "cpu", "cuda", "cuda:1", ...; results depend on it. A pickle opens on the CPU,
            from where `vae_.to(device)` takes it anywhere.
        random_state: of weights, order, noise and the images set aside; an integer makes everything reproducible.
        verbose: 1 shows progress.
        run_folder: where to train: new, or that of the very same fit, which goes on. `mpdvae diagnose` and `mpdvae report`
            read it. None: a temporary one.

    Attributes:
        vae_: the trained `mpdvae.VAE`, averaged weights of the best epoch.
        experiment_: its complete configuration.
        image_shape_: (channel, height, width).
        history_: what was measured at each evaluation point; a list of dictionaries with units in the keys.
        n_iter_: epochs trained.
        n_features_in_: numbers of an image.
        feature_names_in_: of flat rows that had names.
    """

    @no_type_check  # scikit-learn's convention: anything can be set, and fit refuses it
    def __init__(
        self,
        latent_dim: int = 32,
        diversity_weight: float = 1.0,
        smoothness_weight: float = 0.5,
        decoder: str | Config = "pixelcnn",
        encoder: str | Config = "convnet",
        prior: str | Config = "flow",
        *,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        max_iter: int = 20,
        batch_size: int = 64,
        learning_rate: float = 4e-3,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        importance_samples: int = 64,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        run_folder: str | Path | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.diversity_weight = diversity_weight
        self.smoothness_weight = smoothness_weight
        self.decoder = decoder
        self.encoder = encoder
        self.prior = prior
        self.image_shape = image_shape
        self.value_range = value_range
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.importance_samples = importance_samples
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.run_folder = run_folder

    def fit(self, X: Any, y: Any = None) -> "MPDVAE":
        """Trains on images.

        Raises:
            InputError: for what are no images, too few of them, or parameters that cannot work; names which.
            RunError: where the loss is no longer a finite number.
        """
        pixels = self._pixels(X, fitting=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data = self._divided(pixels, seed)
        experiment = self._experiment(data, seed)
        check_fit(experiment, data)  # before a folder is made
        check_device(self.device, "device")
        data = data.to(self.device)
        with self._folder() as folder, self._following(folder, data, experiment) as watch:
            run = Run.create(folder, experiment)
            describe_run(run, data, "mpdvae.sklearn.MPDVAE.fit")
            self.vae_ = train(run, data, watch).to(self.device)
            self.history_ = run.history
        self.experiment_, self.image_shape_ = experiment, data.image_shape
        self.n_iter_ = round(self.history_[-1]["epoch"])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The posterior mean of each image: float32 [n, latent], maps as rows."""
        x, _ = self._model_input(X)
        return torch.cat([self.vae_.encode(images).flatten(1) for images in x.split(IMAGES_AT_ONCE)]).cpu().numpy()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """An image for each code, in the form and range of the images in `fit`.

        Independent pixels: their mean (of colour: the level of the likeliest component). Autoregressive pixels, whose mean
        has no formula: that of `DRAWS` images drawn for the code, grey where it leaves open what is there. Deterministic."""
        check_is_fitted(self, "vae_")
        codes = check_array(X, dtype=cast(Any, np.float32))  # its annotation knows names only
        if codes.shape[1] != self._n_features_out:
            raise InputError(f"X: expected codes of {self._n_features_out} numbers, got {codes.shape[1]}.")
        z = self._to_model(torch.tensor(codes).view(-1, *self._latent_shape))
        with seeded(self.experiment_.seed, "inverse_transform"):
            return self._as_given(torch.cat([_mean_image(self.vae_, some) for some in z.split(IMAGES_AT_ONCE)]))

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) in nats of each image, [n]: the importance-weighted bound of `importance_samples` draws, in expectation
        below log p(x). Deterministic; error bars are in `mpdvae.measures.density.estimate`."""
        check_samples(self.importance_samples, "importance_samples")
        x, keys = self._model_input(X)
        estimate = density.estimate(self.vae_, x, self.importance_samples, seed=self.experiment_.seed, indices=keys)
        return estimate.log_prob.numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples` in nats: what `GridSearchCV` makes large."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
        """Images drawn from the model, in the form and range of the images in `fit`."""
        check_is_fitted(self, "vae_")
        check_samples(n_samples, "n_samples")
        with seeded(int(check_random_state(random_state).randint(2**31 - 1)), "sample"):
            return self._as_given(self.vae_.sample(n_samples))

    # -- scikit-learn's own ----------------------------------------------------------------------------------------------

    @property
    def _latent_shape(self) -> tuple[int, ...]:
        return self.experiment_.encoder.latent_shape(self.image_shape_, self.experiment_.latent_dim)

    @property
    def _n_features_out(self) -> int:
        return math.prod(self._latent_shape)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = self.image_shape is not None  # flat rows need it
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The model is kept as the bytes of a safetensors file: a pickle of it needs this class and no other code."""
        state = dict(cast("dict[str, Any]", super().__getstate__()))
        vae = state.pop("vae_", None)
        if vae is not None:
            state["_weights"] = bytes_of({name: tensor.cpu().contiguous() for name, tensor in vae.state_dict().items()})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is not None:
            self.vae_ = self.experiment_.build(self.image_shape_)
            self.vae_.load_state_dict(tensors_of(weights))
            self.vae_.eval()

    # -- images ----------------------------------------------------------------------------------------------------------

    def _pixels(self, X: Any, fitting: bool) -> torch.Tensor:
        """X as levels, uint8 [n channel height width]."""
        layout = None
        if _axes(X) > 2:
            X = np.asarray(X)
            layout = X.shape[1:]
            X = X.reshape(len(X), math.prod(layout))
        rows: Any = validate_data(self, X, reset=fitting, ensure_min_samples=FEWEST_IMAGES if fitting else 1)
        if fitting:
            self._dtype, self._rows = rows.dtype, layout is None
            self._layout = axes_of_image(rows.shape[1], layout, self.image_shape)
        elif layout not in (None, self._layout):
            raise InputError(
                f"X: expected images of shape {self._layout} as in fit, got {layout}.", topic="image-shape"
            )
        images = rows.reshape(-1, *self._layout)
        return channels_first(grey_levels(in_unit_range(images, self.value_range), "X"), "X")

    def _model_input(self, X: Any) -> tuple[torch.Tensor, list[int]]:
        check_is_fitted(self, "vae_")
        x, keys = images_by_content(self._pixels(X, fitting=False), self.experiment_.data.protocol())
        return self._to_model(x), keys

    def _to_model(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` on the model's device."""
        return tensor.to(next(self.vae_.parameters()).device)

    def _as_given(self, images: torch.Tensor) -> np.ndarray:
        """Images of the model in the form and range of those in `fit`."""
        x = with_axes(self.experiment_.data.shown(images).cpu().numpy(), self._layout)
        return in_range(x.reshape(len(x), -1) if self._rows else x, self._dtype, self.value_range)

    # -- training --------------------------------------------------------------------------------------------------------

    def _divided(self, pixels: torch.Tensor, seed: int) -> Splits:
        """Images to train on, and to validate on; there are no others to test on."""
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction: expected a number between 0 and 1, got {self.validation_fraction}.")
        size = min(max(round(self.validation_fraction * len(pixels)), 2), len(pixels) - 2)
        images = Images(pixels)
        train, validation = (images.take(chosen) for chosen in split_train_validation(len(pixels), size, seed))
        return Splits.of("own", "own images", train, validation, validation, seed)

    def _experiment(self, data: Splits, seed: int) -> Experiment:
        channels, images = data.image_shape[0], len(data.train)
        batch_size = min(self.batch_size, images)
        colour = {"binarisation": "levels"} if channels > 1 else {}
        given = {
            "name": "own-images",
            "model": type(self).__name__,
            "seed": seed,
            "latent_dim": self.latent_dim,
            "data": {"dataset": "own", "evaluation_draws": 1, "split_seed": seed} | colour,
            "objective": {"diversity_weight": self.diversity_weight, "smoothness_weight": self.smoothness_weight},
            "training": self._training(batch_size, steps_per_epoch(images, batch_size)),
        }
        parts = {role: part(role, getattr(self, role), channels) for role in ("encoder", "decoder", "prior")}
        try:
            return Experiment.model_validate(_plain(given) | parts)
        except ValidationError as error:
            sentence = in_words(error)
            for field, parameter in PARAMETERS.items():
                sentence = sentence.replace(field, parameter)
            raise InputError(sentence) from None

    def _training(self, batch_size: int, epoch_steps: int) -> dict[str, Any]:
        if self.n_iter_no_change is not None and self.n_iter_no_change < 2:
            raise InputError(f"n_iter_no_change: expected at least 2 epochs, or None, got {self.n_iter_no_change}.")
        run = short_training(self.max_iter, epoch_steps, self.n_iter_no_change)
        return run | {"batch_size": batch_size, "learning_rate": self.learning_rate}

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """The named run folder, or one that is gone afterwards."""
        if self.run_folder is not None:
            yield Path(self.run_folder)
        else:
            with tempfile.TemporaryDirectory(prefix="mpdvae-") as folder:
                yield Path(folder)

    @contextmanager
    def _following(self, folder: Path, data: Splits, experiment: Experiment) -> Iterator[Watch]:
        """What the loop tells of its steps: shown, or not."""
        if not self.verbose:
            yield lambda done, entry: None
            return
        with Watcher(
            f"{type(self).__name__}: {len(data.train)} images, {len(data.validation)} more to stop by"
        ) as watcher:
            yield watcher.following(folder.name, experiment.training.steps)


@torch.no_grad()
def _mean_image(vae: VAE, z: torch.Tensor) -> torch.Tensor:
    """The mean of p(x given z) for each code, exact or of `DRAWS` draws."""
    p = vae.decoder(z)
    try:
        return p.mean
    except NotImplementedError:  # pixels that depend on each other
        return p.sample((DRAWS,)).mean(0)


def _axes(X: Any) -> int:
    """How many axes X has; 2 for whatever is no array and no list, which scikit-learn makes an array of."""
    return np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)


def _plain(tree: Any) -> Any:
    """numpy's numbers, of which grids of parameters are made, as Python's."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    return tree.item() if isinstance(tree, np.generic) else tree
