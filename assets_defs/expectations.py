"""Great Expectations suites over a day of readings; imported only where a check runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets_defs.resources import StoreResource

if TYPE_CHECKING:
    import pandas as pd

    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

_SAMPLE_ROWS = 5
_SHARE_IN_RANGE = 0.99
"""A few values out of range are the cleansing's business; many are a wrong unit or a wrong point."""


def raw_day(db: TenantStore, site_id: str, now: datetime) -> pl.DataFrame:
    """The last day's readings with their points' ranges."""
    from flexergy_pipelines.store.readings import read_readings
    from flexergy_pipelines.store.sites import load_site

    frame = read_readings(db, site_id, now - timedelta(days=1), now)
    return _with_ranges(frame, load_site(db, site_id))


def clean_day_frame(db: TenantStore, site_id: str, now: datetime) -> pl.DataFrame:
    """The last day's clean readings with their points' ranges."""
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.sites import load_site

    frame = read_clean(db, site_id, now - timedelta(days=1), now)
    return _with_ranges(frame, load_site(db, site_id)).with_columns(
        (pl.col("time").dt.minute() % 15 + pl.col("time").dt.second()).alias("off_grid")
    )


def raw_suite() -> list[Any]:
    """Expectations of readings as they came."""
    gxe = _great_expectations().expectations
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["asset_id", "quantity", "time"]),
        gxe.ExpectColumnValuesToNotBeNull(column="time"),
        gxe.ExpectColumnValuesToBeInSet(column="quality", value_set=[0, 1, 2, 3, 4]),
        gxe.ExpectColumnValuesToBeInSet(column="position", value_set=["inside"], mostly=_SHARE_IN_RANGE),
    ]


def clean_suite() -> list[Any]:
    """Expectations of clean readings."""
    gxe = _great_expectations().expectations
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["asset_id", "quantity", "time"]),
        gxe.ExpectColumnValuesToBeInSet(column="off_grid", value_set=[0]),
        gxe.ExpectColumnValuesToBeInSet(column="position", value_set=["inside"]),
        gxe.ExpectColumnValuesToNotBeNull(column="value", mostly=0.5),
    ]


def validate_sites(
    store: StoreResource,
    read: Callable[[TenantStore, str, datetime], pl.DataFrame],
    suite: Callable[[], list[Any]],
) -> dg.AssetCheckResult:
    """Validate every site's frame; broken structure is an error, content out of range a warning."""
    from flexergy_pipelines.store.sites import list_sites

    db, now = store.db(), store.now()
    failed: list[tuple[str, str, str]] = []
    passed = True
    structural = False
    count = 0
    for site_id in list_sites(db):
        for outcome in validate(read(db, site_id, now).to_pandas(), suite()):
            count += 1
            if not outcome.success:
                passed = False
                structural |= outcome.expectation_config.kwargs.get("mostly", 1) == 1
                failed.append((site_id, outcome.expectation_config.type, _sample(outcome)))
    lines = ["| site | expectation | samples |", "| --- | --- | --- |"]
    lines += [f"| {site} | {kind} | {sample} |" for site, kind, sample in failed]
    severity = dg.AssetCheckSeverity.ERROR if structural else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=passed,
        severity=severity,
        metadata={
            "expectations": count,
            "failed": len(failed),
            **({"list": dg.MetadataValue.md("\n".join(lines))} if failed else {}),
        },
    )


def validate(frame: pd.DataFrame, expectations: list[Any]) -> list[Any]:
    """Results of `expectations` over a frame, one each."""
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("readings")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name="readings", expectations=expectations)
    return list(batch.validate(suite).results)


def _great_expectations() -> Any:
    # Nothing of a user's data may leave the machine, and without a network the attempt only costs time.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        # It imports a module of the standard library that is deprecated since Python 3.11.
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        import great_expectations as gx
    return gx


def _with_ranges(frame: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Adds ``position``: whether a value lies inside the range of its point; null for unknown values."""
    ranges = pl.DataFrame(
        [(point.asset_id, point.quantity, point.minimum, point.maximum) for point in site.points()],
        schema={"asset_id": pl.String, "quantity": pl.String, "low": pl.Float64, "high": pl.Float64},
        orient="row",
    )
    value = pl.col("value")
    position = (
        pl.when(value.is_null() | pl.col("low").is_null())
        .then(None)
        .when(value.is_between(pl.col("low"), pl.col("high")))
        .then(pl.lit("inside"))
        .otherwise(pl.lit("outside"))
    )
    joined = frame.join(ranges, on=["asset_id", "quantity"], how="left")
    return joined.with_columns(position.alias("position")).drop("low", "high")


def _sample(outcome: Any) -> str:
    values = outcome.result.get("partial_unexpected_list") or outcome.result.get("observed_value") or ""
    return str(values[:_SAMPLE_ROWS] if isinstance(values, list) else values).replace("|", "/")
