"""Leases: which of several instances of a service holds a task, as one row that all of them see.

No clock of the database is asked: the holder counts the row up, and whoever watches it judges by its own monotonic
clock whether it stands still. A row changes by compare-and-set only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexergy_pipelines.store.bootstrap import APP_ROLE
from flexergy_pipelines.store.errors import clear_errors

if TYPE_CHECKING:
    import psycopg

    from flexergy_pipelines.store.engine import TenantStore

ANSWER_MS = 800
"""A statement that takes longer is given up: an old answer must not look like a fresh renewal."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """What stands in the shared place.

    Attributes
    ----------
    holder : str
        Instance that holds the lease; empty when it was given back.
    epoch : int
        Rises with every takeover.
    counter : int
        Rises with every renewal.
    """

    holder: str
    epoch: int
    counter: int


class OwnConnection:
    """What several instances share in the store under one name; on a connection of its own, that answers soon or not.

    Parameters
    ----------
    db : TenantStore
        Tenant it belongs to.
    name : str
        What is shared.
    """

    def __init__(self, db: TenantStore, name: str) -> None:
        self.db = db
        self.name = name
        self._connection: psycopg.Connection | None = None

    def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def run(self, statement: str, values: tuple[object, ...]) -> psycopg.Cursor:
        """Run one statement; after an error the next one connects anew."""
        with clear_errors(self.name):
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                return self._connection.execute(statement.encode(), values)
            except Exception:
                self.close()
                raise

    def _connect(self) -> psycopg.Connection:
        connection = self.db.store.connect(autocommit=True)
        connection.execute(f'SET ROLE "{APP_ROLE}"'.encode())
        for setting, value in (("app.tenant", str(self.db.tenant_id)), ("statement_timeout", f"{ANSWER_MS}ms")):
            connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
        return connection


class StoreLease(OwnConnection):
    """A lease in the store, for instances on different machines.

    Notes
    -----
    Every call raises `StoreError` when the store cannot answer, and the next call connects anew.
    """

    def load(self) -> LeaseRow | None:
        """What stands there; None when nobody ever held the lease."""
        found = self.run("SELECT holder, epoch, counter FROM control_leases WHERE name = %s", (self.name,)).fetchone()
        return None if found is None else LeaseRow(*found)

    def compare_and_set(self, expected: LeaseRow | None, row: LeaseRow) -> bool:
        """Put `row` there if `expected` still stands there, as one step; says whether it did."""
        values = (row.holder, row.epoch, row.counter)
        if expected is None:
            done = self.run(
                "INSERT INTO control_leases (holder, epoch, counter, name) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                (*values, self.name),
            )
        else:
            done = self.run(
                "UPDATE control_leases SET holder = %s, epoch = %s, counter = %s "
                "WHERE name = %s AND holder = %s AND epoch = %s AND counter = %s",
                (*values, self.name, expected.holder, expected.epoch, expected.counter),
            )
        return done.rowcount == 1
