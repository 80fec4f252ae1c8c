"""View model of metering: quality of each meter over time, by meter and concentrator, findings, and bulk reading."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.words import local_time
from flexergy_pipelines.grid import Site

CHECK_WORDS: Final = {
    "import_energy": "import register against power",
    "export_energy": "export register against power",
    "balance": "sum of assets against main meter",
    "swapped_phases": "phases exchanged",
    "clock_drift": "clock off",
    "unusual_day": "day like no other",
}
REPORT_WORDS: Final = {"instant": "present values", "profile": "load profile"}


def devices_of(site: Site) -> dict[str, tuple[str, str]]:
    """For each asset the device that measures it, and the data concentrator that device hangs on ("" for none)."""
    concentrators = {meter.id: meter.concentrator or "" for meter in site.meters}
    return {
        asset.id: (device.id, concentrators.get(device.id, "")) for device in site.devices() for asset in device.assets
    }


def with_devices(quality: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Daily quality with ``meter`` and ``concentrator``."""
    devices = devices_of(site)
    rows = [(asset, *places) for asset, places in devices.items()]
    named = pl.DataFrame(rows, schema=["asset_id", "meter", "concentrator"], orient="row")
    joined = quality.join(named.cast(pl.String), on="asset_id", how="left")
    return joined.with_columns(pl.col("meter").fill_null(pl.col("asset_id")), pl.col("concentrator").fill_null(""))


def coverage_by(quality: pl.DataFrame, key: str) -> pl.DataFrame:
    """Coverage and findings of a period by ``meter`` or ``concentrator``, worst first.

    Parameters
    ----------
    quality : pl.DataFrame
        As `with_devices` gives it.
    key : str
        ``meter`` or ``concentrator``.

    Returns
    -------
    pl.DataFrame
        key, points, days, coverage (share of intervals measured and good), worst day (its coverage, in words), wrong,
        estimated, empty (intervals).
    """
    counts = ["expected", "measured", "wrong", "estimated", "empty"]
    daily = quality.group_by(key, "day").agg(pl.col(counts).sum())
    daily = daily.with_columns((pl.col("measured") / pl.col("expected")).alias("coverage")).sort("coverage", "day")
    points = quality.group_by(key).agg(pl.struct("asset_id", "quantity").n_unique().alias("points"))
    return (
        daily.group_by(key, maintain_order=True)
        .agg(
            pl.len().alias("days"),
            (pl.col("measured").sum() / pl.col("expected").sum()).alias("coverage"),
            pl.format(
                "{} ({} %)", pl.col("day").first().dt.strftime("%d %b"), (100 * pl.col("coverage").first()).round(1)
            ).alias("worst day"),
            pl.col("wrong", "estimated", "empty").sum(),
        )
        .join(points, on=key)
        .sort("coverage", key)
        .select(key, "points", "days", "coverage", "worst day", "wrong", "estimated", "empty")
    )


def meter_series(quality: pl.DataFrame, meters: list[str]) -> pl.DataFrame:
    """Coverage of each day of the chosen meters: ``meter, day, coverage, wrong, estimated, empty``."""
    counts = ["expected", "measured", "wrong", "estimated", "empty"]
    return (
        quality.filter(pl.col("meter").is_in(meters))
        .group_by("meter", "day")
        .agg(pl.col(counts).sum())
        .with_columns((pl.col("measured") / pl.col("expected")).alias("coverage"))
        .select("meter", "day", "coverage", "wrong", "estimated", "empty")
        .sort("meter", "day")
    )


def findings_table(findings: pl.DataFrame) -> pl.DataFrame:
    """Findings in words, newest first: ``day, check, where, found``."""
    return findings.select(
        pl.col("day").dt.strftime("%d %b %Y"),
        pl.col("check_name").replace(CHECK_WORDS).alias("check"),
        pl.col("subject").alias("where"),
        pl.col("detail").alias("found"),
    )


def reading_table(statistics: pl.DataFrame, key: str, zone: ZoneInfo) -> pl.DataFrame:
    """Statistics of reading in words, worst first."""
    rows = [
        {
            key: row[key] or "none",
            "reads": str(row["reads"]),
            "success": f"{row['success_rate']:.1%}",
            "complete": "" if row["completeness"] is None else f"{row['completeness']:.1%}",
            "mean latency": _milliseconds(row["mean_latency_s"]),
            "95 % within": _milliseconds(row["p95_latency_s"]),
            "last success": "" if row["last_success"] is None else local_time(row["last_success"], zone),
            "last error": row["last_error"] or "",
        }
        for row in statistics.sort("success_rate", key).iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def configuration_table(events: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    """Settings sent to meters in words, newest first: ``meter, outcome, what, tries, at, by``."""
    rows: list[dict[str, str]] = []
    for row in events.sort("event_id", descending=True).iter_rows(named=True):
        detail = json.loads(row["detail"])
        told = [*map(_change, detail.get("changes", [])), row["reason"] or ""]
        rows.append(
            {
                "meter": row["subject"] or "",
                "outcome": "as wanted" if row["kind"] == "meter_configured" else "failed",
                "what": "; ".join(filter(None, told)) or "was so already",
                "tries": str(detail.get("attempts", "")),
                "at": local_time(row["at"], zone),
                "by": row["actor"],
            }
        )
    return pl.DataFrame(rows)


def _change(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    if change["setting"] == "clock":
        return f"clock, was {before:+.1f} s off"
    return f"{change['setting']} {before:g} → {after:g} min"


def first_day(last: date, days: int) -> date:
    """First of so many days up to and with `last`."""
    return date.fromordinal(last.toordinal() - days + 1)


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
