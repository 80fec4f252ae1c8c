"""The API over a real store: what a system that integrates with the platform reads."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pytest

from api.app import create_app
from api.auth import LoginThrottle
from flexergy_pipelines import access
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.commands import acknowledge_command, open_commands
from flexergy_pipelines.store.field_devices import propose_device
from flexergy_pipelines.store.frequency_curves import read_frequency_curves
from flexergy_pipelines.store.link_statistics import LinkRow, write_link_statistics
from tests.api.serving import client_of
from tests.dashboards.seeding import Seeded, seed, seed_site

PASSWORD = "a long enough passphrase"


@pytest.fixture
def seeded(db: TenantStore) -> Seeded:
    return seed(db)


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with client_of(create_app(store, throttle=LoginThrottle(attempts=1000))) as opened:
        yield opened


def logged_in(client: httpx.Client, db: TenantStore, role: str, name: str | None = None) -> dict[str, str]:
    """Headers of a fresh user of `role`."""
    user = name or role
    access.create_user(db, user, PASSWORD, role)
    answer = client.post("/login", json={"name": user, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


@pytest.fixture
def viewer(client: httpx.Client, db: TenantStore) -> dict[str, str]:
    return logged_in(client, db, "viewer")


@pytest.fixture
def operator(client: httpx.Client, db: TenantStore) -> dict[str, str]:
    return logged_in(client, db, "operator")


def test_health_needs_no_login(client: httpx.Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["store"] == "reachable"


def test_health_tells_how_old_the_work_of_the_services_is(store: Store, seeded: Seeded) -> None:
    with client_of(create_app(store, tenant="demo")) as client:
        told = client.get("/health").json()
        assert 0 <= told["live_age_s"] < 300
        assert 12 * 60 <= told["plan_age_s"] < 20 * 60
        assert "microgrid" not in client.get("/health").text


def test_sites_tell_points_with_units_and_ranges(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    listed = client.get("/sites", headers=viewer).json()["sites"]
    assert [site["id"] for site in listed] == ["microgrid"]
    detail = client.get("/sites/microgrid", headers=viewer).json()
    soc = next(p for p in detail["points"] if (p["asset_id"], p["quantity"]) == ("ess-1", "soc"))
    assert (soc["minimum"], soc["maximum"], soc["writable"]) == (0.0, 1.0, False)


@pytest.mark.requirement("com.02.1")
def test_readings_come_in_pages_that_hold_each_row_once(
    client: httpx.Client, seeded: Seeded, viewer: dict[str, str]
) -> None:
    address = "/sites/microgrid/readings"
    query: dict[str, str] = {"points": "ess-1.soc,pv-1.active_power_kw", "limit": "50"}
    answer = client.get(address, params=query, headers=viewer).json()
    rows = list(answer["values"])
    while answer["page"]["next"]:
        answer = client.get(answer["page"]["next"], headers=viewer).json()
        rows += answer["values"]
    assert len(rows) == answer["page"]["total"]
    keys = {(row["asset_id"], row["quantity"], row["time"]) for row in rows}
    assert len(keys) == len(rows)
    assert {row["unit"] for row in rows if row["quantity"] == "active_power_kw"} == {"kW"}


def test_a_step_without_readings_is_null_and_not_zero(
    client: httpx.Client, seeded: Seeded, viewer: dict[str, str]
) -> None:
    start = seeded.now - timedelta(hours=30)
    query = {"points": "pv-1.active_power_kw", "start": start.isoformat(), "step": "1h"}
    values = client.get("/sites/microgrid/readings", params=query, headers=viewer).json()["values"]
    assert values[0]["value"] is None
    assert any(value["value"] is not None for value in values)


def test_csv_holds_the_same_values_as_json(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    query = {"points": "ess-1.soc"}
    as_json = client.get("/sites/microgrid/readings", params=query, headers=viewer).json()["values"]
    answer = client.get("/sites/microgrid/readings", params=query, headers={**viewer, "accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    frame = pl.read_csv(io.BytesIO(answer.content), try_parse_dates=True)
    assert frame.columns == ["asset_id", "quantity", "unit", "time", "value", "quality"]
    assert frame["value"].to_list() == pytest.approx([row["value"] for row in as_json])
    times = [datetime.fromisoformat(row["time"]) for row in as_json]
    assert (
        frame["time"].dt.replace_time_zone("UTC", ambiguous="raise").to_list() == times
        or frame["time"].to_list() == times
    )


def test_live_tells_age_and_who_commands(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    live = client.get("/sites/microgrid/live", headers=viewer).json()
    soc = next(v for v in live["values"] if (v["asset_id"], v["quantity"]) == ("ess-1", "soc"))
    assert soc["value"] == pytest.approx(0.523)
    assert soc["age_s"] < 60
    assert live["setpoints"][0]["layer"] == "plan"


def test_live_without_values_is_stale(client: httpx.Client, db: TenantStore, viewer: dict[str, str]) -> None:
    seed_site(db)
    live = client.get("/sites/microgrid/live", headers=viewer).json()
    assert live["stale"] is True
    assert live["values"] == []


def test_plan_in_force_and_history(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    plan = client.get("/sites/microgrid/plan", headers=viewer).json()
    assert plan["plan_id"] == seeded.plan_id
    assert plan["status"] == "optimal"
    assert len([v for v in plan["values"] if (v["asset_id"], v["quantity"]) == ("ess-1", "soc")]) == 96
    heads = client.get("/sites/microgrid/plans", headers=viewer).json()["plans"]
    assert [head["plan_id"] for head in heads] == [seeded.plan_id]
    again = client.get(f"/sites/microgrid/plans/{seeded.plan_id}", headers=viewer).json()
    assert again["values"] == plan["values"]
    assert client.get("/sites/microgrid/plans/999999", headers=viewer).status_code == 404


def test_no_plan_is_a_404_that_says_so(client: httpx.Client, db: TenantStore, viewer: dict[str, str]) -> None:
    seed_site(db)
    answer = client.get("/sites/microgrid/plan", headers=viewer)
    assert answer.status_code == 404
    assert "no plan that covers" in answer.json()["detail"]


def test_forecasts_carry_quantiles_in_order(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    answer = client.get("/sites/microgrid/forecasts", params={"asset": "load-1"}, headers=viewer).json()
    (series,) = answer["series"]
    assert series["unit"] == "kW"
    assert series["values"]
    for value in series["values"]:
        quantiles = [value["quantiles"][f"p{q}"] for q in range(10, 100, 10)]
        assert quantiles == sorted(quantiles)


def test_a_forecast_that_was_not_yet_known_is_not_given(
    client: httpx.Client, seeded: Seeded, viewer: dict[str, str]
) -> None:
    early = (seeded.now - timedelta(days=2)).isoformat()
    query = {"asset": "load-1", "known_at": early}
    answer = client.get("/sites/microgrid/forecasts", params=query, headers=viewer).json()
    assert answer["series"][0]["values"] == []


def test_kpis_carry_unit_and_coverage(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    rows = client.get("/sites/microgrid/kpis", headers=viewer).json()["kpis"]
    cost = next(row for row in rows if row["kpi"] == "cost")
    assert (cost["unit"], cost["coverage"]) == ("EUR", pytest.approx(0.6))
    assert cost["reference"] == "without ESS: 90.00 EUR"


def test_alarms(client: httpx.Client, seeded: Seeded, viewer: dict[str, str]) -> None:
    (alarm,) = client.get("/sites/microgrid/alarms", headers=viewer).json()["alarms"]
    assert (alarm["code"], alarm["severity"], alarm["active"]) == ("device_lost", 2, True)


def test_an_operator_commands_and_the_control_loop_finds_it(
    client: httpx.Client, seeded: Seeded, operator: dict[str, str], db: TenantStore
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    body = {
        "asset_id": "ess-1",
        "quantity": "active_power_setpoint_kw",
        "value": 12.5,
        "reason": "test run",
        "valid_until": until.isoformat(),
    }
    answer = client.post("/sites/microgrid/commands", json=body, headers=operator)
    assert answer.status_code == 202, answer.text
    (command,) = open_commands(db, "microgrid")
    assert (command.command_id, command.value, command.user) == (answer.json()["id"], 12.5, "operator")
    assert command.valid_until == until
    acknowledge_command(db, command.command_id, "refused", "ess-1: is away")
    (told,) = client.get("/sites/microgrid/commands", headers=operator).json()["commands"]
    assert (told["status"], told["message"], told["user"]) == ("refused", "ess-1: is away", "operator")
    client.post("/sites/microgrid/commands", json=body, headers=operator)
    (standing,) = open_commands(db, "microgrid")
    place = f"/sites/microgrid/commands/{standing.command_id}"
    assert client.delete(place, headers=operator).status_code == 202
    assert [c.value for c in open_commands(db, "microgrid")] == [12.5, None]
    acknowledge_command(db, standing.command_id, "superseded", "by command 3")
    assert client.delete(place, headers=operator).status_code == 422
    assert client.delete("/sites/microgrid/commands/999", headers=operator).status_code == 404


def test_a_viewer_may_not_command(
    client: httpx.Client, seeded: Seeded, viewer: dict[str, str], db: TenantStore
) -> None:
    body = {"asset_id": None, "quantity": "emergency_stop", "value": 1, "reason": "just trying"}
    answer = client.post("/sites/microgrid/commands", json=body, headers=viewer)
    assert answer.status_code == 403
    assert "operator" in answer.json()["detail"]
    assert client.delete("/sites/microgrid/commands/1", headers=viewer).status_code == 403
    assert open_commands(db, "microgrid") == []


@pytest.mark.requirement("users.02.1")
def test_another_tenant_sees_nothing_of_it(
    client: httpx.Client, seeded: Seeded, other_db: TenantStore, db: TenantStore
) -> None:
    stranger = logged_in(client, other_db, "administrator", "stranger")
    assert client.get("/sites", headers=stranger).json()["sites"] == []
    missing = client.get("/sites/does-not-exist", headers=stranger)
    paths = ["", "/readings", "/live", "/forecasts", "/plan", "/plans", f"/plans/{seeded.plan_id}", "/kpis", "/alarms"]
    for path in paths:
        answer = client.get(f"/sites/microgrid{path}", headers=stranger)
        assert answer.status_code == 404, path
        assert answer.json()["title"] == missing.json()["title"]
    stop = {"asset_id": None, "quantity": "emergency_stop", "value": 1, "reason": "sabotage"}
    assert client.post("/sites/microgrid/commands", json=stop, headers=stranger).status_code == 404
    assert open_commands(db, "microgrid") == []


def test_a_plan_of_another_site_is_not_found_by_number(
    client: httpx.Client, seeded: Seeded, other_db: TenantStore
) -> None:
    seed_site(other_db)
    stranger = logged_in(client, other_db, "administrator", "stranger")
    assert client.get(f"/sites/microgrid/plans/{seeded.plan_id}", headers=stranger).status_code == 404


def test_description_is_complete(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    page = client.get("/docs").text
    assert not re.search(r"""(src|href)=["']?https?:""", page), "the page must open without a network"
    assert page.count("<details>") == sum(len(methods) for methods in document["paths"].values())
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), f"{method} {path}"


def test_a_stalled_database_is_answered_in_time(store: Store, db: TenantStore) -> None:
    """A lock held by somebody else stalls the query; the client hears 503 and the service goes on."""
    seed(db)
    with client_of(create_app(store)) as patient:
        token = logged_in(patient, db, "viewer")
    with client_of(create_app(store, deadline_s=1.0)) as client:
        with store.connect() as holder:
            holder.execute("SELECT set_config('app.tenant', %s, true)", (str(db.tenant_id),))
            holder.execute("LOCK TABLE live IN ACCESS EXCLUSIVE MODE")
            answer = client.get("/sites/microgrid/live", headers=token)
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            holder.rollback()
        assert client.get("/health").status_code == 200


@pytest.mark.requirement("energy.11.1", "energy.11.2", "com.02.1")
def test_another_system_gives_the_grid_operators_orders(
    client: httpx.Client, db: TenantStore, seeded: Seeded, operator: dict[str, str], viewer: dict[str, str]
) -> None:
    address = "/sites/microgrid/grid-orders"
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = {"asset_id": "pcc", "setpoint_kw": -40.0, "ramp_kw_per_s": 2.0, "ends_at": until, "reason": "redispatch"}
    assert client.post(address, json=body, headers=viewer).status_code == 403
    given = client.post(address, json=body, headers=operator)
    assert given.status_code == 201, given.text
    (order,) = client.get(address, headers=viewer).json()["orders"]
    assert (order["asset_id"], order["setpoint_kw"], order["created_by"]) == ("pcc", -40.0, "operator")
    for change, said in (
        ({"setpoint_kw": True}, "setpoint_kw"),
        ({"setpoint_kw": 9000.0}, "outside"),
        ({"asset_id": "load-1"}, "must be one of"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
        ({"ends_at": None}, "needs ends_at"),
        ({"maximum_kw": 5.0}, "give either"),
    ):
        refused = client.post(address, json=body | change, headers=operator)
        assert refused.status_code == 422
        assert said in refused.text
    assert client.delete(f"{address}/{order['id']}", headers=viewer).status_code == 403
    assert client.delete(f"{address}/{order['id']}", headers=operator).status_code == 204
    assert client.delete(f"{address}/{order['id']}", headers=operator).status_code == 404
    assert client.get(address, headers=viewer).json()["orders"] == []
    curve = {"asset_id": "ess-1", "points": [[49.8, 50.0], [50.0, 0.0], [50.2, -50.0]], "source": "TSO"}
    set_now = client.post("/sites/microgrid/frequency-curves", json=curve, headers=operator)
    assert set_now.status_code == 201, set_now.text
    now = datetime.now(UTC)
    assert [c.source for c in read_frequency_curves(db, "microgrid", now, now + timedelta(seconds=1))] == ["TSO"]
    for change in ({"asset_id": "pv-1"}, {"points": [[50.0, 1.0]]}, {"points": [[49.0, 0.0], [50.0, 9.0]]}):
        assert (
            client.post("/sites/microgrid/frequency-curves", json=curve | change, headers=operator).status_code == 422
        )


@pytest.mark.requirement("asset.03.1")
def test_links_and_found_devices_are_told(
    client: httpx.Client, seeded: Seeded, viewer: dict[str, str], db: TenantStore
) -> None:
    at = datetime.now(UTC) - timedelta(minutes=2)
    counts = (60, 30, 2, 1, 40_000, 60_000)
    write_link_statistics(
        db, "microgrid", [LinkRow("esc-1", at, True, *counts, 0.01, 0.3, "iec104", "LTE", "no answer", -93.0)]
    )
    answer = client.get("/sites/microgrid/links", headers=viewer).json()
    rows = {link["device_id"]: link for link in answer["links"]}
    assert set(rows) == {device.id for device in seeded.site.devices()}
    assert (rows["esc-1"]["success"], rows["esc-1"]["signal_dbm"]) == (0.5, -93.0)
    assert (rows["pcc-meter"]["requests"], rows["pcc-meter"]["success"]) == (0, None)
    propose_device(db, "microgrid", protocol="ocpp16", address="cp-9", identity={"x": 1}, template=None)
    (found,) = client.get("/sites/microgrid/found-devices", headers=viewer).json()["devices"]
    assert (found["address"], found["identity"]) == ("cp-9", {"x": 1})
    assert client.get("/sites/elsewhere/links", headers=viewer).status_code == 404
