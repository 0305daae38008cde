"""Configurations of parts that users write: see `mpdvae.experiments.own_parts`, which makes one of each function.

A configuration holds the kind, the options of the function, and what the rest of an experiment must know of a part without
building it: the form of its codes, the values of its pixels. Its function is called only to build the part.

Of a kind that is not known here, an `Unknown...` configuration keeps everything that was recorded: a run can be reported on
where its code is not at hand.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import ConfigDict, Field

from mpdvae.distributions.pixel_values import PixelValues
from mpdvae.errors import InputError
from mpdvae.experiments.fields import Codes, Config, ImageShape, LatentShape, Text
from mpdvae.experiments.head_config import GaussianHead

if TYPE_CHECKING:
    from torch import nn

    from mpdvae.objectives.terms import Term
    from mpdvae.vae import VAE

Plain = bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float | Text | None
Option = Plain | Annotated[list[Plain], Field(max_length=100)]
"""An option of a part whose function is not known here."""


NAME_FILE = (
    "name the file that defines it with --parts FILE or in MPDVAE_PARTS, or in Python run the code that defines it under "
    "@mpdvae.part"
)
FIT_AGAIN = (
    "it has no name in a file by which --parts could find it: run the code up to its @mpdvae.part or mpdvae.fit again, or "
    "train with a function at the top of a file"
)
DECLARED = ("defined_in", "head", "codes", "halvings", "doublings", "pixel_values")
"""What the decorator of a function says of the part; not options."""


class OwnPart(Config):
    """A part by its kind."""

    role: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    """Names of the options of `make`."""
    make: ClassVar[Callable[..., Any] | None] = None
    """The function that builds the part; None if it is not known here."""
    whole: ClassVar[bool] = False
    """Whether the function returns a model, of which this part is one."""
    kind: Text
    defined_in: Text
    """Module and name of the function that defines it; nothing is imported by it."""

    def call(self, *positional: Any) -> Any:
        """Calls the function. Raises `InputError` if it is not known here."""
        if self.make is None:
            # A lambda, a function within another, or a ready-made model is found nowhere.
            advice = FIT_AGAIN if "<" in self.defined_in else NAME_FILE
            raise InputError(
                f"{self.role}: the kind {self.kind} ({self.defined_in}) is not one of the package's and not known here; "
                f"{advice}.",
                topic="own-parts",
            )
        return self.make(*positional, **{name: getattr(self, name) for name in self.options})


class OwnEncoder(OwnPart):
    """An encoder: images [batch channel height width] -> q(z|x)."""

    role = "encoder"
    head: GaussianHead = GaussianHead()
    refinement_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Semi-amortised inference: gradient steps from the encoder's posterior; 0: none."""
    refinement_rate: Annotated[float, Field(gt=0)] = 0.1
    codes: Codes = "vectors"
    """Whether codes are vectors, or maps of the image's size, halved `halvings` times."""
    halvings: Annotated[int, Field(ge=0, le=100)] = 0

    def latent_shape(self, image_shape: ImageShape, latent_dim: int) -> LatentShape:
        if self.codes == "vectors":
            return (latent_dim,)
        _, height, width = image_shape
        return latent_dim, height // 2**self.halvings, width // 2**self.halvings

    def build(self, image_shape: ImageShape, latent_dim: int) -> "nn.Module":
        return _module(self.call(image_shape, latent_dim), self)

    def build_model(self, image_shape: ImageShape, latent_dim: int) -> "VAE":
        """Builds the whole model that this encoder is a part of."""
        from mpdvae.vae import VAE

        made = self.call(image_shape, latent_dim)
        if not isinstance(made, VAE):
            raise InputError(
                f"{self.kind}: expected a function that returns an mpdvae.VAE, got a {type(made).__name__}; see "
                f"{self.defined_in}.",
                topic="own-parts",
            )
        return made


class OwnDecoder(OwnPart):
    """A decoder: codes [*, latent...] -> p(x|z)."""

    role = "decoder"
    codes: Codes = "vectors"
    doublings: Annotated[int, Field(ge=0, le=100)] = 0
    pixel_values: PixelValues = "binary"
    """The values of the pixels that it models."""

    def modelled(self, values: PixelValues) -> tuple[PixelValues, ...]:
        return (self.pixel_values,)

    def law(self, values: PixelValues, levels: int) -> None:
        """None: the function decides."""

    def build(self, image_shape: ImageShape, latent_dim: int, law: None) -> "nn.Module":
        return _module(self.call(image_shape, latent_dim), self)


class OwnPrior(OwnPart):
    """A prior: () -> p(z)."""

    role = "prior"
    codes: Codes | None = None
    """The codes that it is a prior of; None: of vectors and maps."""

    def build(self, latent_shape: LatentShape) -> "nn.Module":
        return _module(self.call(latent_shape), self)


class OwnRegulariser(OwnPart):
    """A term of the objective: (forward pass, step) -> scalar in nats, to be minimised."""

    role = "regulariser"

    def build(self) -> "Term":
        term = self.call()
        if not callable(term):
            raise InputError(
                f"regulariser {self.kind}: expected a function that returns a term (forward, step) -> nats, got a "
                f"{type(term).__name__}; see {self.defined_in}.",
                topic="own-parts",
            )
        return cast("Term", term)


class UnknownEncoder(OwnEncoder):
    """A recorded encoder whose function is not known here."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]  # pyright: ignore[reportIncompatibleVariableOverride] - pydantic's own form


class UnknownDecoder(OwnDecoder):
    """A recorded decoder whose function is not known here."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]  # pyright: ignore[reportIncompatibleVariableOverride] - pydantic's own form


class UnknownPrior(OwnPrior):
    """A recorded prior whose function is not known here."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]  # pyright: ignore[reportIncompatibleVariableOverride] - pydantic's own form


class UnknownRegulariser(OwnRegulariser):
    """A recorded regulariser whose function is not known here."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]  # pyright: ignore[reportIncompatibleVariableOverride] - pydantic's own form


BASES: dict[str, type[OwnPart]] = {part.role: part for part in (OwnEncoder, OwnDecoder, OwnPrior, OwnRegulariser)}
UNKNOWN: dict[str, type[OwnPart]] = {
    part.role: part for part in (UnknownEncoder, UnknownDecoder, UnknownPrior, UnknownRegulariser)
}


def _module(made: Any, part: OwnPart) -> "nn.Module":
    from torch import nn

    if not isinstance(made, nn.Module):
        raise InputError(
            f"{part.role} {part.kind}: expected a function that returns a torch module, got a {type(made).__name__}; see "
            f"{part.defined_in}.",
            topic="own-parts",
        )
    return made
