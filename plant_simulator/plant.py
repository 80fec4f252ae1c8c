"""One site's plant: all assets of the grid model, brought to life and balanced at the grid connection."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from flexergy_pipelines.grid import ESS, EvChargingManager, Site
from flexergy_pipelines.grid.clock import Clock
from plant_simulator.battery import Battery, BatteryRating
from plant_simulator.charging import ChargingBlock
from plant_simulator.faults import FaultBoard
from plant_simulator.genset import Genset
from plant_simulator.inverter import APPARENT_OVER_ACTIVE, ReactivePower
from plant_simulator.loads import LimitedLoad, Load
from plant_simulator.orders import OrderBook
from plant_simulator.pcc import GridConnection, phase_shares
from plant_simulator.sources import Source

SETPOINT = "active_power_setpoint_kw"
LIMIT = "active_power_limit_kw"
REACTIVE_SETPOINT = "reactive_power_setpoint_kvar"
LOAD_TAN_PHI = 0.25
"""Reactive over active power of plain loads (power factor 0.97)."""
MACHINE_TAN_PHI = 0.48
"""Reactive over active power of controllable loads, which are mostly motors (power factor 0.9)."""
LONGEST_STEP_S = 60.0
REGISTERS = ("import_energy_kwh", "export_energy_kwh")

Meter = Callable[[], float]


class OfferedSeries(Protocol):
    """What nature and users do at a time, per asset [kW]."""

    def value(self, asset_id: str, time: datetime, /) -> float:
        """Power that is available (sources) or wanted (loads) at `time` [kW]."""
        ...


class Plant:
    """Physics of one site.

    Powers carry the signs of the grid model: sources, batteries and the grid connection are positive into the
    busbar, loads and chargers positive when they consume, so ``pcc = load + ev - pv - wind - genset - ess``.

    Parameters
    ----------
    site : Site
        The grid model.
    replayed : OfferedSeries
        The series that sun, wind and users follow.
    clock : Clock
        Time of day and of the revert timers; whoever calls `step` moves it.
    seed : int
        The same seed, site and steps give the same plant.
    soc : float
        State of charge of every battery at the start.
    faults : FaultBoard or None
        Board that several plants share; None gives the plant its own.

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
            max(site.grid_connection.import_limit_kw, site.grid_connection.export_limit_kw, 1.0),
            self._rng(seed, self.pcc_id),
            nominal_v=site.grid_connection.nominal_voltage_v / math.sqrt(3),
        )
        self._replayed = replayed
        self._schedules: dict[str, tuple[datetime, tuple[float, ...]]] = {}
        self._build(seed, soc)
        self.orders = OrderBook(clock, self._safe_values())
        self._powers: dict[str, Any] = {
            **self.batteries, **self.sources, **self.gensets, **self.limited_loads, **self.charging, **self.loads
        }  # fmt: skip
        self._phase_shares = {a.id: phase_shares(a.phase_connection, a.kind) for a in site.assets()}
        self._meters = self._build_meters()
        self.step(0.0)

    def step(self, dt_s: float) -> None:
        """Let `dt_s` seconds pass, up to the clock's present time.

        Raises
        ------
        ValueError
            If the step is negative, not finite or longer than 60 s.
        """
        if not 0.0 <= dt_s <= LONGEST_STEP_S:
            raise ValueError(f"dt_s {dt_s} is outside 0..{LONGEST_STEP_S:g}")
        self.orders.expire()
        now = self.clock.now()
        for asset_id, source in self.sources.items():
            source.limit_kw = self._order(asset_id, LIMIT)
            source.step(self._replayed.value(asset_id, now), dt_s)
        for asset_id, block in (*self.limited_loads.items(), *self.charging.items()):
            block.limit_kw = self._order(asset_id, LIMIT)
            block.step(self._replayed.value(asset_id, now), dt_s)
        for asset_id, load in self.loads.items():
            load.step(self._replayed.value(asset_id, now), dt_s)
        for asset_id, genset in self.gensets.items():
            genset.setpoint_kw = self._order(asset_id, SETPOINT)
            genset.step(dt_s)
        for asset_id, battery in self.batteries.items():
            heat = self.faults.find(f"{self.site.id}/{asset_id}", "hot_cells")
            battery.extra_heat_c = 0.0 if heat is None else heat.value
            battery.tripped = self.faults.has(f"{self.site.id}/{asset_id}", "bms_trip")
            event = self.faults.find(f"{self.site.id}/{asset_id}", "bms_alarm")
            battery.raised_events = frozenset() if event is None else frozenset({int(event.value)})
            battery.setpoint_kw = self._order(asset_id, SETPOINT)
            battery.step(dt_s)
        for asset_id, reactive in self.reactive.items():
            reactive.setpoint_kvar = self._order(asset_id, REACTIVE_SETPOINT)
            reactive.step(self._inverter_kw(asset_id), dt_s)
        self._disturb_grid()
        self.pcc.step(self._balance_kw(), self._reactive_balance_kvar(), dt_s)

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
            return self._replayed.value(asset_id, time)
        consumers = (*self.loads, *self.limited_loads, *self.charging)
        consumed_kw = sum(self._replayed.value(key, time) for key in consumers)
        return consumed_kw - sum(self._replayed.value(key, time) for key in self.sources)

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
                    active_kw = max(asset.max_charge_kw, asset.max_discharge_kw)
                    apparent_kva = asset.apparent_power_kva or APPARENT_OVER_ACTIVE * active_kw
                    self.reactive[asset.id] = ReactivePower(apparent_kva)
                case "pv":
                    self.sources[asset.id] = Source("pv", asset.rated_kw, rng, curtailable=asset.curtailable)
                    self.reactive[asset.id] = ReactivePower(APPARENT_OVER_ACTIVE * asset.rated_kw)
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

    def _charge_points(self, manager_id: str) -> list[tuple[str, float]]:
        manager = self.site.controller_of(manager_id)
        if not isinstance(manager, EvChargingManager):
            raise TypeError(f"{manager_id} is no EV charging manager")
        return [(point.id, point.max_kw) for point in manager.charge_points]

    def _safe_values(self) -> dict[tuple[str, str], float]:
        safe = {(key, SETPOINT): 0.0 for key in (*self.batteries, *self.gensets)}
        safe |= {(key, REACTIVE_SETPOINT): 0.0 for key in self.reactive}
        safe |= {(key, LIMIT): source.rated_kw for key, source in self.sources.items()}
        safe |= {(key, LIMIT): block.rated_kw for key, block in (*self.limited_loads.items(), *self.charging.items())}
        return safe

    def _order(self, asset_id: str, quantity: str) -> float:
        return self.orders.in_force(asset_id, quantity)

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
        voltages = [f for f in self.faults.active() if (f.target, f.kind) == (target, "voltage")]
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
        if asset_id != self.pcc_id:
            return self._powers[asset_id].power_kw * self._phase_shares[asset_id][phase]
        consumers = {*self.loads, *self.limited_loads, *self.charging}
        shown = ((key, self.phase_kw(key, phase)) for key in self._powers)
        return sum(power if key in consumers else -power for key, power in shown)

    def _phase_kvar(self, phase: int) -> float:
        """Reactive power at the connection on one phase [kvar]: as the loads that cause most of it are spread."""
        loads = [(load.power_kw, self._phase_shares[key][phase]) for key, load in self.loads.items()]
        whole = sum(power for power, _ in loads)
        share = sum(power * part for power, part in loads) / whole if whole > 0 else 1.0 / 3.0
        return self.pcc.reactive_kvar * share

    def _inverter_kw(self, asset_id: str) -> float:
        return (self.batteries.get(asset_id) or self.sources[asset_id]).power_kw

    def _build_meters(self) -> dict[tuple[str, str], Meter]:
        meters: dict[tuple[str, str], Meter] = {}
        for key in self.orders.keys():  # noqa: SIM118 - an order book is no mapping
            meters[key] = lambda key=key: self.orders.in_force(*key)
        for asset_id, battery in self.batteries.items():
            meters |= _battery_meters(asset_id, battery)
        for asset_id, reactive in self.reactive.items():
            meters[asset_id, "reactive_power_kvar"] = lambda r=reactive: r.power_kvar
        for asset_id, source in self.sources.items():
            meters[asset_id, "active_power_kw"] = lambda s=source: s.power_kw
            meters[asset_id, "available_power_kw"] = lambda s=source: s.available_kw
        for asset_id, genset in self.gensets.items():
            meters[asset_id, "active_power_kw"] = lambda g=genset: g.power_kw
            meters[asset_id, "running"] = lambda g=genset: float(g.running)
        for asset_id, block in (*self.limited_loads.items(), *self.charging.items()):
            meters[asset_id, "active_power_kw"] = lambda b=block: b.power_kw
        for asset_id, load in self.loads.items():
            meters |= self._load_meters(asset_id, load)
        return meters | self._pcc_meters()

    def _load_meters(self, asset_id: str, load: Load) -> dict[tuple[str, str], Meter]:
        return {
            (asset_id, "active_power_kw"): lambda: load.power_kw,
            (asset_id, "reactive_power_kvar"): lambda: load.power_kw * LOAD_TAN_PHI,
            (asset_id, "import_energy_kwh"): lambda: load.energy_kwh,
            (asset_id, "export_energy_kwh"): lambda: 0.0,
            **self._phase_meters(asset_id),
            **self._grid_meters(asset_id, self.pcc.low_voltage_ratio),
        }

    def _pcc_meters(self) -> dict[tuple[str, str], Meter]:
        return {
            (self.pcc_id, "active_power_kw"): lambda: self.pcc.power_kw,
            (self.pcc_id, "reactive_power_kvar"): lambda: self.pcc.reactive_kvar,
            (self.pcc_id, "import_energy_kwh"): lambda: self.pcc.import_kwh,
            (self.pcc_id, "export_energy_kwh"): lambda: self.pcc.export_kwh,
            **self._phase_meters(self.pcc_id),
            **{
                (self.pcc_id, f"reactive_power_l{i + 1}_kvar"): lambda phase=i: self._phase_kvar(phase)
                for i in range(3)
            },
            **self._grid_meters(self.pcc_id, 1.0),
        }

    def _phase_meters(self, asset_id: str) -> dict[tuple[str, str], Meter]:
        return {
            (asset_id, f"active_power_l{i + 1}_kw"): lambda phase=i: self.phase_kw(asset_id, phase) for i in range(3)
        }

    def _grid_meters(self, asset_id: str, ratio: float) -> dict[tuple[str, str], Meter]:
        meters: dict[tuple[str, str], Meter] = {(asset_id, "frequency_hz"): lambda: self.pcc.frequency_hz}
        for phase in range(3):
            meters[asset_id, f"voltage_l{phase + 1}_v"] = lambda phase=phase: ratio * self.pcc.voltages_v[phase]
        return meters


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


def _battery_meters(asset_id: str, battery: Battery) -> dict[tuple[str, str], Meter]:
    return {
        (asset_id, "active_power_kw"): lambda: battery.power_kw,
        (asset_id, "soc"): lambda: battery.soc,
        (asset_id, "soh"): lambda: battery.soh,
        (asset_id, "temperature_c"): lambda: battery.temperature_c,
        (asset_id, "max_charge_kw"): lambda: battery.max_charge_kw,
        (asset_id, "max_discharge_kw"): lambda: battery.max_discharge_kw,
        (asset_id, "available"): lambda: float(battery.available),
        (asset_id, "bms_alarm_word"): lambda: float(battery.alarm_word),
        (asset_id, "dc_voltage_v"): lambda: battery.voltage_v,
        (asset_id, "equivalent_full_cycles"): lambda: battery.equivalent_full_cycles,
    }
