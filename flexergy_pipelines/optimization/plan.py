"""The plan: a schedule, what it costs, how good it is and what it could not keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.series import FloatArray

VIOLATION_FROM = 1e-5

Status = Literal["optimal", "feasible"]


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that this plan does not keep.

    Attributes
    ----------
    code : str
        Which limit ("import_limit", "soc_below_minimum", "ev_unmet", ...).
    asset_id : str
        Whose limit.
    message : str
        What it means.
    start, end : datetime
        First step in which it is exceeded, and the end of the last.
    largest : float
        Largest excess, in `unit`.
    steps : int
        Number of steps in which it is exceeded.
    unit : str
        "kW" or "kWh".
    """

    code: str
    asset_id: str
    message: str
    start: datetime
    end: datetime
    largest: float
    steps: int
    unit: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "asset_id": self.asset_id,
            "message": self.message,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "largest": round(self.largest, 6),
            "steps": self.steps,
            "unit": self.unit,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A solved problem.

    Attributes
    ----------
    status : {"optimal", "feasible"}
        Proven to the gap asked for, or the best found within the time limit.
    objective_eur, bound_eur, gap : float
        Total cost, the proven lower bound on it, and their relative distance.
    costs : dict
        EUR by part; they sum up to `objective_eur`.
    violations : list of Violation
        Limits not kept; empty in a normal plan.
    schedule : polars.DataFrame
        ``time`` and one column ``<asset>.<quantity>`` each; states such as ``soc`` hold at the start of the step.
    final_state : dict
        State at the end of the horizon, ``<asset>.soc`` → value.
    timings_s : dict
        ``build``, ``compile``, ``solve``, ``read``.
    horizon : Horizon
        What was planned.
    duals, bound_duals : dict
        Shadow prices with every whole-number decision as it is: EUR for a unit of each constraint's right-hand side,
        and of each variable's binding bound, by ``(asset, name)``.
    meanings : dict
        What each constraint and variable is, in words.
    last_resort : bool
        The time ended before the search had any plan: whole-number decisions are by rule, the rest at its best.
    """

    status: Status
    objective_eur: float
    bound_eur: float
    gap: float
    costs: dict[str, float]
    violations: list[Violation]
    schedule: pl.DataFrame
    final_state: dict[str, float]
    timings_s: dict[str, float]
    horizon: Horizon
    solver_runs: int = 0
    duals: dict[tuple[str, str], FloatArray] = field(default_factory=dict)
    bound_duals: dict[tuple[str, str], FloatArray] = field(default_factory=dict)
    meanings: dict[tuple[str, str], str] = field(default_factory=dict)
    last_resort: bool = False

    def column(self, asset_id: str, quantity: str) -> FloatArray:
        """One series of the schedule."""
        return self.schedule[f"{asset_id}.{quantity}"].to_numpy()

    def marginal_value_eur_per_kwh(self, battery_id: str) -> FloatArray | None:
        """Worth of one more kilowatt-hour in a battery in each step (EUR/kWh); None where it is not known."""
        duals = self.duals.get((battery_id, "stored_energy"))
        # Energy that appears in the store raises the balance's right-hand side; a fall in cost is its worth.
        return None if duals is None else -duals

    def values(self) -> pl.DataFrame:
        """The schedule as ``asset_id, quantity, time, value``, with the final states at the horizon's end."""
        names = [name for name in self.schedule.columns if name != "time"]
        long = self.schedule.unpivot(names, index="time", variable_name="name", value_name="value")
        ends = pl.DataFrame(
            {
                "time": [self.horizon.end] * len(self.final_state),
                "name": list(self.final_state),
                "value": list(self.final_state.values()),
            },
            schema={"time": pl.Datetime("us", "UTC"), "name": pl.String, "value": pl.Float64},
        )
        name = pl.col("name").str.splitn(".", 2)
        return pl.concat([long.select("time", "name", "value"), ends]).select(
            name.struct.field("field_0").alias("asset_id"),
            name.struct.field("field_1").alias("quantity"),
            "time",
            "value",
        )


def read_schedule(board: Board, horizon: Horizon, values: FloatArray) -> tuple[pl.DataFrame, dict[str, float]]:
    """The schedule of a solution, and the states at its end."""
    times = pl.Series("time", horizon.times(), dtype=pl.Datetime("us", "UTC"))
    columns: dict[str, Any] = {"time": times}
    final: dict[str, float] = {}
    for output in board.outputs:
        name = f"{output.asset_id}.{output.quantity}"
        series = output.compute(values)
        columns[name] = series[: board.steps]
        if series.size > board.steps:
            final[name] = float(series[-1])
    return pl.DataFrame(columns), final


def read_costs(board: Board, values: FloatArray) -> dict[str, float]:
    """EUR by part."""
    costs: dict[str, float] = dict(board.constant_costs)
    for cost in board.costs:
        amount = float(cost.coefficient @ values[cost.columns])
        costs[cost.part] = costs.get(cost.part, 0.0) + amount
    return costs


def read_violations(board: Board, horizon: Horizon, values: FloatArray) -> list[Violation]:
    """Every soft limit that the solution does not keep."""
    found = []
    start = horizon.times()[0]
    step = timedelta(minutes=horizon.step_minutes)
    for limit in board.soft_limits:
        excess = values[limit.variable.columns]
        hit = np.flatnonzero(excess > VIOLATION_FROM)
        if hit.size == 0:
            continue
        single = excess.size == 1
        first, last = (board.steps - 1, board.steps - 1) if single else (int(hit[0]), int(hit[-1]))
        found.append(
            Violation(
                limit.code,
                limit.asset_id,
                limit.meaning,
                start + first * step,
                start + (last + 1) * step,
                float(excess[hit].max()),
                int(hit.size),
                limit.unit,
            )
        )
    return found
