"""The estimator told of classes and covariates: what it gives is what its model gives, in every form of labels and everywhere
that scikit-learn passes them on."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn
import torch
from command_line import call
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import mpdvae
from mpdvae.data.conditions import split_condition
from mpdvae.errors import InputError
from mpdvae.experiments.decoder_config import MLPDecoder
from mpdvae.experiments.encoder_config import MLPEncoder
from mpdvae.experiments.model_input import model_input
from mpdvae.experiments.prior_config import VampPrior
from mpdvae.runs.run_folder import Run
from mpdvae.sklearn import MPDVAE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # fits of an epoch

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (24, 4, 5)) / 255
Y = np.arange(24) % 3
NAMES = np.array(["cat", "dog", "owl"])
DOSE = np.stack([RNG.uniform(0, 50, 24), RNG.normal(size=24)], 1)
TOLD = {"classes": {"labels": Y}, "covariates": {"covariates": DOSE}, "both": {"labels": Y, "covariates": DOSE}}


def small(**changes) -> MPDVAE:
    usual = {
        "latent_dim": 2,
        "encoder": MLPEncoder(hidden_features=(8,)),
        "decoder": MLPDecoder(hidden_features=(8,)),
        "prior": "standard-normal",
        "max_iter": 3,
        "batch_size": 10,
        "importance_samples": 4,
        "random_state": 0,
    }
    return MPDVAE(**(usual | changes))


@pytest.mark.parametrize("kind", TOLD)
def test_the_estimator_gives_what_its_model_gives(kind):
    told = TOLD[kind]
    model = small().fit(X, **told)
    vae = model.vae_
    codes = model.transform(X, **told)
    levels = (255 * torch.from_numpy(X)).round()[:, None] / 255
    columns = [torch.from_numpy(Y)[:, None]] if vae.classes else []
    columns += [torch.from_numpy(DOSE)] if vae.condition.covariates else []
    planes = torch.cat(columns, 1)[..., None, None].expand(-1, -1, 4, 5)
    np.testing.assert_allclose(codes, vae.encode(torch.cat([levels, planes], 1).float()).numpy(), rtol=1e-4, atol=1e-5)

    given, seed = model_input(vae, X, **told), model.experiment_.seed
    scores = mpdvae.density.estimate(vae, given.x, 4, proposal="encoder", seed=seed, indices=given.keys).log_prob
    np.testing.assert_allclose(model.score_samples(X, **told), scores.numpy(), rtol=1e-5)
    assert model.score(X, **told) == pytest.approx(scores.mean().item())

    decoded = split_condition(vae.decode(torch.from_numpy(codes), **told), vae.condition).images[:, 0]
    np.testing.assert_allclose(model.inverse_transform(codes, **told), decoded.numpy(), rtol=1e-5)
    assert np.array_equal(clone(model).fit_transform(X, **told), codes)
    assert small().estimate_seconds(X, **told) > 0


@pytest.mark.parametrize("decoder", ["mlp", "pixelcnn"])
@pytest.mark.parametrize("kind", TOLD)
def test_fully_connected_encoders_train_beside_a_condition(kind, decoder):
    """As well as without: the condition neither drowns the image nor makes steps too large."""
    images, digits = load_digits(return_X_y=True)
    images, labels = images[:300].reshape(-1, 8, 8) / 16, digits[:300] % 2
    told = {"classes": {"labels": labels}, "covariates": {"covariates": images.mean((1, 2))}}
    told["both"] = told["classes"] | told["covariates"]
    model = MPDVAE(latent_dim=4, encoder="mlp", decoder=decoder, max_iter=30, random_state=0)
    alone, beside = (clone(model).fit(images, **known).history_[-1]["negative_elbo_nats"] for known in ({}, told[kind]))
    assert beside < alone + 1


@pytest.mark.parametrize("kind", TOLD)
def test_what_is_told_makes_a_difference(kind):
    told = TOLD[kind]
    model, other = small().fit(X, **told), {name: given[::-1] for name, given in told.items()}
    codes = model.transform(X, **told)
    assert not np.allclose(codes, model.transform(X, **other))
    assert not np.allclose(model.inverse_transform(codes, **told), model.inverse_transform(codes, **other))
    assert not np.allclose(model.score_samples(X, **told), model.score_samples(X, **other))


LABELS = {
    "integers": (Y, [0, 1, 2], ()),
    "a column": (Y[:, None], [0, 1, 2], ()),
    "a list": (Y.tolist(), [0, 1, 2], ()),
    "a tensor": (torch.from_numpy(Y), [0, 1, 2], ()),
    "with gaps": (Y * 10 - 1, [-1, 9, 19], ("-1", "9", "19")),
    "text": (NAMES[Y], ["cat", "dog", "owl"], tuple(NAMES)),
    "text as objects": (NAMES[Y].astype(object), ["cat", "dog", "owl"], tuple(NAMES)),
    "names that are numbers": (np.array(["1", "2", "3"])[Y], ["1", "2", "3"], ("1", "2", "3")),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_are_classes_by_value(form):
    given, classes, names = LABELS[form]
    model, plain = small().fit(X, labels=given), small().fit(X, labels=Y)
    assert model.classes_.tolist() == classes
    assert model.vae_.origin.class_names == names
    codes = model.transform(X, labels=given)
    assert np.array_equal(codes, plain.transform(X, labels=Y))
    some = Y == 2  # a part in which the other classes do not occur
    for of_some in (np.asarray(given)[some], classes[2], str(classes[2])):
        np.testing.assert_allclose(model.transform(X[some], labels=of_some), codes[some], rtol=1e-4, atol=1e-6)


def test_truth_values_are_two_classes():
    model = small().fit(X, labels=Y > 0)
    assert model.classes_.tolist() == [0, 1]
    assert np.array_equal(model.transform(X, labels=Y > 0), model.transform(X, labels=(Y > 0).astype(int)))


def test_tables_of_pandas_are_taken():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"kind": pandas.Categorical(NAMES[Y]), "age": DOSE[:, 0], "dose": DOSE[:, 1]})
    told = {"labels": table["kind"], "covariates": table[["age", "dose"]]}
    plain = {"labels": NAMES[Y], "covariates": DOSE}
    assert np.array_equal(small().fit(X, **told).transform(X, **told), small().fit(X, **plain).transform(X, **plain))


def test_one_row_is_that_of_all_and_one_covariate_needs_no_row():
    model = small().fit(X, **TOLD["both"])
    alike = {"labels": np.full(24, 1), "covariates": np.tile([30.0, 0.5], (24, 1))}
    assert np.array_equal(model.transform(X, labels=1, covariates=[30.0, 0.5]), model.transform(X, **alike))
    one = small().fit(X, covariates=DOSE[:, 0])
    assert one.vae_.condition.covariates == 1
    assert np.array_equal(one.transform(X, covariates=9.0), one.transform(X, covariates=np.full((24, 1), 9.0)))


@pytest.mark.parametrize("decoder", ["mlp", "pixelcnn"])
def test_images_are_drawn_of_a_class_or_of_any(decoder):
    dark_and_light = np.where(np.arange(40)[:, None, None] % 2 == 0, 0.02, 0.98) * np.ones((40, 4, 5))
    model = small(decoder=decoder, learning_rate=0.02, max_iter=40, n_iter_no_change=None)
    model.fit(dark_and_light, labels=np.arange(40) % 2)
    for pixel_noise in (True, False):
        means = [model.sample(60, 0, pixel_noise=pixel_noise, labels=label).mean() for label in (0, 1)]
        assert means[0] < 0.3
        assert means[1] > 0.7
        levels = model.sample(60, 0, pixel_noise=pixel_noise).mean((1, 2))
        assert levels.min() < 0.3
        assert levels.max() > 0.7
        assert 0.2 < (levels > 0.5).mean() < 0.8
    assert np.array_equal(model.sample(5, 1), model.sample(5, 1))
    each = model.sample(6, 0, labels=[0, 1, 0, 1, 0, 1], pixel_noise=False).mean((1, 2))
    assert each[::2].max() < 0.5 < each[1::2].min()
    codes = np.zeros((3, 2))
    assert np.array_equal(model.inverse_transform(codes, labels=1), model.inverse_transform(codes, labels=1))


@pytest.mark.parametrize("kind", TOLD)
def test_it_is_kept_on_disk_and_made_of_a_run(kind, tmp_path):
    told = TOLD[kind] | ({"labels": NAMES[Y]} if "labels" in TOLD[kind] else {})
    model = small(run_folder=tmp_path / "run").fit(X, **told)
    codes = model.transform(X, **told)
    model.vae_.save_pretrained(tmp_path / "model")
    kept = pickle.loads(pickle.dumps(model))
    for again in (kept, *(MPDVAE.from_pretrained(tmp_path / name, importance_samples=4) for name in ("run", "model"))):
        assert np.array_equal(again.transform(X, **told), codes)
        assert np.array_equal(again.score_samples(X, **told), model.score_samples(X, **told))
        assert np.array_equal(again.sample(3, 0), model.sample(3, 0).astype(np.float32))
        assert again.vae_.origin.class_names == model.vae_.origin.class_names
        assert getattr(again, "classes_", NAMES).tolist() == NAMES.tolist()
    assert np.array_equal(clone(model).fit(X, **told).transform(X, **told), codes)
    with pytest.raises(InputError, match=r"run: "):
        clone(model).fit(X)


def test_commands_know_the_names_of_classes(tmp_path, capsys):
    small(run_folder=tmp_path / "run").fit(X, labels=NAMES[Y])
    assert Run(tmp_path / "run").manifest["data"]["class_names"] == NAMES.tolist()
    sample = ("sample", tmp_path / "run", "--out", tmp_path / "x.png", "--count", "4")
    assert call(capsys, *sample)[0] == 0
    assert call(capsys, *sample, "--label", "2")[0] == 0


def test_a_fit_without_labels_forgets_those_of_an_earlier_one():
    model = small().fit(X, labels=Y)
    model.fit(X)
    assert not hasattr(model, "classes_")
    assert np.array_equal(model.transform(X), small().fit(X).transform(X))
    assert np.array_equal(small().fit(X, NAMES[Y]).transform(X), model.transform(X))  # y is no label


def test_scikit_learn_passes_labels_on_in_pipelines_and_searches():
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        model = small().set_fit_request(labels=True).set_transform_request(labels=True).set_score_request(labels=True)
        pipeline = make_pipeline(clone(model), LogisticRegression()).fit(X, Y > 0, labels=NAMES[Y])
        codes = pipeline[0].transform(X, labels=NAMES[Y])
        assert np.array_equal(pipeline.predict(X, labels=NAMES[Y]), pipeline[1].predict(codes))
        search = GridSearchCV(model, {"latent_dim": [1, 2]}, cv=2).fit(X, labels=NAMES[Y])
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_estimator_.classes_.tolist() == NAMES.tolist()


REFUSED_BY_FIT = {
    "too few labels": ({"labels": Y[:5]}, r"^labels: expected one for each of 24 images, got shape \(5,\)"),
    "one label for all": ({"labels": 1}, r"^labels: expected one for each of 24 images, got shape \(\)"),
    "fractions": ({"labels": Y / 2}, r"^labels: expected integers or text, got float64; convert them"),
    "text and nothing": ({"labels": ["a", None] * 12}, r"^labels: expected a label for each of 24 images, got none"),
    "ragged": ({"labels": [[1], [1, 2]] * 12}, r"^labels: expected one for each image, got lists of different lengths"),
    "too few rows": ({"covariates": DOSE[:5]}, r"^covariates: expected numbers \[24\] or \[24 covariate\]"),
    "not finite": ({"covariates": np.where(DOSE > 40, np.nan, DOSE)}, r"^covariates: expected finite numbers, got \["),
    "words": ({"covariates": NAMES[Y]}, r"^covariates: expected numbers \[24\]"),
    "too many": ({"covariates": np.zeros((24, 257))}, r"^covariates: expected at most 256, got 257"),
}


@pytest.mark.parametrize("case", REFUSED_BY_FIT)
def test_what_cannot_be_told_is_refused_before_a_folder_is_made(case, tmp_path):
    told, message = REFUSED_BY_FIT[case]
    with pytest.raises(InputError, match=message):
        small(run_folder=tmp_path / "run").fit(X, **told)
    assert not (tmp_path / "run").exists()


def test_more_classes_than_a_model_can_be_told_are_refused():
    with pytest.raises(InputError, match=r"^labels: expected at most 256 classes, got 300; tell numbers that"):
        small().fit(RNG.random((300, 2, 2)), labels=np.arange(300))


def test_parts_without_a_place_for_a_condition_are_refused():
    with pytest.raises(InputError, match=r"^labels: prior vamp has no place for a condition, got one of 3 classes"):
        small(prior=VampPrior()).fit(X, labels=Y)


REFUSED_LATER = {
    "none": ("both", {}, r"^labels: expected them for 4 images, as the model was trained with labels, got none"),
    "a part": ("both", {"labels": "cat"}, r"^covariates: expected them for 4 images"),
    "not told the class": (
        "covariates",
        {"labels": 1, "covariates": DOSE[:4]},
        r"^labels: this model was trained without",
    ),
    "not told covariates": (
        "classes",
        {"labels": "cat", "covariates": DOSE[:4]},
        r"^covariates: this model was trained",
    ),
    "another class": (
        "classes",
        {"labels": "ape"},
        r"^labels: expected classes .*\(cat, dog and owl\), got ape; leave its",
    ),
    "a number": ("classes", {"labels": 0}, r"^labels: expected classes .*\(cat, dog and owl\), got 0"),
    "other count": (
        "classes",
        {"labels": NAMES},
        r"^labels: expected one for each of 4 images, or one for all, got shape \(3,\)",
    ),
    "other width": ("covariates", {"covariates": [1.0]}, r"^covariates: expected 2 numbers for all images, or \[4 2\]"),
    "not finite": ("covariates", {"covariates": [1.0, np.inf]}, r"^covariates: expected finite numbers"),
    "far away": (
        "covariates",
        {"covariates": [1e6, 0.0]},
        r"^covariates: expected numbers near those of training images",
    ),
    "words": ("covariates", {"covariates": ["a", "b"]}, r"^covariates: expected 2 numbers for all images"),
}


@pytest.fixture(scope="module")
def models():
    given = TOLD | {"classes": {"labels": NAMES[Y]}, "both": {"labels": NAMES[Y], "covariates": DOSE}}
    return {kind: small().fit(X, **told) for kind, told in given.items()}


@pytest.mark.parametrize("case", REFUSED_LATER)
def test_every_method_refuses_what_its_model_cannot_be_told(models, case):
    kind, told, message = REFUSED_LATER[case]
    model = models[kind]
    calls = [
        lambda: model.transform(X[:4], **told),
        lambda: model.score_samples(X[:4], **told),
        lambda: model.score(X[:4], **told),
        lambda: model.inverse_transform(np.zeros((4, 2)), **told),
    ]
    calls += [lambda: model.sample(4, **told)] if told else []  # conditions are drawn
    for called in calls:
        with pytest.raises(InputError, match=message):
            called()


def test_a_model_that_is_told_nothing_refuses_labels_and_covariates():
    model = small().fit(X)
    for told in TOLD.values():
        with pytest.raises(InputError, match="this model was trained without them, got some; leave them out"):
            model.transform(X, **told)
