"""One site's plant: all assets of the grid model, brought to life and balanced at the grid connection."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from flexergy_pipelines.grid import ESS, EvChargingManager, Site
from flexergy_pipelines.grid.clock import Clock
from flexergy_pipelines.grid.ratings import rated_power_kw
from plant_simulator.battery import Battery, BatteryRating
from plant_simulator.charging import ChargingBlock, Plug
from plant_simulator.faults import FaultBoard
from plant_simulator.genset import Genset
from plant_simulator.inverter import ReactivePower
from plant_simulator.loads import LimitedLoad, Load
from plant_simulator.meters import LOAD_TAN_PHI, build_meters
from plant_simulator.orders import OrderBook
from plant_simulator.pcc import GridConnection
from plant_simulator.phases import EVEN, phase_shares, point_shares
from plant_simulator.sources import Source

SETPOINT = "active_power_setpoint_kw"
LIMIT = "active_power_limit_kw"
REACTIVE_SETPOINT = "reactive_power_setpoint_kvar"
MACHINE_TAN_PHI = 0.48
"""Reactive over active power of controllable loads, which are mostly motors (power factor 0.9)."""
DIRECT_CURRENT = frozenset({"ccs2", "chademo"})
LONGEST_STEP_S = 60.0
REGISTERS = ("import_energy_kwh", "export_energy_kwh")


class OfferedSeries(Protocol):
    """What nature and users do at a time, per asset [kW]."""

    def value(self, asset_id: str, time: datetime, /) -> float:
        """Power that is available (sources) or wanted (loads) at `time` [kW]."""
        ...


class Plant:
    """Physics of one site.

    Powers carry the signs of the grid model: sources, batteries and the grid connection are positive into the
    busbar, loads and chargers positive when they consume, so ``pcc = load + ev - pv - wind - genset - ess``. What the
    site's model says is not in service stands still.

    Parameters
    ----------
    site : Site
        The grid model.
    replayed : OfferedSeries
        The series that sun, wind and users follow.
    clock : Clock
        Time of day; whoever calls `step` moves it.
    seed : int
        The same seed, site and steps give the same plant.
    soc : float
        State of charge of every battery at the start.
    faults : FaultBoard or None
        Board that several plants share; None gives the plant its own.
    timers : Clock or None
        Clock of the revert timers, where whoever commands lives at another speed than the plant; None is `clock`.

    Examples
    --------
    A day in seconds::

        clock = SimulatedClock(start)
        plant = Plant(site, replayed, clock, seed=1)
        for _ in range(86_400):
            clock.advance(1.0)
            plant.step(1.0)
    """

    def __init__(
        self,
        site: Site,
        replayed: OfferedSeries,
        clock: Clock,
        seed: int = 0,
        *,
        soc: float = 0.5,
        faults: FaultBoard | None = None,
        timers: Clock | None = None,
    ) -> None:
        self.site = site
        self.clock = clock
        self.faults = FaultBoard(clock) if faults is None else faults
        self.batteries: dict[str, Battery] = {}
        self.sources: dict[str, Source] = {}
        self.gensets: dict[str, Genset] = {}
        self.limited_loads: dict[str, LimitedLoad] = {}
        self.charging: dict[str, ChargingBlock] = {}
        self.loads: dict[str, Load] = {}
        self.reactive: dict[str, ReactivePower] = {}
        self.pcc_id = site.grid_connection.id
        self.pcc = GridConnection(
            _feeder_kw(site),
            self._rng(seed, self.pcc_id),
            nominal_v=site.grid_connection.nominal_voltage_v / math.sqrt(3),
            nominal_hz=site.grid_connection.nominal_frequency_hz,
        )
        self._idle = frozenset(asset.id for asset in site.assets() if not asset.in_service)
        self._replayed = replayed
        self._schedules: dict[str, tuple[datetime, tuple[float, ...]]] = {}
        self._build(seed, soc)
        self.orders = OrderBook(timers or clock, self._safe_values())
        self._powers: dict[str, Any] = {
            **self.batteries, **self.sources, **self.gensets, **self.limited_loads, **self.charging, **self.loads
        }  # fmt: skip
        self._phase_shares = {a.id: phase_shares(a.phase_connection, a.kind) for a in site.assets()}
        consumers = {*self.loads, *self.limited_loads, *self.charging}
        self._signs = {key: 1.0 if key in consumers else -1.0 for key in self._powers}
        self._meters = build_meters(self)
        self.step(0.0)

    def step(self, dt_s: float, until: datetime | None = None) -> None:
        """Let `dt_s` seconds pass, up to the clock's present time, or `until` where several steps lead there.

        Raises
        ------
        ValueError
            If the step is negative, not finite or longer than 60 s.
        """
        if not 0.0 <= dt_s <= LONGEST_STEP_S:
            raise ValueError(f"dt_s {dt_s} is outside 0..{LONGEST_STEP_S:g}")
        self.orders.expire()
        now = until or self.clock.now()
        for asset_id, source in self.sources.items():
            source.limit_kw = self._order(asset_id, LIMIT)
            source.step(self._offered(asset_id, now), dt_s)
        for asset_id, block in (*self.limited_loads.items(), *self.charging.items()):
            block.limit_kw = self._order(asset_id, LIMIT)
            block.step(self._offered(asset_id, now), dt_s)
        for asset_id, load in self.loads.items():
            load.step(self._offered(asset_id, now), dt_s)
        for asset_id, genset in self.gensets.items():
            genset.setpoint_kw = self._order(asset_id, SETPOINT)
            genset.start_fails = self.faults.has(f"{self.site.id}/{asset_id}", "start_failure")
            genset.tripped = self.faults.has(f"{self.site.id}/{asset_id}", "engine_trip")
            genset.step(dt_s)
        for asset_id, battery in self.batteries.items():
            heat = self.faults.find(f"{self.site.id}/{asset_id}", "hot_cells")
            battery.extra_heat_c = 0.0 if heat is None else heat.value
            battery.tripped = self.faults.has(f"{self.site.id}/{asset_id}", "bms_trip")
            events = self.faults.every(f"{self.site.id}/{asset_id}", "bms_alarm")
            battery.raised_events = frozenset(int(event.value) for event in events)
            battery.setpoint_kw = self._order(asset_id, SETPOINT)
            battery.step(dt_s)
        for asset_id, reactive in self.reactive.items():
            reactive.setpoint_kvar = self._order(asset_id, REACTIVE_SETPOINT)
            reactive.step(self._inverter_kw(asset_id), dt_s)
        self._disturb_grid()
        reactive_kvar = self._reactive_balance_kvar()
        phases_kvar = [reactive_kvar * share for share in self._reactive_shares()]
        self.pcc.step(self._balance_kw(), reactive_kvar, dt_s, self._balance_by_phase_kw(), phases_kvar)

    def measure(self, asset_id: str, quantity: str) -> float:
        """True value of a quantity now, in the unit of its name.

        Raises
        ------
        KeyError
            If the asset has no such quantity.
        """
        meter = self._meters.get((asset_id, quantity))
        if meter is None:
            raise KeyError(f"{self.site.id}: {asset_id} has no quantity {quantity}")
        return meter()

    def measures(self, asset_id: str, quantity: str) -> bool:
        """Whether the asset has such a quantity."""
        return (asset_id, quantity) in self._meters

    def command(self, asset_id: str, quantity: str, value: float) -> None:
        """Order a value; it is in force from the next step until its revert timer runs out.

        Raises
        ------
        KeyError
            If the asset has nothing writable of that name.
        ValueError
            If the value is not a finite number.
        """
        self.orders.write(asset_id, quantity, value)

    def keep_schedule(self, asset_id: str, start: datetime, values_kw: tuple[float, ...]) -> None:
        """Keep the 15-minute setpoints of the next hour that a device received, for everybody to see."""
        self._schedules[asset_id] = (start, values_kw)

    def schedule(self, asset_id: str) -> tuple[datetime, tuple[float, ...]] | None:
        """Start and values [kW] of the schedule a device last received."""
        return self._schedules.get(asset_id)

    def uncontrolled_kw(self, asset_id: str, time: datetime) -> float:
        """Power at `time` if nothing were controlled; the grid connection's follows from all series [kW]."""
        if asset_id != self.pcc_id:
            return self._offered(asset_id, time)
        consumers = (*self.loads, *self.limited_loads, *self.charging)
        consumed_kw = sum(self._offered(key, time) for key in consumers)
        return consumed_kw - sum(self._offered(key, time) for key in self.sources)

    def state(self) -> dict[str, dict[str, float | None]]:
        """All measured quantities by asset; what is not a number is null."""
        values: dict[str, dict[str, float | None]] = {}
        for (asset_id, quantity), meter in self._meters.items():
            value = meter()
            values.setdefault(asset_id, {})[quantity] = value if math.isfinite(value) else None
        return values

    def _rng(self, seed: int, part: str) -> random.Random:
        return random.Random(f"{seed}/{self.site.id}/{part}")  # noqa: S311 - physics, not secrets

    def _build(self, seed: int, soc: float) -> None:
        for asset in self.site.assets():
            rng = self._rng(seed, asset.id)
            match asset.kind:
                case "ess":
                    self.batteries[asset.id] = Battery(_rating(asset), soc=soc)
                    self.reactive[asset.id] = ReactivePower(asset.rated_kva)
                case "pv":
                    self.sources[asset.id] = Source("pv", asset.rated_kw, rng, curtailable=asset.curtailable)
                    self.reactive[asset.id] = ReactivePower(asset.rated_kva)
                case "wind":
                    self.sources[asset.id] = Source("wind", asset.rated_kw, rng, curtailable=asset.curtailable)
                case "genset":
                    self.gensets[asset.id] = Genset(asset.min_kw, asset.max_kw, asset.ramp_kw_per_s)
                case "ev":
                    self.charging[asset.id] = ChargingBlock(self._charge_points(asset.id), asset.rated_kw, rng)
                case "controllable_load":
                    self.limited_loads[asset.id] = LimitedLoad(asset.rated_kw, rng)
                case "load":
                    self.loads[asset.id] = Load(rng)
                case _:
                    pass

    def _charge_points(self, manager_id: str) -> list[Plug]:
        manager = self.site.controller_of(manager_id)
        if not isinstance(manager, EvChargingManager):
            raise TypeError(f"{manager_id} is no EV charging manager")
        return [
            Plug(
                point.id, point.max_kw, point.identity, point.phases,
                point_shares(point.phase_connection, point.phases, place),
                direct_current=bool(point.connectors) and all(c.plug in DIRECT_CURRENT for c in point.connectors),
            )
            for place, point in enumerate(manager.charge_points)
        ]  # fmt: skip

    def _safe_values(self) -> dict[tuple[str, str], float]:
        safe = {(key, SETPOINT): 0.0 for key in (*self.batteries, *self.gensets)}
        safe |= {(key, REACTIVE_SETPOINT): 0.0 for key in self.reactive}
        safe |= {(key, LIMIT): source.rated_kw for key, source in self.sources.items()}
        safe |= {(key, LIMIT): block.rated_kw for key, block in (*self.limited_loads.items(), *self.charging.items())}
        return safe

    def _order(self, asset_id: str, quantity: str) -> float:
        return 0.0 if asset_id in self._idle else self.orders.in_force(asset_id, quantity)

    def _offered(self, asset_id: str, time: datetime) -> float:
        return 0.0 if asset_id in self._idle else self._replayed.value(asset_id, time)

    def set_register(self, asset_id: str, quantity: str, kwh: float) -> None:
        """Let an energy register of the connection, or of a metered load, go on from a reading.

        Raises
        ------
        ValueError
            There is no such register.
        """
        if asset_id == self.pcc_id and quantity in REGISTERS:
            setattr(self.pcc, "import_kwh" if quantity == REGISTERS[0] else "export_kwh", kwh)
        elif asset_id in self.loads and quantity == REGISTERS[0]:
            self.loads[asset_id].energy_kwh = kwh
        else:
            raise ValueError(
                f"{self.site.id}/{asset_id}: has no register {quantity}; {self.pcc_id} has {' and '.join(REGISTERS)}, "
                f"{', '.join(self.loads)} {REGISTERS[0]}"
            )

    def _disturb_grid(self) -> None:
        """Bring the grid's events and the meters' resets from the fault board into the plant."""
        if not self.faults.active():
            self.pcc.disturb(0.0, (0.0, 0.0, 0.0))
            return
        target = f"{self.site.id}/{self.pcc_id}"
        frequency = self.faults.find(target, "frequency")
        voltages = self.faults.every(target, "voltage")
        offsets = [sum(f.value for f in voltages if f.phase in {None, phase}) for phase in (1, 2, 3)]
        self.pcc.disturb(frequency.value if frequency else 0.0, offsets)
        for meter_id, meter in (*self.loads.items(), (self.pcc_id, self.pcc)):
            reset = self.faults.find(f"{self.site.id}/{meter_id}", "meter_reset")
            if reset is not None:
                meter.reset_counters()
                self.faults.clear(reset.fault_id)

    def _balance_kw(self) -> float:
        consumed = sum(
            part.power_kw for part in (*self.loads.values(), *self.limited_loads.values(), *self.charging.values())
        )
        given = sum(
            part.power_kw for part in (*self.sources.values(), *self.gensets.values(), *self.batteries.values())
        )
        return consumed - given

    def _reactive_balance_kvar(self) -> float:
        plain = sum(load.power_kw for load in self.loads.values()) * LOAD_TAN_PHI
        machines = sum(block.power_kw for block in self.limited_loads.values()) * MACHINE_TAN_PHI
        return plain + machines - sum(reactive.power_kvar for reactive in self.reactive.values())

    def phase_kw(self, asset_id: str, phase: int) -> float:
        """Power of an asset on one phase (0 to 2) [kW]; of the connection, what its assets leave to that phase."""
        if asset_id == self.pcc_id:
            return self.pcc.phases_kw[phase]
        if asset_id in self.charging:
            return self.charging[asset_id].phase_kw(phase)
        return self._powers[asset_id].power_kw * self._phase_shares[asset_id][phase]

    def _balance_by_phase_kw(self) -> list[float]:
        return [sum(sign * self.phase_kw(key, phase) for key, sign in self._signs.items()) for phase in range(3)]

    def _reactive_shares(self) -> Sequence[float]:
        """How reactive power spreads over the phases: as the loads that cause most of it."""
        whole = sum(load.power_kw for load in self.loads.values())
        if whole <= 0:
            return EVEN
        return [sum(self.phase_kw(key, phase) for key in self.loads) / whole for phase in range(3)]

    def _inverter_kw(self, asset_id: str) -> float:
        return (self.batteries.get(asset_id) or self.sources[asset_id]).power_kw


def _feeder_kw(site: Site) -> float:
    """Power that the feeder is made for: the connection's limits or, for a site that may not exchange, all it has."""
    connection = site.grid_connection
    allowed_kw = max(connection.import_limit_kw, connection.export_limit_kw)
    if allowed_kw > 0:
        return allowed_kw
    return max(1.0, sum(rated_power_kw(asset) for asset in site.assets() if asset.id != connection.id))


def _rating(ess: ESS) -> BatteryRating:
    return BatteryRating(
        energy_capacity_kwh=ess.energy_capacity_kwh,
        max_charge_kw=ess.max_charge_kw,
        max_discharge_kw=ess.max_discharge_kw,
        charge_efficiency=ess.charge_efficiency,
        discharge_efficiency=ess.discharge_efficiency,
        self_discharge_per_day=ess.self_discharge_per_day,
        soh=ess.soh,
        cycles_to_end_of_life=ess.cycles_at(1.0),
    )
