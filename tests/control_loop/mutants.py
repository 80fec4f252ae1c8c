"""Hand-made mutants: guards of the control loop broken one at a time, to see whether the tests would notice."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType

from control_loop import (
    arbitration,
    context,
    contingency,
    dispatch,
    droop,
    engine,
    exchange,
    exchange_noise,
    following,
    frequency,
    frozen,
    grid_orders,
    image,
    limits,
    load_rules,
    meter_lag,
    mode,
    pcc,
    reactive,
    schedule,
    voting,
    wishes,
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module's text."""

    module: ModuleType
    old: str
    new: str

    @property
    def name(self) -> str:
        """Module and change, for the test's id."""
        return f"{self.module.__name__.rpartition('.')[2]}: {self.old.strip()[:60]}"


MUTANTS = (
    Mutant(limits, "if stopped:", "if not stopped:"),
    Mutant(limits, 'Request(Layer.EMERGENCY_STOP, actuator.asset_id, value=0.0', 'Request(Layer.EMERGENCY_STOP, actuator.asset_id, value=None'),
    Mutant(limits, 'if context.fresh(asset_id, "available") == 0:', 'if context.fresh(asset_id, "available") == 2:'),
    Mutant(limits, "storage.soc_max - soc", "1.0 - soc"),
    Mutant(limits, "soc - storage.soc_min", "soc"),
    Mutant(limits, "minimum=-max(0.0, charge_kw)", "minimum=-2 * max(0.0, charge_kw)"),
    Mutant(limits, "maximum=max(0.0, discharge_kw)", "maximum=None"),
    Mutant(limits, "low, high = last - step, last + step", "low, high = last - 3 * step, last + step"),
    Mutant(limits, "low, high = last - step, last + step", "low, high = last - step, last + 3 * step"),
    Mutant(limits, "if limit.asset_id != context.model.pcc_id", "if limit.asset_id == context.model.pcc_id"),
    Mutant(limits, 'bit.forbids in {"charge", "all"}', 'bit.forbids in {"all"}'),
    Mutant(limits, 'bit.forbids in {"discharge", "all"}', 'bit.forbids in {"discharge"}'),
    Mutant(limits, "share * actuator.minimum_kw, share", "actuator.minimum_kw, share"),
    Mutant(wishes, "if meter_lost:", "if False:"),
    Mutant(wishes, "elif context.blind(asset_id):", "elif False:"),
    Mutant(wishes, "value=actuator.safe_kw, reason=f\"meter", "value=actuator.maximum_kw, reason=f\"meter"),
    Mutant(pcc, "max(0.0, most - limits.upper_kw)", "max(0.0, most - 10 * limits.upper_kw)"),
    Mutant(pcc, "max(0.0, limits.lower_kw - least)", "max(0.0, 10 * limits.lower_kw - least)"),
    Mutant(pcc, "own = shown_kw if actuator.consumes else -shown_kw", "own = shown_kw"),
    Mutant(pcc, "wanted = base - left if actuator.consumes else base + left", "wanted = base + left"),
    Mutant(pcc, "left -= taken", "left = 0.0"),
    Mutant(pcc, "if limit.maximum is not None and limit.maximum < upper:", "if False:"),
    Mutant(pcc, "lower, upper = decision.hard_lower, decision.hard_upper", "lower, upper = decision.lower, decision.upper"),
    Mutant(arbitration, "value = min(max(requested, lower), upper)", "value = requested"),
    Mutant(arbitration, "value = min(max(requested, lower), upper)", "value = max(requested, lower)"),
    Mutant(arbitration, "key=lambda r: (r.layer, r.value is not None)", "key=lambda r: (-r.layer, r.value is not None)"),
    Mutant(arbitration, "lower = min(request.minimum, upper)", "lower, upper = request.minimum, max(upper, request.minimum)"),
    Mutant(arbitration, "upper = max(request.maximum, lower)", "upper, lower = request.maximum, min(lower, request.maximum)"),
    Mutant(arbitration, "if not request.alive(monotonic) or not _finite(request):", "if not request.alive(monotonic):"),
    Mutant(arbitration, "if not request.alive(monotonic) or not _finite(request):", "if not _finite(request):"),
    Mutant(image, "monotonic - sample.monotonic > max_age_s", "False"),
    Mutant(image, "if value is None or not math.isfinite(value):", "if value is None:"),
    Mutant(image, "SUSPECT if key in late else GOOD", "GOOD"),
    Mutant(engine, "value = least if start else 0.0", "value = decision.value"),
    Mutant(engine, "if bounds:", "if False:"),
    Mutant(dispatch, "track.decided = decision.value", "track.decided = None"),
    Mutant(dispatch, "if not (changed or ending or not track.acknowledged or track.mismatches):", "if not ending:"),
    Mutant(context, "if state is not None:", "if False:"),
    Mutant(image, "if asset_id in self._distrusted or sample", "if sample"),
    Mutant(pcc, "return Reach(stays, value if held_back else stays)", "return Reach(value if held_back else stays, value if held_back else stays)"),
    Mutant(pcc, "least += down - own", "least += up - own"),
    Mutant(pcc, "if over > 0 and under > 0:", "if False:"),
    Mutant(pcc, "excess_kw -= cut", "excess_kw -= 0"),
    Mutant(frequency, "actuator is None or frequency is None or measured is None", "actuator is None"),
    Mutant(frequency, "value = base + state.given_kw", "value = state.given_kw"),
    Mutant(frequency, "min(max(target, state.given_kw - step), state.given_kw + step)", "target"),
    Mutant(frequency, "(state.active and any(order.curve(edge) != 0 for edge in edges))", "False"),
    Mutant(frequency, "return max(manual, key=lambda c: c.command_id).value", "pass"),
    Mutant(frequency, "and not (context.mode is not None and context.mode.rests)", ""),
    Mutant(reactive, "actuator.maximum_kw**2 - used**2", "actuator.maximum_kw**2"),
    Mutant(reactive, "used = max(abs(told), abs(measured)", "used = max(0.0, abs(measured)"),
    Mutant(reactive, 'if context.fresh(actuator.asset_id, "available") == 0:', "if False:"),
    Mutant(reactive, "return size if rule.supplies else -size", "return size"),
    Mutant(reactive, "min(max(target, last - step), last + step)", "target"),
    Mutant(reactive, "return None if voltage is None else Curve(rule.points)(voltage)", "return Curve(rule.points)(voltage or 1.0)"),
    Mutant(reactive, "if target is None or context.blind(actuator.asset_id):", "if target is None:"),
    Mutant(mode, "if context.mode is None or not context.mode.rests:", "if True:"),
    Mutant(mode, "value=a.idle_kw", "value=a.maximum_kw"),
    Mutant(mode, 'return float("-inf"), max(self.parameters["import_kw"], self.month_peak_kw)', 'return self.parameters["import_kw"], float("inf")'),
    Mutant(mode, 'max(self.parameters["import_kw"], self.month_peak_kw)', 'self.parameters["import_kw"]'),
    Mutant(voting, "return voters // 2 + 1", "return voters // 2"),
    Mutant(voting, "if b.round == round_ and b.digest == digest", "if b.round == round_"),
    Mutant(voting, "if b.round == round_ and b.digest == digest", "if b.digest == digest"),
    Mutant(voting, "abs(other - value) <= tolerance for other", "other <= value + tolerance for other"),
    Mutant(voting, "(outside[name], name != master, name)", "(name != master, name)"),
    Mutant(voting, "if narrowed * value < 0:", "if False:"),
    Mutant(voting, "return narrowed if abs(narrowed) <= abs(value) else value", "return narrowed"),
    Mutant(exchange, "move = min(max(planned, least), most)", "move = planned"),
    Mutant(exchange, "measured - end - shift - under_way", "measured - end - shift"),
    Mutant(exchange, "return min(max(wanted, gives + min(error_kw, 0.0) - slack), gives + max(error_kw, 0.0) + slack)", "return wanted"),
    Mutant(frozen, "elif still_s >= METER_STILL_S", "elif False"),
    Mutant(frozen, "if moved > large and still_s >= METER_MOVED_STILL_S:", "if False:"),
    Mutant(frozen, "if abs(due) > SOC_STEP and not held:", "if False:"),
    Mutant(frozen, "if still_s >= SOURCE_STILL_S:", "if False:"),
    Mutant(frozen, "power is not None and (power >= _NEAR * limit or power <= 0.01 * actuator.maximum_kw)", "False"),
    Mutant(following, "return abs(measured - told) > band", "return False"),
    Mutant(following, "if lasted >=", "if 0 * lasted >="),
    Mutant(following, 'if context.fresh(actuator.asset_id, "available") == 0 or (edge and abs(measured) < abs(told)):', "if False:"),
    Mutant(limits, "hours = max(SOC_LOOK_AHEAD_S, 2 * context.dt, 2 * context.model.cycle_s) / 3600.0", "hours = 1.0 / 3600.0"),
    Mutant(limits, "min(held, 0.0), max(held, 0.0)", "None, None"),
    Mutant(limits, "for target in (None, actuator.asset_id):", "for target in (None,):"),
    Mutant(limits, "if state.value > 0 and held_s < actuator.min_up_s:", "if False:"),
    Mutant(limits, "actuator.ramp_kw_per_s or context.model.ramp_kw_per_s", "context.model.ramp_kw_per_s"),
    Mutant(limits, "if actuator.curtailment is not None:", "if False:"),
    Mutant(pcc, "(OUTSIDE_FACTOR if outside else 1.0)", "1.0"),
    Mutant(pcc, "if decision.source < Layer.PCC:", "if False:"),
    Mutant(pcc, "shown_kw = context.power_at_meter(actuator.asset_id)", 'shown_kw = context.fresh(actuator.asset_id, "active_power_kw")'),
    Mutant(pcc, "least = measured + min(context.exchange_trend_kw, 0.0)", "least = measured"),
    Mutant(exchange, "wanted = min(max(last + move_kw, low), high)", "wanted = last + move_kw"),
    Mutant(exchange, "unseen = max(delay - 1 + context.meter_age_cycles, 0)", "unseen = delay - 1"),
    Mutant(exchange_noise, "self.deviation_kw = inf", "self.deviation_kw = 0.0"),
    Mutant(meter_lag, "self.cycles = best.lag", "pass"),
    Mutant(meter_lag, "held if held < self._held else 0", "0"),
    Mutant(meter_lag, "powers[a.asset_id] + arrived(context, a, -age)", "powers[a.asset_id]"),
    Mutant(meter_lag, "if worst.moved_kw > much_kw and worst.squares", "if worst.squares"),
    Mutant(meter_lag, "self.reversed = True", "pass"),
    Mutant(grid_orders, "if not (limit.unless_ordered and limit.asset_id in ordered)", ""),
    Mutant(grid_orders, "if s.stands(context.monotonic)", ""),
    Mutant(grid_orders, "min(max(setpoint.value, low), high)", "setpoint.value"),
    Mutant(grid_orders, "if context.blind(context.model.pcc_id):", "if False:"),
    Mutant(grid_orders, "- answers_kw.get(actuator.asset_id, 0.0)", ""),
    Mutant(contingency, "state.runs or context.monotonic - state.since >= procedure.after_s", "True"),
    Mutant(contingency, "context.monotonic - state.last >= procedure.hold_s", "True"),
    Mutant(contingency, "if power_kw is None or context.blind(actuator.asset_id):", "if power_kw is None:"),
    Mutant(contingency, 'if context.fresh(asset_id, "available") == 0:', "if False:"),
    Mutant(droop, "return y0 + (y1 - y0) * (x - x0) / (x1 - x0)", "return y0"),
    Mutant(dispatch, "return setpoint.epoch == self.epoch and monotonic < setpoint.valid_until", "return monotonic < setpoint.valid_until"),
    Mutant(dispatch, "return setpoint.epoch == self.epoch and monotonic < setpoint.valid_until", "return setpoint.epoch == self.epoch"),
    Mutant(dispatch, "if value is not None and track.failures:", "if False:"),
    Mutant(dispatch, "changed |= decision.value == 0 != sent.value", "pass"),
    Mutant(dispatch, "track.mismatches += 1", "track.mismatches += 0"),
    Mutant(voting, "if len(present) < quorum:", "if len(present) < 1:"),
    Mutant(voting, "step = math.inf  # between", "pass  # between"),
    Mutant(frozen, "held = (soc >= 0.99 and due < 0) or (soc <= 0.01 and due > 0)", "held = False"),
    Mutant(frozen, "monotonic - sample.monotonic > model.stale_after_s", "False"),
    Mutant(frozen, "len([v for v in values if v is not None]) >= 3", "True"),
    Mutant(load_rules, "if lasted >= rules.max_s:", "if False:"),
    Mutant(load_rules, "if rested < rules.min_between_s:", "if False:"),
    Mutant(load_rules, "if rules is None or decision.source is Layer.EMERGENCY_STOP:", "if rules is None:"),
    Mutant(load_rules, "if share * baseline <= decision.hard_upper + 1e-9", "if True"),
    Mutant(engine, "if layer <= Layer.FAIL_SAFE:", "if layer < Layer.FAIL_SAFE:"),
    Mutant(engine, "requests = [r for r in requests if r.layer is not Layer.FAIL_SAFE]", "pass"),
    Mutant(schedule, "min(max(value, actuator.minimum_kw), actuator.maximum_kw)", "value"),
    Mutant(reactive, "abs(voltage - held) >= rule.hysteresis_pu", "True"),
)  # fmt: skip
# ruff: noqa: E501 - one mutant a line reads as a table


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Put a mutant's code into the module's own functions, whoever holds them, and take it out again."""
    text = inspect.getsource(mutant.module)
    if text.count(mutant.old) < 1:
        raise LookupError(f"{mutant.name}: the module does not say so any more")
    namespace: dict[str, object] = dict(vars(mutant.module))
    exec(compile(text.replace(mutant.old, mutant.new), mutant.module.__file__ or "", "exec"), namespace)  # noqa: S102
    changed = []
    for name, function in _functions(vars(mutant.module)).items():
        other = _functions(namespace).get(name)
        if other is not None and function.__code__ != other.__code__:
            changed.append((function, function.__code__))
            function.__code__ = other.__code__
    try:
        if not changed:
            raise LookupError(f"{mutant.name}: nothing changed")
        yield
    finally:
        for function, code in changed:
            function.__code__ = code


def _functions(namespace: dict[str, object]) -> dict[str, FunctionType]:
    module = namespace["__name__"]
    found: dict[str, FunctionType] = {}
    for name, thing in namespace.items():
        if isinstance(thing, FunctionType) and thing.__module__ == module:
            found[name] = thing
        elif isinstance(thing, type) and thing.__module__ == module:
            found |= {f"{name}.{k}": f for k, v in vars(thing).items() if (f := _function(v)) is not None}
    return found


def _function(thing: object) -> FunctionType | None:
    """The function of a method, of a static one, or of a property."""
    inner = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    return inner if isinstance(inner, FunctionType) else None
