"""The point of connection: import and export, their prices, taxes and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.optimization.blocks.profile import add_profile
from flexergy_pipelines.optimization.blocks.ramp import add_ramp
from flexergy_pipelines.optimization.blocks.tariff import add_demand_charge, add_tiers, peak_already_billed
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.problem import Goal
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import GridConnection, Renewable

BREACH_PRICE_EUR_PER_KWH = 100.0


@dataclass(frozen=True, slots=True)
class GridVariables:
    """The flows at the connection, the regular one first, then the one beyond the limit where there is a limit."""

    imports: list[Variable]
    exports: list[Variable]


def add_grid_connection(
    board: Board,
    grid: GridConnection,
    *,
    goal: Goal,
    carbon_price_eur_per_kg: float,
    renewables: Sequence[Renewable] = (),
) -> GridVariables:
    """Contribute the grid connection; must come after every other block, whose largest powers bound it.

    Parameters
    ----------
    goal : str
        The plan's dominating goal: exported energy, all exchanged energy, the highest import or the deviation from the
        declared profile counts in it.
    carbon_price_eur_per_kg : float
        Price of the grid's emission.
    renewables : sequence of Renewable
        The site's sources, for a feed-in limit that is a share of the installed power.
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
        limit=_export_limit(board, grid, renewables),
        emission_eur_per_kw=emission,
    )
    for flow in {"self_consumption": exports, "zero_flow": [*imports, *exports]}.get(goal, []):
        board.goal.append((flow.columns, board.full(board.hours)))
    if goal == "peak_shaving":
        _lower_peak(board, grid, imports)
    board.exclude(
        imports[0],
        exports[0],
        imports[0].upper,
        exports[0].upper,
        f"{grid.id} never imports and exports at once",
    )
    if grid.profile is not None:
        deviations = add_profile(board, grid.id, grid.profile, imports, exports)
        if goal == "profile":
            board.goal += [(deviation.columns, board.full(board.hours)) for deviation in deviations]
    for charge in grid.demand_charges:
        flows = imports if charge.direction == "import" else exports
        add_demand_charge(board, charge, [flow.columns for flow in flows], vat=grid.vat)
    for tariff in grid.tiers:
        add_tiers(board, tariff, [flow.columns for flow in imports], vat=grid.vat)
    if grid.ramp_kw_per_minute is not None:
        exchange = [(1.0, flow.columns) for flow in imports] + [(-1.0, flow.columns) for flow in exports]
        add_ramp(board, grid.id, exchange, ramp_kw_per_minute=grid.ramp_kw_per_minute, start_kw=grid.power_start_kw)

    def power(x: FloatArray) -> FloatArray:
        into = sum((x[flow.columns] for flow in imports), np.zeros(board.steps))
        return into - sum((x[flow.columns] for flow in exports), np.zeros(board.steps))

    board.output(grid.id, "active_power_kw", power)
    return GridVariables(imports, exports)


def _lower_peak(board: Board, grid: GridConnection, imports: list[Variable]) -> None:
    """Make the highest import (kW), as far as no demand charge bills it already, the plan's dominating goal."""
    peak = board.variable(grid.id, "import_peak_kw", f"highest import at {grid.id}", size=1)
    billed = peak_already_billed(grid.demand_charges, board.steps)
    terms = [(1.0, np.repeat(peak.columns, board.steps)), *((-1.0, flow.columns) for flow in imports)]
    board.constrain(grid.id, "import_peak", f"the peak of {grid.id} covers every import", terms, lower=-billed)
    board.goal.append((peak.columns, np.ones(1)))


def _export_limit(board: Board, grid: GridConnection, renewables: Sequence[Renewable]) -> FloatArray | None:
    """The tightest of the limits on export (kW), or None."""
    limits = [
        expand(limit, board.steps) for limit in (grid.export_limit_kw, grid.feed_in_limit_kw) if limit is not None
    ]
    if grid.feed_in_limit_share is not None:
        installed = sum(source.rated_kw or 0.0 for source in renewables if source.kind == "pv")
        limits.append(board.full(grid.feed_in_limit_share * installed))
    return np.min(limits, axis=0) if limits else None


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
    taxes = _taxes_eur_per_kw(board, grid, energy_cost, importing=sign > 0)
    # What lies beyond every load and charge (or every source) can't flow; it bounds the flow where no limit does.
    bound = largest_kw if limit is None else np.minimum(expand(limit, board.steps), largest_kw)
    flow = board.variable(grid.id, f"{direction}_kw", f"{direction} at {grid.id}", upper=bound)
    flows = [flow]
    if limit is not None:
        flows.append(_add_breach(board, grid, direction, np.maximum(largest_kw - bound, 0.0)))
    for part in flows:
        board.inject(part.columns, sign)
        board.cost(f"energy_{direction}", part.columns, energy_cost)
        if taxes.any():
            board.cost("taxes", part.columns, taxes)
        if emission_eur_per_kw.any():
            board.cost("emission", part.columns, sign * emission_eur_per_kw)
    return flows


def _taxes_eur_per_kw(board: Board, grid: GridConnection, energy_cost: FloatArray, *, importing: bool) -> FloatArray:
    """Taxes on a kilowatt over a step; value-added tax on what import costs, levies included."""
    if not importing:
        return expand(grid.export_tax_eur_per_kwh, board.steps) * board.hours
    levies = expand(grid.import_tax_eur_per_kwh, board.steps) * board.hours
    return levies + grid.vat * (energy_cost + levies)


def _add_breach(board: Board, grid: GridConnection, direction: str, beyond: FloatArray) -> Variable:
    """Flow beyond the limit, priced and named."""
    price = grid.breach_price_eur_per_kwh
    price = board.dominant(BREACH_PRICE_EUR_PER_KWH) if price is None else price
    breach = board.variable(
        grid.id, f"{direction}_breach_kw", f"{direction} at {grid.id} beyond its limit", upper=beyond
    )
    board.cost("violations", breach.columns, price * board.hours, penalty=True)
    board.soft_limit(f"{direction}_limit", breach, "kW", f"{direction} limit of {grid.id} exceeded")
    if grid.breach_peak_price_eur_per_kw > 0:
        peak = board.variable(grid.id, f"{direction}_breach_peak_kw", f"largest {direction} beyond the limit", size=1)
        board.cost("violations", peak.columns, grid.breach_peak_price_eur_per_kw, penalty=True)
        repeated = np.repeat(peak.columns, board.steps)
        board.constrain(
            grid.id,
            f"{direction}_breach_peak",
            f"largest {direction} beyond the limit",
            [(1.0, repeated), (-1.0, breach.columns)],
            lower=0.0,
        )
    return breach
