"""A TALQ gateway as the simulator's field drives it: its API, and the reports that it sends to the CMS."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import Any

import httpx

from flexergy_pipelines.grid import Device
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.tls import client_context, server_context
from plant_simulator.plant import Plant
from plant_simulator.talq_gateway import TalqGateway
from plant_simulator.talq_server import TalqServer
from plant_simulator.transport_security import SERVER_CERTIFICATE, SERVER_KEY

REPORT_S = 1.0


class TalqFront:
    """A TALQ gateway."""

    def __init__(self, device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> None:
        self.gateway = TalqGateway(device, plant, seed)
        connection = device.connection
        self.wanted_port = connection.port
        self.reports = 0
        tls, verify = None, None
        if connection.tls is not None and certificates is not None:
            files = TlsFiles(ca=connection.tls.ca, certificate=SERVER_CERTIFICATE, key=SERVER_KEY)
            tls = server_context(files, certificates, ask_client=connection.tls.certificate is not None)
            verify = client_context(files, certificates)
        self.server = TalqServer(self.gateway, tls)
        self._cms = f"{'http' if tls is None else 'https'}://127.0.0.1:{connection.listen_port}"
        self._reporting = connection.listen_port is not None
        self._client = httpx.AsyncClient(timeout=2.0, trust_env=False, verify=True if verify is None else verify)
        self._reporter: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"{self.server.host}:{self.server.port}"

    async def start(self, host: str) -> None:
        await self.server.start(host, self.wanted_port)
        if self._reporting:
            self._reporter = asyncio.create_task(self._report())

    async def stop(self) -> None:
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.gather(self._reporter, return_exceptions=True)
        await self._client.aclose()
        await self.server.stop()

    async def refresh(self) -> None:
        self.gateway.refresh()
        await self.server.obey_line()

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "talq",
            "address": self.address,
            "writes": self.gateway.writes,
            "level": self.gateway.level(),
            "reports": self.reports,
        }

    async def _report(self) -> None:
        """Tell the CMS every measurement each second, as its logger wants it."""
        while True:
            await asyncio.sleep(REPORT_S)
            logs = self.gateway.reports()
            if not logs or self.gateway.signals.down or self.gateway.signals.silent:
                continue
            asked = {"clientAddress": self.gateway.address_of("gateway"), "talqRequestId": str(uuid.uuid4())}
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._client.post(
                    f"{self._cms}/log-reports", json=logs, params=asked, headers={"talq-api-version": "2.7.1"}
                )
                self.reports += answer.is_success
