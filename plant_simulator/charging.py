"""EV charging: sessions of cars with a state of charge, sharing what the charging manager may draw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plant_simulator.noise import ramp
from plant_simulator.phases import EVEN, Phases

CONSTANT_CURRENT_UNTIL = 0.8
"""State of charge at which a car goes from constant current to constant voltage."""
TAPER_FLOOR = 0.03
"""Share of full power that a nearly full car still takes."""
CATCH_UP_PER_H = 4.0
"""How fast a car makes up for energy held back: a quarter of an hour's worth of its backlog as power."""
PATIENCE_S = 2 * 3600.0
"""Time a driver waits for missing energy beyond the planned departure [s]."""
LEAVE_SOC = 0.92
"""State of charge at which a driver makes room for the next car."""
CHARGING_EFFICIENCY = 0.92
LIMIT_RESPONSE_S = 3.0
PLUG_IN_KW = 0.05
"""Wanted power from which a car counts as plugged in [kW]."""
CAR_CAPACITIES_KWH = (40.0, 52.0, 58.0, 64.0, 77.0, 82.0)
LEAST_CURRENT_A = 6.0
"""A charge point that is allowed less current a phase makes the car pause (IEC 61851-1, Annex A)."""
PHASE_VOLTAGE_V = 230.0


@dataclass(frozen=True, slots=True)
class Plug:
    """Nameplate of a charge point.

    Attributes
    ----------
    point_id : str
        Its id in the site.
    max_kw : float
        Largest power [kW].
    identity : str or None
        What it calls itself towards a central system; None means its id.
    phases : int
        Phases it charges on.
    shares : tuple of float
        Part of its power on each phase of the site.
    direct_current : bool
        Whether it converts by itself (CCS, CHAdeMO): then there is no least current.
    """

    point_id: str
    max_kw: float
    identity: str | None = None
    phases: int = 3
    shares: Phases = EVEN
    direct_current: bool = False

    @property
    def least_kw(self) -> float:
        """Power below which a car pauses [kW]."""
        least = 0.0 if self.direct_current else LEAST_CURRENT_A * PHASE_VOLTAGE_V * self.phases / 1000.0
        return min(least, self.max_kw)


@dataclass(slots=True)
class Session:
    """One car at a charge point, from plug-in to departure.

    Attributes
    ----------
    number : int
        Running number of the session at its charge point.
    capacity_kwh, soc : float
        The car's battery [kWh] and its state of charge 0..1.
    owed_kwh, delivered_kwh : float
        Energy at the plug that the driver has wanted so far, and got [kWh].
    overtime_s : float
        Time since the driver wanted to leave [s].
    """

    number: int
    capacity_kwh: float
    soc: float
    owed_kwh: float = 0.0
    delivered_kwh: float = 0.0
    overtime_s: float = 0.0

    @property
    def missing_kwh(self) -> float:
        """Energy wanted so far and not delivered [kWh]."""
        return max(0.0, self.owed_kwh - self.delivered_kwh)

    def accepts_kw(self, max_kw: float) -> float:
        """Power the car takes at most: constant current, then the taper of constant voltage [kW]."""
        if self.soc >= 1.0:
            return 0.0
        taper = (1.0 - self.soc) / (1.0 - CONSTANT_CURRENT_UNTIL)
        return max_kw * min(1.0, max(TAPER_FLOOR, taper))


class ChargePoint:
    """A charge point with at most one car.

    Parameters
    ----------
    plug : Plug
        Its nameplate.
    rng : random.Random
        Seeded generator of the cars that come.

    Attributes
    ----------
    released : bool
        Whether energy may flow; a charge point that must authorize its drivers holds it back until then.
    """

    def __init__(self, plug: Plug, rng: random.Random) -> None:
        self.plug = plug
        self.point_id = plug.point_id
        self.max_kw = plug.max_kw
        self.session: Session | None = None
        self.power_kw = 0.0
        self.limit_kw = plug.max_kw
        self.energy_kwh = 0.0
        self.unserved_kwh = 0.0
        self.sessions = 0
        self.released = True
        self._rng = rng
        self._carried_kwh = 0.0
        self._shut = False

    @property
    def paused(self) -> bool:
        """Whether its limit is less than any car can take."""
        return self.limit_kw <= 0.0 or self.limit_kw < self.plug.least_kw - 1e-6

    def want(self, share_kw: float, dt_s: float) -> float:
        """Power that the car here wants now, when its driver's profile asks for `share_kw` [kW]."""
        if self.session is not None:
            leaving = share_kw <= PLUG_IN_KW
            self.session.overtime_s = self.session.overtime_s + dt_s if leaving else 0.0
            served = self.session.missing_kwh < 0.01
            if self.session.soc >= LEAVE_SOC:
                # The profile wants more than this car can hold: the next car takes the rest.
                self._carried_kwh = self.session.missing_kwh
                self.session = None
            elif leaving and (served or self.session.overtime_s > PATIENCE_S):
                self.unserved_kwh += self.session.missing_kwh
                self.session = None
        if share_kw <= PLUG_IN_KW:
            self._shut = False
        if self.session is None and share_kw > PLUG_IN_KW and not self._shut:
            self.sessions += 1
            capacity_kwh = self._rng.choice(CAR_CAPACITIES_KWH)
            soc = self._rng.uniform(0.15, 0.55)
            self.session = Session(self.sessions, capacity_kwh, soc, owed_kwh=self._carried_kwh)
            self._carried_kwh = 0.0
        if self.session is None:
            return 0.0
        backlog_kw = self.session.missing_kwh * CATCH_UP_PER_H
        self.session.owed_kwh += share_kw * dt_s / 3600.0
        if not self.released or self.paused:
            return 0.0
        return min(self.session.accepts_kw(self.max_kw), self.limit_kw, share_kw + backlog_kw)

    def send_away(self) -> None:
        """Unplug the car; the next one comes when the profile has been at rest once."""
        if self.session is not None:
            self.unserved_kwh += self.session.missing_kwh
        self.session = None
        self._shut = True

    def charge(self, power_kw: float, dt_s: float) -> None:
        """Give the car `power_kw` for `dt_s` seconds."""
        self.power_kw = power_kw
        if self.session is None:
            return
        energy_kwh = power_kw * dt_s / 3600.0
        self.energy_kwh += energy_kwh
        self.session.delivered_kwh += energy_kwh
        self.session.soc = min(1.0, self.session.soc + energy_kwh * CHARGING_EFFICIENCY / self.session.capacity_kwh)


class ChargingBlock:
    """All charge points of one charging manager behind one upper limit.

    What drivers want follows a series of the whole block, dealt out to the charge points in their order. A limit does
    not make energy vanish: cars stay longer and make up for it, until their drivers lose patience.

    Parameters
    ----------
    plugs : sequence of Plug
        The charge points.
    rated_kw : float
        Power of the feeder [kW]; also the limit without any order.
    rng : random.Random
        Seeded generator of the cars.
    """

    def __init__(self, plugs: Sequence[Plug], rated_kw: float, rng: random.Random) -> None:
        self.points = [ChargePoint(plug, rng) for plug in plugs]
        self.rated_kw = rated_kw
        self.limit_kw = rated_kw
        self.power_kw = 0.0
        self.energy_kwh = 0.0
        self._ceiling_kw = rated_kw

    @property
    def unserved_kwh(self) -> float:
        """Energy that drivers left without [kWh]."""
        return sum(point.unserved_kwh for point in self.points)

    def phase_kw(self, phase: int) -> float:
        """Power on one phase, 0 to 2 [kW]."""
        return sum(point.power_kw * point.plug.shares[phase] for point in self.points)

    def step(self, wanted_kw: float, dt_s: float) -> None:
        """Let `dt_s` seconds pass while all drivers together want `wanted_kw` [kW]."""
        limit = min(self.rated_kw, max(0.0, self.limit_kw))
        self._ceiling_kw = ramp(self._ceiling_kw, limit, self.rated_kw / LIMIT_RESPONSE_S, dt_s)
        wishes_kw, left_kw = [], max(0.0, wanted_kw)
        for point in self.points:
            share_kw = min(point.max_kw, left_kw)
            left_kw -= share_kw
            wishes_kw.append(point.want(share_kw, dt_s))
        for point, given_kw in zip(self.points, share_fairly(wishes_kw, self._ceiling_kw), strict=True):
            point.charge(given_kw, dt_s)
        self.power_kw = sum(point.power_kw for point in self.points)
        self.energy_kwh += self.power_kw * dt_s / 3600.0


def share_fairly(wishes: list[float], total: float) -> list[float]:
    """Deal `total` out: everybody gets the same unless he wants less (max-min fairness)."""
    given = [0.0] * len(wishes)
    left, waiting = total, sorted(range(len(wishes)), key=lambda i: wishes[i])
    for served, i in enumerate(waiting):
        given[i] = min(wishes[i], left / (len(waiting) - served))
        left -= given[i]
    return given
