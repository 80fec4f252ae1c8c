"""Charging transactions on disk: each one gets a number that is never given twice, and nothing told is forgotten."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

LARGEST = 2**62
"""A meter, or a number, beyond it is none: more does not fit into the file."""
ADDED = {"arrival": "TEXT", "departure": "TEXT", "told": "INTEGER NOT NULL DEFAULT 0"}
"""Columns that files of older releases do not have."""


@dataclass(frozen=True, slots=True)
class ChargingTransaction:
    """One charging transaction; what is not known yet is None.

    Attributes
    ----------
    started, stopped : str
        Times that can be believed (ISO 8601, UTC).
    energy_kwh : float or None
        Meter at the end less meter at the start; None also where that is negative, for such a meter tells nothing.
    """

    transaction_id: int
    charge_point: str
    connector: int
    id_tag: str
    started: str
    stopped: str | None
    energy_kwh: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class RunningTransaction:
    """A transaction that nobody has ended; `started` can be believed (ISO 8601, UTC), the meter is in Wh."""

    transaction_id: int
    charge_point: str
    connector: int
    started: str
    meter_start_wh: int


class Journal:
    """Transactions of one charging manager.

    Parameters
    ----------
    path : Path or None
        SQLite file; None keeps them in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS charging (id INTEGER PRIMARY KEY AUTOINCREMENT, charge_point TEXT NOT NULL, "
            "connector INTEGER NOT NULL, id_tag TEXT NOT NULL, started TEXT NOT NULL, meter_start_wh INTEGER NOT NULL, "
            "stopped TEXT, meter_stop_wh INTEGER, reason TEXT, "
            "UNIQUE (charge_point, connector, id_tag, started, meter_start_wh))"
        )
        known = {row[1] for row in self._db.execute("PRAGMA table_info(charging)")}
        for name, kind in ADDED.items():
            if name not in known:
                self._db.execute(f"ALTER TABLE charging ADD COLUMN {name} {kind}")
        self._db.execute("CREATE INDEX IF NOT EXISTS untold ON charging (id) WHERE stopped IS NOT NULL AND told = 0")
        self._db.execute("CREATE INDEX IF NOT EXISTS running ON charging (id) WHERE stopped IS NULL")

    def start(
        self,
        charge_point: str,
        connector: int,
        id_tag: str,
        started: str,
        meter_start_wh: int,
        *,
        arrival: datetime | None = None,
    ) -> int:
        """Number of a transaction; the same one when a charge point tells it again after a lost answer.

        Parameters
        ----------
        started : str
            The charge point's own word on when it began, by which it is known again.
        arrival : datetime, optional
            When it really began, aware; by default what `started` says.
        """
        key = (charge_point, connector, id_tag, started, _whole_wh(meter_start_wh))
        with self._lock:
            self._db.execute(
                "INSERT INTO charging (charge_point, connector, id_tag, started, meter_start_wh, arrival) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*key, None if arrival is None else arrival.isoformat()),
            )
            row = self._db.execute(
                "SELECT id FROM charging WHERE charge_point = ? AND connector = ? AND id_tag = ? AND started = ? "
                "AND meter_start_wh = ?",
                key,
            ).fetchone()
        return row[0]

    def stop(
        self,
        charge_point: str,
        transaction_id: int,
        stopped: str,
        meter_stop_wh: int,
        *,
        reason: str | None = None,
        departure: datetime | None = None,
    ) -> bool:
        """Note the end of a transaction; the first word counts. Returns whether the charge point has such a one."""
        if self._of(charge_point, transaction_id) is None:
            return False
        with self._lock:
            self._db.execute(
                "UPDATE charging SET stopped = ?, meter_stop_wh = ?, reason = ?, departure = ? "
                "WHERE id = ? AND charge_point = ? AND stopped IS NULL",
                (
                    stopped,
                    _whole_wh(meter_stop_wh),
                    reason,
                    None if departure is None else departure.isoformat(),
                    transaction_id,
                    charge_point,
                ),
            )
        return True

    def goes_on(self, charge_point: str, transaction_id: int) -> bool:
        """Whether a transaction may still run at a charge point: one that nobody else has, and that has not ended."""
        row = self._of(None, transaction_id)
        return row is None or (row[0] == charge_point and row[1] is None)

    def transactions(self) -> list[ChargingTransaction]:
        """All of them, oldest first."""
        return self._select("TRUE ORDER BY id")

    def untold(self, most: int) -> list[ChargingTransaction]:
        """The oldest that have ended and that the store has not got."""
        return self._select("stopped IS NOT NULL AND told = 0 ORDER BY id LIMIT ?", most)

    def told(self, transaction_ids: Iterable[int]) -> None:
        """The store has got these."""
        with self._lock:
            self._db.executemany("UPDATE charging SET told = 1 WHERE id = ?", [(number,) for number in transaction_ids])

    def running(self) -> list[RunningTransaction]:
        """Transactions that nobody has ended, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, charge_point, connector, coalesce(arrival, started), meter_start_wh FROM charging "
                "WHERE stopped IS NULL ORDER BY id"
            ).fetchall()
        return [RunningTransaction(*row) for row in rows]

    def _of(self, charge_point: str | None, transaction_id: int) -> tuple[str, str | None] | None:
        """Charge point and end of a transaction, whoever has it or of one charge point only."""
        if abs(transaction_id) >= LARGEST:
            return None
        with self._lock:
            row = self._db.execute(
                "SELECT charge_point, stopped FROM charging WHERE id = ?", (transaction_id,)
            ).fetchone()
        return row if row is not None and charge_point in {None, row[0]} else None

    def _select(self, condition: str, *parameters: int) -> list[ChargingTransaction]:
        query = (
            "SELECT id, charge_point, connector, id_tag, coalesce(arrival, started), coalesce(departure, stopped), "
            "CASE WHEN meter_stop_wh >= meter_start_wh THEN (meter_stop_wh - meter_start_wh) / 1000.0 END, reason "
            "FROM charging WHERE "
        )
        with self._lock:
            rows = self._db.execute(query + condition, parameters).fetchall()
        return [ChargingTransaction(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _whole_wh(meter_wh: int) -> int:
    return max(-LARGEST, min(LARGEST, meter_wh))
