# pyright: reportMissingImports=false
"""One home battery planned by FlexMeasures' direct HiGHS backend: a problem comes on stdin, times and costs to stdout.

Its stock is counted in power times steps, and the schedule is taken from its scheduler's own function, so that its
database, queue and web server cost it nothing here.
"""

import json
import sys
import time
from datetime import timedelta

import pandas as pd
from flask import Flask
from flexmeasures.data.models.planning import FlowCommitment
from flexmeasures.data.models.planning.highspy_optimization import device_scheduler_highspy
from flexmeasures.data.models.planning.utils import initialize_df

COLUMNS = [
    "equals", "max", "min", "efficiency", "derivative equals", "derivative max", "derivative min",
    "derivative down efficiency", "derivative up efficiency", "stock delta",
]  # fmt: skip


def plan(problem: dict) -> tuple[float, float]:
    """CPU time (s) from numbers to schedule, and the cost of the schedule (EUR)."""
    battery, hours = problem["battery"], problem["step_minutes"] / 60
    began = time.process_time()
    start, step = pd.Timestamp(problem["start"]), timedelta(minutes=problem["step_minutes"])
    end = start + len(problem["load_kw"]) * step
    stored = initialize_df(COLUMNS, start, end, step)
    capacity, soc = battery["energy_capacity_kwh"] / hours, battery["soc_start"]
    stored["max"] = (battery["soc_max"] - soc) * capacity
    stored["min"] = (battery["soc_min"] - soc) * capacity
    stored.loc[stored.index[-1], "equals"] = 0.0
    stored["derivative max"] = battery["max_charge_kw"]
    stored["derivative min"] = -battery["max_discharge_kw"]
    stored["derivative up efficiency"] = battery["charge_efficiency"]
    stored["derivative down efficiency"] = battery["discharge_efficiency"]
    rest = initialize_df(COLUMNS, start, end, step)
    rest["derivative equals"] = [load - pv for load, pv in zip(problem["load_kw"], problem["pv_kw"], strict=True)]
    site = initialize_df(COLUMNS, start, end, step)
    site["derivative max"], site["derivative min"] = problem["grid_kw"], -problem["grid_kw"]
    index = stored.index
    energy = FlowCommitment(
        name="energy",
        quantity=0,
        upwards_deviation_price=pd.Series(problem["import_price_eur_per_kwh"], index) * hours,
        downwards_deviation_price=pd.Series(problem["export_price_eur_per_kwh"], index) * hours,
        index=index,
        device=pd.Series([[0, 1]] * len(index), index=index),
        device_group=pd.Series([0, 0], index=[0, 1]),
    )
    _, cost, results, _ = device_scheduler_highspy(
        [stored, rest], site, commitments=[energy], initial_stock=soc * capacity
    )
    took = time.process_time() - began
    if results.solver.termination_condition != "optimal":
        sys.exit(f"FlexMeasures found no plan: {results.solver.termination_condition}")
    return took, float(cost)


def main() -> None:
    app = Flask("bench")
    app.config.update(LOGGING_LEVEL="INFO", FLEXMEASURES_LP_SOLVER="highspy", FLEXMEASURES_LP_SOLVER_OPTIONS={})
    asked = json.load(sys.stdin)
    with app.app_context():
        plan(asked["warm_up"])  # what is loaded at the first use is not counted
        runs = [plan(asked["problem"]) for _ in range(asked["repeats"])]
    print(json.dumps({"seconds": [took for took, _ in runs], "cost_eur": runs[0][1]}))


if __name__ == "__main__":
    main()
