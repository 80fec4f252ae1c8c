"""What each indicator is called on the screen and where it belongs."""

from __future__ import annotations

from dataclasses import dataclass

ENERGY = "Energy"
MONEY = "Money"
STORAGE = "Storage"
GRID = "Grid and climate"
GROUPS = (ENERGY, MONEY, STORAGE, GRID)


@dataclass(frozen=True, slots=True)
class Indicator:
    """An indicator's name for people, its group, and one sentence on what it says."""

    name: str
    group: str
    meaning: str = ""


CATALOGUE: dict[str, Indicator] = {
    "demand": Indicator("Demand", ENERGY, "What loads and EV charging used."),
    "load_energy": Indicator("Energy of fixed loads", ENERGY),
    "flexible_load_energy": Indicator("Energy of flexible loads", ENERGY),
    "ev_energy": Indicator("EV charging", ENERGY),
    "consumption": Indicator("Consumption", ENERGY),
    "generation": Indicator("Generation", ENERGY),
    "res_generation": Indicator("Renewable generation", ENERGY),
    "genset_generation": Indicator("Genset generation", ENERGY),
    "grid_import": Indicator("Import from the grid", ENERGY),
    "grid_export": Indicator("Export to the grid", ENERGY),
    "self_consumption": Indicator("Self-consumption", ENERGY, "Share of renewable energy that was used on site."),
    "self_sufficiency": Indicator("Self-sufficiency", ENERGY, "Share of demand that needed no import."),
    "res_share": Indicator("Renewable share of demand", ENERGY),
    "surplus": Indicator("Surplus put to use", ENERGY, "Share of surplus stored or moved into flexible loads."),
    "efficiency": Indicator("Efficiency of the whole system", ENERGY),
    "cost": Indicator("Cost", MONEY, "Energy bought minus sold, fuel, and charges."),
    "cost_without_ess": Indicator("Cost without storage", MONEY),
    "savings": Indicator("Saved by storage", MONEY),
    "cost_reduction": Indicator("Cost reduction", MONEY, "Saving as a share of the cost without storage."),
    "average_cost": Indicator("Average cost of demand", MONEY),
    "export_revenue": Indicator("Earned by export", MONEY),
    "fuel_cost": Indicator("Fuel", MONEY),
    "battery_wear": Indicator("Battery wear", MONEY),
    "profit": Indicator("Profit", MONEY, "Revenues minus energy, fuel and battery wear."),
    "lcoe": Indicator("Levelized cost of energy", MONEY),
    "cycle_benefit": Indicator("Earned per full cycle", MONEY),
    "park_revenue": Indicator("Revenue of the park", MONEY),
    "energy_charged": Indicator("Energy charged", STORAGE),
    "energy_discharged": Indicator("Energy discharged", STORAGE),
    "equivalent_full_cycles": Indicator("Equivalent full cycles", STORAGE, "Energy discharged over nominal capacity."),
    "round_trip_efficiency": Indicator("Round-trip efficiency", STORAGE),
    "soh": Indicator("State of health", STORAGE, "Capacity over nominal capacity."),
    "useful_energy": Indicator("Useful energy", STORAGE, "What a full discharge between the limits delivers."),
    "cycle_damage": Indicator("Life used by cycling", STORAGE, "Rainflow counts over the cycle-life curve."),
    "cycles_to_failure": Indicator("Cycles left at this use", STORAGE),
    "years_to_failure": Indicator("Years left at this use", STORAGE),
    "availability": Indicator("Availability", STORAGE, "Share of time in which it could follow a setpoint."),
    "peak_import": Indicator("Highest import", GRID),
    "peak_shaving": Indicator("Peak shaving", GRID, "How much lower the highest import was than without storage."),
    "load_factor": Indicator("Load factor", GRID, "Mean import over highest import."),
    "smoothing": Indicator("Smoothing", GRID, "How much calmer the park's power is than its renewables alone."),
    "hours_at_zero": Indicator("Hours at zero exchange", GRID),
    "curtailment": Indicator("Curtailment avoided", GRID),
    "curtailment_share": Indicator("Curtailment avoided, share", GRID),
    "co2_emitted": Indicator("CO2 emitted", GRID),
    "emission_reduction": Indicator("CO2 saved by storage", GRID),
}


def indicator(kpi: str) -> Indicator:
    """The entry of an indicator; one that is not in the catalogue is named by its id."""
    known = CATALOGUE.get(kpi)
    if known is not None:
        return known
    words = kpi.replace("_", " ").strip()
    return Indicator(words[:1].upper() + words[1:], GRID)
