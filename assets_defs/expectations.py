"""Great Expectations over each source, from the values the quality room declares; imported only where a check runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets_defs.data_docs import Judged, folder_of, write_page
from assets_defs.resources import StoreResource

if TYPE_CHECKING:
    from pathlib import Path

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


def validate_sites(store: StoreResource, source: str, read: Read, expected: Expected) -> dg.AssetCheckResult:
    """Validate every site's frame; broken structure is an error, strange content a warning.

    Parameters
    ----------
    store : StoreResource
        Whose sites.
    source : str
        Name of the asset, for its page of the data docs.
    read, expected : callable
        Give a site's frame and what is expected of it.
    """
    from flexergy_pipelines.store.sites import list_sites, load_site

    db, now = store.db(), store.now()
    judged: list[Judged] = []
    for site_id in list_sites(db):
        site = load_site(db, site_id)
        wanted = expected(site)
        frame = read(db, site, now)
        if wanted.points:
            frame = _with_position(frame, wanted)
        judged += [_judged(site_id, outcome, frame) for outcome in validate(frame.to_pandas(), suite_of(wanted))]
    page = write_page(folder_of(store.settings().home, db.name), source, now, judged)
    failed = [one for one in judged if not one.success]
    lines = ["| site | expectation | seen | samples |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.site} | {one.expectation} | {one.observed} | {', '.join(one.samples)} |".replace("\n", " ")
        for one in failed
    ]
    blocking = any(one.severity == "blocking" for one in failed)
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        metadata={
            "expectations": len(judged),
            "failed": len(failed),
            "data_docs": dg.MetadataValue.path(str(page)),
            **_link(store, source, page),
            **({"list": dg.MetadataValue.md("\n".join(lines))} if failed else {}),
        },
    )


def _link(store: StoreResource, source: str, page: Path) -> dict[str, Any]:
    """The page in the dashboards, where their address is known."""
    from flexergy_pipelines.settings import read_endpoints

    address = read_endpoints(store.settings()).get("dashboards")
    if address is None:
        return {}
    return {"data_docs_page": dg.MetadataValue.url(f"{address.rstrip('/')}/data-docs/{source}/{page.name}")}


def _judged(site_id: str, outcome: Any, frame: pl.DataFrame) -> Judged:
    config, result = outcome.expectation_config, outcome.result
    limits = {
        name: value
        for name, value in config.kwargs.items()
        if name not in {"batch_id", "column", "column_list"} and value is not None
    }
    column = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", []))
    words = " ".join(f"{name}={value}" for name, value in limits.items())
    count = result.get("unexpected_count")
    observed = str(result.get("observed_value", ""))
    if count:
        observed = f"{count} of {result.get('element_count', frame.height)} not as expected"
    return Judged(
        site_id,
        f"{config.type} {column} {words}".strip(),
        (config.meta or {}).get("severity", "warning"),
        bool(outcome.success),
        observed,
        () if outcome.success else _samples(outcome, frame),
    )


def _samples(outcome: Any, frame: pl.DataFrame) -> tuple[str, ...]:
    """Rows that are not as expected: point, time and value where the frame has them, else the values alone."""
    named = [name for name in ("asset_id", "quantity", "time", "value") if name in frame.columns]
    config = outcome.expectation_config
    if config.kwargs.get("column") == "position" and len(named) > 1:
        rows = frame.filter(pl.col("position") == "outside").head(_SAMPLE_ROWS)
        return tuple(
            f"{row['asset_id']}/{row['quantity']} {row['time']:%d %b %H:%M}Z = {row['value']:g}"
            for row in rows.iter_rows(named=True)
        )
    values = outcome.result.get("partial_unexpected_list") or []
    return tuple(str(value).replace("|", "/") for value in values[:_SAMPLE_ROWS])


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
