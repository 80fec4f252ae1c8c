"""Accounted figures: each with its unit, the share of good data behind it, and what it is compared with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

PERIOD_KINDS: Final = ("day", "month", "year", "period", "training", "monitoring")
_COLUMNS: Final = {
    "period_kind": Column("text"),
    "period_start": Column("time"),
    "scope": Column("text"),
    "kpi": Column("text"),
    "value": Column("number", nullable=True),
    "unit": Column("text"),
    "coverage": Column("number", nullable=True),
    "reference": Column("text", nullable=True, optional=True),
}
_SCHEMA: Final = {
    "period_kind": pl.String,
    "period_start": TIME,
    "scope": pl.String,
    "kpi": pl.String,
    "value": pl.Float64,
    "unit": pl.String,
    "coverage": pl.Float64,
    "reference": pl.String,
}


def write_kpis(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Store figures; those of the same period, scope and name are replaced.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        period_kind (one of `PERIOD_KINDS`), period_start (local start of the period), scope ("site" or an
        asset's id), kpi, value (null: cannot be told), unit, coverage (0..1), reference (what it is compared with).

    Returns
    -------
    int
        Rows stored.
    """
    what = f"KPIs of {site_id}"
    keys = ["period_kind", "period_start", "scope", "kpi"]
    rows = conform(frame, _COLUMNS, what).unique(subset=keys, keep="last", maintain_order=True)
    strange = rows.filter(~pl.col("period_kind").is_in(list(PERIOD_KINDS)))
    if strange.height:
        raise InvalidDataError(
            f"{what}: period_kind '{strange['period_kind'][0]}' is not one of {', '.join(PERIOD_KINDS)}"
        )
    outside = rows.filter(~pl.col("coverage").is_between(0, 1))
    if outside.height:
        raise InvalidDataError(f"{what}: coverage {outside['coverage'][0]} of {outside['kpi'][0]} is outside 0 to 1")
    with db.begin() as connection:
        require_site(connection, site_id)
        return staged_insert(
            connection,
            "kpis",
            rows.with_columns(site_id=pl.lit(site_id)),
            "ON CONFLICT (tenant_id, site_id, period_kind, period_start, scope, kpi) DO UPDATE SET "
            "value = excluded.value, unit = excluded.unit, coverage = excluded.coverage, "
            "reference = excluded.reference, computed_at = clock_timestamp()",
        )


def read_kpis(
    db: TenantStore,
    site_id: str,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    period_kind: str | None = None,
    scope: str | None = None,
    kpi: str | None = None,
) -> pl.DataFrame:
    """Figures whose period starts in start <= t < end (default: all), by period, scope and name.

    Returns
    -------
    pl.DataFrame
        period_kind, period_start, scope, kpi, value, unit, coverage, reference.
    """
    first, last = start, end
    if start is not None and end is not None:
        first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT period_kind, period_start, scope, kpi, value, unit, coverage, reference FROM kpis "
            "WHERE site_id = %(site)s AND period_start >= coalesce(%(first)s, '-infinity'::timestamptz) "
            "AND period_start < coalesce(%(last)s, 'infinity'::timestamptz) "
            "AND coalesce(period_kind = %(kind)s, true) AND coalesce(scope = %(scope)s, true) "
            "AND coalesce(kpi = %(kpi)s, true) ORDER BY 1, 2, 3, 4",
            {"site": site_id, "first": first, "last": last, "kind": period_kind, "scope": scope, "kpi": kpi},
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
