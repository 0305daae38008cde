"""Base class and field types of all configurations: frozen, no unknown fields, bounded numbers."""

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer


def picture_size(given: Any) -> str:
    """Returns a `PictureSize`. Raises `ValueError` for anything else."""
    text = "x".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    if not re.fullmatch(r"[1-9][0-9]{0,3}(x[1-9][0-9]{0,3})?", text):
        raise ValueError(f"expected a side such as 32, or height and width such as 32x48, got {given!r:.100}")
    return text


ImageShape = tuple[int, int, int]
"""(channel, height, width)"""
LatentShape = tuple[int, ...]
"""Shape of a code: (length,), or (channel, height, width) of maps."""
Codes = Literal["vectors", "maps"]
Text = Annotated[str, Field(max_length=1_000, pattern=r"^[^\p{C}]*$")]
"""Names and sentences that are safe to show in a terminal, a report or a file name."""
Count = Annotated[int, Field(ge=1, le=10**9)]
Width = Annotated[int, Field(ge=1, le=2**20)]
"""Width of a layer; `mpdvae.experiments.size_limit` bounds the total size."""
Depth = Annotated[int, Field(ge=1, le=100)]
"""Number of consecutive layers: building them takes time, whatever their size."""
AtLeastTwo = Annotated[int, Field(ge=2, le=10**9)]
Nats = Annotated[float, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
PictureSize = Annotated[str, BeforeValidator(picture_size)]
"""Height and width of pictures in pixels: "32x48", or "32" for both; a number or a pair is also taken."""
Sizes = Annotated[tuple[Width, ...], Field(min_length=1, max_length=100)]
Depths = Annotated[tuple[Depth, ...], Field(min_length=1, max_length=100)]


class Config(BaseModel):
    """Frozen configuration that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GrownConfig(Config):
    """Configuration with fields that earlier versions did not have: they are left out where they have no effect, so that
    experiments of earlier versions keep their bytes, and with them the hashes of what was measured."""

    later: ClassVar[frozenset[str]]
    """Later fields; their defaults change nothing."""

    @model_serializer(mode="wrap")
    def _without_later_fields(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        defaults = {name: type(self).model_fields[name].default for name in self.later}
        return {
            name: value
            for name, value in dump(self).items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }
