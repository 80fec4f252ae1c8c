"""IEC 60870-5-104: how information objects are addressed; a worker process speaks the protocol.

Addresses follow from the device's template; with `a` the register address of an asset's point: measured values are at
1 + a, orders at 20001 + a (C_SE_NC_1), the order in force at 30001 + a, the schedule's slots at 20001 + a and its start
at 20001 + a (C_BO_NA_1), the device's revert time at 40001 and its heartbeat at 40002.
"""

from __future__ import annotations

from dataclasses import dataclass

from flexergy_pipelines.grid.templates import Schedule, TemplatePoint

WORKER = "control_loop.protocols.iec104_worker"
MEASURED_BASE = 1
ORDER_BASE = 20_001
IN_FORCE_BASE = 30_001


@dataclass(frozen=True, slots=True)
class Iec104Addressing:
    """Addresses of the information objects of one station.

    Attributes
    ----------
    asset_stride : int
        Distance between the blocks of two assets, from the template.
    """

    asset_stride: int
    ttl: str = "40001"
    heartbeat: str = "40002"

    def measured(self, point: TemplatePoint, index: int) -> str:
        """See `Addressing.measured`."""
        base = IN_FORCE_BASE if point.writable else MEASURED_BASE
        return str(base + point.address + index * self.asset_stride)

    def order(self, point: TemplatePoint, index: int) -> str:
        """See `Addressing.order`."""
        return str(ORDER_BASE + point.address + index * self.asset_stride)

    def slot(self, schedule: Schedule, slot: int, index: int) -> str:
        """See `Addressing.slot`."""
        return str(ORDER_BASE + schedule.point(slot).address + index * self.asset_stride)

    def start(self, schedule: Schedule, index: int) -> str:
        """See `Addressing.start`."""
        return str(ORDER_BASE + schedule.start_address + index * self.asset_stride)
