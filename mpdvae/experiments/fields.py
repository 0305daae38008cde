"""What all configurations share: frozen, strict about names, with bounded numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ImageShape = tuple[int, int, int]
Text = Annotated[str, Field(max_length=1_000, pattern=r"^[^\p{C}]*$")]
"""Names and sentences: what a terminal, a report or a file's name may show."""
Count = Annotated[int, Field(ge=1, le=10**9)]
Width = Annotated[int, Field(ge=1, le=2**20)]
"""Of a layer; how large all of them may be together, `mpdvae.experiments.size_limit` says."""
Depth = Annotated[int, Field(ge=1, le=100)]
"""Of layers that follow each other: building them takes time, whatever their size."""
AtLeastTwo = Annotated[int, Field(ge=2, le=10**9)]
Nats = Annotated[float, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Sizes = Annotated[tuple[Width, ...], Field(min_length=1, max_length=100)]
Depths = Annotated[tuple[Depth, ...], Field(min_length=1, max_length=100)]


class Config(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
