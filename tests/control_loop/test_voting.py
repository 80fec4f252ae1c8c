"""Setpoints by majority: one instance that is wrong is outvoted and named, one that is gone is not missed."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from control_loop.arbitration import Decision
from control_loop.ballots import MasterVote, Voter
from control_loop.cli import app
from control_loop.context import Context
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.engine import Outcome, decide
from control_loop.model import REACTIVE_SETPOINT, Actuator, CurtailmentRules, SiteModel
from control_loop.protocols.base import MemoryDriver
from control_loop.reactive import ReactiveControl
from control_loop.service import ControlService
from control_loop.shared_image import from_text, shared, to_text
from control_loop.voting import Ballot, Result, Round, Standing, count_votes, held_value, majority_of, safe_value
from flexergy_pipelines.grid import ReactiveRule
from flexergy_pipelines.grid.clock import SimulatedClock
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.ballots import BallotRow, StoreBallots
from tests.control_loop.harness import (
    ESS,
    GENSET,
    LIMIT,
    LOAD,
    MEASURED,
    MODEL,
    NOW,
    PV,
    SETPOINT,
    plan_of,
    point,
    situation,
)

E, P = (ESS.asset_id, ESS.quantity), (PV.asset_id, PV.quantity)
TOLERANCES = {E: 0.02, P: 0.02}
ROUND = Round(3, 17)


def ballot(name: str, ess: float | None, pv: float = 60.0, **other: object) -> Ballot:
    values = {P: pv} if ess is None else {E: ess, P: pv}
    return replace(Ballot(name, ROUND, "d", values), **other)  # pyright: ignore[reportArgumentType]


def count(ballots: list[Ballot], voters: int = 3) -> Result:
    return count_votes(ballots, [ESS, PV], TOLERANCES, voters=voters, round_=ROUND, digest="d", master="a")


CASES = [
    ([ballot("a", 20.0), ballot("b", 20.0), ballot("c", 20.0)], 3, Standing.AGREED, 20.0, []),
    ([ballot("a", 20.0), ballot("b", 20.01), ballot("c", 20.0)], 3, Standing.AGREED, 20.0, []),
    ([ballot("a", 20.0), ballot("b", 20.0), ballot("c", 50.0)], 3, Standing.AGREED, 20.0, ["c"]),
    ([ballot("a", 50.0), ballot("b", 20.0), ballot("c", 20.0)], 3, Standing.AGREED, 20.0, ["a"]),
    ([ballot("a", math.nan), ballot("b", 20.0), ballot("c", 20.0)], 3, Standing.AGREED, 20.0, ["a"]),
    ([ballot("a", 20.0), ballot("b", None), ballot("c", 20.0)], 3, Standing.AGREED, 20.0, ["b"]),
    ([ballot("a", 20.0), ballot("b", 20.0)], 3, Standing.AGREED, 20.0, []),
    ([ballot("a", 20.0), ballot("b", 50.0)], 3, Standing.DISPUTED, None, []),
    ([ballot("a", 10.0), ballot("b", 20.0), ballot("c", 30.0)], 3, Standing.DISPUTED, None, []),
    ([ballot("a", 20.0)], 3, Standing.ABSENT, None, []),
    ([ballot("a", 20.0), ballot("a", 20.0)], 3, Standing.ABSENT, None, []),  # nobody votes twice
    ([ballot("a", 20.0), ballot("b", 20.0, digest="other")], 3, Standing.ABSENT, None, []),
    ([ballot("a", 20.0), ballot("b", 20.0, round=Round(3, 16))], 3, Standing.ABSENT, None, []),
    ([ballot("a", 20.0), ballot("b", 20.0, round=Round(2, 17))], 3, Standing.ABSENT, None, []),
    ([ballot(n, 20.0) for n in "ab"], 4, Standing.ABSENT, None, []),
    ([ballot(n, 20.0) for n in "abc"] + [ballot(n, 9.0) for n in "de"], 5, Standing.AGREED, 20.0, ["d", "e"]),
]  # fmt: skip


@pytest.mark.parametrize(("ballots", "voters", "standing", "value", "outvoted"), CASES)
def test_the_majority_of_all_configured_instances_decides(
    ballots: list[Ballot], voters: int, standing: Standing, value: float | None, outvoted: list[str]
) -> None:
    result = count(ballots, voters)
    assert (result.votes[E].standing, result.votes[E].value) == (standing, value)
    assert list(result.dissent) == outvoted


def test_the_values_of_several_actuators_come_from_one_instance() -> None:
    result = count([ballot("a", 20.0, 61.0), ballot("b", 20.01, 60.0), ballot("c", 20.02, 60.0)])
    # The master agrees on the battery, but its setpoints as a whole are not the majority's.
    assert {vote.instance for vote in result.votes.values()} == {"b"}
    assert result.dissent == {"a": "pv-1 61 kW instead of 60 kW"}


@given(
    st.integers(3, 9),
    st.lists(st.sampled_from([20.0, 20.005, 0.0, -100.0, 1e9, math.nan, math.inf]), max_size=9),
    st.permutations(range(9)),
)
def test_what_is_sent_was_held_by_a_majority_whatever_the_ballots_and_their_order(
    voters: int, values: list[float], order: list[int]
) -> None:
    ballots = [ballot(f"i{number}", value) for number, value in enumerate(values[:voters])]
    result = count(ballots, voters)
    vote = result.votes[E]
    held = [v for v in values[:voters] if vote.value is not None and abs(v - vote.value) <= TOLERANCES[E]]
    assert (vote.standing is Standing.AGREED) == (vote.value is not None)
    assert vote.value is None or (vote.value in values and len(held) >= majority_of(voters))
    for value in {v for v in values[:voters] if math.isfinite(v)}:
        if values[:voters].count(value) >= majority_of(voters):
            assert vote.value == pytest.approx(value, abs=TOLERANCES[E])
    shuffled = [ballots[i] for i in order if i < len(ballots)]
    assert count(shuffled, voters) == result


STEPPED = replace(LOAD, safe_kw=5.0, curtailment=CurtailmentRules((0.5,)))  # between its steps it has no value
WAYS = [
    (ESS, 60.0, (-100.0, 100.0), 35.0, 60.0),
    (ESS, -10.0, (-100.0, 100.0), 0.0, -10.0),
    (ESS, 60.0, (-100.0, 20.0), 20.0, 20.0),
    (ESS, 60.0, (70.0, 100.0), 35.0, 60.0),  # a limit asks for more: perhaps it is that which is wrong
    (ESS, 60.0, (-100.0, -30.0), 0.0, 0.0),
    (PV, 120.0, (0.0, 0.0), 0.0, 0.0),
    (PV, 70.0, (0.0, 120.0), 60.0, 70.0),
    (GENSET, 40.0, (0.0, 80.0), 0.0, 40.0),  # between rest and its least power it cannot run
    (GENSET, 40.0, (0.0, 10.0), 0.0, 0.0),
    (STEPPED, 40.0, (0.0, 40.0), 5.0, 40.0),
]


@pytest.mark.parametrize(("actuator", "last", "hard", "safe", "held"), WAYS)
def test_without_a_majority_the_way_leads_to_the_safe_value_and_never_up(
    actuator: Actuator, last: float, hard: tuple[float, float], safe: float, held: float
) -> None:
    assert safe_value(actuator, last, 25.0, hard) == safe
    assert held_value(actuator, last, hard) == held


def test_too_few_instances_cannot_vote(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a majority needs at least 3"):
        majority_of(2)
    with pytest.raises(ValueError, match="the lease must be in the store"):
        ControlService(Settings(home=tmp_path, database_url=None, tenant="demo"), vote=3)
    for wrong in (["--vote", "2"], ["--vote", "3", "--lease", "file"]):
        assert CliRunner().invoke(app, wrong).exit_code == 2


def test_an_image_comes_back_as_it_was_and_decides_the_same() -> None:
    plan = plan_of({f"ess-1.{SETPOINT}": 40.0, f"pv-1.{LIMIT}": 90.0})
    for measured in ({}, {"pcc.active_power_kw": None}, {"ess-1.soc": 0.1}, {"pv-1.active_power_kw": -math.inf}):
        before = situation(measured, plan=plan, ages={"cold": 7.0}, since={"ess-1": -math.inf})
        before.image.distrust(["ev-1"])
        image = from_text(to_text(shared(before)))
        assert decide(image.context(MODEL)) == decide(before)
        assert to_text(image) == to_text(shared(image.context(MODEL)))


class Box:
    """A shared place in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, BallotRow] = {}
        self.closed = False

    def put(self, row: BallotRow) -> None:
        self.kept[row.instance] = row

    def get(self, instance: str) -> BallotRow | None:
        return self.kept.get(instance)

    def rows(self) -> list[BallotRow]:
        return [row for name, row in list(self.kept.items()) if name]

    def remove(self, instance: str) -> None:
        self.kept.pop(instance, None)

    def close(self) -> None:
        self.closed = True


def too_much(context: Context) -> Outcome:
    """An engine with a fault: its battery always gives 90 kW."""
    outcome = decide(context)
    broken: dict[str, Decision] = dict(outcome.decisions)
    broken["ess-1"] = replace(broken["ess-1"], value=90.0)
    return replace(outcome, decisions=broken)  # pyright: ignore[reportArgumentType]


@dataclass
class Instances:
    """A master on in-memory devices, and what it has done."""

    cycle: ControlCycle
    clock: SimulatedClock
    device: MemoryDriver
    rounds: list[Result]
    runner: asyncio.Runner

    def run(self, count: int) -> list[CycleReport]:
        async def cycles() -> list[CycleReport]:
            reports = []
            for _ in range(count):
                reports.append(await self.cycle.run_once(self.clock.now()))
                assert self.cycle.vote is not None
                assert self.cycle.vote.result is not None
                self.rounds.append(self.cycle.vote.result)
                self.clock.advance(self.cycle.model.cycle_s)
            return reports

        return self.runner.run(cycles())

    def close(self) -> None:
        self.runner.run(self.cycle.close())
        self.runner.close()

    @property
    def ess(self) -> float | None:
        return self.device.values[point(f"ess-1.{SETPOINT}")]


def reactive_control(model: SiteModel) -> ReactiveControl:
    actuator = Actuator("ess-1", "ess", REACTIVE_SETPOINT, "esc-1", -100.0, 100.0)
    rule = ReactiveRule(asset="ess-1", mode="cos_phi", cos_phi=0.95, supplies=True)
    return ReactiveControl(replace(model, actuators=(actuator,)), [rule])


def instances(box: object, decides: Callable[[Context], Outcome] = decide, *, wait_s: float = 2.0) -> Instances:
    """The master of three, whose cycle is long enough that a busy machine makes nobody late."""
    clock = SimulatedClock(NOW)
    values = {point(name): value for name, value in MEASURED.items()}
    values |= {(a.asset_id, a.quantity): a.idle_kw for a in MODEL.actuators} | {("ess-1", REACTIVE_SETPOINT): 0.0}
    device = MemoryDriver("all", values)
    slow = replace(MODEL, cycle_s=5 * wait_s, setpoint_ttl_s=100.0)
    reactive = reactive_control(slow)
    vote = MasterVote(box, "a", 3, slow, reactive)  # pyright: ignore[reportArgumentType]
    cycle = ControlCycle(slow, [device], clock, vote=vote, decide=decides, reactive=reactive)
    cycle.plan = plan_of({f"ess-1.{SETPOINT}": 20.0})
    return Instances(cycle, clock, device, [], asyncio.Runner())


@contextmanager
def standing_by(*voters: Voter) -> Iterator[None]:
    """Let voters answer as they do in the service, but look without a pause."""
    stop = threading.Event()

    def answer(voter: Voter) -> None:
        while not stop.wait(0.002):
            voter.look()

    threads = [threading.Thread(target=answer, args=(voter,)) for voter in voters]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.requirement("sysavailability.01.1")
@pytest.mark.parametrize("wrong", ["a", "b", None])
def test_of_three_instances_in_the_store_one_that_is_wrong_is_outvoted_and_named(
    db: TenantStore, wrong: str | None
) -> None:
    with closing(StoreBallots(db, "x")) as b, closing(StoreBallots(db, "x")) as c:
        three = instances(StoreBallots(db, "x"), too_much if wrong == "a" else decide)
        model = three.cycle.model
        other = Voter(b, "b", model, reactive_control(model), decide=too_much if wrong == "b" else decide)
        with standing_by(other, Voter(c, "c", model, reactive_control(model))):
            reports = three.run(4)
            three.close()
    assert three.ess == 20.0
    assert len(three.rounds[-1].votes) == len(MODEL.actuators) + 1
    alarms = {code: alarm.message for (code, _), alarm in reports[-1].alarms.items() if code.startswith("control_")}
    assert set(alarms) == ({"control_dissent"} if wrong else set())
    if wrong:
        assert f"outvoted: {wrong}: ess-1" in alarms["control_dissent"]
        assert "90 kW instead of 20 kW" in alarms["control_dissent"]


@pytest.mark.requirement("sysavailability.01.1")
def test_one_dead_instance_does_not_matter_and_with_two_dead_the_site_goes_to_safe_values() -> None:
    box = Box()
    three = instances(box, wait_s=0.4)
    model = three.cycle.model
    with standing_by(Voter(box, "b", model, reactive_control(model))):
        reports = three.run(18)
    assert three.ess == 20.0
    assert three.rounds[-1].present == ("a", "b")
    missing = {code: alarm for (code, _), alarm in reports[-1].alarms.items() if code.startswith("control_")}
    assert missing["control_voters_missing"].message == "2 of 3 instances vote"
    assert set(missing) == {"control_voters_missing"}
    # The last other one dies: for three cycles the last value stands, then the safe one.
    alone = three.run(3)
    assert three.ess == 20.0
    assert ("control_no_majority", None) not in alone[-1].alarms
    alone = three.run(3)
    assert three.ess == 0.0
    assert "1 of 3 instances voted" in alone[-1].alarms["control_no_majority", None].message
    assert "no majority" in alone[-1].decisions["ess-1"].reason
    with standing_by(Voter(box, "d", model, reactive_control(model))):
        healed = three.run(3)
    assert three.ess == 20.0
    assert ("control_no_majority", None) not in healed[-1].alarms
    three.close()
    assert box.closed


def test_two_that_disagree_send_nothing_but_safe_values() -> None:
    box = Box()
    three = instances(box)
    with standing_by(Voter(box, "b", three.cycle.model, reactive_control(three.cycle.model), decide=too_much)):
        reports = three.run(2)
    assert three.ess == 0.0
    assert ("control_no_majority", None) in reports[-1].alarms
    three.close()


def test_an_image_that_was_changed_on_its_way_is_not_voted_on() -> None:
    box = Box()
    text = to_text(shared(situation()))
    box.put(BallotRow("", 1, 1, "another", text))
    with pytest.raises(ValueError, match="its digest is another"):
        Voter(box, "b", MODEL).look()
    assert box.rows() == []
