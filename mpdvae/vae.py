r"""The variational autoencoder: three modules that return distributions, combined by arithmetic on their `log_prob`.

    encoder(x) -> q(z|x)        decoder(z) -> p(x|z)        prior() -> p(z)

.. math:: \log w = \log p(x|z) + \log p(z) - \log q(z|x), \qquad z \sim q(z|x)

The evidence lower bound (ELBO) is the mean of log w over samples; the importance-weighted bound is the log of the mean of
w, which approaches log p(x) from below as the number of samples grows. The ELBO has two estimators: the *generic* one, the
mean of log w, works for any distributions; the *analytic* one, E log p(x|z) - KL(q(z|x) || p(z)), has less noise and
applies where the KL has a closed form.

Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014 (equations 6 and 7), https://arxiv.org/abs/1312.6114;
Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, https://arxiv.org/abs/1509.00519.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from mpdvae.data.conditions import Condition, Covariates, Labels, split_condition, told_for
from mpdvae.distributions.given_condition import GivenCondition
from mpdvae.distributions.support import check_values, like_parameters, refuse_out_of_range, refuse_outside, tensor_for
from mpdvae.errors import InputError
from mpdvae.networks.weight_norm import initialising_by_data

Estimator = Literal["analytic-if-possible", "generic"]

OTHER_NAMES: Mapping[str, str] = {
    "log_prob": "log p(x) has no formula: vae.importance_weighted_bound(x, samples) is a lower bound, and "
    "mpdvae.density.estimate(vae, x, samples) an estimate with error bars",
    "log_likelihood": "log p(x) has no formula: use mpdvae.density.estimate(vae, x, samples)",
    "loss": "-vae(x).elbo.mean() is the loss of a plain VAE, and mpdvae.objectives has the others",
    "fit": "mpdvae.MPDVAE().fit(images) trains a model on images",
    "transform": "use vae.encode(vae.preprocess(images)), or MPDVAE.from_pretrained, which is a scikit-learn transformer",
    "generate": "use vae.sample(count)",
    "save": "use vae.save_pretrained(folder)",
    "load": "use mpdvae.load(source)",
}
"""What other libraries call something, and what does it here."""


class VAEOutput(NamedTuple):
    """One pass through a VAE: what `VAE.forward` returns."""

    elbo: Float[Tensor, " batch"]
    """Evidence lower bound in nats, higher is better: `-output.elbo.mean()` is a loss."""
    q: Distribution
    """q(z|x)."""
    z: Float[Tensor, "samples batch *latent"]
    """Draws from `q`."""
    p: Distribution
    """p(x|z)."""


class VAE(nn.Module):
    """A variational autoencoder assembled from its three parts.

    Arguments:
        encoder: images [batch channel height width] -> q(z|x), batch shape [batch], event shape [latent...].
        decoder: codes [*, latent...] -> p(x|z), batch shape [*], event shape [channel height width]. With an attribute
            `support`, a torch constraint on images, `check_images` rejects images that have no probability.
        prior: () -> p(z), event shape [latent...].
    """

    sharing: ClassVar[str] = "mpdvae.sharing.pretrained"
    """Module whose functions of the same names the last methods call, imported on call. Users of the hub look for these
    methods on the model, while the model itself depends on no module above it."""
    preparation: ClassVar[str] = "mpdvae.experiments.model_input"
    """Module whose function `preprocess` the method of the same name calls."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.origin: object | None = None
        """How the model was made: an `mpdvae.experiments.experiment.Origin`, which saving the model requires. None unless
        the code that made the model sets it."""

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        samples: int = 1,
        estimator: Estimator = "analytic-if-possible",
    ) -> VAEOutput:
        """Returns the ELBO in nats with `samples` draws of z per image, and the distributions that it was computed from.
        `-vae(x).elbo.mean()` is a loss, also of `torch.compile(vae)` and of `DistributedDataParallel(vae)`.

        Raises:
            InputError: for fewer than one sample, for anything but images of the model's shape on its device, or for an
                image that the decoder gives no probability; names the image. The likelihoods and `initialise` raise it, too.
        """
        check_samples(samples)
        x = self._measurable(x)
        q = self.encoder(x)
        z = q.rsample((samples,))
        p = self.decoder(z)
        check_values(p, x)
        return VAEOutput(p.log_prob(x).mean(0) - self.kl(q, z, estimator), q, z, p)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of a code."""
        with torch.no_grad():
            return tuple(self.prior().event_shape)

    @property
    def latent_dim(self) -> int:
        """Length of a code; for codes that are maps, the number of channels."""
        return self.latent_shape[0]

    @property
    def condition(self) -> Condition:
        """What the model is told of each image; nothing, unless it is conditional."""
        return getattr(self.decoder, "condition", Condition())

    @property
    def classes(self) -> int:
        """Number of classes that the model is conditioned on; 0: the class is not told."""
        return self.condition.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of the training images, in the order of their numbers. Empty: they have none, or these are not
        known. They are saved with the model, and `labels=` takes them."""
        return getattr(self.origin, "known_names", None) or ()

    def log_weights(
        self, x: Float[Tensor, "batch channel height width"], samples: int = 1
    ) -> Float[Tensor, "samples batch"]:
        """Returns log p(x, z) - log q(z|x) in nats for `samples` draws of z per image."""
        check_samples(samples)
        x = self._measurable(x)
        q = self.encoder(x)
        z = q.rsample((samples,))
        p = self.decoder(z)
        check_values(p, x)
        return p.log_prob(x) + self.prior().log_prob(z) - q.log_prob(z)

    def elbo(
        self,
        x: Float[Tensor, "batch channel height width"],
        samples: int = 1,
        estimator: Estimator = "analytic-if-possible",
    ) -> Float[Tensor, " batch"]:
        """Estimates the evidence lower bound in nats (higher is better) from `samples` draws of z per image."""
        return self.forward(x, samples, estimator).elbo

    def importance_weighted_bound(
        self, x: Float[Tensor, "batch channel height width"], samples: int = 1
    ) -> Float[Tensor, " batch"]:
        """Returns log 1/k sum_i w_i in nats, a lower bound of log p(x) in expectation. Holds all samples at once: for many
        samples, and for error bars, use `mpdvae.measures.density.estimate`."""
        return self.log_weights(x, samples).logsumexp(0) - math.log(samples)

    def kl(
        self,
        q: Distribution,
        z: Float[Tensor, "samples batch *latent"],
        estimator: Estimator = "analytic-if-possible",
        prior: Distribution | None = None,
    ) -> Float[Tensor, " batch"]:
        """Returns KL(q(z|x) || p(z)) in nats: in closed form if torch has one, otherwise the mean over the given samples of
        q of log q(z|x) - log p(z), which can be negative by chance. `prior` is the value of `self.prior()`, if known."""
        p: Distribution = self.prior() if prior is None else prior
        if estimator == "analytic-if-possible":
            try:
                return kl_divergence(q, p)
            except NotImplementedError:
                pass  # a flow, a mixture: no closed form
        return (q.log_prob(z) - p.log_prob(z)).mean(0)

    def encode(
        self, x: Float[Tensor, "batch channel height width"], *, gradients: bool = False
    ) -> Float[Tensor, "batch *latent"]:
        """Returns the posterior mean of each image. Deterministic. With `gradients`, these pass through the encoder, to train
        it with another loss or to explain a code by its pixels.

        Raises:
            InputError: for anything but images of the model's shape on its device, or a pixel beyond the model's value range;
                for a posterior without a mean, such as a flow.
        """
        x = self._images(x)
        with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            q = self.encoder(x)
            try:
                return q.mean
            except NotImplementedError:
                raise InputError(
                    f"x: the posterior {type(q).__name__} has no mean that is known, got {len(x)} images to encode; average "
                    "draws, vae.encoder(x).sample((1000,)).mean(0), or give the distribution a mean.",
                    topic="own-parts",
                ) from None

    @torch.no_grad()
    def decode(
        self,
        z: Float[Tensor, "..."],
        greedy: bool = True,
        labels: Labels | None = None,
        covariates: Covariates | None = None,
    ) -> Float[Tensor, "*batch channel height width"]:
        """Returns images for codes. With `greedy`, independent pixels take their mean, and autoregressive pixels each take
        their more probable value given the pixels before them; otherwise images are drawn. A conditional model gives them the
        class `labels` and the `covariates`, of all or of each of the first axis, or else draws a condition, as `sample`
        does. Raises `InputError` for anything but finite codes of the model's shape and conditions that it knows."""
        z = self._codes(z)
        return self.decode_told(z, self._told(labels, covariates, z), greedy)

    @torch.no_grad()
    def decode_told(
        self, z: Float[Tensor, "count *latent"], told: Float[Tensor, "count number"] | None, greedy: bool = True
    ) -> Float[Tensor, "*batch channel height width"]:
        """Does what `decode` does, with the condition as `told_of` returns it, for each of the first axis. Raises
        `InputError` for anything but finite codes of the model's shape."""
        p = self.decoded(z, told)
        if not greedy:
            return p.sample()
        try:
            return p.mean
        except NotImplementedError:  # pixels depend on each other: their mean is not available
            return p.mode

    def reconstruct(
        self, x: Float[Tensor, "batch channel height width"], greedy: bool = True
    ) -> Float[Tensor, "batch channel height width"]:
        """Decodes the posterior mean of each image with `decode`; a conditional model, with the image's condition."""
        return self.decode_told(self.encode(x), self.told_of(x), greedy)

    @torch.no_grad()
    def sample(
        self, count: int, labels: Labels | None = None, covariates: Covariates | None = None
    ) -> Float[Tensor, "count channel height width"]:
        """Draws images from the model: z from the prior, then x from the decoder (with torch's default generator). `labels`
        and `covariates` are the condition that a conditional model gives them, one for all or one for each. None: drawn,
        classes all alike; where there are covariates, the conditions of training images, with `labels` alone of images of
        these classes."""
        check_samples(count, "count")
        z = self.prior().sample((count,))
        return self._decoded(z, self._told(labels, covariates, z)).sample()

    def initialise(self, x: Float[Tensor, "batch channel height width"]) -> None:
        """Initialises every weight-normalised layer from data in one pass, with z = m (no noise), after `keep_conditions`.

        Raises:
            InputError: for fewer than two images, whose outputs have no spread to rescale by, or an image that the decoder
                gives no probability.
        """
        x = self._measurable(x)
        if len(x) < 2:
            raise InputError(f"x: data-dependent initialisation needs at least 2 images, got {len(x)}.")
        self.keep_conditions(x)
        with initialising_by_data(self):
            z = self.encoder(x).mean
            self.prior().log_prob(z)
            p = self.decoder(z)
            check_values(p, x)
            p.log_prob(x)

    def keep_conditions(self, x: Float[Tensor, "batch channel height width"]) -> None:
        """Has the parts of a conditional model keep what they are told of the training images `x`. Covariates are
        standardised by it, and images are drawn for it where no condition is given."""
        told = self.told_of(x)
        for part in self.modules() if told is not None else ():
            keep = getattr(part, "keep_examples", None)
            if keep is not None:
                keep(told)

    def check_images(
        self, x: Float[Tensor, "batch channel height width"], indices: Sequence[int] | None = None
    ) -> None:
        """Raises `InputError`, naming the image, if the decoder gives an image no probability, such as a grey pixel under a
        Bernoulli distribution (`mpdvae.distributions.support`). Decoders that do not state their support are not checked.

        Arguments:
            x: images.
            indices: index of each image in its data set, for the message; default: 0, 1, 2, ...
        """
        support = getattr(self.decoder, "support", None)
        if support is not None:
            refuse_outside(support, x, indices)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Writes the model as safetensors, JSON and a model card; see `mpdvae.sharing.save_pretrained`."""
        import_module(self.sharing).save_pretrained(self, folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads the model to the Hugging Face hub; see `mpdvae.sharing.push_to_hub`."""
        return import_module(self.sharing).push_to_hub(self, repo_id, **options)

    @classmethod
    def from_pretrained(cls, source: str | bytes | Path, **options: Any) -> "VAE":
        """Loads a model from a folder, the package or the Hugging Face hub; see `mpdvae.load`, which does the same."""
        return import_module(cls.sharing).load(source, **options)

    def preprocess(
        self,
        images: Any,
        *,
        value_range: tuple[float, float] | None = None,
        labels: Labels | None = None,
        covariates: Covariates | None = None,
    ) -> Float[Tensor, "batch channel height width"]:
        """Returns images as the model takes them; see `mpdvae.experiments.model_input.preprocess`."""
        module = import_module(self.preparation)
        return module.preprocess(self, images, value_range=value_range, labels=labels, covariates=covariates)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        if name in OTHER_NAMES:
            raise AttributeError(f"{type(self).__name__} has no {name!r}: {OTHER_NAMES[name]}.", name=name, obj=self)
        return super().__getattr__(name)

    def _images(self, x: object) -> Tensor:
        """Returns the images `x` in the model's precision. Raises `InputError` for anything else, and for values beyond the
        model's range."""
        images = tensor_for(self, x, getattr(self.origin, "input_shape", None))
        refuse_out_of_range(getattr(self.decoder, "support", None), images)
        return images

    def _measurable(self, x: object) -> Tensor:
        """Returns the images `x` in the model's precision. Raises `InputError` for anything else, and for images that the
        decoder gives no probability."""
        images = tensor_for(self, x, getattr(self.origin, "input_shape", None))
        self.check_images(images)
        refuse_out_of_range(None, images)
        return images

    def check_near_training(self, told: Float[Tensor, "n number"] | None) -> None:
        """Raises `InputError` for conditions, as `told_of` returns them, that lie far from those of training images, and
        warns of some that lie beyond (docs/conditional.md)."""
        check = getattr(self.decoder, "check_near_training", None)
        if told is not None and check is not None:
            check(told)

    def told_of(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch number"] | None:
        """Returns what a conditional model is told of the images `x`, the class first; None for another model."""
        return split_condition(x, self.condition).told if self.condition.channels else None

    def decoded(
        self, z: Float[Tensor, "count *latent"], told: Float[Tensor, "count number"] | None = None
    ) -> Distribution:
        """Returns p(x|z) of a batch of codes. `told` is the condition that a conditional model gives to images that are
        drawn, for each of the first axis, as `told_of` returns it; None: drawn. Raises `InputError` for anything but finite
        codes of the model's shape."""
        return self._decoded(self._codes(z), told)

    def _decoded(self, z: Tensor, told: Tensor | None) -> Distribution:
        p = self.decoder(z)
        if told is None or not isinstance(p, GivenCondition):
            return p
        return p.given(told.view(len(told), *[1] * (len(p.batch_shape) - 1), -1))

    def _told(self, labels: Labels | None, covariates: Covariates | None, z: Tensor) -> Tensor | None:
        """Returns the given condition for each of the first axis of the codes `z`; None if none is given. Raises `InputError`
        for one that the model does not know, or a part of one."""
        given = labels is not None or covariates is not None
        if given and self.condition.channels and not z.ndim > len(self.latent_shape):
            raise InputError(
                "z: expected a batch of codes where a condition is given, got a single one; use z[None].",
                topic="conditional",
            )
        drawn = getattr(self.decoder, "draw_covariates", None)
        told = told_for(self.condition, self._numbers(labels), covariates, len(z), drawn)
        self.check_near_training(told)
        return None if told is None else told.to(z)

    def _numbers(self, labels: Labels | None) -> Labels | None:
        """Returns labels that are names of classes as their numbers; a model of unknown origin knows no names."""
        numbers = getattr(self.origin, "class_numbers", None)
        return labels if labels is None or numbers is None else numbers(labels)

    def _codes(self, z: object) -> Tensor:
        """Returns the codes `z` in the model's precision. Raises `InputError` for anything else, and for numbers that are not
        finite."""
        latent = self.latent_shape
        if not isinstance(z, Tensor) or not z.is_floating_point() or tuple(z.shape[-len(latent) :]) != latent:
            given = f"{z.dtype} of shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
            raise InputError(
                f"z: expected a tensor of floating-point codes [... {' '.join(map(str, latent))}], as vae.encode returns "
                f"them, got {given}; torch.as_tensor(z, dtype=torch.float32) converts arrays."
            )
        broken = (~z.isfinite()).nonzero()
        if len(broken):
            at = broken[0].tolist()
            raise InputError(
                f"z: expected finite codes, got {z[tuple(at)].item():g} at z[{', '.join(map(str, at))}]; leave that code "
                "out, or check that the model that gave it did not diverge.",
                topic="not-a-number",
            )
        return like_parameters(self, z, "z")


def check_samples(samples: int, name: str = "samples") -> None:
    """Raises `InputError` unless the count called `name` is a whole number, and at least one."""
    if not isinstance(samples, Integral) or samples < 1:
        raise InputError(f"{name}: expected a number >= 1, got {samples}.")
