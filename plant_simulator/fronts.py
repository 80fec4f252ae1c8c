"""How a simulated device stands in the network: one front for each protocol, all driven alike by the field."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flexergy_pipelines.grid import Device
from flexergy_pipelines.grid.connection import Connection, TlsFiles
from flexergy_pipelines.grid.tls import client_context, server_context
from plant_simulator.device import DeviceRegisters
from plant_simulator.iec104 import Iec104Device
from plant_simulator.iec61850 import Iec61850Device
from plant_simulator.line import FaultyLine
from plant_simulator.modbus_server import ModbusDevice
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals
from plant_simulator.worker import Message, Worker


class Front(Protocol):
    """A device on the network."""

    @property
    def address(self) -> str:
        """``host:port`` that it is bound to; empty when it listens nowhere."""
        ...

    @property
    def wanted_port(self) -> int:
        """Port it is configured to have."""
        ...

    async def start(self, host: str) -> None:
        """Listen on the configured port or the next free one."""
        ...

    async def stop(self) -> None:
        """Close the port and every connection."""
        ...

    async def refresh(self) -> None:
        """Show the plant's present values; open or close the port as faults want it."""
        ...

    def statistics(self) -> dict[str, Any]:
        """Address and counts, for the `/state` page."""
        ...


class ModbusFront:
    """A Modbus TCP device."""

    def __init__(self, device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> None:
        self.registers = DeviceRegisters(device, plant, seed)
        tls = tls_of(device, certificates)
        self.server = ModbusDevice(device.connection.unit_id, self.registers, self.registers.signals, tls)
        self.wanted_port = device.connection.port

    @property
    def address(self) -> str:
        return f"{self.server.host}:{self.server.port}"

    async def start(self, host: str) -> None:
        await self.server.start(host, self.wanted_port)

    async def stop(self) -> None:
        await self.server.stop()

    async def refresh(self) -> None:
        self.registers.refresh()
        await self.server.obey_line()

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "modbus_tcp",
            "address": self.address,
            "connections": self.server.connections,
            "requests": self.server.requests,
            "writes": self.server.writes,
        }


class WorkerImage(Protocol):
    """A device as its protocol's worker sees it."""

    device: Device
    signals: DeviceSignals
    writes: int

    def spec(self) -> dict[str, Any]:
        """What the worker must know."""
        ...

    def changes(self) -> Mapping[Any, float | None]:
        """Values that changed since they were last asked for."""
        ...

    def forget_sent(self) -> None:
        """Let `changes` give everything again."""
        ...


class WorkerFront:
    """A device whose protocol is spoken by a worker process of its own, behind a line that can fail.

    Parameters
    ----------
    image : WorkerImage
        The device in the protocol's terms.
    module : str
        The worker's module.
    spec : dict
        The worker's specification.
    take : callable
        Takes an order that the worker received: its message.
    tls : ssl.SSLContext, optional
        Transport security of the line.
    """

    def __init__(
        self,
        image: WorkerImage,
        module: str,
        spec: Message,
        take: Callable[[Message], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.image = image
        self.wanted_port = image.device.connection.port
        self.worker = Worker(module, spec, self._hear, self._lose)
        self.line = FaultyLine(image.signals, lambda: self._backend, tls)
        self._take = take
        self._backend: tuple[str, int] | None = None

    @property
    def address(self) -> str:
        return f"{self.line.host}:{self.line.port}"

    @property
    def ready(self) -> bool:
        """Whether the worker serves."""
        return self._backend is not None

    async def start(self, host: str) -> None:
        self.worker.start()
        await self.line.start(host, self.wanted_port)

    async def stop(self) -> None:
        await self.line.stop()
        await self.worker.stop()

    async def refresh(self) -> None:
        self.image.signals.refresh()
        changes = self.image.changes() if self._backend is not None else {}
        if changes and not self.worker.send({"key": self.image.device.key, "values": changes}):
            self.image.forget_sent()
        await self.line.obey_line()

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": self.image.device.connection.protocol,
            "address": self.address,
            "connections": self.line.connections,
            "writes": self.image.writes,
            "worker_restarts": self.worker.restarts,
        }

    def _lose(self) -> None:
        self._backend = None

    def _hear(self, message: Message) -> None:
        if "port" in message:
            self._backend = ("127.0.0.1", message["port"])
            self.image.forget_sent()
        elif "value" in message:
            self._take(message)


def iec104_front(device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> WorkerFront:
    """An IEC 60870-5-104 device."""
    image = Iec104Device(device, plant, seed)
    return WorkerFront(
        image,
        "plant_simulator.iec104_worker",
        {"devices": [image.spec()]},
        lambda message: image.take(message["ioa"], message["value"]),
        tls_of(device, certificates),
    )


def iec61850_front(device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> WorkerFront:
    """An IEC 61850 device."""
    image = Iec61850Device(device, plant, seed)
    return WorkerFront(
        image,
        "plant_simulator.iec61850_worker",
        image.spec(),
        lambda message: image.take(message["name"], message["value"]),
        tls_of(device, certificates),
    )


class OcppFront:
    """The charge points of an EV charging manager: they dial the central system at the manager's address."""

    address = ""
    wanted_port = 0

    def __init__(self, device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> None:
        from plant_simulator.ocpp_charger import Charger

        self.signals = DeviceSignals(device, plant, seed)
        secure = device.connection.tls is not None and certificates is not None
        self.url = f"{'wss' if secure else 'ws'}://{device.connection.host}:{device.connection.port}/ocpp"
        self._access = lambda name: charger_access(device.connection, certificates, name)
        self.chargers = [
            Charger(point, plant.clock, self._skew_s) for point in plant.charging[device.assets[0].id].points
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str) -> None:  # noqa: ARG002 - charge points listen nowhere
        from plant_simulator.ocpp_link import stay_connected

        # The library logs every message.
        logging.getLogger("ocpp").setLevel(logging.CRITICAL)
        for charger in self.chargers:
            access = partial(self._access, charger.identity)
            task = asyncio.create_task(stay_connected(charger, lambda: self.url, self.signals, access))
            self._tasks.append(task)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def refresh(self) -> None:
        for charger in self.chargers:
            charger.tick()

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "ocpp16",
            "central_system": self.url,
            "connections": sum(charger.registered for charger in self.chargers),
            "transactions": sum(charger.running is not None for charger in self.chargers),
            "untold": sum(len(charger.outbox) for charger in self.chargers),
        }

    def _skew_s(self) -> float:
        fault = self.signals.plant.faults.find(self.signals.device.key, "clock_skew")
        return 0.0 if fault is None else fault.value


class DlmsFront:
    """A DLMS/COSEM meter."""

    def __init__(self, device: Device, plant: Plant, seed: int) -> None:
        from plant_simulator.dlms_meter import DlmsMeter
        from plant_simulator.dlms_server import DlmsServer

        self.meter = DlmsMeter(device, plant, seed)
        self.server = DlmsServer(self.meter)
        self.wanted_port = device.connection.port

    @property
    def address(self) -> str:
        return f"{self.server.host}:{self.server.port}"

    async def start(self, host: str) -> None:
        await self.server.start(host, self.wanted_port)

    async def stop(self) -> None:
        await self.server.stop()

    async def refresh(self) -> None:
        self.meter.refresh()
        await self.server.obey_line()

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "dlms",
            "address": self.address,
            "connections": self.server.connections,
            "requests": self.server.requests,
            "profile_entries": len(self.meter.profile),
        }


SERVER_CERTIFICATE, SERVER_KEY = "simulator.pem", "simulator.key"
"""What simulated devices show, in the folder of certificates."""


def tls_of(device: Device, certificates: Path | None) -> ssl.SSLContext | None:
    """Transport security of a simulated device; a client must show a certificate where the site's connection has one.

    Raises
    ------
    TlsError
        Its files are missing or not sound.
    """
    tls = device.connection.tls
    if tls is None or certificates is None:
        return None
    files = TlsFiles(ca=tls.ca, certificate=SERVER_CERTIFICATE, key=SERVER_KEY)
    return server_context(files, certificates, ask_client=tls.certificate is not None)


def charger_access(connection: Connection, certificates: Path | None, name: str) -> dict[str, Any]:
    """How a simulated charge point shows who it is: its certificate and its key, where the folder has them.

    They are ``<charge point>.pem`` with ``<charge point>.key``, and the line in ``<charge point>.authorization``.
    """
    options: dict[str, Any] = {}
    if certificates is None:
        return options
    if connection.tls is not None:
        own = (certificates / f"{name}.pem").exists()
        files = TlsFiles(
            ca=connection.tls.ca, certificate=f"{name}.pem" if own else None, key=f"{name}.key" if own else None
        )
        options["ssl"] = client_context(files, certificates)
    key = certificates / f"{name}.authorization"
    if connection.basic_auth and key.exists():
        credentials = base64.b64encode(f"{name}:{key.read_text().strip()}".encode()).decode()
        options["additional_headers"] = {"Authorization": f"Basic {credentials}"}
    return options


def make_front(device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> Front:
    """The front that speaks the device's protocol.

    Parameters
    ----------
    certificates : Path, optional
        Folder of the files of transport security.

    Raises
    ------
    ValueError
        If the simulator does not speak it, or the files of its transport security are not sound.
    """
    match device.connection.protocol:
        case "modbus_tcp":
            return ModbusFront(device, plant, seed, certificates)
        case "iec104":
            return iec104_front(device, plant, seed, certificates)
        case "iec61850":
            return iec61850_front(device, plant, seed, certificates)
        case "ocpp16" if device.kind == "ev_charging_manager":
            return OcppFront(device, plant, seed, certificates)
        case "dlms" if device.kind.endswith("_meter"):
            return DlmsFront(device, plant, seed)
        case "talq" if device.kind == "load_controller" or device.kind.endswith("_meter"):
            from plant_simulator.talq_front import TalqFront

            return TalqFront(device, plant, seed, certificates)
        case other:
            raise ValueError(f"{device.key}: the simulator does not speak {other}")
