"""Ancillary services on the market: what holding and giving power is paid, and what was sold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from flexergy_pipelines.store.commands import request_replan
from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

PRODUCTS: Final = ("fcr", "afrr", "mfrr", "capacity", "congestion", "reactive", "demand_response")
DIRECTIONS: Final = ("up", "down", "both")
_PRICES: Final = {
    "product": Column("text"),
    "direction": Column("text"),
    "time": Column("time"),
    "resolution_minutes": Column("integer"),
    "capacity_price_eur_per_kw_h": Column("number", nullable=True),
    "activation_price_eur_per_kwh": Column("number", nullable=True),
}
_SCHEMA: Final = {
    "product": pl.String,
    "direction": pl.String,
    "time": TIME,
    "resolution_minutes": pl.Int64,
    "capacity_price_eur_per_kw_h": pl.Float64,
    "activation_price_eur_per_kwh": pl.Float64,
    "known_at": TIME,
}


@dataclass(frozen=True, slots=True)
class Transaction:
    """Something sold at a market that has to be delivered.

    Attributes
    ----------
    market, transaction_id : str
        Where, and its number there.
    product : str
        One of `PRODUCTS`.
    direction : {"up", "down", "both"}
        Up is more power into the grid.
    starts_at, ends_at : datetime
        When the power has to be held.
    power_kw : float
        How much.
    price_eur_per_kw_h : float
        Paid for a kilowatt held for an hour.
    received_at : datetime
        When we were told.
    """

    market: str
    transaction_id: str
    product: str
    direction: Literal["up", "down", "both"]
    starts_at: datetime
    ends_at: datetime
    power_kw: float
    price_eur_per_kw_h: float
    received_at: datetime


def write_ancillary_prices(db: TenantStore, site_id: str, frame: pl.DataFrame, known_at: datetime) -> int:
    """Store prices of ancillary services; where one changed, a new plan is asked for.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        Site that the prices hold for.
    frame : pl.DataFrame
        product, direction, time (start of the block), resolution_minutes, capacity_price_eur_per_kw_h,
        activation_price_eur_per_kwh.
    known_at : datetime
        When they became known.

    Returns
    -------
    int
        Rows stored; what was known before with the same values is not stored again.
    """
    what = f"ancillary prices of {site_id}"
    rows = conform(frame, _PRICES, what).unique(["product", "direction", "time"], keep="last", maintain_order=True)
    for column, allowed in (("product", PRODUCTS), ("direction", DIRECTIONS)):
        wrong = sorted(set(rows[column].to_list()) - set(allowed))
        if wrong:
            raise InvalidDataError(f"{what}: {column} '{wrong[0]}' is not one of {', '.join(allowed)}")
    if (rows["resolution_minutes"] <= 0).any():
        raise InvalidDataError(f"{what}: resolution_minutes must be above 0")
    if rows.is_empty():
        return 0
    keys = ["product", "direction", "time"]
    values = ["resolution_minutes", "capacity_price_eur_per_kw_h", "activation_price_eur_per_kwh"]
    first, last = rows["time"].min(), rows["time"].max()
    with db.begin() as connection:
        require_site(connection, site_id)
        held = connection.exec_driver_sql(
            "SELECT DISTINCT ON (product, direction, time) product, direction, time, resolution_minutes, "
            "capacity_price_eur_per_kw_h, activation_price_eur_per_kwh, known_at FROM ancillary_prices "
            "WHERE site_id = %s AND time BETWEEN %s AND %s ORDER BY product, direction, time, known_at DESC",
            (site_id, first, last),
        ).all()
        before = frame_of([tuple(row) for row in held], _SCHEMA).drop("known_at")
        fresh = rows.with_columns(pl.col("resolution_minutes").cast(pl.Int64)).join(
            before, on=[*keys, *values], how="anti", nulls_equal=True
        )
        if fresh.is_empty():
            return 0
        stored = staged_insert(
            connection,
            "ancillary_prices",
            fresh.with_columns(
                pl.lit(site_id).alias("site_id"), pl.lit(utc(known_at, "known_at")).cast(TIME).alias("known_at")
            ),
            "ON CONFLICT (tenant_id, site_id, product, direction, time, known_at) DO UPDATE SET "
            "resolution_minutes = excluded.resolution_minutes, "
            "capacity_price_eur_per_kw_h = excluded.capacity_price_eur_per_kw_h, "
            "activation_price_eur_per_kwh = excluded.activation_price_eur_per_kwh",
        )
        if not before.is_empty():
            request_replan(db, site_id, f"prices of {', '.join(sorted(set(fresh['product'].to_list())))} changed")
    return stored


def read_ancillary_prices(
    db: TenantStore, site_id: str, start: datetime, end: datetime, *, known_at: datetime | None = None
) -> pl.DataFrame:
    """Prices of blocks that touch start..end, as last known (at `known_at`): columns as written, and `known_at`."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (product, direction, time) product, direction, time, resolution_minutes, "
            "capacity_price_eur_per_kw_h, activation_price_eur_per_kwh, known_at FROM ancillary_prices "
            "WHERE site_id = %(site)s AND time < %(last)s "
            "AND time + resolution_minutes * interval '1 minute' > %(first)s "
            "AND coalesce(known_at <= %(known)s, true) ORDER BY product, direction, time, known_at DESC",
            {"site": site_id, "first": first, "last": last, "known": known_at},
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA).sort("product", "direction", "time")


def write_transactions(db: TenantStore, site_id: str, sold: Sequence[Transaction]) -> int:
    """Store what was sold, once each, and ask for a new plan where something is new.

    Raises
    ------
    InvalidDataError
        Unknown product or direction, a negative or infinite power, or an end that isn't after the start.
    """
    for one in sold:
        what = f"transaction {one.transaction_id} of {one.market}"
        if one.product not in PRODUCTS:
            raise InvalidDataError(f"{what}: product '{one.product}' is not one of {', '.join(PRODUCTS)}")
        if one.direction not in DIRECTIONS:
            raise InvalidDataError(f"{what}: direction '{one.direction}' is not one of {', '.join(DIRECTIONS)}")
        if not (math.isfinite(one.power_kw) and one.power_kw >= 0 and math.isfinite(one.price_eur_per_kw_h)):
            raise InvalidDataError(f"{what}: power_kw {one.power_kw} and its price must be finite, power at least 0")
        if utc(one.ends_at, "ends_at") <= utc(one.starts_at, "starts_at"):
            raise InvalidDataError(f"{what}: ends_at must be after starts_at")
    stored = 0
    with db.begin() as connection:
        require_site(connection, site_id)
        for one in sold:
            stored += connection.exec_driver_sql(
                "INSERT INTO market_transactions (site_id, market, transaction_id, product, direction, starts_at, "
                "ends_at, power_kw, price_eur_per_kw_h, received_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
                "ON CONFLICT (tenant_id, site_id, market, transaction_id) DO NOTHING",
                (site_id, one.market, one.transaction_id, one.product, one.direction, one.starts_at, one.ends_at,
                 one.power_kw, one.price_eur_per_kw_h, one.received_at),
            ).rowcount  # fmt: skip
        if stored:
            request_replan(db, site_id, f"{stored} new transaction(s) at the market")
    return stored


def read_transactions(db: TenantStore, site_id: str, start: datetime, end: datetime) -> list[Transaction]:
    """What was sold for times that touch start..end, by start."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT market, transaction_id, product, direction, starts_at, ends_at, power_kw, price_eur_per_kw_h, "
            "received_at FROM market_transactions WHERE site_id = %s AND starts_at < %s AND ends_at > %s "
            "ORDER BY starts_at, market, transaction_id",
            (site_id, last, first),
        ).all()
    return [Transaction(*row) for row in rows]
