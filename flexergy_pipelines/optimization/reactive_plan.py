"""Reactive setpoints of a plan: what the grid operator's rules ask of each inverter, as active power allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.series import FloatArray

if TYPE_CHECKING:
    from flexergy_pipelines.grid import ReactiveRule, Site

NOMINAL_VOLTAGE_PU = 1.0


def reactive_setpoints(site: Site, plan: Plan) -> dict[str, FloatArray]:
    """Reactive power (kvar, positive into the busbar) of each inverter with a rule, in each step of a plan.

    A fixed value, a power factor and Q(P) follow the planned active power; Q(U) is planned at nominal voltage and
    followed by the control loop as the voltage is measured. All are cut to ``sqrt(S^2 - P^2)`` of the rating.
    """
    found: dict[str, FloatArray] = {}
    for rule in site.grid_code.reactive:
        asset = site.asset(rule.asset)
        rating = getattr(asset, "rated_kva", None)
        if rating is None or f"{rule.asset}.active_power_kw" not in plan.schedule.columns:
            continue
        active = plan.column(rule.asset, "active_power_kw")
        left = np.sqrt(np.maximum(float(rating) ** 2 - active**2, 0.0))
        found[rule.asset] = np.clip(_asked(rule, active, _rated_kw(asset)), -left, left)
    return found


def _asked(rule: ReactiveRule, active_kw: FloatArray, rated_kw: float) -> FloatArray:
    if rule.mode == "fixed":
        return np.full_like(active_kw, rule.kvar)
    if rule.mode == "cos_phi":
        size = np.abs(active_kw) * np.tan(np.arccos(rule.cos_phi))
        return size if rule.supplies else -size
    places, kvar = zip(*rule.points, strict=True)
    at = np.full_like(active_kw, NOMINAL_VOLTAGE_PU) if rule.mode == "q_of_u" else active_kw / rated_kw
    return np.interp(at, places, kvar)


def _rated_kw(asset: object) -> float:
    """Active power that Q(P) is given over (kW)."""
    rated = getattr(asset, "rated_kw", None)
    return float(rated if rated is not None else getattr(asset, "max_discharge_kw", 1.0))
