"""A site's own threads to disk and store: the cycle leaves things here and goes on, whatever the store does."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from control_loop.alarms import Alarm, AlarmKey
from control_loop.gateway import Gateway
from control_loop.news import News
from control_loop.protocols.backoff import Backoff
from control_loop.spool import Batch, Spool, SpoolError
from flexergy_pipelines.grid.clock import Clock
from flexergy_pipelines.logs import get_logger

READINGS, SETPOINTS = "readings", "setpoints"
REFRESH_S = 5.0
"""Plan and commands are also read without a notification, in case one was missed."""
UPLOAD_BATCHES = 200
UPLOAD_S = 0.5
"""How long what waits in the spool may keep newer things from the store: live values, alarms, commands come first."""


class Outbox:
    """Carries a site's values to the store and brings plan and commands back.

    Parameters
    ----------
    gateway : Gateway
        The store.
    spool : Spool
        Where readings and setpoints wait until the store has them.
    clock : Clock
        Deadlines and the time the plan is asked for.
    on_news : callable
        Called in the outbox's thread with what the store says, each time it was read.

    Notes
    -----
    Live values are only the newest; alarms are a set that is compared with what the store was told; readings and
    setpoints go through the spool. So a store that stalls for a day costs no memory and loses nothing.
    """

    def __init__(
        self,
        gateway: Gateway,
        spool: Spool,
        clock: Clock,
        on_news: Callable[[News], None],
        *,
        site_id: str = "",
        backoff: Backoff | None = None,
    ) -> None:
        self._gateway = gateway
        self._spool = spool
        self._clock = clock
        self._on_news = on_news
        self._backoff = backoff or Backoff(0.5, 30.0)
        self._log = get_logger(__name__).bind(site=site_id)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._live: list[Sequence[Any]] = []
        self._pending: list[tuple[str, Sequence[Any]]] = []
        self._alarms: Mapping[AlarmKey, Alarm] | None = None
        self._settled = True
        self._told: set[AlarmKey] | None = None
        self._inherited: set[AlarmKey] = set()
        self._replans: list[str] = []
        self._acknowledgements: list[tuple[int, str, str]] = []
        self._refresh = True
        self._refreshed = float("-inf")
        self._away = False
        self._refused = False
        self._lost = 0
        self._spooling = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def store_away(self) -> bool:
        """Whether the store could not be reached last."""
        return self._away

    def start(self) -> None:
        """Start the two threads: one for the disk, one for the store."""
        self._threads = [
            threading.Thread(target=self._run_disk, name="spool", daemon=True),
            threading.Thread(target=self._run_store, name="outbox", daemon=True),
        ]
        self._wake.set()  # plan and commands are wanted at once
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop the threads; what the store has not taken stays in the spool."""
        self._stop.set()
        self._spooling.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout_s)
        self.to_disk()

    def live(self, rows: Sequence[Sequence[Any]]) -> None:
        """Leave the newest values for the screens; older ones that were not taken are forgotten."""
        with self._lock:
            self._live = list(rows)
        self._wake.set()

    def keep(self, kind: str, rows: Sequence[Sequence[Any]]) -> None:
        """Leave rows that must not be lost."""
        if rows:
            with self._lock:
                self._pending += [(kind, row) for row in rows]
            self._spooling.set()

    def alarms(self, standing: Mapping[AlarmKey, Alarm], *, settled: bool = True) -> None:
        """Leave the set of standing alarms.

        Parameters
        ----------
        settled : bool
            Whether all that stands is known by now. Just after a start it is not: what an earlier run raised is then
            left standing, so that a lasting condition is not first cleared and then raised anew.
        """
        with self._lock:
            self._alarms, self._settled = standing, settled

    def replan(self, reason: str) -> None:
        """Leave a request for a new plan."""
        with self._lock:
            self._replans.append(reason)

    def acknowledge(self, command_id: int, status: str, message: str) -> None:
        """Leave an answer to a command."""
        with self._lock:
            self._acknowledgements.append((command_id, status, message))
        self._wake.set()

    def look(self) -> None:
        """Read plan and commands now: the store has said that one changed."""
        self._refresh = True
        self._wake.set()

    def _run_disk(self) -> None:
        while not self._stop.is_set():
            self._spooling.wait(timeout=1.0)
            self._spooling.clear()
            self.to_disk()

    def _run_store(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(timeout=1.0)
            self._wake.clear()
            self.work()

    def work(self) -> None:
        """One round: give the store what waits, as far as it takes it."""
        if not self._backoff.ready(self._clock.monotonic()):
            return
        try:
            self._talk()
        except Exception as error:
            if not self._away:
                self._log.warning("store away", error=str(error).splitlines()[0] if str(error) else repr(error))
            self._away = True
            self._backoff.failed(self._clock.monotonic())
        else:
            if self._away:
                self._log.info("store is back", waiting_batches=self._spool.waiting)
            self._away = False
            self._backoff.succeeded()

    def to_disk(self) -> None:
        """Put what must not be lost into the spool."""
        with self._lock:
            pending, self._pending = self._pending, []
        for kind in (READINGS, SETPOINTS):
            rows = [row for row_kind, row in pending if row_kind == kind]
            try:
                self._spool.append(kind, rows)
                self._refused = self._refused and not rows
            except SpoolError as error:
                if not self._refused:
                    self._log.error("spool refused rows; they are kept in memory", error=str(error))
                self._refused = True
                with self._lock:
                    self._pending = [(kind, row) for row in rows][-100_000:] + self._pending

    def _talk(self) -> None:
        gateway = self._gateway
        if self._refresh or self._clock.monotonic() - self._refreshed >= REFRESH_S:
            self._refresh = False
            self._on_news(gateway.news(self._clock.now()))
            self._refreshed = self._clock.monotonic()
        self._each(self._acknowledgements, lambda a: gateway.acknowledge(*a))
        self._each(self._replans, gateway.request_replan)
        with self._lock:
            live, self._live = self._live, []
            standing, settled = self._alarms, self._settled
        if live:
            gateway.write_live(live)
        if standing is not None:
            self._tell_alarms(standing, settled=settled)
        if not self.upload(UPLOAD_S):
            self._wake.set()

    def _each(self, waiting: list[Any], send: Callable[[Any], None]) -> None:
        """Send what waits, in order; what the store will never take must not hold up what comes after it."""
        from flexergy_pipelines.store import InvalidDataError, NotFoundError

        while waiting:
            try:
                send(waiting[0])
            except (InvalidDataError, NotFoundError) as error:
                self._log.error("store refused a message; it is dropped", message=str(waiting[0]), error=str(error))
            with self._lock:
                waiting.pop(0)

    def _tell_alarms(self, standing: Mapping[AlarmKey, Alarm], *, settled: bool) -> None:
        if self._told is None:
            # What an earlier run of the loop raised and nobody cleared.
            self._inherited = self._gateway.standing_alarms()
            self._told = set(self._inherited)
        self._inherited = set() if settled else self._inherited - standing.keys()
        for key, alarm in standing.items():
            if key not in self._told:
                self._gateway.raise_alarm(alarm)
                self._told.add(key)
        for key in [key for key in self._told if key not in standing and key not in self._inherited]:
            self._gateway.clear_alarm(key)
            self._told.discard(key)

    def upload(self, seconds: float = math.inf) -> bool:
        """Give the store what waits in the spool.

        Parameters
        ----------
        seconds : float
            How long at most, but for the pieces in hand.

        Returns
        -------
        bool
            Whether nothing waits any more; else there was not time enough, or `stop` was called.
        """
        until = self._clock.monotonic() + seconds
        emptied = False
        while not self._stop.is_set() and not emptied and self._clock.monotonic() <= until:
            batches = self._spool.peek(UPLOAD_BATCHES)
            for kind, send in ((READINGS, self._gateway.write_readings), (SETPOINTS, self._gateway.write_setpoints)):
                chosen = [batch for batch in batches if batch.kind == kind]
                if chosen:
                    self._send(chosen, send)
            emptied = len(batches) < UPLOAD_BATCHES
        if emptied and self._refused:
            self._upload_from_memory()
        self._tell_losses()
        return emptied

    def _tell_losses(self) -> None:
        """Say once what the spool had to give up, or found damaged."""
        if self._spool.dropped > self._lost:
            self._log.error("spool gave up its oldest batches", batches=self._spool.dropped - self._lost)
            self._lost = self._spool.dropped
        if self._spool.problem:
            self._log.error("spool", error=self._spool.problem)
            self._spool.problem = ""

    def _upload_from_memory(self) -> None:
        """Give the store what the spool's disk has no room for; what it does not take waits on."""
        with self._lock:
            pending, self._pending = self._pending, []
        try:
            for kind, send in ((READINGS, self._gateway.write_readings), (SETPOINTS, self._gateway.write_setpoints)):
                rows = [row for row_kind, row in pending if row_kind == kind]
                if rows:
                    send(rows)
        except Exception:
            with self._lock:
                self._pending = pending + self._pending
            raise

    def _send(self, batches: list[Batch], send: Callable[[list[list[Any]]], None]) -> None:
        self._send_rows([row for batch in batches for row in batch.rows], send)
        self._spool.confirm(batches)

    def _send_rows(self, rows: list[list[Any]], send: Callable[[list[list[Any]]], None]) -> None:
        """Send rows; one that the store will never take must not hold up, or take with it, any other."""
        from flexergy_pipelines.store import InvalidDataError

        try:
            send(rows)
        except InvalidDataError as error:
            if len(rows) == 1:
                self._log.error("store refused a row; it is dropped", row=str(rows[0]), error=str(error))
                return
            middle = len(rows) // 2
            for half in (rows[:middle], rows[middle:]):
                self._send_rows(half, send)


def live_rows(values: Mapping[tuple[str, str], Any]) -> list[tuple[str, str, datetime, float | None, int]]:
    """Rows for the screens from the samples of a process image."""
    return [(*key, sample.time, sample.value, sample.quality) for key, sample in values.items()]
