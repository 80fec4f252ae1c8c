"""A problem's least cost by a plain mixed-integer program: every block that the product has, written a second time.

The blocks are stated by their published meaning, step by step, with scipy underneath; nothing of the product's
formulation is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from flexergy_pipelines.optimization import (
    Battery,
    ControllableLoad,
    EvSession,
    Genset,
    GridConnection,
    Problem,
    ShiftableLoad,
)
from tests.optimization.milp import Expression, Milp, add

BIG = 1e4
RAMP_PRICE, CYCLE_PRICE, RATING_PRICE, ORIGIN_PRICE = 30.0, 20.0, 60.0, 40.0


def at(series: np.ndarray, step: int) -> float:
    return float(series[0] if series.size == 1 else series[step])


class Site:
    """Builds the program of one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.n, self.dt = problem.horizon.steps, problem.horizon.hours
        self.model = Milp()
        # What each asset puts into its bus in each step: an expression, and a number.
        self.flow: dict[str, list[tuple[Expression, float]]] = {}
        self.given_back: dict[str, list[Expression]] = {}

    def optimum(self) -> float:
        problem = self.problem
        for load in problem.loads:
            self.flow[load.id] = [({}, -at(load.power_kw, t)) for t in range(self.n)]
        delivered = [0.0] * self.n
        held_back: list[dict[int, float]] = [{} for _ in range(self.n)]
        for source in problem.renewables:
            self.flow[source.id] = []
            for t in range(self.n):
                available = at(source.available_kw, t)
                cut = self.model.var(
                    available if source.curtailable else 0.0, cost=source.curtailment_price_eur_per_kwh * self.dt
                )
                self.flow[source.id].append((add((-1.0, cut)), available))
                delivered[t] += available
                held_back[t] = add((1.0, held_back[t]), (1.0, cut))
        for genset in problem.gensets:
            self.genset(genset)
        for load in problem.controllable_loads:
            self.controllable(load)
        for load in problem.shiftable_loads:
            self.shiftable(load)
        for session in problem.ev_sessions:
            self.vehicle(session)
        stores = [(battery, *self.battery(battery)) for battery in problem.batteries]
        assert problem.grid is not None
        exports = self.connection(problem.grid)
        for t in range(self.n):
            limited = [charge[t] for battery, charge, _ in stores if battery.charge_from == "renewables"]
            if limited:
                over = self.model.var(cost=ORIGIN_PRICE * self.dt)
                terms = [(1.0, part) for part in limited]
                self.model.most(add(*terms, (1.0, held_back[t]), (-1.0, over)), delivered[t])
            kept = [discharge for battery, _, discharge in stores if battery.discharge_to == "site"]
            if kept:
                over = self.model.var(cost=ORIGIN_PRICE * self.dt)
                others = [(-1.0, self.flow[g.id][t][0]) for g in problem.gensets]
                others += [(-1.0, discharge[t]) for battery, _, discharge in stores if battery.discharge_to == "any"]
                others += [(-1.0, self.given_back[s.id][t]) for s in problem.ev_sessions]
                self.model.most(add((1.0, exports[t]), (1.0, held_back[t]), *others, (-1.0, over)), delivered[t])
        self.network()
        for t in range(self.n):
            parts = [flows[t] for flows in self.flow.values()]
            self.model.equal(add(*((1.0, part) for part, _ in parts)), -sum(number for _, number in parts))
        return self.model.optimum()

    def ramp(self, power: Sequence[Expression], per_minute: float, start: float | None) -> None:
        step = per_minute * 60 * self.dt
        for t in range(self.n):
            over = self.model.var(cost=RAMP_PRICE * self.dt)
            if t == 0 and start is None:
                continue
            change = add((1.0, power[t]), (-1.0, power[t - 1] if t else {}))
            base = start if t == 0 and start is not None else 0.0
            self.model.most(add((1.0, change), (-1.0, over)), base + step)
            self.model.least(add((1.0, change), (1.0, over)), base - step)

    def battery(self, b: Battery) -> tuple[list[Expression], list[Expression]]:
        m, n, dt, capacity = self.model, self.n, self.dt, b.energy_capacity_kwh
        soh = [np.interp(b.soh, [p.at for p in c], [p.share for p in c]) if c else 1.0
               for c in (b.max_charge_by_soh, b.max_discharge_by_soh)]  # fmt: skip
        rate = np.inf if b.max_c_rate is None else b.max_c_rate * capacity
        charge, discharge, energy, flows = [], [], [], []
        cyclic = b.terminal == "cyclic"
        low, high = b.soc_min * capacity, b.soc_max * capacity
        first = m.var(high, lower=low) if cyclic else m.var(b.soc_start * capacity, lower=b.soc_start * capacity)
        before: Expression = first
        for t in range(n):
            most_in = min(at(b.max_charge_kw, t) * float(soh[0]), rate)
            most_out = min(at(b.max_discharge_kw, t) * float(soh[1]), rate)
            wear = b.wear_cost_eur_per_kwh / 2 * dt
            c = m.var(most_in, cost=wear * b.charge_efficiency * b.discharge_efficiency)
            d = m.var(most_out, cost=wear)
            m.either(c, most_in, d, most_out)
            for curve, power, limit in (
                (b.max_charge_by_soc, c, at(b.max_charge_kw, t) * float(soh[0])),
                (b.max_discharge_by_soc, d, at(b.max_discharge_kw, t) * float(soh[1])),
            ):
                if curve:
                    points = [(0.0, curve[0].share), *((p.at, p.share) for p in curve), (1.0, curve[-1].share)]
                    points = [p for k, p in enumerate(points) if k == 0 or p[0] > points[k - 1][0]]
                    allowed = m.curve(before, [(place * capacity, share * limit) for place, share in points])
                    m.most(add((1.0, power), (-1.0, allowed)))
            stored, taken = self.through(b, c, d)
            e = m.var(high, lower=low)
            m.equal(add((1.0, e), (-1.0, before), (-dt, stored), (dt, taken)), dt * at(b.inflow_kw, t))
            charge.append(c)
            discharge.append(d)
            energy.append(e)
            flows.append((add((1.0, d), (-1.0, c)), -at(b.auxiliary_kw, t)))
            before = e
        if cyclic:
            m.equal(add((1.0, first), (-1.0, energy[-1])))
        target = (b.soc_start if b.terminal_soc is None else b.terminal_soc) * capacity
        if b.terminal in {"at_least", "equal"}:
            assert b.terminal_price_eur_per_kwh is not None
            short, excess = (m.var(cost=b.terminal_price_eur_per_kwh) for _ in range(2))
            m.least(add((1.0, energy[-1]), (1.0, short)), target)
            if b.terminal == "equal":
                m.most(add((1.0, energy[-1]), (-1.0, excess)), target)
        if b.terminal == "priced":
            m.price(energy[-1], -b.terminal_value_eur_per_kwh)
            m.constant += b.terminal_value_eur_per_kwh * target
        if b.ramp_kw_per_minute is not None:
            net = [add((1.0, d), (-1.0, c)) for c, d in zip(charge, discharge, strict=True)]
            self.ramp(net, b.ramp_kw_per_minute, b.power_start_kw)
        if b.max_cycles_per_day is not None:
            over = m.var(cost=CYCLE_PRICE)  # the horizon is within one day
            left = (b.max_cycles_per_day - min(b.cycles_today, b.max_cycles_per_day)) * capacity
            m.most(add(*((dt, d) for d in discharge), (-1.0, over)), left)
        self.flow[b.id] = flows
        return charge, discharge

    def through(self, b: Battery, c: Expression, d: Expression) -> tuple[Expression, Expression]:
        stored: Expression = add((b.charge_efficiency, c))
        taken: Expression = add((1 / b.discharge_efficiency, d))
        if b.charge_efficiency_curve:
            points = [(p.power_kw, p.power_kw * p.efficiency) for p in b.charge_efficiency_curve]
            stored = self.model.curve(c, [(0.0, 0.0), *points])
        if b.discharge_efficiency_curve:
            points = [(p.power_kw, p.power_kw / p.efficiency) for p in b.discharge_efficiency_curve]
            taken = self.model.curve(d, [(0.0, 0.0), *points])
        return stored, taken

    def genset(self, g: Genset) -> None:
        m, n, dt = self.model, self.n, self.dt
        on = [m.binary(g.running_cost_eur_per_h * dt) for _ in range(n)]
        start = [m.binary(g.start_cost_eur) for _ in range(n)]
        stop = [m.binary(g.stop_cost_eur) for _ in range(n)]
        power = [m.var(g.max_kw, cost=g.fuel_cost_eur_per_kwh * dt) for _ in range(n)]
        up = round(g.min_up_minutes / 60 / dt)
        down = round(g.min_down_minutes / 60 / dt)
        ramp = BIG if g.ramp_kw_per_minute is None else g.ramp_kw_per_minute * 60 * dt
        fuel_used: list[Expression] = []
        for t in range(n):
            was: Expression = on[t - 1] if t else {}
            m.equal(add((1.0, on[t]), (-1.0, was), (-1.0, start[t]), (1.0, stop[t])), 0.0 if t else g.running_at_start)
            m.most(add((1.0, start[t]), (1.0, stop[t])), 1.0)
            m.most(add((1.0, power[t]), (-g.max_kw, on[t])))
            m.least(add((1.0, power[t]), (-g.min_kw, on[t])))
            for k in range(t + 1, min(t + up, n)):
                m.least(add((1.0, on[k]), (-1.0, start[t])))
            for k in range(t + 1, min(t + down, n)):
                m.most(add((1.0, on[k]), (1.0, stop[t])), 1.0)
            if g.start_kw is not None:
                m.most(add((1.0, power[t]), (BIG, start[t])), BIG + g.start_kw)
            if g.stop_kw is not None and t + 1 < n:
                m.most(add((1.0, power[t]), (BIG, stop[t + 1])), BIG + g.stop_kw)
            if t:
                # Only from step to step of one run; a start or a stop frees the change.
                m.most(add((1.0, power[t]), (-1.0, power[t - 1]), (-BIG, start[t])), ramp)
                m.most(add((1.0, power[t - 1]), (-1.0, power[t]), (-BIG, stop[t])), ramp)
            if g.fuel_curve:
                points = [(p.power_kw, p.litres_per_h) for p in g.fuel_curve]
                litres = self.fuel(power[t], on[t], points)
                m.price(litres, g.fuel_price_eur_per_l * dt)
                fuel_used.append(litres)
        if g.max_starts is not None:
            m.most(add(*((1.0, s) for s in start)), g.max_starts)
        if g.max_energy_kwh is not None:
            m.most(add(*((dt, p) for p in power), (-1.0, m.var(cost=100.0))), g.max_energy_kwh)
        if g.tank_l is not None:
            # Fuel that is not there is a fifth dearer than all load that a litre could have served, at 1,000 EUR/kWh.
            points = [(p.power_kw, p.litres_per_h) for p in g.fuel_curve]
            rates = [p / f for p, f in points] + [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(points)]
            m.most(add(*((dt, used) for used in fuel_used), (-1.0, m.var(cost=1200.0 * max(rates)))), g.tank_l)
        self.flow[g.id] = [(p, 0.0) for p in power]

    def fuel(self, power: Expression, on: Expression, points: list[tuple[float, float]]) -> Expression:
        """Litres an hour: none at rest, else along the curve."""
        m = self.model
        place = m.var(points[-1][0], lower=points[0][0])
        along = m.curve(place, points)
        litres = m.var(BIG)
        for expression, value in ((power, place), (litres, along)):
            m.most(add((1.0, expression), (-BIG, on)))
            m.most(add((1.0, expression), (-1.0, value), (BIG, on)), BIG)
            m.least(add((1.0, expression), (-1.0, value), (-BIG, on)), -BIG)
        return litres

    def controllable(self, load: ControllableLoad) -> None:
        m, n, dt = self.model, self.n, self.dt
        wanted = [at(load.power_kw, t) for t in range(n)]
        cost = load.curtailment_cost_eur_per_kwh * (1 + 0.2 * (5 - load.priority))
        off: list[Expression] = []
        active: list[Expression] = []
        for t in range(n):
            levels = [m.binary(cost * share * wanted[t] * dt) for share in load.steps]
            m.most(add(*((1.0, level) for level in levels)), 1.0)
            off.append(add(*((share * wanted[t], level) for share, level in zip(load.steps, levels, strict=True))))
            active.append(add(*((1.0, level) for level in levels)))
        if load.max_curtailed_minutes is not None:
            m.most(add(*((60 * dt, a) for a in active)), load.max_curtailed_minutes)
        gap = int(np.ceil(load.min_minutes_between / 60 / dt - 1e-9))
        for t in range(1, n):
            # A curtailment that ended less than the gap ago and one that starts now exclude each other.
            for back in range(2, min(gap, t) + 1):
                begins = add((1.0, active[t]), (-1.0, active[t - 1]))
                ended = add((1.0, active[t - back]), (-1.0, active[t - back + 1]))
                m.most(add((1.0, begins), (1.0, ended)), 1.0)
        lags = max(int(np.ceil(load.recovery_minutes / 60 / dt - 1e-9)), 1)
        grid = self.problem.grid
        late = 0.0 if grid is None else max(float(np.mean(grid.import_price_eur_per_kwh)), 0.0)
        flows = []
        for t in range(n):
            rebound: Expression = {}
            if load.recovery_share:
                rebound = add(*((load.recovery_share / lags, off[t - lag]) for lag in range(1, lags + 1) if t >= lag))
                behind = max(t + lags - (n - 1), 0)
                m.price(off[t], load.recovery_share / lags * behind * dt * late)
            flows.append((add((1.0, off[t]), (-1.0, rebound)), -wanted[t]))
        self.flow[load.id] = flows

    def shiftable(self, load: ShiftableLoad) -> None:
        m, n, dt = self.model, self.n, self.dt
        assert load.unmet_price_eur_per_kwh is not None
        unmet = m.var(cost=load.unmet_price_eur_per_kwh)
        if load.profile_kw:
            length = len(load.profile_kw)
            begin = [
                m.binary() if t + length <= n and all(at(load.allowed, t + k) > 0.5 for k in range(length)) else {}
                for t in range(n)
            ]
            power = [add(*((load.profile_kw[k], begin[t - k]) for k in range(length) if t >= k)) for t in range(n)]
            for t in range(n):
                m.most(add(*((1.0, begin[t - k]) for k in range(length) if t >= k)), 1.0)
            energy = sum(load.profile_kw) * dt
            m.least(add(*((energy, b) for b in begin), (1.0, unmet)), load.runs * energy)
            m.most(add(*((energy, b) for b in begin)), load.runs * energy)
        else:
            on = [m.binary() if at(load.allowed, t) > 0.5 else m.var(0.0) for t in range(n)]
            power = [m.var(load.power_kw) for _ in range(n)]
            smallest = load.power_kw if load.min_power_kw is None else load.min_power_kw
            starts = []
            for t in range(n):
                m.most(add((1.0, power[t]), (-load.power_kw, on[t])))
                m.least(add((1.0, power[t]), (-smallest, on[t])))
                start = m.binary()
                m.least(add((1.0, start), (-1.0, on[t]), (1.0, on[t - 1] if t else {})))
                starts.append(start)
                if load.min_run_minutes:
                    rise = add((1.0, on[t]), (-1.0, on[t - 1] if t else {}))
                    for k in range(t + 1, min(t + round(load.min_run_minutes / 60 / dt), n)):
                        m.least(add((1.0, on[k]), (-1.0, rise)))
            if load.max_starts is not None:
                m.most(add(*((1.0, s) for s in starts)), load.max_starts)
            drawn = add(*((dt, p) for p in power))
            m.least(add((1.0, drawn), (1.0, unmet)), load.energy_kwh)
            whole = np.ceil(round(load.energy_kwh / (load.power_kw * dt), 9)) * load.power_kw * dt
            m.most(drawn, whole if smallest == load.power_kw else load.energy_kwh)
        self.flow[load.id] = [(add((-1.0, p)), 0.0) for p in power]

    def vehicle(self, s: EvSession) -> None:
        m, n, dt = self.model, self.n, self.dt
        before: Expression = m.var(s.soc_start * s.capacity_kwh, lower=s.soc_start * s.capacity_kwh)
        flows = []
        last: Expression = before
        largest, smallest = s.largest_kw, s.smallest_kw
        for t in range(n):
            plugged = at(s.connected, t) > 0.5
            c, d = m.var(largest if plugged else 0.0), m.var(s.max_discharge_kw if plugged else 0.0)
            m.price(d, s.wear_cost_eur_per_kwh * dt)
            m.either(c, BIG, d, BIG)
            on = m.binary()
            m.most(add((1.0, c), (-largest, on)))
            m.least(add((1.0, c), (-smallest, on)))
            floor = min(s.soc_reserve, s.soc_start) * s.capacity_kwh if s.max_discharge_kw else 0.0
            e = m.var(s.capacity_kwh, lower=floor)
            m.equal(add((1.0, e), (-1.0, before), (-dt * s.efficiency, c), (dt / s.efficiency, d)))
            before = e
            if plugged:
                last = e
            flows.append((add((1.0, d), (-1.0, c)), 0.0))
            self.given_back.setdefault(s.id, []).append(d)
        price = s.unmet_price_eur_per_kwh * (1 + 0.2 * (5 - s.priority))
        m.least(add((1.0, last), (1.0, m.var(cost=price))), s.soc_target * s.capacity_kwh)
        self.flow[s.id] = flows

    def connection(self, g: GridConnection) -> list[Expression]:
        m, n, dt = self.model, self.n, self.dt
        assert g.breach_price_eur_per_kwh is not None
        imports, exports = [], []
        for t in range(n):
            limit_in = np.inf if g.import_limit_kw is None else at(g.import_limit_kw, t)
            limits = [at(x, t) for x in (g.export_limit_kw, g.feed_in_limit_kw) if x is not None]
            if g.feed_in_limit_share is not None:
                installed = sum(s.rated_kw or 0.0 for s in self.problem.renewables if s.kind == "pv")
                limits.append(g.feed_in_limit_share * installed)
            buy, levy = at(g.import_price_eur_per_kwh, t), at(g.import_tax_eur_per_kwh, t)
            paid = (buy + levy) * (1 + g.vat)
            earned = at(g.export_price_eur_per_kwh, t) - at(g.export_tax_eur_per_kwh, t)
            i, o = m.var(min(limit_in, BIG), cost=paid * dt), m.var(min([*limits, BIG]), cost=-earned * dt)
            ix = m.var(BIG, cost=(paid + g.breach_price_eur_per_kwh) * dt)
            ox = m.var(BIG, cost=(-earned + g.breach_price_eur_per_kwh) * dt)
            total_in, total_out = add((1.0, i), (1.0, ix)), add((1.0, o), (1.0, ox))
            m.either(total_in, 2 * BIG, total_out, 2 * BIG)
            imports.append(total_in)
            exports.append(total_out)
        self.flow[g.id] = [(add((1.0, i), (-1.0, o)), 0.0) for i, o in zip(imports, exports, strict=True)]
        if g.ramp_kw_per_minute is not None:
            self.ramp([flow for flow, _ in self.flow[g.id]], g.ramp_kw_per_minute, g.power_start_kw)
        for charge in g.demand_charges:
            tax = 1 + g.vat if charge.direction == "import" else 1.0
            peak = m.var(lower=charge.peak_so_far_kw, cost=charge.price_eur_per_kw * tax)
            flows = imports if charge.direction == "import" else exports
            length = 1 if charge.interval_minutes is None else round(charge.interval_minutes / 60 / dt)
            for first in range(0, n, length):
                steps = range(first, min(first + length, n))
                m.least(add((1.0, peak), *((-1.0 / len(steps), flows[t]) for t in steps)))
            m.constant -= charge.price_eur_per_kw * charge.peak_so_far_kw * tax
        for tariff in g.tiers:
            total = add(*((dt, flow) for flow in imports))
            points, paid, last = [(0.0, 0.0)], 0.0, tariff.used_so_far_kwh
            for tier in tariff.tiers:
                end = 1e5 if tier.up_to_kwh is None else tier.up_to_kwh
                if end > last:
                    paid += (end - last) * tier.price_eur_per_kwh
                    points.append((end - tariff.used_so_far_kwh, paid))
                    last = end
            m.price(m.curve(total, points), 1.0 + g.vat)
        return exports

    def network(self) -> None:
        network = self.problem.network
        if network is None:
            return
        m = self.model
        buses = {b.from_bus for b in network.branches} | {b.to_bus for b in network.branches}
        for t in range(self.n):
            angle = {bus: m.var(lower=-np.inf) for bus in buses}
            net: dict[str, list[tuple[float, Expression]]] = {bus: [] for bus in buses}
            for branch in network.branches:
                flow = add(
                    (1 / branch.reactance_pu, angle[branch.from_bus]), (-1 / branch.reactance_pu, angle[branch.to_bus])
                )
                over = m.var(cost=RATING_PRICE * self.dt)
                m.most(add((1.0, flow), (-1.0, over)), at(branch.limit_kw, t))
                m.least(add((1.0, flow), (1.0, over)), -at(branch.limit_kw, t))
                net[branch.to_bus].append((1.0, flow))
                net[branch.from_bus].append((-1.0, flow))
            for bus in buses:
                hanging = [f[t] for name, f in self.flow.items() if network.bus_of.get(name, network.pcc_bus) == bus]
                m.equal(add(*net[bus], *((1.0, part) for part, _ in hanging)), -sum(number for _, number in hanging))
