"""The service: waits for the store, runs a loop for each site, and follows what is configured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from control_loop.ballots import BallotBox, MasterVote, Voter
from control_loop.context import LoadState
from control_loop.cycle import READ_SHARE, ControlCycle
from control_loop.field_reader import FieldReader
from control_loop.frequency import frequency_orders
from control_loop.gateway import Gateway, StoreGateway
from control_loop.lease import CounterLease, FileLeaseStore, LeaseStore
from control_loop.load_memory import remembered_loads
from control_loop.model import SiteModel
from control_loop.news import News
from control_loop.outbox import READINGS, Outbox
from control_loop.pauses import LongLived
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.clerk import FieldClerk
from control_loop.protocols.factory import drivers_of
from control_loop.site_loop import SiteLoop
from control_loop.site_model import grid_limits_of, model_of, reactive_of, telemetry_filter
from control_loop.spool import spool_or_memory
from control_loop.standby import Standby
from control_loop.trusted_clock import TrustedClock
from control_loop.voting import majority_of
from flexergy_pipelines.grid import Site, SystemClock
from flexergy_pipelines.grid.clock import Clock
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import Store, StoreError, TenantStore, open_store
from flexergy_pipelines.store.ballots import StoreBallots
from flexergy_pipelines.store.leases import StoreLease
from flexergy_pipelines.store.notify import COMMAND, PLAN, Listener
from flexergy_pipelines.store.sites import list_sites

REMEMBER_S = 0.5
"""How long a starting loop waits to hear of curtailments before it."""
LOOK_S = 5.0
"""How often the service looks for new sites and changed configurations."""


@dataclass
class RunningSite:
    """A site under control, or watched as a standby."""

    site: Site
    stop: asyncio.Event
    outbox: Outbox | None = None
    task: asyncio.Task[None] | None = None


class ControlService:
    """Runs the loops of a tenant's sites in one process.

    Parameters
    ----------
    settings : Settings
        Where the store, the spools and the devices' published addresses are.
    only : sequence of str
        Sites to run; empty means all of the tenant.
    gateway_of : callable
        Makes the gateway of a site.
    lease : str
        Where instances of this service agree who commands a site: ``file`` under the home folder, for instances on
        one machine, or ``store``, for instances on several. With ``store`` nothing is commanded while the store
        cannot be reached: no instance can then know that it is the only one.
    vote : int, optional
        Number of instances (three or more) whose majority decides what is sent; with the lease in the store only.

    Raises
    ------
    ValueError
        Too few instances for a vote, or a vote without the store.
    """

    def __init__(
        self,
        settings: Settings,
        only: Sequence[str] = (),
        *,
        gateway_of: Callable[[TenantStore, str], Gateway] = StoreGateway,
        lease: Literal["file", "store"] = "file",
        vote: int | None = None,
    ) -> None:
        if vote is not None and (majority_of(vote) and lease != "store"):
            raise ValueError(f"vote of {vote} instances: the lease must be in the store, where they vote")
        self._lease_in = lease
        self._vote = vote
        self.settings = settings
        self.only = tuple(only)
        self._instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.started = False
        self.running: dict[str, RunningSite] = {}
        self._gateway_of = gateway_of
        self._told: dict[str, str] = {}
        self._log = get_logger(__name__)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; every site's loop is ended and its links closed before this returns."""
        for chatty in ("websockets", "ocpp", "httpx", "uvicorn"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        # It writes whole packets for each answer that is late; the drivers say so in a line.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        store = await self._open(stop)
        if store is None:
            return
        with contextlib.closing(store):
            db = await self._tenant(store, stop)
            if db is None:
                return
            ears = threading.Event()
            listener = threading.Thread(target=self._listen, args=(db, ears), name="listener", daemon=True)
            listener.start()
            self.started, lasting = True, LongLived()
            try:
                while not stop.is_set():
                    try:
                        await self._follow(db)
                    except StoreError as error:
                        self._log.warning("store away; running sites go on", error=str(error))
                    lasting.look(frozenset((id(s), s.outbox is not None) for s in self.running.values()))
                    await _pause(stop, LOOK_S)
            finally:
                lasting.end()
                ears.set()
                await asyncio.gather(*(self._end(site_id) for site_id in list(self.running)))
                await asyncio.to_thread(listener.join, 3.0)

    async def _open(self, stop: asyncio.Event) -> Store | None:
        backoff = Backoff(1.0, 15.0)
        while not stop.is_set():
            try:
                return await asyncio.to_thread(open_store, self.settings)
            except StoreError as error:
                backoff.failed(0.0)
                self._log.warning("waiting for the store", error=str(error))
                await _pause(stop, backoff.wait_s(0.0))
        return None

    async def _tenant(self, store: Store, stop: asyncio.Event) -> TenantStore | None:
        waiting = False
        while not stop.is_set():
            try:
                return await asyncio.to_thread(store.tenant, self.settings.tenant)
            except StoreError as error:
                if not waiting:
                    self._log.warning("waiting for the tenant", tenant=self.settings.tenant, error=str(error))
                waiting = True
                await _pause(stop, 2.0)
        return None

    async def _follow(self, db: TenantStore) -> None:
        """Start what is new, restart what changed or died, end what is gone."""
        known = await asyncio.to_thread(list_sites, db)
        wanted = [site_id for site_id in known if not self.only or site_id in self.only]
        missing = ", ".join(site_id for site_id in self.only if site_id not in known)
        self._tell("", missing, "waiting for sites that the store does not have", known=known)
        for site_id in [name for name in self.running if name not in wanted]:
            await self._end(site_id)
        for site_id in wanted:
            gateway = self._gateway_of(db, site_id)
            try:
                site = await asyncio.to_thread(gateway.load_site)
            except (StoreError, ValueError) as error:
                self._tell(site_id, str(error), "site cannot be loaded; what runs of it goes on as it was")
                continue
            self._tell(site_id, "", "")
            running = self.running.get(site_id)
            if running is not None and running.task is not None and running.task.done():
                problem = None if running.task.cancelled() else running.task.exception()
                if problem is not None:
                    self._log.error("control loop died; it is started again", site=site_id, error=repr(problem))
                await self._end(site_id)
                running = None
            if running is not None and running.site != site:
                self._log.info("site configuration changed", site=site_id)
                await self._end(site_id)
                running = None
            if running is None:
                self.running[site_id] = self._start(site, gateway, self._lease_store(db, site_id))

    def _tell(self, site_id: str, problem: str, event: str, **more: object) -> None:
        """Say what is wrong with a site once, not at each look."""
        if problem and self._told.get(site_id) != problem:
            self._log.error(event, problem=problem, **({"site": site_id} if site_id else {}), **more)
        self._told[site_id] = problem

    def _lease_store(self, db: TenantStore, site_id: str) -> LeaseStore:
        name = f"control-{self.settings.tenant}-{site_id}"
        if self._lease_in == "store":
            return StoreLease(db, name)
        return FileLeaseStore(self.settings.run_dir / f"{name}.lease")

    def _ballots(self, store: LeaseStore) -> BallotBox | None:
        """Where the instances that share a lease vote; None where they do not."""
        return StoreBallots(store.db, store.name) if self._vote and isinstance(store, StoreLease) else None

    @contextlib.asynccontextmanager
    async def _voting(self, site: Site, store: LeaseStore) -> AsyncIterator[None]:
        """Meanwhile vote on what the instance that commands computes."""
        box = self._ballots(store)
        if box is None:
            yield
            return
        voter = Voter(box, self._instance, model_of(site), reactive_of(site, 0))
        ended = threading.Event()
        thread = threading.Thread(target=voter.run, args=(ended,), name=f"voter {site.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            await asyncio.to_thread(thread.join, 3.0)

    def _start(self, site: Site, gateway: Gateway, store: LeaseStore) -> RunningSite:
        running = RunningSite(site, asyncio.Event())

        async def run() -> None:
            with contextlib.closing(store):
                await self._run_site(running, gateway, store)

        running.task = asyncio.create_task(run(), name=f"site {site.id}")
        return running

    async def _run_site(self, running: RunningSite, gateway: Gateway, store: LeaseStore) -> None:
        """Stand by until the lease is ours, then run the site's loop until it is told to stop or loses the lease."""
        site, clock = running.site, TrustedClock(SystemClock())
        event_loop = asyncio.get_running_loop()
        name = f"{self.settings.tenant}-{site.id}"
        lease = CounterLease(store, self._instance, clock.monotonic)
        model, telemetry = model_of(site), telemetry_filter(site)
        drivers = drivers_of(site, self.settings)
        reader = FieldReader(clock, READ_SHARE * model.cycle_s)
        watched = [device.id for device in site.devices() if device.connection.standby_link]
        standby = Standby(drivers, watched, reader=reader, telemetry=telemetry, clock=clock, cycle_s=model.cycle_s)
        async with contextlib.AsyncExitStack() as links:
            links.push_async_callback(standby.close)
            if not await self._hold(lease, running, gateway, store, standby):
                return
            spool = links.enter_context(contextlib.closing(spool_or_memory(self.settings.spool_dir / f"{name}.sqlite")))
            reactive, box = reactive_of(site, lease.epoch), self._ballots(store)
            vote = None
            if box is not None and self._vote is not None:
                vote = MasterVote(box, self._instance, self._vote, model, reactive)
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
            renewing = asyncio.create_task(self._renew(lease, running.stop, site.id))
            keeping = asyncio.create_task(self._keep_records(site, cycle, gateway, running.stop))
            running.outbox = outbox
            cycle.remember(await self._loads(gateway, model, clock))
            outbox.start()
            self._log.info(
                "control loop started",
                site=site.id,
                epoch=lease.epoch,
                cycle_s=cycle.model.cycle_s,
                devices=sorted(cycle.drivers),
                actuators=[a.asset_id for a in cycle.model.actuators],
            )
            try:
                await loop.run(running.stop)
            finally:
                running.outbox = None
                renewing.cancel()
                keeping.cancel()
                await asyncio.gather(renewing, keeping, return_exceptions=True)
                await asyncio.to_thread(outbox.stop)
                with contextlib.suppress(OSError, StoreError):
                    # Not given back is only later taken over.
                    await asyncio.to_thread(lease.release)

    async def _loads(self, gateway: Gateway, model: SiteModel, clock: Clock) -> Mapping[str, LoadState]:
        """What was known of curtailed loads before; a store that does not tell at once must not delay a takeover."""
        if not isinstance(gateway, StoreGateway):
            return {}
        now, monotonic = clock.now(), clock.monotonic()
        asking = asyncio.to_thread(remembered_loads, gateway.db, gateway.site_id, model, now, monotonic)
        try:
            return await asyncio.wait_for(asking, REMEMBER_S)
        except (StoreError, TimeoutError) as error:
            self._log.warning("curtailments of before are not known", site=gateway.site_id, error=str(error) or "late")
            return {}

    async def _keep_records(self, site: Site, cycle: ControlCycle, gateway: Gateway, stop: asyncio.Event) -> None:
        """Statistics of links, found charge points, access and sessions; only where there is a store to keep them."""
        if isinstance(gateway, StoreGateway):
            drivers = list(cycle.drivers.values())
            await FieldClerk(site, drivers, self.settings, gateway.db, cycle.image).run(stop)

    @contextlib.asynccontextmanager
    async def _bringing_in(self, gateway: Gateway, site_id: str) -> AsyncIterator[None]:
        """Meanwhile give the store what an earlier run of this instance, that ended or lost the lease, has left."""
        path = self.settings.spool_dir / f"{self.settings.tenant}-{site_id}.sqlite"
        with contextlib.closing(spool_or_memory(path)) as spool:
            left = Outbox(gateway, spool, SystemClock(), lambda _: None, site_id=site_id)
            uploading = asyncio.create_task(asyncio.to_thread(left.upload))
            try:
                yield
            finally:
                left.stop()
                for problem in await asyncio.gather(uploading, return_exceptions=True):
                    if isinstance(problem, Exception):
                        self._log.warning("left readings wait on", site=site_id, error=str(problem))

    async def _hold(
        self, lease: CounterLease, running: RunningSite, gateway: Gateway, store: LeaseStore, standby: Standby
    ) -> bool:
        """Take the lease, or stand by (and vote) until it is ours; false when told to stop."""
        site, stop, site_id = running.site, running.stop, running.site.id
        with contextlib.suppress(OSError, StoreError):
            if await asyncio.to_thread(lease.step):
                self._log.info("holds the lease", site=site_id, epoch=lease.epoch)
                return True
        async with contextlib.AsyncExitStack() as meanwhile:
            if self._lease_in == "store":
                # On one machine the instances share the spool: whoever commands brings it in.
                await meanwhile.enter_async_context(self._voting(site, store))
                await meanwhile.enter_async_context(self._bringing_in(gateway, site_id))
            await meanwhile.enter_async_context(_meanwhile(standby.run()))
            return await self._watch(lease, stop, site_id)

    async def _watch(self, lease: CounterLease, stop: asyncio.Event, site_id: str) -> bool:
        """Wait until the lease is ours, as a standby watches the one that commands; false when told to stop."""
        waiting = told = False
        while not stop.is_set():
            try:
                held = await asyncio.to_thread(lease.step)
                told = False
            except (OSError, StoreError) as error:
                held = False
                if not told:
                    self._log.warning("the lease cannot be read", site=site_id, error=str(error))
                told = True
            if held:
                self._log.info("holds the lease", site=site_id, epoch=lease.epoch)
                return True
            if not waiting:
                waiting = True
                self._log.info("stands by: another instance holds the lease, or did a moment ago", site=site_id)
            await _pause(stop, lease.ttl_s / 8)
        return False

    async def _renew(self, lease: CounterLease, stop: asyncio.Event, site_id: str) -> None:
        """Keep the lease; a loop that has lost it ends, and watches again from the service's next look on."""
        epoch, told = lease.epoch, False
        while not stop.is_set():
            try:
                await asyncio.to_thread(lease.step)
                taken = lease.epoch != epoch or (not lease.held and await asyncio.to_thread(lease.lost))
                told = False
            except (OSError, StoreError) as error:
                if not told:
                    self._log.error("the lease cannot be renewed; nothing is commanded", site=site_id, error=str(error))
                taken, told = False, True
            if taken:
                self._log.error("the lease was taken over; this loop stops commanding", site=site_id, epoch=epoch)
                stop.set()
                return
            await _pause(stop, lease.ttl_s / 8)

    async def _end(self, site_id: str) -> None:
        running = self.running.pop(site_id)
        running.stop.set()
        if running.task is None:
            return
        done, pending = await asyncio.wait([running.task], timeout=10.0)
        for task in pending:
            task.cancel()
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                self._log.error("control loop ended badly", site=site_id, error=repr(task.exception()))

    def _listen(self, db: TenantStore, ended: threading.Event) -> None:
        """Wake the outboxes when the store says that a plan or a command is new; polling covers what is missed."""
        while not ended.is_set():
            try:
                with Listener(db, [PLAN, COMMAND]) as listener:
                    self._look(None)
                    while not ended.is_set():
                        for _, payload in listener.wait(1.0):
                            self._look(payload.get("site"))
            except StoreError as error:
                self._log.warning("not listening to the store; polling", error=str(error))
                ended.wait(5.0)

    def _look(self, site_id: str | None) -> None:
        for name, running in list(self.running.items()):
            outbox = running.outbox
            if outbox is not None and (site_id is None or name == site_id):
                outbox.look()


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have a task run meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), timeout=seconds)
