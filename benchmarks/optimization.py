"""How fast plans are made, as ratios to the bare solver on the same matrix, in one run.

    python -m benchmarks.optimization [--sites 1000] [--peers] [--json]

Times are CPU seconds (medians), so that a busy machine disturbs them little. "bare" is HiGHS alone: the compiled matrix
is handed over and solved, nothing is built, checked or read. With ``--peers`` EMHASS and the direct HiGHS backend of
FlexMeasures plan the same home, in an environment of their own; their costs have to be ours within 1e-6, otherwise the
benchmark fails (but EMHASS's of the week, which it does not close below its own gap of 1 % in minutes). Their imports
and first runs are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import highspy
import numpy as np

from benchmarks.peers import PINS, PeersError, environment
from flexergy_pipelines.optimization import (
    Battery,
    ControllableLoad,
    DepthWear,
    EvSession,
    Genset,
    GridConnection,
    Horizon,
    Load,
    Plan,
    Planner,
    Problem,
    Renewable,
    Service,
    solve,
)
from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.formulation import assemble_matrix
from flexergy_pipelines.optimization.specs_wear import CyclePoint

START = datetime(2026, 6, 1, tzinfo=UTC)


def shapes(steps: int, per_day: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Price (EUR/kWh), PV and load (kW) with a day's rhythm and noise."""
    rng = np.random.default_rng(seed)
    day = np.arange(steps) / per_day * 2 * np.pi
    price = 0.1 + 0.04 * np.sin(2 * day) + 0.01 * rng.normal(size=steps)
    pv = np.maximum(-np.cos(day), 0) * 80 * rng.uniform(0.6, 1.0, steps)
    load = 40 - 15 * np.cos(day) + 5 * rng.normal(size=steps)
    return price, pv, np.maximum(load, 1.0)


def home(steps: int, step_minutes: int, seed: int = 0) -> Problem:
    """One battery, PV and load."""
    price, pv, load = shapes(steps, 1440 // step_minutes, seed)
    return Problem(
        horizon=Horizon.model_validate({"start": START, "step_minutes": step_minutes, "steps": steps}),
        grid=GridConnection(
            import_price_eur_per_kwh=price + 0.08,
            export_price_eur_per_kwh=price - 0.01,
            import_limit_kw=200.0,
            export_limit_kw=200.0,
        ),
        batteries=(store("ess-1"),),
        renewables=(Renewable(id="pv", available_kw=pv, curtailable=False),),
        loads=(Load(id="load", power_kw=load),),
    )


def store(name: str, **fields: Any) -> Battery:
    return Battery.model_validate(
        {
            "id": name,
            "energy_capacity_kwh": 200.0,
            "max_charge_kw": 100.0,
            "max_discharge_kw": 100.0,
            "soc_min": 0.1,
            "soc_max": 0.95,
            "charge_efficiency": 0.95,
            "discharge_efficiency": 0.95,
            "wear_cost_eur_per_kwh": 0.02,
            **fields,
        }
    )


def arbitrage_year() -> Problem:
    price, _, _ = shapes(8760, 24, 1)
    return Problem(
        horizon=Horizon(start=START, step_minutes=60, steps=8760),
        grid=GridConnection(import_price_eur_per_kwh=price, export_price_eur_per_kwh=price),
        batteries=(store("ess-1", wear_cost_eur_per_kwh=0.0),),
    )


def full_microgrid() -> Problem:
    """Two batteries, PV, wind, two gensets, four loads, twenty EVs, three services, 96 steps."""
    price, pv, load = shapes(96, 96, 2)
    rng = np.random.default_rng(3)
    wear = DepthWear(
        replacement_cost_eur_per_kwh=150.0,
        cycle_life=(CyclePoint(depth=0.2, cycles=40_000.0), CyclePoint(depth=1.0, cycles=4_500.0)),
        segments=6,
    )
    sessions = []
    for number in range(20):
        arrival = int(rng.integers(20, 70))
        plugged = np.zeros(96)
        plugged[arrival : arrival + int(rng.integers(8, 26))] = 1
        sessions.append(
            EvSession(
                id=f"ev-{number}", connected=plugged, capacity_kwh=60.0, soc_start=float(rng.uniform(0.1, 0.6)),
                soc_target=0.8, max_kw=11.0, efficiency=0.95,
            )
        )  # fmt: skip
    return Problem(
        horizon=Horizon(start=START, step_minutes=15, steps=96),
        grid=GridConnection(
            import_price_eur_per_kwh=price + 0.08,
            export_price_eur_per_kwh=price - 0.01,
            import_limit_kw=150.0,
            export_limit_kw=150.0,
        ),
        batteries=(store("ess-1", depth_wear=wear), store("ess-2", energy_capacity_kwh=100.0)),
        renewables=(
            Renewable(id="pv", available_kw=pv),
            Renewable(id="wind", kind="wind", available_kw=20 + 10 * rng.random(96)),
        ),
        gensets=tuple(
            Genset(id=f"genset-{k}", min_kw=20.0, max_kw=60.0, fuel_cost_eur_per_kwh=0.21 + 0.03 * k,
                   start_cost_eur=3.0, min_up_minutes=30, min_down_minutes=30)
            for k in range(2)
        ),
        loads=(Load(id="load-1", power_kw=load), Load(id="load-2", power_kw=0.3 * load)),
        controllable_loads=tuple(
            ControllableLoad(id=f"cold-{k}", power_kw=15.0, steps=(0.5, 1.0), curtailment_cost_eur_per_kwh=0.25,
                             min_minutes_between=120, max_curtailed_minutes=60)
            for k in range(2)
        ),
        ev_sessions=tuple(sessions),
        services=(
            Service(id="fcr", kind="fcr", symmetric=True, up_price_eur_per_kw_h=0.01, block_steps=16,
                    duration_hours=0.5),
            Service(id="afrr", kind="afrr", up_price_eur_per_kw_h=0.004, down_price_eur_per_kw_h=0.005, block_steps=16),
            Service(id="mfrr", kind="mfrr", down=False, up_price_eur_per_kw_h=0.003, block_steps=16),
        ),
    )  # fmt: skip


def bare(problem: Problem) -> Callable[[], float]:
    """HiGHS alone on the problem's relaxed matrix; returns its objective (EUR)."""
    board = assemble(problem)
    compiled = assemble_matrix(board)
    lower, upper = board.bounds()
    costs = board.cost_vector()

    def run() -> float:
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = board.column_count, compiled.row_lower.size
        model.col_cost_, model.col_lower_, model.col_upper_ = costs, lower, upper
        model.row_lower_, model.row_upper_ = compiled.row_lower, compiled.row_upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_, model.a_matrix_.index_ = compiled.starts, compiled.rows
        model.a_matrix_.value_ = compiled.values
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", 1)
        highs.passModel(model)
        highs.run()
        return float(highs.getInfo().objective_function_value)

    return run


def timed(action: Callable[[int], object], repeats: int) -> float:
    """Median CPU time of an action (s); its argument counts the repeats."""
    seconds = []
    for repeat in range(repeats):
        began = time.process_time()
        action(repeat)
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def compare(name: str, problem: Problem, ours: Callable[[int], object], repeats: int) -> dict[str, Any]:
    alone = bare(problem)
    # In turns, so that a change of the machine's pace meets both alike.
    pairs = [(timed(ours, 1), timed(lambda _: alone(), 1)) for _ in range(repeats)]
    own, solver = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {"case": name, "ours_s": own, "bare_s": solver, "ratio": own / solver}


def two_rate_home(steps: int) -> dict[str, Any]:
    """A home with a battery on a two-rate tariff, in numbers that every peer can be given."""
    _, pv, load = shapes(steps, 96, 0)
    hour = np.arange(steps) // 4 % 24
    return {
        "start": START.isoformat(),
        "step_minutes": 15,
        "load_kw": load.tolist(),
        "pv_kw": pv.tolist(),
        "grid_kw": 200.0,
        "import_price_eur_per_kwh": np.where((hour >= 7) & (hour < 23), 0.1907, 0.1419).tolist(),
        "export_price_eur_per_kwh": np.full(steps, 0.065).tolist(),
        "battery": {
            "energy_capacity_kwh": 200.0,
            "max_charge_kw": 100.0,
            "max_discharge_kw": 100.0,
            "soc_min": 0.1,
            "soc_max": 0.95,
            "soc_start": 0.5,
            "charge_efficiency": 0.95,
            "discharge_efficiency": 0.95,
        },
    }


def as_ours(home: dict[str, Any]) -> Problem:
    """The home that peers are given, as our problem."""
    return Problem(
        horizon=Horizon.model_validate({"start": START, "step_minutes": 15, "steps": len(home["load_kw"])}),
        grid=GridConnection(
            import_price_eur_per_kwh=home["import_price_eur_per_kwh"],
            export_price_eur_per_kwh=home["export_price_eur_per_kwh"],
            import_limit_kw=home["grid_kw"],
            export_limit_kw=home["grid_kw"],
        ),
        batteries=(Battery(id="ess-1", terminal="equal", **home["battery"]),),
        renewables=(Renewable(id="pv", available_kw=home["pv_kw"], curtailable=False),),
        loads=(Load(id="load", power_kw=home["load_kw"]),),
    )


def peers(steps: int, repeats: int, emhass_gap: float) -> list[dict[str, Any]]:
    """Our plan of a home against those of the peers, in turns.

    Raises
    ------
    PeersError
        When the peers can't be installed, fail, or find another cost: then they solved another problem.
    """
    python = environment("optimization")
    home = two_rate_home(steps)
    solve(as_ours(home))
    rows = []
    for peer, gap in (("emhass", emhass_gap), ("flexmeasures", 0.0)):
        own = timed(lambda _: solve(as_ours(home)), 5)
        done = subprocess.run(
            [str(python), "-W", "ignore", str(PINS / f"{peer}_plan.py")],
            input=json.dumps({"problem": home, "warm_up": two_rate_home(96), "repeats": repeats, "gap": gap}),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PeersError(f"{peer}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}")
        told = json.loads(done.stdout.strip().splitlines()[-1])
        cost = solve(as_ours(home)).objective_eur
        if abs(told["cost_eur"] - cost) > max(gap, 1e-6) * abs(cost):
            raise PeersError(f"{peer} finds {told['cost_eur']} EUR, we {cost} EUR: not the same problem")
        theirs = statistics.median(told["seconds"])
        rows.append(
            {"case": f"{steps} x 15 min, cold, {peer}", "ours_s": own, "peer_s": theirs, "ratio": own / theirs,
             "cost_eur": cost}
        )  # fmt: skip
    return rows


def plan_site(seed: int) -> float:
    """Processor time that one site's plan takes (s)."""
    began = time.process_time()
    solve(home(96, 15, seed))
    return time.process_time() - began


def fleet(sites: int) -> list[dict[str, Any]]:
    """Different sites, day ahead, by two processes: some of them, more of them, all of them.

    Processor time for a site says whether it is linear, whatever else the machine does meanwhile.
    """
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(plan_site, range(4)))  # the workers import their libraries
        for count in sorted({max(sites * 8 // 100, 1), max(sites * 32 // 100, 1), sites}):
            began = time.perf_counter()
            used = sum(pool.map(plan_site, range(count), chunksize=5))
            took = time.perf_counter() - began
            rows.append(
                {"case": f"fleet of {count} sites, 96 steps, 2 processes", "sites_per_s": count / took,
                 "cpu_s_per_site": used / count}
            )  # fmt: skip
    return rows


def measure(sites: int, *, with_peers: bool) -> list[dict[str, Any]]:
    day, week, year = home(96, 15), home(672, 15), arbitrage_year()
    solve(day)
    planner = Planner(60.0)
    planner.solve(day)
    others = [home(96, 15, seed) for seed in range(100, 121)]
    rows = [
        compare("96 x 15 min, cold", day, lambda _: solve(day), 15),
        compare("96 x 15 min, new numbers", others[0], lambda _: planner.solve(others[0]), 15),
        compare("672 x 15 min, cold", week, lambda _: solve(week), 5),
        compare("year by hour, arbitrage, cold", year, lambda _: solve(year, 60.0), 3),
    ]
    began = time.process_time()
    plan: Plan = solve(full_microgrid(), 10.0, mip_gap=1e-3)
    rows.append(
        {
            "case": "full microgrid, 96 steps, gap 0.1 %",
            "ours_s": time.process_time() - began,
            "gap": plan.gap,
            "status": plan.status,
        }
    )
    if sites:
        rows += fleet(sites)
    if with_peers:
        rows += [*peers(96, 5, 1e-7), *peers(672, 1, 0.01)]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        rows = measure(options.sites, with_peers=options.peers)
    except PeersError as error:
        sys.exit(f"{error}; --no-peers leaves them out")
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        figures = "  ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.items()
            if name != "case"
        )
        print(f"{row['case']:<46}{figures}")


if __name__ == "__main__":
    main()
