"""What the asset pages say about readings, cleansing, quality and energy of each site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets_defs.sites import SiteReport

if TYPE_CHECKING:
    from flexergy_pipelines.quality import CleanReport
    from flexergy_pipelines.store import TenantStore
    from ingestion.meters.bulk import BulkReport
    from ingestion.meters.files import FileReport

_GOOD = 0


def raw_facts(db: TenantStore, site_id: str, now: datetime) -> SiteReport:
    """How much came in during the last hour, and the newest reading."""
    from flexergy_pipelines.store.readings import latest_reading_time, read_readings

    recent = read_readings(db, site_id, now - timedelta(hours=1), now)
    good = recent.filter(pl.col("quality") == _GOOD).height
    return SiteReport(
        {
            "newest reading": latest_reading_time(db, site_id),
            "readings of the last hour": recent.height,
            "points of the last hour": recent.select("asset_id", "quantity").n_unique() if recent.height else 0,
            "good share": good / recent.height if recent.height else None,
        },
        summary=f"{recent.height} readings in the last hour",
    )


def file_metadata(files: Sequence[FileReport]) -> dict[str, Any]:
    """A table of the meter files that were taken."""
    if not files:
        return {"files": 0}
    counts = Counter(report.status for report in files)
    records = [
        dg.TableRecord(
            {
                "file": report.name,
                "status": report.status,
                "rows": report.rows,
                "rejected": report.rejected,
                "reason": report.reason or "",
            }
        )
        for report in files
    ]
    days: dict[str, set[str]] = {}
    for report in files:
        for site_id, found in report.days.items():
            days.setdefault(site_id, set()).update(day.isoformat() for day in found)
    return {
        "files": len(files),
        "files_refused": counts["refused"],
        "rows_rejected": sum(report.rejected for report in files),
        "file_table": dg.MetadataValue.table(records),
        "new_data": dg.MetadataValue.json({site: sorted(found) for site, found in days.items()}),
    }


def bulk_facts(reports: Mapping[str, BulkReport]) -> SiteReport:
    """Statistics of jobs of bulk reading: by data concentrator in the picture, the meters that failed beside it."""
    lines = ["| job | concentrator | meters | success | completeness | latency | tries |", "| --- " * 7 + "|"]
    failed = [outcome for report in reports.values() for outcome in report.outcomes if not outcome.success]
    count = sum(len(report.outcomes) for report in reports.values())
    written = sum(report.written for report in reports.values())
    for job, report in reports.items():
        for row in report.by_concentrator().iter_rows(named=True):
            latency = "" if row["mean_latency_s"] is None else f"{1000 * row['mean_latency_s']:.0f} ms"
            complete = row["completeness"]
            lines.append(
                f"| {job} | {row['concentrator'] or 'none'} | {row['meters']} | {row['success_rate']:.1%} "
                f"| {'' if complete is None else f'{complete:.1%}'} | {latency} | {row['attempts']} |"
            )
    lines += [f"- **{outcome.meter}**: {outcome.error}" for outcome in failed]
    return SiteReport(
        {
            "jobs": ", ".join(reports),
            "meters": count,
            "success rate": (count - len(failed)) / count if count else None,
            "failed": ", ".join(outcome.meter for outcome in failed),
            "new readings": written,
        },
        "\n".join(lines),
        f"{count - len(failed)} of {count} meters, {written} readings",
    )


def clean_facts(report: CleanReport) -> SiteReport:
    """Counts by flag, and the worst covered point."""
    lowest = min(report.coverage.items(), key=lambda item: item[1], default=None)
    return SiteReport(
        {
            **{str(flag): count for flag, count in sorted(report.counts.items())},
            "lowest coverage": lowest[1] if lowest else None,
            "of point": lowest[0] if lowest else None,
        },
        summary=f"{report.written} values, {sum(report.counts.values())} flagged",
    )


def quality_facts(db: TenantStore, site_id: str, start: datetime, end: datetime) -> SiteReport:
    """Coverage, share of changed values and longest outage, with the worst points first."""
    table = point_quality(db, site_id, start, end)
    if table.is_empty():
        return SiteReport({"points": 0})
    worst = table.sort("coverage").head(10)
    lines = ["| point | coverage | changed | longest outage |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {asset}/{quantity} | {coverage:.1%} | {changed:.1%} | {outage} |"
        for asset, quantity, coverage, changed, outage in worst.iter_rows()
    ]
    return SiteReport(
        {
            "points": table.height,
            "mean coverage": table["coverage"].mean(),
            "lowest coverage": table["coverage"].min(),
            "changed share": table["changed"].mean(),
        },
        "\n".join(lines),
        f"{table.height} points, mean coverage {table['coverage'].mean():.1%}",
    )


def point_quality(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Quality of each point's clean series: ``asset_id, quantity, coverage, changed, longest_outage``.

    Parameters
    ----------
    db, site_id
        The site.
    start, end : datetime
        Span, aware.
    """
    from flexergy_pipelines.store.clean import read_clean

    clean = read_clean(db, site_id, start, end).sort("asset_id", "quantity", "time")
    step = timedelta(minutes=15)
    expected = max(1, (end - start) // step)
    missing = pl.col("value").is_null()
    return (
        clean.with_columns(missing.rle_id().over("asset_id", "quantity").alias("run"))
        .with_columns((missing.sum().over("asset_id", "quantity", "run")).alias("outage"))
        .group_by("asset_id", "quantity")
        .agg(
            (pl.col("value").count() / expected).alias("coverage"),
            (pl.col("flag").count() / pl.len()).alias("changed"),
            (pl.col("outage").max().cast(pl.Int64) * step).alias("longest_outage"),
        )
        .sort("asset_id", "quantity")
    )


def energy_facts(db: TenantStore, site_id: str, start: datetime, end: datetime, written: int) -> SiteReport:
    """Energy by asset and by what it was told from."""
    from flexergy_pipelines.metering.energy import REGISTER
    from flexergy_pipelines.store.energy import read_energy

    energy = read_energy(db, site_id, start, end)
    table = (
        energy.group_by("asset_id")
        .agg(
            pl.col("forward_kwh").sum(),
            pl.col("reverse_kwh").sum(),
            pl.col("forward_kwh").is_null().sum().alias("unknown"),
            (pl.col("basis") == REGISTER).sum().alias("registers"),
            pl.col("estimated").sum(),
        )
        .sort("asset_id")
    )
    lines = ["| asset | forward kWh | reverse kWh | from registers | estimated | unknown |", "| --- " * 6 + "|"]
    lines += [
        f"| {row['asset_id']} | {row['forward_kwh']:.1f} | {row['reverse_kwh']:.1f} | {row['registers']} "
        f"| {row['estimated']} | {row['unknown']} |"
        for row in table.iter_rows(named=True)
    ]
    facts = {"assets": table.height, "quarters": energy.height, "unknown": int(table["unknown"].sum())}
    return SiteReport(facts, "\n".join(lines), f"{table.height} assets, {written} quarters new or changed")
