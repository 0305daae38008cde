"""The scikit-learn estimator: trains MAE and related models on arrays of images; returns codes, likelihoods and images.

    codes = MPDVAE(latent_dim=16, random_state=0).fit(X).transform(X)

`MPDVAE` is a thin layer over the package: `fit` builds an `Experiment` and runs the usual training loop in a run folder, a
temporary one by default; `score_samples` calls `mpdvae.measures.density.estimate`.

The docstring of `MPDVAE` describes the accepted forms of images, and how grey and colour images are modelled.

The contract of estimators: https://scikit-learn.org/stable/developers/develop.html; tests/workflows/test_estimator.py runs
scikit-learn's checks of it.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, no_type_check

import numpy as np
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin, clone
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from mpdvae.data import images_by_content
from mpdvae.data.conditions import Known, told_numbers
from mpdvae.data.protocols import expected_images
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments.experiment import origin_of
from mpdvae.experiments.fields import Config
from mpdvae.measures import density
from mpdvae.models.conditional import ConditionalDecoder
from mpdvae.runs.tensor_file import apart
from mpdvae.seeding import seeded
from mpdvae.sharing.pretrained import load
from mpdvae.vae import VAE, check_samples
from mpdvae.workflows.estimator_conditions import classes_of, told_in_fit, told_later
from mpdvae.workflows.estimator_experiment import estimated_seconds, experiment_of, parameters_of
from mpdvae.workflows.estimator_fit import check_numbers, checked_device, divided, fitted, warn_of_early_end
from mpdvae.workflows.estimator_images import ImagesInX
from mpdvae.workflows.python_names import ESTIMATOR, naming_arguments

IMAGES_AT_ONCE = 500
"""Images, or codes, in a chunk of `transform` and `inverse_transform`."""
DRAWS = 8
"""Images drawn and averaged for one code, if the mean of p(x|z) has no formula."""


class MPDVAE(ImagesInX, ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """Variational autoencoder with mutual posterior-divergence regularisation (MAE).

    Learns codes of images without labels (Ma, Zhou & Hovy, ICLR 2019, https://arxiv.org/abs/1901.01498). `transform`
    encodes images, `inverse_transform` decodes codes, `score_samples` estimates log-likelihoods, and `sample` draws images.

    With both weights 0 the regulariser is off: `decoder="convnet", prior="standard-normal"` is then a plain VAE, and
    `decoder="pixelcnn", prior="flow"` a Variational Lossy Autoencoder.

    Given `labels` (classes), `covariates` (numbers) or both, `fit` trains a conditional model: encoder, decoder and prior are
    told them of each image (docs/conditional.md). Methods that take images or codes then take them, too: of each, or one for
    all. A label is a class by value, an integer or text; y is ignored. In pipelines and searches scikit-learn's metadata
    routing passes them on: `set_config(enable_metadata_routing=True)`, and `set_fit_request(labels=True)`,
    `set_transform_request(labels=True)` and `set_score_request(labels=True)` of the estimator.

    X holds images [n height width], [n channel height width] or [n height width channel], with up to 64 channels, or flat
    rows with `image_shape`; or is a list of pictures of Pillow or of their paths, a folder of pictures, in the order of their
    names, an .npy or .npz file, or a data set of torch or Hugging Face, whose labels are left out (docs/own-images.md).
    Pictures are read as they look. Returned images have the form and value range of the images given to `fit`; for pictures,
    bytes.

    Grey images are modelled as black and white, as in the paper, unless the decoder is one of other values: during training
    a pixel is white with the probability given by its grey level, drawn anew at every visit. `transform` encodes grey levels
    as they are; for likelihoods each image is drawn once, by a seed that depends on the image alone. To binarise without
    randomness, pass `X > 0.5`. Photographs (`decoder="auto"`) and colour images have 256 levels. A decoder whose `pixels` are
    of another kind (docs/likelihoods.md) gets images as that kind: `decoder=MLPDecoder(pixels="gaussian")`.

    Arguments:
        latent_dim: number of latent dimensions; of codes that are maps, the number of channels.
        diversity_weight: weight of the diversity term (the paper's eta), which makes posteriors differ in every latent
            dimension.
        smoothness_weight: weight of the smoothness term (the paper's gamma), which makes the pairwise divergences alike.
        decoder: "pixelcnn"; "convnet" or "mlp", which have independent pixels; "auto": "pixelcnn" for grey images that are
            nearly black and white, "convnet" with 256 levels for others; or a configuration of
            `mpdvae.experiments`. With "pixelcnn", codes of colour images are maps.
        encoder: "convnet", "mlp", or a configuration of `mpdvae.experiments`.
        prior: "flow", "standard-normal", or a configuration of `mpdvae.experiments`.
        image_shape: shape of an image if X has flat rows: (height, width), (channel, height, width) or (height, width,
            channel); one of the numbers may be -1.
        value_range: values of black and white; for colour images, of none and all of a colour. Booleans and bytes (uint8,
            0 to 255) have their own range.
        levels: levels of a pixel, a power of two. With another number than 256, grey images are modelled by their levels,
            too, instead of in black and white. Above 256, images of 16 bits keep them: floats, or integers with
            `value_range=(0, 65535)`.
        max_iter: maximum number of epochs; "auto": as many as make 2,000 steps, but at least 20, or as fit in `time_budget`.
            With a larger value the learning rate also falls more slowly.
        batch_size: number of images per training step; all training images if there are fewer.
        learning_rate: initial learning rate of Adam; it falls to a tenth by the last of `max_iter` epochs.
        validation_fraction: fraction of the images set aside for early stopping and for selecting the weights.
        n_iter_no_change: number of epochs without improvement of the validation ELBO after which training stops, at least
            2, rounded up to evaluation points. These are one epoch apart, or 50 steps where that leaves ten of them.
            "auto": a fifth of the maximum, but at least 10. None: no early stopping.
        time_budget: seconds that training may take, about; None: no limit. A step is timed before the first one, and the
            number of epochs is set to what fits, and to `max_iter` at the most. Training still stops when it no longer
            improves (`n_iter_no_change`).
        importance_samples: number of importance samples per image in `score_samples` and `score`.
        device: device for training and inference: "cpu", "cuda", "cuda:1", ... "auto": a GPU if there is one, for a fit that
            goes on in `run_folder` the kind that it began on. Results depend on it. An unpickled estimator is on the CPU;
            `vae_.to(device)` moves it to any other device.
        precision: precision of the networks during training: "float32", "bfloat16", or "auto". "auto" times training steps
            in both precisions, each uncompiled and (in long fits) compiled, and takes the fastest whose loss agrees;
            results depend on the choice, which is in `experiment_.training` (`precision`, `compile`).
        random_state: determines the initial weights, the order of the images, the noise and the choice of validation
            images. Pass an integer for reproducible results.
        verbose: 0 is silent, 1 shows progress.
        run_folder: folder to train in: a new one, or that of an identical earlier fit, which is resumed. `mpdvae diagnose`
            and `mpdvae report` read it. None: a temporary folder.

    Attributes:
        vae_: the trained `mpdvae.VAE`, with the averaged weights of the best epoch.
        experiment_: the complete configuration of the fit.
        image_shape_: (channel, height, width).
        classes_: the classes of `labels` in order; `vae_` knows them by their places. Only of models that are told the class.
        history_: measurements at each evaluation point: a list of dictionaries whose keys state the units.
        n_iter_: number of epochs trained.
        n_features_in_: number of values in an image.
        feature_names_in_: names of the columns of X, if it had flat rows whose columns all have names that are text.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> from mpdvae.sklearn import MPDVAE
        >>> X = load_digits().images
        >>> X.shape
        (1797, 8, 8)
        >>> model = MPDVAE(latent_dim=8, value_range=(0, 16), max_iter=2, random_state=0).fit(X)
        >>> codes = model.transform(X)
        >>> codes.shape
        (1797, 8)
        >>> model.inverse_transform(codes[:3]).shape
        (3, 8, 8)
        >>> model.sample(5, random_state=0).shape
        (5, 8, 8)
    """

    @no_type_check  # scikit-learn's convention: any value can be set; fit validates it
    def __init__(
        self,
        latent_dim: int = 32,
        diversity_weight: float = 1.0,
        smoothness_weight: float = 0.5,
        decoder: str | Config = "auto",
        encoder: str | Config = "convnet",
        prior: str | Config = "flow",
        *,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        levels: int = 256,
        max_iter: int | str = "auto",
        batch_size: int = 64,
        learning_rate: float = 4e-3,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str | None = "auto",
        time_budget: float | None = None,
        importance_samples: int = 64,
        device: str = "auto",
        precision: str = "float32",
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
        self.levels = levels
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.time_budget = time_budget
        self.importance_samples = importance_samples
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.run_folder = run_folder

    def fit(self, X: Any, y: Any = None, *, labels: Any = None, covariates: Any = None) -> "MPDVAE":
        """Fits the model to images.

        Arguments:
            X: at least 4 images; see the class for the accepted shapes.
            y: ignored; exists for compatibility with scikit-learn.
            labels: class of each image, which makes the model conditional: integers or text, [n], or one-hot rows
                [n classes], of at most 256 classes.
            covariates: numbers that are known of each image, which make the model conditional: [n] or [n covariate].

        Returns:
            The fitted estimator itself.

        Raises:
            InputError: if X does not hold images or holds too few, labels or covariates are not one for each, or a parameter
                is invalid; names which.
            RunError: if the loss becomes non-finite.

        Warns:
            ConvergenceWarning: if the model still improved at the last epoch.
        """
        given = self.get_params()
        check_numbers(given)
        device = checked_device(given)
        with naming_arguments(ESTIMATOR):
            pixels = self._pixels(X, fitting=True)
            told = told_in_fit(labels, covariates, len(pixels))
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            data = divided(given, told.images(pixels), seed).to(device)
            fit = fitted(given, type(self).__name__, data, seed, told.condition)
        self.vae_, self.experiment_, self.history_ = fit.vae, fit.experiment, fit.history
        self.image_shape_, self.n_iter_ = data.image_shape, fit.epochs
        self._keep_classes(told.classes)
        warn_of_early_end(given, fit)
        return self

    def fit_transform(self, X: Any, y: Any = None, *, labels: Any = None, covariates: Any = None) -> np.ndarray:
        """Fits the model to images and encodes them, told the same; see `fit` and `transform`."""
        self.fit(X, y, labels=labels, covariates=covariates)
        return self.transform(X, labels=labels, covariates=covariates)

    def estimate_seconds(self, X: Any, *, labels: Any = None, covariates: Any = None) -> float:
        """Returns about how many seconds `fit` takes on this machine if it does not stop early, without fitting: a few
        training steps are timed. `precision="auto"` can be faster. Raises `InputError` as `fit` does."""
        given = self.get_params()
        check_numbers(given)
        device = checked_device(given)
        pixels = cast(MPDVAE, clone(self))._pixels(X, fitting=True)
        told = told_in_fit(labels, covariates, len(pixels))
        data = divided(given, told.images(pixels), seed=0).to(device)
        experiment = experiment_of(given, type(self).__name__, data, 0, condition=told.condition)
        return estimated_seconds(experiment, data)

    @classmethod
    def from_pretrained(
        cls, source: str | bytes | Path, *, revision: str | None = None, token: str | None = None, **parameters: Any
    ) -> "MPDVAE":
        """Returns a fitted estimator of a trained model.

        Arguments:
            source: a run folder, a model folder, a model that comes with the package, or a model on the hub; see
                `mpdvae.load`.
            revision: as in `mpdvae.load`.
            token: as in `mpdvae.load`.
            parameters: parameters of the estimator that a fitted one uses: `image_shape`, the form of returned images,
                (height, width) or (channel, height, width) by default; `value_range`, `importance_samples`, `device`, ...

        Raises:
            InputError: as `mpdvae.load` does, and for a parameter that does not exist or does not fit.
            RunError: as `mpdvae.load` does.
        """
        vae = load(source, revision=revision, token=token)
        origin, known = origin_of(vae), cls().get_params()
        for name in parameters:
            if name not in known:
                refuse_unknown("parameter", name, sorted(known))
        self = cls(**(parameters_of(origin) | parameters))
        given = self.get_params()
        check_numbers(given)
        self.vae_, self.experiment_ = vae.to(checked_device(given)), origin.experiment
        self._of_trained(origin.image_shape)
        self._keep_classes(classes_of(origin))
        self.history_ = []
        self.n_iter_ = 0
        return self

    def transform(self, X: Any, *, labels: Any = None, covariates: Any = None) -> np.ndarray:
        """Encodes images.

        Arguments:
            X: images.
            labels: for a conditional model, the class of each image, or one for all.
            covariates: for a conditional model, the covariates of each image, or a row for all.

        Returns:
            The posterior mean of each image: float32 [n, latent]. Maps are flattened to rows. Grey images are encoded as they
            are, without the noise of drawing black and white pixels (docs/own-images.md says how good codes are).

        Raises:
            InputError: for other images than those of `fit`; and, as all methods do, for labels or covariates that the model
                needs and are missing, that it does not know, or that it is not told.
        """
        check_is_fitted(self, "vae_")
        pixels = self._pixels(X, fitting=False)
        known = self._known(labels, covariates, len(pixels))
        x = self._to_model(expected_images(pixels, self.experiment_.data.protocol(), known))
        return torch.cat([self.vae_.encode(images).flatten(1) for images in x.split(IMAGES_AT_ONCE)]).cpu().numpy()

    def inverse_transform(self, X: Any, *, labels: Any = None, covariates: Any = None) -> np.ndarray:
        """Decodes codes [n, latent], deterministically. `labels` and `covariates` are what a conditional model is told of the
        images, as in `transform`: others than those of the encoded images give the same code in another class.

        Returns:
            One image per code, in the form and value range of the images in `fit`. Independent pixels: their mean (colour:
            the level of the likeliest component). Autoregressive pixels, whose mean has no formula: the mean of `DRAWS`
            images drawn for the code, which is grey where the code leaves a pixel undecided.
        """
        check_is_fitted(self, "vae_")
        codes = check_array(X, dtype=cast(Any, np.float32))  # its annotation accepts names only
        if codes.shape[1] != self._n_features_out:
            raise InputError(f"X: expected codes of {self._n_features_out} numbers, got {codes.shape[1]}.")
        z = self._to_model(torch.tensor(codes).view(-1, *self._latent_shape))
        return self._means(z, self._numbers(self._known(labels, covariates, len(z))))

    def score_samples(self, X: Any, *, labels: Any = None, covariates: Any = None) -> np.ndarray:
        """Estimates the log-likelihood of each image, deterministically: log p(x), and of a conditional model log p(x|c) of
        an image given its `labels` and `covariates`, which are as in `transform`.

        Returns:
            The importance-weighted bound with `importance_samples` draws, in nats, [n]; its expectation is below log p(x).
            For error bars, use `mpdvae.measures.density.estimate`.
        """
        check_samples(self.importance_samples, "importance_samples")
        x, keys = self._model_input(X, labels, covariates)
        estimate = density.estimate(
            self.vae_, x, self.importance_samples, seed=self.experiment_.seed, indices=keys, proposal="encoder"
        )
        return estimate.log_prob.numpy()

    def score(self, X: Any, y: Any = None, *, labels: Any = None, covariates: Any = None) -> float:
        """Returns the mean of `score_samples` in nats, which `GridSearchCV` maximises."""
        return float(self.score_samples(X, labels=labels, covariates=covariates).mean())

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        pixel_noise: bool = True,
        labels: Any = None,
        covariates: Any = None,
    ) -> np.ndarray:
        """Draws images from the model, in the form and value range of the images in `fit`.

        Arguments:
            n_samples: number of images.
            random_state: as in `fit`.
            pixel_noise: whether pixels are drawn given the code, as the model says. Without, they are what
                `inverse_transform` gives for codes drawn from the prior: smooth, where pixels are independent.
            labels: for a conditional model, the class of each image, or one for all.
            covariates: for a conditional model, the covariates of each image, or a row for all. With neither, classes are
                drawn, all alike, and where there are covariates, what was told of training images.
        """
        check_is_fitted(self, "vae_")
        check_samples(n_samples, "n_samples")
        given = labels is not None or covariates is not None
        told = self._numbers(self._known(labels, covariates, n_samples)) if given else None
        with seeded(int(check_random_state(random_state).randint(2**31 - 1)), "sample"), torch.no_grad():
            z = self.vae_.prior().sample((n_samples,))
            if told is None and self.vae_.condition.channels:
                told = cast(ConditionalDecoder, self.vae_.decoder).draw_told(torch.Size((n_samples,)))
            if pixel_noise:
                return self._as_given(self.vae_.decoded(z, told).sample())
        return self._means(z, told)

    # -- scikit-learn's protocol -----------------------------------------------------------------------------------------

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
        tags.input_tags.two_d_array = self.image_shape is not None  # required for flat rows
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Stores the model as the bytes of a safetensors file; a pickle of it needs this class and no other code."""
        state = dict(cast("dict[str, Any]", super().__getstate__()))
        vae = state.pop("vae_", None)
        if vae is not None:
            state["_weights"] = bytes_of(apart(vae.state_dict()))
            state["_class_names"] = origin_of(vae).class_names
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights, names = state.pop("_weights", None), state.pop("_class_names", None)
        super().__setstate__(state)
        if weights is not None:
            self.vae_ = self.experiment_.build(self.image_shape_)
            self.vae_.load_state_dict(tensors_of(weights))
            self.vae_.origin = replace(origin_of(self.vae_), class_names=names)
            self.vae_.eval()

    # -- the model -------------------------------------------------------------------------------------------------------

    @property
    def _classes(self) -> np.ndarray | None:
        return getattr(self, "classes_", None)

    def _keep_classes(self, classes: np.ndarray | None) -> None:
        if classes is not None:
            self.classes_ = classes
        elif hasattr(self, "classes_"):  # of an earlier fit
            del self.classes_

    def _known(self, labels: Any, covariates: Any, count: int) -> Known:
        """Returns what the model is told of `count` images. Raises `InputError` for anything that it cannot be told."""
        known = told_later(self.vae_.condition, self._classes, labels, covariates, count)
        self.vae_.check_near_training(self._numbers(known))
        return known

    def _model_input(self, X: Any, labels: Any = None, covariates: Any = None) -> tuple[torch.Tensor, list[int]]:
        """Returns images as the model has a likelihood of them, and the key of each."""
        check_is_fitted(self, "vae_")
        pixels = self._pixels(X, fitting=False)
        known = self._known(labels, covariates, len(pixels))
        x, keys = images_by_content(pixels, self.experiment_.data.protocol(), known)
        return self._to_model(x), keys

    def _numbers(self, known: Known) -> torch.Tensor | None:
        """Returns what the model is told as `vae_` takes it; None for a model that is told nothing."""
        condition = self.vae_.condition
        return self._to_model(told_numbers(condition, known)) if condition.channels else None

    def _means(self, z: torch.Tensor, told: torch.Tensor | None) -> np.ndarray:
        """Returns the mean image of each code, given what is told of it."""
        chunks = torch.arange(len(z)).split(IMAGES_AT_ONCE)
        with seeded(self.experiment_.seed, "inverse_transform"):
            means = [_mean_image(self.vae_, z[some], None if told is None else told[some]) for some in chunks]
        return self._as_given(torch.cat(means))

    def _to_model(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns `tensor` on the model's device."""
        return tensor.to(next(self.vae_.parameters()).device)


@torch.no_grad()
def _mean_image(vae: VAE, z: torch.Tensor, told: torch.Tensor | None) -> torch.Tensor:
    """Returns the mean of p(x|z) for each code: exact, or over `DRAWS` draws."""
    p = vae.decoded(z, told)
    try:
        return p.mean
    except NotImplementedError:  # pixels that depend on each other
        return p.sample((DRAWS,)).mean(0)
