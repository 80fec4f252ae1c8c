"""Why a plan does what it does: limits that bind, what energy is worth, and a sentence for each stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Any

import numpy as np

from flexergy_pipelines.optimization.blocks.tariff import counted_intervals
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Genset
from flexergy_pipelines.optimization.specs_grid import DemandCharge

MOVES_KW = 1e-2
SMALL_SHARE = 0.02
MATTERS_EUR = 1e-7
# Book-keeping, and decisions that are whole: neither is a limit that someone could move a little.
_NO_LIMITS = {
    "balance", "stored_energy", "switching", "segments_charge", "segments_discharge", "activation", "up_covered",
    "down_covered", "on", "start", "stop", "active", "up_offered", "down_offered", "up_bid_steps", "down_bid_steps",
}  # fmt: skip
_WHOLE = "curtail_"


@dataclass(frozen=True, slots=True)
class Binding:
    """A limit that binds in a step.

    Attributes
    ----------
    asset_id, name, meaning : str
        Which limit, and what it is.
    shadow_price_eur : float
        What one more unit (kW, kWh) of the limit would save.
    """

    asset_id: str
    name: str
    meaning: str
    shadow_price_eur: float


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an asset does what it does over a stretch of time.

    Attributes
    ----------
    asset_id : str
        Whose operation.
    start, end : datetime
        The stretch.
    sentence : str
        For an operator.
    power_kw : float
        Mean power over the stretch.
    energy_price_eur_per_kwh : float
        What a kilowatt-hour at the busbar is worth then.
    binding : tuple of str
        Limits that bind.
    """

    asset_id: str
    start: datetime
    end: datetime
    sentence: str
    power_kw: float
    energy_price_eur_per_kwh: float
    binding: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "asset_id": self.asset_id,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "sentence": self.sentence,
            "power_kw": round(self.power_kw, 3),
            "energy_price_eur_per_kwh": round(self.energy_price_eur_per_kwh, 6),
            "binding": list(self.binding),
        }


def energy_price_eur_per_kwh(plan: Plan) -> FloatArray | None:
    """Worth of a kilowatt-hour at the busbar in each step: the shadow price of the balance."""
    duals = plan.duals.get(("busbar", "balance"))
    # One more kW of load lowers the balance's right-hand side; the cost of it, for an hour, is the price.
    return None if duals is None else duals / plan.horizon.hours


def binding_limits(plan: Plan, step: int) -> list[Binding]:
    """Every limit that binds in a step, the dearest first."""
    found = []
    for source, is_bound in ((plan.bound_duals, True), (plan.duals, False)):
        for (asset_id, name), duals in source.items():
            if duals.size != plan.schedule.height or name in _NO_LIMITS or name.startswith(_WHOLE):
                continue
            # That an unused variable stands at zero is no limit; that a store stands empty is one.
            unused = is_bound and duals[step] > 0 and name != "energy_kwh"
            if abs(duals[step]) > MATTERS_EUR and not unused:
                meaning = plan.meanings.get((asset_id, name), name)
                found.append(Binding(asset_id, name, meaning, float(abs(duals[step]))))
    return sorted(found, key=lambda binding: -binding.shadow_price_eur)


def explain(problem: Problem, plan: Plan, zone: tzinfo) -> list[Reason]:
    """A reason for each stretch in which a battery moves energy, a genset runs, or a source or load is held back.

    Parameters
    ----------
    zone : tzinfo
        Time zone in which the sentences tell the time.
    """
    price = energy_price_eur_per_kwh(plan)
    if price is None:
        return []
    teller = _Teller(problem, plan, price, zone)
    reasons: list[Reason] = []
    for battery in problem.batteries:
        reasons += teller.battery(battery.id)
    for genset in problem.gensets:
        reasons += teller.genset(genset)
    for source in problem.renewables:
        if f"{source.id}.curtailed_kw" in plan.schedule.columns:
            reasons += teller.held_back(source.id, plan.column(source.id, "curtailed_kw"), "is curtailed by")
    for load in problem.controllable_loads:
        if f"{load.id}.curtailed_share" not in plan.schedule.columns:
            continue
        # Not what it draws less than it wanted: its rebound is no curtailment.
        off = expand(load.power_kw, plan.schedule.height) * plan.column(load.id, "curtailed_share")
        reasons += teller.held_back(load.id, off, "is curtailed by")
    for block in problem.ev_blocks:
        reasons += teller.held_back(block.id, plan.column(block.id, "unmet_kw"), "is held back by")
    return sorted(reasons, key=lambda reason: (reason.start, reason.asset_id))


class _Teller:
    """Puts a plan's stretches into words."""

    def __init__(self, problem: Problem, plan: Plan, price: FloatArray, zone: tzinfo) -> None:
        self.problem, self.plan, self.price, self.zone = problem, plan, price, zone
        self.edges = [*problem.horizon.times(), problem.horizon.end]

    def battery(self, asset_id: str) -> list[Reason]:
        power = self.plan.column(asset_id, "active_power_kw")
        value = self.plan.marginal_value_eur_per_kwh(asset_id)
        reasons = []
        for first, last in stretches(power, SMALL_SHARE * float(np.abs(power).max(initial=0.0))):
            mean, price = self._means(power, first, last)
            if mean < 0:
                text = f"charges {-mean:.0f} kW: energy at {price * 1000:.0f} EUR/MWh " + self._use(power, last)
            else:
                text = f"gives {mean:.0f} kW: energy is worth {price * 1000:.0f} EUR/MWh now"
                if value is not None:
                    kept = float(value[first : last + 1].mean())
                    text += f", a kilowatt-hour in store {kept * 1000:.0f}"
            limits = self._battery_limits(asset_id, first, last)
            reasons.append(self._reason(asset_id, (first, last), text, mean, limits))
        return reasons

    def genset(self, genset: Genset) -> list[Reason]:
        asset_id = genset.id
        power = self.plan.column(asset_id, "active_power_kw")
        litres = np.zeros(power.size)
        if genset.fuel_curve:
            litres = self.plan.column(asset_id, "fuel_l_per_h")
        reasons = []
        for first, last in stretches(power):
            mean, price = self._means(power, first, last)
            burnt = float(litres[first : last + 1].mean()) * genset.fuel_price_eur_per_l
            fuel = genset.fuel_cost_eur_per_kwh + burnt / mean
            text = (
                f"runs at {mean:.0f} kW: fuel at {fuel * 1000:.0f} EUR/MWh, energy is worth {price * 1000:.0f} EUR/MWh"
            )
            limits = self._names(first, last, [(asset_id, "min_power"), (asset_id, "min_up"), (asset_id, "max_power")])
            limits += self._grid_limits(first, last)
            reasons.append(self._reason(asset_id, (first, last), text, mean, limits))
        return reasons

    def held_back(self, asset_id: str, power: FloatArray, verb: str) -> list[Reason]:
        reasons = []
        for first, last in stretches(power):
            mean, price = self._means(power, first, last)
            text = f"{verb} {mean:.0f} kW: energy is worth {price * 1000:.0f} EUR/MWh then"
            reasons.append(self._reason(asset_id, (first, last), text, mean, self._grid_limits(first, last)))
        return reasons

    def _use(self, power: FloatArray, last: int) -> str:
        """What charged energy is kept for: the dearest later step in which the battery gives."""
        later = np.flatnonzero(power[last + 1 :] > MOVES_KW) + last + 1
        if later.size == 0:
            return "fills the store towards the end of the plan"
        dearest = float(self.price[later].max())
        best = int(later[np.flatnonzero(self.price[later] >= dearest - 1e-6)[0]])
        return f"is kept for {self._clock(self.edges[best])} at {self.price[best] * 1000:.0f}"

    def _battery_limits(self, asset_id: str, first: int, last: int) -> list[str]:
        limits = []
        for quantity, text in (("charge_kw", "its charging power"), ("discharge_kw", "its discharging power")):
            if self._at_upper(asset_id, quantity, first, last):
                limits.append(text)
        # A store that was filled or emptied stands so until it moves again; the price of that may lie on any such step.
        power = self.plan.column(asset_id, "active_power_kw")
        moves = np.flatnonzero(np.abs(power[last + 1 :]) > MOVES_KW)
        rest = last + int(moves[0]) if moves.size else power.size - 1
        energy = self.plan.bound_duals.get((asset_id, "energy_kwh"), np.zeros(power.size))[first : rest + 1]
        if (energy < -MATTERS_EUR).any() or self._row_binds(asset_id, "soc_max", first, rest):
            limits.append("a full store")
        if (energy > MATTERS_EUR).any() or self._row_binds(asset_id, "soc_min", first, rest):
            limits.append("an empty store")
        return [*limits, *self._grid_limits(first, last)]

    def _grid_limits(self, first: int, last: int) -> list[str]:
        grid = self.problem.grid
        if grid is None:
            return []
        on_export = (grid.export_limit_kw, grid.feed_in_limit_kw, grid.feed_in_limit_share)
        limits = [
            f"the {direction} limit"
            for direction, limited in (
                ("import", grid.import_limit_kw is not None),
                ("export", any(limit is not None for limit in on_export)),
            )
            if limited and self._at_upper(grid.id, f"{direction}_kw", first, last)
        ]
        limits += [
            f"the peak charged by {charge.id}"
            for charge in grid.demand_charges
            if self._peak_binds(charge, first, last)
        ]
        return limits

    def _peak_binds(self, charge: DemandCharge, first: int, last: int) -> bool:
        duals = self.plan.duals.get((charge.id, "peak"))
        if duals is None:
            return False
        counted, interval = counted_intervals(charge, len(self.price), self.problem.horizon.step_minutes)
        inside = interval[(counted >= first) & (counted <= last)]
        return bool((np.abs(duals[inside]) > MATTERS_EUR).any())

    def _at_upper(self, asset_id: str, quantity: str, first: int, last: int) -> bool:
        duals = self.plan.bound_duals.get((asset_id, quantity))
        return duals is not None and bool((duals[first : last + 1] < -MATTERS_EUR).any())

    def _row_binds(self, asset_id: str, name: str, first: int, last: int) -> bool:
        duals = self.plan.duals.get((asset_id, name))
        return duals is not None and bool((np.abs(duals[first : last + 1]) > MATTERS_EUR).any())

    def _names(self, first: int, last: int, keys: Sequence[tuple[str, str]]) -> list[str]:
        return [self.plan.meanings[key] for key in keys if self._row_binds(*key, first, last)]

    def _means(self, power: FloatArray, first: int, last: int) -> tuple[float, float]:
        """Mean power, and mean price weighted by it."""
        part = np.abs(power[first : last + 1])
        return float(power[first : last + 1].mean()), float(np.average(self.price[first : last + 1], weights=part))

    def _reason(self, asset_id: str, steps: tuple[int, int], text: str, mean: float, limits: list[str]) -> Reason:
        first, last = steps
        start, end = self.edges[first], self.edges[last + 1]
        limits = list(dict.fromkeys(limits))
        limited = f"; limited by {' and '.join(limits)}" if limits else ""
        sentence = f"{self._clock(start)} to {self._clock(end)} {asset_id} {text}{limited}"
        price = float(self.price[first : last + 1].mean())
        return Reason(asset_id, start, end, sentence, mean, price, tuple(limits))

    def _clock(self, instant: datetime) -> str:
        local = instant.astimezone(self.zone)
        same = local.date() == self.edges[0].astimezone(self.zone).date()
        return local.strftime("%H:%M" if same else "%a %H:%M")


def stretches(power: FloatArray, smallest_kw: float = MOVES_KW) -> list[tuple[int, int]]:
    """First and last step of each run of one direction; what is below `smallest_kw` counts as standing still."""
    least = max(smallest_kw, MOVES_KW)
    direction = np.where(power > least, 1, np.where(power < -least, -1, 0))
    changes = [0, *(np.flatnonzero(np.diff(direction)) + 1).tolist(), direction.size]
    return [(first, after - 1) for first, after in pairwise(changes) if direction[first] != 0]
