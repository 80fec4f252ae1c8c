"""The point of connection: import and export, their prices, limits and the charge on the peak."""

from __future__ import annotations

from typing import Literal

import numpy as np

from flexergy_pipelines.optimization.blocks.profile import add_profile
from flexergy_pipelines.optimization.board import Board, IndexArray, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import DemandCharge, GridConnection

Goal = Literal["cost", "self_consumption", "zero_flow"]


def add_grid_connection(board: Board, grid: GridConnection, *, goal: Goal, carbon_price_eur_per_kg: float) -> None:
    """Contribute the grid connection; must come after every other block, whose largest powers bound it.

    Parameters
    ----------
    goal : {"cost", "self_consumption", "zero_flow"}
        The plan's dominating goal: exported energy, or all exchanged energy, counts in it.
    carbon_price_eur_per_kg : float
        Price of the grid's emission.
    """
    emission = expand(grid.emission_kg_per_kwh, board.steps) * carbon_price_eur_per_kg * board.hours
    imports = _add_direction(
        board,
        grid,
        "import",
        +1.0,
        largest_kw=board.demand_max,
        limit=grid.import_limit_kw,
        emission_eur_per_kw=emission,
    )
    exports = _add_direction(
        board,
        grid,
        "export",
        -1.0,
        largest_kw=board.supply_max,
        limit=grid.export_limit_kw,
        emission_eur_per_kw=emission,
    )
    for flow in {"cost": [], "self_consumption": exports, "zero_flow": [*imports, *exports]}[goal]:
        board.goal.append((flow.columns, board.full(board.hours)))
    board.exclude(
        imports[0],
        exports[0],
        imports[0].upper,
        exports[0].upper,
        f"{grid.id} never imports and exports at once",
    )
    if grid.profile is not None:
        add_profile(board, grid.id, grid.profile, imports, exports)
    for charge in grid.demand_charges:
        _add_demand_charge(board, charge, [flow.columns for flow in imports])

    def power(x: FloatArray) -> FloatArray:
        into = sum((x[flow.columns] for flow in imports), np.zeros(board.steps))
        return into - sum((x[flow.columns] for flow in exports), np.zeros(board.steps))

    board.output(grid.id, "active_power_kw", power)


def _add_direction(
    board: Board,
    grid: GridConnection,
    direction: str,
    sign: float,
    *,
    largest_kw: FloatArray,
    limit: FloatArray | None,
    emission_eur_per_kw: FloatArray,
) -> list[Variable]:
    """One direction of flow within its limit and, where there is a limit, a priced and named flow beyond it."""
    price = grid.import_price_eur_per_kwh if sign > 0 else grid.export_price_eur_per_kwh
    energy_cost = sign * expand(price, board.steps) * board.hours
    # What lies beyond every load and charge (or every source) can't flow; it bounds the flow where no limit does.
    bound = largest_kw if limit is None else np.minimum(expand(limit, board.steps), largest_kw)
    flow = board.variable(grid.id, f"{direction}_kw", f"{direction} at {grid.id}", upper=bound)
    flows = [flow]
    if limit is not None:
        beyond = np.maximum(largest_kw - bound, 0.0)
        breach = board.variable(
            grid.id, f"{direction}_breach_kw", f"{direction} at {grid.id} beyond its limit", upper=beyond
        )
        board.cost("violations", breach.columns, grid.breach_price_eur_per_kwh * board.hours, penalty=True)
        board.soft_limit(f"{direction}_limit", breach, "kW", f"{direction} limit of {grid.id} exceeded")
        flows.append(breach)
        if grid.breach_peak_price_eur_per_kw > 0:
            peak = board.variable(
                grid.id, f"{direction}_breach_peak_kw", f"largest {direction} beyond the limit", size=1
            )
            board.cost("violations", peak.columns, grid.breach_peak_price_eur_per_kw, penalty=True)
            repeated = np.repeat(peak.columns, board.steps)
            board.constrain(
                grid.id,
                f"{direction}_breach_peak",
                f"largest {direction} beyond the limit",
                [(1.0, repeated), (-1.0, breach.columns)],
                lower=0.0,
            )
    for part in flows:
        board.inject(part.columns, sign)
        board.cost(f"energy_{direction}", part.columns, energy_cost)
        if emission_eur_per_kw.any():
            board.cost("emission", part.columns, sign * emission_eur_per_kw)
    return flows


def _add_demand_charge(board: Board, charge: DemandCharge, imports: list[IndexArray]) -> None:
    """Charge the highest import of the steps that count, as far as it goes beyond the peak so far."""
    counts = np.flatnonzero(expand(charge.applies, board.steps) > 0.5)
    if counts.size == 0:
        return
    peak = board.variable(charge.id, "peak_kw", f"peak of {charge.id}", size=1, lower=charge.peak_so_far_kw)
    board.constrain(
        charge.id,
        "peak",
        f"the peak of {charge.id} covers every import that counts for it",
        [(1.0, np.repeat(peak.columns, counts.size)), *((-1.0, flow[counts]) for flow in imports)],
        lower=0.0,
    )
    board.cost("demand_charge", peak.columns, charge.price_eur_per_kw)
    if not charge.bill_peak_so_far:
        board.constant_cost("demand_charge", -charge.price_eur_per_kw * charge.peak_so_far_kw)
