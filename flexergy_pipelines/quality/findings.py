"""What the checks between and within meters find, by day: for the asset checks and the Data quality page.

Nothing is changed by a finding. Checks look at the readings as they came, on the wall clock of the site, so that the
usual course of an hour is that hour also across daylight saving.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flexergy_pipelines.quality.consistency import clock_drift, swapped_phases
from flexergy_pipelines.quality.metering import consistency
from flexergy_pipelines.quality.profile import usual
from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.unusual import unusual_days

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

Values = NDArray[np.float64]
Row = tuple[str, date, str, float | None, float | None, float | None, str]

METERS_AGREE: Final = ("import_energy", "export_energy", "balance")
PHASES, CLOCK, UNUSUAL = "swapped_phases", "clock_drift", "unusual_day"
CHECKS: Final = {
    "import_energy": "import register against integrated power",
    "export_energy": "export register against integrated power",
    "balance": "sum of all assets against the main meter",
    PHASES: "two phases look exchanged",
    CLOCK: "the clock of a meter is off",
    UNUSUAL: "a day like no other",
}
"""Checks by name, and what each looks at."""

LOOK_BACK_DAYS: Final = 120
LEAST_DRIFT_MINUTES: Final = 30
LEAST_DRIFT_DAYS: Final = 7
PER_DAY: Final = 96
_CLOCKED: Final = frozenset({"load", "controllable_load"})
"""Kinds whose course of the day is regular enough to tell the time by; a cloudy morning makes PV look late."""
_JUDGED: Final = _CLOCKED | {"pv", "pcc"}
_SCHEMA: Final = {
    "check_name": pl.String,
    "day": pl.Date,
    "subject": pl.String,
    "expected": pl.Float64,
    "found": pl.Float64,
    "deviation": pl.Float64,
    "detail": pl.String,
}


def find_disagreements(db: TenantStore, site_id: str, first: date, last: date) -> pl.DataFrame:
    """Days `first` to `last` (UTC) on which registers and power, or the parts and the main meter, do not agree.

    Returns
    -------
    pl.DataFrame
        check_name, day, subject, expected, found (kWh for registers, mean kW for the balance), deviation (share),
        detail; empty when all agree.
    """
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    wrong = consistency(db, site_id, start, end).filter(~pl.col("fits"))
    rows: list[Row] = []
    for row in wrong.iter_rows(named=True):
        unit = "kW" if row["check"] == "balance" else "kWh"
        detail = f"{row['found']:.1f} {unit} found, {row['expected']:.1f} expected: {row['deviation']:.1%} off"
        subject = "pcc" if row["check"] != "balance" else "all assets"
        rows.append((row["check"], row["day"].date(), subject, row["expected"], row["found"], row["deviation"], detail))
    return _frame(rows)


def find_oddities(db: TenantStore, site_id: str, first: date, last: date) -> pl.DataFrame:
    """Days `first` to `last` (local) of exchanged phases, wrong clocks, and days like no other.

    Four months before `last` are looked at to learn what is usual.

    Returns
    -------
    pl.DataFrame
        As of `find_disagreements`; for a clock `found` is by how many minutes values come late, for an unusual day its
        distance from the bulk in robust standard deviations.
    """
    from flexergy_pipelines.store.readings import read_readings
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    begin = min(first, last - timedelta(days=LOOK_BACK_DAYS))
    start, end = _midnight(begin, site), _midnight(last + timedelta(days=1), site)
    wanted = _points(site)
    raw = read_readings(db, site_id, start, end, wanted, step="15m")
    series = {key: _wall_clock(raw, key, begin, (last - begin).days + 1, site.time_zone) for key in wanted}
    known = {key: values for key, values in series.items() if np.isfinite(values).any()}
    rows = [*_unusual(site, known, begin), *_clocks(site, known, begin), *_phases(known, begin)]
    return _frame([row for row in rows if first <= row[1] <= last])


def _points(site: Site) -> list[tuple[str, str]]:
    kinds = {asset.id: asset.kind for asset in site.assets()}
    return [
        (point.asset_id, point.quantity)
        for point in site.points()
        if (point.quantity == "active_power_kw" and kinds[point.asset_id] in _JUDGED)
        or (point.quantity.startswith("active_power_l") and not point.writable)
    ]


def _wall_clock(raw: pl.DataFrame, key: tuple[str, str], begin: date, days: int, zone: str) -> Values:
    """Values by local quarter of an hour, 96 a day: NaN in the hour that spring skips; autumn's second hour counts."""
    own = raw.filter((pl.col("asset_id") == key[0]) & (pl.col("quantity") == key[1])).drop_nulls("value")
    local = pl.col("time").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    origin = datetime(begin.year, begin.month, begin.day)  # noqa: DTZ001 - wall clock
    slots = own.select(((local - pl.lit(origin)).dt.total_minutes() // 15).alias("slot"))["slot"].to_numpy()
    values = np.full(days * PER_DAY, np.nan)
    inside = (slots >= 0) & (slots < values.size)
    values[slots[inside]] = own["value"].to_numpy()[inside]
    return values


def _unusual(site: Site, series: dict[tuple[str, str], Values], begin: date) -> Iterator[Row]:
    ranges = {(point.asset_id, point.quantity): point for point in site.points()}
    for (asset_id, quantity), values in series.items():
        if quantity != "active_power_kw":
            continue
        point = ranges[asset_id, quantity]
        spec = SeriesSpec(kind="load", minimum=point.minimum, maximum=point.maximum, step_minutes=15)
        for day in unusual_days(values, spec):
            when = begin + timedelta(days=day.day)
            detail = f"{asset_id}: its {day.reason} is like on no other day ({day.distance:.1f} robust deviations)"
            yield UNUSUAL, when, f"{asset_id}/{quantity}", None, day.distance, None, detail


def _clocks(site: Site, series: dict[tuple[str, str], Values], begin: date) -> Iterator[Row]:
    kinds = {asset.id: asset.kind for asset in site.assets()}
    for (asset_id, quantity), values in series.items():
        if quantity != "active_power_kw" or kinds[asset_id] not in _CLOCKED:
            continue
        for drift in clock_drift(values, usual(values, PER_DAY, 0), 15):
            days = drift.last_day - drift.first_day + 1
            if abs(drift.minutes) < LEAST_DRIFT_MINUTES and days < LEAST_DRIFT_DAYS:
                continue  # one step on a few days may be what people did, not what the clock did
            side = "late" if drift.minutes > 0 else "early"
            detail = f"{asset_id}: values come {abs(drift.minutes):.0f} minutes {side} against their usual course"
            for number in range(drift.first_day, drift.last_day + 1):
                when = begin + timedelta(days=number)
                yield CLOCK, when, f"{asset_id}/{quantity}", 0.0, drift.minutes, None, detail


def _phases(series: dict[tuple[str, str], Values], begin: date) -> Iterator[Row]:
    by_asset: dict[str, dict[str, Values]] = {}
    for (asset_id, quantity), values in series.items():
        if quantity.startswith("active_power_l"):
            by_asset.setdefault(asset_id, {})[quantity.removeprefix("active_power_").removesuffix("_kw")] = values
    for asset_id, phases in by_asset.items():
        for swap in swapped_phases(phases, 15):
            one, other = (name.upper() for name in swap.phases)
            for number in range(swap.first_day, swap.last_day + 1):
                when = begin + timedelta(days=number)
                detail = f"{asset_id}: {one} and {other} fit each other's usual course far better than their own"
                yield PHASES, when, f"{asset_id} {one}-{other}", None, None, None, detail


def _midnight(day: date, site: Site) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=site.zone).astimezone(UTC)


def _frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort("day", "check_name", "subject")
