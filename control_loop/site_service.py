"""One site of one instance: it stands by, commands while it holds the lease, and keeps the field's records."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from control_loop.ballots import BallotBox, MasterVote, Voter
from control_loop.cycle import READ_SHARE, ControlCycle
from control_loop.field_reader import FieldReader
from control_loop.frequency import frequency_orders
from control_loop.gateway import Gateway, StoreGateway
from control_loop.lease import CounterLease, FileLeaseStore, LeaseStore
from control_loop.load_memory import remembered_loads
from control_loop.news import News
from control_loop.outbox import READINGS, Outbox
from control_loop.protocols.clerk import FieldClerk
from control_loop.protocols.factory import drivers_of
from control_loop.site_loop import SiteLoop
from control_loop.site_model import grid_limits_of, model_of, reactive_of, telemetry_filter
from control_loop.spool import spool_or_memory
from control_loop.standby import Standby
from control_loop.trusted_clock import TrustedClock
from flexergy_pipelines.grid import Site, SystemClock
from flexergy_pipelines.grid.clock import Clock
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import StoreError, TenantStore
from flexergy_pipelines.store.ballots import StoreBallots
from flexergy_pipelines.store.leases import StoreLease

REMEMBER_S = 0.5
"""How long a starting loop waits to hear of curtailments before it."""
RECALL_S = 2.0
"""How long before a store that was away is asked for them again."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One of the services that may command a site.

    Attributes
    ----------
    name : str
        Unlike all others.
    settings : Settings
        Where the store, the spools and the devices' published addresses are.
    lease_in : str
        Where instances agree who commands: ``file`` or ``store``.
    vote : int or None
        Number of instances whose majority decides.
    """

    name: str
    settings: Settings
    lease_in: Literal["file", "store"]
    vote: int | None


class SiteService:
    """One site, under control or watched as a standby.

    Parameters
    ----------
    instance : Instance
        Who would command.
    site : Site
        The site as it is configured now.
    gateway : Gateway
        Its way to the store.
    db : TenantStore
        Where the lease is, if it is in the store.

    Attributes
    ----------
    stop : asyncio.Event
        Set to end it; it is set when the lease is lost, too.
    outbox : Outbox or None
        Its way to the store while it commands.
    ended : bool
        Whether `run` has come to its end, and all links are closed.
    """

    def __init__(self, instance: Instance, site: Site, gateway: Gateway, db: TenantStore) -> None:
        self.site = site
        self.stop = asyncio.Event()
        self.outbox: Outbox | None = None
        self.ended = False
        self._instance = instance
        self._gateway = gateway
        self._db = db
        self._spool_path: Path = instance.settings.spool_dir / f"{instance.settings.tenant}-{site.id}.sqlite"
        self._log = get_logger(__name__).bind(site=site.id)

    async def run(self) -> None:
        """Stand by until the lease is ours, then run the site's loop until it is told to stop or loses the lease."""
        try:
            with contextlib.closing(self._lease_store()) as store:
                await self._run(store)
        finally:
            self.ended = True

    async def _run(self, store: LeaseStore) -> None:
        site, gateway, clock = self.site, self._gateway, TrustedClock(SystemClock())
        event_loop, instance = asyncio.get_running_loop(), self._instance
        lease = CounterLease(store, instance.name, clock.monotonic)
        model, telemetry = model_of(site), telemetry_filter(site)
        drivers = drivers_of(site, instance.settings)
        reader = FieldReader(clock, READ_SHARE * model.cycle_s)
        watched = [device.id for device in site.devices() if device.connection.standby_link]
        standby = Standby(drivers, watched, reader=reader, telemetry=telemetry, clock=clock, cycle_s=model.cycle_s)
        async with contextlib.AsyncExitStack() as links:
            links.push_async_callback(standby.close)
            if not await self._hold(lease, store, standby):
                return
            spool = links.enter_context(contextlib.closing(spool_or_memory(self._spool_path)))
            reactive, box = reactive_of(site, lease.epoch), self._ballots(store)
            vote = None
            if box is not None and instance.vote is not None:
                vote = MasterVote(box, instance.name, instance.vote, model, reactive)
            cycle = ControlCycle(
                model,
                drivers,
                clock,
                epoch=lease.epoch,
                may_command=lambda: lease.held,
                reactive=reactive,
                vote=vote,
                reader=reader,
            )

            def news(told: News) -> None:
                if told.store_time is not None:
                    clock.heard(told.store_time)
                event_loop.call_soon_threadsafe(loop.take_news, told)

            outbox = Outbox(gateway, spool, clock, news, site_id=site.id)
            orders = frequency_orders(site.grid_code.frequency, site.grid_connection.nominal_frequency_hz)
            # What the other instance read last may not have left it.
            outbox.keep(READINGS, standby.readings_since(lease.silent_since - 2 * model.cycle_s))
            loop = SiteLoop(
                cycle,
                outbox,
                telemetry,
                clock,
                frequency_orders=orders,
                grid_limits=grid_limits_of(site),
                own_off_s=lambda: clock.off_s,
            )
            renewing = asyncio.create_task(self._renew(lease))
            keeping = asyncio.create_task(self._keep_records(cycle))
            self.outbox = outbox
            recalling = asyncio.create_task(self._recall(cycle, clock))
            await asyncio.wait({recalling}, timeout=REMEMBER_S)  # what comes later is taken over then
            outbox.start()
            self._log.info(
                "control loop started",
                epoch=lease.epoch,
                cycle_s=cycle.model.cycle_s,
                devices=sorted(cycle.drivers),
                actuators=[a.asset_id for a in cycle.model.actuators],
            )
            try:
                await loop.run(self.stop)
            finally:
                self.outbox = None
                renewing.cancel()
                keeping.cancel()
                recalling.cancel()
                await asyncio.gather(renewing, keeping, recalling, return_exceptions=True)
                await asyncio.to_thread(outbox.stop)
                with contextlib.suppress(OSError, StoreError):
                    # Not given back is only later taken over.
                    await asyncio.to_thread(lease.release)

    async def _recall(self, cycle: ControlCycle, clock: Clock) -> None:
        """Tell the cycle what was known of curtailed loads before it, as soon as the store tells."""
        gateway = self._gateway
        if not isinstance(gateway, StoreGateway):
            return
        while not self.stop.is_set():
            now, monotonic = clock.now(), clock.monotonic()
            try:
                loads = await asyncio.to_thread(
                    remembered_loads, gateway.db, gateway.site_id, cycle.model, now, monotonic
                )
            except StoreError:
                await pause(self.stop, RECALL_S)
            else:
                cycle.remember(loads)
                return

    async def _keep_records(self, cycle: ControlCycle) -> None:
        """Statistics of links, found charge points, access and sessions; only where there is a store to keep them."""
        if isinstance(self._gateway, StoreGateway):
            drivers, settings = list(cycle.drivers.values()), self._instance.settings
            await FieldClerk(self.site, drivers, settings, self._gateway.db, cycle.image).run(self.stop)

    @contextlib.asynccontextmanager
    async def _bringing_in(self) -> AsyncIterator[None]:
        """Meanwhile give the store what an earlier run of this instance, that ended or lost the lease, has left."""
        with contextlib.closing(spool_or_memory(self._spool_path)) as spool:
            left = Outbox(self._gateway, spool, SystemClock(), lambda _: None, site_id=self.site.id)
            uploading = asyncio.create_task(asyncio.to_thread(left.upload))
            try:
                yield
            finally:
                left.stop()
                for problem in await asyncio.gather(uploading, return_exceptions=True):
                    if isinstance(problem, Exception):
                        self._log.warning("left readings wait on", error=str(problem))

    async def _hold(self, lease: CounterLease, store: LeaseStore, standby: Standby) -> bool:
        """Take the lease, or stand by (and vote) until it is ours; false when told to stop."""
        with contextlib.suppress(OSError, StoreError):
            if await asyncio.to_thread(lease.step):
                self._log.info("holds the lease", epoch=lease.epoch)
                return True
        async with contextlib.AsyncExitStack() as meanwhile:
            if self._instance.lease_in == "store":
                # On one machine the instances share the spool: whoever commands brings it in.
                await meanwhile.enter_async_context(self._voting(store))
                await meanwhile.enter_async_context(self._bringing_in())
            await meanwhile.enter_async_context(_meanwhile(standby.run()))
            return await self._watch(lease)

    async def _watch(self, lease: CounterLease) -> bool:
        """Wait until the lease is ours, as a standby watches the one that commands; false when told to stop."""
        waiting = told = False
        while not self.stop.is_set():
            try:
                held = await asyncio.to_thread(lease.step)
                told = False
            except (OSError, StoreError) as error:
                held = False
                if not told:
                    self._log.warning("the lease cannot be read", error=str(error))
                told = True
            if held:
                self._log.info("holds the lease", epoch=lease.epoch)
                return True
            if not waiting:
                waiting = True
                self._log.info("stands by: another instance holds the lease, or did a moment ago")
            await pause(self.stop, lease.ttl_s / 8)
        return False

    async def _renew(self, lease: CounterLease) -> None:
        """Keep the lease; a loop that has lost it ends, and watches again from the service's next look on."""
        epoch, told = lease.epoch, False
        while not self.stop.is_set():
            try:
                await asyncio.to_thread(lease.step)
                taken = lease.epoch != epoch or (not lease.held and await asyncio.to_thread(lease.lost))
                told = False
            except (OSError, StoreError) as error:
                if not told:
                    self._log.error("the lease cannot be renewed; nothing is commanded", error=str(error))
                taken, told = False, True
            if taken:
                self._log.error("the lease was taken over; this loop stops commanding", epoch=epoch)
                self.stop.set()
                return
            await pause(self.stop, lease.ttl_s / 8)

    def _lease_store(self) -> LeaseStore:
        settings = self._instance.settings
        name = f"control-{settings.tenant}-{self.site.id}"
        if self._instance.lease_in == "store":
            return StoreLease(self._db, name)
        return FileLeaseStore(settings.run_dir / f"{name}.lease")

    def _ballots(self, store: LeaseStore) -> BallotBox | None:
        """Where the instances that share a lease vote; None where they do not."""
        return StoreBallots(store.db, store.name) if self._instance.vote and isinstance(store, StoreLease) else None

    @contextlib.asynccontextmanager
    async def _voting(self, store: LeaseStore) -> AsyncIterator[None]:
        """Meanwhile vote on what the instance that commands computes."""
        box, site = self._ballots(store), self.site
        if box is None:
            yield
            return
        voter = Voter(box, self._instance.name, model_of(site), reactive_of(site, 0))
        ended = threading.Event()
        thread = threading.Thread(target=voter.run, args=(ended,), name=f"voter {site.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            await asyncio.to_thread(thread.join, 3.0)


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have a task run meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait some seconds, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), timeout=seconds)
