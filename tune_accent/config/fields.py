"""What the sections of the configuration are made of: numbers within bounds, and the closed, frozen base of every section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]], Field(strict=False)
]
Words = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """A part of the configuration: closed, frozen, and strict about types (a string is not a number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
