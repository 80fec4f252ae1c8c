"""TALQ 2.x: what a gateway may ask of its central management system, and tell it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_loop.protocols import talq_messages as messages

if TYPE_CHECKING:
    from control_loop.protocols.talq import TalqDriver

SERVICES = [{"name": name} for name in ("ConfigurationService", "ControlService", "DataCollectService",
                                        "GroupManagementService")]  # fmt: skip

LARGEST_REPORT = 8_000_000
"""Bytes of what a gateway tells at once."""


def build_app(driver: TalqDriver) -> Starlette:
    """The CMS side of one gateway."""

    def refusal(request: Request) -> Response | None:
        if request.client is None or not driver.knows(request.client.host):
            return JSONResponse([{"key": "genericError", "description": "not the gateway of this device"}], 403)
        if "talq-api-version" not in request.headers:
            return JSONResponse([{"key": "headerMissing", "description": "talq-api-version"}], 400)
        if "clientAddress" not in request.query_params:
            return JSONResponse([{"key": "parameterMissing", "description": "clientAddress"}], 400)
        return None

    async def body_of(request: Request) -> Any:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > LARGEST_REPORT:
                return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return None

    async def reports(request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        body = await body_of(request)
        told = body if isinstance(body, list) else [body]
        if not all(isinstance(report, dict) for report in told):
            return JSONResponse([{"key": "payloadError", "description": "no log report"}], 400)
        driver.take_reports(told)
        return Response(status_code=204)

    async def devices(request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        if request.method == "GET":
            return JSONResponse(list(driver.devices.values()))
        body = await body_of(request)
        if not isinstance(body, list) or not all(isinstance(d, dict) and "address" in d for d in body):
            return JSONResponse([{"key": "payloadError", "description": "no list of devices"}], 400)
        driver.announce(body)
        return Response(status_code=201 if request.method == "POST" else 204)

    async def services(request: Request) -> Response:
        return refusal(request) or JSONResponse(SERVICES)

    async def groups(request: Request) -> Response:
        lamps = messages.lamps_in(list(driver.devices.values()))
        return refusal(request) or JSONResponse([messages.group_of(driver.group, driver.owner, lamps)])

    async def nothing(request: Request) -> Response:
        return refusal(request) or JSONResponse([])

    async def noted(request: Request) -> Response:
        return refusal(request) or Response(status_code=201)

    return Starlette(
        routes=[
            Route("/log-reports", reports, methods=["POST"]),
            Route("/devices", devices, methods=["GET", "POST", "PATCH"]),
            Route("/services", services, methods=["GET"]),
            Route("/services", noted, methods=["POST"]),
            Route("/device-classes", nothing, methods=["GET"]),
            Route("/device-classes", noted, methods=["POST"]),
            Route("/groups", groups, methods=["GET"]),
            Route("/data-packages", nothing, methods=["GET"]),
        ]
    )


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class CmsServer:
    """Takes the calls of one gateway.

    Parameters
    ----------
    port : int
        Port to listen on, on every address; 0 takes any.
    tls : ssl.SSLContext, optional
        Server's side of the transport security; without it only the gateway's own address is heard.

    Raises
    ------
    OSError
        The port is taken.
    """

    def __init__(self, driver: TalqDriver, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("", port))
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(build_app(driver), log_config=None, access_log=False, lifespan="off")
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def close(self) -> None:
        """Take no more calls."""
        self._server.should_exit = True
        await self._task
        self._listener.close()
