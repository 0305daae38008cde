"""The estimator: scikit-learn's own checks, forms of images, likelihoods that sum to one, what is kept, what is refused."""

import math
import pickle
import pickletools
import re
import warnings

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, SkipTestWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from small_runs import tiny

import mpdvae
from mpdvae.data import Images, Splits
from mpdvae.errors import InputError
from mpdvae.experiments.decoder_config import ConvNetDecoder, MLPDecoder
from mpdvae.experiments.encoder_config import MLPEncoder
from mpdvae.experiments.presets import short_training
from mpdvae.experiments.training_config import Training
from mpdvae.sklearn import MPDVAE
from mpdvae.training.fastest_step import Choice
from mpdvae.workflows import precision_choice
from mpdvae.workflows.estimator_experiment import experiment_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # fits of an epoch

SMALL = {
    "latent_dim": 2,
    "encoder": MLPEncoder(hidden_features=(8,)),
    "decoder": MLPDecoder(hidden_features=(8,)),
    "prior": "standard-normal",
    "max_iter": 1,
    "batch_size": 50,
    "importance_samples": 4,
    "random_state": 0,
}
"""The quickest fit that there is."""


def grey(n: int = 20, height: int = 4, width: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width)) / 255


def small(**changes) -> MPDVAE:
    return MPDVAE(**(SMALL | changes))


# -- scikit-learn's contract -------------------------------------------------------------------------------------------

ROWS_OF_NUMBERS = small(image_shape=(1, -1), value_range=(-1e4, 1e4))
"""scikit-learn checks estimators on rows of any length and range: here, images that are one pixel high."""


@parametrize_with_checks([ROWS_OF_NUMBERS])  # none is expected to fail
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_rows_are_taken_with_the_shape_of_their_images_only_and_tags_say_so():
    assert get_tags(MPDVAE(image_shape=(8, 8))).input_tags.two_d_array
    assert not get_tags(MPDVAE()).input_tags.two_d_array
    with pytest.warns(SkipTestWarning, match="Can't test estimator MPDVAE"):
        check_estimator(MPDVAE())


def pictures(levels, mode="P"):
    """Pictures whose palettes run from white to black, or whose levels are what they say."""
    made = [Image.fromarray(255 - image if mode == "P" else image) for image in levels]
    for picture in made if mode == "P" else ():
        picture.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    return made


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_fitted_and_encoded_as_they_look(channels):
    levels = np.round(grey() * 255).astype(np.uint8)
    X = levels if channels == 1 else np.stack([levels, levels[::-1], levels], -1)
    given = pictures(X, "P" if channels == 1 else "RGB")
    model, of_pictures = small().fit(X), small().fit(given)
    codes = model.transform(X)
    for codes_too in (of_pictures.transform(X), of_pictures.transform(given), model.transform(given)):
        np.testing.assert_array_equal(codes_too, codes)
    np.testing.assert_array_equal(of_pictures.score_samples(given), model.score_samples(X))
    np.testing.assert_allclose(of_pictures.transform(given[0]), codes[:1], rtol=1e-4)
    drawn = of_pictures.sample(3, random_state=0)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (3, *X.shape[1:]))


def test_pictures_that_do_not_fit_are_refused():
    given = pictures(np.round(grey() * 255).astype(np.uint8))
    with pytest.raises(InputError, match=r"X\[19\]: expected the shape of X\[0\], \(1, 4, 5\)"):
        small().fit([*given[:19], Image.new("L", (5, 5))])
    with pytest.raises(InputError, match=r"X: expected images of shape \(4, 5\) as in fit, got \(5, 5\)"):
        small().fit(given).transform([Image.new("L", (5, 5))])


def test_pictures_of_16_bits_keep_them():
    X = np.random.default_rng(0).integers(0, 65536, (20, 4, 5)).astype(np.uint16)
    given = [Image.fromarray(image) for image in X]
    model = small(levels=65536, value_range=(0, 65535), decoder=ConvNetDecoder(channels=(4,)))
    np.testing.assert_array_equal(clone(model).fit(given).transform(given), model.fit(X).transform(X))


def test_labels_change_nothing():
    labels = ["a", None] * 10
    assert np.array_equal(small().fit(GREY, labels).transform(GREY), small().fit(GREY).transform(GREY))


def test_it_works_in_a_pipeline_and_a_grid_search():
    X = load_digits().data[:60]
    pipeline = make_pipeline(MinMaxScaler(clip=True), small(image_shape=(8, 8)))
    search = GridSearchCV(pipeline, {"mpdvae__latent_dim": np.arange(2, 4)}, cv=2).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_["mpdvae__latent_dim"] == 2 + np.argmax(scores)
    assert search.transform(X).shape == (60, search.best_params_["mpdvae__latent_dim"])


def test_the_names_of_columns_are_kept():
    pandas = pytest.importorskip("pandas")
    names = [f"pixel_{i}" for i in range(20)]
    X = pandas.DataFrame(GREY.reshape(20, -1), columns=names)
    model = small(image_shape=(4, 5)).fit(X)
    assert model.feature_names_in_.tolist() == names
    assert np.array_equal(model.transform(X), small().fit(GREY).transform(GREY))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_tensors_are_taken_in_any_precision_with_or_without_gradients(dtype):
    import torch

    X = torch.from_numpy(GREY > 0.5).to(getattr(torch, dtype)).requires_grad_()
    expected = small().fit(GREY > 0.5).transform(GREY > 0.5)
    assert np.array_equal(small().fit(X).transform(X), expected)
    assert np.array_equal(small().fit(list(X)).transform(list(X)), expected)


def test_columns_have_names():
    pytest.importorskip("pandas")
    codes = small().set_output(transform="pandas").fit_transform(grey())
    assert list(codes.columns) == ["mpdvae0", "mpdvae1"]


# -- forms of images ---------------------------------------------------------------------------------------------------

GREY = grey()
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 3, 4, 8), dtype=np.uint8)
COLOUR_PARTS = {"encoder": "convnet", "decoder": "convnet", "prior": "flow", "latent_dim": 4, "batch_size": 8}
FORMS = {
    "height and width": (GREY, GREY, {}),
    "channels first": (GREY[:, None], GREY, {}),
    "channels last": (GREY[..., None], GREY, {}),
    "rows": (GREY.reshape(20, -1), GREY, {"image_shape": (4, 5)}),
    "rows with channels": (GREY.reshape(20, -1), GREY, {"image_shape": (1, 4, -1)}),
    "other range": (GREY * 16 - 8, GREY, {"value_range": (-8, 8)}),
    "bytes": (np.round(GREY * 255).astype(np.uint8), GREY, {"value_range": (0, 255)}),
    "black and white": (GREY > 0.5, (GREY > 0.5).astype(float), {}),
    "colour first": (COLOUR, COLOUR / 255, COLOUR_PARTS),
    "colour last": (COLOUR.transpose(0, 2, 3, 1), COLOUR / 255, COLOUR_PARTS),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_images_changes_nothing_but_the_form_of_what_comes_back(form):
    X, same, changes = FORMS[form]
    given = small(**changes).fit(X)
    plain = small(**{name: value for name, value in changes.items() if name in COLOUR_PARTS}).fit(same)
    assert np.array_equal(given.transform(X), plain.transform(same))
    assert np.array_equal(given.score_samples(X), plain.score_samples(same))
    images = given.inverse_transform(given.transform(X))
    assert images.shape == X.shape
    assert images.dtype == (np.uint8 if X.dtype == np.uint8 else np.float32)
    low, high = (0, 255) if X.dtype == np.uint8 else given.value_range
    assert low <= images.min() < images.max() <= high
    assert images.max() > (low + high) / 2 - 1e-3 * high  # the whole range, not a part of it
    assert given.sample(3, random_state=0).shape == (3, *X.shape[1:])


def test_images_are_taken_by_a_model_that_was_fitted_to_rows():
    model = small(image_shape=(4, 5)).fit(GREY.reshape(20, -1))
    assert np.array_equal(model.transform(GREY), model.transform(GREY.reshape(20, -1)))


def test_grey_levels_are_drawn_by_the_image_alone():
    """Wherever an image stands; and every image by itself: copies agree, others don't follow a common pattern."""
    model = small().fit(GREY)
    half = np.full((2, 4, 5), 0.5)
    half[1, 0, 0] = 128 / 255 + 1 / 255
    once, again = model.transform(half), model.transform(half[::-1])
    np.testing.assert_allclose(once, again[::-1], rtol=1e-5)
    assert np.abs(once[0] - once[1]).max() > 1e-3


# -- what is measured --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["mlp", "pixelcnn"])
def test_probabilities_of_all_images_sum_to_one(decoder):
    every = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool).reshape(16, 2, 2)
    as_wide_as_the_prior = MLPEncoder(
        hidden_features=(8,), log_variance_limit=0.1
    )  # or importance weights have no variance
    model = small(decoder=decoder, encoder=as_wide_as_the_prior, importance_samples=4000).fit(every)
    assert np.exp(model.score_samples(every)).sum() == pytest.approx(1, abs=0.04)
    assert model.score(every) == pytest.approx(model.score_samples(every).mean())


def test_independent_pixels_are_decoded_to_their_mean():
    import torch

    model = small().fit(GREY)
    codes = model.transform(GREY)
    with torch.no_grad():
        mean = model.vae_.decoder(torch.from_numpy(codes)).mean[:, 0]
    np.testing.assert_allclose(model.inverse_transform(codes), mean.numpy(), rtol=1e-6)


def test_pixels_that_depend_on_each_other_are_decoded_to_their_mean_in_expectation():
    import torch

    every = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool).reshape(16, 2, 2)
    model = small(decoder="pixelcnn").fit(every)
    code = model.transform(every[5:6])
    with torch.no_grad():
        x = torch.from_numpy(every).float()
        probability = model.vae_.decoder(torch.from_numpy(code)).log_prob(x[:, None, None]).exp()[:, 0]
        mean = torch.einsum("i,ihw->hw", probability, x)
    decoded = model.inverse_transform(code.repeat(1000, 0))
    assert len(np.unique(decoded)) > 3  # a mean of several draws, not one of them
    np.testing.assert_allclose(decoded.mean(0), mean.numpy(), atol=0.03)  # 5 standard errors
    assert np.array_equal(decoded, model.inverse_transform(code.repeat(1000, 0)))


@pytest.mark.parametrize(("pixels", "values"), [("gaussian", "levels"), ("continuous-bernoulli", "intensities")])
def test_a_decoder_with_another_distribution_of_pixels_gets_grey_levels(pixels, values):
    model = small(decoder=MLPDecoder(hidden_features=(8,), pixels=pixels)).fit((255 * GREY).astype(np.uint8))
    assert model.experiment_.data.binarisation == values
    assert np.isfinite(model.score((255 * GREY).astype(np.uint8)))
    drawn = model.sample(50, random_state=0)
    assert (drawn.shape, drawn.dtype) == ((50, *GREY.shape[1:]), np.uint8)
    assert len(np.unique(drawn)) > 20


def test_samples_follow_the_seed():
    model = small().fit(GREY)
    assert np.array_equal(model.sample(8, random_state=1), model.sample(8, random_state=1))
    assert not np.array_equal(model.sample(8, random_state=1), model.sample(8, random_state=2))


def test_codes_are_those_of_the_grey_levels_without_a_draw():
    model = small().fit(GREY)
    assert model.experiment_.data.pixel_values == "binary"
    levels = (255 * torch.from_numpy(GREY)).round() / 255
    expected = model.vae_.encode(levels[:, None].float())
    np.testing.assert_allclose(model.transform(GREY), expected.numpy(), rtol=1e-5, atol=1e-6)
    black = model.transform(GREY > 0.5)
    np.testing.assert_allclose(
        black, model.vae_.encode(torch.from_numpy(GREY > 0.5)[:, None].float()).numpy(), rtol=1e-6
    )


@pytest.mark.slow
def test_codes_of_digits_are_as_good_as_principal_components():
    """5-NN on 32 numbers, from 1,200 images; a standard error of the accuracy is 0.005."""
    images, classes = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    X, y = images[order].reshape(-1, 8, 8) / 16, classes[order]
    model = MPDVAE(max_iter=60, random_state=0).fit(X[:1_200])
    pca = PCA(32, random_state=0).fit(X[:1_200].reshape(-1, 64))

    def accuracy(encode) -> float:
        return KNeighborsClassifier(5).fit(encode(X[:1_200]), y[:1_200]).score(encode(X[1_200:]), y[1_200:])

    assert accuracy(model.transform) > accuracy(lambda x: pca.transform(x.reshape(-1, 64))) - 0.01


def test_samples_without_noise_of_the_pixels_are_decoded_codes():
    model = small(decoder="convnet").fit(GREY)
    smooth = model.sample(6, random_state=1, pixel_noise=False)
    assert smooth.shape == (6, 4, 5)
    assert len(np.unique(smooth)) > 20  # means of black and white pixels are grey
    assert np.array_equal(smooth, model.sample(6, random_state=1, pixel_noise=False))


def test_the_usual_networks_of_colour_images_make_codes_of_so_many_numbers():
    model = MPDVAE(latent_dim=5, max_iter=1, random_state=0).fit(COLOUR)
    assert model.transform(COLOUR).shape == (12, 5)
    assert model.experiment_.decoder.kind == "convnet"
    assert model.sample(2, random_state=0).shape == (2, 3, 4, 8)
    drawings = MPDVAE(max_iter=1, random_state=0).fit(GREY > 0.5).experiment_
    assert (drawings.decoder.kind, drawings.data.pixel_values) == ("pixelcnn", "binary")
    photographs = MPDVAE(max_iter=1, random_state=0).fit(GREY).experiment_
    assert (photographs.decoder.kind, photographs.data.pixel_values) == ("convnet", "levels")
    assert small(**COLOUR_PARTS | {"decoder": "pixelcnn"}).fit(COLOUR).transform(COLOUR).shape == (12, 4 * 1 * 2)


@pytest.mark.slow
def test_autoregressive_pixels_of_colour_images_are_measured_and_drawn():
    model = small(**COLOUR_PARTS | {"decoder": "pixelcnn"}).fit(COLOUR)
    assert -COLOUR[0].size * np.log(256) * 2 < model.score(COLOUR) < 0
    assert model.sample(2, random_state=0).shape == (2, 3, 4, 8)


# -- training ----------------------------------------------------------------------------------------------------------


def test_it_stops_when_validation_stands_still():
    still = small(max_iter=9, learning_rate=1e-12, n_iter_no_change=2).fit(GREY)
    assert still.n_iter_ == len(still.history_) == 1 + 2
    assert small(max_iter=5, learning_rate=1e-12, n_iter_no_change=None).fit(GREY).n_iter_ == 5


@pytest.mark.parametrize("epochs", [1, 2, 9, 20, 300])
@pytest.mark.parametrize("epoch_steps", [1, 7, 36, 49, 50, 500])
def test_evaluation_points_cost_little_and_are_ten_of_a_run_where_it_has_ten_epochs(epochs, epoch_steps):
    run = Training.model_validate(short_training(epochs, epoch_steps, patience=10))
    assert run.evaluate_every % epoch_steps == 0
    assert run.steps // run.evaluate_every >= min(epochs, 10)
    assert run.evaluate_every >= min(50, run.steps // 20)
    assert run.plateau is not None
    assert (run.plateau.patience + 1) * run.evaluate_every >= 10 * epoch_steps
    assert run.decay_per_step**run.steps == pytest.approx(0.1)
    assert short_training(epochs, epoch_steps, patience=None)["plateau"] is None


def test_a_named_run_folder_is_kept_and_gone_on_with(tmp_path):
    model = small(run_folder=tmp_path / "run").fit(GREY)
    loaded = mpdvae.load(tmp_path / "run").state_dict()
    assert all(np.array_equal(value, loaded[name]) for name, value in model.vae_.state_dict().items())
    weights = tmp_path / "run" / "model" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert np.array_equal(clone(model).fit(GREY).transform(GREY), model.transform(GREY))
    assert weights.stat().st_mtime_ns == written
    with pytest.raises(InputError, match="was made on other data"):
        clone(model).fit(GREY[::-1])


def test_progress_is_shown_on_request(capsys):
    small(verbose=1).fit(GREY)
    assert "-ELBO" in capsys.readouterr().out
    small().fit(GREY)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("count", [4, 5, 6])
@pytest.mark.parametrize("black_and_white", [False, True])
def test_the_fewest_images_are_enough(count, black_and_white, tmp_path):
    X = load_digits().images / 16
    model = MPDVAE(max_iter=2, random_state=1, run_folder=tmp_path / "run").fit(
        X[:count] > 0.5 if black_and_white else X[:count]
    )
    assert -80 < model.score(X[:50]) < -40  # 64 pixels of one bit each are 44 nats
    assert np.isfinite(model.transform(X)).all()


def test_the_default_precision_of_torch_changes_nothing(float64):
    import torch

    double = small().fit(GREY)
    torch.set_default_dtype(torch.float32)
    assert np.array_equal(double.transform(GREY), small().fit(GREY).transform(GREY))
    assert double.history_ == small().fit(GREY).history_


# -- trained models as estimators ---------------------------------------------------------------------------------------


def test_a_run_folder_becomes_the_estimator_that_made_it(tmp_path):
    fitted = small(run_folder=tmp_path / "run").fit(GREY)
    loaded = MPDVAE.from_pretrained(tmp_path / "run", importance_samples=4)
    codes = fitted.transform(GREY)
    assert np.array_equal(loaded.transform(GREY), codes)
    assert np.array_equal(loaded.transform(GREY[:, None]), codes)
    assert np.array_equal(loaded.transform(GREY.reshape(20, -1)), codes)
    assert np.array_equal(loaded.score_samples(GREY), fitted.score_samples(GREY))
    assert np.array_equal(loaded.inverse_transform(codes), fitted.inverse_transform(codes).astype(np.float32))
    assert np.array_equal(loaded.sample(3, random_state=0), fitted.sample(3, random_state=0).astype(np.float32))
    assert loaded.get_params()["latent_dim"] == 2
    assert np.array_equal(pickle.loads(pickle.dumps(loaded)).transform(GREY), codes)
    assert clone(loaded).set_params(max_iter=1, batch_size=9).fit(GREY).transform(GREY).shape == codes.shape


def test_a_model_folder_and_one_of_the_package_become_estimators(tmp_path):
    small().fit(GREY).vae_.save_pretrained(tmp_path / "model")
    loaded = MPDVAE.from_pretrained(tmp_path / "model", image_shape=(4, 5, 1), value_range=(0, 255))
    assert loaded.sample(2, random_state=0).shape == (2, 4, 5, 1)
    assert loaded.sample(2, random_state=0).max() == 255
    shipped = MPDVAE.from_pretrained("mae-mnist")
    drawn = shipped.sample(3, random_state=0)
    assert drawn.shape == (3, 28, 28)
    assert shipped.transform(drawn).shape == (3, 32)
    pipeline = make_pipeline(shipped, MinMaxScaler())
    assert pipeline[0].get_feature_names_out().shape == (32,)


def test_what_makes_no_estimator_is_refused(tmp_path):
    for give, message in {
        "image_shape": r"image_shape: expected the shape of images of 784 numbers, got \(3, 3\)",
        "importance_sample": r"unknown parameter 'importance_sample': did you mean 'importance_samples'",
    }.items():
        with pytest.raises(InputError, match=message):
            MPDVAE.from_pretrained("mae-mnist", **{give: (3, 3)})
    with pytest.raises(InputError, match=r"image_shape: expected the shape of the model's images, \(1, 28, 28\)"):
        MPDVAE.from_pretrained("mae-mnist", image_shape=(14, 56))
    with pytest.raises(InputError, match=r"mae-minst: expected the folder of a run .* did you mean mae-mnist"):
        MPDVAE.from_pretrained("mae-minst")


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_budget_of_time_sets_the_number_of_epochs_before_the_first_step(monkeypatch):
    """Of a machine on which a step, with all that belongs to it, takes a tenth of a second; 36 images make 4 steps."""
    from mpdvae.workflows import estimator_experiment

    monkeypatch.setattr(estimator_experiment, "step_seconds", lambda *_: 0.1 / (1 + estimator_experiment.OTHER_SHARE))
    images = grey(40)
    for budget, limit, epochs in ((2.0, "auto", 5), (2.0, 3, 3), (0.01, "auto", 1), (2.0, 50, 5)):
        model = small(batch_size=9, max_iter=limit, time_budget=budget, n_iter_no_change=None).fit(images)
        assert model.n_iter_ == epochs
        assert model.experiment_.training.steps == 4 * epochs
    assert small(batch_size=9, max_iter=5).estimate_seconds(images) == pytest.approx(2.0)


def test_a_fit_with_a_budget_is_resumed_with_the_epochs_that_it_began_with(tmp_path, monkeypatch):
    """Though the machine has become slower since."""
    from mpdvae.workflows import estimator_experiment

    codes = []
    for seconds in (0.1, 0.4):
        step = seconds / (1 + estimator_experiment.OTHER_SHARE)
        monkeypatch.setattr(estimator_experiment, "step_seconds", lambda *_, step=step: step)
        model = small(batch_size=9, max_iter="auto", time_budget=2.0, run_folder=tmp_path / "run").fit(grey(40))
        assert model.experiment_.training.steps == 4 * 5
        codes.append(model.transform(grey(40)))
    assert np.array_equal(*codes)
    with pytest.raises(
        InputError, match=r"time_budget: the fit in .*run was given 2 s, got 9; give the same, or another"
    ):
        small(batch_size=9, max_iter="auto", time_budget=9.0, run_folder=tmp_path / "run").fit(grey(40))
    small(max_iter=2, run_folder=tmp_path / "unlimited").fit(grey(40))
    with pytest.raises(
        InputError, match=r"time_budget: the fit in .*unlimited was given none, got 9; leave it out, or"
    ):
        small(max_iter=2, time_budget=9.0, run_folder=tmp_path / "unlimited").fit(grey(40))


def test_an_estimate_of_the_time_is_said_and_leaves_the_estimator_as_it_was(capsys):
    model = small(verbose=1).fit(GREY)
    assert re.search(r"1 steps, about \d+ s unless it stops improving before", capsys.readouterr().out)
    codes = model.transform(GREY)
    assert 0 < model.estimate_seconds(grey(30, 6, 6)) < 60
    assert np.array_equal(model.transform(GREY), codes)


@pytest.mark.parametrize("budget", [0, -1.0, math.inf, "long", True])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(InputError, match="time_budget: expected seconds above 0, or None"):
        small(time_budget=budget).fit(GREY)


# -- kept on disk ------------------------------------------------------------------------------------------------------


def test_a_fitted_estimator_is_kept_without_pickled_networks(tmp_path):
    model = small().fit(GREY)
    data = pickle.dumps(model)
    modules = {argument.split(".")[0] for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    assert "mpdvae" in modules
    assert "torch" not in modules
    joblib.dump(model, tmp_path / "model.joblib")
    for kept in (pickle.loads(data), joblib.load(tmp_path / "model.joblib")):
        assert np.array_equal(kept.score_samples(GREY), model.score_samples(GREY))
        assert np.array_equal(kept.sample(2, random_state=0), model.sample(2, random_state=0))
        assert kept.history_ == model.history_


def test_an_estimator_that_is_not_fitted_is_kept_too():
    assert pickle.loads(pickle.dumps(small())).latent_dim == 2


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED = {
    "numbers beyond the range": (
        GREY * 255,
        {},
        r"X: has values from .* to 255, expected 0 to 1; scale them, or give",
    ),
    "rows without a shape": (
        GREY.reshape(20, -1),
        {},
        r"image_shape: required for flat rows, got none and rows of 20 numbers",
    ),
    "rows of another shape": (
        GREY.reshape(20, -1),
        {"image_shape": (3, 3)},
        r"image_shape: expected the shape of images of 20 numbers, got \(3, 3\)",
    ),
    "images of another shape": (
        GREY,
        {"image_shape": (5, 4)},
        r"image_shape: expected the shape of the images in X, \(4, 5\)",
    ),
    "no axis of channels": (
        np.zeros((20, 4, 5, 4)),
        {},
        r"X has shape \(20, 4, 5, 4\): the channels, up to 64 of them on the second or last axis, cannot be told",
    ),
    "bytes 0 and 1": ((GREY > 0.5).astype(np.uint8), {}, r"X holds integers 0 and 1, which are nearly black"),
    "five axes": (np.zeros((20, 1, 1, 4, 5)), {}, r"X has 5 axes"),
    "a range upside down": (GREY, {"value_range": (1, 0)}, r"value_range: expected \(black, white\)"),
    "no number": (np.where(GREY > 0.9, np.nan, GREY), {}, "Input X contains NaN"),
    "too few": (GREY[:3], {}, r"3 sample\(s\).* minimum of 4"),
    "an unknown decoder": (GREY, {"decoder": "pixelcn"}, r"unknown decoder 'pixelcn': did you mean 'pixelcnn'"),
    "no decoder": (
        GREY,
        {"decoder": 3},
        r"decoder: expected a word or a configuration of mpdvae\.experiments, got 3",
    ),
    "no form for colour": (
        COLOUR,
        {"encoder": "mlp", "decoder": "pixelcnn"},
        r"encoder: 'mlp' has no preset for colour images with codes that are maps; choose convnet",
    ),
    "a part of another kind": (GREY, {"encoder": ConvNetDecoder()}, r"encoder"),
    "no latent dimension": (GREY, {"latent_dim": 0}, r"latent_dim: expected at least 1"),
    "a negative weight": (GREY, {"diversity_weight": -1}, r"^diversity_weight: .* got -1"),
    "no epoch": (GREY, {"max_iter": 0}, r"max_iter: expected at least 1"),
    "all for validation": (
        GREY,
        {"validation_fraction": 1.0},
        r"validation_fraction: expected a number between 0 and 1",
    ),
    "no patience": (
        GREY,
        {"n_iter_no_change": 1},
        r"n_iter_no_change: expected at least 2 epochs, None or 'auto', got 1",
    ),
    "no fraction": (
        GREY,
        {"validation_fraction": None},
        r"validation_fraction: expected a number between 0 and 1, got None",
    ),
    "a word for a fraction": (GREY, {"validation_fraction": "a"}, r"validation_fraction: expected a number .* got 'a'"),
    "no number of epochs": (GREY, {"max_iter": None}, r"max_iter: expected a whole number or 'auto', got None"),
    "half an epoch": (GREY, {"max_iter": 0.5}, r"max_iter: expected a whole number or 'auto', got 0\.5"),
    "a word for a batch": (GREY, {"batch_size": "all"}, r"batch_size: expected a whole number, got 'all'"),
    "no number of samples": (
        GREY,
        {"importance_samples": None},
        r"importance_samples: expected a whole number, got None",
    ),
    "a word for patience": (
        GREY,
        {"n_iter_no_change": "x"},
        r"n_iter_no_change: expected a whole number, None or 'auto', got 'x'",
    ),
    "no range": (GREY, {"value_range": None}, r"value_range: expected \(black, white\) .* got None"),
    "a word for a shape": (
        GREY,
        {"image_shape": "x"},
        r"image_shape: expected the shape of images of 20 numbers, got x",
    ),
    "a device without values": (
        GREY,
        {"device": "meta"},
        r"^device: torch cannot use 'meta' here \(tensors there have no",
    ),
    "ragged lists": (
        [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]] * 4,
        {},
        r"X: expected images of one shape, got lists of diff",
    ),
    "no such device": (GREY, {"device": "cuda:77"}, r"^device: torch cannot use 'cuda:77' here"),
    "images too small": (GREY[:, :2, :2], {"encoder": "convnet"}, r"convnet encoder .* at least 3x3 pixels, got 2x2"),
}


def test_a_fit_that_ends_too_early_is_told(monkeypatch):
    from mpdvae.workflows import estimator_experiment

    halves = np.zeros((40, 8, 8))
    halves[:, :4] = 1.0  # easy to learn
    with pytest.warns(ConvergenceWarning, match=r"max_iter: after 8 epochs the model still improved, by [\d.]+ nats"):
        small(max_iter=8, learning_rate=0.02, n_iter_no_change=None).fit(halves)
    with pytest.warns(ConvergenceWarning, match=r"^max_iter: after 2 epochs .* set a larger max_iter\."):
        small(max_iter=2, learning_rate=0.05, batch_size=5, n_iter_no_change=None).fit(halves)
    monkeypatch.setattr(estimator_experiment, "step_seconds", lambda *_: 0.1)  # 20 steps fit in the budget
    with pytest.warns(ConvergenceWarning, match=r"^time_budget: .* set a larger time_budget\."):
        small(max_iter="auto", time_budget=3.0, learning_rate=0.05, batch_size=5, n_iter_no_change=None).fit(halves)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        small(max_iter=8, learning_rate=1e-12, n_iter_no_change=None).fit(halves)


def test_epochs_follow_the_number_of_images():
    """At least 2,000 steps and 20 epochs, patience a fifth of them."""
    for images, epoch_steps in ((40, 3), (2_000, 180), (60_000, 5_400)):
        estimator = small(max_iter="auto", batch_size=10, n_iter_no_change="auto")
        data = Splits.of("own", "own", *[Images(torch.zeros(n, 1, 8, 8).byte()) for n in (images * 9 // 10, 4, 4)])
        experiment = experiment_of(estimator.get_params(), "MPDVAE", data, 0)
        t = experiment.training
        assert t.steps == epoch_steps * max(20, math.ceil(2_000 / epoch_steps))
        assert t.plateau is not None
        # Training stops at the first evaluation without progress after `patience` of them: `short_training` rounds up.
        patient = (t.plateau.patience + 1) * t.evaluate_every / epoch_steps
        wanted = max(10, t.steps / epoch_steps / 5)
        assert wanted <= patient < wanted + 1 + t.evaluate_every / epoch_steps


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_refused_in_one_sentence(case, tmp_path):
    X, changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        small(**changes, run_folder=tmp_path / "run").fit(X)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_can_be_bytes_and_no_number(tmp_path):
    import os

    small(run_folder=os.fsencode(tmp_path / "run")).fit(GREY)
    assert (tmp_path / "run" / "model").is_dir()
    with pytest.raises(InputError, match="run_folder: expected a path, or None, got 3"):
        small(run_folder=3).fit(GREY)


def test_what_does_not_fit_a_fitted_model_is_refused():
    model = small().fit(GREY)
    with pytest.raises(InputError, match=r"X: expected images of shape \(4, 5\) as in fit, got \(5, 4\)"):
        model.transform(GREY.transpose(0, 2, 1))
    with pytest.raises(InputError, match="X: expected codes of 2 numbers, got 3"):
        model.inverse_transform(np.zeros((1, 3)))
    with pytest.raises(InputError, match="n_samples: expected a number >= 1, got 0"):
        model.sample(0)


def test_a_precision_is_given_or_measured(monkeypatch):
    asked = []

    def choose(experiment, data):
        asked.append(experiment.training.precision)
        return Choice("bfloat16", False)

    monkeypatch.setattr(precision_choice, "fastest", choose)
    X = np.random.default_rng(0).random((12, 8, 8))
    settings = {"latent_dim": 2, "max_iter": 1, "batch_size": 4, "random_state": 0}
    auto = MPDVAE(**settings, precision="auto").fit(X)
    given = MPDVAE(**settings, precision="bfloat16").fit(X)
    assert asked == ["auto"]
    assert auto.experiment_ == given.experiment_
    assert auto.experiment_.training.precision == "bfloat16"
    assert auto.history_ == given.history_
    with pytest.raises(InputError, match=r"precision: expected 'float32', 'bfloat16' or 'auto', got 'half'"):
        MPDVAE(**settings, precision="half").fit(X)


# -- levels ------------------------------------------------------------------------------------------------------------


def deep(n: int = 24) -> np.ndarray:
    """Scans of little contrast, in integers of 16 bits: in 8 bits, they would have some 20 levels."""
    return (32_768 + np.random.default_rng(0).integers(0, 5_000, (n, 4, 5))).astype(np.uint16)


def test_images_of_16_bits_keep_their_levels():
    model = small(levels=2**16, value_range=(0, 65_535)).fit(deep())
    assert model.experiment_.data.levels == 2**16
    assert model.experiment_.data.pixel_values == "levels"
    assert model._pixels(deep(), fitting=False).dtype == torch.uint16
    assert (model._pixels(deep(), fitting=False)[:, 0].numpy() == deep()).all()
    codes = model.transform(deep())
    assert np.isfinite(model.score_samples(deep())).all()
    back = model.inverse_transform(codes)
    assert back.shape == (24, 4, 5)
    assert back.min() >= 0
    assert back.max() <= 65_535
    as_floats = small(levels=2**16).fit(deep() / 65_535)
    np.testing.assert_array_equal(as_floats.transform(deep() / 65_535), codes)


@pytest.mark.parametrize("decoder", ["auto", "pixelcnn", "convnet", "mlp"])
def test_other_numbers_of_levels_are_not_made_black_and_white(decoder):
    X = (np.arange(20 * 64).reshape(20, 8, 8) % 256).astype(np.uint8)
    model = small(levels=32, decoder=decoder, encoder="convnet").fit(X)
    assert model.experiment_.data.levels == 32
    assert len(np.unique(model._model_input(X)[0])) == 32
    assert model.sample(2, random_state=0).dtype == np.uint8


def test_levels_that_do_not_fit_are_refused():
    for levels, message in {
        "many": "levels: expected a whole number, got 'many'",
        100: "levels: expected a power of two, got 100",
        2**17: "levels: expected at most 65536",
        2**16: "has images of 256 levels, expected at most so many, got 65536",
    }.items():
        with pytest.raises(InputError, match=message):
            small(levels=levels).fit((grey() * 255).astype(np.uint8))
    with pytest.raises(InputError, match="levels: dynamic binarisation draws from 256 levels, got 32"):
        small(levels=32, decoder=MLPDecoder(pixels="bernoulli")).fit(grey())


def test_an_estimator_of_a_trained_model_has_its_levels(tmp_path):
    small(levels=2**16, value_range=(0, 65_535), run_folder=tmp_path / "run").fit(deep())
    again = MPDVAE.from_pretrained(tmp_path / "run", value_range=(0, 65_535))
    assert again.levels == 2**16
    assert again.transform(deep()).shape == (24, 2)


@pytest.mark.parametrize("colours", ["grey", "rgb"])
def test_a_trained_model_brings_images_to_the_form_of_its_training_images(colours, tmp_path):
    levels = {"data__binarisation": "levels", "data__evaluation_draws": 1}
    own = {"data__dataset": "own", "data__resize": "8", "data__colours": colours}
    shape = (1 if colours == "grey" else 3, 8, 8)
    vae = tiny("vae-digits-smoke", **own, **levels).build(shape)
    vae.save_pretrained(tmp_path / "model")
    model = MPDVAE.from_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    for X in (
        rng.integers(0, 256, (3, 12, 10), dtype=np.uint8),
        rng.random((2, 12, 10)),
        rng.integers(0, 256, (2, 12, 10, 3), dtype=np.uint8),
        [rng.integers(0, 256, (n, 9), dtype=np.uint8) for n in (7, 12)],
        [Image.new("RGB", (9, 20), (1, 200, 3)), Image.new("L", (5, 4), 9)],
        torch.zeros(2, 9, 9, dtype=torch.uint8),
        rng.integers(0, 256, (2, *shape), dtype=np.uint8),
    ):
        with torch.no_grad():
            expected = vae.encode(vae.preprocess(X)).flatten(1).numpy()
        np.testing.assert_allclose(model.transform(X), expected, rtol=1e-4, atol=1e-6)
        assert len(model.score_samples(X)) == len(expected)
    rows = rng.random((2, int(np.prod(shape))))
    assert model.transform(rows).shape == (2, vae.latent_dim)
