"""What drivers and the store have to tell each other beside values: statistics, found charge points, access, sessions.

It works in a task of its own and in a thread while it waits for the store; a store that is away only makes it late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from control_loop.image import GOOD, ProcessImage
from control_loop.protocols.base import Driver
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_journal import ChargingTransaction
from control_loop.protocols.ocpp_session import time_of
from flexergy_pipelines.grid import Connection, Site
from flexergy_pipelines.link_trace import trace_files
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import StoreError
from flexergy_pipelines.store.link_statistics import LinkRow

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

STATISTICS_S = 60.0
ACCESS_S = 5.0
TRACE_S = 0.2
MOST_SESSIONS = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN_ERROR = 300
SIGNAL = "signal_dbm"
"""Quantity by which a device's template says how strong its modem's signal is."""


@dataclass(frozen=True, slots=True)
class _Counts:
    requests: int = 0
    failures: int = 0
    retries: int = 0
    reconnects: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class FieldClerk:
    """The clerk of one site.

    Parameters
    ----------
    site : Site
        The site.
    drivers : sequence of Driver
        Its links.
    settings : Settings
        Where traces are asked for.
    db : TenantStore
        The store.
    image : ProcessImage
        What was read last, for the strength of signals.
    """

    def __init__(
        self, site: Site, drivers: Sequence[Driver], settings: Settings, db: TenantStore, image: ProcessImage
    ) -> None:
        self._site_id = site.id
        self._drivers = {driver.device: driver for driver in drivers}
        self._connections: Mapping[str, Connection] = {device.id: device.connection for device in site.devices()}
        self._settings = settings
        self._db = db
        self._image = image
        self._before: dict[str, _Counts] = {}
        self._renewed: dict[int, datetime] = {}
        self._log = get_logger(__name__).bind(site=site.id)

    async def run(self, stop: asyncio.Event) -> None:
        """Do its rounds until `stop` is set."""
        await asyncio.gather(
            self._each(TRACE_S, stop, self.trace),
            self._each(ACCESS_S, stop, self.exchange),
            self._each(STATISTICS_S, stop, self.report),
        )

    async def _each(self, seconds: float, stop: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds)
            try:
                await work()
            except (StoreError, OSError, ValueError) as error:
                self._log.warning("the field's records wait", error=str(error))

    async def report(self) -> None:
        """Store how each link worked since the last time."""
        from flexergy_pipelines.store.link_statistics import write_link_statistics

        rows = self.statistics(datetime.now(UTC))
        await asyncio.to_thread(write_link_statistics, self._db, self._site_id, rows)

    def statistics(self, now: datetime) -> list[LinkRow]:
        """How each link worked since this was last asked."""
        rows: list[LinkRow] = []
        for device, driver in self._drivers.items():
            health, connection = driver.health, self._connections[device]
            total = _Counts(
                health.requests, health.failures, health.retries, health.reconnects, health.bytes_sent,
                health.bytes_received,
            )  # fmt: skip
            before = self._before.get(device, _Counts())
            self._before[device] = total
            answered = health.worst_latency_s > 0.0
            rows.append(
                LinkRow(
                    device,
                    now,
                    health.connected,
                    total.requests - before.requests,
                    total.failures - before.failures,
                    total.retries - before.retries,
                    total.reconnects - before.reconnects,
                    total.bytes_sent - before.bytes_sent,
                    total.bytes_received - before.bytes_received,
                    health.latency_s if answered else None,
                    health.worst_latency_s if answered else None,
                    connection.protocol,
                    connection.network_type or ("serial" if connection.serial is not None else None),
                    health.last_error[:SHOWN_ERROR] if total.failures > before.failures else "",
                    self._signal_dbm(driver, now),
                )
            )
            health.worst_latency_s = 0.0
        return rows

    def _signal_dbm(self, driver: Driver, now: datetime) -> float | None:
        """The newest good word on the strength of a device's signal within the period."""
        samples = [self._image.sample(asset_id, SIGNAL) for asset_id in sorted(driver.assets)]
        good = [s for s in samples if s is not None and s.quality == GOOD]
        recent = [s for s in good if (now - s.time).total_seconds() < STATISTICS_S]
        return max(recent, key=lambda sample: sample.time).value if recent else None

    async def exchange(self) -> None:
        """Take up who may charge and connect, propose charge points that are strangers, store ended transactions."""
        chargers = [driver for driver in self._drivers.values() if isinstance(driver, OcppDriver)]
        if chargers:
            await asyncio.to_thread(self._exchange, chargers)

    def _exchange(self, chargers: Sequence[OcppDriver]) -> None:
        from flexergy_pipelines.store.charging_access import charge_point_keys, list_id_tags
        from flexergy_pipelines.store.field_devices import propose_device

        tags = {tag.id_tag: tag for tag in list_id_tags(self._db)}
        keys = charge_point_keys(self._db, self._site_id)
        for driver in chargers:
            driver.access.tags, driver.access.keys = tags, keys
            for name, identity in list(driver.strangers.items()):
                known = {"manager": driver.device, **identity}
                propose_device(self._db, self._site_id, protocol="ocpp16", address=name, identity=known, template=None)
                driver.strangers.pop(name, None)
            self._store_ended(driver)
            self._store_running(driver, datetime.now(UTC))

    def _store_ended(self, driver: OcppDriver) -> None:
        """Store what has ended and was not stored yet, however long the store was away."""
        import polars as pl

        from flexergy_pipelines.store.ev_sessions import write_sessions

        (asset_id,) = driver.assets
        while ended := driver.journal.untold(MOST_SESSIONS):
            rows = [row for transaction in ended if (row := _session_row(asset_id, transaction)) is not None]
            if rows:
                write_sessions(self._db, self._site_id, pl.DataFrame(rows))
            driver.journal.told(transaction.transaction_id for transaction in ended)

    def _store_running(self, driver: OcppDriver, now: datetime) -> None:
        """Store what charges now with a departure a little ahead, renewed for as long as it goes on."""
        import polars as pl

        from flexergy_pipelines.store.ev_sessions import STILL_THERE, write_sessions

        (asset_id,) = driver.assets
        live = {number: post for post in driver.posts.values() for number in post.transactions.values()}
        started = [t for t in driver.journal.running() if t.transaction_id in live]
        due = [t for t in started if now >= self._renewed.get(t.transaction_id, EPOCH) + STILL_THERE / 3]
        rows: list[dict[str, object]] = []
        for t in due:
            post, arrival = live[t.transaction_id], time_of(t.started)
            if arrival is None:
                continue
            rows.append(
                {
                    "asset_id": asset_id,
                    "charge_point": t.charge_point,
                    "session_id": str(t.transaction_id),
                    "arrival": arrival,
                    "departure": max(now, arrival) + STILL_THERE,
                    "energy_kwh": max(0.0, post.meters_wh.get(t.transaction_id, t.meter_start_wh) - t.meter_start_wh)
                    / 1000.0,
                    "soc_end": post.soc,
                }
            )
        if rows:
            write_sessions(self._db, self._site_id, pl.DataFrame(rows, schema_overrides={"soc_end": pl.Float64}))
        written = {t.transaction_id for t in due}
        self._renewed = {
            t.transaction_id: now if t.transaction_id in written else self._renewed[t.transaction_id] for t in started
        }

    async def trace(self) -> None:
        """Give the frames of devices whose trace is wanted; nobody wants one whose file of asking is gone."""
        for device, driver in self._drivers.items():
            wanted, given = trace_files(self._settings, self._site_id, device)
            asked = wanted.exists()
            if asked != driver.health.tracing:
                driver.health.tracing = asked
                driver.health.trace.clear()
                driver.health.note(f"-- link is {'up' if driver.health.connected else 'down'}{_reason(driver)}")
                tell = getattr(driver, "tell_trace", None)
                if tell is not None:
                    await tell(asked)
            if asked and driver.health.trace:
                frames = [f"{time:%H:%M:%S.%f}"[:-3] + f" {words}" for time, words in driver.health.trace]
                scratch = given.with_suffix(".tmp")
                scratch.write_text("\n".join(frames) + "\n", encoding="utf-8")
                scratch.replace(given)


def _session_row(asset_id: str, transaction: ChargingTransaction) -> dict[str, object] | None:
    """A transaction that has ended as a session; None, and a word in the log, where it cannot be one."""
    arrival, departure = time_of(transaction.started), time_of(transaction.stopped or "")
    if arrival is None or departure is None or arrival >= departure or transaction.energy_kwh is None:
        get_logger(__name__).warning(
            "a charging transaction makes no session", charge_point=transaction.charge_point,
            transaction=transaction.transaction_id, started=transaction.started, stopped=transaction.stopped,
            energy_kwh=transaction.energy_kwh,
        )  # fmt: skip
        return None
    return {
        "asset_id": asset_id,
        "charge_point": transaction.charge_point,
        "session_id": str(transaction.transaction_id),
        "arrival": arrival,
        "departure": departure,
        "energy_kwh": transaction.energy_kwh,
    }


def _reason(driver: Driver) -> str:
    return f", last error: {driver.health.last_error}" if driver.health.last_error else ""
