"""One Modbus unit as a client sees it: its registers behind the library's data model, whatever carries the frames."""

from __future__ import annotations

from typing import Protocol, cast

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

HOLDING_CODES = (3, 6, 16, 22, 23)


class Registers(Protocol):
    """What a device's registers hold and do; tables are ``holding`` and ``input``."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of registers of each table."""
        ...

    def read(self, table: str, address: int, count: int) -> list[int]:
        """Registers as a client sees them."""
        ...

    def write(self, address: int, values: list[int]) -> list[int] | None:
        """Take a write to the holding table; returns what the registers then hold, None to refuse the value."""
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

        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        sizes = self._registers.sizes
        tables = (bits, list(bits), block(sizes["holding"]), block(sizes["input"]))
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
        if function_code == 4:
            table = "input"
        elif function_code in HOLDING_CODES:
            table = "holding"
        else:
            return ExcCodes.ILLEGAL_FUNCTION
        if set_values is not None:
            held = self._registers.write(address, [int(value) for value in set_values])
            if held is None:
                return ExcCodes.ILLEGAL_VALUE
            self.writes += 1
            cast(list[int], set_values)[:] = held
            return None
        offset = address - start_address
        current_registers[offset : offset + count] = self._registers.read(table, address, count)
        return None
