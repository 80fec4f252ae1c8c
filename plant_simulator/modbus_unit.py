"""One Modbus unit as a client sees it: its registers behind the library's data model, whatever carries the frames."""

from __future__ import annotations

from typing import Protocol, cast

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.simulator.simutils import SimUtils

TABLES = {
    1: "coil", 5: "coil", 15: "coil", 2: "discrete", 4: "input",
    3: "holding", 6: "holding", 16: "holding", 22: "holding", 23: "holding",
}  # fmt: skip
"""Table of each function code."""
BITS = frozenset({"coil", "discrete"})
BITS_A_REGISTER = 16


class Registers(Protocol):
    """What a device's registers hold and do; tables are ``holding``, ``input``, ``coil`` and ``discrete``."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of registers of each table."""
        ...

    def read(self, table: str, address: int, count: int) -> list[int]:
        """Registers, or bits as 0 and 1, as a client sees them."""
        ...

    def write(self, address: int, values: list[int], table: str = "holding") -> list[int] | None:
        """Take a write to the holding registers or coils; returns what they then hold, None to refuse the value."""
        ...


class Line(Protocol):
    """How a device's line behaves now."""

    @property
    def down(self) -> bool:
        """The port is closed."""
        ...

    @property
    def silent(self) -> bool:
        """Connections are taken and requests never answered."""
        ...

    @property
    def delay_s(self) -> float:
        """Delay of each answer [s]."""
        ...


class ModbusUnit:
    """A unit: what it holds, how its line behaves, and how often it was asked.

    Parameters
    ----------
    unit_id : int
        Modbus unit identifier.
    registers : Registers
        What the registers hold and do.
    line : Line
        How the line behaves.
    """

    def __init__(self, unit_id: int, registers: Registers, line: Line) -> None:
        self.unit_id = unit_id
        self.line = line
        self.requests = 0
        self.writes = 0
        self._registers = registers

    def sim_device(self) -> SimDevice:
        """The unit in the library's terms."""

        def block(size: int) -> list[SimData]:
            # One entry with a list: the library's check of an entry with a count takes count * count registers.
            return [SimData(0, values=[0] * max(1, size), datatype=DataType.REGISTERS)]

        def bits(size: int) -> list[SimData]:
            whole = -(-max(1, size) // BITS_A_REGISTER) * BITS_A_REGISTER
            return [SimData(0, values=[False] * whole, datatype=DataType.BITS)]

        sizes = self._registers.sizes
        tables = (
            bits(sizes.get("coil", 0)),
            bits(sizes.get("discrete", 0)),
            block(sizes["holding"]),
            block(sizes["input"]),
        )
        return SimDevice(self.unit_id, simdata=tables, action=self._act)

    async def _act(  # noqa: PLR0917 - the library's signature
        self,
        function_code: int,
        start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the library before it reads or writes its memory: keeps that memory equal to the device."""
        self.requests += 1
        table = TABLES.get(function_code)
        if table is None or (table in BITS and not self._registers.sizes.get(table)):
            return ExcCodes.ILLEGAL_FUNCTION
        if set_values is not None:
            held = self._registers.write(address, [int(value) for value in set_values], table)
            if held is None:
                return ExcCodes.ILLEGAL_VALUE
            self.writes += 1
            cast(list[int], set_values)[:] = [bool(value) for value in held] if table in BITS else held
            return None
        if table in BITS:
            shown = [bool(bit) for bit in self._registers.read(table, 0, self._registers.sizes[table])]
            packed = SimUtils.bitsToRegisters(shown + [False] * (-len(shown) % BITS_A_REGISTER))
            current_registers[: len(packed)] = packed
            return None
        offset = address - start_address
        current_registers[offset : offset + count] = self._registers.read(table, address, count)
        return None
