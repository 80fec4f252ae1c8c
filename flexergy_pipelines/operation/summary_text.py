"""The summary of a site as text, for a terminal or a log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

QUANTITIES = {
    "active_power_setpoint_kw": "setpoint",
    "active_power_limit_kw": "limit",
}


def summary_text(summary: dict[str, Any]) -> str:
    """Render what :func:`flexergy_pipelines.operation.summary.summarize` returned."""
    head = f"{summary['name']} ({summary['site']}), {_when(summary['as_of'])} {summary['time_zone']}"
    lines = [head, "─" * len(head), *_plan_lines(summary["plan"]), *_forecast_lines(summary["forecasts"])]
    lines += [*_dispatch_lines(summary["dispatch"]), *_alarm_lines(summary["alarms"]), ""]
    return "\n".join(lines)


def _plan_lines(plan: dict[str, Any] | None) -> list[str]:
    if plan is None:
        return ["Plan        none yet"]
    gap = "" if plan["gap"] is None else f", gap {plan['gap']:.2%}"
    kind = plan["kind"].replace("_", "-")
    lines = [
        f"Plan        {kind} no. {plan['version']}, {_when(plan['from'])} to {_when(plan['to'])}, {plan['status']}{gap}"
    ]
    if plan["cost_eur"] is not None:
        cost = f"Cost        {plan['cost_eur']:.2f} EUR"
        if plan["saved_eur"] is not None:
            cost += f"; with the storage idle {plan['no_storage_cost_eur']:.2f} EUR: {plan['saved_eur']:.2f} EUR better"
        lines.append(cost)
        parts = (f"{name} {value:.2f}" for name, value in plan["costs_eur"].items() if abs(value) >= 0.005)
        lines.append(f"            of it: {', '.join(parts)} EUR")
    lines += [
        f"Battery     {battery['asset']}: charges {battery['charged_kwh']:.0f} kWh, discharges "
        f"{battery['discharged_kwh']:.0f} kWh, SoC {_percent(battery['soc_lowest'])} to "
        f"{_percent(battery['soc_highest'])}"
        for battery in plan["battery"]
    ]
    lines.append(f"Wear        {plan['battery_wear_eur']:.2f} EUR of battery life")
    lines += [f"Not kept    {violation}" for violation in plan["violations"]]
    return lines


def _forecast_lines(forecasts: list[dict[str, Any]]) -> list[str]:
    lines = []
    for forecast in forecasts:
        label = "Forecasts  " if not lines else "           "
        if forecast["mae"] is None:
            continue
        digits = 4 if forecast["mae"] < 0.1 else 1
        error = f"MAE {forecast['mae']:.{digits}f} {forecast['unit']}"
        line = f"{label} {forecast['target']:<34} {error} by {forecast['model']}"
        if forecast["better_than_naive"] is not None:
            line += f" (naive {forecast['naive_mae']:.{digits}f}, {forecast['better_than_naive']:.0%} better)"
        lines.append(line)
    return lines or ["Forecasts   no model trained yet"]


def _dispatch_lines(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["Dispatch    nothing sent yet"]
    lines = []
    for row in rows:
        label = "Dispatch   " if not lines else "           "
        confirmed = "" if row["read_back"] is None else f", read back {_plain(row['read_back'])} kW"
        what = QUANTITIES.get(row["quantity"], row["quantity"])
        lines.append(f"{label} {row['asset']:<12} {what} {_plain(row['sent'])} kW{confirmed} ({row['layer']})")
    return lines


def _alarm_lines(alarms: list[dict[str, Any]]) -> list[str]:
    if not alarms:
        return ["Alarms      none"]
    return [
        f"{'Alarms     ' if index == 0 else '           '} [{alarm['severity']}] {alarm['message']}"
        for index, alarm in enumerate(alarms)
    ]


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def _when(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%a %d %b %H:%M}"


def _plain(value: float) -> str:
    """One decimal, and no minus in front of a zero."""
    return f"{round(value, 1) + 0.0:.1f}"
