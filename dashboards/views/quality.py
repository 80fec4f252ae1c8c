"""View model of data quality: how complete each point was on each day, and what was found wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.words import quantity_words
from flexergy_pipelines.grid import Site

INTERVAL = timedelta(minutes=15)

FLAG_WORDS = {
    "out_of_range": "outside the possible range",
    "spike": "spike",
    "frozen": "frozen value",
    "counter_reset": "counter went back",
    "unit_slip": "wrong unit",
    "sign_flip": "wrong sign",
    "night_output": "PV output at night",
    "negative": "negative value",
    "sentinel": "error code as a value",
    "anomaly": "unlike other days",
    "not_a_number": "not a number",
    "bad_time": "impossible time",
    "duplicate_time": "time given twice",
    "clock_drift": "clock drift",
    "swapped_phases": "phases swapped",
    "interpolated": "filled: interpolated",
    "similar_day": "filled: as on a similar day",
    "donor": "filled: from another meter",
    "model": "filled: from a model",
    "night_zero": "filled: PV is zero at night",
    "outage": "outage",
    "missing": "missing",
}


def flag_words(flag: str) -> str:
    """A flag, or several joined by commas, as words."""
    return ", ".join(FLAG_WORDS.get(part, part.replace("_", " ")) for part in flag.split(",") if part)


def watched_points(site: Site) -> list[tuple[str, str]]:
    """The points whose completeness matters for plans and accounts: powers, and states of charge."""
    return [
        (p.asset_id, p.quantity) for p in site.points() if not p.writable and p.quantity in {"active_power_kw", "soc"}
    ]


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Begin and end of a local day."""
    start = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
    return start, datetime.combine(day + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)


def completeness(clean: pl.DataFrame, points: list[tuple[str, str]], days: list[date], zone: ZoneInfo) -> pl.DataFrame:
    """Share of each day's intervals that were measured and found good, for each point.

    Parameters
    ----------
    clean : pl.DataFrame
        Columns ``asset_id``, ``quantity``, ``time``, ``value``, ``flag``.
    points : list of (asset_id, quantity)
        A point without any value gets 0, not nothing.
    days : list of date
        Local days; their length decides how many intervals there should be.

    Returns
    -------
    pl.DataFrame
        Columns ``point``, ``day`` (ISO text), ``good`` (fraction), ``flagged``, ``missing`` (intervals).
    """
    counted = (
        clean.with_columns(
            pl.col("time").dt.convert_time_zone(zone.key).dt.date().alias("day"),
            (pl.col("value").is_not_null() & pl.col("flag").is_null()).alias("is_good"),
            pl.col("flag").is_not_null().alias("is_flagged"),
        )
        .group_by("asset_id", "quantity", "day")
        .agg(pl.col("is_good").sum().alias("good"), pl.col("is_flagged").sum().alias("flagged"))
    )
    found = {(row[0], row[1], row[2]): (int(row[3]), int(row[4])) for row in counted.iter_rows()}
    rows = []
    for asset_id, quantity in points:
        for day in days:
            start, end = day_bounds(day, zone)
            expected = round((end - start) / INTERVAL)
            good, flagged = found.get((asset_id, quantity, day), (0, 0))
            rows.append(
                {
                    "point": f"{asset_id} {quantity_words(quantity)}",
                    "day": day.isoformat(),
                    "good": min(1.0, good / expected),
                    "flagged": flagged,
                    "missing": max(0, expected - good - flagged),
                }
            )
    schema = {"point": pl.String, "day": pl.String, "good": pl.Float64, "flagged": pl.Int64, "missing": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def flag_counts(clean: pl.DataFrame) -> pl.DataFrame:
    """How often which flag was raised at which point: ``point, found, intervals, last``."""
    flagged = clean.filter(pl.col("flag").is_not_null())
    return (
        flagged.group_by("asset_id", "quantity", "flag")
        .agg(pl.len().alias("intervals"), pl.col("time").max().alias("last"))
        .sort("intervals", descending=True)
        .select(
            (pl.col("asset_id") + " " + pl.col("quantity")).alias("point"),
            pl.col("flag").map_elements(flag_words, return_dtype=pl.String).alias("found"),
            "intervals",
            "last",
        )
    )
