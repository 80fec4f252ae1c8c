"""What charge points tell of their power: in total, by phase, as currents, and of several connectors."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from control_loop.protocols.base import DriverError
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_meter import told_power_kw
from control_loop.protocols.ocpp_session import Post
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
