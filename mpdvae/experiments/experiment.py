"""The complete configuration of one run: typed, validated, frozen; read from and written to JSON, set by the command line.

A run is a pure function of an `Experiment`. Unknown fields, wrong types and combinations that cannot work are rejected when
the experiment is constructed, before any training. `build` methods create the parts (see
`mpdvae.experiments.model_config`); torch is imported only there, so that listing recipes and printing help remain fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, WrapValidator, model_validator

from mpdvae.distributions.pixel_values import IN_WORDS, MODELLED, RANGES, PixelValues
from mpdvae.errors import InputError
from mpdvae.experiments.fields import (
    AtLeastTwo,
    Config,
    Count,
    GrownConfig,
    ImageShape,
    PictureSize,
    Sizes,
    Text,
    Width,
)
from mpdvae.experiments.model_config import (
    DecoderConfig,
    EncoderConfig,
    PixelCNNDecoder,
    PriorConfig,
    ResNetEncoder,
    StandardNormalPrior,
    VampPrior,
)
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.own_part_configs import OwnEncoder
from mpdvae.experiments.own_parts import OF_PACKAGE, check_model, own_or_builtin
from mpdvae.experiments.posterior_config import BY_BATCH
from mpdvae.experiments.training_config import Training
from mpdvae.system.untrusted_files import in_short

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mpdvae.data import Protocol
    from mpdvae.data.preparation import Preparation
    from mpdvae.vae import VAE


Encoder = SerializeAsAny[
    Annotated[EncoderConfig, Field(discriminator="kind"), WrapValidator(own_or_builtin("encoder"))]
]
Decoder = SerializeAsAny[
    Annotated[DecoderConfig, Field(discriminator="kind"), WrapValidator(own_or_builtin("decoder"))]
]
Prior = SerializeAsAny[Annotated[PriorConfig, Field(discriminator="kind"), WrapValidator(own_or_builtin("prior"))]]


class Data(GrownConfig):
    """Training data and protocol."""

    later = frozenset({"resize", "fit", "colours", "background", "levels", "flip", "shift", "condition_classes"})

    dataset: Text = "mnist"
    """Name in `mpdvae data list`, or `own` together with a path."""
    path: Path | None = None
    """Own data: an .npz or .npy file, or a folder of pictures."""
    binarisation: Literal["dynamic", "static", "levels", "intensities"] = "dynamic"
    """dynamic: training images are redrawn at every visit; static: one fixed draw per image; levels: no binarisation, the
    levels as numbers in [-1, 1], for grey and colour; intensities: the same as numbers in [0, 1], for densities."""
    levels: Annotated[int, Field(ge=2, le=2**16)] = 256
    """Levels of a pixel, a power of two: images of more are reduced to so many (32: the 5 bits of some benchmarks)."""
    evaluation_draws: Count = 5
    """Fixed binary draws of each validation and test image (paper: 5)."""
    validation_size: Count | None = None
    """Images held out of the training set; default: set by the data set (MNIST: 2,000 as in the paper)."""
    split_seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 524287
    """Seed of the split into training and validation (the released code's)."""
    resize: PictureSize | None = None
    """Own data: size to which pictures are brought, 32 or, height first, 32x48; default: they have one size already."""
    fit: Literal["crop", "pad", "stretch", "unscaled"] = "crop"
    """How resize reaches the size. crop: scaled to cover it, the middle kept; pad: scaled into it, on the background;
    stretch: scaled in each direction; unscaled: cut and padded around the middle."""
    colours: Literal["stored", "grey", "rgb"] = "stored"
    """Own data: whether pictures are turned to grey, or to colour."""
    background: Annotated[int, Field(ge=0, le=255)] = 255
    """Own data: grey level behind transparent pixels and around padded pictures; white by default."""
    flip: bool = False
    """Whether training images are mirrored, left and right, half of the time."""
    shift: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Most pixels by which training images are shifted in each direction, at random; their border is repeated."""

    condition_classes: Annotated[int, Field(ge=0, le=256)] = 0  # 256 classes have exact numbers in bfloat16, too
    """Number of classes whose labels encoder, decoder and prior are told (MNIST: 10): a conditional VAE, with likelihoods of
    an image given its class; 0: none."""

    @model_validator(mode="after")
    def _static_draws_once(self) -> "Data":
        if self.binarisation != "dynamic" and self.evaluation_draws != 1:
            drawn = "draws every image once" if self.binarisation == "static" else "draws nothing"
            raise ValueError(
                f"evaluation_draws: {self.binarisation} binarisation {drawn}, expected 1, got {self.evaluation_draws}; "
                "set it to 1, or binarisation to dynamic"
            )
        return self

    @model_validator(mode="after")
    def _levels_of_bits(self) -> "Data":
        if self.levels & (self.levels - 1):
            raise ValueError(f"levels: expected a power of two, got {self.levels}; images have whole bits")
        if self.levels != 256 and self.pixel_values == "binary":
            raise ValueError(
                f"levels: {self.binarisation} binarisation draws from 256 levels, got {self.levels}; leave it out, or set "
                "binarisation to levels"
            )
        return self

    @model_validator(mode="after")
    def _published_data_are_not_prepared(self) -> "Data":
        given = [name for name in PREPARING if getattr(self, name) != PREPARING[name]]
        if self.dataset != "own" and given:
            raise ValueError(
                f"{given[0]}: is for dataset own, got {self.dataset}, whose images are used as they are published; leave it "
                "out"
            )
        return self

    @property
    def pixel_values(self) -> PixelValues:
        """The values of the pixels of the model's inputs and outputs."""
        return "binary" if self.binarisation in ("dynamic", "static") else self.binarisation

    @property
    def image_range(self) -> tuple[float, float]:
        """Smallest and largest pixel value of the model's inputs and outputs."""
        return RANGES[self.pixel_values]

    def shown(self, images: "Tensor") -> "Tensor":
        """Maps images from the model's value range to [0, 1], for display, without labels; Gaussian pixels beyond it are
        shown at its end."""
        images = self.without_labels(images)
        lowest, highest = self.image_range
        return ((images - lowest) / (highest - lowest)).clamp(0, 1)

    def without_labels(self, x: "Tensor") -> "Tensor":
        """Returns the images of the model's input [... channel height width], without the labels of a conditional model."""
        return x[..., :-1, :, :] if self.condition_classes else x

    def protocol(self) -> "Protocol":
        """Returns the protocol that is applied to the images."""
        from mpdvae.data import Protocol

        return Protocol(
            self.binarisation,
            self.evaluation_draws,
            self.validation_size,
            self.split_seed,
            self.levels,
            self.flip,
            self.shift,
            self.condition_classes,
        )

    def preparation(self) -> "Preparation":
        """Returns what is done to own pictures before the protocol."""
        from mpdvae.data.preparation import Preparation

        height, _, width = (self.resize or "").partition("x")
        size = (int(height), int(width or height)) if height else None
        return Preparation(size, self.fit, self.colours, self.background)


PREPARING = {"resize": None, "fit": "crop", "colours": "stored", "background": 255}
"""Fields of `Data` on the preparation of own pictures, with the values that change nothing."""


class Evaluation(Config):
    """What `mpdvae evaluate` measures, and on how much data."""

    density_images: Count | None = None
    """Random test images for the likelihoods; None: all images with all draws."""
    density_samples: Count = 4096
    """Importance samples per image."""
    density_proposal: Literal["fitted", "encoder"] = "fitted"
    """Where importance samples come from: a proposal that is fitted to each image (as costly as 128 samples), or q(z|x), as
    in the paper."""
    density_precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of the decoder in the likelihoods. auto: bfloat16 if that is faster and a pilot shows its error to be below a
    tenth of the Monte-Carlo error; compiles if that pays back."""
    representation_images: Count | None = None
    """Training images from which label subsets and clusters are drawn; None: all, or as many as memory holds easily."""
    label_counts: Annotated[tuple[AtLeastTwo, ...], Field(min_length=1)] = (100, 1_000, 10_000)
    all_labels: bool = False
    """Whether classifiers are also trained on all labels."""
    label_subsets: Count = 5
    svm_labels: Count | None = 1_000
    """Maximum number of labels for SVMs (their time grows with its square); None: no maximum."""
    clusters: Sizes = (10, 20, 30)
    cluster_seeds: Count = 5
    """Number of k-means runs."""
    cluster_restarts: Count = 10
    """Starts of each run, of which the best is used."""
    baselines: bool = True
    """Whether to score raw pixels, principal components and an untrained encoder, too."""
    code_input: Literal["drawn", "thresholded"] = "drawn"
    """Binary images for the codes: a fixed draw, or grey levels thresholded at one half (released code)."""
    code_samples: Count | None = None
    """Codes are the mean of this many posterior samples (released code: 50); None: the posterior mean."""
    information_samples: AtLeastTwo = 2_000
    """Codes drawn for total correlation and other terms of single dimensions; the bounds on the mutual information take one
    of every image, or these if they are more."""
    code_use_images: AtLeastTwo = 200
    """Random images whose codes are exchanged, whole and by dimension."""
    pictures: bool = True
    """Whether to produce samples, reconstructions, interpolations and the data of the report's explorer."""
    explored_images: AtLeastTwo = 1_000
    """Random test images on the map of codes in the report's explorer."""


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
        unfit = "a whole model" if isinstance(self.encoder, OwnEncoder) and self.encoder.whole else unfit
        unfit = "objective.latent_reconstruction_weight" if self.objective.latent_reconstruction_weight else unfit
        if self.data.condition_classes and unfit:
            raise ValueError(
                f"data.condition_classes: {unfit} has no place for a class, got {self.data.condition_classes} classes; "
                "leave it out, or choose another part"
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

    def build(self, image_shape: ImageShape) -> "VAE":
        """Builds the untrained model, whose weights are a function of the seed, in float32 whatever torch's default is.

        Raises `InputError` if parts and images do not match, or if the network exceeds the size limit.
        """
        from mpdvae.experiments.size_limit import Bounded
        from mpdvae.models.semi_amortised import SemiAmortised
        from mpdvae.networks.precision import in_float32
        from mpdvae.seeding import seeded
        from mpdvae.vae import VAE

        with Bounded(), in_float32(), seeded(self.seed, "weights"):
            if isinstance(self.encoder, OwnEncoder) and self.encoder.whole:
                return self._with_origin(self.encoder.build_model(image_shape, self.latent_dim), image_shape)
            encoder, decoder = self._build_networks(image_shape)
            if isinstance(self.prior, VampPrior):
                prior = self.prior.build(encoder, image_shape, self.data.image_range)
            else:
                prior = self.prior.build(self.encoder.latent_shape(image_shape, self.latent_dim))
        if self.encoder.refinement_steps:
            steps, rate = self.encoder.refinement_steps, self.encoder.refinement_rate
            encoder = SemiAmortised(encoder, decoder, prior, steps, rate)
        return self._with_origin(VAE(encoder, decoder, prior), image_shape)

    def _build_networks(self, image_shape: ImageShape) -> "tuple[nn.Module, nn.Module]":
        """Returns the encoder and the decoder, of labelled images if the model is conditioned on classes."""
        law, classes = self.decoder.law(self.data.pixel_values, self.data.levels), self.data.condition_classes
        if not classes:
            return self.encoder.build(image_shape, self.latent_dim), self.decoder.build(
                image_shape, self.latent_dim, law
            )
        from mpdvae.models.class_conditional import WIDTH, ClassConditionalDecoder, ClassConditionalEncoder

        channel, height, width = image_shape
        encoder = self.encoder.build((channel + WIDTH, height, width), self.latent_dim)
        decoder = self.decoder.build(image_shape, self.latent_dim + WIDTH, law)
        latent_shape = self.encoder.latent_shape(image_shape, self.latent_dim)
        return (
            ClassConditionalEncoder(encoder, classes),
            ClassConditionalDecoder(decoder, classes, latent_shape, image_shape),
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

    @property
    def input_shape(self) -> ImageShape:
        """Shape of the model's input: of an image or, if the model is conditioned on classes, of a labelled one."""
        channel, height, width = self.image_shape
        return channel + bool(self.experiment.data.condition_classes), height, width


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
        return f"{field}: there is no such field; see `mpdvae train RECIPE --help` for the available ones."
    return f"{field}: {message[0].lower()}{message[1:]}, got {in_short(repr(first['input']))}."
