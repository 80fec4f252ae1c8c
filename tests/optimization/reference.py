"""The same small problems as one plain mixed-integer program, every either-or a binary from the start.

Written apart from the product, in scipy: no block, no relaxation, no reuse. It knows one battery, one genset, one
curtailable source, a load and a grid connection with priced excess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import milp
from scipy.sparse import lil_matrix


@dataclass(frozen=True)
class Case:
    """Numbers of one random problem; powers in kW, energies in kWh, prices in EUR/kWh, steps of `dt` hours."""

    dt: float
    buy: np.ndarray
    sell: np.ndarray
    load: np.ndarray
    available: np.ndarray
    import_limit: float
    export_limit: float
    breach_price: float
    capacity: float
    power: float
    eta_c: float
    eta_d: float
    soc_min: float
    soc_max: float
    soc0: float
    wear: float
    terminal_price: float
    gen_min: float
    gen_max: float
    gen_fuel: float
    gen_start: float
    gen_on0: bool
    gen_up: int
    gen_down: int


Numbers = float | np.ndarray
NAMES = ["imp", "exp", "imp_x", "exp_x", "cur", "ch", "dis", "e", "gen", "on", "start", "stop", "u_grid", "u_bat"]


def optimum(case: Case) -> float:
    """Least total cost (EUR)."""
    n = case.buy.size
    at = {name: k * n for k, name in enumerate(NAMES)}
    size = len(NAMES) * n + 1
    short = size - 1
    cost = np.zeros(size)
    low, high = np.zeros(size), np.full(size, np.inf)
    whole = np.zeros(size)
    big_in = case.load.max() + case.power + 1.0
    big_out = case.available.max() + case.power + case.gen_max + 1.0

    def put(
        name: str, *, c: Numbers = 0.0, upper: Numbers = np.inf, lower: Numbers = 0.0, integer: bool = False
    ) -> None:
        span = slice(at[name], at[name] + n)
        cost[span], low[span], high[span], whole[span] = c, lower, upper, float(integer)

    put("imp", c=case.buy * case.dt, upper=case.import_limit)
    put("exp", c=-case.sell * case.dt, upper=case.export_limit)
    put("imp_x", c=(case.buy + case.breach_price) * case.dt, upper=big_in)
    put("exp_x", c=(-case.sell + case.breach_price) * case.dt, upper=big_out)
    put("cur", upper=case.available)
    put("ch", c=case.wear / 2 * case.eta_c * case.eta_d * case.dt, upper=case.power)
    put("dis", c=case.wear / 2 * case.dt, upper=case.power)
    put("e", lower=case.soc_min * case.capacity, upper=case.soc_max * case.capacity)
    put("gen", c=case.gen_fuel * case.dt, upper=case.gen_max)
    put("on", upper=1, integer=True)
    put("start", c=case.gen_start, upper=1, integer=True)
    put("stop", upper=1, integer=True)
    put("u_grid", upper=1, integer=True)
    put("u_bat", upper=1, integer=True)
    cost[short] = case.terminal_price

    rows: list[tuple[dict[int, float], float, float]] = []

    def row(terms: dict[int, float], lower: float, upper: float) -> None:
        rows.append((terms, lower, upper))

    for t in range(n):
        v = {name: at[name] + t for name in NAMES}
        row(
            {v["imp"]: 1, v["imp_x"]: 1, v["exp"]: -1, v["exp_x"]: -1, v["cur"]: -1, v["ch"]: -1, v["dis"]: 1,
             v["gen"]: 1},
            case.load[t] - case.available[t],
            case.load[t] - case.available[t],
        )  # fmt: skip
        stored = {v["e"]: 1.0, v["ch"]: -case.dt * case.eta_c, v["dis"]: case.dt / case.eta_d}
        if t:
            stored[v["e"] - 1] = -1.0
        begin = 0.0 if t else case.soc0 * case.capacity
        row(stored, begin, begin)
        row({v["imp"]: 1, v["imp_x"]: 1, v["u_grid"]: -big_in}, -np.inf, 0)
        row({v["exp"]: 1, v["exp_x"]: 1, v["u_grid"]: big_out}, -np.inf, big_out)
        row({v["ch"]: 1, v["u_bat"]: -case.power}, -np.inf, 0)
        row({v["dis"]: 1, v["u_bat"]: case.power}, -np.inf, case.power)
        row({v["gen"]: 1, v["on"]: -case.gen_max}, -np.inf, 0)
        row({v["gen"]: 1, v["on"]: -case.gen_min}, 0, np.inf)
        switch = {v["on"]: 1.0, v["start"]: -1.0, v["stop"]: 1.0}
        if t:
            switch[v["on"] - 1] = -1.0
        before = 0.0 if t else float(case.gen_on0)
        row(switch, before, before)
        row({v["start"]: 1, v["stop"]: 1}, -np.inf, 1)
        for k in range(t + 1, min(t + case.gen_up, n)):
            row({at["on"] + k: 1, v["start"]: -1}, 0, np.inf)
        for k in range(t + 1, min(t + case.gen_down, n)):
            row({at["on"] + k: 1, v["stop"]: 1}, -np.inf, 1)
    row({at["e"] + n - 1: 1, short: 1}, case.soc0 * case.capacity, np.inf)

    matrix = lil_matrix((len(rows), size))
    for k, (terms, _, _) in enumerate(rows):
        for column, value in terms.items():
            matrix[k, column] = value
    result = milp(
        cost,
        integrality=whole,
        bounds=(low, high),
        constraints=(matrix.tocsr(), np.array([r[1] for r in rows]), np.array([r[2] for r in rows])),
        options={"mip_rel_gap": 0.0},
    )
    assert result.status == 0, result.message
    return float(result.fun)
