"""The HTTP side of a simulated TALQ gateway: its API, and the reports it sends to the CMS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from plant_simulator.modbus_unit import Line
from plant_simulator.ports import free_ports
from plant_simulator.talq_gateway import TalqGateway

SERVICES = [
    {"name": name}
    for name in ("ConfigurationService", "ControlService", "DataCollectService", "GroupManagementService")
]


def _error(key: str, status: int) -> Response:
    return JSONResponse([{"key": key}], status)


async def _body(request: Request) -> Any:
    """What was sent; None where it is no JSON."""
    try:
        return await request.json()
    except (ValueError, RecursionError):
        return None


def build_app(gateway: TalqGateway) -> Starlette:
    """The gateway's API."""

    def refused(request: Request) -> Response | None:
        if "talq-api-version" not in request.headers:
            return _error("headerMissing", 400)
        return _error("parameterMissing", 400) if "clientAddress" not in request.query_params else None

    async def devices(request: Request) -> Response:
        return refused(request) or JSONResponse(gateway.devices())

    def shown(content: list[dict[str, Any]]) -> Any:
        async def show(request: Request) -> Response:
            return refused(request) or JSONResponse(content)

        return show

    def collection(kept: dict[str, dict[str, Any]], key: str) -> tuple[Any, Any]:
        async def many(request: Request) -> Response:
            if (no := refused(request)) is not None:
                return no
            if request.method == "GET":
                return JSONResponse(list(kept.values()))
            items = await _body(request)
            if not isinstance(items, list) or not all(isinstance(i, dict) and i.get(key) for i in items):
                return _error("payloadError", 400)
            if any(item[key] in kept for item in items):
                return _error("resourceConflict", 409)
            kept.update({item[key]: item for item in items})
            return JSONResponse(items, 201)

        async def one(request: Request) -> Response:
            if (no := refused(request)) is not None:
                return no
            name = request.path_params["name"]
            if name not in kept:
                return _error("resourceNotFound", 404)
            if request.method == "GET":
                return JSONResponse(kept[name])
            if request.method == "DELETE":
                del kept[name]
                return Response(status_code=204)
            item = await _body(request)
            if not isinstance(item, dict) or item.get(key) != name:
                return _error("payloadError", 400)
            kept[name] = item
            return Response(status_code=204)

        return many, one

    async def override(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        taken = gateway.obey(await _body(request))
        return Response(status_code=201) if taken else _error("overrideAddressNotValid", 422)

    async def assign(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        taken = gateway.assign(await _body(request))
        return Response(status_code=201) if taken else _error("relatedResourceNotFound", 422)

    routes = [
        Route("/devices", devices, methods=["GET"]),
        Route("/services", shown(SERVICES), methods=["GET"]),
        Route("/device-classes", shown(gateway.device_classes()), methods=["GET"]),
        Route("/override-commands", override, methods=["POST"]),
        Route("/assign-commands", assign, methods=["POST"]),
    ]
    kinds = {
        "/groups": (gateway.groups, "address"),
        "/logger-configs": (gateway.loggers, "address"),
        "/control-programs": (gateway.programs, "id"),
        "/calendars": (gateway.calendars, "id"),
    }
    for path, (kept, key) in kinds.items():
        many, one = collection(kept, key)
        routes += [
            Route(path, many, methods=["GET", "POST"]),
            Route(f"{path}/{{name}}", one, methods=["GET", "PUT", "DELETE"]),
        ]
    return Starlette(routes=routes, middleware=[Middleware(_FaultyLine, line=gateway.signals)])


class _FaultyLine:
    """Keeps every answer back as long as the line is silent or slow; a request that met silence is never answered."""

    def __init__(self, app: ASGIApp, line: Line) -> None:
        self._app = app
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._line.silent:
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            await asyncio.sleep(self._line.delay_s)
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the simulator."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class TalqServer:
    """A gateway on the network.

    Parameters
    ----------
    gateway : TalqGateway
        What it shows and does.
    tls : ssl.SSLContext, optional
        Transport security of the API.
    """

    def __init__(self, gateway: TalqGateway, tls: ssl.SSLContext | None = None) -> None:
        self.host = ""
        self.port = 0
        self._gateway = gateway
        self._tls = tls
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[socket.socket] = []

    async def start(self, host: str, port: int) -> None:
        """Listen on `port` or the next free one."""
        for candidate in free_ports(host, port):
            with contextlib.suppress(OSError):
                await self._listen(host, candidate)
                break

    async def stop(self) -> None:
        """Close the port and every connection."""
        server, self._server = self._server, None
        if server is not None and self._task is not None:
            server.should_exit = server.force_exit = True
            await self._task
            for listener in self._listeners:
                listener.close()

    async def obey_line(self) -> None:
        """Open or close the port as the line's state wants."""
        down = self._gateway.signals.down
        if down and self._server is not None:
            await self.stop()
        elif not down and self._server is None and self.port:
            with contextlib.suppress(OSError):
                await self._listen(self.host, self.port)

    async def _listen(self, host: str, port: int) -> None:
        listener = socket.create_server((host, port))
        config = uvicorn.Config(build_app(self._gateway), log_config=None, access_log=False, lifespan="off")
        config.load()
        config.ssl = self._tls
        self.host, self.port = listener.getsockname()[:2]
        self._listeners = [listener]
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.01)
