"""The spool and the outbox: the store may go away, nothing is lost and nothing is told twice."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_loop.alarms import Alarm, AlarmKey
from control_loop.image import ProcessImage
from control_loop.news import News, StoredCommand
from control_loop.outbox import READINGS, SETPOINTS, Outbox
from control_loop.protocols.backoff import Backoff
from control_loop.spool import Spool, SpoolError, spool_or_memory
from control_loop.telemetry import PointPolicy, TelemetryFilter
from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.clock import SimulatedClock
from flexergy_pipelines.store import InvalidDataError

START = datetime(2026, 3, 10, tzinfo=UTC)

actions = st.lists(st.sampled_from(["append", "append", "append", "take", "take_and_crash", "restart"]), max_size=40)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(actions)
def test_every_batch_arrives_in_order_whatever_happens_between(tmp_path_factory: Any, todo: list[str]) -> None:
    path = tmp_path_factory.mktemp("spool") / "s.sqlite"
    spool = Spool(path)
    sent: list[int] = []
    arrived: list[int] = []
    for action in [*todo, "restart", "take", "take", "take", "take", "take", "take", "take", "take", "take"]:
        if action == "append":
            sent.append(len(sent))
            spool.append(READINGS, [[sent[-1]]])
        elif action == "restart":
            spool.close()
            spool = Spool(path)
        else:
            batches = spool.peek(5)
            arrived += [batch.rows[0][0] for batch in batches]
            if action == "take":
                spool.confirm(batches)
    assert list(dict.fromkeys(arrived)) == sent
    assert spool.waiting == 0
    spool.close()


def test_a_batch_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.sqlite")
    spool.append(READINGS, [["ess-1", START, None]])
    # Another reader sees it without the writer closing or flushing anything, as it would after a kill.
    with sqlite3.connect(tmp_path / "s.sqlite") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT rows FROM batch").fetchall() == [('[["ess-1","2026-03-10T00:00:00+00:00",null]]',)]
    assert spool.peek()[0].rows == [["ess-1", "2026-03-10T00:00:00+00:00", None]]
    spool.close()


def test_a_full_spool_gives_up_the_oldest_and_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.sqlite", max_bytes=100)
    for number in range(50):
        spool.append(READINGS, [[number, "x" * 10]])
    kept = [batch.rows[0][0] for batch in spool.peek()]
    assert kept == list(range(50 - len(kept), 50))
    assert spool.dropped == 50 - len(kept) == 50 - spool.waiting
    spool.close()


def test_a_spool_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").mkdir()
    with pytest.raises(SpoolError, match=r"s\.sqlite: unable to open database file"):
        Spool(tmp_path / "s.sqlite")
    memory = spool_or_memory(tmp_path / "s.sqlite")  # a site is controlled all the same
    memory.append(READINGS, [[1]])
    assert [batch.rows for batch in memory.peek()] == [[[1]]]
    assert "s.sqlite: unable to open database file" in memory.problem
    memory.close()


def filled(path: Path, batches: int = 300) -> None:
    spool = Spool(path)
    for number in range(batches):
        spool.append(READINGS, [[number, "x" * 500]])
    spool.close()


DAMAGES = {
    "no database": lambda _content: b"not a database, but long enough to be looked at as one " * 20,
    "middle overwritten": lambda content: content[:60_000] + b"\xa5" * 20_000 + content[80_000:],
    "tail cut": lambda content: content[: len(content) * 2 // 3 + 1000],
    "head zeroed": lambda content: bytes(16) + content[16:],
}


@pytest.mark.requirement("asset.04.1")
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_spool_is_set_aside_and_what_can_be_read_of_it_waits_on(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.sqlite"
    filled(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    spool = Spool(path)
    spool.append(READINGS, [[300, "new"]])
    arrived: list[int] = []
    while batches := spool.peek(50):
        arrived += [batch.rows[0][0] for batch in batches]
        spool.confirm(batches)
    assert arrived == sorted(set(arrived))
    assert arrived[-1] == 300
    assert len(arrived) >= (1 if damage in {"no database", "head zeroed"} else 150)
    assert (spool.problem != "") == (list(tmp_path.glob("s.sqlite.damaged-*")) != [])
    assert spool.waiting == 0
    spool.close()
    assert Spool(path).problem == ""


def test_a_batch_that_makes_no_sense_is_given_up_and_counted(tmp_path: Path) -> None:
    filled(tmp_path / "s.sqlite", 3)
    with sqlite3.connect(tmp_path / "s.sqlite") as other:
        other.execute("UPDATE batch SET rows = 'gibberish' WHERE id = 2")
    other.close()
    spool = Spool(tmp_path / "s.sqlite")
    assert [batch.rows[0][0] for batch in spool.peek()] == [0, 2]
    assert (spool.dropped, spool.waiting) == (1, 2)
    spool.close()


def test_what_was_taken_is_not_handed_out_again_when_it_cannot_be_forgotten(tmp_path: Path) -> None:
    filled(tmp_path / "s.sqlite", 5)
    spool = Spool(tmp_path / "s.sqlite")
    with sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None) as other:
        spool._db.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")  # as on a full disk: nothing can be written
        spool.confirm(spool.peek(2))
        assert [batch.rows[0][0] for batch in spool.peek(2)] == [2, 3]
        other.execute("ROLLBACK")
    other.close()
    spool.confirm(spool.peek(2))
    assert (spool.waiting, [batch.rows[0][0] for batch in spool.peek()]) == (1, [4])
    spool.close()


class FakeGateway:
    """A store in memory that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.readings: list[Sequence[Any]] = []
        self.setpoints: list[Sequence[Any]] = []
        self.live: list[Sequence[Any]] = []
        self.alarms: set[AlarmKey] = {("meter_lost", "pcc")}
        self.replans: list[str] = []
        self.answers: list[tuple[int, str, str]] = []
        self.refused: set[Any] = set()

    def _there(self) -> None:
        if self.away:
            raise ConnectionError("the database is restarting")

    def load_site(self) -> Site:
        raise LookupError("the outbox loads no site")

    def news(self, at: datetime) -> News:
        self._there()
        assert at.tzinfo is not None
        return News(commands=[StoredCommand(1, None, "emergency_stop", 1.0, "smoke", "olga", None)])

    def acknowledge(self, command_id: int, status: str, message: str) -> None:
        self._there()
        self.answers.append((command_id, status, message))

    def write_live(self, rows: Sequence[Sequence[Any]]) -> None:
        self._there()
        self.live = list(rows)

    def write_readings(self, rows: Sequence[Sequence[Any]]) -> None:
        self._there()
        if any(row[0] in self.refused for row in rows):
            raise InvalidDataError("point is not one of the site")
        self.readings += rows

    def write_setpoints(self, rows: Sequence[Sequence[Any]]) -> None:
        self._there()
        self.setpoints += rows

    def raise_alarm(self, alarm: Alarm) -> None:
        self._there()
        self.alarms.add(alarm.key)

    def clear_alarm(self, key: AlarmKey) -> None:
        self._there()
        self.alarms.discard(key)

    def standing_alarms(self) -> set[AlarmKey]:
        self._there()
        return set(self.alarms)

    def request_replan(self, reason: str) -> None:
        self._there()
        self.replans.append(reason)


class Post:
    """An outbox without threads, on a clock that only the test moves."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = SimulatedClock(START)
        self.gateway = FakeGateway()
        self.spool = Spool(tmp_path / "s.sqlite")
        self.news: list[int] = []
        self.outbox = Outbox(
            self.gateway,
            self.spool,
            self.clock,
            lambda news: self.news.append(len(news.commands)),
            backoff=Backoff(1.0, 30.0),
        )

    def round(self, seconds: float = 1.0) -> None:
        self.outbox.to_disk()
        self.outbox.work()
        self.clock.advance(seconds)


@pytest.mark.requirement("asset.04.1")
def test_a_days_backlog_keeps_neither_screens_nor_commands_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Post(tmp_path)
    for number in range(1000):
        post.spool.append(READINGS, [["ess-1", number]])

    def slowly(rows: Sequence[Sequence[Any]]) -> None:
        post.gateway.readings += rows
        post.clock.advance(0.4)

    monkeypatch.setattr(post.gateway, "write_readings", slowly)
    seen: list[tuple[int, int]] = []
    for number in range(4):
        post.outbox.live([("ess-1", "soc", START, number, 0)])
        post.outbox.acknowledge(number, "done", "")
        post.outbox.work()
        seen.append((post.gateway.live[0][3], len(post.gateway.readings)))
    assert seen == [(0, 400), (1, 800), (2, 1000), (3, 1000)]
    assert [answer[0] for answer in post.gateway.answers] == [0, 1, 2, 3]


@pytest.mark.requirement("asset.04.1")
def test_a_day_without_the_store_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for minute in range(24 * 60):
        post.gateway.away = 10 <= minute < 24 * 60 - 5
        post.outbox.keep(READINGS, [("ess-1", minute)])
        post.outbox.keep(SETPOINTS, [("ess-1", minute)] if minute % 60 == 0 else [])
        post.round(60.0)
    assert [row[1] for row in post.gateway.readings] == list(range(24 * 60))
    assert [row[1] for row in post.gateway.setpoints] == list(range(0, 24 * 60, 60))
    assert post.spool.waiting == 0
    assert not post.outbox.store_away


def test_a_row_that_the_store_will_never_take_does_not_hold_up_the_others(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.gateway.away = True
    for names in (("a",), ("b", "bad", "c"), ("d",)):
        post.outbox.keep(READINGS, [(name,) for name in names])
        post.round(60.0)
    post.gateway.away = False
    post.gateway.refused = {"bad"}
    post.round(60.0)
    assert post.gateway.readings == [["a"], ["b"], ["c"], ["d"]]
    assert post.spool.waiting == 0


def test_alarms_are_told_once_and_those_of_an_earlier_run_are_cleared(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.round()
    assert post.gateway.alarms == {("meter_lost", "pcc")}  # before the first cycle nobody knows better
    alarm = Alarm("no_plan", None, 3, "no plan")
    post.outbox.alarms({alarm.key: alarm})
    post.gateway.away = True
    post.round()
    post.gateway.away = False
    post.round(60.0)
    post.round()
    assert post.gateway.alarms == {("no_plan", None)}
    post.outbox.alarms({})
    post.round()
    assert post.gateway.alarms == set()


def test_wishes_wait_for_the_store_and_live_values_do_not(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.gateway.away = True
    post.outbox.replan("deviation")
    post.outbox.acknowledge(4, "refused", "too much")
    for value in range(3):
        post.outbox.live([("ess-1", "soc", START, value, 0)])
        post.round(60.0)
    assert post.news == []
    post.gateway.away = False
    post.outbox.live([("ess-1", "soc", START, 9, 0)])
    post.round(60.0)
    assert post.gateway.replans == ["deviation"]
    assert post.gateway.answers == [(4, "refused", "too much")]
    assert post.gateway.live == [("ess-1", "soc", START, 9, 0)]
    assert post.news == [1]


@pytest.mark.requirement("asset.04.3")
def test_readings_are_kept_cyclically_and_when_they_leave_their_band() -> None:
    policies = {"soc": PointPolicy(60.0, 0.01), "active_power_kw": PointPolicy(30.0)}
    kept = TelemetryFilter(lambda _asset, quantity: policies[quantity])
    image = ProcessImage()
    rows = []
    for second in range(61):
        soc = 0.5 + (0.02 if 10 <= second < 20 else 0.0)
        image.update(
            {("ess-1", "soc"): soc, ("ess-1", "active_power_kw"): float(second)}, START + timedelta(seconds=second),
            float(second),
        )  # fmt: skip
        rows += [(second, row[1], row[3]) for row in kept.select(image)]
        assert kept.select(image) == []
    assert [row for row in rows if row[1] == "soc"] == [(0, "soc", 0.5), (10, "soc", 0.52), (20, "soc", 0.5)]
    assert [row[0] for row in rows if row[1] == "active_power_kw"] == [0, 30, 60]


@pytest.mark.requirement("asset.04.3")
@pytest.mark.parametrize("period_s", [1.0, 10.0, 60.0])
def test_a_period_is_kept_although_no_cycle_comes_on_the_dot(period_s: float) -> None:
    kept = TelemetryFilter(lambda _asset, _quantity: PointPolicy(period_s))
    image = ProcessImage()
    jitter = itertools.cycle((0.0, 0.012, -0.011, 0.03, -0.03, 0.001))
    times = []
    for second, off in zip(range(301), jitter, strict=False):
        image.update({("ess-1", "soc"): 0.5}, START + timedelta(seconds=second), second + off)
        times += [second] * len(kept.select(image))
    assert times == list(range(0, 301, round(period_s)))


def test_a_value_that_goes_missing_is_kept_as_missing_at_once() -> None:
    kept = TelemetryFilter(lambda _asset, _quantity: PointPolicy(60.0))
    image = ProcessImage()
    image.update({("ess-1", "soc"): 0.5}, START, 0.0)
    kept.select(image)
    image.update({("ess-1", "soc"): float("nan")}, START, 1.0)
    assert kept.select(image) == [("ess-1", "soc", START, None, 3)]


@given(st.floats(0.1, 5), st.floats(5, 100), st.integers(1, 60))
def test_waits_between_tries_are_bounded_and_start_afresh_after_success(
    first: float, longest: float, failures: int
) -> None:
    backoff = Backoff(first, longest)
    for number in range(failures):
        backoff.failed(100.0)
        nominal = min(longest, first * 2.0**number)
        assert 0.5 * nominal * 0.999 <= backoff.wait_s(100.0) <= nominal * 1.001
        assert not backoff.ready(100.0)
    assert backoff.ready(100.0 + longest)
    backoff.succeeded()
    assert backoff.ready(100.0)


def test_a_disk_that_is_full_keeps_nothing_from_a_store_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Post(tmp_path)

    def refuse(kind: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            raise SpoolError(f"spool: {kind}: database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(post.spool, "append", refuse)
        post.gateway.away = True
        post.outbox.keep(READINGS, [["first"]])
        post.round()
        assert post.gateway.readings == []
        post.gateway.away = False
        post.outbox.keep(SETPOINTS, [["second"]])
        post.round(60.0)
        assert (post.gateway.readings, post.gateway.setpoints) == ([["first"]], [["second"]])
    post.outbox.keep(READINGS, [["third"]])
    post.round()
    post.round()
    assert post.gateway.readings == [["first"], ["third"]]
