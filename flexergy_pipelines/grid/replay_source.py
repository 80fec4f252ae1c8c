"""Where a sample site's series come from: file, column and scale of the shipped data for each asset."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import Many, Model, NonNegative, Positive, Slug


class ReplayColumn(Model):
    """One column of a data file, times `scale`.

    Attributes
    ----------
    file : str
        Name of a Parquet file in `examples/data`.
    scale : float
        kW per unit of the column (its peak for per-unit profiles; 1 for columns in kW).
    copies, copy_shift_days : int
        The column is taken `copies` times, each a further `copy_shift_days` (whole weeks) later in the year and the sum
        is used: several devices of one kind that do not all act at the same moment.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+\.parquet$")
    column: str = Field(min_length=1)
    scale: Positive = 1.0
    copies: int = Field(default=1, ge=1, le=52)
    copy_shift_days: int = Field(default=7, ge=7, le=364, multiple_of=7)


class ReplaySeries(Model):
    """Series of one asset: the sum of its columns, at most `maximum_kw`."""

    asset: Slug
    columns: Many[ReplayColumn] = Field(min_length=1)
    maximum_kw: NonNegative | None = None


class ReplayWeather(Model):
    """Columns from which the weather at the site is derived.

    Attributes
    ----------
    solar : ReplayColumn
        Per-unit PV output; the radiation is derived from it.
    wind : ReplayColumn
        Per-unit wind power or a wind speed at 100 m in m/s, see `wind_is`.
    temperature : ReplayColumn or None
        Air temperature in K; None means a synthetic course of the year and the day.
    """

    solar: ReplayColumn
    wind: ReplayColumn
    wind_is: Literal["power_per_unit", "speed_ms"] = "power_per_unit"
    temperature: ReplayColumn | None = None


class ReplaySource(Model):
    """What a sample site replays."""

    source_year: int = Field(ge=2014, le=2024)
    series: Many[ReplaySeries] = Field(min_length=1)
    price: ReplayColumn
    weather: ReplayWeather
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _one_series_an_asset(self) -> ReplaySource:
        seen: set[str] = set()
        for series in self.series:
            if series.asset in seen:
                raise ValueError(f"asset {series.asset} has two series")
            seen.add(series.asset)
        return self
