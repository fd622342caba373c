"""What all sections of the configuration are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from geminga.bands import is_power_of_two


def _check_nside(nside: int) -> int:
    if not is_power_of_two(nside):
        raise ValueError("a HEALPix nside is a power of two; use for example 64")
    return nside


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Nside = Annotated[int, AfterValidator(_check_nside)]
Bit = Annotated[int, Field(ge=0, le=31)]


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Section(BaseModel):
    """A part of the tree: unknown keys are refused and values cannot be changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
