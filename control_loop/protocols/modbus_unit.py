"""Requests to one Modbus unit: connecting, asking, and what of an answer can be trusted."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusException

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.modbus_blocks import MAX_BLOCK
from control_loop.protocols.modbus_line import LineError, ModbusLine
from control_loop.protocols.modbus_words import error_in_words, exception_in_words, frame_in_words

BIT_TABLES = frozenset({"coil", "discrete"})
READS: dict[str, tuple[int, Callable[..., Awaitable[Any]]]] = {
    "coil": (1, ModbusBaseClient.read_coils),
    "discrete": (2, ModbusBaseClient.read_discrete_inputs),
    "holding": (3, ModbusBaseClient.read_holding_registers),
    "input": (4, ModbusBaseClient.read_input_registers),
}
"""Function code and the library's request for each table."""
READING = frozenset(code for code, _ in READS.values())
ILLEGAL_FUNCTION, ACKNOWLEDGE, BUSY = 1, 5, 6
PARTED = frozenset({2, 3, 4})
"""Refusals (address, value, failure) after which a block is asked for in parts: some of its registers may be there."""
GATEWAY = frozenset({10, 11})
"""A gateway answered, for the device behind it did not."""
TRIES = 3
"""Of one request: to a busy device, and on a serial line whose answers come garbled."""
PAUSE_S = 0.05
"""Before the second try; twice as long before each further one, less up to half of it at random."""


class RefusedError(DriverError):
    """The device answered, with a refusal.

    Parameters
    ----------
    code : int
        Exception code of the answer.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class ModbusUnit:
    """One unit of a line.

    Parameters
    ----------
    device : str
        Identity of the device in its site.
    line : ModbusLine
        The way to it.
    unit_id : int
        Its number on the line.
    timeout_s : float
        Longest wait for one answer [s].
    backoff : Backoff, optional
        Pauses between tries to connect.
    """

    def __init__(
        self, device: str, line: ModbusLine, *, unit_id: int = 1, timeout_s: float = 0.3, backoff: Backoff | None = None
    ) -> None:
        self.device = device
        self.health = LinkHealth()
        self._line = line
        self._unit_id = unit_id
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        self._client: ModbusBaseClient | None = None
        self._connecting = asyncio.Lock()
        self._greeted = False
        self._writes_singly = False

    async def close(self) -> None:
        """End the link."""
        self._drop()

    async def _connected(self) -> None:
        async with self._connecting:  # a reading that is late and an order must not connect twice
            if self._client is not None and self._client.connected:
                return
            self._drop()
            now = time.monotonic()
            if not self._backoff.ready(now):
                raise DriverError(f"{self.device}: down, next try in {self._backoff.wait_s(now):.1f} s")
            self.health.note(f"-- connecting to {self._line.place}")
            try:
                self._client = await self._line.open(self._timeout_s, self._traced)
            except LineError as error:
                self._backoff.failed(time.monotonic())
                self.health.failed(f"{self.device}: {error} at {self._line.place}")
                self.health.note(f"-- no connection: {error}")
                raise DriverError(self.health.last_error) from None
            try:
                await self._look_around()
            except BaseException as error:
                # Who did not find its points must not read where others have theirs.
                if self._client is not None:
                    self._drop()
                    self._backoff.failed(time.monotonic())
                    if isinstance(error, DriverError):
                        self.health.last_error = str(error)
                raise
            self.health.connected = True
            self.health.reconnects += 1

    async def _look_around(self) -> None:
        """What must be read once after connecting."""

    async def _read_registers(self, table: str, address: int, count: int) -> list[int]:
        """Registers, or bits as 0 and 1, of a table."""

        code, read = READS[table]

        def request(client: ModbusBaseClient) -> Awaitable[Any]:
            return read(client, address, count=count, device_id=self._unit_id)

        answer = await self._asked(request, code, f"{table} {address}+{count}", count)
        found = [int(bit) for bit in answer.bits[:count]] if table in BIT_TABLES else list(answer.registers)
        if len(found) != count:
            # A late reply to an older request can carry the newest transaction id.
            raise self._broken(f"{table} {address}: {len(found)} registers instead of {count}")
        return found

    async def _write_registers(self, address: int, registers: list[int], table: str = "holding") -> None:
        """Write registers, or bits; as many requests as the protocol's size wants.

        A single value goes by the code for one where the device does not know the code for several.
        """
        for start in range(0, len(registers), MAX_BLOCK):
            part = registers[start : start + MAX_BLOCK]
            if self._writes_singly and len(part) == 1:
                await self._write_one(address + start, part[0], table)
                continue
            try:
                await self._write_several(address + start, part, table)
            except RefusedError as refusal:
                if refusal.code != ILLEGAL_FUNCTION or len(part) > 1:
                    raise
                await self._write_one(address + start, part[0], table)
                self._writes_singly = True

    async def _write_several(self, address: int, registers: list[int], table: str) -> None:
        def request(client: ModbusBaseClient) -> Awaitable[Any]:
            if table == "coil":
                return client.write_coils(address, [bool(bit) for bit in registers], device_id=self._unit_id)
            return client.write_registers(address, registers, device_id=self._unit_id)

        answer = await self._asked(request, 15 if table == "coil" else 16, f"write {address}", len(registers))
        if answer is not None and (answer.address, answer.count) != (address, len(registers)):
            raise self._broken(
                f"write {address}: the answer is to {answer.address}+{answer.count}, not {address}+{len(registers)}"
            )

    async def _write_one(self, address: int, register: int, table: str) -> None:
        def request(client: ModbusBaseClient) -> Awaitable[Any]:
            if table == "coil":
                return client.write_coil(address, bool(register), device_id=self._unit_id)
            return client.write_register(address, register, device_id=self._unit_id)

        answer = await self._asked(request, 5 if table == "coil" else 6, f"write {address}", 1)
        if answer is not None and answer.address != address:
            raise self._broken(f"write {address}: the answer is to {answer.address}")

    async def _asked(
        self, request: Callable[[ModbusBaseClient], Awaitable[Any]], code: int, what: str, registers: int
    ) -> Any:
        """The answer to a request, when it is one; None where the device has taken it and still works on it."""
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            if attempt:
                self.health.retries += 1
                spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, protects nothing
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1) * spread)
            async with self._line.turn(self._traced):
                client = self._open_client()
                began = time.monotonic()
                patience_s = self._line.patience_s(self._timeout_s, registers)
                client.ctx.comm_params.timeout_connect = patience_s
                try:
                    answer = await request(client)
                except (ModbusException, OSError) as error:
                    if self._line.garbled and not last:
                        continue
                    reason = "the answers are garbled" if self._line.garbled else error_in_words(error, patience_s)
                    raise self._broken(f"{what}: {reason}", client) from None
                except (ValueError, struct.error) as error:
                    raise DriverError(f"{self.device}: {what}: {error}") from None
            if answer.function_code & 0x7F != code:
                told = answer.function_code & 0x7F
                raise self._broken(f"{what}: the answer is to function {told}, not {code}", client)
            refused = answer.exception_code if answer.isError() else 0
            taken = refused == ACKNOWLEDGE and code not in READING
            if not refused or taken:
                self.health.answered(time.monotonic() - began)
                return None if taken else answer
            if refused in {BUSY, ACKNOWLEDGE} and not last:
                continue
            message = f"{what}: refused: {exception_in_words(refused)}"
            if refused in GATEWAY:
                raise self._broken(message, client)
            self.health.failed(f"{self.device}: {message}")
            raise RefusedError(self.health.last_error, refused)
        raise AssertionError("the last try has answered or raised")

    def _open_client(self) -> ModbusBaseClient:
        if self._client is None:
            raise DriverError(f"{self.device}: link was lost")
        return self._client

    def _broken(self, message: str, client: ModbusBaseClient | None = None) -> DriverError:
        """Drop a link whose stream of answers can no longer be trusted; a newer one than `client` stays."""
        if client is None or client is self._client:
            self._drop(lost=True)
            # On a serial line nothing but time tells a late answer from the next one.
            late_s = self._timeout_s if self._line.serial else 0.0
            self._backoff.failed(time.monotonic() + late_s)
            self.health.note(f"-- link dropped: {message}")
        self.health.failed(f"{self.device}: {message}")
        return DriverError(self.health.last_error)

    def _drop(self, *, lost: bool = False) -> None:
        if self._client is not None:
            self._line.drop(self._client, lost=lost)
            self._client = None
        self._greeted = False
        self.health.connected = False

    def _traced(self, sending: bool, data: bytes) -> bytes:
        if sending:
            self.health.bytes_sent += len(data)
        else:
            self.health.bytes_received += len(data)
        if self.health.tracing:
            self.health.note(frame_in_words(sending, data, serial=self._line.serial))
        return data
