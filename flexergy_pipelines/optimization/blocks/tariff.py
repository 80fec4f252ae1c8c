"""What a billing period adds to the price of energy: the charge on its peak, and tiers by its energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexergy_pipelines.optimization.blocks.pieces import add_pieces, rising
from flexergy_pipelines.optimization.board import Board, IndexArray
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import DemandCharge, TieredTariff


def peak_already_billed(charges: Sequence[DemandCharge], steps: int) -> FloatArray:
    """Import that some charge bills already, in each step (kW); what every charge of the step bills counts."""
    billed = np.full(steps, np.inf)
    for charge in charges:
        if charge.direction == "import" and charge.price_eur_per_kw > 0:
            counts = expand(charge.applies, steps) > 0.5
            billed[counts] = np.minimum(billed[counts], charge.peak_so_far_kw)
    return np.where(np.isfinite(billed), billed, 0.0)


def counted_intervals(charge: DemandCharge, steps: int, step_minutes: float) -> tuple[IndexArray, IndexArray]:
    """The steps that count for a charge, and for each the position of its interval among those that count."""
    counts = np.flatnonzero(expand(charge.applies, steps) > 0.5)
    length = 1 if charge.interval_minutes is None else max(round(charge.interval_minutes / step_minutes), 1)
    _, position = np.unique(counts // length, return_inverse=True)
    return counts, position


def add_demand_charge(board: Board, charge: DemandCharge, flows: Sequence[IndexArray], *, vat: float) -> None:
    """Charge the highest flow of the steps that count, as far as it goes beyond the peak so far."""
    counts, position = counted_intervals(charge, board.steps, 60 * board.hours)
    if counts.size == 0:
        return
    peak = board.variable(charge.id, "peak_kw", f"peak of {charge.id}", size=1, lower=charge.peak_so_far_kw)
    meaning = f"the peak of {charge.id} covers every {charge.direction} that counts for it"
    # A first or last interval that the horizon cuts counts with the steps that it has.
    size = np.bincount(position).astype(np.float64)
    rows = np.arange(size.size)
    board.constrain_sparse(
        charge.id,
        "peak",
        meaning,
        [
            (rows, np.repeat(peak.columns, rows.size), 1.0),
            *((position, flow[counts], -1.0 / size[position]) for flow in flows),
        ],
        lower=np.zeros(rows.size),
        upper=np.full(rows.size, np.inf),
    )
    board.cost("demand_charge", peak.columns, charge.price_eur_per_kw)
    so_far = 0.0 if charge.bill_peak_so_far else charge.peak_so_far_kw
    if so_far:
        board.constant_cost("demand_charge", -charge.price_eur_per_kw * so_far)
    if vat and charge.direction == "import":
        board.cost("taxes", peak.columns, vat * charge.price_eur_per_kw)
        board.constant_cost("taxes", -vat * charge.price_eur_per_kw * so_far)


def add_tiers(board: Board, tariff: TieredTariff, imports: Sequence[IndexArray], *, vat: float) -> None:
    """Charge the energy of the period by tiers, from what was used before."""
    counts = np.flatnonzero(expand(tariff.applies, board.steps) > 0.5)
    if counts.size == 0:
        return
    name, used = tariff.id, tariff.used_so_far_kwh
    most = float(board.demand_max[counts].sum()) * board.hours
    edges = [0.0, *(tier.up_to_kwh for tier in tariff.tiers if tier.up_to_kwh is not None)]
    widths, prices = [], []
    for position, tier in enumerate(tariff.tiers):
        left = most if tier.up_to_kwh is None else tier.up_to_kwh - max(edges[position], used)
        if left > 0:
            widths.append(left)
            prices.append(tier.price_eur_per_kwh)
    if not widths:
        return
    energy = board.variable(name, "energy_kwh", f"energy imported in the period of {name}", size=1)
    zero = np.zeros(counts.size, dtype=np.int64)
    board.constrain_sparse(
        name,
        "energy",
        f"energy imported in the period of {name}",
        [(np.zeros(1, dtype=np.int64), energy.columns, 1.0), *((zero, flow[counts], -board.hours) for flow in imports)],
        lower=np.zeros(1),
        upper=np.zeros(1),
    )
    tiers = add_pieces(
        board, name, "tier_kwh", f"energy of {name}", [(1.0, energy.columns)], widths=widths, ordered=not rising(prices)
    )
    for piece, price in zip(tiers, prices, strict=True):
        board.cost("energy_tiers", piece.columns, price)
        if vat:
            board.cost("taxes", piece.columns, vat * price)
