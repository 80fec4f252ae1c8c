"""What the API says to requests that are wrong: a problem document that names field, value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.auth import LoginThrottle
from api.models import Command
from api.periods import period
from api.problems import ProblemError
from api.routes.operation import check_command
from flexergy_pipelines import access
from flexergy_pipelines.store import Store
from flexergy_pipelines.store.commands import open_commands
from tests.api.serving import client_of
from tests.dashboards.seeding import microgrid, seed_site

PASSWORD = "a long enough passphrase"
NOW = datetime(2026, 6, 1, 10, tzinfo=UTC)


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    db = store.tenant("demo")
    seed_site(db)
    access.create_user(db, "olga", PASSWORD, "operator")
    with client_of(create_app(store, throttle=LoginThrottle(attempts=1000))) as opened:
        token = opened.post("/login", json={"name": "olga", "password": PASSWORD}).json()["token"]
        opened.headers["authorization"] = f"Bearer {token}"
        yield opened


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert "Traceback" not in answer.text
    return document


READS = [
    ("/sites/microgrid/readings?start=yesterday", 422, "start"),
    ("/sites/microgrid/readings?start=2026-06-01T00:00:00", 422, "start"),
    ("/sites/microgrid/readings?start=2026-06-02T00:00:00Z&end=2026-06-01T00:00:00Z", 422, "end"),
    ("/sites/microgrid/readings?start=2016-06-02T00:00:00Z&end=2026-06-01T00:00:00Z", 422, "end"),
    ("/sites/microgrid/readings?start=0001-01-01T00:00:00Z", 422, "start"),
    ("/sites/microgrid/readings?start=9999-12-31T23:59:59Z", 422, None),
    ("/sites/microgrid/readings?start=0001-01-01T00:00:00%2B14:00", 422, None),
    ("/sites/microgrid/readings?start=2026-05-01T00:00:00Z&end=2026-06-01T00:00:00Z", 422, "step"),
    ("/sites/microgrid/readings?start=2025-05-01T00:00:00Z&end=2026-06-01T00:00:00Z&step=1m", 422, "step"),
    ("/sites/microgrid/readings?step=7m", 422, "step"),
    ("/sites/microgrid/readings?step=", 422, "step"),
    ("/sites/microgrid/readings?points=ess-1.socc", 422, "points"),
    ("/sites/microgrid/readings?points=ess-1", 422, "points"),
    ("/sites/microgrid/readings?points=ess-1.soc,,", 422, "points"),
    ("/sites/microgrid/readings?limit=0", 422, "limit"),
    ("/sites/microgrid/readings?limit=1e9", 422, "limit"),
    ("/sites/microgrid/readings?offset=-1", 422, "offset"),
    ("/sites/microgrid/readings?format=xml", 422, "format"),
    ("/sites/microgrid/forecasts?asset=ess-1", 422, "asset"),
    ("/sites/microgrid/forecasts?known_at=2026-06-01T00:00:00", 422, "known_at"),
    ("/sites/microgrid/plan?at=2026-06-01T00:00:00", 422, "at"),
    ("/sites/microgrid/plans?limit=501", 422, "limit"),
    ("/sites/microgrid/plans/0", 422, "plan_id"),
    ("/sites/microgrid/plans/99999999999999999999", 422, "plan_id"),
    ("/sites/microgrid/kpis?kind=week", 422, "kind"),
    ("/sites/elsewhere", 404, "site_id"),
    ("/sites/elsewhere%00/live", 404, None),
    ("/sites/microgrid%27%3B--", 404, "site_id"),
    ("/nowhere", 404, None),
]


def test_wrong_reads_name_the_field(client: httpx.Client) -> None:
    for address, status, field in READS:
        document = problem(client.get(address), status)
        if field is not None:
            assert [error["field"] for error in document["errors"]] == [field], address
            assert document["errors"][0]["allowed"], address


def soon() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def good_command() -> dict[str, Any]:
    return {
        "asset_id": "ess-1",
        "quantity": "active_power_setpoint_kw",
        "value": 5.0,
        "reason": "trial",
        "valid_until": soon(),
    }


COMMANDS: list[tuple[dict[str, Any], str]] = [
    ({"value": True}, "value"),
    ({"value": False}, "value"),
    ({"value": "5"}, "value"),
    ({"value": None}, "value"),
    ({"value": 1e9}, "value"),
    ({"value": -1e9}, "value"),
    ({"quantity": "soc"}, "quantity"),
    ({"quantity": ""}, "quantity"),
    ({"asset_id": None}, "asset_id"),
    ({"asset_id": "ess-2"}, "quantity"),
    ({"asset_id": 1}, "asset_id"),
    ({"reason": "  "}, "reason"),
    ({"reason": "x"}, "reason"),
    ({"reason": "x" * 501}, "reason"),
    ({"valid_until": None}, "valid_until"),
    ({"valid_until": "2020-01-01T00:00:00Z"}, "valid_until"),
    ({"valid_until": "2099-01-01T00:00:00Z"}, "valid_until"),
    ({"valid_until": "2026-06-01T00:00:00"}, "valid_until"),
    ({"user": "admin"}, "user"),
    ({"quantity": "emergency_stop", "asset_id": None, "value": 0.5}, "value"),
    ({"quantity": "emergency_stop", "asset_id": None, "value": 2}, "value"),
]


def test_wrong_commands_are_refused_and_nothing_is_stored(client: httpx.Client, store: Store) -> None:
    for change, field in COMMANDS:
        answer = client.post("/sites/microgrid/commands", json={**good_command(), **change})
        document = problem(answer, 422)
        assert field in [error["field"] for error in document["errors"]], (change, document)
    for content in (b"", b"{", b"[]", b"null", b'{"value": NaN}', b'{"value": 1e999}'):
        headers = {"content-type": "application/json"}
        problem(client.post("/sites/microgrid/commands", content=content, headers=headers), 422)
    assert open_commands(store.tenant("demo"), "microgrid") == []
    assert client.post("/sites/microgrid/commands", json=good_command()).status_code == 202


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer",
        "Bearer x",
        "Basic b2xnYTpwdw==",
        "Bearer " + "A" * 5000,
        "Bearer ü".encode("latin-1").decode("latin-1"),
    ],
)
def test_without_a_good_token_there_is_nothing(client: httpx.Client, token: str) -> None:
    for path in ("/sites", "/sites/microgrid", "/sites/microgrid/live", "/sites/elsewhere"):
        answer = client.get(path, headers=httpx.Headers([(b"authorization", token.encode("latin-1"))]))
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_ends_with_logout(client: httpx.Client) -> None:
    assert client.get("/sites").status_code == 200
    assert client.post("/logout").status_code == 204
    problem(client.get("/sites"), 401)


def test_a_locked_user_is_out_at_once(client: httpx.Client, store: Store) -> None:
    db = store.tenant("demo")
    access.create_user(db, "boss", PASSWORD, "administrator")
    access.lock_user(db, "olga")
    problem(client.get("/sites"), 401)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "olga", "password": "wrong"},
        {"name": "nobody", "password": PASSWORD},
        {"name": "ol\x00ga", "password": PASSWORD},
        {"name": "olga", "password": "x\x00"},
    ],
)
def test_a_refused_login_does_not_say_which_part_was_wrong(client: httpx.Client, body: dict[str, str]) -> None:
    document = problem(client.post("/login", json=body), 401)
    assert "user name or password is wrong" in document["detail"]


def test_logins_from_one_address_are_slowed_down(store: Store) -> None:
    with client_of(create_app(store, throttle=LoginThrottle(attempts=3, window_s=600))) as client:
        for number in range(3):
            problem(client.post("/login", json={"name": f"guess-{number}", "password": "x"}), 401)
        answer = client.post("/login", json={"name": "guess-4", "password": "x"})
        problem(answer, 429)
        assert 0 < int(answer.headers["retry-after"]) <= 601


def test_the_login_window_slides() -> None:
    throttle = LoginThrottle(attempts=2, window_s=60)
    throttle.check("a", 0)
    throttle.check("a", 30)
    with pytest.raises(ProblemError):
        throttle.check("a", 59)
    throttle.check("b", 59)
    throttle.check("a", 61)
    with pytest.raises(ProblemError):
        throttle.check("a", 62)


@given(value=st.floats(-1e4, 1e4), hours=st.floats(-48, 48))
def test_a_command_passes_only_within_the_range_of_its_point_and_time(value: float, hours: float) -> None:
    site = microgrid()
    point = next(p for p in site.points() if (p.asset_id, p.quantity) == ("ess-1", "active_power_setpoint_kw"))
    until = NOW + timedelta(hours=hours)
    body = Command(
        asset_id="ess-1", quantity="active_power_setpoint_kw", value=value, reason="trial", valid_until=until
    )
    fits = point.minimum <= value <= point.maximum and NOW < until <= NOW + timedelta(hours=24)
    if fits:
        check_command(site, body, NOW)
    else:
        with pytest.raises(ProblemError):
            check_command(site, body, NOW)


@given(
    start=st.none() | st.datetimes(timezones=st.just(UTC)),
    end=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_a_period_is_in_order_or_refused(start: datetime | None, end: datetime | None) -> None:
    try:
        first, last = period(start, end, now=NOW)
    except ProblemError:
        return
    assert first < last
    assert last - first <= timedelta(days=1100)
