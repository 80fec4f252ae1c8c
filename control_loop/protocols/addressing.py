"""What a device calls its points: by the rule of its template, or as the site's connection names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from control_loop.image import PointKey
from flexergy_pipelines.grid.connection import ObjectPoint
from flexergy_pipelines.grid.templates import DeviceTemplate, Schedule, TemplatePoint

SINGLE_POINTS = frozenset({"available", "running"})
"""Quantities that are yes or no."""
TTL, HEARTBEAT, START, SLOT = "setpoint_ttl_s", "heartbeat", "schedule_start", "schedule_"
"""Quantities by which a connection names what is no point: revert time, heartbeat, start and slots of a schedule."""


class Addressing(Protocol):
    """How a protocol names the objects of a device, from its template."""

    @property
    def ttl(self) -> str:
        """Object that takes the device's revert time [s]."""
        ...

    @property
    def heartbeat(self) -> str:
        """Object that takes the heartbeat."""
        ...

    def measured(self, point: TemplatePoint, index: int) -> str:
        """Object that shows a point of asset number `index`: what is measured, or the order in force; empty: none."""
        ...

    def order(self, point: TemplatePoint, index: int) -> str:
        """Object that takes an order; empty when there is none."""
        ...

    def slot(self, schedule: Schedule, slot: int, index: int) -> str:
        """Object that takes a slot of the next hour's schedule."""
        ...

    def start(self, schedule: Schedule, index: int) -> str:
        """Object that takes the schedule's start."""
        ...


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object of a device.

    Attributes
    ----------
    kind : str
        ``analogue``, ``single``, ``double``, ``integer``, ``word`` (32 bits, which a short float cannot hold) or
        ``start`` (seconds since 1970).
    select : bool
        Whether an order is selected before it is executed (IEC 60870-5-104).
    scale : float
        Platform's value = object's value x scale.
    """

    name: str
    kind: str = "analogue"
    select: bool = False
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ObjectMap:
    """All objects of one device that the loop reads or commands.

    Attributes
    ----------
    shown : dict
        Object that shows each point.
    orders : dict
        Object that takes each order.
    slots : dict
        By asset: the objects of the schedule's slots, and of its start.
    ttl, heartbeat : NamedObject or None
        Of the whole device.
    """

    shown: Mapping[PointKey, NamedObject]
    orders: Mapping[PointKey, NamedObject]
    slots: Mapping[str, tuple[tuple[NamedObject, ...], NamedObject]]
    ttl: NamedObject | None = None
    heartbeat: NamedObject | None = None

    @property
    def commanded(self) -> list[NamedObject]:
        """Everything that takes orders."""
        scheduled = [item for slots, start in self.slots.values() for item in (*slots, start)]
        rest = [item for item in (self.ttl, self.heartbeat) if item is not None]
        return [*self.orders.values(), *scheduled, *rest]


def by_rule(
    names: Addressing,
    template: DeviceTemplate,
    assets: Sequence[str],
    quantities: Mapping[str, frozenset[str]],
    *,
    select: bool = False,
) -> ObjectMap:
    """Objects as they follow from the template.

    Parameters
    ----------
    names : Addressing
        The protocol's rule.
    assets, quantities
        Assets behind the device in their order, and what is wanted of each.
    select : bool
        Whether orders of setpoints are selected before they are executed.
    """
    shown: dict[PointKey, NamedObject] = {}
    orders: dict[PointKey, NamedObject] = {}
    slots: dict[str, tuple[tuple[NamedObject, ...], NamedObject]] = {}
    for index, asset in enumerate(assets):
        for point in template.points:
            name = names.measured(point, index)
            if name and point.quantity in quantities[asset]:
                kind = "word" if point.quantity in template.alarm_words else "analogue"
                kind = "single" if point.quantity in SINGLE_POINTS else kind
                shown[asset, point.quantity] = NamedObject(name, kind)
            if point.writable and names.order(point, index):
                orders[asset, point.quantity] = NamedObject(names.order(point, index), select=select)
        schedule = template.schedule
        if schedule is not None:
            kept = tuple(NamedObject(names.slot(schedule, slot, index)) for slot in range(schedule.slots))
            slots[asset] = (kept, NamedObject(names.start(schedule, index), "start"))
    if not orders:
        return ObjectMap(shown, orders, slots)
    return ObjectMap(shown, orders, slots, NamedObject(names.ttl), NamedObject(names.heartbeat))


def by_name(
    device: str, objects: Sequence[ObjectPoint], assets: Sequence[str], quantities: Mapping[str, frozenset[str]]
) -> ObjectMap:
    """Objects as the site's connection names them.

    Raises
    ------
    ValueError
        A point names an asset that is not behind the device, or none where there are several; or a schedule has gaps.
    """
    shown: dict[PointKey, NamedObject] = {}
    orders: dict[PointKey, NamedObject] = {}
    device_wide: dict[str, NamedObject] = {}
    parts: dict[str, dict[str, NamedObject]] = {asset: {} for asset in assets}
    for item in objects:
        read = NamedObject(item.read, item.kind, item.select, item.scale) if item.read else None
        write = NamedObject(item.write, item.kind, item.select, item.scale) if item.write else None
        if item.quantity in {TTL, HEARTBEAT} and write is not None:
            device_wide[item.quantity] = write
            continue
        asset = item.asset or (assets[0] if len(assets) == 1 else "")
        if asset not in parts:
            raise ValueError(
                f"{device}: object of {item.quantity}: asset {asset or '(none)'} is not one of {', '.join(assets)}"
            )
        if item.quantity.startswith(SLOT) and write is not None:
            parts[asset][item.quantity] = write
            continue
        if read is not None and item.quantity in quantities[asset]:
            shown[asset, item.quantity] = read
        if write is not None:
            orders[asset, item.quantity] = write
    slots: dict[str, tuple[tuple[NamedObject, ...], NamedObject]] = {}
    for asset, found in parts.items():
        if not found:
            continue
        wanted = [f"{SLOT}{number}" for number in range(1, len(found))]
        missing = [name for name in (*wanted, START) if name not in found]
        if missing:
            raise ValueError(f"{device}: schedule of {asset}: {', '.join(missing)} is missing")
        start = found[START]
        slots[asset] = (tuple(found[name] for name in wanted), NamedObject(start.name, "start", start.select))
    return ObjectMap(shown, orders, slots, device_wide.get(TTL), device_wide.get(HEARTBEAT))
