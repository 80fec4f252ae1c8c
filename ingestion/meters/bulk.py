"""Bulk reading: a list of meters read at once, each with its tries, and how well that went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.logs import get_logger
from ingestion.meters.device import DeviceError, DeviceReading, read_device, readable_points

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Device, Site
    from flexergy_pipelines.store import TenantStore

SOURCE = "bulk"
_TIME = pl.Datetime("us", "UTC")
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BulkRules:
    """How a job reads.

    Attributes
    ----------
    attempts : int
        Tries of each meter.
    timeout_s : float
        Longest wait for one answer [s].
    parallel : int
        Meters read at the same time.
    pause_s : float
        Wait before the second try, doubled before each further one [s].
    """

    attempts: int = 3
    timeout_s: float = 1.0
    parallel: int = 16
    pause_s: float = 0.2


@dataclass(frozen=True, slots=True)
class MeterOutcome:
    """What became of one meter.

    Attributes
    ----------
    meter : str
        Its id.
    concentrator : str or None
        Data concentrator it hangs on.
    success : bool
        Whether it answered.
    attempts : int
        Tries it took.
    latency_s : float or None
        Time of the try that succeeded [s].
    expected, received : int
        Values asked for, and values that came and were not "no value".
    error : str or None
        Why it failed.
    """

    meter: str
    concentrator: str | None
    success: bool
    attempts: int
    latency_s: float | None
    expected: int
    received: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BulkReport:
    """Statistics of one job.

    Attributes
    ----------
    outcomes : tuple of MeterOutcome
        One for each meter, in the order asked.
    written : int
        Readings stored.
    """

    outcomes: tuple[MeterOutcome, ...]
    written: int

    @property
    def success_rate(self) -> float | None:
        """Share of meters that answered; None when none was asked."""
        return sum(o.success for o in self.outcomes) / len(self.outcomes) if self.outcomes else None

    def by_concentrator(self) -> pl.DataFrame:
        """``concentrator, meters, success_rate, completeness, mean_latency_s, attempts``; "" for meters with none."""
        rows = [
            (o.concentrator or "", o.success, o.received, o.expected, o.latency_s, o.attempts) for o in self.outcomes
        ]
        schema = {
            "concentrator": pl.String, "success": pl.Boolean, "received": pl.Int64, "expected": pl.Int64,
            "latency_s": pl.Float64, "attempts": pl.Int64,
        }  # fmt: skip
        return (
            pl.DataFrame(rows, schema=schema, orient="row")
            .group_by("concentrator")
            .agg(
                pl.len().alias("meters"),
                pl.col("success").mean().alias("success_rate"),
                (pl.col("received").sum() / pl.col("expected").sum()).alias("completeness"),
                pl.col("latency_s").mean().alias("mean_latency_s"),
                pl.col("attempts").sum(),
            )
            .sort("concentrator")
        )


def read_in_bulk(
    db: TenantStore,
    site: Site,
    now: datetime,
    addresses: Mapping[str, str],
    *,
    meters: Sequence[str] | None = None,
    rules: BulkRules | None = None,
    progress: Callable[[MeterOutcome, int, int], None] | None = None,
) -> BulkReport:
    """Read meters of a site themselves and store what they say.

    Parameters
    ----------
    db : TenantStore
        Where readings go; those of meters that answered are stored whatever became of the others.
    site : Site
        Whose meters.
    now : datetime
        Stamp of the values, aware.
    addresses : mapping
        Published addresses ``<site>/<meter>`` → ``host:port``; a meter without one is at its configured address.
    meters : sequence of str, optional
        Ids of the meters; all of the site when left out.
    rules : BulkRules, optional
        Tries, time limit and how many at once.
    progress : callable, optional
        Told each outcome, how many are done and how many there are.

    Raises
    ------
    ValueError
        When a meter is not one of the site.
    """
    from flexergy_pipelines.store.readings import write_readings

    known = {meter.id: meter for meter in site.meters}
    unknown = [name for name in meters or () if name not in known]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no meter of {site.id}; meters: {', '.join(known)}")
    wanted = list(known) if meters is None else list(dict.fromkeys(meters))
    devices = {device.id: device for device in site.devices() if device.id in wanted}
    found = asyncio.run(_read_all([devices[name] for name in wanted], addresses, rules or BulkRules(), progress, known))
    rows = [
        (asset, quantity, now, value)
        for _, reading in found
        if reading is not None
        for (asset, quantity), value in reading.values.items()
        if value is not None
    ]
    schema = {"asset_id": pl.String, "quantity": pl.String, "time": _TIME, "value": pl.Float64}
    written = write_readings(db, site.id, pl.DataFrame(rows, schema=schema, orient="row"), SOURCE).written
    report = BulkReport(tuple(outcome for outcome, _ in found), written)
    _log.info("bulk reading done", site=site.id, meters=len(found), success_rate=report.success_rate, written=written)
    return report


def address_of(device: Device, addresses: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of a device: as published, else as configured."""
    published = addresses.get(device.key)
    if published is None:
        return device.connection.host, device.connection.port
    host, _, port = published.rpartition(":")
    return host, int(port)


async def _read_all(
    devices: Sequence[Device],
    addresses: Mapping[str, str],
    rules: BulkRules,
    progress: Callable[[MeterOutcome, int, int], None] | None,
    known: Mapping[str, object],
) -> list[tuple[MeterOutcome, DeviceReading | None]]:
    free = asyncio.Semaphore(rules.parallel)
    done = 0

    async def one(device: Device) -> tuple[MeterOutcome, DeviceReading | None]:
        nonlocal done
        concentrator = getattr(known[device.id], "concentrator", None)
        async with free:
            outcome, reading = await _read_one(device, addresses, rules, concentrator)
        done += 1
        if progress is not None:
            progress(outcome, done, len(devices))
        return outcome, reading

    return list(await asyncio.gather(*(one(device) for device in devices)))


async def _read_one(
    device: Device, addresses: Mapping[str, str], rules: BulkRules, concentrator: str | None
) -> tuple[MeterOutcome, DeviceReading | None]:
    error = ""
    expected = 0
    for attempt in range(1, rules.attempts + 1):
        try:
            expected = len(readable_points(device))
            reading = await read_device(device, *address_of(device, addresses), rules.timeout_s)
        except DeviceError as failure:
            error = str(failure)
            if expected == 0:
                return MeterOutcome(device.id, concentrator, False, attempt, None, 0, 0, error), None
            if attempt < rules.attempts:
                await asyncio.sleep(rules.pause_s * 2 ** (attempt - 1))
            continue
        received = sum(value is not None for value in reading.values.values())
        outcome = MeterOutcome(device.id, concentrator, True, attempt, reading.latency_s, expected, received)
        return outcome, reading
    return MeterOutcome(device.id, concentrator, False, rules.attempts, None, expected, 0, error), None
