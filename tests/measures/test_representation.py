"""Representation scores on codes whose classes are known to be separate, mixed or absent."""

import itertools
import json
import math
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from mpdvae.errors import InputError, RunError
from mpdvae.measures.representation import CLASSIFIERS, cluster, codes, evaluate, posteriors, principal_components
from mpdvae.measures.representation.scores import CLUSTER_MEASURES
from mpdvae.vae import VAE


class Encoder(nn.Module):
    """Mean: the pixels less one; standard deviation 2. In training mode the mean is spoilt."""

    def forward(self, x: Tensor) -> Distribution:
        mean = x - 1 + 1000 * self.training
        return Independent(Normal(mean, torch.full_like(x, 2.0), validate_args=False), 3)


def model() -> VAE:
    return VAE(Encoder(), nn.Identity(), nn.Identity())


def blobs(n: int, separation: float, classes: int = 3, latent: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(n)
    labels = generator.integers(classes, size=n)
    centres = separation * np.eye(classes, latent)
    return (centres[labels] + generator.normal(size=(n, latent))).astype(np.float32), labels


QUICK = {"subsets": 2, "clusters": (3,), "cluster_seeds": 2, "cluster_restarts": 2}


def test_codes_are_posterior_means_in_any_batches():
    vae, x = model().train(), torch.rand(23, 1, 2, 3)
    z = codes(vae, x, batch_size=5)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, (x - 1).flatten(1).numpy())
    assert vae.encoder.training
    q = posteriors(vae, x)
    assert q.batch_shape == (23,)
    assert q.event_shape == (6,)
    assert q.mean.dtype == torch.float64


def test_codes_from_samples_have_the_law_of_their_average():
    vae, x = model(), torch.zeros(4000, 1, 1, 2)
    z = codes(vae, x, batch_size=1000, posterior_samples=50)
    assert z.mean() == pytest.approx(-1, abs=0.02)
    assert z.std() == pytest.approx(2 / math.sqrt(50), rel=0.05)
    np.testing.assert_array_equal(z, codes(vae, x, batch_size=7, posterior_samples=50))
    assert not np.array_equal(z, codes(vae, x, posterior_samples=50, seed=1))


def test_separate_classes_are_found_by_all():
    scores = evaluate(*blobs(300, 20.0), *blobs(200, 20.0), label_counts=(30, "all"), **QUICK)
    for name in CLASSIFIERS:
        assert list(scores[name]) == ["30", "all"]
        for count, subsets in (("30", 2), ("all", 1)):
            assert scores[name][count]["mean"] > 0.98
            assert len(scores[name][count]["subsets"]) == subsets
        assert scores[name]["all"]["std"] is None
    for name in CLUSTER_MEASURES:
        assert scores[name]["3"]["mean"] > 0.95
        assert len(scores[name]["3"]["seeds"]) == 2
    assert scores["left_out"] == []
    json.dumps(scores, allow_nan=False)


def test_noise_is_found_by_none():
    scores = evaluate(*blobs(600, 0.0), *blobs(2000, 0.0), label_counts=("all",), **QUICK)
    for name, key in (("knn10_accuracy", "all"), ("linear_accuracy", "all"), ("kmeans_accuracy", "3")):
        assert scores[name][key]["mean"] == pytest.approx(1 / 3, abs=0.06)


def test_scores_are_a_function_of_the_seed_and_carry_their_spread():
    data = (*blobs(400, 2.0), *blobs(300, 2.0))
    options = {**QUICK, "subsets": 4, "label_counts": (20, 100)}
    scores = evaluate(*data, **options)
    assert evaluate(*data, **options) == scores
    assert evaluate(*data, **options, seed=1) != scores
    score = scores["knn10_accuracy"]["20"]
    assert score["mean"] == pytest.approx(np.mean(score["subsets"]))
    assert score["std"] == pytest.approx(np.std(score["subsets"]))
    assert score["std"] > 0
    half_width = scipy.stats.t.ppf(0.975, 3) * np.std(score["subsets"], ddof=1) / 2
    assert score["half_width_95"] == pytest.approx(half_width)
    runs = evaluate(*data, **{**options, "clusters": (9,), "cluster_seeds": 4, "cluster_restarts": 1})
    assert len(set(runs["kmeans_accuracy"]["9"]["seeds"])) > 1
    more = evaluate(*data, **{**options, "subsets": 2, "label_counts": (100, 20)})
    assert more["linear_accuracy"]["20"]["subsets"] == scores["linear_accuracy"]["20"]["subsets"][:2]


def test_nearest_neighbours_against_a_loop():
    z, labels = blobs(60, 1.5)
    test_z, test_labels = blobs(40, 1.5)
    right = 0
    for point, label in zip(test_z, test_labels, strict=True):
        distances = np.linalg.norm(z - point, axis=1)
        votes = np.zeros(3)
        for i in np.argsort(distances)[:10]:
            votes[labels[i]] += 1 / distances[i]
        right += votes.argmax() == label
    scores = evaluate(z, labels, test_z, test_labels, label_counts=("all",), **QUICK)
    assert scores["knn10_accuracy"]["all"]["mean"] == pytest.approx(right / 40)


def test_majority_labels_against_a_loop():
    z, labels = blobs(150, 2.0)
    test_z, test_labels = blobs(100, 2.0)
    kmeans = KMeans(7, n_init=3, random_state=5).fit(z)
    majority = {}
    for k in range(7):
        members = [int(label) for label, c in zip(labels, kmeans.labels_, strict=True) if c == k]
        majority[k] = max(sorted(set(members)), key=members.count)
    right = sum(majority[c] == label for c, label in zip(kmeans.predict(test_z), test_labels, strict=True))
    found = cluster(z, labels, test_z, test_labels, 7, seed=5, restarts=3)
    assert found.majority_accuracy == pytest.approx(right / 100)


def test_pairing_clusters_and_classes_against_all_permutations():
    z, labels = blobs(150, 2.0)
    test_z, test_labels = blobs(100, 2.0)
    kmeans = KMeans(5, n_init=3, random_state=5).fit(z)
    test_clusters = kmeans.predict(test_z)
    best, accuracy = -1, 0.0
    for chosen in itertools.permutations(range(5), 3):  # the cluster of each class; two clusters have none
        class_of = {c: label for label, c in enumerate(chosen)}
        agreeing = sum(class_of.get(c) == label for c, label in zip(kmeans.labels_, labels, strict=True))
        if agreeing > best:
            best = agreeing
            accuracy = np.mean([class_of.get(c) == label for c, label in zip(test_clusters, test_labels, strict=True)])
    found = cluster(z, labels, test_z, test_labels, 5, seed=5, restarts=3)
    assert found.hungarian_accuracy == pytest.approx(accuracy)
    assert found.hungarian_accuracy < found.majority_accuracy


def test_agreement_of_clusters_and_classes_from_its_definition():
    z, labels = blobs(150, 2.0)
    test_z, test_labels = blobs(100, 2.0)
    found = cluster(z, labels, test_z, test_labels, 4, seed=5, restarts=3)
    clusters = KMeans(4, n_init=3, random_state=5).fit(z).predict(test_z)
    joint = np.histogram2d(clusters, test_labels, (4, 3))[0] / 100
    rows, columns = joint.sum(1), joint.sum(0)

    def entropy(p: np.ndarray) -> float:
        return -sum(share * math.log(share) for share in p.flatten() if share)

    shared = entropy(rows) + entropy(columns) - entropy(joint)
    assert found.nmi == pytest.approx(2 * shared / (entropy(rows) + entropy(columns)))
    together = sum(math.comb(round(100 * share), 2) for share in joint.flatten())
    of_rows, of_columns = (sum(math.comb(round(100 * share), 2) for share in p) for p in (rows, columns))
    chance = of_rows * of_columns / math.comb(100, 2)
    assert found.ari == pytest.approx((together - chance) / ((of_rows + of_columns) / 2 - chance))


def test_more_clusters_than_classes_leave_some_without_a_class():
    z, labels = blobs(200, 30.0)
    found = cluster(z, labels, z, labels, 6, seed=0)
    assert found.majority_accuracy == 1
    assert found.hungarian_accuracy < 0.9
    exact = cluster(z, labels, z, labels, 3, seed=0)
    assert exact == (1, 1, pytest.approx(1), pytest.approx(1))


def test_svms_with_more_labels_than_allowed_are_left_out_and_it_is_said():
    data = (*blobs(200, 3.0), *blobs(50, 3.0))
    scores = evaluate(*data, label_counts=(20, 100, "all"), svm_labels=100, **QUICK)
    assert list(scores["linear_accuracy"]) == ["20", "100", "all"]
    assert list(scores["linear_svm_accuracy"]) == list(scores["rbf_svm_accuracy"]) == ["20", "100"]
    assert scores["left_out"] == [
        "SVMs with 200 labels: their time grows with the square of the number of labels, and at most 100 are allowed "
        "(evaluation.svm-labels)."
    ]


def test_kernels_tell_apart_what_no_line_can():
    """Two rings: the linear scores are those of chance."""
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 2
    angle = generator.uniform(0, 2 * np.pi, 600)
    z = ((1 + 2 * labels) * np.stack([np.cos(angle), np.sin(angle)])).T
    scores = evaluate(z[:300], labels[:300], z[300:], labels[300:], label_counts=("all",), **QUICK)
    for name in ("knn10_accuracy", "rbf_svm_accuracy"):
        assert scores[name]["all"]["mean"] == 1
    for name in ("linear_accuracy", "linear_svm_accuracy"):
        assert scores[name]["all"]["mean"] < 0.75


def test_principal_components_are_those_of_the_training_features():
    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(50, 6)) * np.arange(1, 7), generator.normal(size=(20, 6))
    z, test_z = principal_components(train, test, 3)
    _, _, axes = np.linalg.svd(train - train.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(test_z), np.abs((test - train.mean(0)) @ axes[:3].T))
    assert (z.var(0)[:-1] >= z.var(0)[1:]).all()
    assert principal_components(train, test, 100)[0].shape == (50, 6)


def test_labels_need_not_be_consecutive_and_unseen_ones_count_as_wrong():
    z, labels = blobs(200, 20.0)
    test_z, test_labels = blobs(100, 20.0)
    strange = np.array([-5, 7, 100])
    scores = evaluate(z, strange[labels], test_z, strange[test_labels], label_counts=("all",), **QUICK)
    assert scores["kmeans_accuracy"]["3"]["mean"] > 0.98
    unseen = evaluate(z, labels, test_z, test_labels + 50, label_counts=("all",), **QUICK)
    assert unseen["knn10_accuracy"]["all"]["mean"] == 0


def test_fewer_labels_than_neighbours():
    scores = evaluate(*blobs(100, 20.0), *blobs(50, 20.0), label_counts=(4,), **QUICK)
    assert 0.3 < scores["knn10_accuracy"]["4"]["mean"] <= 1


def test_what_the_data_cannot_give_is_left_out_and_said():
    z, labels = blobs(50, 5.0)
    options = {**QUICK, "clusters": (3, 60), "label_counts": (20, 50, 1000, "all")}
    scores = evaluate(z, labels, *blobs(30, 5.0), **options)
    assert list(scores["knn10_accuracy"]) == ["20", "50", "all"]
    assert scores["knn10_accuracy"]["50"] == scores["knn10_accuracy"]["all"]
    assert list(scores["kmeans_accuracy"]) == ["3"]
    assert scores["left_out"] == [
        "classifiers with 1,000 labels: there are only 50 training labels.",
        "k-means with K = 60: there are only 50 training codes.",
    ]


def test_subsets_of_a_single_class_are_drawn_again_or_left_out():
    z, _ = blobs(400, 1.0)
    rare = np.arange(400) % 20 == 0
    data = (z, rare.astype(int), *blobs(30, 1.0))
    scores = evaluate(*data, label_counts=(2,), **{**QUICK, "subsets": 5})
    assert len(scores["linear_accuracy"]["2"]["subsets"]) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mpdvae.measures.representation.classifiers.SUBSET_ATTEMPTS", 1)
        scores = evaluate(*data, label_counts=(2,), **{**QUICK, "subsets": 5})
    assert scores["linear_accuracy"] == {}
    assert scores["left_out"] == ["classifiers with 2 labels: 1 random subsets had only a single class."]


def test_fits_that_do_not_converge_are_silent():
    z = np.zeros((40, 2), dtype=np.float32)  # one distinct code, three clusters
    labels = np.arange(40) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = evaluate(z, labels, z, labels, label_counts=("all",), **QUICK)
    assert scores["kmeans_accuracy"]["3"]["mean"] == 0.5


def test_bad_codes_and_labels_get_a_sentence():
    z, labels = blobs(50, 1.0)
    broken = z.copy()
    broken[7, 1] = np.nan
    cases = [
        ((broken, labels, z, labels), r"train_codes: the code of image 7 is not finite \(1 of 50 are not\)"),
        ((z, labels, broken, labels), "test_codes: the code of image 7 is not finite"),
        ((z, labels[:49], z, labels), "train_labels: expected one for each of 50 codes, got 49"),
        ((z, labels, z, labels[:3]), "test_labels: expected one for each of 50 codes, got 3"),
        ((z, labels, z[:, :2], labels), "test_codes: expected 4 dimensions as in train_codes, got 2"),
        ((z, labels, z[:0], labels[:0]), "test_codes: expected at least one code, got none"),
        ((z[0], labels, z, labels), r"train_codes, train_labels: expected codes .* got shape \(4,\)"),
        ((z, z, z, labels), r"train_codes, train_labels: expected .* integers \[image\], got .* float32 of shape"),
        ((z, 0 * labels + 3, z, labels), "train_labels: expected at least 2 classes, got only the label 3"),
    ]
    for data, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            evaluate(*data)


@pytest.mark.parametrize("form", [torch.from_numpy, np.ndarray.tolist])
def test_tensors_and_lists_are_scored_as_arrays_are(form):
    data = [*blobs(50, 1.0), *blobs(40, 1.0)]
    assert evaluate(*map(form, data), label_counts=("all",), **QUICK) == evaluate(*data, label_counts=("all",), **QUICK)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"label_counts": (1,)}, 'label_counts: expected numbers of at least 2, or "all", got 1'),
        ({"clusters": (0,)}, "clusters: expected numbers of at least 1, got 0"),
        ({"subsets": 0}, "subsets: expected at least 1, got 0"),
        ({"cluster_seeds": 0}, "cluster_seeds: expected at least 1, got 0"),
        ({"cluster_restarts": -1}, "cluster_restarts: expected at least 1, got -1"),
    ],
)
def test_bad_counts_get_a_sentence(option, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(*blobs(50, 1.0), *blobs(50, 1.0), **option)


def test_bad_images_get_a_sentence():
    vae, x = model(), torch.zeros(5, 1, 2, 2)
    with pytest.raises(InputError, match=r"x: expected images .* at least one, got shape \(0, 1, 2, 2\)"):
        codes(vae, x[:0])
    with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
        codes(vae, x, batch_size=0)
    with pytest.raises(InputError, match=r"posterior_samples: expected at least 1 \(or None for the mean\), got 0"):
        codes(vae, x, posterior_samples=0)
    x[2] = math.nan
    with pytest.raises(RunError, match="the posterior of image 2 is not finite"):
        codes(vae, x, batch_size=2)


def test_a_posterior_that_torch_refuses_is_reported_with_its_image():
    class Refusing(nn.Module):
        def forward(self, x: Tensor) -> Distribution:
            return Independent(Normal(x, torch.ones_like(x), validate_args=True), 3)

    x = torch.zeros(9, 1, 2, 2)
    x[7] = math.nan
    with pytest.raises(RunError, match="the posterior of image 7 is not finite"):
        posteriors(VAE(Refusing(), nn.Identity(), nn.Identity()), x, batch_size=4)
