"""Hot standby: of several instances of a site's loop, one holds the lease and commands; the others watch.

A counter lease. The holder raises a counter; an observer takes over when the counter has stood still for the time to
live on the observer's *own* monotonic clock. The holder stops by itself a good deal earlier, on its own clock. So
neither a wall clock that jumps nor a holder that is frozen and wakes up makes two masters. Each takeover raises the
epoch, which every setpoint carries.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from flexergy_pipelines.store.leases import LeaseRow

RELEASED = ""
TTL_S = 2.0
"""Time the counter must stand still before another takes over [s]; with the watching it is done within 3 s."""

HELD_SHARE = 0.7
"""Share of the time to live after which a holder that could not renew stops by itself."""


class LeaseStore(Protocol):
    """The place that all instances see; it must change a row only as one step."""

    def load(self) -> LeaseRow | None:
        """What stands there; None when nobody ever held the lease."""
        ...

    def compare_and_set(self, expected: LeaseRow | None, row: LeaseRow) -> bool:
        """Put `row` there if `expected` still stands there; says whether it did."""
        ...

    def close(self) -> None:
        """End what is open."""
        ...


class FileLeaseStore:
    """A lease in a file, for instances that share a disk: it needs no database, so control goes on without one.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def load(self) -> LeaseRow | None:
        """See `LeaseStore.load`."""
        try:
            return LeaseRow(**json.loads(self.path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            # Not written by a lease: nobody can be holding it.
            return LeaseRow("", 0, 0)

    def compare_and_set(self, expected: LeaseRow | None, row: LeaseRow) -> bool:
        """See `LeaseStore.compare_and_set`."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.load() != expected:
                return False
            scratch = self.path.with_suffix(".tmp")
            scratch.write_text(json.dumps({"holder": row.holder, "epoch": row.epoch, "counter": row.counter}))
            scratch.replace(self.path)
            return True

    def close(self) -> None:
        """See `LeaseStore.close`; a file is only open while it is read or written."""


class CounterLease:
    """One instance's view of the lease.

    Parameters
    ----------
    store : LeaseStore
        The shared place.
    holder : str
        Name of this instance, unlike all others.
    monotonic : callable
        This instance's monotonic clock [s].
    ttl_s : float
        Time the counter must stand still before another takes over [s].

    Attributes
    ----------
    epoch : int
        Number of the takeover that gave the lease to this instance; 0 before.
    silent_since : float
        When the holder before was last seen to count, once this instance has taken over [s, monotonic].
    """

    def __init__(self, store: LeaseStore, holder: str, monotonic: Callable[[], float], ttl_s: float = TTL_S) -> None:
        self.ttl_s = ttl_s
        self.epoch = 0
        self._store = store
        self._holder = holder
        self._monotonic = monotonic
        self._renewed = float("-inf")
        self._own: LeaseRow | None = None
        self._seen: LeaseRow | None = None
        self._seen_at = float("-inf")
        self.silent_since = float("inf")

    @property
    def held(self) -> bool:
        """Whether this instance may command now; to be asked right before each command."""
        return self._monotonic() - self._renewed < HELD_SHARE * self.ttl_s

    def step(self) -> bool:
        """Renew the lease, or watch it and take over when it stands still; says whether it is held.

        To be called a few times in each time to live.
        """
        # Taken before the row is read: time that passes while the shared place is slow must not count as held.
        now = self._monotonic()
        if self._own is not None and self._count_up(self._own, now):
            return self.held
        row = self._store.load()
        if row is None or (row.holder == RELEASED and row.epoch > 0):
            self._claim(row, now)
        elif row.holder == self._holder and row.epoch == self.epoch:
            self._count_up(row, now)
        elif row != self._seen:
            self._seen, self._seen_at = row, now
        elif now - self._seen_at > self.ttl_s:
            self._claim(row, now)
        return self.held

    def _count_up(self, row: LeaseRow, now: float) -> bool:
        """Renew what stands there as this instance's; in one step, so that a slow shared place costs one wait only."""
        following = LeaseRow(self._holder, row.epoch, row.counter + 1)
        done = self._store.compare_and_set(row, following)
        self._own = following if done else None
        if done:
            self._renewed = now
        return done

    def release(self) -> None:
        """Give the lease back, so that the next one need not wait."""
        self._renewed, self._own = float("-inf"), None
        row = self._store.load()
        if row is not None and row.holder == self._holder and row.epoch == self.epoch:
            self._store.compare_and_set(row, LeaseRow(RELEASED, row.epoch, row.counter + 1))

    def lost(self) -> bool:
        """Whether another instance has taken over what this one held."""
        row = self._store.load()
        return row is not None and row.epoch > self.epoch

    def _claim(self, row: LeaseRow | None, now: float) -> None:
        epoch = 1 if row is None else row.epoch + 1
        if self._store.compare_and_set(row, LeaseRow(self._holder, epoch, 0)):
            self.epoch, self._renewed = epoch, now
            self.silent_since = self._seen_at if self._seen is not None else now
        self._seen = None
