"""The live picture of a site: one number per point, how old it is, who is in control."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from flexergy_pipelines.grid import Site

STALE_AFTER_S = 10.0
"""A live value older than this is shown as stale: ten missed cycles of the control loop."""

PRODUCING = ("pcc", "pv", "wind", "genset", "ess")
CONSUMING = ("load", "controllable_load", "ev")


@dataclass(frozen=True, slots=True)
class LiveImage:
    """The newest value of each point of a site.

    Attributes
    ----------
    values : dict
        ``(asset_id, quantity)`` → value; only values that were really read and are not bad.
    newest : datetime or None
        Time of the newest value; None when nothing was ever written.
    """

    values: dict[tuple[str, str], float]
    newest: datetime | None

    def value(self, asset_id: str, quantity: str = "active_power_kw") -> float | None:
        """The value of a point, None when it has none."""
        return self.values.get((asset_id, quantity))

    def age_s(self, now: datetime) -> float | None:
        """Seconds since the newest value."""
        return None if self.newest is None else max(0.0, (now - self.newest).total_seconds())

    def is_stale(self, now: datetime) -> bool:
        """True when there is no value, or only old ones."""
        age = self.age_s(now)
        return age is None or age > STALE_AFTER_S


def live_image(frame: pl.DataFrame) -> LiveImage:
    """The image from the store's live frame (``asset_id, quantity, time, value, quality``).

    A value of quality bad or missing is left out: an old or wrong number must not pass for the present one.
    """
    good = frame.filter(pl.col("value").is_not_null() & ~pl.col("quality").is_in([2, 3]))
    values = {(row[0], row[1]): float(row[2]) for row in good.select("asset_id", "quantity", "value").iter_rows()}
    newest = frame["time"].max() if frame.height else None
    return LiveImage(values, newest if isinstance(newest, datetime) else None)


@dataclass(frozen=True, slots=True)
class Node:
    """One asset in the energy-flow picture.

    Attributes
    ----------
    power_kw : float or None
        In the sign of its kind (sources positive into the busbar, consumers positive taking from it).
    into_bus_kw : float or None
        The same, positive into the busbar for every kind.
    detail : str
        A second line, as the state of charge.
    """

    asset_id: str
    kind: str
    name: str
    power_kw: float | None
    into_bus_kw: float | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the site, each None when a part of it is unknown."""

    renewables_kw: float | None
    demand_kw: float | None
    grid_kw: float | None
    storage_kw: float | None
    soc: float | None


KIND_WORDS = {
    "pcc": "Grid",
    "pv": "PV",
    "wind": "Wind",
    "genset": "Genset",
    "ess": "Storage",
    "load": "Load",
    "controllable_load": "Flexible load",
    "ev": "EV charging",
}


def nodes(site: Site, image: LiveImage) -> list[Node]:
    """The assets of a site in the order they are drawn: sources first."""
    order = {kind: place for place, kind in enumerate((*PRODUCING, *CONSUMING))}
    result: list[Node] = []
    for asset in sorted(site.assets(), key=lambda a: order.get(a.kind, 99)):
        power = image.value(asset.id)
        into = power if power is None or asset.kind in PRODUCING else -power
        detail = ""
        if asset.kind == "ess":
            soc = image.value(asset.id, "soc")
            detail = "" if soc is None else f"{soc:.1%} charged"
        elif asset.kind == "genset" and image.value(asset.id, "running") is not None:
            detail = "running" if image.value(asset.id, "running") else "stopped"
        elif asset.kind == "pcc" and power is not None:
            detail = "importing" if power > 0.05 else "exporting" if power < -0.05 else "balanced"
        name = KIND_WORDS.get(asset.kind, asset.kind)
        result.append(Node(asset.id, asset.kind, name, power, into, detail))
    return result


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None


def totals(site: Site, image: LiveImage) -> Totals:
    """Sums by group; a sum with an unknown part is unknown, because missing is not zero."""

    def of(*kinds: str) -> list[float | None]:
        return [image.value(asset.id) for asset in site.assets() if asset.kind in kinds]

    charged: list[float | None] = []
    capacity = 0.0
    for ess in site.ess():
        soc = image.value(ess.id, "soc")
        charged.append(None if soc is None else soc * ess.energy_capacity_kwh)
        capacity += ess.energy_capacity_kwh
    stored = _sum(charged)
    return Totals(
        renewables_kw=_sum(of("pv", "wind")),
        demand_kw=_sum(of(*CONSUMING)),
        grid_kw=_sum(of("pcc")),
        storage_kw=_sum(of("ess")),
        soc=None if stored is None or capacity <= 0 else stored / capacity,
    )


@dataclass(frozen=True, slots=True)
class Control:
    """Which layer of the control loop holds an actuator, and why."""

    asset_id: str
    quantity: str
    requested: float | None
    sent: float | None
    readback: float | None
    layer: str
    reason: str
    valid_until: datetime | None
    status: str


def controls(setpoints: pl.DataFrame) -> list[Control]:
    """Rows of the newest setpoint per actuator, in the order of assets."""
    return [
        Control(
            asset_id=row["asset_id"],
            quantity=row["quantity"],
            requested=row["requested"],
            sent=row["sent"],
            readback=row["readback"],
            layer=row["layer"] or "",
            reason=row["reason"] or "",
            valid_until=row["valid_until"],
            status=row["status"] or "",
        )
        for row in setpoints.sort("asset_id", "quantity").iter_rows(named=True)
    ]


LAYER_WORDS = {
    "emergency_stop": "Emergency stop",
    "protection": "Protection of the device",
    "grid_operator": "Grid operator",
    "pcc": "Limit of the grid connection",
    "ramp": "Ramp limit",
    "contingency": "Contingency procedure",
    "fail_safe": "Fail-safe",
    "operator": "Operator's command",
    "mode": "Operation mode",
    "intraday": "Correction within the interval",
    "plan": "Plan",
    "idle": "Idle (nobody asks)",
}


def layer_word(layer: str) -> str:
    """A layer's name for people."""
    return LAYER_WORDS.get(layer, layer.replace("_", " ").capitalize()) if layer else "Unknown"


LOG_GRACE = timedelta(seconds=30)
"""The loop renews a setpoint at the device every cycle but logs it about once a minute, so a logged end may lie a
little back while the setpoint still stands."""


def lapsed(row: Control, now: datetime) -> bool:
    """Whether a setpoint is past its time to live, so that the device has gone to its own fallback."""
    return row.valid_until is not None and row.valid_until + LOG_GRACE < now


def in_control(rows: list[Control], site: Site, now: datetime) -> tuple[str, str] | None:
    """The layer that drives the storage's active power now, and why; of a site without storage, what comes first.

    None when nothing is dispatched.
    """
    stores = {ess.id for ess in site.ess()}
    running = sorted(
        (row for row in rows if not lapsed(row, now)),
        key=lambda row: (row.asset_id not in stores, not row.quantity.startswith("active_power")),
    )
    return (layer_word(running[0].layer), running[0].reason) if running else None
