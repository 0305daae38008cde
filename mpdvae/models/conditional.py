r"""Conditional VAEs: an encoder, a decoder and a prior that are told the condition c of an image, its class or covariates.

.. math:: p(x|c) = \int p(x|z, c)\, p(z|c)\, dz, \qquad q(z|x, c), \qquad \mathrm{ELBO} = \mathrm{E}_q \log p(x|z, c)
          - \mathrm{KL}(q(z|x, c) \,\Vert\, p(z|c)) \le \log p(x|c)

The prior given a condition is the prior e ~ p(e) of any other model, scaled and shifted,

.. math:: z = m_c + s_c \odot e, \qquad s_c = \exp(l_c),

N(m_c, diag s_c^2) for a standard normal e. Everything is stated in terms of e: the encoder gives q(e|x, c), the prior is
p(e), and the decoder turns e to z first. Densities, divergences and mutual information are the same in either form, as the
map is invertible; the code e is what z says beyond the condition. m and l are sums of learned numbers of the class and of a
linear map of the covariates' features; they start at 0.

The condition reaches the encoder's body as `WIDTH` numbers, in constant maps beside the image's channels, and the decoder
as others beside the code: the sum of learned numbers of the class and of features of the covariates. Those of the encoder
start near 0 (`START`). So many maps would otherwise drown the image in the variance that layers are scaled by at
initialisation, and move fully connected layers, where all positions add up, by steps so large that training diverges.

Sohn, Lee & Yan, "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015,
https://papers.nips.cc/paper/5775 (equation 4); Kingma et al., "Semi-supervised Learning with Deep Generative Models",
NeurIPS 2014, https://arxiv.org/abs/1406.5298 (model M2, whose prior has no class).
"""

import warnings

import torch
from jaxtyping import Float, Int64
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from mpdvae.data.conditions import Condition, split_condition
from mpdvae.distributions.given_condition import ConditionedSupport, GivenCondition
from mpdvae.errors import InputError
from mpdvae.models.encoders import ImageShape

WIDTH = 24
"""Numbers that describe a condition."""
START = 0.01
"""Factor of the encoder's features at the start."""
EXAMPLES = 256
"""Conditions of training images that a model with covariates keeps, to draw from."""
FARTHEST = 5
"""Widths of a covariate's range by which one that is asked for may lie outside, at most. Shifts and scales grow with the
distance, until codes overflow."""
FAR = 1
"""Widths from which on a warning says that nothing was learned there."""


class ConditionEmbedding(nn.Module):
    """What is told of an image, the number of its class first -> `WIDTH` numbers.

    Learned numbers of the class, plus features of the covariates: standardised, then two linear maps with an ELU between.
    Covariates come in any units. Their mean and standard deviation are those of `examples`: conditions of training images,
    which `VAE.keep_conditions` sets, and zeros before. A covariate that is the same in all of them is only shifted.
    """

    examples: Tensor

    def __init__(self, condition: Condition) -> None:
        super().__init__()
        self.condition = condition
        if condition.classes:
            self.of_class = nn.Embedding(condition.classes, WIDTH)
        if condition.covariates:
            self.of_covariates = nn.Sequential(
                nn.Linear(condition.covariates, WIDTH), nn.ELU(), nn.Linear(WIDTH, WIDTH)
            )
            self.register_buffer("examples", torch.zeros(EXAMPLES, condition.channels))

    def start_near_zero(self) -> "ConditionEmbedding":
        """Makes all features smaller by `START`, until training moves them; returns this module."""
        outputs = [self.of_class.weight] if self.condition.classes else []
        outputs += self.of_covariates[-1].parameters() if self.condition.covariates else []
        with torch.no_grad():
            for output in outputs:
                output.mul_(START)
        return self

    def keep_examples(self, told: Float[Tensor, "*batch number"]) -> None:
        """Keeps conditions of training images."""
        if self.condition.covariates:
            rows = told.flatten(0, -2)
            self.examples.copy_(rows[torch.arange(EXAMPLES, device=rows.device) % len(rows)])

    def check_near_training(self, told: Float[Tensor, "n number"]) -> None:
        """Raises `InputError` for a covariate that lies outside the range of those in `examples` by more than `FARTHEST`
        widths of that range, and warns of one beyond `FAR` widths. Without examples, everything is taken."""
        if not self.condition.covariates or not self.examples.any():
            return
        given, known = (x[:, -self.condition.covariates :] for x in (told.to(self.examples), self.examples))
        low, high = known.amin(0), known.amax(0)
        width = torch.where(high > low, high - low, torch.ones_like(low))
        outside = torch.maximum(low - given, given - high) / width
        image, covariate = divmod(int(outside.argmax()), self.condition.covariates)
        farthest = outside[image, covariate].item()
        if farthest <= FAR:
            return
        value, ends = given[image, covariate].item(), f"{low[covariate].item():g} to {high[covariate].item():g}"
        if farthest > FARTHEST:
            raise InputError(
                f"covariates: expected numbers near those of training images, {ends} for covariate {covariate + 1}, got "
                f"{value:g} for image {image}, outside by more than {FARTHEST} times that range; give covariates in the "
                "units of training.",
                topic="conditional",
            )
        warnings.warn(
            f"covariates: {value:g} is far from those of training images, {ends} for covariate {covariate + 1}: the model "
            "has learned nothing there.",
            stacklevel=2,
        )

    def forward(self, told: Float[Tensor, "*batch number"]) -> Float[Tensor, "*batch feature"]:
        parts = [self.of_class(told[..., 0].long())] if self.condition.classes else []
        if self.condition.covariates:
            first = told.shape[-1] - self.condition.covariates
            known = self.examples[:, first:]
            spread = known.std(0)
            standardised = (told[..., first:] - known.mean(0)) / torch.where(
                spread > 0, spread, torch.ones_like(spread)
            )
            parts.append(self.of_covariates(standardised))
        return torch.stack(parts).sum(0)


class ConditionalEncoder(nn.Module):
    """q(e|x, c).

    Arguments:
        encoder: images with `WIDTH` channels more -> q(e|x, c).
        condition: what is told of each image.
    """

    def __init__(self, encoder: nn.Module, condition: Condition) -> None:
        super().__init__()
        self.encoder, self.condition = encoder, condition
        self.embedding = ConditionEmbedding(condition).start_near_zero()

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Distribution:
        return self.encoder(self.with_features(*split_condition(x, self.condition)))

    def with_features(
        self, images: Float[Tensor, "batch channel height width"], told: Float[Tensor, "batch number"]
    ) -> Float[Tensor, "batch _wider height width"]:
        """Returns what the encoder within takes: images with the features of their conditions."""
        features = self.embedding(told)[..., None, None].expand(*told.shape[:-1], WIDTH, *images.shape[-2:])
        return torch.cat([images, features], -3)


class ConditionalDecoder(nn.Module):
    """p(x|e, c), a distribution of conditioned images.

    Arguments:
        decoder: codes with `WIDTH` numbers, or maps, more -> p(x|z, c).
        condition: what is told of each image.
        latent_shape: shape of a code e.
        image_shape: (channel, height, width) without the condition.
    """

    def __init__(
        self, decoder: nn.Module, condition: Condition, latent_shape: tuple[int, ...], image_shape: ImageShape
    ) -> None:
        super().__init__()
        self.decoder, self.condition, self.latent_shape, self.image_shape = (
            decoder,
            condition,
            latent_shape,
            image_shape,
        )
        self.embedding = ConditionEmbedding(condition)
        if condition.classes:
            self.shift = nn.Parameter(torch.zeros(condition.classes, latent_shape[0]))
            self.log_scale = nn.Parameter(torch.zeros(condition.classes, latent_shape[0]))
        if condition.covariates:
            self.move = nn.Linear(WIDTH, 2 * latent_shape[0])
            nn.init.zeros_(self.move.weight)
            nn.init.zeros_(self.move.bias)

    @property
    def support(self) -> constraints.Constraint | None:
        """Conditioned images that have a probability, whatever the code; None if the decoder within does not state it."""
        images = getattr(self.decoder, "support", None)
        return None if images is None else ConditionedSupport(images, self.condition)

    def forward(self, e: Float[Tensor, "..."]) -> Distribution:
        batch_shape = Size(e.shape[: e.ndim - len(self.latent_shape)])
        return GivenCondition(
            self._decoded, e, batch_shape, self.image_shape, self.condition, self.support, self.draw_told
        )

    def check_near_training(self, told: Float[Tensor, "n number"]) -> None:
        """Raises `InputError` for conditions far from those of training, and warns before, as
        `ConditionEmbedding.check_near_training` does."""
        self.embedding.check_near_training(told)

    def draw_told(self, shape: Size) -> Tensor:
        """Returns conditions [*shape number]: those of training images where there are covariates, otherwise classes, all
        alike."""
        if self.condition.covariates:
            examples = self.embedding.examples
            return examples[torch.randint(EXAMPLES, shape, device=examples.device)]
        return torch.randint(self.condition.classes, shape, device=self.shift.device)[..., None].to(self.shift.dtype)

    def draw_covariates(self, labels: Int64[Tensor, " n"]) -> Float[Tensor, "n covariate"]:
        """Returns covariates of training images of these classes. Raises `InputError` for a class of which none are kept."""
        examples = self.embedding.examples
        fitting = examples[:, 0] == labels[:, None].to(examples)
        if not fitting.any(1).all():
            lacking = int(labels[(~fitting.any(1)).to(labels.device)][0])
            raise InputError(
                f"covariates: expected them, too, for class {lacking}, as none of the {EXAMPLES} training images whose "
                "conditions the model keeps is of it, got labels alone; give both.",
                topic="conditional",
            )
        return examples[torch.multinomial(fitting.float(), 1)[:, 0], 1:]

    def with_features(self, e: Float[Tensor, "..."], told: Float[Tensor, "*batch number"]) -> Float[Tensor, "..."]:
        """Returns what the decoder within takes: codes z of e given conditions, with the features of these."""

        def as_code(numbers: Tensor) -> Tensor:
            """[*batch number] as numbers, or maps, of a code."""
            return numbers.view(*numbers.shape, *[1] * (len(self.latent_shape) - 1))

        features = self.embedding(told)
        shift, log_scale = self._prior(told, features)
        z = as_code(shift) + as_code(log_scale).exp() * e
        about = as_code(features).expand(*told.shape[:-1], WIDTH, *self.latent_shape[1:])
        return torch.cat([z, about], -len(self.latent_shape))

    def _decoded(self, e: Tensor, told: Tensor) -> Distribution:
        return self.decoder(self.with_features(e, told))

    def _prior(self, told: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns m_c and l_c [*batch latent channel]."""
        parts = []
        if self.condition.classes:
            labels = told[..., 0].long()
            parts.append(torch.cat([self.shift[labels], self.log_scale[labels]], -1))
        if self.condition.covariates:
            parts.append(self.move(features))
        shift, log_scale = torch.stack(parts).sum(0).chunk(2, -1)
        return shift, log_scale
