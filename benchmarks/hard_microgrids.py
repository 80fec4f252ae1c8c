"""How well the full microgrid is planned when its limits bind: seeded variants, the gap left and the time taken.

    python -m benchmarks.hard_microgrids [--count 20] [--time-limit 10] [--only SEED] [--json]

Every variant has two batteries (one of them with wear by cycle depth), PV, wind, two gensets with minimum up and down
times, two fixed and two controllable loads with a limited number of events, twenty vehicles and three services; 96
steps. Seeds then draw how tight the connection is (the gensets are needed where it is), the steps in which bids rise,
a demand charge, start costs, gensets that are alike, two-rate or hourly prices, and vehicles with a smallest current.
The time is on the wall clock, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.optimization import START, shapes, store
from flexergy_pipelines.optimization import (
    ControllableLoad,
    DemandCharge,
    DepthWear,
    EvSession,
    Genset,
    GridConnection,
    Horizon,
    Load,
    Problem,
    Renewable,
    Service,
    solve,
)
from flexergy_pipelines.optimization.specs_wear import CyclePoint

STEPS = 96
GAP = 1e-3


@dataclass(frozen=True, slots=True)
class Variant:
    """What a seed draws; see :func:`variant`."""

    seed: int
    import_limit_kw: float
    bid_step_kw: float
    min_bid_kw: float
    demand_charge_eur_per_kw: float
    min_up_minutes: int
    start_cost_eur: float
    twin_gensets: bool
    two_rate: bool
    least_charging_kw: float

    def __str__(self) -> str:
        parts = [f"import <= {self.import_limit_kw:g} kW", f"bids {self.min_bid_kw:g}+{self.bid_step_kw:g} kW"]
        parts += [f"up/down {self.min_up_minutes} min", f"start {self.start_cost_eur:g} EUR"]
        parts += [f"peak {self.demand_charge_eur_per_kw:g} EUR/kW"] if self.demand_charge_eur_per_kw else []
        parts += ["twin gensets"] if self.twin_gensets else []
        parts += ["two rates"] if self.two_rate else []
        parts += [f"EVs >= {self.least_charging_kw:g} kW"] if self.least_charging_kw else []
        return ", ".join(parts)


def variant(seed: int) -> Variant:
    """The variant of a seed."""
    rng = np.random.default_rng(1000 + seed)
    step = float(rng.choice([1.0, 5.0, 10.0]))
    return Variant(
        seed=seed,
        import_limit_kw=float(rng.choice([50.0, 70.0, 90.0])),
        bid_step_kw=step,
        min_bid_kw=step * int(rng.integers(1, 4)),
        demand_charge_eur_per_kw=float(rng.choice([0.0, 0.5, 2.0])),
        min_up_minutes=int(rng.choice([30, 60, 120])),
        start_cost_eur=float(rng.choice([1.0, 3.0, 8.0])),
        twin_gensets=bool(rng.random() < 0.5),
        two_rate=bool(rng.random() < 0.4),
        least_charging_kw=float(rng.choice([0.0, 0.0, 4.14])),
    )


def vehicles(rng: np.random.Generator, count: int, *, least_kw: float) -> tuple[EvSession, ...]:
    """Vehicles that come between 05:00 and 17:30 and stay two to six hours and a half."""
    sessions = []
    for number in range(count):
        arrival, stay = int(rng.integers(20, 70)), int(rng.integers(8, 26))
        plugged = np.zeros(STEPS)
        plugged[arrival : arrival + stay] = 1
        sessions.append(
            EvSession(
                id=f"ev-{number}",
                connected=plugged,
                capacity_kwh=60.0,
                soc_start=float(rng.uniform(0.1, 0.6)),
                soc_target=0.8,
                max_kw=11.0,
                min_kw=least_kw,
                efficiency=0.95,
            )
        )
    return tuple(sessions)


def microgrid(drawn: Variant) -> Problem:
    """The problem of a variant."""
    rng = np.random.default_rng(drawn.seed)
    price, pv, load = shapes(STEPS, STEPS, drawn.seed)
    if drawn.two_rate:
        hour = np.arange(STEPS) // 4
        price = np.where((hour >= 7) & (hour < 23), 0.13, 0.08)
    wear = DepthWear(
        replacement_cost_eur_per_kwh=150.0,
        cycle_life=(CyclePoint(depth=0.2, cycles=40_000.0), CyclePoint(depth=1.0, cycles=4_500.0)),
        segments=6,
    )
    charge = DemandCharge(id="peak", price_eur_per_kw=drawn.demand_charge_eur_per_kw, peak_so_far_kw=40.0)
    bids = {"block_steps": 16, "bid_step_kw": drawn.bid_step_kw, "min_bid_kw": drawn.min_bid_kw}
    return Problem(
        horizon=Horizon(start=START, step_minutes=15, steps=STEPS),
        grid=GridConnection(
            import_price_eur_per_kwh=price + 0.08,
            export_price_eur_per_kwh=price - 0.01,
            import_limit_kw=drawn.import_limit_kw,
            export_limit_kw=40.0,
            demand_charges=(charge,) if drawn.demand_charge_eur_per_kw else (),
        ),
        batteries=(store("ess-1", depth_wear=wear), store("ess-2", energy_capacity_kwh=100.0, max_charge_kw=50.0)),
        renewables=(
            Renewable(id="pv", available_kw=pv),
            Renewable(id="wind", kind="wind", available_kw=20 + 10 * rng.random(STEPS)),
        ),
        gensets=tuple(
            Genset(
                id=f"genset-{number}",
                min_kw=20.0,
                max_kw=60.0,
                fuel_cost_eur_per_kwh=0.21 + (0.0 if drawn.twin_gensets else 0.03 * number),
                start_cost_eur=drawn.start_cost_eur,
                min_up_minutes=drawn.min_up_minutes,
                min_down_minutes=drawn.min_up_minutes,
            )
            for number in range(2)
        ),
        loads=(Load(id="load-1", power_kw=load), Load(id="load-2", power_kw=0.5 * load)),
        controllable_loads=tuple(
            ControllableLoad(
                id=f"cold-{number}",
                power_kw=15.0,
                steps=(0.5, 1.0),
                curtailment_cost_eur_per_kwh=0.25,
                min_minutes_between=120,
                max_curtailed_minutes=60,
            )
            for number in range(2)
        ),
        ev_sessions=vehicles(rng, 20, least_kw=drawn.least_charging_kw),
        services=(
            Service(
                id="fcr",
                kind="fcr",
                symmetric=True,
                up_price_eur_per_kw_h=0.008 + 0.008 * rng.random(6).repeat(16),
                duration_hours=0.5,
                **bids,
            ),
            Service(
                id="afrr",
                kind="afrr",
                up_price_eur_per_kw_h=0.003 + 0.004 * rng.random(6).repeat(16),
                down_price_eur_per_kw_h=0.003 + 0.004 * rng.random(6).repeat(16),
                activation_up=0.05,
                activation_down=0.05,
                **bids,
            ),
            Service(
                id="mfrr",
                kind="mfrr",
                down=False,
                up_price_eur_per_kw_h=0.001 + 0.003 * rng.random(6).repeat(16),
                **bids,
            ),
        ),
    )


def measure(seeds: list[int], time_limit_s: float) -> list[dict[str, Any]]:
    """The gap that is left of each variant and what it took."""
    rows = []
    for seed in seeds:
        drawn = variant(seed)
        problem = microgrid(drawn)
        began, used = time.perf_counter(), time.process_time()
        plan = solve(problem, time_limit_s, mip_gap=GAP)
        rows.append(
            {
                "seed": seed,
                "case": str(drawn),
                "gap": plan.gap,
                "status": plan.status,
                "objective_eur": plan.objective_eur,
                "bound_eur": plan.bound_eur,
                "wall_s": time.perf_counter() - began,
                "cpu_s": time.process_time() - used,
                "last_resort": plan.last_resort,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds on the wall clock")
    parser.add_argument("--only", type=int, action="append", help="a seed; may be given more than once")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.only or list(range(options.count)), options.time_limit)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            f"{row['seed']:>3}  gap {row['gap']:.3%}  {row['objective_eur']:9.2f} EUR  {row['wall_s']:5.1f} s"
            f" (cpu {row['cpu_s']:.1f})  {row['case']}"
        )
    gaps, walls = [row["gap"] for row in rows], [row["wall_s"] for row in rows]
    print(
        f"gap: median {statistics.median(gaps):.3%}, largest {max(gaps):.3%}, "
        f"{sum(gap <= GAP for gap in gaps)} of {len(gaps)} within {GAP:.1%}; "
        f"time: median {statistics.median(walls):.1f} s, longest {max(walls):.1f} s"
    )


if __name__ == "__main__":
    main()
