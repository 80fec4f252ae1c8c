"""Cleansing of a stored site: raw readings in, the clean 15-minute series of every measured point out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.grid import Point, Site
from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.series import clean_series
from flexergy_pipelines.quality.spec import SeriesKind, SeriesSpec

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

STEP_MINUTES = 15
# Similar days and edges of gaps are looked for this far around the period that is written.
CONTEXT_DAYS = 15

_KINDS: dict[str, SeriesKind] = {
    "load": "load",
    "controllable_load": "load",
    "pv": "pv",
    "wind": "wind",
    "ev": "ev",
    "ess": "storage",
    "genset": "storage",
    "pcc": "exchange",
}


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What cleansing did.

    Attributes
    ----------
    counts : dict
        Number of values by flag.
    coverage : dict
        Share of intervals that had a usable measured value, by "asset/quantity".
    written : int
        Values written.
    """

    counts: dict[str, int] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)
    written: int = 0


def spec_of(site: Site, point: Point) -> SeriesSpec:
    """Kind and range of one point of a site, as cleansing sees it."""
    asset = site.asset(point.asset_id)
    kind: SeriesKind = "state"
    if point.quantity in ("active_power_kw", "available_power_kw", "reactive_power_kvar"):
        kind = _KINDS[asset.kind]
    elif point.quantity.endswith("_energy_kwh"):
        kind = "counter"
    return SeriesSpec(
        kind=kind,
        minimum=point.minimum,
        maximum=point.maximum,
        step_minutes=STEP_MINUTES,
    )


def clean_day(db: TenantStore, site_id: str, day_start: datetime, day_end: datetime) -> CleanReport:
    """Cleanse one day (23, 24 or 25 hours) of a site and store the result."""
    return clean_period(db, site_id, day_start, day_end)


def clean_period(db: TenantStore, site_id: str, start: datetime, end: datetime) -> CleanReport:
    """Cleanse the readings with start <= time < end of every measured point of a site and store the result.

    Readings around the period are looked at too, so that a day comes out the same whether it is cleansed alone or
    within a longer period, as far as its neighbours are known.
    """
    from flexergy_pipelines.store.clean import write_clean
    from flexergy_pipelines.store.open_days import close_days, marks_within
    from flexergy_pipelines.store.quality import write_quality
    from flexergy_pipelines.store.readings import read_readings
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    start, end = _floor(start), _ceil(end)
    context = timedelta(days=CONTEXT_DAYS)
    # Asked for before the readings: what comes in meanwhile keeps its day open.
    marks = marks_within(db, site_id, site.time_zone, start, end)
    raw = read_readings(db, site_id, start - context, end + context, step=f"{STEP_MINUTES}m")
    specs = {(p.asset_id, p.quantity): spec_of(site, p) for p in site.points() if not p.writable}
    counts: Counter[str] = Counter()
    coverage: dict[str, float] = {}
    parts: list[pl.DataFrame] = []
    for (asset_id, quantity), frame in raw.partition_by("asset_id", "quantity", as_dict=True).items():
        spec = specs.get((str(asset_id), str(quantity)))
        if spec is None:
            continue
        known = _trim(frame, end)
        if known is None:
            continue
        clean = clean_series(known.select("time", "value"), spec)
        clean = clean.filter((pl.col("time") >= start) & (pl.col("time") < end))
        if clean.is_empty():
            continue
        counts.update(clean["flag"].drop_nulls().to_list())
        coverage[f"{asset_id}/{quantity}"] = 1 - clean["flag"].count() / clean.height
        parts.append(clean.select(pl.lit(asset_id).alias("asset_id"), pl.lit(quantity).alias("quantity"), pl.all()))
    with db.begin():
        written = write_clean(db, site_id, pl.concat(parts)) if parts else 0
        if parts:
            write_quality(db, site_id, quality_by_day(pl.concat(parts), site.time_zone, start, end))
        close_days(db, marks)
    return CleanReport(dict(counts), coverage, written)


def quality_by_day(clean: pl.DataFrame, time_zone: str, start: datetime, end: datetime) -> pl.DataFrame:
    """How much of each local day each point was measured, wrong, estimated or empty.

    Parameters
    ----------
    clean : pl.DataFrame
        asset_id, quantity, time, flag of the period.
    time_zone : str
        IANA name of the site's zone.
    start, end : datetime
        The period; a day that it only cuts is left out at its start, and counted so far at its end.

    Returns
    -------
    pl.DataFrame
        asset_id, quantity, day, expected, measured, wrong, estimated, empty (quarters of an hour). Of a point that was
        never read before nothing is expected until its first value.
    """
    local = pl.col("time").dt.convert_time_zone(time_zone)
    flag = pl.col("flag")
    begin = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone(time_zone).dt.convert_time_zone("UTC")
    midnight = (pl.col("day").cast(pl.Datetime("us")) + pl.duration(days=1)).dt.replace_time_zone(time_zone)
    after = pl.min_horizontal(midnight.dt.convert_time_zone("UTC"), pl.lit(end, dtype=pl.Datetime("us", "UTC")))
    return (
        clean.group_by("asset_id", "quantity", local.dt.date().alias("day"))
        .agg(
            pl.col("time").min().alias("first"),
            flag.is_null().sum().alias("measured"),
            flag.is_in(list(flags.DETECTED)).sum().alias("wrong"),
            flag.is_in(list(flags.IMPUTED)).sum().alias("estimated"),
        )
        .with_columns(
            ((after - pl.col("first")).dt.total_minutes() // STEP_MINUTES).alias("expected"), begin.alias("begin")
        )
        .filter((pl.col("begin") >= start) & (pl.col("expected") > 0))
        .with_columns((pl.col("expected") - pl.sum_horizontal("measured", "wrong", "estimated")).alias("empty"))
        .select("asset_id", "quantity", "day", "expected", "measured", "wrong", "estimated", "empty")
        .sort("asset_id", "quantity", "day")
    )


def _trim(frame: pl.DataFrame, end: datetime) -> pl.DataFrame | None:
    """The series from its first value on: before a point was ever read nothing is missing, nor after now."""
    frame = frame.sort("time")
    measured = frame.filter(pl.col("value").is_not_null())
    if measured.is_empty():
        return None
    first = measured["time"].min()
    last = max(measured["time"].max(), min(end, datetime.now(UTC)) - timedelta(minutes=STEP_MINUTES))  # pyright: ignore
    return frame.filter((pl.col("time") >= first) & (pl.col("time") <= last))


def _floor(time: datetime) -> datetime:
    time = time.astimezone(UTC)
    return time - timedelta(seconds=time.timestamp() % (STEP_MINUTES * 60))


def _ceil(time: datetime) -> datetime:
    floor = _floor(time)
    return floor if floor == time else floor + timedelta(minutes=STEP_MINUTES)
