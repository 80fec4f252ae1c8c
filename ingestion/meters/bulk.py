"""Bulk reading: a list of meters read at once, each with its tries, and how well that went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.logs import get_logger
from ingestion.meters.device import DeviceError, UnreadableError, read_device, readable_points
from ingestion.meters.dlms_device import INSTANT, ProfileRow, read_instant, read_profile

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from flexergy_pipelines.grid import Device, Site
    from flexergy_pipelines.metering.keys import Credentials
    from flexergy_pipelines.store import TenantStore
    from flexergy_pipelines.store.bulk import MeterRead

SOURCE = "bulk"
QUARTER_S = 900
PROFILE_OVERLAP = timedelta(hours=2)
"""A meter may close an interval late: this much of what was read before is asked for once more."""
ReadingRow = tuple[str, str, datetime, float, int, int]
"""Asset, quantity, time, value, quality, and the length of the interval it stands for [s]; 0 for an instant."""
_POINT = ["asset_id", "quantity"]
_READINGS = {
    "asset_id": pl.String,
    "quantity": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "value": pl.Float64,
    "quality": pl.Int16,
    "period_s": pl.Int64,
}
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
    reports : tuple of str
        ``instant`` (present values) and ``profile`` (load profile since the job's last success; DLMS meters).
    first_days : float
        How far back the first load profile of a job reaches [d].
    """

    attempts: int = 3
    timeout_s: float = 1.0
    parallel: int = 16
    pause_s: float = 0.2
    reports: tuple[str, ...] = ("instant", "profile")
    first_days: float = 1.0


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

    def as_read(self, at: datetime) -> MeterRead:
        """The row that the statistics keep."""
        from flexergy_pipelines.store.bulk import MeterRead

        return MeterRead(
            self.meter, self.concentrator, at, self.success, self.attempts, self.latency_s, self.expected,
            self.received, self.error,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeterTask:
    """One meter to be read: where it is, how it is spoken to, and since when its load profile is wanted."""

    device: Device
    concentrator: str | None
    host: str
    port: int
    credentials: Credentials
    since: datetime
    now: datetime
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class MeterValues:
    """What became of one meter, and the rows it gave."""

    outcome: MeterOutcome
    rows: tuple[ReadingRow, ...] = ()


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
    job: str = "on request",
    credentials: Callable[[Device], Credentials] | None = None,
    progress: Callable[[MeterOutcome, int, int], None] | None = None,
) -> BulkReport:
    """Read meters of a site themselves and store what they say, and how it went.

    Parameters
    ----------
    db : TenantStore
        Where readings go; those of meters that answered are stored whatever became of the others.
    site : Site
        Whose meters.
    now : datetime
        Stamp of present values, aware.
    addresses : mapping
        Published addresses ``<site>/<meter>`` → ``host:port``; a meter without one is at its configured address.
    meters : sequence of str, optional
        Ids of the meters; all of the site when left out.
    rules : BulkRules, optional
        What is asked for, tries, time limit and how many at once.
    job : str
        Name under which the statistics are kept, and by which the load profile goes on where it ended.
    credentials : callable, optional
        Gives the credentials of a device; none when left out.
    progress : callable, optional
        Told each outcome, how many are done and how many there are.

    Raises
    ------
    ValueError
        When a meter is not one of the site.
    """
    from flexergy_pipelines.metering.keys import Credentials
    from flexergy_pipelines.store.bulk import last_successes, write_meter_reads

    known = {meter.id: meter for meter in site.meters}
    unknown = [name for name in meters or () if name not in known]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no meter of {site.id}; meters: {', '.join(known)}")
    wanted = list(known) if meters is None else list(dict.fromkeys(meters))
    devices = {device.id: device for device in site.devices() if device.id in wanted}
    rules = rules or BulkRules()
    done = last_successes(db, site.id, job)
    tasks = [
        MeterTask(
            devices[name],
            known[name].concentrator,
            *address_of(devices[name], addresses),
            credentials(devices[name]) if credentials is not None else Credentials(),
            done.get(name, now - timedelta(days=rules.first_days)) - PROFILE_OVERLAP,
            now,
            devices[name].connection.zone(site.zone),
        )
        for name in wanted
    ]
    found = asyncio.run(_read_all(tasks, rules, progress))
    written = sum(_store(db, site, reading) for reading in found)
    outcomes = tuple(reading.outcome for reading in found)
    write_meter_reads(db, site.id, job, [outcome.as_read(now) for outcome in outcomes])
    report = BulkReport(outcomes, written)
    _log.info("bulk reading done", site=site.id, meters=len(found), success_rate=report.success_rate, written=written)
    return report


def _store(db: TenantStore, site: Site, reading: MeterValues) -> int:
    """Store one meter's values; those of its profile only where nothing was measured otherwise."""
    from flexergy_pipelines.store.readings import write_readings

    frame = pl.DataFrame(reading.rows, schema=_READINGS, orient="row")
    points = pl.DataFrame(
        [(p.asset_id, p.quantity) for p in site.points() if not p.writable],
        schema={"asset_id": pl.String, "quantity": pl.String},
        orient="row",
    )
    instant = frame.filter(pl.col("period_s") == 0).drop("period_s")
    profile = _where_nothing_else(db, site.id, frame.filter(pl.col("period_s") > 0).join(points, on=_POINT, how="semi"))
    rows = pl.concat([instant.join(points, on=_POINT, how="semi"), profile])
    rows = rows.unique(subset=[*_POINT, "time"], keep="first", maintain_order=True)
    return write_readings(db, site.id, rows, SOURCE).written


def _where_nothing_else(db: TenantStore, site_id: str, profile: pl.DataFrame) -> pl.DataFrame:
    """Intervals of a profile in which nothing was measured but, at most, the same profile read before."""
    from flexergy_pipelines.store.readings import read_readings

    if profile.is_empty():
        return profile.drop("period_s")
    length = timedelta(seconds=int(profile["period_s"][0]))
    first, last = profile["time"].min(), profile["time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return profile.drop("period_s").clear()
    points = list(profile.select(_POINT).unique().iter_rows())
    there = read_readings(db, site_id, first, last + length, points).filter(pl.col("quality") == 0)
    begin = pl.col("time").dt.truncate(f"{profile['period_s'][0]}s")
    taken = there.filter(pl.col("time") != begin).select(*_POINT, begin.alias("time")).unique()
    return profile.drop("period_s").join(taken, on=[*_POINT, "time"], how="anti", maintain_order="left")


def address_of(device: Device, addresses: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of a device: as published, else as configured."""
    published = addresses.get(device.key)
    if published is None:
        return device.connection.host, device.connection.port
    host, _, port = published.rpartition(":")
    return host, int(port)


def expected_values(device: Device) -> int:
    """Values a meter is asked for at one instant."""
    if device.connection.protocol == "dlms":
        return len(INSTANT)
    try:
        return len(readable_points(device))
    except DeviceError:
        return 0


async def _read_all(
    tasks: Sequence[MeterTask], rules: BulkRules, progress: Callable[[MeterOutcome, int, int], None] | None
) -> list[MeterValues]:
    free = asyncio.Semaphore(rules.parallel)
    done = 0

    async def one(task: MeterTask) -> MeterValues:
        nonlocal done
        async with free:
            reading = await _read_one(task, rules)
        done += 1
        if progress is not None:
            progress(reading.outcome, done, len(tasks))
        return reading

    return list(await asyncio.gather(*(one(task) for task in tasks)))


async def _read_one(task: MeterTask, rules: BulkRules) -> MeterValues:
    error = ""
    for attempt in range(1, rules.attempts + 1):
        try:
            values = await _ask(task, rules)
        except DeviceError as failure:
            error = str(failure)
            if isinstance(failure, UnreadableError):
                return MeterValues(MeterOutcome(task.device.id, task.concentrator, False, attempt, None, 0, 0, error))
            if attempt < rules.attempts:
                await asyncio.sleep(rules.pause_s * 2 ** (attempt - 1))
            continue
        rows, expected, received, latency_s = values
        outcome = MeterOutcome(task.device.id, task.concentrator, True, attempt, latency_s, expected, received)
        return MeterValues(outcome, rows)
    expected = expected_values(task.device)
    return MeterValues(MeterOutcome(task.device.id, task.concentrator, False, rules.attempts, None, expected, 0, error))


async def _ask(task: MeterTask, rules: BulkRules) -> tuple[tuple[ReadingRow, ...], int, int, float]:
    """Rows, values expected and received, and latency of one try."""
    dlms = task.device.connection.protocol == "dlms"
    rows: list[ReadingRow] = []
    expected, received, latency_s = 0, 0, 0.0
    if "instant" in rules.reports or not dlms:
        if dlms:
            reading = await read_instant(task.device, task.host, task.port, rules.timeout_s, task.credentials)
        else:
            reading = await read_device(task.device, task.host, task.port, rules.timeout_s)
        known = [(key, value) for key, value in reading.values.items() if value is not None]
        rows += [(asset, quantity, task.now, value, 0, 0) for (asset, quantity), value in known]
        expected, received, latency_s = len(reading.values), len(known), reading.latency_s
    if dlms and "profile" in rules.reports:
        profile = await read_profile(
            task.device, task.host, task.port, rules.timeout_s, task.credentials, start=task.since, end=task.now,
            zone=task.zone,
        )  # fmt: skip
        rows += [(c.asset_id, c.quantity, c.time, c.value, c.quality, 0) for c in profile.counters]
        rows += [row for one in profile.rows for row in _quarters(one, profile.period_s)]
        expected, received = expected + profile.expected, received + profile.received
        latency_s += profile.latency_s
    return tuple(rows), expected, received, latency_s


def _quarters(row: ProfileRow, period_s: int) -> list[ReadingRow]:
    """An interval longer than a quarter of an hour as its quarters, all with its mean."""
    step = min(period_s, QUARTER_S)
    return [
        (row.asset_id, row.quantity, row.time + timedelta(seconds=n * step), row.value, row.quality, step)
        for n in range(period_s // step)
    ]
