"""Messages between the services: "look now", never the data itself. What lasts is in the tables.

A message names tenant and site only, so that listening tells nobody another tenant's data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from flexergy_pipelines.store.engine import Store, TenantStore
from flexergy_pipelines.store.errors import InvalidDataError, clear_errors

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

PLAN: Final = "flexergy_plan"
LIVE: Final = "flexergy_live"
COMMAND: Final = "flexergy_command"
REPLAN: Final = "flexergy_replan"
ALARM: Final = "flexergy_alarm"
CHANNELS: Final = frozenset({PLAN, LIVE, COMMAND, REPLAN, ALARM})

Message = tuple[str, dict[str, Any]]


def notify(connection: Connection, channel: str, db: TenantStore, site_id: str) -> None:
    """Send a message that goes out when the transaction of `connection` commits."""
    payload = json.dumps({"tenant": db.name, "site": site_id})
    connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (channel, payload))


class Listener:
    """Listens to channels on a connection of its own, from the moment it is made; use it in a `with` block.

    Parameters
    ----------
    source : Store or TenantStore
        A tenant store hears only messages of its tenant.
    channels : iterable of str
        Some of `CHANNELS`.
    """

    def __init__(self, source: Store | TenantStore, channels: Iterable[str]) -> None:
        names = list(channels)
        unknown = [name for name in names if name not in CHANNELS]
        if unknown or not names:
            raise InvalidDataError(f"channels {unknown or names} are not known; known: {', '.join(sorted(CHANNELS))}")
        self._store = source.store if isinstance(source, TenantStore) else source
        self._tenant = source.name if isinstance(source, TenantStore) else None
        self._connection: psycopg.Connection = self._store.connect(autocommit=True)
        from psycopg import sql

        for name in names:
            self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def wait(self, timeout_s: float | None = None) -> list[Message]:
        """Messages that came since the last call; waits for the first one, at most `timeout_s` (None: without end).

        Raises
        ------
        StoreUnavailableError
            The connection was lost: make a new listener, then look at the tables, since messages may be missed.
        """
        with clear_errors("listening to the store"):
            got = list(self._connection.notifies(timeout=timeout_s, stop_after=1))
            got += list(self._connection.notifies(timeout=0))
        messages = [(note.channel, json.loads(note.payload)) for note in got]
        return [message for message in messages if self._tenant in (None, message[1].get("tenant"))]

    def close(self) -> None:
        self._connection.close()


def listen(
    source: Store | TenantStore, channels: Iterable[str], *, timeout_s: float | None = None
) -> Iterator[Message]:
    """Messages as they come: (channel, {"tenant", "site"}).

    Parameters
    ----------
    source : Store or TenantStore
        A tenant store hears only messages of its tenant.
    channels : iterable of str
        Some of `CHANNELS`.
    timeout_s : float, optional
        End when nothing came for so long (default: never end).
    """
    with Listener(source, channels) as listener:
        while (messages := listener.wait(timeout_s)) or timeout_s is None:
            yield from messages


async def listen_async(source: Store | TenantStore, channels: Iterable[str]) -> AsyncIterator[Message]:
    """Messages as they come, for an asyncio program; ends when its task is cancelled."""
    listener = await asyncio.to_thread(Listener, source, channels)
    try:
        while True:
            for message in await asyncio.to_thread(listener.wait, 1.0):
                yield message
    finally:
        listener.close()
