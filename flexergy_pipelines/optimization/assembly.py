"""Put the blocks of a problem on one board."""

from __future__ import annotations

from flexergy_pipelines.optimization.blocks.battery import add_battery
from flexergy_pipelines.optimization.blocks.controllable_load import add_controllable_load
from flexergy_pipelines.optimization.blocks.ev_block import add_ev_block
from flexergy_pipelines.optimization.blocks.ev_session import add_ev_session
from flexergy_pipelines.optimization.blocks.genset import add_genset
from flexergy_pipelines.optimization.blocks.grid_connection import add_grid_connection
from flexergy_pipelines.optimization.blocks.load import add_last_resort, add_load
from flexergy_pipelines.optimization.blocks.renewables import add_renewable
from flexergy_pipelines.optimization.blocks.reserve import add_reserve
from flexergy_pipelines.optimization.blocks.services import add_services
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.problem import Problem


def assemble(problem: Problem) -> Board:
    """Every block of `problem` on a board, with a balanced busbar."""
    board = Board(problem.horizon.steps, problem.horizon.hours)
    objective = problem.objective
    keep_energy = objective.goal == "self_consumption"
    carbon_price = objective.carbon_price_eur_per_kg
    for load in problem.loads:
        add_load(board, load)
    for block in problem.ev_blocks:
        add_ev_block(board, block)
    for controllable in problem.controllable_loads:
        add_controllable_load(board, controllable)
    for source in problem.renewables:
        add_renewable(board, source, keep_energy=keep_energy)
    gensets = [add_genset(board, genset, carbon_price_eur_per_kg=carbon_price) for genset in problem.gensets]
    for session in problem.ev_sessions:
        add_ev_session(board, session)
    stores = [
        add_battery(board, battery, wear_weight=objective.wear_weight, serves=bool(problem.services))
        for battery in problem.batteries
    ]
    if problem.services:
        add_services(board, problem.services, stores)
    if problem.grid is None:
        add_last_resort(board)
    else:
        add_grid_connection(board, problem.grid, goal=objective.goal, carbon_price_eur_per_kg=carbon_price)
    if problem.reserve is not None:
        add_reserve(board, problem.reserve, stores, gensets)
    board.close_busbar()
    return board
