"""How a simulated device stands in the network: one front for each protocol, all driven alike by the field."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flexergy_pipelines.grid import Device
from plant_simulator.iec104 import Iec104Device
from plant_simulator.iec61850 import Iec61850Device
from plant_simulator.line import FaultyLine
from plant_simulator.listening import DlmsFront, ModbusFront, SerialFront
from plant_simulator.modbus_serial import SerialLineServer
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals
from plant_simulator.transport_security import charger_access, tls_of
from plant_simulator.worker import Message, Worker


class Front(Protocol):
    """A device on the network."""

    @property
    def address(self) -> str:
        """``host:port`` that it is bound to, or the device file of its serial line; empty when it listens nowhere."""
        ...

    @property
    def wanted_port(self) -> int:
        """Port it is configured to have; 0 for what has none."""
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
        news = {"key": self.image.device.key, "values": changes, "clock_error_s": self.image.signals.clock_error_s}
        if changes and not self.worker.send(news):
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
        fault = partial(plant.faults.find, device.key)
        self.chargers = [
            Charger(point, plant.clock, fault, random.Random(f"{seed}/{device.key}/{point.point_id}"))  # noqa: S311
            for point in plant.charging[device.assets[0].id].points
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


def make_front(  # noqa: PLR0911 - one for each protocol
    device: Device,
    plant: Plant,
    seed: int,
    certificates: Path | None = None,
    lines: dict[str, SerialLineServer] | None = None,
) -> Front:
    """The front that speaks the device's protocol.

    Parameters
    ----------
    certificates : Path, optional
        Folder of the files of transport security.
    lines : dict, optional
        Serial lines of the plant by the device file that the site names; a new one is added.

    Raises
    ------
    ValueError
        If the simulator does not speak it, or the files of its transport security are not sound.
    """
    match device.connection.protocol:
        case "modbus_tcp":
            return ModbusFront(device, plant, seed, certificates)
        case "modbus_rtu" if device.connection.serial is not None:
            known = {} if lines is None else lines
            line = known.setdefault(device.connection.serial.device, SerialLineServer())
            return SerialFront(device, plant, seed, line)
        case "iec104":
            return iec104_front(device, plant, seed, certificates)
        case "iec61850":
            return iec61850_front(device, plant, seed, certificates)
        case "ocpp16" if device.kind == "ev_charging_manager":
            return OcppFront(device, plant, seed, certificates)
        case "dlms" if device.kind.endswith("_meter"):
            return DlmsFront(device, plant, seed, certificates)
        case "talq" if device.kind == "load_controller" or device.kind.endswith("_meter"):
            from plant_simulator.talq_front import TalqFront

            return TalqFront(device, plant, seed, certificates)
        case other:
            raise ValueError(f"{device.key}: the simulator does not speak {other}")
