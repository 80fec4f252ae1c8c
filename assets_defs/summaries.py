"""What the asset pages say about each site's work: facts and previews, read back from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets_defs.sites import SiteReport

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.serving import ServedForecast
    from flexergy_pipelines.forecasting.training import TrainingResult
    from flexergy_pipelines.quality import CleanReport
    from flexergy_pipelines.store import TenantStore
    from ingestion.meters.bulk import BulkReport
    from ingestion.meters.files import FileReport

_PREVIEWED = 4
_GOOD, _MISSING = 0, 3


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


def bulk_facts(report: BulkReport) -> SiteReport:
    """Statistics of a bulk reading: by data concentrator in the picture, the meters that failed beside it."""
    lines = ["| concentrator | meters | success | completeness | latency | tries |", "| --- " * 6 + "|"]
    for row in report.by_concentrator().iter_rows(named=True):
        latency = "" if row["mean_latency_s"] is None else f"{1000 * row['mean_latency_s']:.0f} ms"
        complete = row["completeness"]
        lines.append(
            f"| {row['concentrator'] or 'none'} | {row['meters']} | {row['success_rate']:.1%} "
            f"| {'' if complete is None else f'{complete:.1%}'} | {latency} | {row['attempts']} |"
        )
    failed = [outcome for outcome in report.outcomes if not outcome.success]
    lines += [f"- **{outcome.meter}**: {outcome.error}" for outcome in failed]
    return SiteReport(
        {
            "meters": len(report.outcomes),
            "success rate": report.success_rate,
            "failed": ", ".join(outcome.meter for outcome in failed),
            "new readings": report.written,
        },
        "\n".join(lines),
        f"{len(report.outcomes) - len(failed)} of {len(report.outcomes)} meters, {report.written} readings",
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


def training_facts(results: Sequence[TrainingResult]) -> SiteReport:
    """Which model serves each target, and how much better than naive it is."""
    champions = Counter(result.champion or "none" for result in results)
    lines = ["| target | champion | MAE | naive MAE | promoted | why |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {result.target} | {result.champion} | {_number(result.metrics.get('mae'))} "
        f"| {_number(result.metrics.get('naive_mae'))} | {'yes' if result.promoted else 'no'} | {result.reason} |"
        for result in results
    ]
    detail = ", ".join(f"{name} in {count}" for name, count in champions.most_common())
    text = f"{len(results)} targets, champion {detail}" if results else "all models up to date"
    return SiteReport(
        {"targets trained": len(results), "champions": detail}, "\n".join(lines) if results else None, text
    )


def forecast_facts(db: TenantStore, site_id: str, now: datetime, served: Sequence[ServedForecast]) -> SiteReport:
    """How many forecasts were served, by which level of fallback, with a picture of the first few."""
    from assets_defs.previews import forecast_preview
    from flexergy_pipelines.store.forecasts import read_forecast
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    until = now + timedelta(hours=site.forecasts.horizon_hours)
    frames: dict[str, pl.DataFrame] = {}
    for forecast in served[:_PREVIEWED]:
        target = forecast.target
        frame = read_forecast(db, site_id, target.asset_id, target.quantity, now, until)
        if not frame.is_empty():
            frames[f"{target.asset_id} {target.quantity}"] = frame
    fallbacks = [f"{f.target.asset_id} ({f.reason})" for f in served if f.fallback_level]
    return SiteReport(
        {"targets": len(served), "by fallback": len(fallbacks), "which": ", ".join(fallbacks), "until": until},
        forecast_preview(frames, site.zone) if frames else None,
        f"{len(served)} targets" + (f", {len(fallbacks)} by fallback" if fallbacks else ""),
    )


def plan_facts(db: TenantStore, site_id: str, now: datetime) -> SiteReport:
    """How good the active plan is, with its picture."""
    from assets_defs.previews import plan_preview
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.sites import load_site

    plan = read_active_plan(db, site_id, now)
    if plan is None:
        raise LookupError(f"{site_id}: no plan covers {now:%Y-%m-%dT%H:%MZ} after planning")
    record = plan.record
    count = (record.end - record.start) // timedelta(minutes=record.step_minutes)
    gap = "" if record.gap is None else f", gap {record.gap:.2g}"
    saving = ""
    if record.objective_eur is not None and record.no_storage_cost_eur is not None:
        saving = f", {record.objective_eur:.2f} EUR against {record.no_storage_cost_eur:.2f} without storage"
    return SiteReport(
        {
            "plan": plan.version,
            "status": record.status,
            "steps": count,
            "gap": record.gap,
            "cost EUR": record.objective_eur,
            "without storage EUR": record.no_storage_cost_eur,
            "violations": len(record.violations),
        },
        plan_preview(plan.values, load_site(db, site_id).zone),
        f"{count} steps, {record.status}{gap}{saving}",
    )


def dispatch_facts(db: TenantStore, site_id: str, now: datetime) -> SiteReport:
    """The last setpoint of every actuator beside the plan's."""
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.setpoints import latest_setpoints

    plan = read_active_plan(db, site_id, now)
    sent = latest_setpoints(db, site_id)
    if sent.is_empty():
        facts = {"plan": plan.version if plan else None, "dispatched": 0}
        return SiteReport(facts, summary="nothing sent yet")
    planned = pl.DataFrame(schema={"asset_id": pl.String, "quantity": pl.String, "planned": pl.Float64})
    if plan is not None:
        planned = (
            plan.values.filter(pl.col("time") <= now)
            .sort("time")
            .group_by("asset_id", "quantity")
            .agg(pl.col("value").last().alias("planned"))
        )
    table = sent.join(planned, on=["asset_id", "quantity"], how="left").sort("asset_id", "quantity")
    lines = ["| actuator | planned | sent | read back | layer | at |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['asset_id']}/{row['quantity']} | {_number(row['planned'])} | {_number(row['sent'])} "
        f"| {_number(row['readback'])} | {row['layer']} | {row['time']:%H:%M:%S} |"
        for row in table.iter_rows(named=True)
    ]
    on_plan = table.filter((pl.col("sent") - pl.col("planned")).abs() < 0.5).height
    return SiteReport(
        {
            "plan": plan.version if plan else None,
            "dispatched": table.height,
            "as planned": on_plan,
            "newest": table["time"].max(),
        },
        "\n".join(lines),
        f"{table.height} setpoints, {on_plan} as planned",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
