"""Rules on where energy comes from: storage charged by sources only, nothing discharged into the grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexergy_pipelines.optimization.blocks.battery import BatteryVariables
from flexergy_pipelines.optimization.blocks.ev_session import EvVariables
from flexergy_pipelines.optimization.blocks.genset import GensetVariables
from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.blocks.renewables import RenewableVariables
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.specs import GridConnection, Load

ORIGIN_PRICE_EUR_PER_KWH = 40.0


def add_origin_rules(
    board: Board,
    grid: GridConnection | None,
    exports: Sequence[Variable],
    *,
    stores: Sequence[BatteryVariables],
    sources: Sequence[RenewableVariables],
    gensets: Sequence[GensetVariables],
    vehicles: Sequence[EvVariables],
    loads: Sequence[Load] = (),
) -> None:
    """Contribute the rules that batteries and the grid connection ask for; a given operation is not restricted."""
    from_sources = [
        store for store in stores if store.battery.charge_from == "renewables" and store.battery.fixed_power_kw is None
    ]
    delivered: Terms = [(1.0, source.curtailed.columns) for source in sources if source.curtailed is not None]
    available = sum((source.available_kw for source in sources), np.zeros(board.steps))
    if from_sources:
        charged: Terms = [(1.0, store.charge.columns) for store in from_sources]
        name = from_sources[0].battery.id
        meaning = "storage is charged with no more than the sources deliver"
        _keep(board, name, "charge_from_sources", meaning, terms=[*charged, *delivered], most=available)
    if grid is None or not exports:
        return
    exported: Terms = [(1.0, flow.columns) for flow in exports]
    if grid.export_from == "surplus":
        fixed_load = sum((-board.fixed_kw[load.id] for load in loads), np.zeros(board.steps))
        meaning = "no more is exported than the sources deliver beyond the loads"
        most = np.maximum(available - fixed_load, 0.0)
        _keep(board, grid.id, "export_from_surplus", meaning, terms=exported, most=most)
    if grid.export_from == "renewables":
        meaning = "no more is exported than the sources deliver"
        _keep(board, grid.id, "export_from_sources", meaning, terms=[*exported, *delivered], most=available)
    kept = [store for store in stores if store.battery.discharge_to == "site" and store.battery.fixed_power_kw is None]
    if kept:
        others: Terms = [(-1.0, unit.power.columns) for unit in gensets]
        others += [(-1.0, store.discharge.columns) for store in stores if store not in kept]
        others += [(-1.0, car.discharge.columns) for car in vehicles if car.discharge is not None]
        meaning = "nothing that storage discharges is exported"
        name = kept[0].battery.id
        _keep(board, name, "export_without_storage", meaning, terms=[*exported, *delivered, *others], most=available)


def _keep(board: Board, name: str, code: str, meaning: str, *, terms: Terms, most: np.ndarray) -> None:
    over = board.variable(name, f"{code}_excess_kw", f"{meaning}: what goes beyond")
    board.cost("violations", over.columns, board.dominant(ORIGIN_PRICE_EUR_PER_KWH) * board.hours, penalty=True)
    board.soft_limit(code, over, "kW", f"not kept: {meaning}")
    board.constrain(name, code, meaning, [*terms, (-1.0, over.columns)], upper=most)
