"""OCPP 1.6J: the loop's central system and the simulator's charge points on the wire, and how a limit is shared."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocpp.v16.enums import MessageTrigger, Reason
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from control_loop.protocols.base import DriverError
from control_loop.protocols.charger_orders import ChargerOrder
from control_loop.protocols.ocpp16 import LIMIT, POWER, SILENT_S, OcppDriver
from control_loop.protocols.ocpp_access import ChargingAccess
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_post import OBEYS_AFTER_S, Post
from control_loop.sharing import Claim, share_limit
from flexergy_pipelines.grid.certificates import create_authority, issue
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.tls import client_context, server_context
from flexergy_pipelines.store.charging_access import IdTag, key_hash
from plant_simulator.faults import FaultRequest
from plant_simulator.fronts import OcppFront
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run

claims = st.lists(
    st.builds(
        Claim,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        most_kw=st.floats(1.0, 50.0),
        least_kw=st.sampled_from([0.0, 1.4, 4.2]),
        priority=st.integers(1, 9),
        soc=st.none() | st.floats(0, 1),
    ),
    unique_by=lambda claim: claim.name,
    max_size=8,
)


@pytest.mark.requirement("energy.13.3")
@given(st.floats(-10, 400), claims)
def test_parts_never_exceed_the_limit_and_are_of_use(limit: float, some: list[Claim]) -> None:
    parts = share_limit(limit, some)
    assert sum(parts.values()) <= max(0.0, limit) + 1e-6
    for claim in some:
        part = parts[claim.name]
        assert part <= claim.most_kw + 1e-9
        assert part == 0 or part >= min(claim.least_kw, claim.most_kw) - 1e-9
    if sum(claim.most_kw for claim in some) <= limit:
        assert all(parts[claim.name] == pytest.approx(claim.most_kw) for claim in some)


@pytest.mark.requirement("energy.13.2", "energy.13.4")
def test_priority_first_then_the_emptier_car_and_equals_equally() -> None:
    def claim(name: str, priority: int, soc: float | None = None) -> Claim:
        return Claim(name, 11.0, 4.2, priority, soc)

    assert share_limit(15.2, [claim("late", 5), claim("first", 1)]) == pytest.approx({"late": 4.2, "first": 11.0})
    assert share_limit(8.0, [claim("late", 5), claim("first", 1)]) == pytest.approx({"late": 0.0, "first": 8.0})
    assert share_limit(5.0, [claim("full", 5, 0.9), claim("empty", 5, 0.1)]) == pytest.approx(
        {"full": 0.0, "empty": 5.0}
    )
    assert share_limit(16.0, [claim("a", 5), claim("b", 5)]) == pytest.approx({"a": 8.0, "b": 8.0})


@dataclasses.dataclass
class Bench:
    """The sample microgrid's charge points and the loop's central system."""

    plant: Plant
    front: OcppFront
    driver: OcppDriver

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(40):
            while not condition():
                await asyncio.sleep(0.01)

    @property
    def busy(self) -> list[Post]:
        return [post for post in self.driver.posts.values() if post.transactions and post.session is not None]

    def power(self, name: str) -> float:
        return next(charger.point.power_kw for charger in self.front.chargers if charger.point.point_id == name)


@contextlib.asynccontextmanager
async def bench(journal: Path | None = None) -> AsyncIterator[Bench]:
    plant, clock = make_plant()
    device = next(d for d in plant.site.devices() if d.id == "ev-1")
    names = [point.point_id for point in plant.charging["ev-1"].points]
    posts = [Post(name, 50.0 if name == "cp-06" else 11.0) for name in names]
    driver = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=posts, journal=Journal(journal), clock=clock)
    with pytest.raises(DriverError, match=r"ev-1: none of 6 charge points is connected"):
        await driver.read()
    connection = device.connection.model_copy(update={"protocol": "ocpp16", "port": driver.port})
    front = OcppFront(dataclasses.replace(device, connection=connection), plant, 1)

    async def live() -> None:
        while True:
            run(plant, clock, 1)
            await front.refresh()
            await asyncio.sleep(0.01)

    await front.start("127.0.0.1")
    living = asyncio.create_task(live())
    try:
        yield Bench(plant, front, driver)
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await front.stop()
        await driver.close()


def with_bench(check: Callable[[Bench], Coroutine[Any, Any, None]], journal: Path | None = None) -> None:
    async def body() -> None:
        async with bench(journal) as it:
            await check(it)

    asyncio.run(body())


@pytest.mark.requirement("com.01.2")
def test_cars_charge_are_metered_and_keep_the_limit_together(tmp_path: Path) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: len(it.busy) >= 2 and all(post.power_kw for post in it.busy))
        values = await it.driver.read()
        assert values["ev-1", POWER] == pytest.approx(sum(post.power_kw or 0.0 for post in it.driver.posts.values()))
        assert (values["ev-1", POWER] or 0.0) > 4.0
        assert any(post.soc is not None for post in it.busy)
        await it.driver.write("ev-1", LIMIT, 9.0)
        await it.until(lambda: sum(it.power(name) for name in it.driver.posts) <= 9.0 + 0.1)
        assert (await it.driver.read())["ev-1", LIMIT] == 9.0
        assert sum(post.limit_kw or 0.0 for post in it.driver.posts.values()) <= 9.0 + 1e-6
        await it.driver.write("ev-1", LIMIT, 100.0)
        await it.until(lambda: sum(it.power(name) for name in it.driver.posts) > 10.0)
        begun = it.driver.journal.transactions()
        assert {t.charge_point for t in begun} >= {post.name for post in it.busy}
        assert all(t.id_tag.startswith("TAG-") for t in begun)
        post = it.busy[0]
        assert await it.driver.remote_stop(post.name, next(iter(post.transactions.values())))
        await it.until(lambda: not post.transactions)
        ended = next(t for t in it.driver.journal.transactions() if t.charge_point == post.name and t.stopped)
        assert ended.reason == "Remote"
        assert (ended.energy_kwh or 0.0) >= 0.0

    with_bench(check, tmp_path / "charging.sqlite")


def test_an_unchanged_limit_is_not_sent_again() -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: all(post.session for post in it.driver.posts.values()))
        await it.driver.write("ev-1", LIMIT, 60.0)
        sent = it.driver.health.requests
        await it.driver.write("ev-1", LIMIT, 60.0)
        assert it.driver.health.requests == sent
        with pytest.raises(DriverError, match="cannot be commanded"):
            await it.driver.write("ev-1", POWER, 1.0)
        with pytest.raises(DriverError, match="cp-99 is not connected"):
            await it.driver.remote_start("cp-99", "TAG-1")

    with_bench(check)


async def dialled(url: str, **options: Any) -> ClientConnection:
    return await connect(url, subprotocols=[Subprotocol("ocpp1.6")], **options)


@pytest.mark.requirement("infra.01.2")
def test_a_stranger_may_introduce_itself_and_no_more() -> None:
    async def check(it: Bench) -> None:
        connection = await dialled(f"ws://127.0.0.1:{it.driver.port}/ocpp/stranger")
        boot = {"chargePointVendor": "Acme", "chargePointModel": "Fast 9", "chargePointSerialNumber": "77"}
        await connection.send(json.dumps([2, "1", "BootNotification", boot]))
        answer = json.loads(await connection.recv())
        assert (answer[0], answer[2]["status"]) == (3, "Rejected")
        await connection.send(json.dumps([2, "2", "Authorize", {"idTag": "TAG"}]))
        assert json.loads(await connection.recv())[0] == 4
        await connection.close()
        assert it.driver.strangers["stranger"]["charge_point_model"] == "Fast 9"
        assert "stranger" not in it.driver.posts

    with_bench(check)


@pytest.mark.requirement("com.01.2")
def test_a_charge_point_is_configured_updated_and_diagnosed() -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: all(post.session and post.identity for post in it.driver.posts.values()))
        name, post = next(iter(it.driver.posts.items()))
        assert post.identity["charge_point_vendor"] == "Flexergy"
        assert (await it.driver.configuration(name, ["NumberOfConnectors"])) == {"NumberOfConnectors": "1"}
        assert await it.driver.configure(name, "MeterValueSampleInterval", "5") == "Accepted"
        assert (await it.driver.configuration(name))["MeterValueSampleInterval"] == "5"
        assert await it.driver.get_diagnostics(name, "ftp://logs") == f"{name}-diagnostics.txt"
        await it.driver.update_firmware(name, "https://firmware", datetime(2026, 6, 3, tzinfo=UTC))
        await it.until(lambda: (post.firmware, post.diagnostics) == ("Installed", "Uploaded"))
        await it.driver.write("ev-1", LIMIT, 30.0)
        limits = {name: post.limit_kw for name, post in it.driver.posts.items()}
        ((start, limit_kw),) = await it.driver.composite_schedule(name, 600)
        assert (start, limit_kw) == (0, pytest.approx(limits[name], abs=0.01))
        assert await it.driver.clear_profiles(name)
        assert (await it.driver.composite_schedule(name, 600))[0][1] == pytest.approx(post.max_kw, rel=0.5)
        assert await it.driver.trigger(name, MessageTrigger.heartbeat)
        assert await it.driver.reset(name)

    with_bench(check)


MESSAGES = (
    "MeterValues", "StatusNotification", "Heartbeat", "BootNotification", "FirmwareStatusNotification",
    "DiagnosticsStatusNotification", "LogStatusNotification",
)  # fmt: skip


@pytest.mark.requirement("com.01.2", "asset.03.1")
def test_lists_reservations_logs_and_messages_are_ordered_of_a_charge_point() -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.busy)
        post = it.busy[0]
        (number,) = post.transactions.values()
        it.driver.access.tags = {"TAG-1": IdTag("TAG-1", None, "accepted", datetime(2099, 1, 1, tzinfo=UTC))}

        async def says(action: str, *arguments: str) -> str:
            return await it.driver.obey(ChargerOrder(post.name, action, arguments).quantity)

        async def refused(action: str, *arguments: str) -> str:
            with pytest.raises((DriverError, ValueError)) as caught:
                await says(action, *arguments)
            return str(caught.value)

        for message in MESSAGES:
            assert await says("trigger", message, "1") == f"{post.name} sends {message}"
        assert "does not send SignChargePointCertificate" in await refused("trigger", "SignChargePointCertificate")
        assert "does not send MeterValues" in await refused("trigger", "MeterValues", "7")
        assert await says("configuration", "numberofconnectors") == "numberofconnectors=1"
        assert "has no list" in await says("local-list")
        assert await says("local-list", "send") == f"{post.name} keeps a list of 1 tags"
        assert "list 1" in await says("local-list", "show")
        assert await says("cache") == f"{post.name} has forgotten the tags it knew"
        assert "UnknownVendorId" in await refused("data", "acme", "hello", "{}")
        assert f"uploads {post.name}-security.log to https://l" in await says("log", "security", "https://l")
        assert "is not kept for TAG-9 (Occupied)" in await refused("reserve", "TAG-9", "30")
        assert "limit nan: must be a number of 0..10000 kW" in await refused("start", "TAG-1", "1", "nan")
        assert "minutes -1" in await refused("reserve", "TAG-9", "-1")
        it.driver.access.tags = {}
        assert await says("stop", str(number)) == f"{post.name} stops transaction {number}"
        await it.until(lambda: post.statuses.get(1) == "Available")
        kept = await says("reserve", "TAG-9", "30")
        await it.until(lambda: post.statuses[1] == "Reserved")
        assert "taken back" in await says("cancel", kept.rpartition(" ")[2])
        assert "has no reservation" in await refused("cancel", kept.rpartition(" ")[2])

    with_bench(check)


def basic(user: str, key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def test_keys_and_certificates_let_in_the_charge_point_they_belong_to(tmp_path: Path) -> None:
    create_authority(tmp_path)
    issue(tmp_path, "central", common_name="central", hosts=["127.0.0.1"])
    issue(tmp_path, "cp-1", common_name="cp-1")
    central = TlsFiles(ca="ca.pem", certificate="central.pem", key="central.key")
    own = TlsFiles(ca="ca.pem", certificate="cp-1.pem", key="cp-1.key")

    async def check() -> None:
        access = ChargingAccess(needs_key=True, needs_certificate=True)
        access.keys = {"cp-1": key_hash("ab" * 20), "cp-2": key_hash("cd" * 20)}
        driver = OcppDriver(
            "ev-1", "ev-1", host="127.0.0.1", port=0, posts=[Post("cp-1", 11.0), Post("cp-2", 11.0)], journal=Journal(),
            access=access, tls=lambda: server_context(central, tmp_path, ask_client=True),
        )  # fmt: skip
        with pytest.raises(DriverError, match="none of 2 charge points"):
            await driver.read()
        url = f"wss://127.0.0.1:{driver.port}/ocpp"
        own_context = client_context(own, tmp_path)
        try:
            for name, headers, status in (
                ("cp-1", basic("cp-1", "cd" * 20), 401),
                ("cp-1", basic("cp-2", "ab" * 20), 401),
                ("cp-1", {}, 401),
                ("cp-2", basic("cp-2", "cd" * 20), 403),
            ):
                with pytest.raises(InvalidStatus, match=str(status)):
                    await dialled(f"{url}/{name}", ssl=own_context, additional_headers=headers)
            bare = client_context(TlsFiles(ca="ca.pem"), tmp_path)
            with pytest.raises((OSError, ConnectionClosed, InvalidHandshake)):
                await dialled(f"{url}/cp-1", ssl=bare, additional_headers=basic("cp-1", "ab" * 20))
            good = await dialled(f"{url}/cp-1", ssl=own_context, additional_headers=basic("cp-1", "ab" * 20))
            assert driver.posts["cp-1"].session is not None
            await good.close()
        finally:
            await driver.close()

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_simulated_charge_points_log_in_with_key_and_certificate(tmp_path: Path) -> None:
    create_authority(tmp_path)
    issue(tmp_path, "central", common_name="central", hosts=["127.0.0.1"])
    plant, _ = make_plant()
    device = next(d for d in plant.site.devices() if d.id == "ev-1")
    names = [point.point_id for point in plant.charging["ev-1"].points]
    for name in names[:2]:
        issue(tmp_path, name, common_name=name)
        (tmp_path / f"{name}.authorization").write_text(f"{name}-key\n")
    files = TlsFiles(ca="ca.pem", certificate="central.pem", key="central.key", require_client_certificate=True)

    async def check() -> None:
        access = ChargingAccess(needs_key=True, needs_certificate=True)
        access.keys = {names[0]: key_hash(f"{names[0]}-key"), names[1]: key_hash("another")}
        driver = OcppDriver(
            "ev-1", "ev-1", host="127.0.0.1", port=0, posts=[Post(name, 11.0) for name in names], journal=Journal(),
            access=access, tls=lambda: server_context(files, tmp_path, ask_client=True),
        )  # fmt: skip
        with pytest.raises(DriverError, match="none of 6"):
            await driver.read()
        told = {"protocol": "ocpp16", "port": driver.port, "tls": files, "basic_auth": True}
        dialling = dataclasses.replace(device, connection=device.connection.model_copy(update=told))
        front = OcppFront(dialling, plant, 1, tmp_path)
        await front.start("127.0.0.1")
        try:
            async with asyncio.timeout(30):
                while not driver.posts[names[0]].identity:
                    await asyncio.sleep(0.02)
            assert [post.name for post in driver.posts.values() if post.session] == names[:1]
        finally:
            await front.stop()
            await driver.close()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("tag", "verdict"), [("good", "Accepted"), ("BAD", "Blocked"), ("old", "Expired"), ("other", "Invalid")]
)
def test_a_tag_counts_as_the_store_says(tag: str, verdict: str) -> None:
    access = ChargingAccess()
    assert access.verdict(tag) == "Accepted"
    past = datetime(2020, 1, 1, tzinfo=UTC)
    tags = [IdTag("GOOD", None, "accepted", None), IdTag("BAD", None, "blocked", None)]
    access.tags = {t.id_tag: t for t in [*tags, IdTag("OLD", None, "accepted", past)]}
    assert access.verdict(tag) == verdict
    assert access.verdict(" ") == "Invalid"


@pytest.mark.requirement("com.01.2", "com.01.3")
def test_what_charge_points_did_alone_is_told_once_they_are_back(tmp_path: Path) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: len(it.busy) >= 2)
        it.plant.faults.set(FaultRequest(target="microgrid/ev-1", kind="down"))
        await it.until(lambda: not any(post.session for post in it.driver.posts.values()))
        known = len(it.driver.journal.transactions())
        alone = [charger for charger in it.front.chargers if charger.running is not None]
        ended = {charger.identity: charger.meter_wh() for charger in alone}
        for charger in alone:
            charger.stop_transaction(Reason.local)
            charger.point.send_away()
        it.plant.faults.clear()
        await it.until(lambda: all(not charger.outbox for charger in it.front.chargers) and all(
            any(t.charge_point == name and t.stopped for t in it.driver.journal.transactions()) for name in ended
        ))  # fmt: skip
        told = it.driver.journal.transactions()
        assert len(told) >= known
        assert len({(t.charge_point, t.started) for t in told}) == len(told)
        for name, meter_wh in ended.items():
            first = next(t for t in told if t.charge_point == name and t.stopped)
            assert (first.energy_kwh or 0.0) <= meter_wh / 1000.0 + 1e-6

    with_bench(check, tmp_path / "charging.sqlite")


def test_a_charge_point_that_takes_more_than_it_confirmed_is_told_again(tmp_path: Path) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: sum(post.power_kw or 0.0 for post in it.busy) > 15.0)
        it.plant.faults.set(FaultRequest(target="microgrid/ev-1", kind="ack_without_effect"))
        await it.driver.write("ev-1", LIMIT, 9.0)
        await it.until(lambda: sum(post.limit_kw or 0.0 for post in it.busy) <= 9.0)
        it.plant.faults.clear()
        await it.driver.write("ev-1", LIMIT, 9.0)  # nothing has changed, and nobody is told anew
        assert sum(it.power(post.name) for post in it.busy) > 9.0
        for post in it.busy:
            post.confirmed_s -= OBEYS_AFTER_S
        await it.driver.write("ev-1", LIMIT, 9.0)
        await it.until(lambda: sum(it.power(post.name) for post in it.busy) <= 9.0)

    with_bench(check, tmp_path / "charging.sqlite")


def test_a_charge_point_that_hangs_while_it_stays_connected_is_told(tmp_path: Path) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.busy)
        assert it.driver.device_faults() == {}
        (name, post) = next((name, post) for name, post in it.driver.posts.items() if post.session)
        assert post.session is not None
        post.session.heard_s -= SILENT_S + 1.0
        it.plant.faults.set(FaultRequest(target="microgrid/ev-1", kind="silent"))
        assert it.driver.device_faults()[name] == "is connected and has said nothing for 3 min"
        it.plant.faults.clear()
        await it.until(lambda: it.driver.device_faults() == {})

    with_bench(check, tmp_path / "charging.sqlite")


def test_a_transaction_that_is_told_twice_is_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    first = journal.start("cp-01", 1, "TAG-1", "2026-03-10T12:00:00Z", 1000)
    assert journal.start("cp-01", 1, "TAG-1", "2026-03-10T12:00:00Z", 1000) == first
    journal.stop("cp-01", first, "2026-03-10T13:00:00Z", 8000, reason="Local")
    journal.stop("cp-01", first, "2026-03-10T14:00:00Z", 9000, reason="Local")
    journal.close()
    again = Journal(tmp_path / "j.sqlite")
    (transaction,) = again.transactions()
    assert (transaction.energy_kwh, transaction.stopped) == (7.0, "2026-03-10T13:00:00Z")
    assert again.start("cp-01", 1, "TAG-1", "2026-03-10T15:00:00Z", 8000) > first
    again.close()


@pytest.mark.requirement("com.01.2")
def test_meter_values_of_the_past_are_not_the_present_power() -> None:
    async def check() -> None:
        driver = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=[Post("cp-1", 11.0)], journal=Journal())
        with pytest.raises(DriverError, match="none of 1"):
            await driver.read()
        link = await dialled(f"ws://127.0.0.1:{driver.port}/ocpp/cp-1")

        async def told(power_w: str, age_s: float) -> float | None:
            stamp = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
            sample = {"value": power_w, "measurand": "Power.Active.Import", "unit": "W"}
            values = {"connectorId": 1, "meterValue": [{"timestamp": stamp, "sampledValue": [sample]}]}
            await link.send(json.dumps([2, f"{age_s}", "MeterValues", values]))
            assert json.loads(await link.recv())[0] == 3
            return (await driver.read())["ev-1", POWER]

        try:
            assert await told("11000", 600.0) is None  # kept back while it was away: nothing is known of now
            assert await told("9000", 300.0) is None
            assert await told("7000", 1.0) == 7.0
            assert await told("11000", 60.0) == 7.0
        finally:
            await link.close()
            await driver.close()

    asyncio.run(check())
