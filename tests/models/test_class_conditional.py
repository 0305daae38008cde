"""Conditional VAEs: laws of labelled images, a likelihood that is known in closed form, and classes that are learned."""

import itertools

import pytest
import torch
from constructors import DECODERS, by_name, shaken
from linear_gaussian import SHAPE, SIGMA, B, LinearDecoder, W
from small_runs import digits, tiny
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from mpdvae.data.labelled import split_labels, with_labels
from mpdvae.errors import InputError
from mpdvae.measures import density
from mpdvae.models.class_conditional import WIDTH, ClassConditionalDecoder, ClassConditionalEncoder
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE

CLASSES = 3


def conditional_decoder(build, image_shape, latent=2) -> ClassConditionalDecoder:
    decoder = ClassConditionalDecoder(build(image_shape, latent + WIDTH), CLASSES, (latent,), image_shape)
    with torch.no_grad():
        decoder.shift.normal_()
        decoder.log_scale.normal_(std=0.3)
    return decoder


def test_a_labelled_image_keeps_its_class():
    images, labels = torch.rand(4, 5, 3, 2, 2), torch.randint(0, 256, (4, 5))
    x = with_labels(images, labels)
    assert x.shape == (4, 5, 4, 2, 2)
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        found = split_labels(x.to(precision))
        assert (found.labels == labels).all()
    torch.testing.assert_close(split_labels(x).images, images)


ON_FOUR_PIXELS = [
    name for name, kind in DECODERS.items() if (1, 2, 2) in kind.takes and not name.startswith("injective")
]
"""Injective decoders need as many pixels as the code has numbers, those of the class included."""


@pytest.mark.parametrize("name", ON_FOUR_PIXELS)
def test_the_images_of_each_class_have_probabilities_that_sum_to_one(name):
    decoder = shaken(conditional_decoder(DECODERS[name].build, (1, 2, 2))).eval()
    images = torch.tensor([*itertools.product([0.0, 1.0], repeat=4)]).view(16, 1, 2, 2)
    e = torch.randn(5, 1, 2)
    if not decoder.support.is_discrete or not bool(decoder.support.images.check(images).all()):
        pytest.skip("pixels of this decoder have more than two values")
    totals = []
    for label in range(CLASSES):
        log_p = decoder(e.expand(5, 16, 2)).log_prob(with_labels(images, torch.full((16,), label)))
        torch.testing.assert_close(log_p.exp().sum(1), torch.ones(5))
        totals.append(log_p)
    assert (totals[0] - totals[1]).abs().max() > 1e-4  # the class matters


@pytest.mark.parametrize("kind", by_name({name: kind for name, kind in DECODERS.items() if (1, 8, 8) in kind.takes}))
def test_an_image_has_the_probability_of_its_own_class_wherever_it_stands(kind):
    decoder = conditional_decoder(kind.build, (1, 8, 8)).eval()
    e, labels = torch.randn(3, 6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        x = decoder(e[0]).given(labels).sample()
        assert (split_labels(x).labels == labels).all()
        together = decoder(e).log_prob(x)
        order = torch.tensor([5, 0, 3, 1, 4, 2])
        torch.testing.assert_close(decoder(e[:, order]).log_prob(x[order]), together[:, order])
        for i in range(6):
            torch.testing.assert_close(decoder(e[:, i : i + 1]).log_prob(x[i : i + 1]), together[:, i : i + 1])


def test_classes_that_are_not_given_are_drawn_alike():
    decoder = conditional_decoder(DECODERS["mlp"].build, (1, 2, 2))
    drawn = split_labels(decoder(torch.zeros(3_000, 2)).sample()).labels.bincount(minlength=CLASSES)
    assert (drawn - 1_000).abs().max() < 5 * (3_000 * (1 / 3) * (2 / 3)) ** 0.5


class LinearOfClass(nn.Module):
    """x = W z + V c + b + sigma noise for a code z and numbers c of the class."""

    def __init__(self) -> None:
        super().__init__()
        self.of_code, self.of_class = LinearDecoder(), nn.Linear(WIDTH, 4, bias=False).double()

    def forward(self, told):
        mean = self.of_code(told[..., :2]).mean + self.of_class(told[..., 2:]).unflatten(-1, SHAPE)
        return Independent(Normal(mean, SIGMA), 3)


class WideEncoder(nn.Module):
    """An encoder that knows nothing: importance samples from it still give log p(x|y)."""

    def forward(self, x):
        return Independent(Normal(x.new_zeros(len(x), 2), x.new_full((len(x), 2), 1.5)), 1)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proposal", ["fitted", "encoder"])
def test_the_likelihood_given_the_class_is_that_of_a_model_solved_by_hand(proposal):
    decoder = ClassConditionalDecoder(LinearOfClass(), CLASSES, (2,), SHAPE)
    with torch.no_grad():
        decoder.shift.normal_()
        decoder.log_scale.normal_(std=0.5)
    vae = VAE(ClassConditionalEncoder(WideEncoder(), CLASSES), decoder, StandardNormal((2,)).double()).double()
    labels = torch.arange(12) % CLASSES
    x = with_labels(torch.randn(12, *SHAPE), labels)

    scale = decoder.log_scale.exp()
    known = []
    for image, y in zip(split_labels(x).images, labels, strict=True):
        mean = B + W @ decoder.shift[y] + decoder.decoder.of_class(decoder.embedding.weight[y])
        covariance = W @ torch.diag(scale[y] ** 2) @ W.mT + SIGMA**2 * torch.eye(4)
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
        assert part.embedding.weight.grad[:4].abs().sum(1).min() > 0
    assert made.decoder.shift.grad is not None
    assert made.encode(x).shape == (4, made.latent_dim)


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
    with pytest.raises(InputError, match="the number of a class in all of its last channel"):
        vae(half)
    grey = with_labels(images + 0.5, torch.zeros(2).long())
    with pytest.raises(InputError, match=r"has the value 0\.5"):
        vae(grey)
    for labels in (torch.tensor(1.5), [1, 2, 3], torch.zeros(2, 2).long(), [True, False]):
        with pytest.raises(InputError, match="labels: expected the number of a class, or 2 of them"):
            vae.sample(2, labels=labels)
    plain = tiny("vae-digits-smoke").build((1, 8, 8))
    for call in (lambda: plain.sample(2, labels=1), lambda: plain.preprocess(images, labels=1)):
        with pytest.raises(InputError, match="this model is not conditioned on classes"):
            call()


def test_the_prior_of_pseudo_inputs_has_no_place_for_a_class():
    with pytest.raises(InputError, match="prior vamp has no place for a class"):
        tiny("vae-digits-smoke", data__condition_classes=10, prior={"kind": "vamp"})


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
