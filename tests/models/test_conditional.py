"""Conditional VAEs: laws of conditioned images, a likelihood known in closed form, and conditions that are learned."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from constructors import DECODERS, by_name, shaken
from linear_gaussian import SHAPE, SIGMA, B, LinearDecoder, W
from small_runs import digits, tiny
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from unchecked_types import sentences

from mpdvae.data.conditions import (
    Condition,
    Known,
    known_from,
    split_condition,
    split_labels,
    told_numbers,
    with_condition,
    with_labels,
)
from mpdvae.errors import InputError
from mpdvae.measures import density
from mpdvae.models.conditional import EXAMPLES, WIDTH, ConditionalDecoder, ConditionalEncoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE

CLASSES = 3
CONDITIONS = {
    "classes": Condition(classes=CLASSES),
    "covariates": Condition(covariates=2),
    "both": Condition(CLASSES, 2),
}
each_condition = pytest.mark.parametrize("condition", by_name(CONDITIONS))


def some_told(condition: Condition, count: int) -> torch.Tensor:
    """Conditions: classes in turn, and covariates in units of their own."""
    labels, covariates = torch.arange(count) % CLASSES, torch.randn(count, 2) * torch.tensor([1e-3, 40.0]) + 20
    return told_numbers(condition, Known(labels, covariates.float()))


def conditional_decoder(build, image_shape, condition=CONDITIONS["classes"], latent=2) -> ConditionalDecoder:
    decoder = ConditionalDecoder(build(image_shape, latent + WIDTH), condition, (latent,), image_shape)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters(recurse=False):
            parameter.normal_(std=1.0 if name == "shift" else 0.3)
        if condition.covariates:
            decoder.move.weight.normal_(std=0.1)
            decoder.embedding.keep_examples(some_told(condition, 30))
    return decoder


def test_a_labelled_image_keeps_its_class():
    images, labels = torch.rand(4, 5, 3, 2, 2), torch.randint(0, 256, (4, 5))
    x = with_labels(images, labels)
    assert x.shape == (4, 5, 4, 2, 2)
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        found = split_labels(x.to(precision))
        assert (found.labels == labels).all()
    torch.testing.assert_close(split_labels(x).images, images)


@each_condition
def test_a_conditioned_image_keeps_what_is_told_of_it(condition):
    images, told = torch.rand(6, 3, 2, 2), some_told(condition, 6)
    x = with_condition(images, told)
    assert x.shape == (6, 3 + condition.channels, 2, 2)
    found = split_condition(x, condition)
    assert torch.equal(found.images, images)
    assert torch.equal(found.told, told)
    labels, covariates = known_from(told, condition)
    assert (labels is not None, covariates is not None) == (condition.classes > 0, condition.covariates > 0)
    assert torch.equal(told_numbers(condition, Known(labels, covariates)), told)


ON_FOUR_PIXELS = [
    name for name, kind in DECODERS.items() if (1, 2, 2) in kind.takes and not name.startswith("injective")
]
"""Injective decoders need as many pixels as the code has numbers, those of the class included."""


@each_condition
@pytest.mark.parametrize("name", ON_FOUR_PIXELS)
def test_the_images_of_each_condition_have_probabilities_that_sum_to_one(name, condition):
    decoder = shaken(conditional_decoder(DECODERS[name].build, (1, 2, 2), condition)).eval()
    images = torch.tensor([*itertools.product([0.0, 1.0], repeat=4)]).view(16, 1, 2, 2)
    e = torch.randn(5, 1, 2)
    if not decoder.support.is_discrete or not bool(decoder.support.images.check(images).all()):
        pytest.skip("pixels of this decoder have more than two values")
    totals = []
    for told in some_told(condition, CLASSES):
        log_p = decoder(e.expand(5, 16, 2)).log_prob(with_condition(images, told.expand(16, -1)))
        torch.testing.assert_close(log_p.exp().sum(1), torch.ones(5))
        totals.append(log_p)
    assert (totals[0] - totals[1]).abs().max() > 1e-4  # the condition matters


@each_condition
@pytest.mark.parametrize("kind", by_name({name: kind for name, kind in DECODERS.items() if (1, 8, 8) in kind.takes}))
def test_an_image_has_the_probability_given_its_own_condition_wherever_it_stands(kind, condition):
    decoder = conditional_decoder(kind.build, (1, 8, 8), condition).eval()
    e, told = torch.randn(3, 6, 2), some_told(condition, 6)
    with torch.no_grad():
        x = decoder(e[0]).given(told).sample()
        assert torch.equal(split_condition(x, condition).told, told)
        together = decoder(e).log_prob(x)
        order = torch.tensor([5, 0, 3, 1, 4, 2])
        torch.testing.assert_close(decoder(e[:, order]).log_prob(x[order]), together[:, order])
        for i in range(6):
            torch.testing.assert_close(decoder(e[:, i : i + 1]).log_prob(x[i : i + 1]), together[:, i : i + 1])


@each_condition
def test_a_new_encoder_encodes_the_image_and_hardly_what_it_is_told(condition):
    """What it is told must not drown the image in data-dependent initialisation."""
    encoder = ConditionalEncoder(mlp_encoder((1 + WIDTH, 8, 8), 4), condition)
    if condition.covariates:
        encoder.embedding.keep_examples(some_told(condition, 30))
    told, image = some_told(condition, 6), torch.rand(6, 1, 8, 8)
    of_told = encoder(with_condition(image[:1].expand(6, -1, -1, -1), told)).mean
    of_image = encoder(with_condition(image, told[:1].expand(6, -1))).mean
    assert of_told.std(0).mean() < of_image.std(0).mean() / 3


def test_classes_that_are_not_given_are_drawn_alike():
    decoder = conditional_decoder(DECODERS["mlp"].build, (1, 2, 2))
    drawn = split_labels(decoder(torch.zeros(3_000, 2)).sample()).labels.bincount(minlength=CLASSES)
    assert (drawn - 1_000).abs().max() < 5 * (3_000 * (1 / 3) * (2 / 3)) ** 0.5


@pytest.mark.parametrize("name", ["covariates", "both"])
def test_covariates_that_are_not_given_are_those_of_images_the_model_was_initialised_with(name):
    condition = CONDITIONS[name]
    decoder, known = conditional_decoder(DECODERS["mlp"].build, (1, 2, 2), condition), some_told(condition, 30)
    decoder.embedding.keep_examples(known)
    drawn = split_condition(decoder(torch.zeros(2_000, 2)).sample(), condition).told
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in known.tolist()}


def trained_on_both(known: torch.Tensor) -> VAE:
    """A model that is told class and covariates, and keeps these conditions of its training."""
    vae = tiny("vae-digits-smoke", data__condition_classes=4, data__condition_covariates=2).build((1, 8, 8))
    vae.keep_conditions(with_condition(torch.zeros(len(known), 1, 8, 8), known))
    return vae


def test_with_the_class_alone_covariates_are_those_of_training_images_of_that_class():
    """As often as among these images; so it is for codes, with the classes of the images in any order."""
    known = some_told(CONDITIONS["both"], EXAMPLES)
    vae = trained_on_both(known)
    labels = torch.tensor([2, 0, 2, 1]).repeat(500)
    for drawn in (vae.sample(2_000, labels), vae.decode(torch.zeros(2_000, vae.latent_dim), labels=labels)):
        told = vae.told_of(drawn)
        assert told is not None
        assert torch.equal(told[:, 0].long(), labels)
        rows, times = torch.unique(told, dim=0, return_counts=True)
        assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in known.tolist()}
        assert times.max() < 8 * times.float().mean()


@pytest.mark.parametrize("labels", [3, [0, 3]])
def test_of_a_class_without_kept_conditions_covariates_are_asked_for(labels):
    vae = trained_on_both(some_told(CONDITIONS["both"], EXAMPLES))
    with pytest.raises(
        InputError, match="covariates: expected them, too, for class 3, as none of the 256 training images"
    ):
        vae.sample(2, labels)
    assert vae.told_of(vae.sample(2, labels, [20.0, 20.0])) is not None


def test_the_units_of_covariates_do_not_matter():
    """Features of covariates in years and of the same in days since some date agree."""
    decoder = conditional_decoder(DECODERS["mlp"].build, (1, 2, 2), CONDITIONS["covariates"])
    years = torch.randn(EXAMPLES, 2)
    found = []
    for told in (years, 365 * years + 10_000):
        decoder.embedding.keep_examples(told)
        found.append(decoder.embedding(told))
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


def told_of_range() -> torch.Tensor:
    """Covariates of training: one from 0 to 180, one from 0.15 to 0.4."""
    return torch.stack([torch.linspace(0, 180, EXAMPLES), torch.linspace(0.15, 0.4, EXAMPLES)], 1)


def given_covariates(covariates: list[float]) -> dict[str, Callable[[], object]]:
    """Calls that give a trained model covariates, by name."""
    vae = tiny("vae-digits-smoke", data__condition_covariates=2).build((1, 8, 8))
    vae.keep_conditions(with_condition(torch.zeros(EXAMPLES, 1, 8, 8), told_of_range()))
    z, images = torch.zeros(2, vae.latent_dim), np.zeros((2, 8, 8))
    return {
        "sample": lambda: vae.sample(2, covariates=covariates),
        "decode": lambda: vae.decode(z, covariates=[[90.0, 0.3], covariates]),
        "preprocess": lambda: vae(vae.preprocess(images, covariates=covariates)),
    }


@pytest.mark.parametrize("covariates", [[0.0, 0.15], [180.0, 0.4], [-179.0, 0.3], [90.0, 0.6]])
def test_covariates_near_those_of_training_are_taken_without_a_word(covariates):
    for call in given_covariates(covariates).values():
        call()


@pytest.mark.parametrize("covariates", [[400.0, 0.3], [-800.0, 0.3], [90.0, 0.7]])
def test_a_warning_says_that_covariates_are_far_from_those_of_training(covariates):
    for call in given_covariates(covariates).values():
        with pytest.warns(
            UserWarning, match=r"covariates: .* is far from those of training images, .* for covariate [12]"
        ):
            call()


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        ([1e6, 0.3], r"0 to 180 for covariate 1, got 1e\+06 for image \d, outside by more than 5 times that range"),
        ([-1e4, 0.3], r"0 to 180 for covariate 1, got -10000 for image \d"),
        ([1.0, 2.0], r"0\.15 to 0\.4 for covariate 2, got 2 for image \d"),
        ([1e38, -1e38], r"covariate 2, got -1e\+38"),
    ],
)
def test_covariates_whose_codes_would_overflow_are_refused(covariates, message):
    for call in given_covariates(covariates).values():
        with pytest.raises(
            InputError, match=f"covariates: expected numbers near those of training images, .*{message}"
        ):
            call()


def test_a_model_that_knows_no_range_takes_every_covariate():
    vae = tiny("vae-digits-smoke", data__condition_covariates=2).build((1, 8, 8))
    assert (vae.told_of(vae.sample(2, covariates=[1e3, -1e3])) == torch.tensor([1e3, -1e3])).all()


def test_a_covariate_that_is_always_the_same_is_taken():
    decoder = conditional_decoder(DECODERS["mlp"].build, (1, 2, 2), CONDITIONS["covariates"])
    told = torch.tensor([3.0, -7.0]).expand(40, 2)
    decoder.embedding.keep_examples(told)
    assert decoder.embedding(told).isfinite().all()
    assert decoder(torch.zeros(40, 2)).log_prob(with_condition(torch.zeros(40, 1, 2, 2), told)).isfinite().all()


class LinearOfCondition(nn.Module):
    """x = W z + V f + b + sigma noise for a code z and features f of the condition."""

    def __init__(self) -> None:
        super().__init__()
        self.of_code, self.of_condition = LinearDecoder(), nn.Linear(WIDTH, 4, bias=False).double()

    def forward(self, told):
        mean = self.of_code(told[..., :2]).mean + self.of_condition(told[..., 2:]).unflatten(-1, SHAPE)
        return Independent(Normal(mean, SIGMA), 3)


class WideEncoder(nn.Module):
    """An encoder that knows nothing: importance samples from it still give log p(x|c)."""

    def forward(self, x):
        return Independent(Normal(x.new_zeros(len(x), 2), x.new_full((len(x), 2), 1.5)), 1)


@each_condition
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proposal", ["fitted", "encoder"])
def test_the_likelihood_given_the_condition_is_that_of_a_model_solved_by_hand(proposal, condition):
    decoder = conditional_decoder(lambda *_: LinearOfCondition(), SHAPE, condition).double()
    vae = VAE(ConditionalEncoder(WideEncoder(), condition), decoder, StandardNormal((2,)).double()).double()
    told = some_told(condition, 12).double()
    x = with_condition(torch.randn(12, *SHAPE), told)

    known = []
    for image, c in zip(split_condition(x, condition).images, told, strict=True):
        features = decoder.embedding(c)
        shift, log_scale = torch.zeros(2), torch.zeros(2)
        if condition.classes:
            shift, log_scale = shift + decoder.shift[int(c[0])], log_scale + decoder.log_scale[int(c[0])]
        if condition.covariates:
            moved = decoder.move.weight @ features + decoder.move.bias
            shift, log_scale = shift + moved[:2], log_scale + moved[2:]
        mean = B + W @ shift + decoder.decoder.of_condition(features)
        covariance = W @ torch.diag(log_scale.exp() ** 2) @ W.mT + SIGMA**2 * torch.eye(4)
        known.append(MultivariateNormal(mean, covariance).log_prob(image.flatten()))
    found = density.estimate(vae, x, 4_096, proposal=proposal)
    assert ((found.log_prob - torch.stack(known)).abs() < 4 * found.standard_error + 1e-6).all()
    assert (found.standard_error < 0.1).all()


@pytest.fixture(scope="module")
def vae() -> VAE:
    return tiny("vae-digits-smoke", data__condition_classes=10).build((1, 8, 8))


@pytest.mark.parametrize("head", ["delta", "batch-norm", "du"])
@pytest.mark.parametrize("recipe", ["vae-digits-smoke", "mae-digits-smoke", "vlae-digits-smoke"])
def test_every_recipe_takes_classes(recipe, head):
    if head == "delta" and recipe != "vae-digits-smoke":
        head = "gaussian"
    options = {"delta": {"kind": "delta", "rate_nats": 1.0}, "batch-norm": {"kind": "batch-norm"}, "du": {"kind": "du"}}
    made = tiny(recipe, data__condition_classes=10, encoder__head=options.get(head, {"kind": "gaussian"})).build(
        (1, 8, 8)
    )
    x = with_labels(torch.randint(0, 2, (4, 1, 8, 8)).float(), torch.arange(4))
    made(x).elbo.sum().backward()
    for part in (made.encoder, made.decoder):
        assert part.embedding.of_class.weight.grad[:4].abs().sum(1).min() > 0
    assert made.decoder.shift.grad is not None
    assert made.encode(x).shape == (4, made.latent_dim)


@pytest.mark.parametrize("recipe", ["vae-digits-smoke", "mae-digits-smoke", "vlae-digits-smoke"])
def test_every_recipe_takes_covariates(recipe):
    made = tiny(recipe, data__condition_covariates=2, data__condition_classes=3).build((1, 8, 8))
    x = with_condition(torch.randint(0, 2, (6, 1, 8, 8)).float(), some_told(made.condition, 6))
    made.initialise(x)
    assert torch.equal(made.decoder.embedding.examples[:6], made.told_of(x))
    assert torch.equal(made.encoder.embedding.examples, made.decoder.embedding.examples)
    made(x).elbo.sum().backward()
    for part in (made.encoder, made.decoder):
        assert part.embedding.of_covariates[0].weight.grad.abs().sum(0).min() > 0
    assert made.decoder.move.weight.grad.abs().max() > 0
    assert (made.classes, made.condition.covariates) == (3, 2)
    drawn = split_condition(made.sample(4, labels=1, covariates=[20.001, -3.0]), made.condition).told
    assert torch.equal(drawn, torch.tensor([1.0, 20.001, -3.0]).expand(4, 3))
    assert torch.equal(made.told_of(made.reconstruct(x, greedy=False)), made.told_of(x))


def test_the_class_of_an_image_that_is_drawn_is_the_one_asked_for(vae):
    assert (split_labels(vae.sample(7, labels=3)).labels == 3).all()
    assert split_labels(vae.sample(3, labels=[2, 0, 9])).labels.tolist() == [2, 0, 9]
    x = with_labels(torch.randint(0, 2, (10, 1, 8, 8)).float(), torch.arange(10))
    assert (split_labels(vae.reconstruct(x, greedy=False)).labels == torch.arange(10)).all()
    z = vae.encode(x).unflatten(0, (2, 5))
    labels = split_labels(vae.decode(z, labels=[4, 5], greedy=False)).labels
    assert (labels == torch.tensor([4, 5])[:, None]).all()


def test_what_is_no_labelled_image_is_refused(vae):
    images = torch.zeros(2, 1, 8, 8)
    with pytest.raises(InputError, match=r"\[batch 2 8 8\]"):
        vae.encode(images)
    for wrong in (-1, 10):
        with pytest.raises(InputError, match="expected classes 0 to 9"):
            vae(with_labels(images, torch.tensor([0, wrong])))
        with pytest.raises(InputError, match="expected classes 0 to 9"):
            vae.encode(with_labels(images, torch.tensor([0, wrong])))
        with pytest.raises(InputError, match="labels: expected classes 0 to 9"):
            vae.sample(2, labels=wrong)
    half = with_labels(images, torch.zeros(2).long())
    half[1, 1, 0, 0] = 0.5
    with pytest.raises(InputError, match="one of 10 classes, the same number in all of its last channel"):
        vae(half)
    grey = with_labels(images + 0.5, torch.zeros(2).long())
    with pytest.raises(InputError, match=r"has the value 0\.5"):
        vae(grey)
    for labels in (torch.tensor(1.5), [1, 2, 3], torch.zeros(2, 2).long(), torch.zeros(2, 1, 1)):
        with pytest.raises(InputError, match="labels: expected the number of a class, or 2 of them"):
            vae.sample(2, labels=labels)
    plain = tiny("vae-digits-smoke").build((1, 8, 8))
    for call in (lambda: plain.sample(2, labels=1), lambda: plain.preprocess(images, labels=1)):
        with pytest.raises(InputError, match="this model is not conditioned on classes"):
            call()


NO_NUMBERS = ["'square'", "['a', 'b']", "{1: 2}", "{1}", "[[1], [2, 3]]", "[10**30] * 3", "[None] * 2", "1j", "b'ab'", "True",
              "np.array(['a', 'b'])", "np.array([1, 'b'], object)"]  # fmt: skip


@pytest.mark.parametrize("part", ["labels", "covariates"])
def test_what_are_no_numbers_is_refused_wherever_a_condition_is_given(part):
    option = {"labels": "data__condition_classes=3", "covariates": "data__condition_covariates=2"}[part]
    setup = f"vae = tiny('vae-digits-smoke', {option}).build((1, 8, 8))"
    calls = [
        f"vae.preprocess(np.zeros((2, 8, 8)), {part}=given)",
        f"vae.sample(2, {part}=given)",
        f"vae.decode(torch.zeros(2, vae.latent_dim), {part}=given)",
    ]
    said = sentences(setup, calls, NO_NUMBERS)
    assert len(said) == len(calls) * len(NO_NUMBERS)
    for case, sentence in said.items():
        assert sentence.startswith(f"{part}: expected "), case
        assert ", got " in sentence


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "int64"])
def test_labels_may_be_integers_of_any_kind_in_any_order_of_memory(vae, kind):
    labels = np.array([2, 0, 9], kind)[::-1]
    assert split_labels(vae.sample(3, labels=labels)).labels.tolist() == [9, 0, 2]


def test_what_is_no_condition_is_refused():
    vae = tiny("vae-digits-smoke", data__condition_classes=3, data__condition_covariates=2).build((1, 8, 8))
    x = with_condition(torch.zeros(4, 1, 8, 8), some_told(vae.condition, 4))
    uneven, lost = x.clone(), x.clone()
    uneven[2, 3, 0, 1] += 1
    lost[1, 2] = torch.nan
    partly_lost = x.clone()
    partly_lost[1, 2, 3, 3] = torch.nan
    for call in (vae, vae.encode):
        with pytest.raises(
            InputError, match="one of 3 classes and 2 covariates, the same number in all of each of its"
        ):
            call(uneven)
        with pytest.raises(InputError, match=r"covariates: expected finite numbers, got .* for image 1"):
            call(lost)
    for wrong in ([1.0], [[1.0, 2.0]] * 3, np.array(["young"]), [[1.0], [2.0, 3.0]], torch.tensor([True, False]), 2.0):
        with pytest.raises(InputError, match=r"covariates: expected 2 numbers for all images, or \[4 2\]"):
            vae.sample(4, labels=1, covariates=wrong)
    with pytest.raises(InputError, match="covariates: expected finite numbers"):
        vae.sample(4, labels=1, covariates=[1.0, torch.inf])
    with pytest.raises(InputError, match="labels: expected them, too, as this model is conditioned on one of 3"):
        vae.sample(4, covariates=[1.0, 2.0])
    with pytest.raises(InputError, match=r"expected a batch of codes where a condition is given"):
        vae.decode(torch.zeros(vae.latent_dim), labels=1, covariates=[1.0, 2.0])
    plain = tiny("vae-digits-smoke").build((1, 8, 8))
    for call in (lambda: plain.sample(2, covariates=1.0), lambda: plain.preprocess(x[:, :1], covariates=1.0)):
        with pytest.raises(
            InputError, match=r"covariates: this model is not conditioned on covariates; .* --data.condition-c"
        ):
            call()


@pytest.mark.parametrize("covariates", [2.5, [2.5], [[2.5]] * 4, [2.5] * 4, torch.full((4,), 2.5)])
def test_a_single_covariate_may_be_a_number(covariates):
    vae = tiny("vae-digits-smoke", data__condition_covariates=1).build((1, 8, 8))
    assert (vae.told_of(vae.sample(4, covariates=covariates)) == 2.5).all()


@pytest.mark.parametrize(("option", "words"), [("classes", "one of 10 classes"), ("covariates", "10 covariates")])
def test_the_prior_of_pseudo_inputs_has_no_place_for_a_condition(option, words):
    with pytest.raises(
        InputError, match=f"data.condition_{option}: prior vamp has no place for a condition, got {words}"
    ):
        tiny("vae-digits-smoke", **{f"data__condition_{option}": 10}, prior={"kind": "vamp"})


def test_the_label_is_taken_from_the_data_and_not_from_another_image():
    experiment = tiny("vae-digits-smoke", data__condition_classes=10, data__shift=1, data__flip=True)
    from mpdvae.data import evaluation_images, training_batch

    data, protocol = digits(), experiment.data.protocol()
    chosen = torch.tensor([7, 3, 100])
    for batch in (
        training_batch(data.train, chosen, protocol, 0, 5),
        evaluation_images(data.train, protocol, "train", draws=1, chosen=chosen)[0],
    ):
        assert (split_labels(batch).labels == data.train.labels[chosen]).all()
        assert batch.shape == (3, 2, 8, 8)


@pytest.mark.slow
def test_a_trained_model_knows_the_classes_and_draws_what_a_classifier_takes_for_them():
    """Digits: the label explains test images better than any other, and samples of a class look like it."""
    from sklearn.linear_model import LogisticRegression

    from mpdvae.data import evaluation_images, training_batch
    from mpdvae.data.batches import batch_indices
    from mpdvae.training.learner_state import initialise

    experiment = tiny("vae-digits-smoke", data__condition_classes=10, encoder={"kind": "mlp"}, decoder={"kind": "mlp"})
    data, protocol = digits(), experiment.data.protocol()
    vae = experiment.build((1, 8, 8))
    initialise(vae, experiment, data)
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    for step in range(600):
        batch = training_batch(data.train, batch_indices(len(data.train), 50, 0, step), protocol, 0, step)
        optimizer.zero_grad()
        (-vae(batch).elbo.mean()).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
        optimizer.step()
    x, labels = evaluation_images(data.test, protocol, "test", draws=1)
    x, labels = x[:100], labels[:100]
    images = split_labels(x).images
    with torch.no_grad():
        scores = torch.stack([vae.elbo(with_labels(images, torch.full((100,), y)), 32) for y in range(10)])
    assert (scores.argmax(0) == labels).float().mean() > 0.7
    train, of_train = evaluation_images(data.train, protocol, "train", draws=1)
    classifier = LogisticRegression(max_iter=2_000).fit(split_labels(train).images.flatten(1).numpy(), of_train.numpy())
    drawn = split_labels(vae.decode(torch.randn(500, vae.latent_dim), labels=[i % 10 for i in range(500)]))
    taken_for = torch.from_numpy(classifier.predict(drawn.images.flatten(1).numpy()))
    assert (taken_for == drawn.labels).float().mean() > 0.8


@pytest.mark.slow
def test_a_trained_model_turns_what_it_draws_by_the_angle_that_it_is_told():
    """Bars at an angle: the posterior of the angle given an image, over a grid, has its mode at the angle of the image."""
    vae = tiny(
        "vae-digits-smoke", data__condition_covariates=1, encoder={"kind": "mlp"}, decoder={"kind": "mlp"}
    ).build((1, 8, 8))

    def bars(angles):
        at = torch.linspace(-1, 1, 8)
        distance = at[:, None] * angles.cos()[:, None, None] - at * angles.sin()[:, None, None]
        return with_condition((distance.abs() < 0.3).float()[:, None], angles.rad2deg()[:, None])

    vae.initialise(bars(torch.rand(200) * 3))
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    for _ in range(500):
        optimizer.zero_grad()
        (-vae(bars(torch.rand(50) * 3)).elbo.mean()).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
        optimizer.step()
    angles, grid = torch.linspace(0.2, 2.8, 27), torch.linspace(0, 3, 61)
    images = split_condition(bars(angles), vae.condition).images
    with torch.no_grad():
        scores = torch.stack([vae.elbo(with_condition(images, angle.rad2deg().expand(27, 1)), 16) for angle in grid])
    assert (grid[scores.argmax(0)] - angles).abs().max() < 0.25
    drawn = vae.decode(torch.randn(27, vae.latent_dim), covariates=angles.rad2deg()[:, None])
    right = (split_condition(drawn, vae.condition).images.round() == images).float().mean()
    assert right > 0.9
