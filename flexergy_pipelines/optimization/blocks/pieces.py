"""Piecewise-linear functions: a quantity cut into pieces that fill one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from flexergy_pipelines.optimization.board import Board, IndexArray, Numbers, Variable
from flexergy_pipelines.optimization.series import FloatArray

Terms = list[tuple[Numbers, IndexArray]]


def add_pieces(
    board: Board,
    asset_id: str,
    name: str,
    what: str,
    whole: Terms,
    *,
    widths: Sequence[float],
    ordered: bool,
    fixed: Numbers = 0.0,
    open_ends: bool = False,
) -> list[Variable]:
    """Cut the sum of `whole` into pieces, ``sum(pieces) = sum(whole) + fixed``.

    Parameters
    ----------
    what : str
        What is cut, for the meanings.
    widths : sequence of float
        Largest value of each piece.
    ordered : bool
        Whether costs alone don't make the pieces fill in order (a function that isn't convex where less is better).
        Then a piece may only hold something when the one before is full: an either-or rule, made whole-numbered only
        where the relaxed solution breaks it.
    open_ends : bool
        Let the first piece go below zero, and the last beyond its width: a state that leaves its usual range.
    """
    size = whole[0][1].size
    last = len(widths) - 1
    pieces = []
    for number, width in enumerate(widths):
        lower = -np.inf if open_ends and number == 0 else 0.0
        upper = np.inf if open_ends and number == last else width
        meaning = f"{what}, piece {number}"
        pieces.append(board.variable(asset_id, f"{name}_{number}", meaning, size=size, lower=lower, upper=upper))
    given = board.full(fixed, size)
    terms: Terms = [(1.0, piece.columns) for piece in pieces]
    terms += [(-board.full(coefficient, columns.size), columns) for coefficient, columns in whole]
    board.constrain(asset_id, f"{name}_sum", f"{what} is the sum of its pieces", terms, lower=given, upper=given)
    if ordered:
        _fill_in_order(board, name, what, pieces, widths)
    return pieces


def _fill_in_order(board: Board, name: str, what: str, pieces: list[Variable], widths: Sequence[float]) -> None:
    """A piece holds something only when the one before is full: its room and the next piece exclude each other."""
    asset_id, largest = pieces[0].asset_id, sum(widths)
    for number, (piece, following) in enumerate(pairwise(pieces)):
        size = piece.columns.size
        # Where the first piece may go below zero its room may exceed its width.
        most = widths[number] if np.isfinite(piece.lower).all() else widths[number] + largest
        room = board.variable(asset_id, f"{name}_room_{number}", f"room in piece {number} of {what}", size=size)
        width = board.full(widths[number], size)
        board.constrain(
            asset_id,
            f"{name}_room_{number}",
            f"room in piece {number} of {what}",
            [(1.0, piece.columns), (1.0, room.columns)],
            lower=width,
            upper=width,
        )
        next_most = np.where(np.isfinite(following.upper), following.upper, largest)
        meaning = f"pieces of {what} fill one after the other"
        board.exclude(room, following, board.full(most, size), next_most, meaning, in_order=True)


def slopes(points: Sequence[tuple[float, float]]) -> list[float]:
    """Slope of each straight piece of a curve."""
    return [(high[1] - low[1]) / (high[0] - low[0]) for low, high in pairwise(points)]


def rising(values: Sequence[float]) -> bool:
    """Whether no value is below the one before (to rounding)."""
    return all(high >= low - 1e-9 * max(abs(low), abs(high), 1.0) for low, high in pairwise(values))


def limit_by_curve(
    board: Board,
    name: str,
    meaning: str,
    limited: Variable,
    state: IndexArray,
    *,
    curve: Sequence[tuple[float, float]],
    limit: FloatArray,
) -> None:
    """Keep ``limited <= limit * f(state)``, with `f` straight between the points of `curve`, which spans the state.

    A concave curve is the least of its straight lines, which needs no whole-number decision; any other one is cut into
    pieces that fill in order. Positions whose state lies before the horizon (-1) are left out.
    """
    here = np.flatnonzero(state >= 0)
    if here.size == 0:
        return
    asset_id, gradients = limited.asset_id, slopes(curve)
    power, known, most = limited.columns[here], state[here], limit[here]
    if rising([-gradient for gradient in gradients]):
        for number, (gradient, (place, value)) in enumerate(zip(gradients, curve, strict=False)):
            intercept = value - gradient * place
            board.constrain(
                asset_id, f"{name}_{number}", meaning, [(1.0, power), (-most * gradient, known)], upper=most * intercept
            )
        return
    first = curve[0][0]
    widths = [high[0] - low[0] for low, high in pairwise(curve)]
    pieces = add_pieces(
        board,
        asset_id,
        name,
        f"state of {asset_id}",
        [(1.0, known)],
        widths=widths,
        ordered=True,
        fixed=-first,
        open_ends=True,
    )
    terms: Terms = [(1.0, power)]
    terms += [(-most * gradient, piece.columns) for gradient, piece in zip(gradients, pieces, strict=True)]
    board.constrain(asset_id, f"{name}_limit", meaning, terms, upper=most * curve[0][1])
