"""What every part of the grid model shares: strict immutable models, identifiers, and the unit-bearing number types."""

from __future__ import annotations

from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("must not be 0")
    return value


Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Short lower-case identifier")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Efficiency = Annotated[float, Field(gt=0, le=1, description="One-way efficiency, above 0 and at most 1")]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Scale = Annotated[float, AfterValidator(_not_zero), Field(description="Negative turns the sign around")]
# Sequences stay immutable, but lists (as YAML gives them) are welcome where a tuple is kept.
Many = Annotated[tuple[T, ...], Field(strict=False)]


def known_zone(name: str) -> str:
    """The name of a time zone, if there is one of that name.

    Raises
    ------
    ValueError
        There is none.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is no IANA time zone (such as Europe/Amsterdam)") from None
    return name


class Model(BaseModel):
    """Strict, immutable model: unknown fields, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Papers(Model):
    """Papers of an installed device.

    Attributes
    ----------
    data_sheet_url, manufacturer, model_name, serial_number, commissioned : str or None
        What the nameplate and the file of the device say; `commissioned` is an ISO date.
    """

    manufacturer: str | None = None
    model_name: str | None = None
    serial_number: str | None = None
    commissioned: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="ISO date")
    data_sheet_url: str | None = Field(default=None, pattern=r"^(https?://|file:)\S+$")


class Investment(Model):
    """Cost of having an asset, whatever it does.

    Attributes
    ----------
    capex_eur : float or None
        Investment [EUR]; None where it is not known, and levelized cost then is not told.
    operation_eur_per_year : float
        Fixed operation and maintenance [EUR/a].
    lifetime_years : float
        Over which the investment is paid off [a].
    """

    capex_eur: NonNegative | None = None
    operation_eur_per_year: NonNegative = 0.0
    lifetime_years: Positive = 20.0
