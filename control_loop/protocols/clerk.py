"""What drivers and the store have to tell each other beside values: statistics, found charge points, access, sessions.

It works in a task of its own and in a thread while it waits for the store; a store that is away only makes it late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from control_loop.protocols.base import Driver
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_journal import ChargingTransaction
from flexergy_pipelines.grid import Connection, Site
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import StoreError
from flexergy_pipelines.store.link_statistics import LinkRow

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

STATISTICS_S = 60.0
ACCESS_S = 5.0
TRACE_S = 0.2
NEWEST_SESSIONS = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN_ERROR = 300


def trace_files(settings: Settings, site_id: str, device_id: str) -> tuple[Path, Path]:
    """Files by which a trace is asked for, and given."""
    name = f"trace-{settings.tenant}-{site_id}-{device_id}"
    return settings.run_dir / f"{name}.wanted", settings.run_dir / f"{name}.txt"


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
    """

    def __init__(self, site: Site, drivers: Sequence[Driver], settings: Settings, db: TenantStore) -> None:
        self._site_id = site.id
        self._drivers = {driver.device: driver for driver in drivers}
        self._connections: Mapping[str, Connection] = {device.id: device.connection for device in site.devices()}
        self._settings = settings
        self._db = db
        self._before: dict[str, _Counts] = {}
        self._told: set[int] = set()
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
                )
            )
            health.worst_latency_s = 0.0
        return rows

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
            ended = [
                t for t in driver.journal.transactions()[-NEWEST_SESSIONS:] if t.stopped and t.energy_kwh is not None
            ]
            self._store_sessions(driver, [t for t in ended if t.transaction_id not in self._told])
            self._store_running(driver, datetime.now(UTC))

    def _store_sessions(self, driver: OcppDriver, ended: Sequence[ChargingTransaction]) -> None:
        import polars as pl

        from flexergy_pipelines.store.ev_sessions import write_sessions

        (asset_id,) = driver.assets
        rows = [
            {
                "asset_id": asset_id,
                "charge_point": t.charge_point,
                "session_id": str(t.transaction_id),
                "arrival": datetime.fromisoformat(t.started).astimezone(UTC),
                "departure": datetime.fromisoformat(t.stopped or t.started).astimezone(UTC),
                "energy_kwh": max(0.0, t.energy_kwh or 0.0),
            }
            for t in ended
        ]
        sound = [row for row in rows if row["arrival"] < row["departure"]]
        if sound:
            write_sessions(self._db, self._site_id, pl.DataFrame(sound))
        self._told.update(t.transaction_id for t in ended)

    def _store_running(self, driver: OcppDriver, now: datetime) -> None:
        """Store what charges now with a departure a little ahead, renewed for as long as it goes on."""
        import polars as pl

        from flexergy_pipelines.store.ev_sessions import STILL_THERE, write_sessions

        (asset_id,) = driver.assets
        live = {number: post for post in driver.posts.values() for number in post.transactions.values()}
        started = [t for t in driver.journal.running() if t[0] in live]
        due = [t for t in started if now >= self._renewed.get(t[0], EPOCH) + STILL_THERE / 3]
        rows: list[dict[str, object]] = []
        for number, charge_point, start, meter_start_wh in due:
            post, arrival = live[number], datetime.fromisoformat(start).astimezone(UTC)
            rows.append(
                {
                    "asset_id": asset_id,
                    "charge_point": charge_point,
                    "session_id": str(number),
                    "arrival": arrival,
                    "departure": max(now, arrival) + STILL_THERE,
                    "energy_kwh": max(0.0, post.meters_wh.get(number, meter_start_wh) - meter_start_wh) / 1000.0,
                    "soc_end": post.soc if post.soc is not None and 0 <= post.soc <= 1 else None,
                }
            )
        if rows:
            write_sessions(self._db, self._site_id, pl.DataFrame(rows, schema_overrides={"soc_end": pl.Float64}))
        self._renewed = {t[0]: now if t in due else self._renewed[t[0]] for t in started}

    async def trace(self) -> None:
        """Give the frames of devices whose trace is wanted; nobody wants one whose file of asking is gone."""
        for device, driver in self._drivers.items():
            wanted, given = trace_files(self._settings, self._site_id, device)
            asked = wanted.exists()
            if asked != driver.health.tracing:
                driver.health.tracing = asked
                driver.health.trace.clear()
                tell = getattr(driver, "tell_trace", None)
                if tell is not None:
                    await tell(asked)
            if asked and driver.health.trace:
                frames = [f"{time:%H:%M:%S.%f}"[:-3] + f" {words}" for time, words in driver.health.trace]
                scratch = given.with_suffix(".tmp")
                scratch.write_text("\n".join(frames) + "\n", encoding="utf-8")
                scratch.replace(given)
