"""The pages themselves, run by Streamlit's own test runner over a real store."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import session
from dashboards.data import SiteData
from dashboards.navigation import PAGES, pages_for
from dashboards.session import CurrentUser
from flexergy_pipelines import access
from flexergy_pipelines.store import Store, StoreUnavailableError, TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.commands import acknowledge_command, open_commands, pending_replans, write_command
from flexergy_pipelines.store.plans import read_active_plan, write_plan
from tests.dashboards.seeding import seed, seed_site

Open = Callable[..., AppTest]


def _draw(path: str) -> None:
    from dashboards.navigation import PAGES

    if path == "stop form":
        from dashboards.screens.overview import stop_form
        from dashboards.session import page_context

        stop_form(page_context())
        return
    next(spec for spec in PAGES if spec.path == path).draw()


@pytest.fixture
def open_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page as a user of a role; who is at the screen comes through the one seam."""

    def open_as(path: str, role: str = "operator", tenant: str = "demo") -> AppTest:
        user = CurrentUser("olga", role, tenant)
        monkeypatch.setattr(session, "current_user", lambda: user)
        monkeypatch.setattr(session, "tenant_store", store.tenant)
        session.forget_sites()
        page = AppTest.from_function(_draw, kwargs={"path": path}, default_timeout=60)
        page.run()
        assert not page.exception, [error.value for error in page.exception]
        return page

    return open_as


def words(page: AppTest) -> str:
    """All text of a page."""
    kinds = ("markdown", "caption", "info", "warning", "error", "success", "subheader", "html")
    return "\n".join(str(getattr(element, "value", "")) for kind in kinds for element in page.get(kind))


@pytest.mark.parametrize("path", [spec.path for spec in PAGES])
def test_every_page_of_a_running_site_draws(open_page: Open, db: TenantStore, path: str) -> None:
    seed(db)
    open_page(path, "administrator")


@pytest.mark.parametrize("path", [spec.path for spec in PAGES if spec.path not in {"log", "users"}])
def test_every_page_of_an_empty_site_says_what_will_come(open_page: Open, db: TenantStore, path: str) -> None:
    seed_site(db)
    page = open_page(path, "administrator")
    text = words(page).lower()
    assert any(word in text for word in (" no ", "no ", "not ", "come")), text


def test_the_overview_shows_live_values_and_the_plan(open_page: Open, db: TenantStore) -> None:
    seed(db)
    text = words(open_page("overview"))
    assert 'data-testid="live-soc">52.30 %' in text
    assert "Control: <b>Plan</b> (plan version 1)" in text
    assert "plan against what was measured" in text


def test_the_plan_page_tells_cost_saving_and_proof(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("plan")
    text = re.sub(r"<[^>]*>", "|", words(page))
    for figure in ("Cost of the plan||84.20 EUR|", "Saved by storage||19.70 EUR||19.0 %", "Solution||optimal|"):
        assert figure in text
    assert "gap to the best possible 0.04 %" in text


@pytest.mark.requirement("module.dashboard")
def test_an_operator_stops_the_site_with_a_reason_and_releases_it(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("stop form")
    page.button(key="estop_go").click().run()
    assert any("reason" in error.value for error in page.error)
    assert open_commands(db, "microgrid") == []
    page.text_input(key="estop_reason").input("smoke at the container")
    page.button(key="estop_go").click().run()
    (stop,) = open_commands(db, "microgrid")
    assert (stop.asset_id, stop.quantity, stop.value, stop.user) == (None, "emergency_stop", 1.0, "olga")
    assert stop.valid_until is None

    assert any("smoke at the container" in error.value for error in open_page("overview").error)
    assert "hands control back to the plan." in words(open_page("stop form"))
    write_command(
        db,
        "microgrid",
        "ess-1",
        "active_power_setpoint_kw",
        5.0,
        "test",
        "olga",
        datetime.now(UTC) + timedelta(hours=1),
    )
    page = open_page("stop form")
    assert "the 1 command(s) by hand that still stand, and to the plan" in words(page)
    page.text_input(key="estop_reason").input("false alarm")
    page.button(key="estop_go").click().run()
    assert open_commands(db, "microgrid")[-1].value == 0.0


@pytest.mark.parametrize("role", ["viewer", "field_staff"])
def test_who_may_not_command_has_no_stop_button(open_page: Open, db: TenantStore, role: str) -> None:
    seed(db)
    page = open_page("overview", role)
    assert "estop" not in [button.key for button in page.button]


def test_acknowledging_an_alarm_names_who_did(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("alarms")
    alarm_id = list_alarms(db, "microgrid")["alarm_id"][0]
    page.multiselect(key="ack_which").select(alarm_id).run()
    page.button(key="ack_go").click().run()
    assert list_alarms(db, "microgrid")["acknowledged_by"].to_list() == ["olga"]


def test_a_viewer_cannot_acknowledge(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("alarms", "viewer")
    assert "ack_go" not in [button.key for button in page.button]


def test_kpis_can_be_looked_at_by_period(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("kpis")
    assert "84.10 EUR" in words(page)
    tables = [frame.value["value"].to_list() for frame in page.dataframe]
    assert ["83.0 %"] in tables
    assert ["1.20 cycles"] in tables
    assert page.selectbox(key="kpi_period_day").options[0] < f"{datetime.now(UTC):%Y-%m-%d}"


def test_another_tenant_does_not_see_the_site(open_page: Open, db: TenantStore) -> None:
    seed(db)
    assert "There is no site yet" in words(open_page("overview", "administrator", "other"))


def test_a_session_that_ends_stops_the_page(open_page: Open, db: TenantStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(db)
    page = open_page("plan")
    monkeypatch.setattr(session, "current_user", lambda: None)
    page.run()
    assert any("session has ended" in warning.value for warning in page.warning)
    assert "Cost of the plan" not in words(page)


def test_a_role_sees_only_registered_pages() -> None:
    assert {spec.path for spec in pages_for("viewer")} <= {spec.path for spec in pages_for("administrator")}
    assert pages_for("nobody") == []


def test_a_manual_setpoint_has_a_reason_a_range_and_an_end(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("operation")
    page.number_input(key="cmd_value_ess-1").set_value(1e6)
    page.button(key="cmd_send").click().run()
    said = "\n".join(error.value for error in page.error)
    assert "ess-1: 1\u202f000\u202f000.0 kW is outside" in said
    assert "reason" in said
    assert open_commands(db, "microgrid") == []

    page.number_input(key="cmd_value_ess-1").set_value(-20.0)
    page.text_input(key="cmd_reason").input("commissioning test")
    page.button(key="cmd_send").click().run()
    (command,) = open_commands(db, "microgrid")
    assert (command.asset_id, command.quantity, command.value) == ("ess-1", "active_power_setpoint_kw", -20.0)
    assert (command.user, command.reason) == ("olga", "commissioning test")
    assert command.valid_until is not None
    assert timedelta(minutes=28) < command.valid_until - datetime.now(UTC) < timedelta(minutes=31)

    page.button(key="cmd_back").click().run()
    assert open_commands(db, "microgrid")[-1].value is None


@pytest.mark.requirement("users.03.4")
def test_the_log_tells_who_commanded_and_why(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("operation")
    page.text_input(key="cmd_reason").input("noise complaint")
    page.button(key="cmd_send").click().run()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", words(open_page("log")))
    newest = dict(zip(("when", "who", "did", "to", "reason", "detail"), cells, strict=False))
    assert (newest["who"], newest["did"]) == ("olga", "command given")
    assert (newest["to"], newest["reason"]) == ("ess-1/active_power_setpoint_kw", "noise complaint")
    assert re.fullmatch(r"0\.0 kW, until \w{3} \d\d \w{3} \d\d:\d\d, command \d+", newest["detail"])
    assert "waits for the control loop" in words(open_page("operation"))
    (command,) = open_commands(db, "microgrid")
    acknowledge_command(db, command.command_id, "refused", "ess-1: its device is away")
    assert f"command {command.command_id} refused" in words(open_page("log"))
    shown = words(open_page("operation"))
    assert "Nothing is commanded by hand" in shown
    assert "refused: ess-1: its device is away" in shown


def test_a_role_taken_away_meanwhile_stops_the_command(
    open_page: Open, db: TenantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(db)
    page = open_page("operation")
    monkeypatch.setattr(session, "current_user", lambda: CurrentUser("olga", "viewer", "demo"))
    page.text_input(key="cmd_reason").input("too late")
    page.button(key="cmd_send").click().run()
    assert any("no longer" in error.value for error in page.error)
    assert open_commands(db, "microgrid") == []


def test_a_new_plan_can_be_asked_for(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("operation")
    page.text_input(key="replan_reason").input("market hall opens late")
    page.button(key="replan_go").click().run()
    (request,) = pending_replans(db)
    assert request.reason == "olga: market hall opens late"


def test_plans_can_be_compared(open_page: Open, db: TenantStore) -> None:
    seeded = seed(db)
    active = read_active_plan(db, "microgrid", seeded.now)
    assert active is not None
    other = active.values.with_columns(
        pl.when((pl.col("asset_id") == "ess-1") & (pl.col("quantity") == "active_power_kw"))
        .then(pl.col("value") + 4)
        .otherwise("value")
        .alias("value")
    )
    write_plan(db, replace(active.record, kind="intraday"), other)
    page = open_page("plan")
    assert "ess-1: 96.0 kWh are planned otherwise" in words(page)


def test_an_interval_in_which_nothing_moves_says_so(open_page: Open, db: TenantStore) -> None:
    active = read_active_plan(db, "microgrid", seed(db).now)
    assert active is not None
    quiet = {"time": active.record.start.isoformat(), "energy_price_eur_per_kwh": 0.04, "limits": []}
    write_plan(db, replace(active.record, kind="intraday", inputs={"intervals": [quiet], "why": []}), active.values)
    assert "Nothing is moved or held back in this interval." in words(open_page("plan"))


def test_an_administrator_adds_a_user_who_can_log_in_and_locks_them(
    open_page: Open, store: Store, db: TenantStore
) -> None:
    seed_site(db)
    access.create_user(db, "boss", "a long enough passphrase", "administrator")
    page = open_page("users", "administrator")
    page.text_input(key="user_name").input("gita")
    page.selectbox(key="user_role").select("operator")
    page.button(key="user_add").click().run()
    token = access.authenticate(store, "gita", page.code[0].value)
    assert token is not None
    assert access.get_user(db, "gita").role == "operator"

    page.selectbox(key="user_chosen").select(access.get_user(db, "gita")).run()
    page.button(key="user_lock").click().run()
    assert access.resolve_session(store, token) is None
    assert "locked" in words(open_page("users", "administrator"))


def test_users_cannot_be_managed_by_others_nor_badly(open_page: Open, db: TenantStore) -> None:
    seed_site(db)
    access.create_user(db, "boss", "a long enough passphrase", "administrator")
    assert any("Only administrators" in error.value for error in open_page("users", "operator").error)
    page = open_page("users", "administrator")
    page.text_input(key="user_name").input("no spaces please")
    page.button(key="user_add").click().run()
    assert any("user name" in error.value for error in page.error)
    page.button(key="user_lock").click().run()
    assert any("no other administrator" in error.value for error in page.error)
    assert [user.name for user in access.list_users(db)] == ["boss"]


def test_a_database_that_went_away_is_said_and_the_page_recovers(
    open_page: Open, db: TenantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(db)
    page = open_page("overview")
    known = session.site_data

    def away(user: CurrentUser, site_id: str) -> SiteData:
        raise StoreUnavailableError("connection refused")

    monkeypatch.setattr(session, "site_data", away)
    fragment = AppTest.from_function(_live_part, default_timeout=60).run()
    assert not fragment.exception
    assert any("tries again" in warning.value for warning in fragment.warning)
    monkeypatch.setattr(session, "site_data", known)
    fragment.run()
    assert 'data-testid="live-soc"' in words(fragment)
    assert not page.exception


def _live_part() -> None:
    from dashboards.screens import overview

    overview._live()


def test_history_draws_what_is_asked_for_and_leaves_gaps(open_page: Open, db: TenantStore) -> None:
    seed(db)
    page = open_page("history")
    assert len(page.get("vega_lite_chart")) + len(page.get("arrow_vega_lite_chart")) == 2
    page.multiselect(key="hist_points").set_value([]).run()
    assert any("Choose at least one" in info.value for info in page.info)
