"""The complete configuration of one run: typed, validated, frozen; read from and written to JSON, set by the command line.

A run is a pure function of an `Experiment`. Unknown fields, wrong types and combinations that cannot work are rejected when
the experiment is constructed, before any training. Each part has a configuration of its own (`encoder_config`,
`decoder_config`, `prior_config`, `objective_config` ...), whose `build` method creates it; torch is imported only there, so
that listing recipes and printing help remain fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, WrapValidator, model_validator

from mpdvae.distributions.pixel_values import IN_WORDS, MODELLED
from mpdvae.errors import InputError
from mpdvae.experiments.data_config import Data
from mpdvae.experiments.decoder_config import DecoderConfig, PixelCNNDecoder
from mpdvae.experiments.encoder_config import EncoderConfig, ResNetEncoder
from mpdvae.experiments.evaluation_config import Evaluation
from mpdvae.experiments.fields import (
    Config,
    ImageShape,
    Text,
    Width,
)
from mpdvae.experiments.head_config import BY_BATCH
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.own_part_configs import OwnEncoder, OwnPart
from mpdvae.experiments.own_parts import OF_PACKAGE, check_model, own_or_builtin
from mpdvae.experiments.prior_config import PriorConfig, StandardNormalPrior, VampPrior
from mpdvae.experiments.training_config import Training
from mpdvae.system.untrusted_files import in_short

if TYPE_CHECKING:
    from torch import nn

    from mpdvae.vae import VAE


Encoder = SerializeAsAny[
    Annotated[EncoderConfig, Field(discriminator="kind"), WrapValidator(own_or_builtin("encoder"))]
]
Decoder = SerializeAsAny[
    Annotated[DecoderConfig, Field(discriminator="kind"), WrapValidator(own_or_builtin("decoder"))]
]
Prior = SerializeAsAny[Annotated[PriorConfig, Field(discriminator="kind"), WrapValidator(own_or_builtin("prior"))]]


class Experiment(Config):
    """The complete configuration of one run."""

    name: Text = "experiment"
    model: Text = "vae"
    """Name in tables; runs of one model differ only in their seed."""
    scale: Literal["smoke", "minutes", "hours", "days", "paper"] = "minutes"
    reproduces: Text = ""
    """What this reproduces, in one sentence."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: Data = Data()
    latent_dim: Width = 32
    """Length of a code; for codes that are maps, the number of channels."""
    encoder: Encoder = ResNetEncoder()
    decoder: Decoder = PixelCNNDecoder()
    prior: Prior = StandardNormalPrior()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Experiment":
        check_model(self.encoder, self.decoder, self.prior)
        schedule, steps = self.objective.kl_weight.steps, self.training.steps
        if schedule > steps:
            raise ValueError(
                f"objective.kl_weight: its schedule of {schedule} steps is longer than the run of {steps} (training.steps), "
                "which would silently train a beta-VAE; shorten the schedule or train longer"
            )
        for part, codes in (("decoder", self.decoder.codes), ("prior", self.prior.codes)):
            if codes not in (None, self.encoder.codes):
                raise ValueError(
                    f"{part}: {getattr(self, part).kind} takes codes that are {codes}, but encoder {self.encoder.kind} makes "
                    f"{self.encoder.codes}; choose parts that match"
                )
        halvings, doublings = getattr(self.encoder, "halvings", 0), getattr(self.decoder, "doublings", 0)
        if halvings != doublings:
            raise ValueError(
                f"decoder: {self.decoder.kind} doubles the code's maps {doublings} times, but encoder {self.encoder.kind} "
                f"halves the image {halvings} times; make them equal"
            )
        self._check_pixels()
        self._check_posterior()
        self._check_condition()
        self._check_pieces()
        self.objective.check_parts(self.encoder, self.decoder, self.prior, self.data.pixel_values)
        return self

    def _check_pixels(self) -> None:
        made, pixels = self.data.pixel_values, getattr(self.decoder, "pixels", None)
        modelled = self.decoder.modelled(made)
        if made in modelled:
            return
        subject = f"decoder.pixels: {pixels}" if pixels else f"decoder: {self.decoder.kind}"
        fitting = (
            ", ".join(name for name, values in MODELLED.items() if made in values) if pixels else "another decoder"
        )
        raise ValueError(
            f"{subject} is a distribution of {' or '.join(map(IN_WORDS.__getitem__, modelled))}, but data.binarisation "
            f"{self.data.binarisation} makes {IN_WORDS[made]}, of which it is no likelihood; choose {fitting}, or another "
            "data.binarisation"
        )

    def _check_posterior(self) -> None:
        head, prior = self.encoder.head.kind, self.prior.kind
        if head == "delta" and prior != "standard-normal":
            raise ValueError(
                f"encoder.head: delta bounds the KL to N(0, I) only, got prior {prior}; choose prior standard-normal, or "
                "head gaussian"
            )
        if head in BY_BATCH and prior == "vamp":
            raise ValueError(
                f"prior: vamp passes its pseudo-inputs through the encoder, whose head {head} would include them in the "
                "batch statistics; choose another head or prior"
            )
        if self.encoder.refinement_steps and (head != "gaussian" or prior == "vamp"):
            raise ValueError(
                f"encoder.refinement_steps: moves posteriors away from those that head {head} and prior {prior} define; "
                "use head gaussian and a prior that does not use the encoder, or set it to 0"
            )
        if self.encoder.refinement_steps and self.training.compile:
            raise ValueError(
                "training.compile: refined posteriors (encoder.refinement_steps) need second derivatives, which compiled "
                "networks do not support; switch one of the two off"
            )

    def _check_condition(self) -> None:
        unfit = "prior vamp" if isinstance(self.prior, VampPrior) else ""
        unfit = "objective.latent_reconstruction_weight" if self.objective.latent_reconstruction_weight else unfit
        if unfit and (self.data.condition_classes or self.data.condition_covariates):
            option = "classes" if self.data.condition_classes else "covariates"
            raise ValueError(
                f"data.condition_{option}: {unfit} has no place for a condition, got {self.data.condition.in_words}; leave "
                "it out, or choose another part"
            )

    def _check_pieces(self) -> None:
        head = self.encoder.head.kind
        unfit = {
            f"encoder.head {head}, which needs the statistics of a whole batch": head in BY_BATCH,
            "encoder.refinement_steps, which draws noise of its own": self.encoder.refinement_steps,
            "objective.latent_reconstruction_weight, which encodes all images of a batch again": (
                self.objective.latent_reconstruction_weight
            ),
        }
        for what, used in unfit.items():
            if self.training.images_at_once and used:
                raise ValueError(f"training.images_at_once: does not go with {what}; leave one of the two out")

    @property
    def own_parts(self) -> list[OwnPart]:
        """The parts of the model that code of the user's builds."""
        return [part for part in (self.encoder, self.decoder, self.prior) if isinstance(part, OwnPart)]

    def build(self, image_shape: ImageShape) -> "VAE":
        """Builds the untrained model, whose weights are a function of the seed, in float32 whatever torch's default is.

        Raises `InputError` if parts and images do not match, or if the network exceeds the size limit.
        """
        from mpdvae.experiments.size_limit import Bounded
        from mpdvae.models.lazy import materialise
        from mpdvae.models.semi_amortised import SemiAmortised
        from mpdvae.networks.precision import in_float32
        from mpdvae.seeding import seeded
        from mpdvae.vae import VAE

        with Bounded(), in_float32(), seeded(self.seed, "weights"):
            if isinstance(self.encoder, OwnEncoder) and self.encoder.whole:
                vae = self._build_whole(self.encoder, image_shape)
                materialise(vae, self.input_shape(image_shape))
                return self._with_origin(vae, image_shape)
            encoder, decoder = self._build_networks(image_shape)
            if isinstance(self.prior, VampPrior):
                prior = self.prior.build(encoder, image_shape, self.data.image_range)
            else:
                prior = self.prior.build(self.encoder.latent_shape(image_shape, self.latent_dim))
            materialise(VAE(encoder, decoder, prior), self.input_shape(image_shape))
        if self.encoder.refinement_steps:
            steps, rate = self.encoder.refinement_steps, self.encoder.refinement_rate
            encoder = SemiAmortised(encoder, decoder, prior, steps, rate)
        return self._with_origin(VAE(encoder, decoder, prior), image_shape)

    def _build_whole(self, encoder: OwnEncoder, image_shape: ImageShape) -> "VAE":
        """Returns the model that a function of the user's makes, of conditioned images if it is told anything of them."""
        condition = self.data.condition
        if not condition.channels:
            return encoder.build_model(image_shape, self.latent_dim)
        from mpdvae.models.conditional_whole import conditioned

        return conditioned(encoder.build_model, condition, image_shape, self.latent_dim, encoder.kind)

    def input_shape(self, image_shape: ImageShape) -> ImageShape:
        """Returns the shape of the model's input: of an image or, if it is conditional, of a conditioned one."""
        channel, height, width = image_shape
        return channel + self.data.condition.channels, height, width

    def _build_networks(self, image_shape: ImageShape) -> "tuple[nn.Module, nn.Module]":
        """Returns the encoder and the decoder, of conditioned images if the model is told anything of them."""
        law, condition = self.decoder.law(self.data.pixel_values, self.data.levels), self.data.condition
        if not condition.channels:
            return self.encoder.build(image_shape, self.latent_dim), self.decoder.build(
                image_shape, self.latent_dim, law
            )
        from mpdvae.models.conditional import WIDTH, ConditionalDecoder, ConditionalEncoder

        channel, height, width = image_shape
        encoder = self.encoder.build((channel + WIDTH, height, width), self.latent_dim)
        decoder = self.decoder.build(image_shape, self.latent_dim + WIDTH, law)
        latent_shape = self.encoder.latent_shape(image_shape, self.latent_dim)
        return (
            ConditionalEncoder(encoder, condition),
            ConditionalDecoder(decoder, condition, latent_shape, image_shape),
        )

    def _with_origin(self, vae: "VAE", image_shape: ImageShape) -> "VAE":
        vae.origin = Origin(self, image_shape)
        return vae

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True)
class Origin:
    """The origin of a model: everything needed to build it again."""

    experiment: Experiment
    image_shape: ImageShape
    run: Path | None = None
    """Folder of the run it was loaded from."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes of the training images, in the order of their numbers; empty: they had numbers only; None: not
    recorded."""

    @property
    def known_names(self) -> tuple[str, ...] | None:
        """The same; classes of a published data set have numbers only, whether that was recorded or not."""
        published = self.class_names is None and self.experiment.data.dataset != "own"
        return () if published else self.class_names

    def class_numbers(self, labels: Any) -> Any:
        """Returns labels that are names of classes as numbers, others as `mpdvae.data.text_labels` does. Raises `InputError`
        for a name that no class has."""
        from mpdvae.data.text_labels import as_numbers

        told = self.experiment.data.condition_classes
        return as_numbers(labels, self.known_names or (), told) if told else labels

    @property
    def input_shape(self) -> ImageShape:
        """Shape of the model's input: of an image or, if it is conditional, of a conditioned one."""
        return self.experiment.input_shape(self.image_shape)


def origin_of(vae: "VAE") -> Origin:
    """Returns the origin of a model. Raises `InputError` if it is unknown because the model was assembled by hand."""
    if isinstance(vae.origin, Origin):
        return vae.origin
    raise InputError(
        "vae: its configuration is unknown, and with it the form of its images and of its files; create it with mpdvae.load "
        "or Experiment.build(image_shape), or set vae.origin = mpdvae.experiments.experiment.Origin(experiment, "
        "image_shape).",
        topic="hub",
    )


def from_json(text: str | bytes, origin: str) -> Experiment:
    """Parses an experiment written by `to_json`. Raises `InputError`, naming `origin` and the field, for anything else."""
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{origin}: {in_words(error)}", topic="options") from None


def recorded(text: str | bytes, origin: str) -> Experiment:
    """Parses an experiment as `from_json` does, from a file that mpdvae wrote with all its fields: one that does not name the
    proposal of the likelihoods is of an earlier version, which had the encoder only."""
    experiment = from_json(text, origin)
    if "density_proposal" in experiment.evaluation.model_fields_set:
        return experiment
    return with_changes(experiment, evaluation__density_proposal="encoder")


def with_changes(experiment: Experiment, **changes: Any) -> Experiment:
    """Returns a validated copy with some fields replaced; fields are given as dotted paths with `__` for the dot."""
    tree = experiment.model_dump()
    for path, value in changes.items():
        *groups, field = path.split("__")
        node = tree
        for group in groups:
            node = node[group]
        node[field] = value
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise InputError(in_words(error), topic="options") from None


_BOUNDS = {
    "greater than or equal to ": "at least ",
    "greater than ": "more than ",
    "less than or equal to ": "at most ",
    "less than ": "less than ",
}
"""Words of pydantic, and ours."""
_UNIONS = {"encoder", "head", "decoder", "prior", "kl_weight", "inference", "regulariser"}


def in_words(error: ValidationError) -> str:
    """Returns a pydantic error as one sentence: the field, what was expected, what was given."""
    first = error.errors(include_url=False)[0]
    loc = first["loc"]
    # A union field is followed by the kind of its value, which is not a field, unless that is a part of the user's.
    is_kind = [
        i > 0 and loc[i - 1] in _UNIONS and name in OF_PACKAGE.get(str(loc[i - 1]), {name})
        for i, name in enumerate(loc)
    ]
    field = ".".join(in_short(name, 100) for name, left_out in zip(loc, is_kind, strict=True) if not left_out)
    message = in_short(first["msg"].removeprefix("Value error, ").removesuffix("."), 1_000)
    if first["type"] == "json_invalid":
        return f"not the JSON of an experiment ({message[0].lower()}{message[1:]})."
    if first["type"] == "missing":
        return f"{field}: this field is required."
    if first["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}."
    if first["type"] == "extra_forbidden":
        return f"{field}: there is no such field; see `mpdvae train RECIPE --help-all` for the available ones."
    return f"{field}: {_expected(message)}, got {in_short(repr(first['input']))}."


def _expected(message: str) -> str:
    """Returns what pydantic says of a value, in the form of our other messages."""
    if not message.startswith("Input should be "):
        return f"{message[0].lower()}{message[1:]}"
    what = message.removeprefix("Input should be ")
    words = next((words for words in _BOUNDS if what.startswith(words)), "")
    return f"expected {_BOUNDS.get(words, '')}{what.removeprefix(words)}"
