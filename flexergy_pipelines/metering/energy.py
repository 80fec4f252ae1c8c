"""Energy of each quarter of an hour: from the meter's registers where it has any, else from its cleansed power.

A register is read at the bounds of the intervals (linear between readings at most 20 minutes apart); its increments
count every change of direction within an interval, which a mean power cannot. Where it was not read, began anew or
jumped, the cleansed mean power stands in. Intervals are quarters of an hour of UTC, so a local day has 92, 96 or 100.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

Values = NDArray[np.float64]

STEP: Final = timedelta(minutes=15)
HOURS: Final = STEP / timedelta(hours=1)
POWER, REGISTER = 0, 1
"""Basis of a value: integrated mean power, or increments of the meter's registers."""
LONGEST_BRIDGE: Final = timedelta(minutes=20)
_REGISTERS: Final = {"import_energy_kwh": "forward", "export_energy_kwh": "reverse"}
_TIME: Final = pl.Datetime("us", "UTC")
_QUARTERS_AN_HOUR: Final = 4


def interval_energy(
    power: pl.DataFrame,
    registers: dict[str, pl.DataFrame],
    start: datetime,
    end: datetime,
    *,
    largest_kw: float,
) -> pl.DataFrame:
    """Energy of the quarters of an hour of one asset.

    Parameters
    ----------
    power : pl.DataFrame
        Cleansed mean power ``time`` (start), ``value`` [kW, positive in the asset's own direction], ``flag`` (null
        where measured).
    registers : dict
        ``forward`` and ``reverse`` → raw readings ``time``, ``value`` [kWh]; both or none.
    start, end : datetime
        Whole quarters of an hour, aware.
    largest_kw : float
        Power above which an increment is a jump of the register [kW].

    Returns
    -------
    pl.DataFrame
        time, forward_kwh, reverse_kwh (null: unknown), basis (`POWER` or `REGISTER`), estimated (whether the power that
        stands in was itself estimated).
    """
    times = pl.datetime_range(start, end, STEP, closed="left", eager=True, time_unit="us", time_zone="UTC")
    known = pl.DataFrame({"time": times}).join(power, on="time", how="left", maintain_order="left")
    kw = known["value"].fill_null(np.nan).to_numpy()
    forward, reverse = np.maximum(kw, 0.0) * HOURS, np.maximum(-kw, 0.0) * HOURS
    counted = np.zeros(len(times), dtype=bool)
    if set(registers) == {"forward", "reverse"}:
        up, down = (_increments(registers[name], times, largest_kw) for name in ("forward", "reverse"))
        counted = np.isfinite(up) & np.isfinite(down)
        forward, reverse = np.where(counted, up, forward), np.where(counted, down, reverse)
    return pl.DataFrame(
        {
            "time": times,
            "forward_kwh": pl.Series(forward).fill_nan(None),
            "reverse_kwh": pl.Series(reverse).fill_nan(None),
            "basis": pl.Series(np.where(counted, REGISTER, POWER), dtype=pl.Int16),
            "estimated": known["flag"].is_not_null().to_numpy() & ~counted,
        }
    )


def _increments(register: pl.DataFrame, times: pl.Series, largest_kw: float) -> Values:
    """What a register counted in each interval [kWh]; NaN where it cannot be told."""
    rows = register.drop_nulls("value").sort("time")
    if rows.height < 2 or times.is_empty():
        return np.full(len(times), np.nan)
    at = rows["time"].to_physical().to_numpy()
    step = STEP // timedelta(microseconds=1)
    bounds = np.append(times.to_physical().to_numpy(), times.to_physical()[-1] + step)
    values = rows["value"].to_numpy()
    after = np.searchsorted(at, bounds, side="left")
    inside = (after < at.size) & ((after > 0) | (at[np.minimum(after, at.size - 1)] == bounds))
    after = np.clip(after, 0, at.size - 1)
    exact = at[after] == bounds
    before = np.where(exact, after, np.maximum(after - 1, 0))
    near = at[after] - at[before] <= LONGEST_BRIDGE // timedelta(microseconds=1)
    span = np.maximum(at[after] - at[before], 1)
    level = values[before] + (values[after] - values[before]) * (bounds - at[before]) / span
    # A register that falls between two readings began anew; nothing between them can be told.
    level = np.where(inside & near & (values[after] >= values[before]), level, np.nan)
    counted = np.diff(level)
    return np.where((counted >= 0) & (counted <= largest_kw * HOURS), counted, np.nan)


def energy_of_site(db: TenantStore, site_id: str, start: datetime, end: datetime) -> int:
    """Compute and store the energy of every asset of a site for the quarters in [start, end).

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    start, end : datetime
        Aware; rounded down to whole quarters.

    Returns
    -------
    int
        Rows that were new or changed.
    """
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.energy import write_energy
    from flexergy_pipelines.store.readings import read_readings
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    start, end = _floor(start), _floor(end)
    points = {(point.asset_id, point.quantity): point for point in site.points() if not point.writable}
    powers = [key for key in points if key[1] == "active_power_kw"]
    counters = [key for key in points if key[1] in _REGISTERS]
    clean = read_clean(db, site_id, start, end, powers).partition_by("asset_id", as_dict=True)
    raw = read_readings(db, site_id, start - LONGEST_BRIDGE, end + LONGEST_BRIDGE, counters) if counters else None
    parts = []
    for asset_id, quantity in powers:
        own = raw.filter(pl.col("asset_id") == asset_id) if raw is not None else None
        registers = (
            {
                _REGISTERS[str(name)]: part.filter(pl.col("quality").is_in([0, 4]))
                for (name,), part in own.partition_by("quantity", as_dict=True).items()
            }
            if own is not None
            else {}
        )
        power = clean.get((asset_id,))
        if power is None and not registers:
            continue
        frame = interval_energy(
            power.select("time", "value", "flag") if power is not None else _nothing(),
            registers, start, end, largest_kw=max(abs(points[asset_id, quantity].minimum),
                                                  abs(points[asset_id, quantity].maximum)),
        )  # fmt: skip
        parts.append(frame.select(pl.lit(asset_id).alias("asset_id"), pl.all()))
    return write_energy(db, site_id, pl.concat(parts)) if parts else 0


def energy_per(energy: pl.DataFrame, every: str, time_zone: str) -> pl.DataFrame:
    """Energy of longer periods of local time; nothing is lost or counted twice on days of 23 or 25 hours.

    Parameters
    ----------
    energy : pl.DataFrame
        As `read_energy` gives it.
    every : str
        ``1h``, ``1d``, ``1mo`` or ``1y`` of the local calendar.
    time_zone : str
        IANA name.

    Returns
    -------
    pl.DataFrame
        asset_id, time (start of the period, UTC), forward_kwh, reverse_kwh (sums of what is known; null when nothing
        is), known (intervals that are), intervals (that the period has), estimated (of those known).
    """
    local = pl.col("time").dt.convert_time_zone(time_zone)
    start = local.dt.truncate(every).alias("start")
    sums = (
        energy.with_columns(start)
        .group_by("asset_id", "start", maintain_order=True)
        .agg(
            *(
                pl.when(pl.col(name).is_not_null().any()).then(pl.col(name).sum()).alias(name)
                for name in ("forward_kwh", "reverse_kwh")
            ),
            pl.col("forward_kwh").count().alias("known"),
            pl.col("estimated").sum().alias("estimated"),
        )
    )
    length = pl.col("start").dt.offset_by(every) - pl.col("start")
    quarters = (length.dt.total_minutes() * _QUARTERS_AN_HOUR // 60).alias("intervals")
    return (
        sums.with_columns(quarters)
        .with_columns(pl.col("start").dt.convert_time_zone("UTC").alias("time"))
        .select("asset_id", "time", "forward_kwh", "reverse_kwh", "known", "intervals", "estimated")
        .sort("asset_id", "time")
    )


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"time": _TIME, "value": pl.Float64, "flag": pl.String})


def _floor(time: datetime) -> datetime:
    time = time.astimezone(UTC)
    return time - timedelta(seconds=time.timestamp() % STEP.total_seconds())
