"""What charge points tell of their power: in total, by phase, as currents, and of several connectors."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_loop.cycle import ControlCycle
from control_loop.protocols.base import DriverError
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_meter import told_power_kw
from control_loop.protocols.ocpp_post import Post
from flexergy_pipelines.grid import SystemClock
from tests.control_loop.harness import MODEL
from tests.control_loop.test_ocpp import POWER, dialled


def sampled(measurand: str, value: str, phase: str | None = None, **more: str) -> dict[str, str]:
    return {"measurand": measurand, "value": value} | ({} if phase is None else {"phase": phase}) | more


POWERS = "Power.Active.Import"


@pytest.mark.requirement("com.01.2")
@pytest.mark.parametrize(
    ("samples", "kw"),
    [
        ([sampled(POWERS, "7200", unit="W"), sampled(POWERS, "2400", "L1")], 7.2),
        ([sampled(POWERS, "7.2", unit="kW")], 7.2),
        ([sampled(POWERS, "2400", "L1-N"), sampled(POWERS, "2300", "L2-N"), sampled(POWERS, "2200", "L3")], 6.9),
        ([sampled("Current.Import", "10", "L1"), sampled("Current.Import", "8", "L2")], 4.14),
        ([sampled("Current.Import", "10", "L1"), sampled("Voltage", "220", "L1-N")], 2.2),
        ([sampled("Current.Import", "10"), sampled("Voltage", "231")], 6.93),
        ([sampled("Current.Import", "10", "L1"), sampled("Current.Import", "1", "N")], 2.3),
        ([sampled(POWERS, "9000", location="EV"), sampled(POWERS, "8000", location="Outlet")], 8.0),
        ([sampled("Current.Offered", "16"), {"value": "1200"}], None),
        ([], None),
    ],
)
def test_power_is_known_however_a_charge_point_tells_it(samples: list[dict[str, str]], kw: float | None) -> None:
    assert told_power_kw(samples) == (None if kw is None else pytest.approx(kw))


def test_who_tells_his_energy_only_is_known_by_its_mean_power() -> None:
    async def check() -> None:
        driver = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=[Post("cp-1", 22.0)], journal=Journal())
        with pytest.raises(DriverError, match="none of 1"):
            await driver.read()
        link = await dialled(f"ws://127.0.0.1:{driver.port}/ocpp/cp-1")
        now = datetime.now(UTC)

        async def told(before_s: float, *samples: dict[str, str]) -> float | None:
            stamp = (now - timedelta(seconds=before_s)).isoformat()
            values = {"connectorId": 1, "meterValue": [{"timestamp": stamp, "sampledValue": list(samples)}]}
            await link.send(json.dumps([2, "1", "MeterValues", values]))
            assert json.loads(await link.recv())[0] == 3
            return (await driver.read())["ev-1", POWER]

        try:
            await told(14.0, {"value": "1000"})
            assert await told(4.0, {"value": "1020"}) == pytest.approx(7.2)  # 20 Wh in 10 s
            assert await told(3.0, {"value": "1030"}) == pytest.approx(7.2)  # too near to say anything
            assert await told(-4.0, {"value": "1.030", "unit": "kWh"}) == pytest.approx(4.5)  # 10 Wh in 8 s
            assert await told(0.0, {"value": "1050"}, sampled(POWERS, "5000")) == 5.0
            assert await told(-4.9, {"value": "9000"}) == 5.0  # who tells his power is not judged by his energy
        finally:
            await link.close()
            await driver.close()

    asyncio.run(check())


def test_two_connectors_count_together_and_one_that_ended_no_more() -> None:
    async def check() -> None:
        driver = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=[Post("cp-1", 44.0)], journal=Journal())
        with pytest.raises(DriverError, match="none of 1"):
            await driver.read()
        link = await dialled(f"ws://127.0.0.1:{driver.port}/ocpp/cp-1")

        async def call(action: str, **payload: object) -> dict[str, Any]:
            await link.send(json.dumps([2, action, action, payload]))
            while (answer := json.loads(await link.recv()))[0] == 2:
                continue
            assert answer[0] == 3, answer
            return answer[2]

        def now() -> str:
            return datetime.now(UTC).isoformat()

        async def meters(connector: int, *samples: dict[str, str]) -> float | None:
            values = [{"timestamp": now(), "sampledValue": list(samples)}]
            await call("MeterValues", connectorId=connector, meterValue=values)
            return (await driver.read())["ev-1", POWER]

        try:
            numbers = [
                (await call("StartTransaction", connectorId=n, idTag="A", meterStart=0, timestamp=now()))[
                    "transactionId"
                ]
                for n in (1, 2)
            ]
            assert await meters(1, sampled(POWERS, "11000")) == 11.0
            assert await meters(2, sampled(POWERS, "2000", "L1"), sampled(POWERS, "2500", "L2")) == 15.5
            assert await meters(2, sampled(POWERS, "NaN")) is None
            assert await meters(2, sampled(POWERS, "4000")) == 15.0
            await call("StopTransaction", transactionId=numbers[0], meterStop=10, timestamp=now())
            assert (await driver.read())["ev-1", POWER] == 4.0
            assert await meters(0, sampled(POWERS, "4.4", unit="kW")) == 4.4  # the charge point as a whole
            await call("SecurityEventNotification", type="InvalidTLSVersion", timestamp=now())
            await call("StopTransaction", transactionId=numbers[1], meterStop=10, timestamp=now())
            assert (await driver.read())["ev-1", POWER] == 0.0
        finally:
            await link.close()
            await driver.close()

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_a_charge_point_whose_clock_is_off_is_an_alarm_until_it_is_set() -> None:
    async def check() -> None:
        posts = [Post("cp-1", 22.0), Post("cp-2", 22.0)]
        driver = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=posts, journal=Journal())
        cycle = ControlCycle(MODEL, [driver], SystemClock())
        await cycle.run_once(datetime.now(UTC))
        links = [await dialled(f"ws://127.0.0.1:{driver.port}/ocpp/{post.name}") for post in posts]

        async def told(number: int, ahead_s: float) -> str | None:
            stamp = (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()
            values = {"connectorId": 1, "meterValue": [{"timestamp": stamp, "sampledValue": [sampled(POWERS, "7000")]}]}
            await links[number].send(json.dumps([2, "1", "MeterValues", values]))
            while (said := json.loads(await links[number].recv()))[0] == 2:  # the loop's limit
                await links[number].send(json.dumps([3, said[1], {"status": "Accepted"}]))
            report = await cycle.run_once(datetime.now(UTC))
            alarm = report.alarms.get(("device_clock_off", "ev-1"))
            return None if alarm is None else alarm.message

        try:
            assert await told(0, 0.0) is None
            assert "ev-1 cp-1: its clock is 3600 s ahead" in (await told(0, 3600.0) or "")
            both = await told(1, 7200.0) or ""
            assert "ev-1 cp-2: its clock is 7200 s ahead" in both
            assert "1 more" in both
            assert "cp-1" in (await told(1, 0.0) or "")
            assert await told(0, 0.0) is None
        finally:
            for link in links:
                await link.close()
            await cycle.close()

    asyncio.run(check())
