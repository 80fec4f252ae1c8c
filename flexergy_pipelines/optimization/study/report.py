"""What a study reports: JSON contract, schedule files, figures and a chart."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np

from flexergy_pipelines.optimization.explanation import explain
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.study.run import StudyResult


def report(result: StudyResult, *, schedule: str | None = None, inline: bool = False) -> dict[str, Any]:
    """The result as the documented JSON contract (`docs/study.md`).

    Parameters
    ----------
    schedule : str or None
        Path of the schedule file, when one was written.
    inline : bool
        Put the schedule's columns into the report instead.
    """
    plan = result.plan
    why = explain(result.problem, plan, UTC)
    out: dict[str, Any] = {
        "status": plan.status,
        "objective_eur": plan.objective_eur,
        "bound_eur": plan.bound_eur if np.isfinite(plan.bound_eur) else None,
        "gap": plan.gap if np.isfinite(plan.gap) else None,
        "costs": plan.costs,
        "violations": [violation.as_dict() for violation in plan.violations],
        "timings_s": {name: round(seconds, 6) for name, seconds in plan.timings_s.items()},
        "kpis": figures(result.problem, plan),
        "why": [reason.as_dict() for reason in why],
        "schedule": _columns(plan) if inline else schedule,
    }
    if result.comparison is not None:
        out["comparison"] = result.comparison
    return out | (result.over_scenarios or {})


def _columns(plan: Plan) -> dict[str, Any]:
    times = [stamp.isoformat() for stamp in plan.horizon.times()]
    return {
        "time": times,
        **{name: plan.schedule[name].to_list() for name in plan.schedule.columns if name != "time"},
    }


def figures(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Energies (kWh), peaks (kW), and for each battery its cycles and SoC range."""
    hours = problem.horizon.hours
    out: dict[str, Any] = {}
    if problem.grid is not None:
        exchange = plan.column(problem.grid.id, "active_power_kw")
        out["import_kwh"] = float(np.maximum(exchange, 0).sum() * hours)
        out["export_kwh"] = float(np.maximum(-exchange, 0).sum() * hours)
        out["peak_import_kw"] = float(np.maximum(exchange, 0).max(initial=0.0))
    available = sum(
        float(np.broadcast_to(s.available_kw, plan.schedule.height).sum()) * hours for s in problem.renewables
    )
    if problem.renewables:
        used = sum(float(plan.column(s.id, "active_power_kw").sum()) * hours for s in problem.renewables)
        out["renewable_kwh"] = used
        out["curtailed_kwh"] = max(available - used, 0.0)
        if problem.grid is not None and used > 0:
            out["self_consumption"] = max(1.0 - out["export_kwh"] / used, 0.0)
    out["batteries"] = {
        battery.id: battery_figures(
            plan.column(battery.id, "active_power_kw"),
            np.append(plan.column(battery.id, "soc"), plan.final_state[f"{battery.id}.soc"]),
            battery.energy_capacity_kwh,
            hours,
        )
        for battery in problem.batteries
        if battery.energy_capacity_kwh > 0
    }
    return out


def battery_figures(power_kw: np.ndarray, soc: np.ndarray, capacity_kwh: float, hours: float) -> dict[str, Any]:
    """Energies, equivalent full cycles and counted cycles (rainflow, ASTM E1049-85) of one battery."""
    import rainflow

    cycles = [(float(depth), float(count)) for depth, _, count, _, _ in rainflow.extract_cycles(soc) if depth > 1e-6]
    discharged = float(np.maximum(power_kw, 0).sum() * hours)
    return {
        "charged_kwh": float(np.maximum(-power_kw, 0).sum() * hours),
        "discharged_kwh": discharged,
        "equivalent_full_cycles": discharged / capacity_kwh,
        "cycles": sum(count for _, count in cycles),
        "deepest_cycle": max((depth for depth, _ in cycles), default=0.0),
        "soc_lowest": float(soc.min()),
        "soc_highest": float(soc.max()),
        "soc_end": float(soc[-1]),
    }


def write_files(result: StudyResult, folder: Path, name: str) -> dict[str, Any]:
    """Write schedule (CSV and Parquet), report and chart into `folder`; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    schedule = folder / "schedule.csv"
    result.plan.schedule.write_csv(schedule)
    result.plan.schedule.write_parquet(folder / "schedule.parquet")
    out = report(result, schedule=str(schedule))
    (folder / "report.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    write_chart(result, folder / "chart.svg", name)
    return out


def write_chart(result: StudyResult, path: Path, title: str) -> None:
    """A picture of the plan: powers, SoC and prices over time."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    problem, plan = result.problem, result.plan
    times = plan.horizon.times()
    rcParams["svg.hashsalt"] = "flexergy"  # the same picture twice is the same file
    island = problem.grid is None
    figure = Figure(figsize=(11, 5.6 if island else 7), layout="constrained")
    panels = figure.subplots(2 if island else 3, 1, sharex=True, height_ratios=[3, 1.4] if island else [3, 1.4, 1.4])
    power, soc, last = panels[0], panels[1], panels[-1]
    for asset in problem.assets():
        name = f"{getattr(asset, 'id', '')}.active_power_kw"
        if name in plan.schedule.columns:
            power.step(times, plan.schedule[name].to_numpy(), where="post", label=name.rpartition(".")[0])
    power.set_ylabel("power (kW)")
    power.axhline(0, color="0.6", linewidth=0.8)
    power.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    for battery in problem.batteries:
        name = f"{battery.id}.soc"
        if name in plan.schedule.columns:
            soc.plot(times, plan.schedule[name].to_numpy() * 100, label=battery.id)
    soc.set_ylabel("SoC (%)")
    soc.set_ylim(-3, 103)
    if problem.grid is not None:
        for field, label in (("import_price_eur_per_kwh", "buy"), ("export_price_eur_per_kwh", "sell")):
            values = np.broadcast_to(getattr(problem.grid, field), len(times))
            last.step(times, values * 1000, where="post", label=label)
        last.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
        last.set_ylabel("price (EUR/MWh)")
    last.set_xlabel("time (UTC)")
    cost = f"{plan.objective_eur:,.2f} EUR, {plan.status}"
    power.set_title(f"{title}: {cost}", loc="left")
    figure.savefig(path, format="svg", metadata={"Date": None})
