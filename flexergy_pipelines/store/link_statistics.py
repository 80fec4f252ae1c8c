"""How well the links to field devices work: one row a device and minute, counts of that minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.frames import TIME, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from datetime import datetime

    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One link in one period.

    Attributes
    ----------
    time : datetime
        End of the period.
    requests, failures, retries, reconnects, bytes_sent, bytes_received : int
        Counts of the period.
    latency_s, worst_latency_s : float or None
        Mean and longest answer time [s]; None without an answer.
    last_error : str
        Last failure of the period, empty when there was none.
    signal_dbm : float or None
        Strength of the modem's signal at the end of the period, where the device tells it.
    """

    device_id: str
    time: datetime
    connected: bool
    requests: int
    failures: int
    retries: int
    reconnects: int
    bytes_sent: int
    bytes_received: int
    latency_s: float | None
    worst_latency_s: float | None
    protocol: str
    network_type: str | None
    last_error: str
    signal_dbm: float | None = None


_NAMES: Final = [field.name for field in fields(LinkRow)]
_SCHEMA: Final = {
    "device_id": pl.String,
    "time": TIME,
    "connected": pl.Boolean,
    **dict.fromkeys(("requests", "failures", "retries", "reconnects", "bytes_sent", "bytes_received"), pl.Int64),
    "latency_s": pl.Float64,
    "worst_latency_s": pl.Float64,
    "protocol": pl.String,
    "network_type": pl.String,
    "last_error": pl.String,
    "signal_dbm": pl.Float64,
}


def write_link_statistics(db: TenantStore, site_id: str, rows: Sequence[LinkRow]) -> int:
    """Store rows; one of the same device and time is replaced. Returns how many there were."""
    for row in rows:
        utc(row.time, f"time of {row.device_id}")
    if not rows:
        return 0
    columns, marks = ", ".join(["site_id", *_NAMES]), ", ".join(["%s"] * (1 + len(_NAMES)))
    changes = ", ".join(f"{name} = excluded.{name}" for name in _NAMES[2:])
    with db.begin() as connection:
        require_site(connection, site_id)
        connection.exec_driver_sql(
            f"INSERT INTO link_statistics ({columns}) VALUES ({marks}) "  # noqa: S608 - names of this module
            f"ON CONFLICT (tenant_id, site_id, device_id, time) DO UPDATE SET {changes}",
            [(site_id, *astuple(row)) for row in rows],
        )
    return len(rows)


def read_link_statistics(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows whose time is in start..end, by device and time; columns as the attributes of `LinkRow`."""
    first, last = period(start, end)
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT {', '.join(_NAMES)} FROM link_statistics "  # noqa: S608 - names of this module
            "WHERE site_id = %s AND time > %s AND time <= %s ORDER BY device_id, time",
            (site_id, first, last),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)


def link_summary(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Each link over start..end.

    Returns
    -------
    pl.DataFrame
        device_id, protocol, network_type, connected (at the end), requests, failures, success (share of requests
        answered, null without any), retries, reconnects, bytes_sent, bytes_received, latency_s (weighted by requests),
        worst_latency_s, last_error (newest), signal_dbm (newest), weakest_signal_dbm, seen (time of the newest row).
    """
    counts = ("requests", "failures", "retries", "reconnects", "bytes_sent", "bytes_received")
    answered = pl.col("requests") - pl.col("failures")
    return (
        read_link_statistics(db, site_id, start, end)
        .group_by("device_id", maintain_order=True)
        .agg(
            pl.col("protocol", "network_type", "connected").last(),
            *(pl.col(name).sum() for name in counts),
            latency_s=(pl.col("latency_s") * answered).sum() / answered.filter(pl.col("latency_s").is_not_null()).sum(),
            worst_latency_s=pl.col("worst_latency_s").max(),
            last_error=pl.col("last_error").filter(pl.col("last_error") != "").last(),
            signal_dbm=pl.col("signal_dbm").drop_nulls().last(),
            weakest_signal_dbm=pl.col("signal_dbm").min(),
            seen=pl.col("time").last(),
        )
        .with_columns(
            success=pl.when(pl.col("requests") > 0).then(1 - pl.col("failures") / pl.col("requests")),
            latency_s=pl.col("latency_s").fill_nan(None),
        )
    )
