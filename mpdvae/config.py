"""What all configurations share: frozen, strict about names, with bounded numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ImageShape = tuple[int, int, int]
Count = Annotated[int, Field(ge=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]
Nats = Annotated[float, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Sizes = Annotated[tuple[Count, ...], Field(min_length=1)]


class Config(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
