"""What the grid operator's orders leave of a site's problem, step by step. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flexergy_pipelines.optimization.conditions import steps_inside
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.series import FloatArray, expand

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.operation.grid_orders import GridOrder

Bounds = tuple[FloatArray, FloatArray]
Steps = npt.NDArray[np.bool_]


def apply_grid_orders(problem: Problem, site: Site, orders: Iterable[GridOrder]) -> Problem:
    """The problem with the room that orders and standing limits of the grid operator leave.

    Limits narrow what the exchange, storage, and sources may do; a setpoint leaves the side of zero that it lies on, up
    to itself. Of loads and gensets only the control loop knows them.
    """
    steps = problem.horizon.steps
    bounds: dict[str, Bounds] = {}
    for asset_id, there, low, high in _pieces(problem, site, list(orders)):
        lower, upper = bounds.setdefault(asset_id, (np.full(steps, -np.inf), np.full(steps, np.inf)))
        lower[there] = np.maximum(lower[there], low)
        upper[there] = np.minimum(upper[there], high)
    if not bounds:
        return problem
    changed: dict[str, Any] = {
        "batteries": tuple(_narrowed(b, "max_charge_kw", "max_discharge_kw", bounds, steps) for b in problem.batteries),
        "renewables": tuple(
            r.model_copy(update={"available_kw": np.minimum(expand(r.available_kw, steps), bounds[r.id][1].clip(0))})
            if r.id in bounds
            else r
            for r in problem.renewables
        ),
    }
    if problem.grid is not None and site.grid_connection.id in bounds:
        lower, upper = bounds[site.grid_connection.id]
        limits = {"export_limit_kw": (-lower).clip(0), "import_limit_kw": upper.clip(0)}
        before = {name: getattr(problem.grid, name) for name in limits}
        limits = {
            name: limit if before[name] is None else np.minimum(limit, expand(before[name], steps))
            for name, limit in limits.items()
        }
        found = {name: limit for name, limit in limits.items() if before[name] is not None or np.isfinite(limit).all()}
        changed["grid"] = problem.grid.model_copy(update=found)
    return problem.model_copy(update=changed)


def _narrowed(asset: Any, down: str, up: str, bounds: dict[str, Bounds], steps: int) -> Any:
    if asset.id not in bounds:
        return asset
    lower, upper = bounds[asset.id]
    room = {down: (-lower).clip(0), up: upper.clip(0)}
    return asset.model_copy(
        update={name: np.minimum(expand(getattr(asset, name), steps), most) for name, most in room.items()}
    )


def _pieces(problem: Problem, site: Site, orders: list[GridOrder]) -> Iterator[tuple[str, Steps, float, float]]:
    """Asset, steps, and the range that is left there [kW], of each order and each standing limit."""
    ordered: dict[str, Steps] = {}
    for order in orders:
        there = steps_inside(problem.horizon, order.starts_at, order.ends_at)
        ordered[order.asset_id] = ordered.get(order.asset_id, np.zeros(len(there), dtype=bool)) | there
        low, high = order.minimum_kw, order.maximum_kw
        if order.setpoint_kw is not None:
            low, high = min(order.setpoint_kw, 0.0), max(order.setpoint_kw, 0.0)
        yield order.asset_id, there, -np.inf if low is None else low, np.inf if high is None else high
    everywhere = np.ones(problem.horizon.steps, dtype=bool)
    for limit in site.grid_code.limits:
        there = everywhere & ~ordered.get(limit.asset, ~everywhere) if limit.unless_ordered else everywhere
        low, high = limit.minimum_kw, limit.maximum_kw
        yield limit.asset, there, -np.inf if low is None else low, np.inf if high is None else high
