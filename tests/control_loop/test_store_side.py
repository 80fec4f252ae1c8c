"""The loop and a real store: plan and commands in, live values, history, setpoints and alarms out."""

from __future__ import annotations

import asyncio
import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from control_loop.cycle import ControlCycle
from control_loop.gateway import StoreGateway
from control_loop.load_memory import remembered_loads
from control_loop.news import News
from control_loop.outbox import Outbox
from control_loop.protocols.base import MemoryDriver
from control_loop.site_loop import SiteLoop
from control_loop.site_model import model_of, reactive_of, telemetry_filter
from control_loop.spool import Spool
from flexergy_pipelines.grid import SimulatedClock, points_of
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.operation.grid_orders import give_order, orders_between, withdraw_order
from flexergy_pipelines.operation.modes import schedule_mode
from flexergy_pipelines.store import TenantStore, plans
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.commands import open_commands, pending_replans, write_command
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.frequency_curves import FrequencyCurve, write_frequency_curve
from flexergy_pipelines.store.live import read_live
from flexergy_pipelines.store.plans import PlanRecord, read_plan_values, write_plan
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.setpoints import latest_setpoints, read_setpoints
from flexergy_pipelines.store.sites import save_site
from tests.control_loop.harness import NOW, SETPOINT

SITE = sample_site("microgrid")
HOUR = timedelta(hours=1)


class Rig:
    """The sample microgrid's loop on in-memory devices, a real store, and a clock that the test moves."""

    def __init__(self, db: TenantStore, folder: Path) -> None:
        self.db = db
        self.clock = SimulatedClock(NOW)
        self.drivers: dict[str, MemoryDriver] = {}
        for device in SITE.devices():
            values = {
                (p.asset_id, p.quantity): 0.0 if p.minimum <= 0 <= p.maximum else p.minimum
                for a in device.assets
                for p in points_of(a)
            }
            self.drivers[device.id] = MemoryDriver(device.id, dict(values))
        self.drivers["esc-1"].values.update(
            {("ess-1", "soc"): 0.5, ("ess-1", "available"): 1.0, ("ess-1", "max_charge_kw"): 250.0}
            | {("ess-1", "max_discharge_kw"): 250.0}
        )
        cycle = ControlCycle(model_of(SITE), list(self.drivers.values()), self.clock, reactive=reactive_of(SITE, 1))
        self.spool = Spool(folder / "spool.sqlite")
        self.outbox = Outbox(
            StoreGateway(db, SITE.id),
            self.spool,
            self.clock,
            self._news,
        )
        self.loop = SiteLoop(cycle, self.outbox, telemetry_filter(SITE), self.clock)

    def _news(self, news: News) -> None:
        self.loop.take_news(news)

    def run(self, cycles: int) -> None:
        async def steps() -> None:
            for _ in range(cycles):
                self.outbox.look()
                self.outbox.work()
                await self.loop.step(self.clock.now())
                self.clock.advance(1.0)
            self.outbox.to_disk()
            self.outbox.work()

        asyncio.run(steps())

    def plan(self, setpoint_kw: float, soc: float = 0.5) -> int:
        times = [NOW + timedelta(minutes=15 * i) for i in range(4)]
        rows = [("ess-1", SETPOINT, t, setpoint_kw) for t in times] + [("ess-1", "soc", t, soc) for t in times]
        schema = {"asset_id": pl.String, "quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}
        record = PlanRecord(SITE.id, "day_ahead", NOW, NOW, NOW + HOUR, 15, "optimal")
        return write_plan(self.db, record, pl.DataFrame(rows, schema=schema, orient="row"))


@pytest.fixture
def rig(db: TenantStore, tmp_path: Path) -> Rig:
    save_site(db, SITE)
    return Rig(db, tmp_path)


@pytest.mark.requirement("energy.16.2")
def test_who_holds_control_is_told_at_once_also_where_the_value_stays(rig: Rig) -> None:
    def told() -> dict[str, Any]:
        rows = latest_setpoints(rig.db, SITE.id).filter(pl.col("asset_id") == "ess-1", pl.col("quantity") == SETPOINT)
        return rows.row(0, named=True)

    rig.plan(0.0)
    rig.run(4)
    assert (told()["sent"], told()["layer"]) == (0.0, "plan")
    write_command(rig.db, SITE.id, "ess-1", SETPOINT, 0.0, "work at the busbar", "olga")
    rig.run(4)
    assert (told()["sent"], told()["layer"]) == (0.0, "operator")
    assert "work at the busbar" in told()["reason"]
    standing = read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("asset_id") == "ess-1").height
    rig.run(10)
    assert read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("asset_id") == "ess-1").height == standing


@pytest.mark.requirement("asset.04.1", "energy.16.2")
def test_the_stored_plan_is_dispatched_and_everything_measured_is_stored(rig: Rig) -> None:
    plan_id = rig.plan(30.0)
    rig.run(3)
    sent = read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("asset_id") == "ess-1").row(0, named=True)
    assert (sent["sent"], sent["readback"], sent["layer"], sent["reason"]) == (30.0, 30.0, "plan", "plan 1")
    assert (sent["plan_id"], sent["status"], sent["time"]) == (plan_id, "acknowledged", NOW)
    assert sent["valid_until"] == NOW + timedelta(seconds=SITE.operation.setpoint_ttl_s)
    live = read_live(rig.db, SITE.id)
    assert live.height == len(SITE.points())
    assert live["time"].max() == NOW + timedelta(seconds=2)
    history = read_readings(rig.db, SITE.id, NOW, NOW + HOUR, [("ess-1", "soc")])
    assert history.select("time", "value", "quality").rows() == [(NOW, 0.5, 0)]
    rig.plan(-20.0)
    rig.run(3)
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == -20.0


def test_an_operators_commands_are_obeyed_answered_and_handed_back(rig: Rig) -> None:
    rig.plan(30.0)
    first = write_command(rig.db, SITE.id, "ess-1", SETPOINT, 10.0, "test run", "olga")
    second = write_command(rig.db, SITE.id, "ess-1", SETPOINT, 5.0, "shorter test run", "olga")
    wrong = write_command(rig.db, SITE.id, "ess-1", SETPOINT, 900.0, "typing error", "olga")
    rig.run(3)
    # The newest wish for the battery cannot be granted, and does not bring back the older ones.
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == 30.0
    good = write_command(rig.db, SITE.id, "ess-1", SETPOINT, 5.0, "shorter test run", "olga")
    rig.run(3)
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == 5.0
    assert [(c.command_id, c.status) for c in open_commands(rig.db, SITE.id)] == [(good, "in_force")]
    write_command(rig.db, SITE.id, "ess-1", SETPOINT, None, "done", "olga")
    rig.run(3)
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == 30.0
    assert open_commands(rig.db, SITE.id) == []
    with rig.db.begin() as connection:
        rows = connection.exec_driver_sql("SELECT command_id, status, message FROM commands ORDER BY command_id").all()
    answers = {row[0]: (row[1], row[2]) for row in rows}
    assert answers[first] == ("superseded", f"by command {second} of olga")
    assert answers[second] == ("superseded", f"by command {wrong} of olga")
    told = list_events(rig.db, datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR, kind="command_answered")
    assert {json.loads(detail)["status"] for detail in told["detail"]} == {"superseded", "refused", "in_force", "done"}
    assert answers[wrong] == ("refused", "ess-1: 900 kW is outside -250..250 kW")


@pytest.mark.requirement("module.load_controller")
def test_the_next_loop_knows_what_the_one_before_curtailed(rig: Rig) -> None:
    model = rig.loop.cycle.model
    load = next(a for a in model.actuators if a.curtailment is not None)
    device = next(d for d in rig.drivers.values() if load.asset_id in d.assets)
    device.values[load.asset_id, "active_power_kw"] = 20.0
    rig.run(3)
    write_command(rig.db, SITE.id, load.asset_id, load.quantity, 2.0, "too warm", "olga")
    rig.run(4)
    known = rig.loop.cycle._loads[load.asset_id]
    assert known.curtailed_since is not None
    now = rig.clock.now()
    told = remembered_loads(rig.db, SITE.id, model, now, rig.clock.monotonic())[load.asset_id]
    assert told.baseline_kw == pytest.approx(known.baseline_kw)
    assert told.curtailed_since == pytest.approx(known.curtailed_since, abs=1.5)


@pytest.mark.requirement("energy.11.1", "energy.14.3")
def test_the_grid_operators_curve_is_followed_and_its_accuracy_kept_each_second(rig: Rig) -> None:
    rig.plan(30.0)
    curve = FrequencyCurve("ess-1", NOW - HOUR, ((49.8, 50.0), (50.0, 0.0), (50.2, -50.0)), 1.0, source="TSO")
    write_frequency_curve(rig.db, SITE.id, curve)
    rig.drivers["pcc-meter"].values["pcc", "frequency_hz"] = 49.9
    rig.run(4)
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == pytest.approx(55.0)
    sent = read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("quantity") == SETPOINT)
    assert sent.filter(pl.col("asset_id") == "ess-1")["layer"].to_list() == ["grid_operator"]
    kept = read_readings(rig.db, SITE.id, NOW, NOW + HOUR, [("pcc", "frequency_hz")])
    assert kept["value"].to_list() == pytest.approx([49.9] * 4)
    answers = read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("quantity") == "frequency_response_kw")
    assert answers["time"].to_list() == [NOW + timedelta(seconds=i) for i in range(4)]
    assert answers["requested"].to_list() == pytest.approx([25.0] * 4)
    # The toy battery's power never moves: all of it is missing, from the second cycle on.
    assert answers["readback"].to_list() == pytest.approx([-30.0] * 4)
    assert answers["status"].to_list() == ["ok", "off", "off", "off"]


@pytest.mark.requirement("energy.11.2", "energy.14.3")
def test_the_grid_operators_orders_are_obeyed_in_time_named_and_end(rig: Rig) -> None:
    rig.plan(30.0)
    begins, ends = NOW + timedelta(seconds=2), NOW + timedelta(seconds=6)
    give_order(
        rig.db, SITE.id, "ess-1", starts_at=begins, ends_at=ends, setpoint_kw=-10.0, ramp_kw_per_s=20.0, source="TSO",
        reason="redispatch", user="olga",
    )  # fmt: skip
    limit = give_order(rig.db, SITE.id, "pv-1", starts_at=NOW, maximum_kw=33.0, reason="congestion", user="olga")
    assert len(pending_replans(rig.db)) == 2
    said: list[float | None] = []
    for _ in range(8):
        rig.run(1)
        said.append(rig.drivers["esc-1"].values["ess-1", SETPOINT])
    assert said == [30.0, 30.0, 10.0, -10.0, -10.0, -10.0, 30.0, 30.0]
    assert rig.drivers["res-1"].values["pv-1", "active_power_limit_kw"] == 33.0
    withdraw_order(rig.db, SITE.id, limit, user="olga")
    rig.run(3)
    assert (rig.drivers["res-1"].values["pv-1", "active_power_limit_kw"] or 0.0) > 100.0
    sent = read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("layer") == "grid_operator")
    assert set(sent["reason"]) == {
        "order 1 of TSO, setpoint -10 kW by 20 kW/s: redispatch",
        "order 2 of grid operator, at most 33 kW: congestion",
    }


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({"asset_id": "load-1"}, "the asset must be one of pcc, "),
        ({}, "give either setpoint_kw, or minimum_kw, maximum_kw or both"),
        ({"setpoint_kw": 1.0, "maximum_kw": 2.0, "ends_at": NOW + HOUR}, "give either setpoint_kw"),
        ({"setpoint_kw": 900.0, "ends_at": NOW + HOUR}, "setpoint_kw 900.0 is outside -250 to 250 kW"),
        ({"maximum_kw": math.nan}, "maximum_kw nan is outside"),
        ({"minimum_kw": 5.0, "maximum_kw": 2.0}, "minimum_kw 5 is above maximum_kw 2"),
        ({"setpoint_kw": 5.0}, "a setpoint needs ends_at"),
        ({"maximum_kw": 5.0, "ramp_kw_per_s": 1.0}, "ramp_kw_per_s 1.0 is not a positive number of a setpoint"),
        ({"maximum_kw": 5.0, "ends_at": NOW}, "must be after starts_at"),
        ({"maximum_kw": 5.0, "reason": " "}, "reason has 0 letters"),
    ],
)
def test_an_order_that_cannot_be_is_refused(rig: Rig, order: dict[str, Any], problem: str) -> None:
    given = {"asset_id": "ess-1", "reason": "redispatch", **order}
    with pytest.raises(InvalidDataError, match=re.escape(problem)):
        give_order(rig.db, SITE.id, given.pop("asset_id"), starts_at=NOW, user="olga", **given)
    assert orders_between(rig.db, SITE.id, NOW, NOW + HOUR) == []


@pytest.mark.requirement("energy.09.2")
def test_a_scheduled_mode_is_taken_up_and_left_again(rig: Rig) -> None:
    rig.plan(30.0)
    begins, ends = NOW + timedelta(seconds=3), NOW + timedelta(seconds=6)
    schedule_mode(rig.db, SITE.id, "idle", starts_at=begins, ends_at=ends, reason="inspection", user="olga")
    told: list[float | None] = []
    for _ in range(9):
        rig.run(1)
        told.append(rig.drivers["esc-1"].values["ess-1", SETPOINT])
    # News of a cycle are taken before it, so the mode holds from its first second on.
    assert told == [30.0] * 3 + [0.0] * 3 + [30.0] * 3
    sent = read_setpoints(rig.db, SITE.id, begins, ends).filter(pl.col("asset_id") == "ess-1")
    assert sent.row(0, named=True)["reason"] == "mode idle: olga: inspection"


def test_reactive_power_can_be_commanded_and_is_logged_beside_active_power(rig: Rig) -> None:
    kvar = "reactive_power_setpoint_kvar"
    write_command(rig.db, SITE.id, "ess-1", kvar, 40.0, "test run", "olga")
    wrong = write_command(rig.db, SITE.id, "pv-1", kvar, 4.0, "typing error", "olga")
    rig.run(3)
    assert rig.drivers["esc-1"].values["ess-1", kvar] == 40.0
    sent = read_setpoints(rig.db, SITE.id, NOW, NOW + HOUR).filter(pl.col("asset_id") == "ess-1")
    assert set(sent["quantity"]) == {SETPOINT, kvar}
    assert sent.filter(pl.col("quantity") == kvar).row(0, named=True)["layer"] == "operator"
    with rig.db.begin() as connection:
        found = connection.exec_driver_sql("SELECT status FROM commands WHERE command_id = %s", (wrong,)).scalar_one()
    assert found == "refused"


def test_an_emergency_stop_raises_an_alarm_until_it_is_released(rig: Rig) -> None:
    rig.plan(30.0)
    rig.run(2)
    write_command(rig.db, SITE.id, None, "emergency_stop", 1.0, "smoke", "olga")
    rig.run(2)
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == 0.0
    assert rig.drivers["res-1"].values["pv-1", "active_power_limit_kw"] == 0.0
    assert "emergency_stop" in list_alarms(rig.db, SITE.id)["code"].to_list()
    write_command(rig.db, SITE.id, None, "emergency_stop", 0.0, "all clear", "olga")
    rig.run(3)
    assert rig.drivers["esc-1"].values["ess-1", SETPOINT] == 30.0
    assert "emergency_stop" not in list_alarms(rig.db, SITE.id)["code"].to_list()


@pytest.mark.requirement("module.operation", "energy.04.4")
def test_operation_off_the_plan_asks_for_a_new_one(rig: Rig) -> None:
    rig.plan(0.0, soc=0.8)
    rig.run(2)
    rig.clock.advance(299.0)
    rig.run(1)
    assert [r.reason for r in pending_replans(rig.db)] == ["ess-1: state of charge 0.50, planned 0.80"]


def test_a_new_run_of_the_loop_clears_what_the_old_one_raised(rig: Rig, tmp_path: Path) -> None:
    rig.run(1)
    assert "no_plan" in list_alarms(rig.db, SITE.id)["code"].to_list()
    rig.spool.close()
    again = Rig(rig.db, tmp_path)
    again.plan(0.0)
    again.run(2)
    assert "no_plan" in list_alarms(again.db, SITE.id)["code"].to_list()  # a start does not know all at once
    again.clock.advance(30.0)
    again.run(2)
    assert "no_plan" not in list_alarms(again.db, SITE.id)["code"].to_list()


@pytest.mark.parametrize(
    ("charge", "billing_day", "mode", "peak"),
    [
        (2.5, 1, "peak_shaving", 140.0),
        (2.5, 9, "peak_shaving", 90.0),  # the period began yesterday
        (2.5, 12, "peak_shaving", 300.0),  # it began last month
        (0.0, 1, "peak_shaving", 0.0),  # no peak is paid for
        (2.5, 1, "idle", 0.0),
    ],
)
def test_peak_shaving_knows_the_peak_of_the_billing_period(
    db: TenantStore, charge: float, billing_day: int, mode: str, peak: float
) -> None:
    tariff = SITE.tariff.model_copy(update={"demand_charge_eur_per_kw_month": charge, "billing_day": billing_day})
    save_site(db, SITE.model_copy(update={"tariff": tariff}))
    days = {14: 300.0, 6: 140.0, 0.5: 90.0, -1: 400.0}
    rows = [("pcc", "active_power_kw", NOW - timedelta(days=ago), kw, None) for ago, kw in days.items()]
    write_clean(db, SITE.id, pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value", "flag"], orient="row"))
    parameters = {"import_kw": 100.0} if mode == "peak_shaving" else {}
    schedule_mode(
        db, SITE.id, mode, starts_at=NOW, ends_at=NOW + HOUR, parameters=parameters, reason="test", user="olga"
    )
    found = StoreGateway(db, SITE.id).news(NOW).mode
    assert found is not None
    assert found.month_peak_kw == peak
    assert found.band_kw == ((-math.inf, max(100.0, peak)) if mode == "peak_shaving" else None)


def test_a_new_billing_period_begins_with_no_peak_that_is_paid_for(db: TenantStore) -> None:
    tariff = SITE.tariff.model_copy(update={"demand_charge_eur_per_kw_month": 2.5, "billing_day": 1})
    save_site(db, SITE.model_copy(update={"tariff": tariff}))
    midnight = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)  # 1 April in Amsterdam
    rows = [("pcc", "active_power_kw", midnight - HOUR, 140.0, None)]
    write_clean(db, SITE.id, pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value", "flag"], orient="row"))
    schedule_mode(
        db, SITE.id, "peak_shaving", starts_at=midnight - HOUR, parameters={"import_kw": 50.0}, reason="test", user="o"
    )
    gateway = StoreGateway(db, SITE.id)
    peaks = [gateway.news(midnight + timedelta(seconds=s)).mode for s in (-2, -1, 0, 1)]
    assert [mode.month_peak_kw for mode in peaks if mode] == [140.0, 140.0, 0.0, 0.0]


def test_the_plan_after_the_one_in_force_is_known_ahead_and_read_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rig.plan(30.0)
    times = [NOW + HOUR + timedelta(minutes=15 * i) for i in range(4)]
    schema = {"asset_id": pl.String, "quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}
    rows = [("ess-1", SETPOINT, t, 5.0) for t in times]
    record = PlanRecord(SITE.id, "day_ahead", NOW, NOW + HOUR, NOW + 2 * HOUR, 15, "optimal")
    second = write_plan(rig.db, record, pl.DataFrame(rows, schema=schema, orient="row"))
    gateway, reads = StoreGateway(rig.db, SITE.id), []
    monkeypatch.setattr(plans, "read_plan_values", lambda db, i: reads.append(i) or read_plan_values(db, i))
    for _ in range(3):
        news = gateway.news(NOW)
        assert news.plan is not None
        assert news.next_plan is not None
        assert (news.plan.plan_id, news.next_plan.plan_id) == (first, second)
    assert reads == [first, second]
    news = gateway.news(NOW + HOUR)
    assert news.plan is not None
    assert (news.plan.plan_id, news.next_plan, reads) == (second, None, [first, second])
