"""Small problems with known answers, and what every plan must obey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from flexergy_pipelines.optimization import Battery, GridConnection, Horizon, Plan, Problem

START = datetime(2026, 3, 2, tzinfo=UTC)


def hours(steps: int, step_minutes: int = 60) -> Horizon:
    return Horizon.model_validate({"start": START, "step_minutes": step_minutes, "steps": steps})


def battery(**fields: object) -> Battery:
    """A battery of 4 kW and 6 kWh without losses, unless `fields` say otherwise."""
    defaults: dict[str, object] = {
        "id": "ess-1",
        "energy_capacity_kwh": 6.0,
        "max_charge_kw": 4.0,
        "max_discharge_kw": 4.0,
        "soc_start": 0.0,
        "terminal": "equal",
        "terminal_price_eur_per_kwh": 1e5,
    }
    return Battery.model_validate(defaults | fields)


def grid(price: float | Sequence[float] | np.ndarray, export: object = None, **fields: object) -> GridConnection:
    return GridConnection.model_validate(
        {
            "import_price_eur_per_kwh": price,
            "export_price_eur_per_kwh": price if export is None else export,
            **fields,
        }
    )


def idle(problem: Problem) -> Problem:
    """The same problem with every battery standing still."""
    still = tuple(b.model_copy(update={"fixed_power_kw": np.zeros(1)}) for b in problem.batteries)
    return problem.model_copy(update={"batteries": still})


def assert_physical(problem: Problem, plan: Plan) -> None:
    """Energy balance, power limits, SoC window and either-or rules, to 1e-6, or a named violation."""
    steps = problem.horizon.steps
    named = {(violation.asset_id, violation.code) for violation in plan.violations}
    balance = np.zeros(steps)
    for source in (*problem.renewables, *problem.gensets, *problem.batteries):
        balance += plan.column(source.id, "active_power_kw")
    loads = (*problem.loads, *problem.controllable_loads, *problem.shiftable_loads)
    for load in (*loads, *problem.ev_blocks, *problem.ev_sessions):
        balance -= plan.column(load.id, "active_power_kw")
    for store in problem.batteries:
        balance -= np.broadcast_to(store.auxiliary_kw, steps)
    if problem.grid is None:
        balance += plan.column("busbar", "unserved_kw") - plan.column("busbar", "surplus_kw")
    else:
        exchange = plan.column(problem.grid.id, "active_power_kw")
        balance += exchange
        for limit, code, sign in (
            (problem.grid.import_limit_kw, "import_limit", 1.0),
            (problem.grid.export_limit_kw, "export_limit", -1.0),
        ):
            if limit is not None and (sign * exchange > limit + 1e-4).any():
                assert (problem.grid.id, code) in named
    np.testing.assert_allclose(balance, 0.0, atol=1e-6)
    for store in problem.batteries:
        _assert_battery(problem, plan, store, named)
    for source in problem.renewables:
        power = plan.column(source.id, "active_power_kw")
        assert (power >= -1e-6).all()
        assert (power <= np.broadcast_to(source.available_kw, steps) + 1e-6).all()
    for genset in problem.gensets:
        power = plan.column(genset.id, "active_power_kw")
        assert ((np.abs(power) < 1e-6) | ((power > genset.min_kw - 1e-6) & (power < genset.max_kw + 1e-6))).all()
    _assert_rest(problem, plan, named)
    assert sum(plan.costs.values()) == plan.objective_eur
    assert plan.bound_eur <= plan.objective_eur + 1e-9


def _assert_rest(problem: Problem, plan: Plan, named: set[tuple[str, str]]) -> None:
    """Limits of vehicles and of the network."""
    steps = problem.horizon.steps
    for session in problem.ev_sessions:
        power = plan.column(session.id, "active_power_kw")
        assert (power <= session.largest_kw * np.broadcast_to(session.connected, steps) + 1e-6).all()
        assert (power >= -session.max_discharge_kw - 1e-6).all()
    branches = () if problem.network is None else problem.network.branches
    for branch in branches:
        if (np.abs(plan.column(branch.id, "flow_kw")) > branch.limit_kw + 1e-4).any():
            assert (branch.id, "branch_limit") in named


def _assert_battery(problem: Problem, plan: Plan, store: Battery, named: set[tuple[str, str]]) -> None:
    """The stored energy follows from the *net* power alone, which only holds when it never charges and discharges."""
    power = plan.column(store.id, "active_power_kw")
    soc = np.append(plan.column(store.id, "soc"), plan.final_state[f"{store.id}.soc"])
    charge, discharge = np.maximum(-power, 0), np.maximum(power, 0)
    assert (charge <= np.broadcast_to(store.max_charge_kw, power.size) + 1e-6).all()
    assert (discharge <= np.broadcast_to(store.max_discharge_kw, power.size) + 1e-6).all()
    hours_ = problem.horizon.hours
    kept = (1 - store.self_discharge_per_day) ** (hours_ / 24)
    change = hours_ * (store.charge_efficiency * charge - discharge / store.discharge_efficiency)
    expected = kept * (soc[:-1] * store.energy_capacity_kwh + change)
    np.testing.assert_allclose(soc[1:] * store.energy_capacity_kwh, expected, atol=2e-6)
    if store.ramp_kw_per_minute is not None:
        change = np.abs(np.diff(power)).max(initial=0.0)
        if change > store.ramp_kw_per_minute * problem.horizon.step_minutes + 1e-4:
            assert (store.id, "ramp") in named
    if store.max_cycles_per_day is not None and (store.id, "cycle_cap") not in named:
        cap = store.max_cycles_per_day * store.energy_capacity_kwh
        assert discharge.sum() * hours_ <= cap + 1e-4  # the horizon is within one day
    tolerance = 1e-4 / max(store.energy_capacity_kwh, 1e-3)
    if (soc[1:] < store.soc_min - tolerance).any():
        assert (store.id, "soc_below_minimum") in named
    if (soc[1:] > store.soc_max + tolerance).any():
        assert (store.id, "soc_above_maximum") in named
