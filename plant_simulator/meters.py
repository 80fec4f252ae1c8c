"""What can be measured of a plant: a reader for every quantity of every asset."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plant_simulator.battery import Battery
from plant_simulator.loads import Load

if TYPE_CHECKING:
    from plant_simulator.plant import Plant

LOAD_TAN_PHI = 0.25
"""Reactive over active power of plain loads (power factor 0.97)."""

Meter = Callable[[], float]
Meters = dict[tuple[str, str], Meter]


def build_meters(plant: Plant) -> Meters:
    """Readers by (asset id, quantity); each gives the true value now, in the unit of its name."""
    meters: Meters = {}
    for key in plant.orders.keys():  # noqa: SIM118 - an order book is no mapping
        meters[key] = lambda key=key: plant.orders.in_force(*key)
    for asset_id, battery in plant.batteries.items():
        meters |= _battery_meters(asset_id, battery)
    for asset_id, reactive in plant.reactive.items():
        meters[asset_id, "reactive_power_kvar"] = lambda r=reactive: r.power_kvar
    for asset_id, source in plant.sources.items():
        meters[asset_id, "active_power_kw"] = lambda s=source: s.power_kw
        meters[asset_id, "available_power_kw"] = lambda s=source: s.available_kw
    for asset_id, genset in plant.gensets.items():
        meters[asset_id, "active_power_kw"] = lambda g=genset: g.power_kw
        meters[asset_id, "running"] = lambda g=genset: float(g.running)
    for asset_id, block in (*plant.limited_loads.items(), *plant.charging.items()):
        meters[asset_id, "active_power_kw"] = lambda b=block: b.power_kw
    for asset_id, load in plant.loads.items():
        meters |= _load_meters(plant, asset_id, load)
    return meters | _pcc_meters(plant)


def _battery_meters(asset_id: str, battery: Battery) -> Meters:
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


def _load_meters(plant: Plant, asset_id: str, load: Load) -> Meters:
    return {
        (asset_id, "active_power_kw"): lambda: load.power_kw,
        (asset_id, "reactive_power_kvar"): lambda: load.power_kw * LOAD_TAN_PHI,
        (asset_id, "import_energy_kwh"): lambda: load.energy_kwh,
        (asset_id, "export_energy_kwh"): lambda: 0.0,
        **_phase_meters(plant, asset_id),
        **_grid_meters(plant, asset_id, plant.pcc.low_voltage_ratio),
    }


def _pcc_meters(plant: Plant) -> Meters:
    pcc, pcc_id = plant.pcc, plant.pcc_id
    return {
        (pcc_id, "active_power_kw"): lambda: pcc.power_kw,
        (pcc_id, "reactive_power_kvar"): lambda: pcc.reactive_kvar,
        (pcc_id, "import_energy_kwh"): lambda: pcc.import_kwh,
        (pcc_id, "export_energy_kwh"): lambda: pcc.export_kwh,
        **_phase_meters(plant, pcc_id),
        **{(pcc_id, f"reactive_power_l{i + 1}_kvar"): lambda phase=i: pcc.phases_kvar[phase] for i in range(3)},
        **_grid_meters(plant, pcc_id, 1.0),
    }


def _phase_meters(plant: Plant, asset_id: str) -> Meters:
    return {(asset_id, f"active_power_l{i + 1}_kw"): lambda phase=i: plant.phase_kw(asset_id, phase) for i in range(3)}


def _grid_meters(plant: Plant, asset_id: str, ratio: float) -> Meters:
    meters: Meters = {(asset_id, "frequency_hz"): lambda: plant.pcc.frequency_hz}
    for phase in range(3):
        meters[asset_id, f"voltage_l{phase + 1}_v"] = lambda phase=phase: ratio * plant.pcc.voltages_v[phase]
    return meters
