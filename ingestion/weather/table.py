"""Weather from any service or file that gives a CSV table, described by settings."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl

from ingestion.weather.model import COLUMNS, TIME, WeatherError, WeatherForecast, WeatherRequest, check_values
from ingestion.weather.transport import RetryRules, TransportError, get_bytes

_LONGEST_COLUMN = 60


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """Where a weather column comes from: ``value = column · scale + offset``."""

    column: str
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class TableProvider:
    """A CSV behind a URL or in a file.

    Attributes
    ----------
    name : str
        Stored with each forecast.
    source : str
        ``http(s)://`` URL or path; ``{latitude}``, ``{longitude}``, ``{start}`` and ``{end}`` are filled in.
    columns : mapping
        Weather column → where it comes from; all of `COLUMNS` are needed.
    time_column : str
        Header of the stamps, ISO 8601 with offset, or without and then in UTC.
    step : timedelta
        Interval of the rows.
    stamp : {"start", "end"}
        Which end of its interval a row is stamped with.
    separator : str
        Between fields.
    headers : mapping
        Request headers, such as a key.
    rules : RetryRules
        Attempts and time limits.
    """

    name: str
    source: str
    columns: Mapping[str, ColumnSource]
    time_column: str = "time"
    step: timedelta = timedelta(hours=1)
    stamp: Literal["start", "end"] = "start"
    separator: str = ","
    headers: Mapping[str, str] = field(default_factory=dict)
    rules: RetryRules = field(default_factory=RetryRules)

    def forecast(self, request: WeatherRequest, now: datetime) -> WeatherForecast:
        """Read the table and cut it to the request.

        Raises
        ------
        WeatherError
            When it cannot be read, lacks a column, holds something else than numbers, is irregular or ends too early.
        """
        frame = check_values(self._typed(self._table(request)), self.name)
        first, last = frame["time"][0], frame["time"][-1] + self.step
        if first > request.start or last < request.end:
            raise WeatherError(
                f"{self.name}: stale: covers {first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}, "
                f"wanted {request.start:%Y-%m-%dT%H:%MZ} to {request.end:%Y-%m-%dT%H:%MZ}"
            )
        cut = frame.filter((pl.col("time") > request.start - self.step) & (pl.col("time") < request.end))
        return WeatherForecast(self.name, now, self.step, cut)

    def _table(self, request: WeatherRequest) -> pl.DataFrame:
        source = self.source.format(
            latitude=f"{request.latitude_deg:.5f}",
            longitude=f"{request.longitude_deg:.5f}",
            start=f"{request.start.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
            end=f"{request.end.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
        )
        try:
            if source.startswith(("http://", "https://")):
                body = get_bytes(source, {}, self.rules, self.headers)
            else:
                body = Path(source).read_bytes()
            return pl.read_csv(io.BytesIO(body), separator=self.separator, infer_schema=False)
        except (TransportError, OSError) as error:
            raise WeatherError(f"{self.name}: {error}") from error
        except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
            raise WeatherError(f"{self.name}: no readable table: {str(error).splitlines()[0]}") from error

    def _typed(self, table: pl.DataFrame) -> pl.DataFrame:
        wanted = [self.time_column, *(source.column for source in self.columns.values())]
        missing = [name for name in wanted if name not in table.columns]
        if missing:
            known = ", ".join(table.columns)[:_LONGEST_COLUMN]
            raise WeatherError(f"{self.name}: no column {', '.join(map(repr, missing))}; the table has {known}")
        read = {f"{name} as read": source.column for name, source in self.columns.items()}
        stamp = pl.col(self.time_column).str.strip_chars().str.replace(" ", "T").str.replace(r"Z$", "+00:00")
        stamp = pl.when(stamp.str.contains(r"[+-]\d{2}:?\d{2}$")).then(stamp).otherwise(stamp + "+00:00")
        time = stamp.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        shift = self.step if self.stamp == "end" else timedelta(0)
        frame = table.select(
            (time - shift).alias("time"),
            *(
                (pl.col(source.column).str.strip_chars().cast(pl.Float64, strict=False) * source.scale + source.offset)
                .alias(name)
                for name, source in self.columns.items()
            ),
            *(pl.col(column).str.strip_chars().alias(name) for name, column in read.items()),
        )  # fmt: skip
        if frame["time"].null_count() or frame.is_empty():
            raise WeatherError(f"{self.name}: column {self.time_column!r} holds something that is no ISO 8601 time")
        for name in self.columns:
            text = frame.filter(pl.col(name).is_null() & (pl.col(f"{name} as read") != ""))
            if not text.is_empty():
                raise WeatherError(f"{self.name}: {name} holds {text[f'{name} as read'][0]!r}, which is no number")
        frame = frame.sort("time").select("time", *COLUMNS).with_columns(pl.col("time").cast(TIME))
        if set(frame["time"].diff().drop_nulls().to_list()) - {self.step}:
            raise WeatherError(f"{self.name}: rows are not {self.step} apart")
        return frame
