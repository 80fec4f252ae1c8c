"""IEC 60870-5-104: how information objects are addressed; a worker process speaks the protocol.

Addresses follow from the device's template; with `a` the register address of an asset's point: measured values are at
1 + a (M_ME_NC_1, yes or no M_SP_NA_1, alarm words M_BO_NA_1), orders at 20001 + a (C_SE_NC_1; 25001 + a to select
before execute), the order in force at 30001 + a, the schedule's slots at 20001 + a and its start at 20001 + a
(C_BO_NA_1), the device's revert time at 40001 and its heartbeat at 40002.

A site's connection may name the objects instead: the number of the information object, with its type before it where
that is not the usual one of its kind, such as ``M_ME_TF_1:4001`` or ``C_DC_NA_1:6000``.
"""

from __future__ import annotations

from dataclasses import dataclass

from flexergy_pipelines.grid.templates import Schedule, TemplatePoint

WORKER = "control_loop.protocols.iec104_worker"
MEASURED_BASE = 1
ORDER_BASE = 20_001
SELECT_BASE = 25_001
IN_FORCE_BASE = 30_001


@dataclass(frozen=True, slots=True)
class Iec104Addressing:
    """Addresses of the information objects of one station.

    Attributes
    ----------
    asset_stride : int
        Distance between the blocks of two assets, from the template.
    control : str
        How orders are given; those that are selected first have addresses of their own.
    """

    asset_stride: int
    control: str = "direct"
    ttl: str = "40001"
    heartbeat: str = "40002"

    def measured(self, point: TemplatePoint, index: int) -> str:
        """See `Addressing.measured`."""
        base = IN_FORCE_BASE if point.writable else MEASURED_BASE
        return str(base + point.address + index * self.asset_stride)

    def order(self, point: TemplatePoint, index: int) -> str:
        """See `Addressing.order`."""
        base = SELECT_BASE if self.control.startswith("select") else ORDER_BASE
        return str(base + point.address + index * self.asset_stride)

    def slot(self, schedule: Schedule, slot: int, index: int) -> str:
        """See `Addressing.slot`."""
        return str(ORDER_BASE + schedule.point(slot).address + index * self.asset_stride)

    def start(self, schedule: Schedule, index: int) -> str:
        """See `Addressing.start`."""
        return str(ORDER_BASE + schedule.start_address + index * self.asset_stride)
