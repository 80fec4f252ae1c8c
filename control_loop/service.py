"""The service: waits for the store, runs a loop for each site, and follows what is configured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from control_loop.gateway import Gateway, StoreGateway
from control_loop.pauses import LongLived
from control_loop.protocols.backoff import Backoff
from control_loop.site_service import Instance, SiteService, pause
from control_loop.voting import majority_of
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import Store, StoreError, TenantStore, open_store
from flexergy_pipelines.store.notify import COMMAND, PLAN, Listener
from flexergy_pipelines.store.sites import list_sites

LOOK_S = 5.0
"""How often the service looks for new sites and changed configurations."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A site's service and the task that it runs in."""

    service: SiteService
    task: asyncio.Task[None]


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
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._instance = Instance(name, settings, lease, vote)
        self.settings = settings
        self.only = tuple(only)
        self.started = False
        self._running: dict[str, _Running] = {}
        self._gateway_of = gateway_of
        self._told: dict[str, str] = {}
        self._log = get_logger(__name__)

    @property
    def running(self) -> dict[str, SiteService]:
        """Services of the sites by their id."""
        return {site_id: running.service for site_id, running in self._running.items()}

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
                    await pause(stop, LOOK_S)
            finally:
                lasting.end()
                ears.set()
                await asyncio.gather(*(self._end(site_id) for site_id in list(self._running)))
                await asyncio.to_thread(listener.join, 3.0)

    async def _open(self, stop: asyncio.Event) -> Store | None:
        backoff = Backoff(1.0, 15.0)
        while not stop.is_set():
            try:
                return await asyncio.to_thread(open_store, self.settings)
            except StoreError as error:
                backoff.failed(0.0)
                self._log.warning("waiting for the store", error=str(error))
                await pause(stop, backoff.wait_s(0.0))
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
                await pause(stop, 2.0)
        return None

    async def _follow(self, db: TenantStore) -> None:
        """Start what is new, restart what changed or died, end what is gone."""
        known = await asyncio.to_thread(list_sites, db)
        wanted = [site_id for site_id in known if not self.only or site_id in self.only]
        missing = ", ".join(site_id for site_id in self.only if site_id not in known)
        self._tell("", missing, "waiting for sites that the store does not have", known=known)
        for site_id in [name for name in self._running if name not in wanted]:
            await self._end(site_id)
        for site_id in wanted:
            gateway = self._gateway_of(db, site_id)
            try:
                site = await asyncio.to_thread(gateway.load_site)
            except (StoreError, ValueError) as error:
                self._tell(site_id, str(error), "site cannot be loaded; what runs of it goes on as it was")
                continue
            self._tell(site_id, "", "")
            running = self._running.get(site_id)
            if running is not None and running.task.done():
                problem = None if running.task.cancelled() else running.task.exception()
                if problem is not None:
                    self._log.error("control loop died; it is started again", site=site_id, error=repr(problem))
                await self._end(site_id)
                running = None
            if running is not None and running.service.site != site:
                self._log.info("site configuration changed", site=site_id)
                await self._end(site_id)
                running = None
            if running is None:
                service = SiteService(self._instance, site, gateway, db)
                task = asyncio.create_task(service.run(), name=f"site {site_id}")
                self._running[site_id] = _Running(service, task)

    def _tell(self, site_id: str, problem: str, event: str, **more: object) -> None:
        """Say what is wrong with a site once, not at each look."""
        if problem and self._told.get(site_id) != problem:
            self._log.error(event, problem=problem, **({"site": site_id} if site_id else {}), **more)
        self._told[site_id] = problem

    async def _end(self, site_id: str) -> None:
        running = self._running.pop(site_id)
        running.service.stop.set()
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
