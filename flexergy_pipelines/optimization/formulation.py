"""From the board to Pyomo, and from Pyomo to the matrix that HiGHS takes.

Pyomo states the model; its standard-form compiler makes the matrix. Bounds, right-hand sides and costs go to the solver
straight from the board, so that a re-plan of the same structure touches numbers only. For very long horizons, where
stating each constraint by itself takes longer than solving, the board's own entries become the matrix at once; both
ways give the same matrix.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flexergy_pipelines.optimization.board import Board, IndexArray
from flexergy_pipelines.optimization.series import FloatArray

if TYPE_CHECKING:
    import pyomo.environ as pyo

LONG_STEPS = 2000

# Pyomo keeps global state while it builds and compiles; solving itself happens outside of it, in HiGHS.
_pyomo_lock = threading.Lock()
_loaded = threading.Event()


@dataclass(frozen=True, slots=True)
class Compiled:
    """The matrix of a board in compressed columns.

    Attributes
    ----------
    starts, rows, values : ndarray
        Column starts, row of each entry, value of each entry; columns in the board's order.
    row_lower, row_upper : ndarray
        Bounds of the rows.
    row_of : dict
        ``(asset_id, name)`` of a family of constraints → the row of each of its positions.
    build_s, compile_s : float
        Time spent in Pyomo (s).
    """

    starts: IndexArray
    rows: IndexArray
    values: FloatArray
    row_lower: FloatArray
    row_upper: FloatArray
    row_of: dict[tuple[str, str], IndexArray]
    build_s: float
    compile_s: float


def load_libraries() -> None:
    """Import what building a model needs. The first time takes seconds on a busy machine: before any clock runs."""
    import pyomo.environ
    import scipy.sparse  # noqa: F401
    from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

    if not _loaded.is_set():
        with _pyomo_lock:
            # The compiler loads more of Pyomo when it is first used.
            tiny = pyomo.environ.ConcreteModel()
            tiny.x = pyomo.environ.Var()
            tiny.c = pyomo.environ.Constraint(expr=(0, tiny.x, 1))
            tiny.o = pyomo.environ.Objective(expr=tiny.x)
            LinearStandardFormCompiler().write(tiny, mixed_form=True)
        _loaded.set()


def formulate(board: Board) -> tuple[pyo.ConcreteModel, list[Any], list[list[Any]]]:
    """State a board as a Pyomo model.

    Returns
    -------
    model : ConcreteModel
        Variables with their bounds and domains, constraints and the total cost as objective.
    columns : list of VarData
        The variable of each column of the board.
    constraints : list of list of ConstraintData
        The constraints of each family of rows of the board.
    """
    import pyomo.environ as pyo
    from pyomo.core.expr import LinearExpression

    model = pyo.ConcreteModel()
    columns: list[Any] = []
    for variable in board.variables:
        lower = [None if np.isneginf(x) else x for x in variable.lower.tolist()]
        upper = [None if np.isposinf(x) else x for x in variable.upper.tolist()]
        component = pyo.Var(
            range(variable.columns.size),
            domain=pyo.Integers if variable.integer else pyo.Reals,
            bounds=dict(enumerate(zip(lower, upper, strict=True))),
        )
        model.add_component(f"{variable.asset_id}:{variable.quantity}", component)
        columns.extend(component.values())
    constraints: list[list[Any]] = []
    for family in board.rows:
        order = np.argsort(family.row, kind="stable")
        row, column = family.row[order], family.column[order].tolist()
        coefficient = family.coefficient[order].tolist()
        edges = np.searchsorted(row, np.arange(family.lower.size + 1)).tolist()
        lower, upper = family.lower.tolist(), family.upper.tolist()

        stated = [
            (
                None if lower[i] == -np.inf else lower[i],
                LinearExpression(
                    constant=0,
                    linear_coefs=coefficient[edges[i] : edges[i + 1]],
                    linear_vars=[columns[c] for c in column[edges[i] : edges[i + 1]]],
                ),
                None if upper[i] == np.inf else upper[i],
            )
            if lower[i] > -np.inf or upper[i] < np.inf
            else pyo.Constraint.Skip
            for i in range(family.lower.size)
        ]
        component = pyo.Constraint(range(family.lower.size), rule=dict(enumerate(stated)))
        model.add_component(f"rule:{family.asset_id}:{family.name}", component)
        made = dict(component.items())
        constraints.append([made.get(i) for i in range(family.lower.size)])
    costs = board.cost_vector()
    priced = np.flatnonzero(costs)
    model.total_cost_eur = pyo.Objective(
        expr=LinearExpression(
            constant=sum(board.constant_costs.values()),
            linear_coefs=costs[priced].tolist(),
            linear_vars=[columns[c] for c in priced.tolist()],
        )
    )
    return model, columns, constraints


def compile_board(board: Board) -> Compiled:
    """The matrix of a board: by Pyomo, or at once where the horizon is long."""
    return assemble_matrix(board) if board.steps > LONG_STEPS else compile_by_pyomo(board)


def assemble_matrix(board: Board) -> Compiled:
    """The matrix of a board straight from the entries of its constraints."""
    from scipy.sparse import coo_array

    began = time.perf_counter()
    offsets = np.cumsum([0, *(family.lower.size for family in board.rows)])
    pairs = list(zip(board.rows, offsets[:-1].tolist(), strict=True))
    row = np.concatenate([family.row + offset for family, offset in pairs])
    column = np.concatenate([family.column for family in board.rows])
    value = np.concatenate([family.coefficient for family in board.rows])
    matrix = coo_array((value, (row, column)), shape=(int(offsets[-1]), board.column_count)).tocsc()
    matrix.sort_indices()
    return Compiled(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int64),
        np.asarray(matrix.data, dtype=np.float64),
        np.concatenate([family.lower for family in board.rows]),
        np.concatenate([family.upper for family in board.rows]),
        {(f.asset_id, f.name): np.arange(offset, offset + f.lower.size) for f, offset in pairs},
        0.0,
        time.perf_counter() - began,
    )


def compile_by_pyomo(board: Board) -> Compiled:
    """State a board in Pyomo and compile it to the matrix for the solver."""
    from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

    with _pyomo_lock:
        began = time.perf_counter()
        model, columns, constraints = formulate(board)
        built = time.perf_counter()
        form = LinearStandardFormCompiler().write(model, mixed_form=True)
        ended = time.perf_counter()
    place = {id(variable): position for position, variable in enumerate(columns)}
    matrix = form.A.tocoo()
    to_board = np.array([place[id(variable)] for variable in form.columns], dtype=np.int64)
    row_place = {id(entry.constraint): position for position, entry in enumerate(form.rows)}
    row_count = len(form.rows)
    row_lower, row_upper = np.full(row_count, -np.inf), np.full(row_count, np.inf)
    row_of: dict[tuple[str, str], IndexArray] = {}
    for family, stated in zip(board.rows, constraints, strict=True):
        where = np.array([row_place.get(id(constraint), -1) for constraint in stated], dtype=np.int64)
        there = where >= 0
        row_lower[where[there]] = family.lower[there]
        row_upper[where[there]] = family.upper[there]
        row_of[family.asset_id, family.name] = where
    column = to_board[matrix.col] if to_board.size else matrix.col
    order = np.lexsort((matrix.row, column))
    counts = np.bincount(column, minlength=board.column_count)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Compiled(
        starts,
        matrix.row[order].astype(np.int64),
        np.asarray(matrix.data[order], dtype=np.float64),
        row_lower,
        row_upper,
        row_of,
        built - began,
        ended - built,
    )
