"""Checking the rows of a meter file: each becomes a reading or a rejection with its reason.

Readers of the formats hand over rows as text (``row, line, reason, meter, quantity, time, value`` and, if the file has
them, ``unit`` and ``site``); what is right or wrong with them is decided here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from ingestion.meters.points import PointMap, unit_factors

FUTURE_TOLERANCE = timedelta(minutes=5)
GOOD, MISSING = 0, 3
_ISO = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?( ?(Z|[+-]\d{2}:?\d{2}))?$"
_OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"
_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"


class FileRefusedError(Exception):
    """The file as a whole cannot be read; nothing of it was taken."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A piece of a file after checking.

    Attributes
    ----------
    accepted : polars.DataFrame
        ``site_id, asset_id, quantity, time, value, quality``.
    rejected : polars.DataFrame
        ``row`` (line number in the file, the header is 1), ``reason``, ``line``.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame


_KEY = ["site_id", "asset_id", "quantity", "time"]
_POINT = _KEY[:3]


class Seen:
    """What earlier rows of the file held, so that repeats are found across pieces.

    Of each piece the span of every point is kept, and its keys are only looked at when a later piece reaches into it;
    with a folder they wait on disk until then.

    Parameters
    ----------
    folder : Path, optional
        Where keys wait; in memory without.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.any_offset: bool | None = None
        self.locals: dict[tuple[str, str, str, str], int] = {}
        self._folder = folder
        self._pieces: list[tuple[pl.DataFrame, pl.DataFrame | Path]] = []

    def repeated(self, keys: pl.DataFrame) -> pl.Series:
        """Rows of `keys` (``row`` and the key) that an earlier piece held; these keys are held from now on."""
        spans = keys.group_by(_POINT).agg(pl.col("time").min().alias("first"), pl.col("time").max().alias("last"))
        # Made anew from plain values: texts of a frame hold on to the whole piece of the file they were cut from.
        spans = pl.DataFrame(spans.rows(), schema=spans.schema, orient="row")
        rows = [pl.Series("row", [], dtype=keys["row"].dtype)]
        for earlier, held in self._pieces:
            both = spans.join(earlier, on=_POINT, suffix="_held")
            if both.filter((pl.col("first") <= pl.col("last_held")) & (pl.col("last") >= pl.col("first_held"))).height:
                known = pl.read_parquet(held, memory_map=False) if isinstance(held, Path) else held
                rows.append(keys.join(known, on=_KEY, how="semi")["row"])
        new = keys.select(_KEY).unique()
        if self._folder is None:
            self._pieces.append((spans, new))
        else:
            path = self._folder / f"keys-{len(self._pieces)}.parquet"
            new.write_parquet(path)
            self._pieces.append((spans, path))
        return pl.concat(rows).unique()


def check_rows(
    raw: pl.DataFrame, points: Mapping[str, PointMap], now: datetime, site_id: str | None, seen: Seen
) -> Batch:
    """Check rows of a file.

    Parameters
    ----------
    raw : polars.DataFrame
        Rows as text; ``reason`` is set where the reader already found a row wrong.
    points : mapping
        For each site its known points.
    now : datetime
        Stamps after it (with five minutes of grace) are refused, aware.
    site_id : str or None
        Site of rows that name none.
    seen : Seen
        What earlier rows of the same file held.
    """
    frame = _with_sites(raw, points, site_id)
    frame = _with_points(frame, points)
    frame = _with_values(frame)
    frame = _with_times(frame, points, now, seen)
    frame = _without_repeats(frame, seen)
    good = frame.filter(pl.col("reason").is_null())
    return Batch(
        good.select("site_id", "asset_id", "quantity", "time", "value", "quality"),
        frame.filter(pl.col("reason").is_not_null()).select("row", "reason", "line"),
    )


def _first(reason: pl.Expr) -> pl.Expr:
    """Keep the first reason a row was given."""
    return pl.coalesce(pl.col("reason"), reason).alias("reason")


def _with_sites(frame: pl.DataFrame, points: Mapping[str, PointMap], site_id: str | None) -> pl.DataFrame:
    named = pl.col("site") if "site" in frame.columns else pl.lit(None, dtype=pl.String)
    named = pl.when(named != "").then(named)
    site = pl.coalesce(named, pl.lit(site_id, dtype=pl.String))
    return frame.with_columns(site.alias("site_id")).with_columns(
        _first(
            pl.when(pl.col("site_id").is_null())
            .then(pl.lit("no site: add a site column or drop the file into a folder named like the site"))
            .when(~pl.col("site_id").is_in(list(points)))
            .then(pl.format("site '{}' is unknown", pl.col("site_id")))
        )
    )


def _with_points(frame: pl.DataFrame, points: Mapping[str, PointMap]) -> pl.DataFrame:
    known = pl.concat([points[site].table(site) for site in points]) if points else PointMap.empty_table()
    frame = frame.with_columns(pl.col("quantity").str.to_lowercase())
    frame = frame.join(known, on=["site_id", "meter", "quantity"], how="left", maintain_order="left")
    frame = frame.with_columns(
        _first(
            pl.when(pl.col("asset_id").is_null()).then(
                pl.format("point '{}/{}' is unknown", pl.col("meter"), pl.col("quantity"))
            )
        )
    )
    if "unit" not in frame.columns:
        return frame.with_columns(pl.lit(1.0).alias("factor"))
    given = pl.when(pl.col("unit") == "").then(pl.col("point_unit")).otherwise(pl.col("unit")).alias("unit")
    frame = frame.with_columns(given).join(unit_factors(), on=["unit", "point_unit"], how="left", maintain_order="left")
    return frame.with_columns(
        pl.when(pl.col("unit") == pl.col("point_unit")).then(1.0).otherwise("factor").alias("factor")
    ).with_columns(
        _first(
            pl.when(pl.col("factor").is_null()).then(
                pl.format("unit '{}' does not fit, {} is in {}", "unit", "quantity", "point_unit")
            )
        )
    )


def _with_values(frame: pl.DataFrame) -> pl.DataFrame:
    empty = pl.col("value") == ""
    number = pl.when(pl.col("value").str.contains(_NUMBER)).then(pl.col("value")).cast(pl.Float64, strict=False)
    frame = frame.with_columns(number.alias("number"), empty.alias("empty"))
    value = pl.col("number") * pl.col("factor")
    return frame.with_columns(
        _first(
            pl.when(~pl.col("empty") & (pl.col("number").is_null() | ~pl.col("number").is_finite()))
            .then(pl.format("value '{}' is not a number", pl.col("value")))
            .when((value < pl.col("minimum")) | (value > pl.col("maximum")))
            .then(
                pl.format(
                    "value {} is outside {}..{} {}",
                    value, pl.col("minimum").fill_null(float("-inf")), pl.col("maximum").fill_null(float("inf")),
                    pl.col("point_unit"),
                )
            )
        ),
        value.alias("value"),
        pl.when("empty").then(pl.lit(MISSING)).otherwise(pl.lit(GOOD)).cast(pl.Int16).alias("quality"),
    )  # fmt: skip


def _with_times(frame: pl.DataFrame, points: Mapping[str, PointMap], now: datetime, seen: Seen) -> pl.DataFrame:
    stamp = pl.col("time")
    shaped = stamp.str.contains(_ISO)
    frame = frame.with_columns(
        _first(pl.when(~shaped).then(pl.format("time '{}' is not ISO 8601 (2026-03-01T12:00:00+01:00)", stamp))),
        (shaped & stamp.str.contains(_OFFSET)).alias("has_offset"),
    )
    if seen.any_offset is None or not seen.any_offset:
        seen.any_offset = bool(frame["has_offset"].any())
    plain = stamp.str.replace(" ", "T", literal=True).str.replace(" ", "", literal=True)
    with_zone = plain.str.replace(r"Z$", "+00:00").str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
    padded = with_zone.str.replace(r"^(.{10}T\d{2}:\d{2})([+-]|$)", "${1}:00${2}")
    aware = pl.when("has_offset").then(padded).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    local = (
        pl.when(~pl.col("has_offset"))
        .then(padded)
        .str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    )
    frame = frame.with_columns(aware.dt.convert_time_zone("UTC").alias("aware"), local.alias("local"))
    if seen.any_offset:
        mixed = ~pl.col("has_offset") & pl.col("local").is_not_null()
        frame = frame.with_columns(
            _first(pl.when(mixed).then(pl.lit("time has no offset, other rows of the file have one"))),
            pl.col("aware").alias("time"),
        )
    else:
        frame = _local_times(frame, points, seen)
    return frame.with_columns(
        _first(
            pl.when(pl.col("time").is_null())
            .then(pl.lit("time does not exist (a wrong date, or the hour skipped in spring)"))
            .when(pl.col("time") > now + FUTURE_TOLERANCE)
            .then(pl.lit("time is in the future"))
            .when(pl.col("time").dt.year() < 1970)
            .then(pl.lit("time is before 1970"))
        )
    )


def _local_times(frame: pl.DataFrame, points: Mapping[str, PointMap], seen: Seen) -> pl.DataFrame:
    parts: list[pl.DataFrame] = []
    for (site,), rows in frame.group_by(["site_id"], maintain_order=True):
        zone = points[str(site)].time_zone if str(site) in points else "UTC"
        early = pl.col("local").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        late = pl.col("local").dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
        rows = rows.with_columns(early.dt.convert_time_zone("UTC").alias("time"))  # noqa: PLW2901
        rows = rows.with_columns(late.dt.convert_time_zone("UTC").alias("late"))  # noqa: PLW2901
        parts.append(_second_hour(rows, seen))
    return pl.concat(parts).sort("row") if parts else frame.with_columns(pl.col("aware").alias("time"))


def _second_hour(rows: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """In the doubled hour the second row of a point with the same wall clock is the later one."""
    doubled = rows.filter(pl.col("time") != pl.col("late")).select("row", "site_id", "meter", "quantity", "local")
    later: list[int] = []
    for row, site, meter, quantity, local in doubled.iter_rows():
        key = (str(site), str(meter), str(quantity), str(local))
        count = seen.locals.get(key, 0)
        seen.locals[key] = count + 1
        if count == 1:
            later.append(row)
    return rows.with_columns(
        pl.when(pl.col("row").is_in(later)).then(pl.col("late")).otherwise(pl.col("time")).alias("time")
    ).drop("late")


def _without_repeats(frame: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    fine = frame.filter(pl.col("reason").is_null())
    if fine.is_empty():
        return frame
    within = fine.select("row", *_KEY).filter(~pl.struct(_KEY).is_first_distinct())["row"]
    earlier = seen.repeated(fine.select("row", *_KEY))
    if within.is_empty() and earlier.is_empty():
        return frame
    repeated = pl.col("row").is_in(pl.concat([within, earlier]).implode())
    return frame.with_columns(
        _first(pl.when(repeated).then(pl.lit("the file already holds a value of this point and time")))
    )
