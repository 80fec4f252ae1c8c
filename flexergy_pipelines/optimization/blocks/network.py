"""Flows in the site's network: linear power flow, with ratings that are soft and named where they can't be kept."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.board import Board, IndexArray, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs_network import Network

RATING_PRICE_EUR_PER_KWH = 60.0


def add_network(board: Board, network: Network) -> None:
    """Contribute the network; must come after everything that flows into the busbar, and before it is closed.

    The balance of every bus but that of the connection is stated here; theirs and that of the whole site, which the
    board states, give the last one. With more branches than a tree has, angles are added: the flow of a branch is the
    difference of the angles at its ends over its reactance (DC power flow).
    """
    flows = {branch.id: _add_branch(board, network, branch.id) for branch in network.branches}
    buses = sorted({bus for branch in network.branches for bus in (branch.from_bus, branch.to_bus)})
    hanging, given = _hanging(board, network)
    for bus in buses:
        if bus == network.pcc_bus:
            continue
        terms: Terms = [(coefficient, columns) for columns, coefficient in hanging.get(bus, [])]
        for branch in network.branches:
            if bus in {branch.from_bus, branch.to_bus}:
                terms.append((1.0 if bus == branch.to_bus else -1.0, flows[branch.id].columns))
        fixed = -given.get(bus, np.zeros(board.steps))
        board.constrain(
            network.id, f"balance_{bus}", f"what flows to {bus} is used there", terms, lower=fixed, upper=fixed
        )
    if len(network.branches) > len(buses) - 1:
        _add_angles(board, network, flows, buses)


def _add_branch(board: Board, network: Network, branch_id: str) -> Variable:
    branch = next(branch for branch in network.branches if branch.id == branch_id)
    limit = expand(branch.limit_kw, board.steps)
    flow = board.variable(branch.id, "flow_kw", f"flow in {branch.id}", lower=-np.inf)
    over = board.variable(branch.id, "overload_kw", f"flow in {branch.id} beyond its rating")
    price = network.breach_price_eur_per_kwh
    price = board.dominant(RATING_PRICE_EUR_PER_KWH) if price is None else price
    board.cost("violations", over.columns, price * board.hours, penalty=True)
    board.soft_limit("branch_limit", over, "kW", f"{branch.id} carries more than its rating")
    meaning = f"rating of {branch.id}"
    board.constrain(branch.id, "rating", meaning, [(1.0, flow.columns), (-1.0, over.columns)], upper=limit)
    board.constrain(branch.id, "rating_back", meaning, [(1.0, flow.columns), (1.0, over.columns)], lower=-limit)
    board.output(branch.id, "flow_kw", lambda x: x[flow.columns])
    return flow


def _hanging(
    board: Board, network: Network
) -> tuple[dict[str, list[tuple[IndexArray, FloatArray]]], dict[str, FloatArray]]:
    """What flows into each bus from the assets on it: decisions, and given powers."""
    decided: dict[str, list[tuple[IndexArray, FloatArray]]] = {}
    for columns, coefficient in board.injections:
        bus = network.bus_of.get(board.owner_of(int(columns[0])), network.pcc_bus)
        decided.setdefault(bus, []).append((columns, coefficient))
    given: dict[str, FloatArray] = {}
    for owner, power in board.fixed_kw.items():
        bus = network.bus_of.get(owner, network.pcc_bus)
        given[bus] = given.get(bus, np.zeros(board.steps)) + power
    return decided, given


def _add_angles(board: Board, network: Network, flows: dict[str, Variable], buses: list[str]) -> None:
    """Angles of the buses, scaled so that flow equals difference over reactance; zero at the connection."""
    angles = {}
    for bus in buses:
        fixed = 0.0 if bus == network.pcc_bus else np.inf
        angles[bus] = board.variable(network.id, f"angle_{bus}", f"angle at {bus}", lower=-fixed, upper=fixed)
    for branch in network.branches:
        board.constrain(
            branch.id,
            "power_flow",
            f"flow in {branch.id} follows from the angles at its ends",
            [
                (branch.reactance_pu, flows[branch.id].columns),
                (-1.0, angles[branch.from_bus].columns),
                (1.0, angles[branch.to_bus].columns),
            ],
            lower=0.0,
            upper=0.0,
        )
