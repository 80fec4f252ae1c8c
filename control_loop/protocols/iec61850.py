"""IEC 61850 (MMS): how data objects are named; a worker process speaks the protocol.

Names follow from the device's template unless the site's connection names them. The IED is FLX, its logical device the
device's id without hyphens; asset number n (from 1) is the logical node GGIOn. Of the template's points, in order: the
k-th measured value is AnInk [MX], the k-th yes or no is Indk [ST], the k-th alarm word IntInk [ST]. The first order of
an asset is AnOut1 to AnOut4 and its second AnOut5 to AnOut8 (APC; mxVal is the order in force), which are the same
order in four control models: direct, select before operate, and both with enhanced security. AnOut11 to AnOut14 take
the slots of the next hour's schedule, ISCSO1 its start; GGIO90.AnOut1 is the revert time, GGIO90.AnOut2 the heartbeat.
"""

from __future__ import annotations

from control_loop.protocols.addressing import SINGLE_POINTS
from flexergy_pipelines.grid.templates import DeviceTemplate, Schedule, TemplatePoint

WORKER = "control_loop.protocols.iec61850_worker"
IED = "FLX"
CONTROL_MODELS = ("direct", "select", "direct_enhanced", "select_enhanced")
ORDERS = 2
"""Orders of an asset that have objects by rule."""
FIRST_SLOT = 11


class Iec61850Addressing:
    """References of the data objects of one device, without their functional constraint.

    Parameters
    ----------
    device : str
        Id of the device in its site.
    template : DeviceTemplate
        Its points.
    control : str
        Control model of the orders, one of `CONTROL_MODELS`.
    """

    def __init__(self, device: str, template: DeviceTemplate, control: str = "direct") -> None:
        self._logical_device = f"{IED}{device.replace('-', '')}"
        self._names: dict[str, str] = {}
        model = CONTROL_MODELS.index(control)
        counts = {"AnIn": 0, "Ind": 0, "IntIn": 0}
        orders = 0
        for point in template.points:
            if point.writable:
                if orders < ORDERS:
                    self._names[point.quantity] = f"AnOut{1 + len(CONTROL_MODELS) * orders + model}"
                orders += 1
                continue
            kind = "IntIn" if point.quantity in template.alarm_words else "AnIn"
            kind = "Ind" if point.quantity in SINGLE_POINTS else kind
            counts[kind] += 1
            self._names[point.quantity] = f"{kind}{counts[kind]}"

    @property
    def report(self) -> str:
        """The buffered report control block of all measured values."""
        return f"{self._logical_device}/LLN0.BR.brcbValues01"

    @property
    def ttl(self) -> str:
        """See `Addressing.ttl`."""
        return f"{self._logical_device}/GGIO90.AnOut1"

    @property
    def heartbeat(self) -> str:
        """See `Addressing.heartbeat`."""
        return f"{self._logical_device}/GGIO90.AnOut2"

    def measured(self, point: TemplatePoint, index: int) -> str:
        """See `Addressing.measured`; only the first orders of an asset have an object."""
        name = self._names.get(point.quantity)
        return f"{self._logical_device}/GGIO{index + 1}.{name}" if name else ""

    def order(self, point: TemplatePoint, index: int) -> str:
        """See `Addressing.order`."""
        return self.measured(point, index)

    def slot(self, schedule: Schedule, slot: int, index: int) -> str:
        """See `Addressing.slot`."""
        del schedule
        return f"{self._logical_device}/GGIO{index + 1}.AnOut{FIRST_SLOT + slot}"

    def start(self, schedule: Schedule, index: int) -> str:
        """See `Addressing.start`."""
        del schedule
        return f"{self._logical_device}/GGIO{index + 1}.ISCSO1"
