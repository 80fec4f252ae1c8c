"""OCPP 1.6J with charge points that are odd, slow, broken or hostile: what is right counts, the rest harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from control_loop.alarms import is_own
from control_loop.field_reader import FieldReader
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.ocpp16 import LIMIT, POWER, OcppDriver
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_post import Post
from control_loop.protocols.ocpp_reading import readable
from flexergy_pipelines.grid import SystemClock
from tests.control_loop.odd_charge_point import BOOT, OddChargePoint, central, dialled, limits_kw, until

START = {"connectorId": 1, "idTag": "TAG-1", "meterStart": 1000, "timestamp": "2026-03-10T12:00:00Z"}
STOP = {"meterStop": 8000, "timestamp": "2026-03-10T13:00:00Z", "transactionId": 1}


def with_one(check: Callable[[OcppDriver, OddChargePoint], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with central(Post("cp-1", 11.0)) as driver, dialled(driver, "cp-1") as odd:
            await check(driver, odd)

    asyncio.run(body())


@pytest.mark.requirement("com.01.2")
def test_frames_that_are_no_messages_leave_the_connection_as_it_is() -> None:
    frames: list[str | bytes] = [
        b"\xff\xfe\x00binary", b'[2,"b","Heartbeat",{}]', "no json", "", "17", "null", "{}", "[]", "[2]", '[2,"1"]',
        '[2,[],"Heartbeat",{}]', '[2,"1",[],{}]', '[2,"1","Heartbeat",[]]', '[2,"1","Heartbeat",null]',
        '[2,"1","Nonsense",{}]', '[2,"1","GetLog",{}]', '[3,[],{}]', '[3,"1"]', '[4,"1"]', "[9,1,2,3]",
        "[" * 100_000, '[2,"1","StatusNotification",{"connectorId":1e999,"status":NaN}]',
        '[2,"1","MeterValues",{"connectorId":5000000,"meterValue":[{"timestamp":"x","sampledValue":[{"value":"1"}]}]}]',
    ]  # fmt: skip

    async def check(driver: OcppDriver, odd: OddChargePoint) -> None:
        for frame in frames:
            await odd.link.send(frame)
        for number in range(2000):  # answers that nobody asked for
            await odd.link.send(json.dumps([3, f"u{number}", {"status": "Accepted"}]))
        await odd.measures("4200")
        assert (await driver.read())["ev-1", POWER] == 4.2
        await driver.write("ev-1", LIMIT, 8.0)
        assert limits_kw([odd]) == [8.0]
        assert driver.health.reconnects == 1
        assert max(driver.posts["cp-1"].powers_kw) <= 99

    with_one(check)


@pytest.mark.requirement("com.01.2")
def test_what_is_not_quite_by_the_schema_still_counts() -> None:
    async def check(driver: OcppDriver, odd: OddChargePoint) -> None:
        post = driver.posts["cp-1"]
        long = BOOT | {"chargePointSerialNumber": "S" * 60, "color": "red", "imsi": None}
        assert (await odd.says("BootNotification", long))["status"] == "Accepted"
        assert post.identity["charge_point_serial_number"] == "S" * 25
        assert "transactionId" in await odd.says("StartTransaction", START | {"meterStart": 1000.4})
        samples = [
            {"value": "1", "measurand": "Vendor.Thing"},
            {"value": "9", "measurand": "Current.Import", "unit": "Ampere"},
            {"value": 6900, "measurand": "Power.Active.Import", "unit": "W", "context": "Vendor", "phase": None},
        ]
        entry = {"timestamp": datetime.now(UTC).isoformat(), "sampledValue": samples}
        assert await odd.says("MeterValues", {"connectorId": 1, "meterValue": [entry]}) == {}
        assert (await driver.read())["ev-1", POWER] == 6.9
        assert await odd.says("StopTransaction", STOP | {"reason": "Coffee", "transactionData": [entry]}) == {}
        (ended,) = driver.journal.transactions()
        assert (ended.energy_kwh, ended.reason) == (7.0, "Other")

    with_one(check)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["connectorId", "meterValue", "sampledValue", "value", "reason", "errorCode"]), inner
    ),
), st.sampled_from(["MeterValues", "StatusNotification", "StopTransaction", "Nonsense"]))  # fmt: skip
def test_reading_never_fails_and_keeps_what_was_right(payload: Any, action: str) -> None:
    readable(action, payload)
    right = {"connectorId": 1, "meterValue": [{"timestamp": "t", "sampledValue": [{"value": "1.5", "unit": "W"}]}]}
    assert readable("MeterValues", right) == right


@pytest.mark.requirement("com.01.2")
def test_the_newest_connection_of_a_charge_point_counts() -> None:
    async def check(driver: OcppDriver, odd: OddChargePoint) -> None:
        async with dialled(driver, "cp-1", boots=False) as again:
            async with asyncio.timeout(30):
                await odd.link.wait_closed()
            await again.measures("3000")
            assert (await driver.read())["ev-1", POWER] == 3.0
            await driver.write("ev-1", LIMIT, 6.0)
            assert limits_kw([again]) == [6.0]

    with_one(check)


@pytest.mark.requirement("com.01.2", "energy.13.3")
@pytest.mark.parametrize(("purpose", "unit", "limit"), [
    ("ChargePointMaxProfile", "W", 6900.0), ("ChargePointMaxProfile", "A", 10.0),
    ("TxDefaultProfile", "W", 6900.0), ("TxDefaultProfile", "A", 10.0),
])  # fmt: skip
def test_a_charge_point_is_limited_by_the_profiles_it_knows(purpose: str, unit: str, limit: float) -> None:
    def answers(action: str, payload: dict[str, Any]) -> dict[str, Any]:
        if action == "GetCompositeSchedule":
            if payload["chargingRateUnit"] != unit:
                return {"status": "Rejected"}
            periods = [{"startPeriod": 0, "limit": limit}]
            schedule = {"chargingRateUnit": unit, "chargingSchedulePeriod": periods}
            return {"status": "Accepted", "connectorId": 0, "chargingSchedule": schedule}
        profile = payload["csChargingProfiles"]
        known = profile["chargingProfilePurpose"] == purpose and profile["chargingSchedule"]["chargingRateUnit"] == unit
        return {"status": "Accepted" if known else "Rejected"}

    async def check(driver: OcppDriver, odd: OddChargePoint) -> None:
        odd.answer = answers
        await driver.write("ev-1", LIMIT, 6.9)
        profile = odd.asked[-1][1]["csChargingProfiles"]
        assert profile["chargingProfilePurpose"] == purpose
        (period,) = profile["chargingSchedule"]["chargingSchedulePeriod"]
        assert period["limit"] == limit
        assert await driver.composite_schedule("cp-1", 600) == [(0, 6.9)]
        tried = len(odd.asked)
        await driver.write("ev-1", LIMIT, 4.6)  # what it knows is asked for first from now on
        assert len(odd.asked) == tried + 1

    with_one(check)


@pytest.mark.requirement("energy.13.3")
def test_who_does_not_obey_is_set_aside_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_loop.protocols.ocpp_limits.PATIENCE_S", 0.5)

    async def check() -> None:
        posts = [Post(name, 11.0, retry=Backoff(600.0, 600.0)) for name in ("cp-1", "cp-2", "cp-3")]
        async with (
            central(*posts) as driver,
            dialled(driver, "cp-1") as good,
            dialled(driver, "cp-2") as deaf,
            dialled(driver, "cp-3") as proud,
        ):
            for odd, power_w in ((good, 5000), (deaf, 4000), (proud, 3000)):
                await odd.says("StartTransaction", START | {"timestamp": datetime.now(UTC).isoformat()})
                await odd.measures(str(power_w))
            deaf.answer = lambda *_: None
            proud.answer = lambda *_: {"status": "Rejected"}
            with pytest.raises(DriverError, match=r"cp-2 did not answer yet; cp-3 refused a limit of 6 kW"):
                await driver.write("ev-1", LIMIT, 18.0)
            assert limits_kw([good]) == [6.0]
            asked = len(proud.asked)
            with pytest.raises(DriverError, match="cp-2 did not answer yet"):
                await driver.write("ev-1", LIMIT, 15.0)
            assert limits_kw([good]) == [8.0]  # 15 kW less the 4 and 3 kW that two take whatever they are told
            assert len([action for action, _ in deaf.asked if action == "SetChargingProfile"]) == 1
            assert len(proud.asked) == asked  # not asked each time

    asyncio.run(check())


@pytest.mark.requirement("energy.13.3")
def test_a_part_rises_only_after_another_one_has_fallen() -> None:
    order: list[tuple[str, float]] = []

    def noting(name: str, odd: OddChargePoint) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
        def answer(*_: Any) -> dict[str, Any]:
            order.append((name, limits_kw([odd])[0]))
            return {"status": "Accepted"}

        return answer

    async def check() -> None:
        async with (
            central(Post("cp-1", 22.0), Post("cp-2", 22.0)) as driver,
            dialled(driver, "cp-1") as first,
            dialled(driver, "cp-2") as second,
        ):
            first.answer, second.answer = noting("cp-1", first), noting("cp-2", second)
            await driver.write("ev-1", LIMIT, 22.0)
            await first.says("StartTransaction", START)
            await until(lambda: order[-1:] == [("cp-1", 22.0)])
            order.clear()
            await second.says("StartTransaction", START)
            await until(lambda: len(order) == 2)
            assert order == [("cp-1", 11.0), ("cp-2", 11.0)]

    asyncio.run(check())


@pytest.mark.requirement("infra.01.2")
def test_a_stranger_is_kept_as_it_can_be_shown_and_stored() -> None:
    async def check() -> None:
        async with central(Post("cp-1", 11.0)) as driver:
            for name in ("", "%00", "n" * 49):
                with pytest.raises(InvalidStatus, match="404"):
                    async with dialled(driver, name):
                        pass
            async with dialled(driver, "new%201/?token=7", boots=False) as odd:
                says = BOOT | {"chargePointVendor": "A\x00\ud800\u202e", "firmwareVersion": "9" * 500}
                assert (await odd.says("BootNotification", says))["status"] == "Rejected"
            told = driver.strangers["new 1"]
            assert told == {"charge_point_vendor": "A???", "charge_point_model": "Odd 1", "firmware_version": "9" * 50}

    asyncio.run(check())


def test_nothing_is_asked_before_a_charge_point_has_spoken() -> None:
    async def check() -> None:
        async with central(Post("cp-1", 11.0), Post("cp-2", 11.0)) as driver, dialled(driver, "cp-2"):
            await driver.write("ev-1", LIMIT, 8.0)
            async with dialled(driver, "cp-1", boots=False) as odd:
                await driver.write("ev-1", LIMIT, 7.0)
                assert odd.asked == []
                assert (await odd.says("BootNotification", BOOT))["status"] == "Accepted"
                await until(lambda: driver.posts["cp-1"].limit_kw is not None)

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_an_answer_that_nobody_can_read_is_an_error_in_words() -> None:
    async def check(driver: OcppDriver, odd: OddChargePoint) -> None:
        odd.answer = lambda *_: {"status": "Perhaps"}
        with pytest.raises(DriverError, match="cp-1 answers wrongly"):
            await driver.obey('charge_point/cp-1/unlock/["1"]')
        with pytest.raises(DriverError, match="refused a limit"):
            await driver.write("ev-1", LIMIT, 5.0)

    with_one(check)


@pytest.mark.requirement("com.01.2", "com.01.3")
def test_transactions_belong_to_their_charge_point_and_end_once(tmp_path: Path) -> None:
    async def check() -> None:
        posts = [Post("cp-1", 11.0), Post("cp-2", 11.0)]
        journal = Journal(tmp_path / "j.sqlite")
        async with (
            central(*posts, journal=journal) as driver,
            dialled(driver, "cp-1") as one,
            dialled(driver, "cp-2") as two,
        ):
            began = START | {"timestamp": "1970-01-01T00:00:07Z"}  # a clock that was never set
            number = (await one.says("StartTransaction", began))["transactionId"]
            assert await two.says("StopTransaction", STOP | {"transactionId": number}) == {}
            await two.measures("1000", transactionId=number)
            assert posts[1].transactions == {}
            assert posts[0].transactions == {1: number}
            over = {"transactionId": number, "meterStop": 500, "timestamp": "soon"}
            assert await one.says("StopTransaction", STOP | over) == {}
            await one.measures("2000", transactionId=number)  # told late
            assert posts[0].transactions == {}
            assert await one.says("StopTransaction", STOP | {"transactionId": 10**30, "meterStop": 10**30}) == {}
            (ended,) = driver.journal.untold(10)
            assert ended.energy_kwh is None  # the meter fell: nobody knows
            age = datetime.now(UTC) - datetime.fromisoformat(ended.started)
            assert abs(age.total_seconds()) < 60
            driver.journal.told([number])
            assert driver.journal.untold(10) == []

    asyncio.run(check())


def test_transactions_of_an_older_release_are_kept_and_told(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "j.sqlite")) as old, old:
        old.execute(
            "CREATE TABLE charging (id INTEGER PRIMARY KEY AUTOINCREMENT, charge_point TEXT NOT NULL, "
            "connector INTEGER NOT NULL, id_tag TEXT NOT NULL, started TEXT NOT NULL, meter_start_wh INTEGER NOT NULL, "
            "stopped TEXT, meter_stop_wh INTEGER, reason TEXT, "
            "UNIQUE (charge_point, connector, id_tag, started, meter_start_wh))"
        )
        old.execute(
            "INSERT INTO charging VALUES (7, 'cp-1', 1, 'T', '2026-03-10T12:00:00Z', 0, '2026-03-10T13:00:00Z', 5000, "
            "NULL)"
        )
    for untold in (1, 0):
        with contextlib.closing(Journal(tmp_path / "j.sqlite")) as journal:
            assert [t.transaction_id for t in journal.transactions()] == [7]
            assert [t.energy_kwh for t in journal.untold(10)] == [5.0] * untold
            journal.told([7])
            assert journal.start("cp-1", 1, "T", "2026-03-10T12:00:00Z", 0) == 7


@pytest.mark.requirement("com.01.3")
def test_a_loop_that_starts_anew_knows_who_charges(tmp_path: Path) -> None:
    async def check() -> None:
        journal = tmp_path / "j.sqlite"
        now = {"timestamp": datetime.now(UTC).isoformat()}
        async with central(Post("cp-1", 11.0), journal=Journal(journal)) as driver, dialled(driver, "cp-1") as odd:
            number = (await odd.says("StartTransaction", START | now))["transactionId"]
            await odd.says("StartTransaction", START | {"connectorId": 2})  # long ago, and never ended
        async with central(Post("cp-1", 11.0), journal=Journal(journal)) as driver:
            assert driver.posts["cp-1"].transactions == {1: number}
            async with dialled(driver, "cp-1", boots=False) as odd:
                free = {"connectorId": 1, "status": "Available", "errorCode": "NoError"}
                await odd.says("StatusNotification", free)
                assert driver.posts["cp-1"].transactions == {}

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_what_is_wrong_with_a_charge_point_is_an_alarm_until_it_is_mended() -> None:
    async def check(driver: OcppDriver, odd: OddChargePoint) -> None:
        reader = FieldReader(SystemClock(), 5.0)
        reader.serve([driver])
        broken = {"connectorId": 1, "status": "Faulted", "errorCode": "GroundFailure", "info": "RCD 6 mA"}
        await odd.says("StatusNotification", broken)
        await odd.says("StatusNotification", {"connectorId": 0, "status": "Available", "errorCode": "Odd"})
        ((key, alarm),) = reader.fault_alarms().items()
        assert key == ("device_fault", "ev-1")
        assert is_own(key[0])
        assert alarm.message == "ev-1: cp-1: OtherError; connector 1: GroundFailure, RCD 6 mA"
        for connector in (0, 1):
            free = {"connectorId": connector, "status": "Available", "errorCode": "NoError"}
            await odd.says("StatusNotification", free)
        assert reader.fault_alarms() == {}

    with_one(check)
