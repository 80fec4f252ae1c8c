"""Forecasts, weather, prices, plans, setpoints, live values, alarms, commands: read as they were known, told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flexergy_pipelines.grid import parse_site, site_to_dict
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import InvalidDataError, NotFoundError, TenantStore
from flexergy_pipelines.store.alarms import acknowledge_alarm, clear_alarm, list_alarms, raise_alarm
from flexergy_pipelines.store.clean import read_clean, write_clean
from flexergy_pipelines.store.commands import (
    acknowledge_command,
    close_replan,
    end_command,
    list_commands,
    open_commands,
    pending_replans,
    request_replan,
    write_command,
)
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.forecasts import ForecastRun, list_forecast_runs, read_forecast, write_forecast
from flexergy_pipelines.store.kpis_table import read_kpis, write_kpis
from flexergy_pipelines.store.live import read_live, write_live
from flexergy_pipelines.store.meter_files import find_meter_file, list_meter_files, record_meter_file
from flexergy_pipelines.store.notify import ALARM, COMMAND, LIVE, PLAN, REPLAN, Listener, listen
from flexergy_pipelines.store.plans import PlanRecord, list_plans, read_active_plan, read_plan, write_plan
from flexergy_pipelines.store.prices import read_prices, write_prices
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.setpoints import latest_setpoints, read_setpoints, write_setpoints
from flexergy_pipelines.store.sites import list_site_versions, load_site, refresh_points, save_site
from flexergy_pipelines.store.weather import read_weather, read_weather_as_issued, write_weather
from tests.support.store import plain_site

T0 = datetime(2026, 10, 24, 22, tzinfo=UTC)  # the local day has 25 hours
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PV = ("pv-1", "active_power_kw")


@pytest.fixture
def site(db: TenantStore) -> str:
    return plain_site(db, "s1", [PV])


def hours(count: int, start: datetime = T0, **columns: Any) -> pl.DataFrame:
    times = [start + k * HOUR for k in range(count)]
    return pl.DataFrame({"time": times, **columns}).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def test_clean_values_replace_each_other_and_keep_flags_and_uncertainty(db: TenantStore, site: str) -> None:
    frame = hours(
        4, value=[1.0, None, 3.0, 4.0], flag=[None, "outage", "spike", None], uncertainty=[None, None, 0.5, 0.0]
    )
    frame = frame.select(pl.lit(PV[0]).alias("asset_id"), pl.lit(PV[1]).alias("quantity"), pl.all())
    assert write_clean(db, site, frame) == 4
    assert write_clean(db, site, frame) == 0
    assert_frame_equal(read_clean(db, site, T0, T0 + DAY), frame)
    changed = frame.with_columns(flag=pl.lit("similar_day"))[1:2].with_columns(value=pl.lit(2.0))
    assert write_clean(db, site, changed) == 1
    after = read_clean(db, site, T0, T0 + DAY, [PV])
    assert after["value"].to_list() == [1.0, 2.0, 3.0, 4.0]
    assert after["flag"].to_list() == [None, "similar_day", "spike", None]


@pytest.mark.requirement("asset.04.1")
def test_a_forecast_is_read_as_it_was_known(db: TenantStore, site: str) -> None:
    def issue(at: datetime, value: float, count: int, **more: Any) -> None:
        frame = hours(count, value=[value] * count, p10=[value - 1] * count, p90=[value + 1] * count)
        write_forecast(db, ForecastRun(site, *PV, issued_at=at, model="m", **more), frame)

    issue(T0 - 6 * HOUR, 1.0, 6)
    issue(T0 - 3 * HOUR, 2.0, 3, fallback_level=1, reason="champion failed")
    issue(T0, 3.0, 1)
    newest = read_forecast(db, site, *PV, T0, T0 + DAY)
    assert newest["value"].to_list() == [3.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    assert newest["fallback_level"].to_list() == [0, 1, 1, 0, 0, 0]
    then = read_forecast(db, site, *PV, T0, T0 + DAY, known_at=T0 - HOUR)
    assert then["value"].to_list() == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    assert then["p10"].to_list() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert then["p50"].null_count() == 6
    assert read_forecast(db, site, *PV, T0, T0 + DAY, known_at=T0 - 7 * HOUR).is_empty()
    assert read_forecast(db, site, "pv-2", PV[1], T0, T0 + DAY).is_empty()
    assert list_forecast_runs(db, site, quantity=PV[1])["reason"].to_list() == ["", "champion failed", ""]


@pytest.mark.parametrize("times", [[T0, T0], [T0, None]])
def test_a_forecast_with_a_doubtful_time_is_refused_whole(db: TenantStore, site: str, times: list) -> None:
    with pytest.raises(InvalidDataError, match=r"occurs twice|is null"):
        write_forecast(
            db, ForecastRun(site, *PV, issued_at=T0, model="m"), pl.DataFrame({"time": times, "value": [1, 2]})
        )
    assert list_forecast_runs(db, site).is_empty()


def test_weather_is_read_as_known_and_for_training_as_issued_ahead(db: TenantStore, site: str) -> None:
    for lead in range(4):
        frame = hours(6, temperature_2m_c=[float(lead)] * 6, cloud_cover_pct=[None] * 6)
        assert write_weather(db, site, "w", T0 - lead * HOUR, frame) == 6
    assert read_weather(db, site, T0, T0 + DAY)["temperature_2m_c"].to_list() == [0.0] * 6
    known = read_weather(db, site, T0, T0 + DAY, known_at=T0 - 2 * HOUR)
    assert known["temperature_2m_c"].to_list() == [2.0] * 6
    assert known["wind_speed_10m_ms"].null_count() == 6
    ahead = read_weather_as_issued(db, site, T0, T0 + DAY, lead_hours_min=3)
    assert ahead["temperature_2m_c"].to_list() == [3.0, 2.0, 1.0, 0.0, 0.0, 0.0]
    write_weather(db, site, "w", T0, hours(1, temperature_2m_c=[9.0]))
    assert read_weather(db, site, T0, T0 + DAY)["temperature_2m_c"].to_list() == [9.0] + [0.0] * 5
    with pytest.raises(InvalidDataError, match="column 'rain' is not known"):
        write_weather(db, site, "w", T0, hours(1, rain=[9.0]))


def test_prices_keep_what_was_known_when_and_are_not_stored_twice(db: TenantStore, site: str) -> None:
    def price(value: float, count: int = 3) -> pl.DataFrame:
        return hours(count, price_eur_per_kwh=[value] * count, resolution_minutes=[60] * count)

    assert write_prices(db, site, "day_ahead", price(0.1), T0 - DAY) == 3
    assert write_prices(db, site, "day_ahead", price(0.1), T0 - 2 * HOUR) == 0
    assert write_prices(db, site, "day_ahead", price(-0.2, 2), T0 - HOUR) == 2
    assert read_prices(db, site, T0, T0 + DAY)["price_eur_per_kwh"].to_list() == [-0.2, -0.2, 0.1]
    then = read_prices(db, site, T0, T0 + DAY, known_at=T0 - 2 * HOUR)
    assert then["price_eur_per_kwh"].to_list() == [0.1, 0.1, 0.1]
    assert then["known_at"].unique().to_list() == [T0 - DAY]
    assert read_prices(db, site, T0, T0 + DAY, kind="imbalance").is_empty()
    each = pl.Series([T0 - DAY, T0 - HOUR, T0])
    assert write_prices(db, site, "imbalance", price(0.3), each) == 3
    assert read_prices(db, site, T0, T0 + DAY, "imbalance", T0 - HOUR).height == 2


def plan_values(value: float, count: int = 4) -> pl.DataFrame:
    return hours(count, value=[value] * count).with_columns(
        asset_id=pl.lit("ess-1"), quantity=pl.lit("active_power_kw")
    )


@pytest.mark.requirement("asset.04.1")
def test_the_newest_plan_that_covers_the_instant_is_in_force(db: TenantStore, site: str) -> None:
    assert read_active_plan(db, site, T0) is None
    day = PlanRecord(
        site, "day_ahead", T0 - HOUR, T0, T0 + 4 * HOUR, 60, "optimal", 0.0, 12.5, 12.5, 20.0,
        {"import": 13.0}, [{"limit": "pcc", "by_kw": 1.5}], {"solve": 0.1}, {"prices_known_at": T0.isoformat()},
    )  # fmt: skip
    first = write_plan(db, day, plan_values(1.0))
    later = PlanRecord(site, "intraday", T0, T0 + HOUR, T0 + 2 * HOUR, 60, "optimal")
    second = write_plan(db, later, plan_values(2.0)[1:2])
    now = [read_active_plan(db, site, T0 + k * HOUR) for k in range(5)]
    assert [plan and (plan.plan_id, plan.version) for plan in now] == [
        (first, 1),
        (second, 2),
        (first, 1),
        (first, 1),
        None,
    ]
    assert read_plan(db, first).record == day
    assert [plan.version for plan in list_plans(db, site)] == [2, 1]
    active = now[0]
    assert active is not None
    assert active.values["value"].to_list() == [1.0] * 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "weekly"}, "kind 'weekly' is not one of"),
        ({"end": T0}, "is not before end"),
        ({"step_minutes": 0}, "step_minutes 0"),
        ({"costs": {"import": float("nan")}}, "not finite"),
        ({"start": T0 + HOUR}, "lies outside"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(db: TenantStore, site: str, change: dict, complaint: str) -> None:
    fields: dict[str, Any] = {"kind": "intraday", "start": T0, "end": T0 + 4 * HOUR, "step_minutes": 60}
    record = PlanRecord(site_id=site, created_at=T0, status="optimal", **(fields | change))
    with pytest.raises(InvalidDataError, match=complaint):
        write_plan(db, record, plan_values(1.0))
    assert list_plans(db, site) == []


def test_setpoints_are_stored_once_for_an_instant_and_the_newest_is_known(db: TenantStore, site: str) -> None:
    frame = hours(2, sent=[1.0, 2.0], requested=[1.0, 5.0], status=["ok", "clipped"]).with_columns(
        asset_id=pl.lit("ess-1"), quantity=pl.lit("active_power_setpoint_kw")
    )
    write_setpoints(db, site, frame)
    write_setpoints(db, site, frame.with_columns(readback=pl.col("sent")))
    read = read_setpoints(db, site, T0, T0 + DAY)
    assert read["readback"].to_list() == [1.0, 2.0]
    assert read["plan_id"].null_count() == 2
    assert latest_setpoints(db, site).select("requested", "sent", "status").rows() == [(5.0, 2.0, "clipped")]


def test_live_values_never_go_back_in_time(db: TenantStore, site: str) -> None:
    def live(at: datetime, value: float | None) -> pl.DataFrame:
        return pl.DataFrame(
            [{"asset_id": PV[0], "quantity": PV[1], "time": at, "value": value, "quality": 0 if value else 3}],
            schema_overrides={"value": pl.Float64},
        )

    assert write_live(db, site, live(T0, 1.0)) == 1
    assert write_live(db, site, live(T0 - HOUR, 9.0)) == 0
    assert read_live(db, site)["value"].to_list() == [1.0]
    write_live(db, site, live(T0 + HOUR, None))
    assert read_live(db, site).select("value", "quality").rows() == [(None, 3)]


def test_an_alarm_counts_while_it_stands_and_begins_anew_after_it_was_cleared(db: TenantStore, site: str) -> None:
    first = raise_alarm(db, site, "lost", 2, "no answer", "pv-1")
    assert raise_alarm(db, site, "lost", 1, "no answer for long", "pv-1") == first
    other = raise_alarm(db, site, "lost", 3, "no answer", "ess-1")
    assert other != first
    standing = list_alarms(db, site)
    assert standing.select("alarm_id", "severity", "count", "message").rows() == [
        (first, 1, 2, "no answer for long"),
        (other, 3, 1, "no answer"),
    ]
    assert clear_alarm(db, site, "lost", "pv-1")
    assert not clear_alarm(db, site, "lost", "pv-1")
    assert list_alarms(db, site)["alarm_id"].to_list() == [other]
    assert raise_alarm(db, site, "lost", 2, "again", "pv-1") not in {first, other}
    assert list_alarms(db, site, active_only=False).height == 3
    # A full page of history holds what happened last, also where older ones were graver.
    assert list_alarms(db, site, active_only=False, limit=1)["message"].to_list() == ["again"]
    assert list_alarms(db, site, limit=1)["message"].to_list() == ["again"]
    with pytest.raises(InvalidDataError, match="severity 5"):
        raise_alarm(db, site, "lost", 5, "x")


@pytest.mark.requirement("users.03.3", "users.03.4")
def test_acknowledging_and_commanding_are_logged_with_user_and_time(db: TenantStore, site: str) -> None:
    alarm = raise_alarm(db, site, "lost", 2, "no answer")
    acknowledge_alarm(db, alarm, "ann")
    acknowledge_alarm(db, alarm, "bob")
    row = list_alarms(db, site).row(0, named=True)
    assert row["acknowledged_by"] == "ann"
    write_command(db, site, "ess-1", "active_power_setpoint_kw", 5.0, "test run", "bob")
    log = list_events(db, datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR, actor="bob")
    assert log.select("kind", "subject", "reason").rows() == [
        ("alarm_acknowledged", "lost", None),
        ("command_given", "ess-1/active_power_setpoint_kw", "test run"),
    ]
    with pytest.raises(NotFoundError, match="alarm 999 does not exist"):
        acknowledge_alarm(db, 999, "ann")


def test_commands_stand_until_they_are_answered_or_run_out(db: TenantStore, site: str) -> None:
    soon = datetime.now(UTC) + HOUR
    stands = write_command(db, site, "ess-1", "active_power_setpoint_kw", -5.0, "why", "ann", soon)
    write_command(db, site, "ess-1", "active_power_setpoint_kw", 1.0, "why", "ann", datetime.now(UTC) - HOUR)
    stop = write_command(db, site, None, "emergency_stop", 1, "smoke", "ann")
    assert [(c.command_id, c.value, c.user) for c in open_commands(db, site)] == [
        (stands, -5.0, "ann"),
        (stop, 1.0, "ann"),
    ]
    acknowledge_command(db, stands, "in_force")
    assert [(c.command_id, c.status) for c in open_commands(db, site)] == [(stands, "in_force"), (stop, "open")]
    acknowledge_command(db, stands, "done", "handed back")
    acknowledge_command(db, stands, "refused", "by a loop that comes late")
    assert [c.command_id for c in open_commands(db, site)] == [stop]
    assert [(c.status, c.message) for c in list_commands(db, site)] == [
        ("open", ""),
        ("expired", "ran out before the control loop took it"),
        ("done", "handed back"),
    ]
    with pytest.raises(InvalidDataError, match=f"command {stands} has ended: done handed back"):
        end_command(db, site, stands, "ann")
    end_command(db, site, stop, "ann", "false alarm")
    assert [(c.value, c.reason, c.valid_until is None) for c in open_commands(db, site)] == [
        (1.0, "smoke", True),
        (0.0, "false alarm", False),
    ]
    with pytest.raises(NotFoundError, match="command 999 does not exist"):
        end_command(db, site, 999, "ann")


@pytest.mark.parametrize(
    ("asset", "quantity", "value", "complaint"),
    [
        ("ess-1", "active_power_setpoint_kw", float("nan"), "not a finite number"),
        ("ess-1", "active_power_setpoint_kw", True, "True is not a finite number"),
        ("ess-1", "active_power_setpoint_kw", "5", "'5' is not a finite number"),
        (None, "active_power_setpoint_kw", 1.0, "names no asset"),
        (None, "emergency_stop", 0.5, "is not 1"),
    ],
)
def test_commands_that_could_do_harm_are_refused(  # noqa: PLR0917 - one parameter a fixture or column
    db: TenantStore, site: str, asset: str | None, quantity: str, value: float, complaint: str
) -> None:
    with pytest.raises(InvalidDataError, match=complaint):
        write_command(db, site, asset, quantity, value, "why", "ann")
    assert open_commands(db, site) == []


def test_replan_requests_wait_until_they_are_served(db: TenantStore, site: str) -> None:
    first, second = request_replan(db, site, "price changed"), request_replan(db, site, "deviation")
    assert [(wish.id, wish.reason) for wish in pending_replans(db)] == [(first, "price changed"), (second, "deviation")]
    close_replan(db, first)
    close_replan(db, first)
    assert [wish.id for wish in pending_replans(db)] == [second]


def test_messages_go_out_at_commit_to_listeners_of_the_tenant(
    db: TenantStore, other_db: TenantStore, site: str
) -> None:
    plain_site(other_db, site, [PV])
    live = pl.DataFrame([{"asset_id": "a", "quantity": "q", "time": T0, "value": 1.0, "quality": 0}])
    with Listener(db, [PLAN, LIVE, COMMAND, REPLAN, ALARM]) as listener:
        request_replan(other_db, site, "not ours")
        with db.begin():
            write_live(db, site, live)
            assert listener.wait(0.0) == []
        write_command(db, site, None, "emergency_stop", 1, "smoke", "ann")
        raise_alarm(db, site, "lost", 2, "no answer")
        request_replan(db, site, "why")
        got: list[str] = []
        while len(got) < 4:
            got += [channel for channel, payload in listener.wait(10.0) if payload == {"tenant": "demo", "site": site}]
        assert got == [LIVE, COMMAND, ALARM, REPLAN]
    assert list(listen(db, [PLAN], timeout_s=0.0)) == []
    with pytest.raises(InvalidDataError, match="are not known"):
        Listener(db, ["other"])


def test_kpis_are_replaced_by_period_scope_and_name(db: TenantStore, site: str) -> None:
    def kpi(value: float | None, kind: str = "day", coverage: float = 0.5) -> pl.DataFrame:
        row = {"period_kind": kind, "period_start": T0, "scope": "site", "kpi": "cost", "value": value, "unit": "EUR"}
        return pl.DataFrame([row | {"coverage": coverage}], schema_overrides={"value": pl.Float64})

    write_kpis(db, site, kpi(1.0))
    write_kpis(db, site, kpi(None))
    write_kpis(db, site, kpi(3.0, "month"))
    assert read_kpis(db, site)["value"].to_list() == [None, 3.0]
    assert read_kpis(db, site, period_kind="month")["value"].to_list() == [3.0]
    assert read_kpis(db, site, T0 + HOUR, T0 + DAY).is_empty()
    for frame, complaint in ((kpi(1.0, "week"), "'week' is not one of"), (kpi(1.0, coverage=1.5), "outside 0 to 1")):
        with pytest.raises(InvalidDataError, match=complaint):
            write_kpis(db, site, frame)


def test_a_file_is_known_again_by_its_content(db: TenantStore, site: str) -> None:
    sha = "0f" * 32
    assert find_meter_file(db, site, sha) is None
    record_meter_file(db, site, "a.csv", sha, "quarantined", 0, 7, "row 3: no number")
    record_meter_file(db, site, "b.csv", sha, "ingested", 10)
    found = find_meter_file(db, site, sha)
    assert found is not None
    assert (found.name, found.status, found.rows, found.rejected, found.reason) == ("b.csv", "ingested", 10, 0, None)
    assert len(list_meter_files(db)) == 1
    with pytest.raises(InvalidDataError, match="64 hexadecimal digits"):
        record_meter_file(db, site, "a.csv", "xyz", "ingested")


def test_a_new_program_registers_points_that_an_earlier_one_did_not_know(db: TenantStore) -> None:
    save_site(db, sample_site("microgrid"))
    with db.begin() as connection:
        connection.exec_driver_sql("DELETE FROM points WHERE quantity = 'active_power_l2_kw'")
    phase = [("load-1", "active_power_l2_kw")]
    with pytest.raises(InvalidDataError, match="is not one of site 'microgrid'"):
        read_readings(db, "microgrid", T0, T0 + timedelta(days=1), phase)
    assert refresh_points(db) == 2
    assert refresh_points(db) == 0
    assert read_readings(db, "microgrid", T0, T0 + timedelta(days=1), phase).is_empty()


@pytest.mark.requirement("infra.01.5")
def test_history_is_read_with_the_configuration_that_held_then(db: TenantStore) -> None:
    site = sample_site("microgrid")
    first = save_site(db, site)
    with db.begin() as connection:
        then = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    data = site_to_dict(site)
    data["meters"][1] |= {
        "integration_period_minutes": 5,
        "billing_day": 15,
        "tariff": "night",
        "phase_connection": "L2",
    }
    changed = parse_site(data)
    assert save_site(db, changed, actor="olga") == first + 1
    assert save_site(db, changed, actor="olga") == first + 1, "the same again is no new version"
    assert load_site(db, "microgrid") == changed
    assert load_site(db, "microgrid", at=then) == site
    assert list_site_versions(db, "microgrid")["actor"].to_list() == ["system", "olga"]
