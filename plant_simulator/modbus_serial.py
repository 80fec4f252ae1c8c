"""Modbus RTU units on a serial line that they share: a pseudo terminal, whose other end a client opens as its port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from typing import cast

from pymodbus.datastore import ModbusServerContext
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.simulator.simcore import SimCore

from plant_simulator.modbus_unit import ModbusUnit

BROADCAST = 0
BETWEEN_FRAMES_S = 0.1
"""Silence after which what came before is no part of a frame any more: 3.5 characters, and more for a busy machine."""
LARGEST_READ = 4096


class SerialLineServer:
    """One serial line with its units.

    As on a real line, a request to a unit that is not there, that is down or silent meets silence, and a request to
    unit 0 is for all of them and answered by none.
    """

    def __init__(self) -> None:
        self.path = ""
        self._units: dict[int, ModbusUnit] = {}
        self._master = self._slave = -1
        self._context: SimCore | None = None
        self._decoder = DecodePDU(True)
        self._framer = FramerRTU(self._decoder)
        self._received = b""
        self._heard_s = 0.0
        self._answers: set[asyncio.Task[None]] = set()

    def join(self, unit: ModbusUnit) -> str:
        """Hang a unit on the line, which is opened for the first; returns the device file of the client's end.

        Raises
        ------
        ValueError
            If another unit has the number.
        """
        if unit.unit_id in self._units:
            raise ValueError(f"unit {unit.unit_id} hangs on this serial line twice")
        self._units[unit.unit_id] = unit
        self._context = SimCore([other.sim_device() for other in self._units.values()])
        if self._master < 0:
            self._open()
        return self.path

    def leave(self, unit: ModbusUnit) -> None:
        """Take a unit off the line, which closes after the last."""
        self._units.pop(unit.unit_id, None)
        if not self._units and self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            for answer in self._answers:
                answer.cancel()
            for end in (self._master, self._slave):
                os.close(end)
            self._master = self._slave = -1

    def _open(self) -> None:
        # The client's end stays open here as well: clients come and go without an end of the line.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        asyncio.get_running_loop().add_reader(self._master, self._hear)

    def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_s > BETWEEN_FRAMES_S:
            self._received = b""
        self._heard_s = loop.time()
        self._received += os.read(self._master, LARGEST_READ)
        used, unit_id, _, pdu = self._framer.decode(self._received)
        self._received = self._received[used:]
        if not pdu:
            return
        try:
            request = self._decoder.decode(pdu)
        except ModbusException:
            return
        if request is not None:
            answer = loop.create_task(self._obey(request, unit_id))
            self._answers.add(answer)
            answer.add_done_callback(self._answers.discard)

    async def _obey(self, request: ModbusPDU, unit_id: int) -> None:
        meant = (
            self._units.values() if unit_id == BROADCAST else [self._units[unit_id]] if unit_id in self._units else []
        )
        for unit in [unit for unit in meant if not (unit.line.down or unit.line.silent)]:
            response = await request.datastore_update(cast(ModbusServerContext, self._context), unit.unit_id)
            response.dev_id = unit.unit_id
            await asyncio.sleep(unit.line.delay_s)
            if unit_id != BROADCAST and self._master >= 0:
                self._say(self._framer.buildFrame(response))

    def _say(self, frame: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # what nobody reads is lost when the line is full
            os.write(self._master, frame)
