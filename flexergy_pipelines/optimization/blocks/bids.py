"""Bids as markets take them: a smallest size, steps, either this service or that; and how one may be changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from flexergy_pipelines.optimization.board import Board, IndexArray, Variable
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.specs_market import Service

BID_MOVES = (-4, -2, -1, 1, 2, 4)


@dataclass(frozen=True, slots=True)
class BidSize:
    """Whole-number decisions of the bids of one direction: how many steps, and whether anything at all."""

    most_kw: np.ndarray
    count: Variable | None
    offered: Variable | None


def suggest_bids(board: Board, service: Service, sizes: list[BidSize]) -> None:
    """A block's bid may rise or fall by some steps, to nothing, or to its smallest."""
    step, least = service.bid_step_kw, service.min_bid_kw
    sides = [[size] for size in sizes]
    if service.symmetric:
        sides = [sizes]

    def moves(x: FloatArray, _: FloatArray) -> Iterator[tuple[IndexArray, FloatArray]]:
        for side in sides:
            for block, most in enumerate(np.min([size.most_kw for size in side], axis=0).tolist()):
                if most <= 0:
                    continue
                for bid_kw in _other_bids(x, side[0], block, step, least):
                    if 0 <= bid_kw <= most + 1e-9:
                        yield _bid_moved(side, block, bid_kw, step)

    if any(size.count is not None or size.offered is not None for size in sizes):
        board.suggest(moves)


def _other_bids(x: FloatArray, size: BidSize, block: int, step: float, least_kw: float) -> list[float]:
    """Bids (kW) beside the one that is decided; without steps only whether there is one can be decided."""
    if size.count is None:
        offered = size.offered is not None and x[size.offered.columns[block]] > 0.5
        return [0.0 if offered else least_kw]
    now = float(np.round(x[size.count.columns[block]])) * step
    smallest = float(np.ceil(least_kw / step - 1e-9)) * step
    others = {now + by * step for by in BID_MOVES} | {0.0, max(smallest, step)}
    return sorted(bid for bid in others if bid != now and (bid == 0 or bid >= least_kw - 1e-9))


def _bid_moved(side: list[BidSize], block: int, bid_kw: float, step: float) -> tuple[IndexArray, FloatArray]:
    columns: list[int] = []
    values: list[float] = []
    for size in side:
        if size.count is not None:
            columns.append(int(size.count.columns[block]))
            values.append(round(bid_kw / step))
        if size.offered is not None:
            columns.append(int(size.offered.columns[block]))
            values.append(float(bid_kw > 0))
    return np.array(columns, dtype=np.int64), np.array(values)


def add_bid_size(board: Board, service: Service, direction: str, bid: Variable, ceiling: np.ndarray) -> BidSize:
    """Smallest bid and step of bids, as whole numbers."""
    name = service.id
    count = offered = None
    if service.bid_step_kw > 0:
        count = board.variable(
            name,
            f"{direction}_bid_steps",
            f"steps of the {direction} bid for {name}",
            size=bid.columns.size,
            upper=np.floor(ceiling / service.bid_step_kw),
            integer=True,
            rounded=lambda x: _whole_bid(service, x[bid.columns]) / service.bid_step_kw,
        )
        # What a closed block sold is as it was sold.
        free = np.where(ceiling > 0, 0.0, bid.upper)
        board.constrain(
            name,
            f"{direction}_bid_step",
            f"bids for {name} rise in steps of {service.bid_step_kw:g} kW",
            [(1.0, bid.columns), (-service.bid_step_kw, count.columns)],
            lower=0.0,
            upper=free,
        )
    if service.min_bid_kw > 0:
        offered = _offered(board, service, direction, bid, ceiling)
        board.constrain(
            name,
            f"{direction}_min_bid",
            f"smallest bid for {name}",
            [(1.0, bid.columns), (-service.min_bid_kw, offered.columns)],
            lower=0.0,
        )
    return BidSize(ceiling, count, offered)


def _whole_bid(service: Service, bid_kw: np.ndarray) -> np.ndarray:
    """Bids rounded down to whole steps (kW), to nothing where less is left than the smallest bid."""
    step = service.bid_step_kw
    whole = np.floor(bid_kw / step + 1e-6) * step if step > 0 else bid_kw
    return np.where(whole < service.min_bid_kw - 1e-9, 0.0, whole)


def _offered(board: Board, service: Service, direction: str, bid: Variable, ceiling: np.ndarray) -> Variable:
    """Whether something is bid in a block."""
    name = service.id
    offered = board.variable(
        name,
        f"{direction}_offered",
        f"{name} is bid {direction}",
        size=bid.columns.size,
        upper=1.0,
        integer=True,
        rounded=lambda x: (_whole_bid(service, x[bid.columns]) > 0).astype(np.float64),
    )
    board.constrain(
        name,
        f"{direction}_offered",
        f"nothing is bid for {name} unless it is offered",
        [(1.0, bid.columns), (-ceiling, offered.columns)],
        upper=np.where(ceiling > 0, 0.0, bid.upper),
    )
    return offered


def exclude_bids(board: Board, bids: dict[str, tuple[Service, list[Variable]]]) -> None:
    """Services that can't be offered together: where blocks of different lengths overlap, only one of them is bid."""
    done: set[frozenset[str]] = set()
    for name, (service, own) in bids.items():
        for other in service.excludes:
            pair = frozenset((name, other))
            if pair in done or other == name:
                continue
            done.add(pair)
            meaning = f"{name} and {other} are not offered together"
            mine, theirs = service.blocks(board.steps), bids[other][0].blocks(board.steps)
            overlaps = np.unique(np.stack([mine, theirs]), axis=1)
            for first in own:
                for second in bids[other][1]:
                    one, two = _at(first, overlaps[0]), _at(second, overlaps[1])
                    board.exclude(one, two, one.upper, two.upper, meaning)


def _at(variable: Variable, places: np.ndarray) -> Variable:
    """A family's members at some places, each as often as it is named."""
    return replace(
        variable, columns=variable.columns[places], lower=variable.lower[places], upper=variable.upper[places]
    )
