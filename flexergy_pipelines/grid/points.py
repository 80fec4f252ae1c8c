"""Points: every value that is measured or commanded at an asset, with unit and allowed range."""

from __future__ import annotations

from dataclasses import dataclass

from flexergy_pipelines.grid.assets import (
    ESS,
    Asset,
    ControllableLoad,
    EVBlock,
    Genset,
    GridConnection,
    NonControllableLoad,
    PVPlant,
    WindTurbine,
)


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity of one asset.

    Attributes
    ----------
    minimum, maximum : float
        Values outside are refused as a command and flagged as a measurement.
    is_power : bool
        True for powers that take part in the balance of the busbar or in setpoints [kW, kvar].
    """

    asset_id: str
    quantity: str
    unit: str
    writable: bool
    minimum: float
    maximum: float
    is_power: bool


# Meters read slightly above nameplate without being wrong.
MEASURING_MARGIN = 1.1
# Counters of energy only have to fit their registers.
COUNTER_MAX_KWH = 4.0e8

# Bits 0 to 30; bit 31 alone is what SunSpec shows for "not implemented".
BMS_ALARMS_MAX = 2.0**31 - 1.0

PHASES = ("l1", "l2", "l3")

COMMANDED = frozenset({"active_power_setpoint_kw", "active_power_limit_kw"})
"""Quantities by which active power is commanded; an asset has at most one of them."""

REQUIRED_QUANTITIES: dict[str, tuple[str, ...]] = {
    "ess": ("active_power_kw", "soc", "max_charge_kw", "max_discharge_kw", "available", "active_power_setpoint_kw"),
    "pv": ("active_power_kw", "available_power_kw", "active_power_limit_kw"),
    "wind": ("active_power_kw", "available_power_kw", "active_power_limit_kw"),
    "genset": ("active_power_kw", "running", "active_power_setpoint_kw"),
    "controllable_load": ("active_power_kw", "active_power_limit_kw"),
    "ev": ("active_power_kw", "active_power_limit_kw"),
    "load": ("active_power_kw",),
    "pcc": ("active_power_kw", "import_energy_kwh", "export_energy_kwh"),
}


def points_of(asset: Asset) -> tuple[Point, ...]:
    """All points of one asset, in the sign convention of the platform."""

    def power(quantity: str, low: float, high: float, *, writable: bool = False, unit: str = "kW") -> Point:
        margin = 1.0 if writable else MEASURING_MARGIN
        return Point(asset.id, quantity, unit, writable, low * margin, high * margin, is_power=True)

    def reactive(limit_kvar: float) -> tuple[Point, ...]:
        return (
            power("reactive_power_kvar", -limit_kvar, limit_kvar, unit="kvar"),
            power("reactive_power_setpoint_kvar", -limit_kvar, limit_kvar, writable=True, unit="kvar"),
        )

    def other(quantity: str, unit: str, low: float, high: float) -> Point:
        return Point(asset.id, quantity, unit, False, low, high, is_power=False)

    if isinstance(asset, ESS):
        return (
            power("active_power_kw", -asset.max_charge_kw, asset.max_discharge_kw),
            other("soc", "1", 0.0, 1.0),
            other("soh", "1", 0.0, 1.0),
            other("temperature_c", "°C", -40.0, 90.0),
            power("max_charge_kw", 0.0, asset.max_charge_kw),
            power("max_discharge_kw", 0.0, asset.max_discharge_kw),
            other("available", "1", 0.0, 1.0),
            other("bms_alarm_word", "1", 0.0, BMS_ALARMS_MAX),
            power("active_power_setpoint_kw", -asset.max_charge_kw, asset.max_discharge_kw, writable=True),
            *reactive(asset.rated_kva),
        )
    if isinstance(asset, PVPlant | WindTurbine):
        return (
            # Inverters and turbines draw a little from the busbar when they stand still.
            power("active_power_kw", -0.05 * asset.rated_kw, asset.rated_kw),
            power("available_power_kw", 0.0, asset.rated_kw),
            power("active_power_limit_kw", 0.0, asset.rated_kw, writable=True),
        )
    if isinstance(asset, Genset):
        return (
            power("active_power_kw", 0.0, asset.max_kw),
            other("running", "1", 0.0, 1.0),
            power("active_power_setpoint_kw", 0.0, asset.max_kw, writable=True),
        )
    if isinstance(asset, ControllableLoad | EVBlock):
        return (
            power("active_power_kw", 0.0, asset.rated_kw),
            power("active_power_limit_kw", 0.0, asset.rated_kw, writable=True),
        )
    if isinstance(asset, NonControllableLoad):
        # One phase may carry everything.
        phases = (power(f"active_power_{phase}_kw", 0.0, asset.rated_kw) for phase in PHASES)
        return (power("active_power_kw", 0.0, asset.rated_kw), *phases)
    return _pcc_points(asset)


def _pcc_points(pcc: GridConnection) -> tuple[Point, ...]:
    # A limit that is exceeded must still be measurable, so the meter's range is the double of the connection.
    reach = 2 * max(pcc.import_limit_kw, pcc.export_limit_kw)
    phase_v = pcc.nominal_voltage_v / 3**0.5
    low_hz, high_hz = 0.9 * pcc.nominal_frequency_hz, 1.1 * pcc.nominal_frequency_hz
    return (
        Point(pcc.id, "active_power_kw", "kW", False, -reach, reach, is_power=True),
        Point(pcc.id, "reactive_power_kvar", "kvar", False, -reach, reach, is_power=True),
        Point(pcc.id, "frequency_hz", "Hz", False, low_hz, high_hz, is_power=False),
        *(Point(pcc.id, f"voltage_{phase}_v", "V", False, 0.0, 1.5 * phase_v, is_power=False) for phase in PHASES),
        *(
            Point(pcc.id, f"{kind}_power_{phase}_{unit.lower()}", unit, False, -reach, reach, is_power=True)
            for kind, unit in (("active", "kW"), ("reactive", "kvar"))
            for phase in PHASES
        ),
        Point(pcc.id, "import_energy_kwh", "kWh", False, 0.0, COUNTER_MAX_KWH, is_power=False),
        Point(pcc.id, "export_energy_kwh", "kWh", False, 0.0, COUNTER_MAX_KWH, is_power=False),
    )
