"""A charge point that says whatever a test wants, frame by frame, and answers the central system as the test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from control_loop.protocols.base import DriverError
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_post import Post

BOOT = {"chargePointVendor": "Acme", "chargePointModel": "Odd 1"}
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def central(*posts: Post, journal: Journal | None = None) -> AsyncIterator[OcppDriver]:
    """The loop's central system on a free port."""
    driver = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=posts, journal=journal or Journal())
    with pytest.raises(DriverError, match=f"none of {len(posts)} charge points"):
        await driver.read()
    try:
        yield driver
    finally:
        await driver.close()


class OddChargePoint:
    """One connection.

    Attributes
    ----------
    asked : list
        What the central system asked: action and payload.
    answer : callable
        Gives the answer to a question; None leaves it without one.
    """

    def __init__(self, link: ClientConnection) -> None:
        self.link = link
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, list[Any]] = {}
        self.answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda *_: {"status": "Accepted"}
        self._number = 0

    async def listen(self) -> None:
        """Answer questions, and keep the answers, until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            async for raw in self.link:
                message = json.loads(raw)
                if message[0] != 2:
                    self.answers[str(message[1])] = message
                    continue
                self.asked.append((message[2], message[3]))
                reply = self.answer(message[2], message[3])
                if reply is not None:
                    await self.link.send(json.dumps([3, message[1], reply]))

    async def says(self, action: str, payload: Any) -> Any:
        """Say something, and wait for the central system's answer: its payload, or the whole CALLERROR."""
        self._number += 1
        number = f"n{self._number}"
        await self.link.send(json.dumps([2, number, action, payload]))
        await until(lambda: number in self.answers)
        answer = self.answers[number]
        return answer[2] if answer[0] == 3 else answer

    async def measures(self, power_w: Any, **more: Any) -> Any:
        """Tell the power of connector 1 now."""
        sample = {"value": power_w, "measurand": "Power.Active.Import", "unit": "W"}
        entry = {"timestamp": datetime.now(UTC).isoformat(), "sampledValue": [sample]}
        return await self.says("MeterValues", {"connectorId": 1, "meterValue": [entry]} | more)


@contextlib.asynccontextmanager
async def dialled(driver: OcppDriver, name: str, *, boots: bool = True) -> AsyncIterator[OddChargePoint]:
    """A charge point that has dialled, and introduced itself."""
    url = f"ws://127.0.0.1:{driver.port}/ocpp/{name}"
    async with connect(url, subprotocols=[Subprotocol("ocpp1.6")]) as link:
        odd = OddChargePoint(link)
        listening = asyncio.create_task(odd.listen())
        try:
            if boots:
                assert (await odd.says("BootNotification", BOOT))["status"] == "Accepted"
            yield odd
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def limits_kw(odds: Sequence[OddChargePoint]) -> list[float]:
    """The last limit that each was told in W [kW]."""
    told = [[p["csChargingProfiles"] for action, p in odd.asked if action == "SetChargingProfile"] for odd in odds]
    return [profiles[-1]["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"] / 1000.0 for profiles in told]
