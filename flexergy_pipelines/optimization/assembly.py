"""Put the blocks of a problem on one board."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.blocks.battery import BatteryVariables, add_battery
from flexergy_pipelines.optimization.blocks.controllable_load import add_controllable_load
from flexergy_pipelines.optimization.blocks.ev_block import add_ev_block
from flexergy_pipelines.optimization.blocks.ev_session import add_ev_group, add_ev_session
from flexergy_pipelines.optimization.blocks.genset import add_genset
from flexergy_pipelines.optimization.blocks.grid_connection import GridVariables, add_grid_connection
from flexergy_pipelines.optimization.blocks.headroom import add_headroom
from flexergy_pipelines.optimization.blocks.inverter import add_inverter, add_reactive_support
from flexergy_pipelines.optimization.blocks.load import add_last_resort, add_load
from flexergy_pipelines.optimization.blocks.network import add_network
from flexergy_pipelines.optimization.blocks.origin import add_origin_rules
from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.blocks.renewables import RenewableVariables, add_renewable
from flexergy_pipelines.optimization.blocks.reserve import add_reserve
from flexergy_pipelines.optimization.blocks.services import add_services
from flexergy_pipelines.optimization.blocks.shiftable_load import add_shiftable_load
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.problem import Problem


def assemble(problem: Problem) -> Board:
    """Every block of `problem` on a board, with a balanced busbar."""
    board = Board(problem.horizon.steps, problem.horizon.hours, problem.horizon.start)
    board.largest_price_eur_per_kwh = _largest_price(problem)
    objective = problem.objective
    keep_energy = objective.goal == "self_consumption"
    carbon_price = objective.carbon_price_eur_per_kg
    for load in problem.loads:
        add_load(board, load)
    for block in problem.ev_blocks:
        add_ev_block(board, block)
    late_price = 0.0 if problem.grid is None else max(float(np.mean(problem.grid.import_price_eur_per_kwh)), 0.0)
    for controllable in problem.controllable_loads:
        add_controllable_load(board, controllable, late_price_eur_per_kwh=late_price)
    for shiftable in problem.shiftable_loads:
        add_shiftable_load(board, shiftable)
    sources = [add_renewable(board, source, keep_energy=keep_energy) for source in problem.renewables]
    gensets = [add_genset(board, genset, carbon_price_eur_per_kg=carbon_price) for genset in problem.gensets]
    vehicles = [made for session in problem.ev_sessions if (made := add_ev_session(board, session)) is not None]
    for group in problem.ev_groups:
        add_ev_group(board, group, vehicles)
    stores = [
        add_headroom(
            board,
            add_battery(
                board,
                battery,
                wear_weight=objective.wear_weight_of.get(battery.id, objective.wear_weight),
                serves=bool(problem.services),
                holds=bool(problem.services) or problem.reserve is not None or battery.headroom is not None,
            ),
        )
        for battery in problem.batteries
    ]
    if problem.services:
        add_services(board, problem.services, stores)
    connection = None
    if problem.grid is None:
        add_last_resort(board)
    else:
        connection = add_grid_connection(
            board,
            problem.grid,
            goal=objective.goal,
            carbon_price_eur_per_kg=carbon_price,
            renewables=problem.renewables,
        )
    add_origin_rules(
        board,
        problem.grid,
        connection.exports if connection is not None else (),
        stores=stores,
        sources=sources,
        gensets=gensets,
        vehicles=vehicles,
        loads=problem.loads,
    )
    if problem.reserve is not None:
        add_reserve(board, problem.reserve, stores, gensets)
    _add_inverters(board, problem, stores, sources, connection)
    if problem.network is not None:
        add_network(board, problem.network)
    board.close_busbar()
    return board


def _add_inverters(
    board: Board,
    problem: Problem,
    stores: list[BatteryVariables],
    sources: list[RenewableVariables],
    connection: GridVariables | None,
) -> None:
    """Ratings of the inverters and, where the operator asks for it, reactive power."""
    support = problem.reactive
    units = []
    for store in stores:
        if store.battery.inverter is not None:
            active: Terms = [(1.0, store.discharge.columns), (-1.0, store.charge.columns)]
            name, inverter = store.battery.id, store.battery.inverter
            units.append(add_inverter(board, name, inverter, active, reactive=support is not None))
    for made in sources:
        inverter = made.source.inverter
        if inverter is not None:
            held_back: Terms = [] if made.curtailed is None else [(-1.0, made.curtailed.columns)]
            given = made.available_kw
            units.append(add_inverter(board, made.source.id, inverter, held_back, given, reactive=support is not None))
    if support is not None and connection is not None:
        add_reactive_support(board, support, connection, [unit for unit in units if unit is not None], problem.loads)


def _largest_price(problem: Problem) -> float:
    """Largest price of energy in the problem (EUR/kWh), which soft limits have to outweigh."""
    prices = [genset.fuel_cost_eur_per_kwh for genset in problem.gensets]
    prices += [source.curtailment_price_eur_per_kwh for source in problem.renewables]
    prices += [load.curtailment_price for load in problem.controllable_loads]
    for battery in problem.batteries:
        prices += [
            float(np.abs(series).max())
            for series in (battery.charge_cost_eur_per_kwh, battery.discharge_cost_eur_per_kwh)
        ]
        prices += [
            battery.wear_cost_eur_per_kwh * problem.objective.wear_weight,
            abs(battery.terminal_value_eur_per_kwh),
        ]
    grid = problem.grid
    if grid is not None:
        taxed = np.abs(grid.import_price_eur_per_kwh).max() + np.abs(grid.import_tax_eur_per_kwh).max()
        prices += [float(taxed) * (1 + grid.vat), float(np.abs(grid.export_price_eur_per_kwh).max())]
        prices += [abs(tier.price_eur_per_kwh) for tariff in grid.tiers for tier in tariff.tiers]
    return max((abs(float(price)) for price in prices), default=0.0)
