"""A storm of requests and faults against one site, and an oracle that knows the limits on its own.

The plant is a toy whose devices do what they are told. Nothing of the loop's own rules is used to judge it: the oracle
only looks at what the devices were told and at what was measured.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field, replace

from control_loop.context import GridOperatorLimit, GridOperatorSetpoint, ManualCommand
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.droop import Curve
from control_loop.frequency import FrequencyOrder
from control_loop.mode import Mode
from control_loop.model import REACTIVE_SETPOINT, Actuator
from control_loop.protocols.base import MemoryDriver
from control_loop.reactive import ReactiveControl
from control_loop.requests import Layer
from flexergy_pipelines.grid import ReactiveRule
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ALARMS, ESS, EV, GENSET, LIMIT, LOAD, MODEL, NOW, PV, SETPOINT, plan_of

EPS = 1e-6
S_KVA = 130.0
REACTIVE = replace(
    MODEL,
    actuators=tuple(Actuator(a.asset_id, a.kind, REACTIVE_SETPOINT, a.controller, -S_KVA, S_KVA) for a in (ESS, PV)),
)
Q_OF_P = ReactiveRule(asset="ess-1", mode="q_of_p", points=((-1.0, 120.0), (1.0, -120.0)), response_s=0)
P_OF_F = FrequencyOrder("ess-1", Curve(((49.8, 60.0), (49.98, 0.0), (50.02, 0.0), (50.2, -60.0))))
ORDERED = frozenset({SETPOINT, LIMIT, REACTIVE_SETPOINT})
MODES = (
    Mode("zero_flow"), Mode("idle"), Mode("manual"), Mode("peak_shaving", {"import_kw": 30.0}),
    Mode("export_cap", {"export_kw": 10.0}),
)  # fmt: skip
FORBIDDEN = {"charge": {1, 3, 9}, "discharge": {1, 11}}
"""Bits of the battery's alarm word that the storm raises, and what they forbid; bit 2 is a warning."""
FORCING = {Layer.EMERGENCY_STOP, Layer.PROTECTION, Layer.GRID_OPERATOR, Layer.PCC}


@dataclass
class Storm:
    """One run: a plant, a cycle, and a random number generator that decides all that happens."""

    seed: int
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        # What came later draws from a generator of its own, so that a seed that once found a fault goes on doing so.
        self.more = random.Random(self.seed + 1)  # noqa: S311
        self.later = random.Random(self.seed + 2)  # noqa: S311
        self.latest = random.Random(self.seed + 3)  # noqa: S311
        self.alarms = frozenset[int]()
        self.clock = SimulatedClock(NOW)
        self.answers = False
        self.frequency_hz = 50.0
        self.soc = 0.5
        self.base_kw = 20.0
        self.sun_kw = 30.0
        self.power = {a.asset_id: 0.0 for a in MODEL.actuators}
        self.told = {a.asset_id: a.idle_kw for a in MODEL.actuators}
        self.seen: dict[str, float] = {}
        self.wanted = {LOAD.asset_id: 20.0, EV.asset_id: 10.0}
        self.devices = {name: MemoryDriver(name) for name in ("pcc", *self.power)}
        self.limit_kw = {"charge": 100.0, "discharge": 100.0}
        self.available = 1.0
        self.lost: dict[str, int] = {}
        self.blank: dict[str, int] = {}
        self.stopped = False
        self.commands: list[ManualCommand] = []
        self.grid_limits: list[GridOperatorLimit] = []
        self.changed_s: float | None = None
        self._measure()
        self.reactive = ReactiveControl(REACTIVE, [Q_OF_P])
        self.cycle = ControlCycle(MODEL, list(self.devices.values()), self.clock, reactive=self.reactive)

    async def run(self, steps: int) -> list[str]:
        """Let `steps` seconds pass; returns what went wrong."""
        for _ in range(steps):
            self._happen()
            self._measure()
            before = dict(self.told)
            self.answers = bool(self.cycle.frequency.orders) or bool(self.cycle.frequency.answers)
            report = await self.cycle.run_once(self.clock.now())
            for actuator in MODEL.actuators:
                value = self.devices[actuator.asset_id].values.get((actuator.asset_id, actuator.quantity))
                self.told[actuator.asset_id] = actuator.idle_kw if value is None else value
            self._judge(report, before)
            self._obey(1.0)
            self.clock.advance(1.0)
            if len(self.violations) > 3:
                break
        return self.violations

    def _happen(self) -> None:
        rng = self.rng
        self.base_kw = min(max(self.base_kw + rng.gauss(0, 6), -20.0), 160.0)
        self.sun_kw = min(max(self.sun_kw + rng.gauss(0, 4), 0.0), 120.0)
        if rng.random() < 0.02:
            self.base_kw = rng.choice([0.0, 60.0, 190.0])
        if rng.random() < 0.02:
            self.sun_kw = rng.choice([0.0, 60.0, 120.0])
        if rng.random() < 0.05:
            self.wanted = {"cold": rng.uniform(0, 40), "ev-1": rng.choice([0.0, 20.0, 60.0])}
        if rng.random() < 0.04:
            self.soc = rng.choice([0.09, 0.1, 0.1004, 0.5, 0.8996, 0.9, 0.92])
        if rng.random() < 0.04:
            self.limit_kw = {side: rng.choice([0.0, 30.0, 100.0, 100.0]) for side in ("charge", "discharge")}
        if rng.random() < 0.02:
            self.available = 1.0 - self.available
        elif rng.random() < 0.2:
            self.available = 1.0
        self._replan()
        self._command()
        self._order()
        self._want()
        self._fail()

    def _order(self) -> None:
        """Modes, and the grid operator's frequency."""
        rng = self.more
        if rng.random() < 0.05:
            self.frequency_hz = rng.choice([50.0, 50.0, 50.0, 49.9, 49.7, 50.15])
        if rng.random() < 0.03:
            self.cycle.frequency.orders = rng.choice([(), (P_OF_F,), (replace(P_OF_F, rate_kw_per_s=4.0),)])
        if rng.random() < 0.05:
            self.cycle.mode = rng.choice([None, None, *MODES])
        if self.later.random() < 0.02:
            self.alarms = frozenset(self.later.sample([1, 2, 3, 9, 11], self.later.choice([1, 1, 2])))
        elif self.later.random() < 0.15:
            self.alarms = frozenset()

    def _want(self) -> None:
        """The grid operator's setpoints."""
        rng, now = self.latest, self.clock.monotonic()
        if rng.random() < 0.03:
            name, low, high = rng.choice([("ess-1", -120.0, 120.0), ("pcc", -90.0, 160.0), ("genset-1", 0.0, 90.0)])
            setpoint = GridOperatorSetpoint(
                7, name, rng.uniform(low, high), rng.choice([None, 2.0, 10.0]), expires=now + rng.choice([3.0, 30.0])
            )
            self.cycle.grid_setpoints = [setpoint]

    def _fail(self) -> None:
        rng = self.rng
        for faults, rate in ((self.lost, 0.003), (self.blank, 0.004)):
            for name in self.devices:
                if rng.random() < rate:
                    faults[name] = rng.choice([1, 2, 5, 15])
            for name in list(faults):
                faults[name] -= 1
                if faults[name] < 0:
                    del faults[name]

    def _replan(self) -> None:
        rng = self.rng
        if rng.random() < 0.1:
            self.cycle.plan = plan_of(
                {
                    f"ess-1.{SETPOINT}": rng.choice([-150.0, -60.0, 0.0, 60.0, 150.0, math.nan]),
                    f"genset-1.{SETPOINT}": rng.choice([0.0, 0.0, 20.0, 60.0, 500.0]),
                    f"pv-1.{LIMIT}": rng.choice([120.0, 120.0, 40.0, -5.0]),
                    f"ev-1.{LIMIT}": rng.choice([60.0, 60.0, 0.0, 30.0]),
                    f"cold.{LIMIT}": rng.choice([40.0, 40.0, 10.0]),
                },
                start=self.clock.now(),
                hours=rng.choice([0.25, 2.0]),
            )

    def _command(self) -> None:
        rng, now = self.rng, self.clock.monotonic()
        if rng.random() < 0.01:
            self.stopped = True
        elif rng.random() < 0.3:
            self.stopped = False
        if rng.random() < 0.05:
            actuator = rng.choice(MODEL.actuators)
            value = rng.uniform(1.2 * actuator.minimum_kw - 5, 1.2 * actuator.maximum_kw)
            self.commands = [
                ManualCommand(9, actuator.asset_id, actuator.quantity, value, now + rng.choice([0.5, 3.0, 30.0]))
            ]
        if rng.random() < 0.03:
            low = rng.choice([-60.0, -20.0, None])
            self.grid_limits = [
                rng.choice(
                    [
                        GridOperatorLimit("pcc", low, rng.choice([90.0, 140.0, None]), expires=now + 20.0),
                        GridOperatorLimit("ess-1", rng.choice([-30.0, None]), 10.0, expires=now + 20.0),
                        GridOperatorLimit("pv-1", None, 35.0, expires=now + 20.0),
                    ]
                )
            ]
        stop = [ManualCommand(1, None, "emergency_stop", 1.0, None)] if self.stopped else []
        self.cycle.commands = [*self.commands, *stop]
        self.cycle.grid_limits = self.grid_limits

    def _measure(self) -> None:
        ess, power = ESS.asset_id, self.power
        values: dict[str, dict[str, float | None]] = {name: {"active_power_kw": power[name]} for name in power}
        values[ess] |= {
            "soc": self.soc,
            "max_charge_kw": self.limit_kw["charge"],
            "max_discharge_kw": self.limit_kw["discharge"],
            "available": self.available,
            ALARMS: float(sum(1 << bit for bit in self.alarms)),
        }
        values[PV.asset_id]["available_power_kw"] = self.sun_kw
        values["pcc"] = {"active_power_kw": self.exchange_kw(power), "frequency_hz": self.frequency_hz}
        for name, device in self.devices.items():
            keep = {key: value for key, value in device.values.items() if key[1] in ORDERED}
            if name in self.lost:
                device.values = keep
                continue
            blank = name in self.blank
            readings = {(name, q): (math.nan if blank else v) for q, v in values[name].items()}
            device.values = readings | keep
            if not blank:
                self.seen[name] = self.clock.monotonic()

    def exchange_kw(self, power: dict[str, float]) -> float:
        """Power taken from the grid, given every device's power [kW]."""
        given = power["ess-1"] + power["pv-1"] + power["genset-1"]
        return self.base_kw + power["cold"] + power["ev-1"] - given

    def reaction(self, told: dict[str, float]) -> dict[str, float]:
        """Power of every device that does what it is told [kW]."""
        return {
            "ess-1": told["ess-1"],
            "genset-1": told["genset-1"],
            "pv-1": min(self.sun_kw, max(0.0, told["pv-1"])),
            "cold": min(self.wanted["cold"], max(0.0, told["cold"])),
            "ev-1": min(self.wanted["ev-1"], max(0.0, told["ev-1"])),
        }

    def _obey(self, seconds: float) -> None:
        self.power = self.reaction(self.told)
        flow = self.power["ess-1"] * seconds / 3600 / 200.0
        self.soc -= flow / 0.95 if flow > 0 else flow * 0.95

    # --- the oracle -------------------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self.violations.append(f"seed {self.seed} cycle {self.cycle.cycle}: {text}")

    def _fresh(self, name: str) -> bool:
        # Three periods old still counts; nobody may act on a value that is blank now.
        seen = self.seen.get(name)
        blank = name in self.blank and name not in self.lost
        return seen is not None and self.clock.monotonic() - seen <= 3.0 and not blank

    def _judge(self, report: CycleReport, before: dict[str, float]) -> None:
        if any(code == "rule_failed" for code, _ in report.alarms):
            self._note("a rule failed")
        first = report.cycle == 1
        for actuator in MODEL.actuators:
            self._judge_value(actuator, report, before[actuator.asset_id], first)
        self._judge_storage()
        self._judge_reactive()
        if report.decisions["ess-1"].source is not Layer.GRID_OPERATOR:
            self._judge_exchange()

    def _judge_value(self, actuator: Actuator, report: CycleReport, before: float, first: bool) -> None:
        asset, value = actuator.asset_id, self.told[actuator.asset_id]
        decision = report.decisions[asset]
        if not (math.isfinite(value) and actuator.minimum_kw - EPS <= value <= actuator.maximum_kw + EPS):
            self._note(f"{asset} {value} outside its nameplate")
        if self.stopped and abs(value) > EPS:
            self._note(f"{asset} {value} in spite of the emergency stop")
        if actuator is GENSET and EPS < value < GENSET.running_minimum_kw - EPS:
            self._note(f"{asset} {value} below its least power")
        step, least = abs(value - before), actuator.running_minimum_kw
        startup = least > 0 and max(value, before) <= max(least, before) and 0.0 in (round(value, 6), round(before, 6))
        allowed = MODEL.ramp_kw_per_s * 1.0 + 0.03
        forced = min(abs(value - decision.hard_lower), abs(value - decision.hard_upper)) < EPS or self.stopped
        ordered = decision.source is Layer.GRID_OPERATOR
        if ordered and not self._fresh("pcc"):
            self._note(f"{asset} answers a frequency that nobody sees")
        resting = self.cycle.mode is not None and self.cycle.mode.rests
        if resting and decision.source is Layer.PLAN:
            self._note(f"{asset} follows the plan in mode {self.cycle.mode}")
        # An answer to the frequency knows no ramp; a setpoint of the grid operator has its own, at most the site's.
        at_once = ordered and asset == "ess-1" and self.answers
        if not first and step > allowed and not (forced or startup or at_once):
            self._note(f"{asset} {before} -> {value} faster than the ramp by {decision.layer.label}")
        if decision.source is Layer.OPERATOR and not any(
            c.expires is not None and c.expires > self.clock.monotonic() for c in self.commands
        ):
            self._note(f"{asset} follows a command that has ended")
        for limit in self.grid_limits:
            ended = limit.expires is not None and limit.expires <= self.clock.monotonic()
            if limit.asset_id == asset and not ended and not self.stopped:
                self._judge_grid_limit(limit, asset, value)
        blind = not (self._fresh("pcc") and self._fresh(asset))
        calm = decision.layer not in FORCING and not first
        if blind and calm and decision.source not in {Layer.FAIL_SAFE, Layer.EMERGENCY_STOP}:
            self._note(f"{asset} dispatched by {decision.source.label} without sight")
        if not self._fresh("pcc") and calm:
            nearer = abs(value - actuator.safe_kw) <= max(abs(before - actuator.safe_kw), least) + 0.03
            if not nearer and actuator is not GENSET:
                self._note(f"{asset} {before} -> {value} away from safety without a meter")

    def _judge_grid_limit(self, limit: GridOperatorLimit, asset: str, value: float) -> None:
        # The storage's own protection outranks the grid operator.
        protected = asset == "ess-1" and (
            self.soc <= 0.102 or self.soc >= 0.898 or min(self.limit_kw.values()) < 100 or self.alarms
        )
        if protected or not self.available:
            return
        if (limit.maximum is not None and value > limit.maximum + 0.03) or (
            limit.minimum is not None and value < limit.minimum - 0.03
        ):
            self._note(f"{asset} {value} outside the grid operator's limit")

    def _judge_storage(self) -> None:
        value = self.told["ess-1"]
        if not self._fresh("ess-1"):
            return
        if "ess-1" in self.lost:
            return
        if self.soc >= 0.9 and value < -0.01:
            self._note(f"charges {value} at {self.soc}")
        if self.soc <= 0.1 and value > 0.01:
            self._note(f"discharges {value} at {self.soc}")
        reach = max(self.soc - 0.9, 0.1 - self.soc, 0.0)
        drift = abs(value) / 0.95 / 3600 / 200
        if reach == 0.0 and abs(value) > 0.03 and (self.soc + drift > 0.9 if value < 0 else self.soc - drift < 0.1):
            self._note(f"{value} kW leaves the range within a second at {self.soc}")
        if value < -self.limit_kw["charge"] - 0.03 or value > self.limit_kw["discharge"] + 0.03:
            self._note(f"{value} outside the device's own limits {self.limit_kw}")
        if not self.available and abs(value) > EPS:
            self._note(f"{value} to a device that is not available")
        if abs(value) > EPS and self.alarms & FORBIDDEN["charge" if value < 0 else "discharge"]:
            self._note(f"{value} to a device with alarms {sorted(self.alarms)}")

    def _judge_reactive(self) -> None:
        for asset, device in self.devices.items():
            kvar = device.values.get((asset, REACTIVE_SETPOINT))
            if kvar is None:
                continue
            used = max(abs(self.told[asset]), abs(self.power[asset])) if asset == "ess-1" else abs(self.power[asset])
            if asset not in self.lost and asset not in self.blank and math.hypot(used, kvar) > S_KVA + 0.05:
                self._note(f"{asset} {kvar} kvar beside {used} kW is more than {S_KVA} kVA")
            if self.stopped and abs(kvar) > EPS:
                self._note(f"{asset} {kvar} kvar in spite of the emergency stop")

    def _judge_exchange(self) -> None:
        """With the load as it was measured, no setpoints may lead outside the PCC limits that others could keep."""
        if self.stopped or any(not self._fresh(name) or name in self.lost for name in self.devices):
            return
        low, high = -MODEL.export_limit_kw, MODEL.import_limit_kw
        for limit in self.grid_limits:
            if limit.asset_id == "pcc" and (limit.expires or 0.0) > self.clock.monotonic():
                low = max(low, -math.inf if limit.minimum is None else limit.minimum)
                high = min(high, math.inf if limit.maximum is None else limit.maximum)
        led_to = self.exchange_kw(self.reaction(self.told))
        if low - 0.1 <= led_to <= high + 0.1:
            return
        now = self.clock.monotonic()
        own = any(limit.asset_id != "pcc" and (limit.expires or 0.0) > now for limit in self.grid_limits)
        if own or not 0.11 < self.soc < 0.89 or not self.available or self.alarms:
            return
        reaction = self.reaction(self.told)
        if any(abs(reaction[name] - min(self.power[name], self.told[name])) > EPS for name in ("cold", "ev-1")):
            return  # consumers that plugged in or out since they were measured
        if reaction["pv-1"] < min(self.power["pv-1"], self.told["pv-1"]) - EPS:
            return  # the sun went in since it was measured
        best = dict(reaction)
        if led_to > high:
            best |= {"ess-1": self.limit_kw["discharge"], "cold": 0.0, "ev-1": 0.0}
            if self.exchange_kw(best) <= high:
                self._note(f"imports {led_to:.1f} kW, allowed {high}")
        else:
            best |= {"ess-1": -self.limit_kw["charge"], "pv-1": 0.0}
            if self.exchange_kw(best) >= low:
                self._note(f"exports {-led_to:.1f} kW, allowed {-low}")


def weather(seed: int, steps: int) -> list[str]:
    """Violations in one run of the storm."""
    return asyncio.run(Storm(seed).run(steps))
