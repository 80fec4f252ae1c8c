# pyright: reportMissingImports=false
"""One home battery planned by EMHASS, in its own environment: a problem comes on stdin, times and costs go to stdout.

EMHASS plans with binaries at a gap of 1 % by default; the time is taken so. The cost to compare is
taken at the gap asked for.
Its battery discharges at most eff * P at the busbar and charges at most P, so that P is turned round here to mean the
same problem as ours.
"""

import csv
import io
import json
import logging
import pathlib
import sys
import time
from importlib.resources import files
from importlib.resources.abc import Traversable

import pandas as pd
from emhass.optimization import Optimization


def configuration(data: Traversable) -> dict[str, dict]:
    """EMHASS's default configuration, in the three parts that it is handed over in."""
    defaults = json.loads((data / "config_defaults.json").read_text())
    parts: dict[str, dict] = {"retrieve_hass_conf": {}, "optim_conf": {}, "plant_conf": {}}
    for row in csv.DictReader(io.StringIO((data / "associations.csv").read_text())):
        if row["config_categorie"] in parts and row["parameter"] in defaults:
            parts[row["config_categorie"]][row["parameter"]] = defaults[row["parameter"]]
    return parts


def plan(problem: dict, gap: float) -> tuple[float, float]:
    """CPU time (s) from configuration to schedule, and the cost of the schedule (EUR)."""
    battery, hours = problem["battery"], problem["step_minutes"] / 60
    steps = len(problem["load_kw"])
    index = pd.date_range(problem["start"], periods=steps, freq=f"{problem['step_minutes']}min")
    conf = configuration(files("emhass") / "data")
    began = time.process_time()
    conf["retrieve_hass_conf"] |= {
        "optimization_time_step": pd.Timedelta(minutes=problem["step_minutes"]),
        "time_zone": index.tz,
        "sensor_power_photovoltaics": "pv",
        "sensor_power_load_no_var_loads": "load",
    }
    conf["optim_conf"] |= {
        "set_use_battery": True,
        "set_use_pv": True,
        "number_of_deferrable_loads": 0,
        "set_nodischarge_to_grid": False,
        "delta_forecast_daily": pd.Timedelta(hours=steps * hours),
        "lp_solver": "HiGHS",
        "lp_solver_mip_rel_gap": gap,
        "lp_solver_timeout": 300,
        "num_threads": 1,
    }
    conf["plant_conf"] |= {
        "maximum_power_from_grid": problem["grid_kw"] * 1000,
        "maximum_power_to_grid": problem["grid_kw"] * 1000,
        "battery_discharge_power_max": battery["max_discharge_kw"] * 1000 / battery["discharge_efficiency"],
        "battery_charge_power_max": battery["max_charge_kw"] * 1000,
        "battery_discharge_efficiency": battery["discharge_efficiency"],
        "battery_charge_efficiency": battery["charge_efficiency"],
        "battery_nominal_energy_capacity": battery["energy_capacity_kwh"] * 1000,
        "battery_minimum_state_of_charge": battery["soc_min"],
        "battery_maximum_state_of_charge": battery["soc_max"],
        "battery_target_state_of_charge": battery["soc_start"],
        "inverter_is_hybrid": False,
        "compute_curtailment": False,
    }
    inputs = pd.DataFrame(
        {"load_cost": problem["import_price_eur_per_kwh"], "prod_price": problem["export_price_eur_per_kwh"]}, index
    )
    optimization = Optimization(
        conf["retrieve_hass_conf"], conf["optim_conf"], conf["plant_conf"], "load_cost", "prod_price", "profit",
        {"data_path": pathlib.Path("/nonexistent")}, logging.getLogger("emhass"), num_timesteps=steps,
    )  # fmt: skip
    result = optimization.perform_dayahead_forecast_optim(
        inputs,
        pd.Series(problem["pv_kw"], index) * 1000,
        pd.Series(problem["load_kw"], index) * 1000,
        soc_init=battery["soc_start"],
        soc_final=battery["soc_start"],
    )
    took = time.process_time() - began
    bought = (result["P_grid_pos"] * inputs["load_cost"]).sum()
    sold = (-result["P_grid_neg"] * inputs["prod_price"]).sum()
    return took, float(bought - sold) * hours / 1000


def main() -> None:
    logging.disable(logging.CRITICAL)
    asked = json.load(sys.stdin)
    plan(asked["warm_up"], 0.01)  # what is loaded at the first use is not counted
    runs = [plan(asked["problem"], 0.01) for _ in range(asked["repeats"])]
    cost = runs[0][1] if asked["gap"] >= 0.01 else plan(asked["problem"], asked["gap"])[1]
    print(json.dumps({"seconds": [took for took, _ in runs], "cost_eur": cost}))


if __name__ == "__main__":
    main()
