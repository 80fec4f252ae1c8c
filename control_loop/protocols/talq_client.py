"""Calls to a TALQ gateway: bounded in time and size, and told in one line when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from control_loop.protocols import talq_messages as messages
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError, LinkHealth
from flexergy_pipelines.grid.tls import TlsError

if TYPE_CHECKING:
    import httpx

CONFLICT = 409
LARGEST_ANSWER = 32_000_000
"""Bytes of an answer; ten thousand lamps with all their attributes take about a third of it."""
WHOLE_ANSWER_TIMEOUTS = 5
"""An answer that comes in drops must be there after so many times the longest wait for one of its pieces."""
_REMEDY = {400: "it does not understand the request", 401: "it wants a log-in", 403: "it does not let us in"}


class GatewayRefusal(DriverError):  # noqa: N818 - a refusal is an answer: the gateway is there
    """The gateway answered that it does not do this."""


class GatewayCalls:
    """HTTP calls of one central management system to one gateway.

    Parameters
    ----------
    device, owner : str
        Identity of the gateway in its site, and TALQ address of the caller.
    health : LinkHealth
        Counts each call.
    address : callable
        Gives host and port of the gateway.
    timeout_s : float
        Longest wait for an answer to begin, or to go on [s].
    tls : callable, optional
        Makes the TLS context.
    backoff : Backoff
        Pauses after failures.
    """

    def __init__(
        self,
        device: str,
        owner: str,
        health: LinkHealth,
        address: Callable[[], tuple[str, int]],
        *,
        timeout_s: float,
        tls: Callable[[], ssl.SSLContext] | None,
        backoff: Backoff,
    ) -> None:
        self._device = device
        self._owner = owner
        self._health = health
        self._address = address
        self._timeout_s = timeout_s
        self._tls = tls
        self._backoff = backoff
        self._client: httpx.AsyncClient | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls may be made."""
        return self._client is not None

    def open(self) -> None:
        """Make ready for calls, unless a pause after a failure lasts.

        Raises
        ------
        DriverError
            It does, or the files of the transport security cannot be used.
        """
        import httpx

        now = time.monotonic()
        if not self._backoff.ready(now):
            raise DriverError(f"{self._device}: down, next try in {self._backoff.wait_s(now):.1f} s")
        host, port = self._address()
        try:
            verify = self._tls() if self._tls is not None else True
        except TlsError as error:
            self._backoff.failed(now)
            raise DriverError(f"{self._device}: {error}") from None
        base = f"{'http' if self._tls is None else 'https'}://{host}:{port}"
        self._client = httpx.AsyncClient(base_url=base, timeout=self._timeout_s, verify=verify, trust_env=False)

    async def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        self._health.connected = False
        if client is not None:
            with contextlib.suppress(OSError):
                await client.aclose()

    async def call(self, method: str, path: str, body: Any = None, accept: Collection[int] = ()) -> Any:
        """A call: the JSON of its answer, or an accepted status.

        Raises
        ------
        GatewayRefusal
            It answers with another status; what it says of it is told.
        DriverError
            No answer, or none that can be read; the link is hung up then.
        """
        import httpx

        if self._client is None:
            raise DriverError(f"{self._device}: link was lost")
        began = time.monotonic()
        asked = {"clientAddress": self._owner, "talqRequestId": str(uuid.uuid4())}
        try:
            async with asyncio.timeout(WHOLE_ANSWER_TIMEOUTS * self._timeout_s):
                status, content = await self._fetch(self._client, method, path, body, asked)
        except TimeoutError:
            raise await self.lost(f"{method} {path}: the answer does not come to an end") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise await self.lost(f"{method} {path}: {error or type(error).__name__}") from None
        if self._health.tracing:
            self._health.note(f"{method} {path} {body or ''} -> {status}")
        if status in accept:
            return status
        if not 200 <= status < 300:
            said = messages.error_in(content) or _REMEDY.get(status, "")
            self._health.failed(f"{self._device}: {method} {path}: {status} {said}".rstrip())
            raise GatewayRefusal(self._health.last_error)
        try:
            found = json.loads(content) if content.strip() else None
        except (ValueError, RecursionError):
            raise await self.lost(f"{method} {path}: the answer is no JSON, it begins with {content[:30]!r}") from None
        self._backoff.succeeded()
        self._health.answered(time.monotonic() - began)
        return found

    async def _fetch(
        self, client: httpx.AsyncClient, method: str, path: str, body: Any, asked: dict[str, str]
    ) -> tuple[int, bytes]:
        content = bytearray()
        headers = {"talq-api-version": messages.API_VERSION}
        async with client.stream(method, path, json=body, params=asked, headers=headers) as answer:
            self._health.bytes_sent += len(answer.request.content)
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > LARGEST_ANSWER:
                    raise ValueError(f"the answer is longer than {LARGEST_ANSWER // 1_000_000} MB")
        self._health.bytes_received += len(content)
        return answer.status_code, bytes(content)

    async def put(self, path: str, address: str, body: dict[str, Any]) -> None:
        """Make an entity, or replace it where it is there already."""
        answer = await self.call("POST", path, [body], accept=(CONFLICT,))
        if answer == CONFLICT:
            await self.call("PUT", f"{path}/{address}", body)

    async def lost(self, message: str) -> DriverError:
        """Hang up after what makes no sense; gives the error to raise."""
        self._backoff.failed(time.monotonic())
        self._health.failed(f"{self._device}: {message}")
        await self.close()
        return DriverError(self._health.last_error)

    def failed(self) -> None:
        """Pause before the next `open`: the gateway is there, and does not do what it must."""
        self._backoff.failed(time.monotonic())
