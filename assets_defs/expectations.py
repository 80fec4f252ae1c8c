"""Great Expectations over each source, from the values the quality room declares; imported only where a check runs."""

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
    from flexergy_pipelines.quality.expectations import SourceExpectations
    from flexergy_pipelines.store import TenantStore

_DAY = timedelta(days=1)
_SAMPLE_ROWS = 5
_SHARE_IN_RANGE = 0.99
"""A few values out of a point's range are the cleansing's business; many are a wrong unit or a wrong point."""

Read = Callable[["TenantStore", "Site", datetime], pl.DataFrame]
Expected = Callable[["Site"], "SourceExpectations"]


def raw_day(db: TenantStore, site: Site, now: datetime) -> pl.DataFrame:
    """The last day's readings."""
    from flexergy_pipelines.store.readings import read_readings

    return _with_age(read_readings(db, site.id, now - _DAY, now), "time", now)


def clean_day_frame(db: TenantStore, site: Site, now: datetime) -> pl.DataFrame:
    """The last day's clean readings."""
    from flexergy_pipelines.store.clean import read_clean

    return read_clean(db, site.id, now - _DAY, now)


def weather_ahead(db: TenantStore, site: Site, now: datetime) -> pl.DataFrame:
    """The weather that is known of the coming day."""
    from flexergy_pipelines.store.weather import read_weather

    return _with_age(read_weather(db, site.id, now, now + _DAY), "issued_at", now)


def prices_around(db: TenantStore, site: Site, now: datetime) -> pl.DataFrame:
    """Day-ahead prices of the last and the coming day."""
    from flexergy_pipelines.store.prices import read_prices

    return read_prices(db, site.id, now - _DAY, now + _DAY)


def suite_of(expected: SourceExpectations) -> list[Any]:
    """The declared expectations as those of Great Expectations.

    Parameters
    ----------
    expected : SourceExpectations
        Of one source.

    Returns
    -------
    list
        Each with ``blocking`` or ``warning`` in its meta data.
    """
    gxe = _great_expectations().expectations
    structure, content = {"severity": "blocking"}, {"severity": "warning"}
    suite = [gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=structure)]
    suite += [gxe.ExpectColumnToExist(column=name, meta=structure) for name in expected.columns]
    suite += [gxe.ExpectColumnValuesToNotBeNull(column=name, meta=structure) for name in expected.not_null]
    if expected.unique:
        suite.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(expected.unique), meta=structure))
    suite += [
        gxe.ExpectColumnValuesToBeBetween(
            column=item.column, min_value=item.minimum, max_value=item.maximum, mostly=item.mostly,
            meta={"severity": item.severity},
        )
        for item in expected.ranges
    ]  # fmt: skip
    if expected.points:
        blocking = any(point.severity == "blocking" for point in expected.points)
        suite.append(
            gxe.ExpectColumnValuesToBeInSet(
                column="position", value_set=["inside"], mostly=1.0 if blocking else _SHARE_IN_RANGE,
                meta=structure if blocking else content,
            )
        )  # fmt: skip
    if expected.oldest_minutes is not None:
        suite.append(
            gxe.ExpectColumnMinToBeBetween(column="age_minutes", max_value=expected.oldest_minutes, meta=content)
        )
    return suite


def validate_sites(store: StoreResource, read: Read, expected: Expected) -> dg.AssetCheckResult:
    """Validate every site's frame; broken structure is an error, strange content a warning."""
    from flexergy_pipelines.store.sites import list_sites, load_site

    db, now = store.db(), store.now()
    failed: list[tuple[str, str, str]] = []
    count = 0
    blocking = False
    for site_id in list_sites(db):
        site = load_site(db, site_id)
        wanted = expected(site)
        frame = read(db, site, now)
        if wanted.points:
            frame = _with_position(frame, wanted)
        for outcome in validate(frame.to_pandas(), suite_of(wanted)):
            count += 1
            if not outcome.success:
                config = outcome.expectation_config
                blocking |= (config.meta or {}).get("severity") == "blocking"
                what = f"{config.type} {config.kwargs.get('column', '')}".strip()
                failed.append((site_id, what, _sample(outcome)))
    lines = ["| site | expectation | samples |", "| --- | --- | --- |"]
    lines += [f"| {site} | {kind} | {sample} |" for site, kind, sample in failed]
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
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
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    return list(batch.validate(gx.ExpectationSuite(name="suite", expectations=expectations)).results)


def _great_expectations() -> Any:
    # Nothing of a user's data may leave the machine, and without a network the attempt only costs time.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        # It imports a module of the standard library that is deprecated since Python 3.11.
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        import great_expectations as gx
    return gx


def _with_age(frame: pl.DataFrame, column: str, now: datetime) -> pl.DataFrame:
    return frame.with_columns(((pl.lit(now) - pl.col(column)).dt.total_seconds() / 60.0).alias("age_minutes"))


def _with_position(frame: pl.DataFrame, expected: SourceExpectations) -> pl.DataFrame:
    """Adds ``position``: whether a value lies inside the range of its point; null for unknown values."""
    ranges = pl.DataFrame(
        [(point.asset_id, point.quantity, point.minimum, point.maximum) for point in expected.points],
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
