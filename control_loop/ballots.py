"""Rounds of a vote between instances: the master asks and counts, the standbys answer.

Nothing here delays a cycle by more than a fixed share of it: the shared place is talked to in a thread of its own, and
whoever has not answered in time was absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from control_loop.alarms import CRITICAL, HIGH, LOW, START_S, Alarm, AlarmKey
from control_loop.arbitration import Decision
from control_loop.context import Context
from control_loop.dispatch import tolerance_kw
from control_loop.engine import Outcome, decide
from control_loop.model import Actuator, SiteModel
from control_loop.reactive import ReactiveControl
from control_loop.requests import Layer
from control_loop.shared_image import from_text, shared, to_text
from control_loop.voting import (
    ActuatorKey,
    Ballot,
    Result,
    Round,
    Standing,
    count_votes,
    digest_of,
    held_value,
    majority_of,
    safe_value,
)
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.store.ballots import BallotRow

IMAGE = ""
"""Name under which the master's image stands among the ballots."""

ANSWER_SHARE = 0.2
"""Share of the cycle the master waits for answers."""

LOOK_SHARE = 0.02
"""Share of the cycle between two looks for an image, or for answers."""

QUIET_ROUNDS = 3
"""After so many rounds without an answer an instance is no longer waited for."""

DISSENT_S = 60.0
"""How long an alarm of dissent stands after the last one: a fault that comes and goes is one fault."""


class BallotBox(Protocol):
    """The place that all instances see: one row for each, and one for the master's image."""

    def put(self, row: BallotRow) -> None:
        """Put a row in place of the one of the same instance."""
        ...

    def get(self, instance: str) -> BallotRow | None:
        """The row of one instance."""
        ...

    def rows(self) -> list[BallotRow]:
        """The rows of all instances; the image is not among them."""
        ...

    def remove(self, instance: str) -> None:
        """Take a row away."""
        ...

    def close(self) -> None:
        """End what is open."""
        ...


def ballot_row(ballot: Ballot) -> BallotRow:
    """A ballot as it is stored."""
    body = json.dumps([[*key, value] for key, value in ballot.values.items()])
    return BallotRow(ballot.instance, ballot.round.epoch, ballot.round.cycle, ballot.digest, body)


def ballot_of(row: BallotRow) -> Ballot:
    """A stored ballot; one whose values cannot be read is empty, so it dissents from everything."""
    try:
        values = {(str(asset), str(quantity)): float(value) for asset, quantity, value in json.loads(row.body)}
    except (ValueError, TypeError):
        values = {}
    return Ballot(row.instance, Round(row.epoch, row.cycle), row.digest, values)


def values_of(actuators: Sequence[Actuator], decisions: Mapping[ActuatorKey, Decision]) -> dict[ActuatorKey, float]:
    """What a ballot holds: each actuator's value."""
    keys = [(a.asset_id, a.quantity) for a in actuators]
    return {key: decisions[key].value for key in keys if key in decisions}


def keyed(actuators: Sequence[Actuator], decisions: Mapping[str, Decision]) -> dict[ActuatorKey, Decision]:
    """Decisions by asset as decisions by asset and quantity."""
    return {(a.asset_id, a.quantity): decisions[a.asset_id] for a in actuators if a.asset_id in decisions}


@dataclass(slots=True)
class _Asked:
    round: Round
    digest: str
    until: float
    task: asyncio.Future[list[BallotRow]]


class MasterVote:
    """The master's side: publishes each cycle's image, counts, and says what goes out.

    Parameters
    ----------
    box : BallotBox
        The shared place.
    instance : str
        This instance.
    voters : int
        How many instances are configured, this one among them; a majority of them must hold a value.
    model : SiteModel
        The site.
    reactive : ReactiveControl, optional
        The reactive actuators, voted on as well.
    """

    def __init__(
        self, box: BallotBox, instance: str, voters: int, model: SiteModel, reactive: ReactiveControl | None = None
    ) -> None:
        self.quorum = majority_of(voters)
        self.voters = voters
        self.result: Result | None = None
        self._box = box
        self._instance = instance
        self._model = model
        self._reactive = reactive
        self._actuators = (*model.actuators, *(() if reactive is None else reactive.model.actuators))
        self._tolerances = {(a.asset_id, a.quantity): tolerance_kw(a) for a in self._actuators}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballots")
        self._asked: _Asked | None = None
        self._under_way: asyncio.Future[list[BallotRow]] | None = None
        self._heard: dict[str, int] = {}
        self._began: float | None = None
        self._agreed: dict[ActuatorKey, float] = {}
        self._dissent: dict[str, tuple[float, str]] = {}
        self._missing_since: float | None = None
        self._alarms: dict[AlarmKey, Alarm] = {}
        self._away = False
        self._log = get_logger(__name__).bind(site=model.site_id)

    @property
    def alarms(self) -> Mapping[AlarmKey, Alarm]:
        """What the last round found."""
        return self._alarms

    def ask(self, context: Context, round_: Round) -> None:
        """Publish the image of a cycle, before this instance decides on it; returns at once."""
        if self._under_way is not None and not self._under_way.done():
            self._asked = None  # the shared place has not answered since an earlier round
            return
        body = to_text(shared(context, None if self._reactive is None else self._reactive.memory()))
        until = time.monotonic() + ANSWER_SHARE * self._model.cycle_s
        row = BallotRow(IMAGE, round_.epoch, round_.cycle, digest_of(body), body)
        recent = [name for name, cycle in self._heard.items() if round_.cycle - cycle <= QUIET_ROUNDS]
        expected = max(len(recent), self.quorum - 1)
        task = asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, row, expected, until)
        self._under_way = task
        self._asked = _Asked(round_, row.digest, until, task)

    async def settle(self, context: Context, own: Mapping[ActuatorKey, Decision]) -> dict[ActuatorKey, Decision]:
        """What goes out of this cycle, by actuator: the majority's decision, or the way to the safe value."""
        asked, ballots = self._asked, []
        if self._began is None:
            self._began = context.monotonic
        round_, digest = Round(0, 0), ""
        if asked is not None:
            round_, digest = asked.round, asked.digest
            await asyncio.wait([asked.task], timeout=max(0.0, asked.until - time.monotonic()) + self._slack_s)
            ballots = [ballot_of(row) for row in self._answers(asked)]
            ballots.append(Ballot(self._instance, round_, digest, values_of(self._actuators, own)))
        result = count_votes(
            ballots,
            self._actuators,
            self._tolerances,
            voters=self.voters,
            round_=round_,
            digest=digest,
            master=self._instance,
        )
        self.result = result
        decided, lost = self._decided(context, own, result)
        self._note(context.monotonic, result, lost)
        return decided

    async def close(self) -> None:
        """End the thread and the link to the shared place."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way], timeout=2.0)
        ending = asyncio.get_running_loop().run_in_executor(self._thread, self._box.close)
        await asyncio.wait([ending], timeout=2.0)
        self._thread.shutdown(wait=False)

    @property
    def _slack_s(self) -> float:
        return LOOK_SHARE * self._model.cycle_s

    def _exchange(self, image: BallotRow, expected: int, until: float) -> list[BallotRow]:
        self._box.put(image)
        for row in self._box.rows() if image.cycle == 1 else ():
            if row.epoch < image.epoch:  # left behind by an instance that died
                self._box.remove(row.instance)
        while True:
            rows = [row for row in self._box.rows() if row.instance != self._instance]
            answered = sum(
                (row.epoch, row.cycle, row.digest) == (image.epoch, image.cycle, image.digest) for row in rows
            )
            left = until - time.monotonic()
            if answered >= expected or left <= 0:
                return rows
            time.sleep(min(self._slack_s, left))

    def _answers(self, asked: _Asked) -> list[BallotRow]:
        if not asked.task.done():
            return []
        error = asked.task.exception()
        if error is not None:
            if not self._away:
                self._log.warning("no votes: the store cannot be reached", error=str(error))
            self._away = True
            return []
        self._away = False
        rows = asked.task.result()
        for row in rows:
            if row.epoch == asked.round.epoch:
                self._heard[row.instance] = row.cycle
        return rows

    def _decided(
        self, context: Context, own: Mapping[ActuatorKey, Decision], result: Result
    ) -> tuple[dict[ActuatorKey, Decision], list[str]]:
        now, decided, lost = context.monotonic, dict(own), []
        memory = None if self._reactive is None else self._reactive.memory().last
        for actuator in self._actuators:
            key = actuator.asset_id, actuator.quantity
            decision, vote = own.get(key), result.votes[key]
            if decision is None:
                continue
            if vote.standing is Standing.AGREED and vote.value is not None:
                self._agreed[key] = now
                if vote.instance != self._instance:
                    decided[key] = self._instead(decision, vote.value, f"majority of {self.voters} instances")
                continue
            hard = decision.hard_lower, decision.hard_upper
            if decision.source is Layer.EMERGENCY_STOP:
                hard = decision.value, decision.value
            if memory is not None and actuator not in self._model.actuators:
                state = memory.get(actuator.asset_id)
                last = 0.0 if state is None else state.value
            else:
                last = context.last_value(actuator)
            since = now - self._agreed.get(key, self._began or now)
            if vote.standing is Standing.ABSENT and since <= self._model.stale_after_s:
                value, reason = held_value(actuator, last, hard), "the vote is late; the last value stands"
            else:
                value = safe_value(actuator, last, self._model.ramp_kw_per_s * context.dt, hard)
                reason = f"no majority of {self.voters} instances: {vote.standing.value}"
                lost.append(actuator.asset_id)
            decided[key] = self._instead(decision, value, reason)
        return decided, lost

    @staticmethod
    def _instead(decision: Decision, value: float, reason: str) -> Decision:
        if value == decision.value:
            return decision
        return replace(decision, value=value, layer=Layer.FAIL_SAFE, reason=reason)

    def _note(self, now: float, result: Result, lost: Sequence[str]) -> None:
        for name, text in result.dissent.items():
            if name not in self._dissent:
                self._log.error("an instance dissents", instance=name, difference=text)
            self._dissent[name] = now, text
        self._dissent = {name: held for name, held in self._dissent.items() if now - held[0] <= DISSENT_S}
        found: list[Alarm] = []
        if self._dissent:
            texts = "; ".join(f"{name}: {text}" for name, (_, text) in sorted(self._dissent.items()))
            found.append(Alarm("control_dissent", None, HIGH, f"instance outvoted: {texts}"))
        if lost:
            message = f"{len(result.present)} of {self.voters} instances voted, no majority for {', '.join(lost)}"
            found.append(Alarm("control_no_majority", None, CRITICAL, f"{message}; going to safe values"))
        if len(result.present) >= self.voters:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        if self._missing_since is not None and now - self._missing_since > START_S:
            gone = sorted(set(self._heard) - set(result.present))
            text = f"{len(result.present)} of {self.voters} instances vote"
            shown = f"{text}; silent: {', '.join(gone)}" if gone else text
            found.append(Alarm("control_voters_missing", None, LOW, shown))
        self._alarms = {alarm.key: alarm for alarm in found}


class Voter:
    """A standby's side: computes on each image the master publishes, and casts a ballot.

    Parameters
    ----------
    box : BallotBox
        The shared place.
    instance : str
        This instance.
    model : SiteModel
        The site, by this instance's own configuration.
    reactive : ReactiveControl, optional
        Its reactive control.
    decide : callable
        The engine.
    """

    def __init__(
        self,
        box: BallotBox,
        instance: str,
        model: SiteModel,
        reactive: ReactiveControl | None = None,
        *,
        decide: Callable[[Context], Outcome] = decide,
    ) -> None:
        self._box = box
        self._instance = instance
        self._model = model
        self._reactive = reactive
        self._decide = decide
        self._seen = Round(-1, -1)
        self._log = get_logger(__name__).bind(site=model.site_id)

    def look(self) -> bool:
        """Answer the newest image, if there is a new one; says whether there was.

        Raises
        ------
        ValueError
            The image cannot be read, or is not what its digest says; there is no ballot on it.
        """
        row = self._box.get(IMAGE)
        if row is None or Round(row.epoch, row.cycle) <= self._seen:
            return False
        self._seen = Round(row.epoch, row.cycle)
        if digest_of(row.body) != row.digest:
            raise ValueError(f"image of cycle {row.cycle}: its digest is another")
        image = from_text(row.body)
        context = image.context(self._model)
        active = self._decide(context).decisions
        values = values_of(self._model.actuators, keyed(self._model.actuators, active))
        if self._reactive is not None:
            actuators = self._reactive.model.actuators
            reactive = self._reactive.decide_from(image.reactive, context, active)
            values |= values_of(actuators, keyed(actuators, reactive))
        self._box.put(ballot_row(Ballot(self._instance, self._seen, row.digest, values)))
        return True

    def run(self, stop: threading.Event) -> None:
        """Answer images until `stop` is set; blocks, so it wants a thread of its own."""
        cycle_s, told = self._model.cycle_s, False
        pause = LOOK_SHARE * cycle_s
        while not stop.wait(pause):
            try:
                # The next image comes a cycle later: most of that need not be watched.
                pause = (0.8 if self.look() else LOOK_SHARE) * cycle_s
                told = False
            except Exception as error:
                if not told:
                    self._log.warning("cannot vote", error=str(error) or type(error).__name__)
                told, pause = True, cycle_s
        with contextlib.suppress(Exception):
            self._box.remove(self._instance)
        self._box.close()
