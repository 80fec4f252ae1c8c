"""A limit on how long a request may wait: a stalled database must not hold clients for ever."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from api.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Deadline:
    """ASGI middleware that answers 503 when no answer has begun after `limit_s` seconds.

    The work itself runs in a thread that cannot be interrupted; it is left to end on the database's own timeouts,
    and what it would have answered is dropped.
    """

    def __init__(self, app: ASGIApp, limit_s: float) -> None:
        self._app = app
        self._limit_s = limit_s
        self._left_behind: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = asyncio.Event()
        given_up = False

        async def send_in_time(message: Message) -> None:
            if given_up:
                return
            begun.set()
            await send(message)

        task = asyncio.ensure_future(self._app(scope, receive, send_in_time))
        waiter = asyncio.ensure_future(begun.wait())
        await asyncio.wait({task, waiter}, timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if begun.is_set() or task.done():
            await task
            return
        given_up = True
        self._left_behind.add(task)
        task.add_done_callback(self._forget)
        body = json.dumps(
            {
                "type": "about:blank",
                "title": "Temporarily unavailable",
                "status": 503,
                "detail": f"no answer within {self._limit_s:g} s: the database is slow or stalled; try again",
                "instance": scope["path"],
            }
        ).encode()
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"5")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled():
            task.exception()
