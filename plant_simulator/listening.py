"""Fronts of devices that are served by this process: Modbus over TCP and on serial lines, and DLMS meters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from flexergy_pipelines.grid import Device
from plant_simulator.device import DeviceRegisters
from plant_simulator.modbus_serial import SerialLineServer
from plant_simulator.modbus_server import ModbusDevice
from plant_simulator.modbus_unit import ModbusUnit
from plant_simulator.plant import Plant
from plant_simulator.transport_security import tls_of


class _Image(Protocol):
    """What a device shows."""

    def refresh(self) -> None:
        """Show the plant's present values."""
        ...


class _Server(Protocol):
    """Where it shows it."""

    host: str
    port: int

    async def start(self, host: str, port: int) -> Any:
        """Listen on `port` or the next free one."""
        ...

    async def stop(self) -> None:
        """Close the port and every connection."""
        ...

    async def obey_line(self) -> None:
        """Open or close the port as the line's state wants."""
        ...


class ListeningFront:
    """A device with a server of its own.

    Parameters
    ----------
    image : _Image
        What it shows.
    server : _Server
        Where it listens.
    wanted_port : int
        Port it is configured to have.
    """

    def __init__(self, image: _Image, server: _Server, wanted_port: int) -> None:
        self.wanted_port = wanted_port
        self._image = image
        self._server = server

    @property
    def address(self) -> str:
        return f"{self._server.host}:{self._server.port}"

    async def start(self, host: str) -> None:
        await self._server.start(host, self.wanted_port)

    async def stop(self) -> None:
        await self._server.stop()

    async def refresh(self) -> None:
        self._image.refresh()
        await self._server.obey_line()


class ModbusFront(ListeningFront):
    """A Modbus TCP device."""

    def __init__(self, device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> None:
        self.registers = DeviceRegisters(device, plant, seed)
        tls = tls_of(device, certificates)
        unit = ModbusUnit(device.connection.unit_id, self.registers, self.registers.signals)
        self.server = ModbusDevice(unit, tls)
        super().__init__(self.registers, self.server, device.connection.port)

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "modbus_tcp",
            "address": self.address,
            "connections": self.server.connections,
            "requests": self.server.unit.requests,
            "writes": self.server.unit.writes,
        }


class SerialFront:
    """A Modbus RTU device on a serial line that others may share."""

    wanted_port = 0

    def __init__(self, device: Device, plant: Plant, seed: int, line: SerialLineServer) -> None:
        self.registers = DeviceRegisters(device, plant, seed)
        self.unit = ModbusUnit(device.connection.unit_id, self.registers, self.registers.signals)
        self._line = line

    @property
    def address(self) -> str:
        return self._line.path

    async def start(self, host: str) -> None:  # noqa: ARG002 - a serial line is on this machine
        self._line.join(self.unit)

    async def stop(self) -> None:
        self._line.leave(self.unit)

    async def refresh(self) -> None:
        self.registers.refresh()

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "modbus_rtu",
            "address": self.address,
            "unit_id": self.unit.unit_id,
            "requests": self.unit.requests,
            "writes": self.unit.writes,
        }


class DlmsFront(ListeningFront):
    """A DLMS/COSEM meter."""

    def __init__(self, device: Device, plant: Plant, seed: int, certificates: Path | None = None) -> None:
        from plant_simulator.dlms_meter import DlmsMeter
        from plant_simulator.dlms_tcp import DlmsServer

        self.meter = DlmsMeter(device, plant, seed)
        self.server = DlmsServer(self.meter, tls_of(device, certificates))
        super().__init__(self.meter, self.server, device.connection.port)

    def statistics(self) -> dict[str, Any]:
        return {
            "protocol": "dlms",
            "address": self.address,
            "connections": self.server.connections,
            "requests": self.server.requests,
            "profile_entries": len(self.meter.profile),
        }
