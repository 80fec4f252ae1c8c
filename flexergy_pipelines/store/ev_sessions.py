"""Charging sessions of electric vehicles: arrival, departure, energy, and state of charge where the car tells it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

STILL_THERE: Final = timedelta(minutes=15)
"""How far ahead the departure of a session that goes on is written; it is renewed until the car has left."""

_COLUMNS: Final = {
    "asset_id": Column("text"),
    "charge_point": Column("text"),
    "session_id": Column("text"),
    "arrival": Column("time"),
    "departure": Column("time"),
    "energy_kwh": Column("number"),
    "max_power_kw": Column("number", nullable=True, optional=True),
    "soc_start": Column("number", nullable=True, optional=True),
    "soc_end": Column("number", nullable=True, optional=True),
}
_KEYS: Final = ("asset_id", "charge_point", "session_id")
_SCHEMA: Final = {
    "asset_id": pl.String,
    "charge_point": pl.String,
    "session_id": pl.String,
    "arrival": TIME,
    "departure": TIME,
    "energy_kwh": pl.Float64,
    "max_power_kw": pl.Float64,
    "soc_start": pl.Float64,
    "soc_end": pl.Float64,
}


def write_sessions(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Store charging sessions; one that is known already is replaced.

    A session that goes on is stored with a departure ahead of now (by `STILL_THERE`, or as its driver told it) and the
    energy so far, and again as it goes on and when it has ended.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        asset_id (the charging manager's), charge_point, session_id (unique at its charge point), arrival, departure,
        energy_kwh, and where known max_power_kw, soc_start, soc_end (0..1).

    Returns
    -------
    int
        Rows that were stored.

    Raises
    ------
    InvalidDataError
        A departure that is not after the arrival, negative energy, or an SoC outside 0 to 1.
    """
    what = f"charging sessions of {site_id}"
    rows = conform(frame, _COLUMNS, what).unique(subset=list(_KEYS), keep="last", maintain_order=True)
    checks = (
        (pl.col("departure") <= pl.col("arrival"), "departure", "is not after its arrival"),
        (pl.col("energy_kwh") < 0, "energy_kwh", "is negative"),
        (pl.col("max_power_kw") <= 0, "max_power_kw", "is not above 0"),
        (~pl.col("soc_start").is_between(0, 1), "soc_start", "is outside 0 to 1"),
        (~pl.col("soc_end").is_between(0, 1), "soc_end", "is outside 0 to 1"),
    )
    for wrong, name, problem in checks:
        found = rows.filter(wrong)
        if found.height:
            session = f"session {found['session_id'][0]} at {found['charge_point'][0]}"
            raise InvalidDataError(f"{what}: {session}: {name} {found[name][0]} {problem}")
    others = [name for name in _COLUMNS if name not in _KEYS]
    with db.begin() as connection:
        require_site(connection, site_id)
        return staged_insert(
            connection,
            "ev_sessions",
            rows.with_columns(site_id=pl.lit(site_id)),
            "ON CONFLICT (tenant_id, site_id, asset_id, charge_point, session_id) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in others),
        )


def read_sessions(
    db: TenantStore, site_id: str, start: datetime, end: datetime, asset_id: str | None = None
) -> pl.DataFrame:
    """Sessions with start <= arrival < end, by asset, charge point and arrival; a departure ahead says it goes on.

    Returns
    -------
    pl.DataFrame
        asset_id, charge_point, session_id, arrival, departure, energy_kwh, max_power_kw, soc_start, soc_end.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT asset_id, charge_point, session_id, arrival, departure, energy_kwh, max_power_kw, soc_start, "
            "soc_end FROM ev_sessions WHERE site_id = %(site)s AND arrival >= %(first)s AND arrival < %(last)s "
            "AND coalesce(asset_id = %(asset)s, true) ORDER BY asset_id, charge_point, arrival",
            {"site": site_id, "first": first, "last": last, "asset": asset_id},
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
